"""The commands of hints for values that postconf(1) refuses for a service: those with spaces."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from diagnosis import edit

from dkimpipe.admin.postfix.postconf import Change, Postconf, finding_for, list_command
from dkimpipe.admin.postfix.syntax import split

POLICY = "check_policy_service { inet:127.0.0.1:10099, timeout=2s, default_action=DUNNO }"
VALUES = {
    "plain": ("permit,reject", "permit,reject"),
    "a list": ("check_client_access, cidr:/x, permit", "permit in main.cf"),
    "settings of a policy service": (
        POLICY,
        "check_policy_service,{inet:127.0.0.1:10099,timeout=2s,default_action=DUNNO}",
    ),
    "settings of a milter": ("{unix:/run/a b = c , x=y}", "{unix:/run/a,b=c,x=y}"),
    "a table": ("check_client_access regexp:{{/^a b/ OK}}", "permit in main.cf"),
    "both": (f"{POLICY}, check_client_access regexp:{{{{/^a b/ OK}}}}", "permit in main.cf"),
    "quotes": ("check_client_access regexp:{{/it's \"x/ REJECT no $$5}}", "permit in main.cf"),
}


@pytest.mark.parametrize(("value", "written"), VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("way", ["change", "list", "setting", "finding", "edit"])
def test_a_value_with_spaces_is_set(directory: Path, way: str, value: str, written: str) -> None:
    """The command, run by sh(1): Postfix has the same words, and the other settings of the service."""
    postconf, name = Postconf(directory), "smtpd_end_of_data_restrictions"
    before = {**postconf.overrides["submission/inet"]}
    argument = f"submission/inet/{name}={value}"
    if way == "edit":
        postconf.edit([Change("-P", argument, "")])
    else:
        command = {
            "change": postconf.command(Change("-P", argument, "")),
            "list": list_command(postconf, "submission/inet", name, split(value, ",")),
            "setting": postconf.setting_command({name: value}, "submission/inet"),
            "finding": finding_for(postconf, "-P", argument, "").hint,
        }[way]
        subprocess.run(["sh", "-ec", command], check=True)
    after = Postconf(directory)
    found = after.overrides["submission/inet"].pop(name)
    assert after.overrides["submission/inet"] == before
    if written != "permit in main.cf":
        assert found == written
    else:
        assert found in (value.replace(", ", ","), f"$submission_inet_{name}")
        assert split(after.value(name, "submission/inet"), ",") == split(value.replace("$$", "$"), ",") or (
            "$$" in value
        )


def test_what_main_cf_has_beside_our_table_applies_again(directory: Path, words: dict[str, str]) -> None:
    """A policy service with settings in braces, set after the networks."""
    edit(directory, f"-e 'smtpd_end_of_data_restrictions={POLICY}'", words)
    postconf = Postconf(directory)
    value = ",".join(postconf.words("smtpd_end_of_data_restrictions"))
    found = finding_for(postconf, "-P", f"smtp/inet/smtpd_end_of_data_restrictions={value}", "")
    subprocess.run(["sh", "-ec", found.hint], check=True)
    after = Postconf(directory).words("smtpd_end_of_data_restrictions", "smtp/inet")
    assert after == ["check_policy_service", "{inet:127.0.0.1:10099,timeout=2s,default_action=DUNNO}"]
