"""``check --postfix``: services that are switched off, and users who may not submit mail."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import settled
from diagnosis import GOOD, MAIN, MASTER, Fault, check, checks_of, damage, error, run, write

from dkimpipe.admin.postfix.postconf import Postconf

DISABLE = "master_service_disable"


def off(services: str, value: str) -> str:
    """What the check prints of services that are switched off."""
    what = f"{DISABLE}: master(8) does not start {services}, and mail to be signed stays in the queue"
    quoted = f"'{DISABLE}={value}'" if set(value) & set(" !") else f"{DISABLE}={value}"
    return error(what, f"postconf -c DIR -e {quoted}")


FAULTS: dict[str, Fault] = {
    "the filter": (f"-e {DISABLE}=dkimpipe/unix", off("dkimpipe/unix", "")),
    "the filter, as before 2.11": (f"-e {DISABLE}=dkimpipe.unix", off("dkimpipe/unix", "")),
    "the filter, and others": (
        f"-e {DISABLE}=lmtp/unix,dkimpipe/unix,maildrop/unix",
        off("dkimpipe/unix", "lmtp/unix, maildrop/unix"),
    ),
    "pickup(8)": (f"-e {DISABLE}=pickup/unix", off("pickup/unix", "")),
    "cleanup(8)": (f"-e {DISABLE}=cleanup/unix", off("cleanup/unix", "")),
    "our copy of cleanup(8)": (f"-e {DISABLE}=dkimpipe-cleanup/unix", off("dkimpipe-cleanup/unix", "")),
    "the transport that sends": (f"-e {DISABLE}=smtp/unix", off("smtp/unix", "")),
    "by a macro": (f"-e 'mine=dkimpipe/unix' '{DISABLE}=$mine'", off("dkimpipe/unix", "")),
    "a type, but for another": (
        f"-e '{DISABLE}=!pickup/unix !cleanup/unix !dkimpipe-cleanup/unix !qmgr/unix !rewrite/unix"
        " !bounce/unix !smtp/unix unix'",
        off(
            "dkimpipe/unix",
            "!dkimpipe/unix, !pickup/unix, !cleanup/unix, !dkimpipe-cleanup/unix, !qmgr/unix, !rewrite/unix,"
            " !bounce/unix, !smtp/unix, unix",
        ),
    ),
}
NO_FAULTS = {
    "a service that is not needed": f"-e {DISABLE}=lmtp/unix",
    "an excluded type": f"-e '{DISABLE}=!unix dkimpipe/unix'",
    "another type": f"-e {DISABLE}=pass,fifo",
    "no pattern that this list supports": f"-e {DISABLE}=dkimpipe",
    "nothing": f"-e {DISABLE}=",
}

test_it_prints_this_and_nothing_else, test_the_commands_fix_it = checks_of(FAULTS)


@pytest.mark.parametrize("name", NO_FAULTS)
def test_nothing_is_found(name: str, directory: Path, words: dict[str, str]) -> None:
    damage(directory, (NO_FAULTS[name], ""), words)
    assert check(directory) == GOOD


def test_the_listener_of_an_instance_without_network_services(tmp_path: Path, words: dict[str, str]) -> None:
    """As ``postmulti -e create`` makes it: the listener would never start."""
    main = f"{MAIN}{DISABLE} = inet\nauthorized_submit_users =\n"
    directory = write(tmp_path / "postfix", main, MASTER, words)
    status, output = run(directory, "postfix", "--apply", "--sign", "local")
    settled(directory / "main.cf")
    (relay,) = [each for each in Postconf(directory).running("smtpd") if each.name.startswith("127.0.0.1:")]
    assert status == 0
    assert f"# master(8) does not start {relay.id}, and mail to be signed stays in the queue\n" in output
    assert Postconf(directory).value(DISABLE) == f"!{relay.id}, inet"
    damage(directory, (f"-e {DISABLE}=inet", ""), words)
    status, output = check(directory)
    assert status == 78
    assert f"hint: postconf -c {directory} -e '{DISABLE}=!{relay.id}, inet'\n" in output
    assert (
        "dkimpipe: warning: authorized_submit_users: the filter's user nobody may not submit mail with"
        " sendmail(1): nobody hears of recipients whose addresses are not valid\n"
        f"hint: postconf -c {directory} -e authorized_submit_users=nobody\n"
    ) in output


def test_nobody_may_submit_mail(directory: Path, words: dict[str, str]) -> None:
    damage(directory, ("-e authorized_submit_users=", ""), words)
    what = "authorized_submit_users: the filter's user nobody may not submit mail with sendmail(1)"
    hint = f"postconf -c {directory} -e authorized_submit_users=nobody"
    assert check(directory) == (78, error(what, hint))
