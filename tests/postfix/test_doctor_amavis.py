"""``check --postfix``: amavisd, a content filter by SMTP, that signs as well. Perl is the witness."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from diagnosis import AMAVIS, BEHIND, edit

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import amavis
from dkimpipe.admin.postfix.filter_service import SIGN
from dkimpipe.admin.postfix.postconf import Postconf

# As amavisd does when it starts: it keeps the keys if any policy bank has signing on.
_WITNESS = r"""
use vars qw($enable_dkim_signing $enable_dkim_verification $mydomain %policy_bank $sa_spam_subject_tag
    @dkim_signature_options_bysender_maps);
my @keys;
sub dkim_key($$$;@) { push @keys, "$_[0] $_[1]\n" }
for (@ARGV) { defined(do $_) or die "$_: $@" }
print @keys if $enable_dkim_signing or grep { $policy_bank{$_}{enable_dkim_signing} } keys %policy_bank;
"""
ON = "$enable_dkim_signing = 1;\n"
KEY = "dkim_key('example.com', 's1', '/var/db/dkim/example.com.pem');\n"
ONE = [("example.com", "s1")]
# Texts of the files of a configuration, in order, and the keys with which it signs.
CONFIGURATIONS = {
    "as its documentation has it": (
        [
            f"  $enable_dkim_verification = 1;\n  {ON}  {KEY}"
            "  @dkim_signature_options_bysender_maps = (\n"
            "    { '.' => { ttl => 21*24*3600, c => 'relaxed/simple' } } );\n"
        ],
        ONE,
    ),
    "as RHEL has it, without a key": (
        ["$enable_dkim_signing = 1;    # load DKIM signing code, keys defined by dkim_key\n"],
        [],
    ),
    "a key, and signing is off by default": ([KEY], []),
    "turned off": (["$enable_dkim_signing = 0;    # not here\n" + KEY], []),
    "turned off by undef": (["$enable_dkim_signing = undef;\n" + KEY], []),
    "turned off later": ([ON, KEY, "$enable_dkim_signing = 0;\n"], []),
    "turned on later": (["$enable_dkim_signing = 0;\n", ON + KEY], ONE),
    "turned on in a comment": ([f"$enable_dkim_signing = 0;\n# {ON}#{KEY}{KEY}"], []),
    "a key in a comment": ([f"{ON}# {KEY}#{KEY}"], []),
    "a key behind a comment": ([f"{ON}$mydomain = 'example.com'; # {KEY}{KEY}"], ONE),
    "a number sign within a text": ([f"$sa_spam_subject_tag = '#1 ';\n{ON}{KEY}"], ONE),
    "in double quotes": (
        [ON + 'dkim_key("example.com", "s1", "/k.pem"); dkim_key("example.net","n","/n");\n'],
        [*ONE, ("example.net", "n")],
    ),
    "on several lines": ([ON + "dkim_key(\n  'example.com',\n  's1',\n  '/k.pem'\n);\n"], ONE),
    "with spaces, and options of the record": (
        [ON + "dkim_key ( 'example.com' , 's1' , '/k.pem', h=>'sha256', k=>'rsa' );\n"],
        ONE,
    ),
    "without parentheses": ([ON + "dkim_key 'example.com', 's1', '/k.pem';\n"], ONE),
    "in a policy bank": (
        ["$policy_bank{'ORIGINATING'} = {\n  originating => 1,\n  enable_dkim_signing => 1,\n};\n" + KEY],
        ONE,
    ),
    "in a policy bank, but not otherwise": (
        [f"$enable_dkim_signing = 0;\n$policy_bank{{'MYNETS'}} = {{ enable_dkim_signing=>1 }};\n{KEY}"],
        ONE,
    ),
    "off in a policy bank": ([f"$policy_bank{{'X'}} = {{enable_dkim_signing => 0}};\n{KEY}"], []),
    "verification alone": (["$enable_dkim_verification = 1;\n" + KEY], []),
}


def configuration(tmp_path: Path, texts: list[str]) -> list[Path]:
    """Write the files of a configuration; return them in order."""
    directory = tmp_path / "conf.d"
    directory.mkdir()
    paths = [directory / f"{number}-part" for number in range(10, 10 + len(texts))]
    for path, text in zip(paths, texts):
        path.write_text(f"use strict;\n{text}1;  # ensure a defined return\n")
    return paths


def asked(paths: list[Path]) -> list[tuple[str, str]]:
    """Return the keys with which amavisd signs, as Perl reads its configuration."""
    done = subprocess.run(["perl", "-e", _WITNESS, *map(str, paths)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [(domain, selector) for domain, selector in map(str.split, done.stdout.splitlines())]


@pytest.mark.parametrize(("texts", "keys"), CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_a_configuration_is_read_as_perl_reads_it(
    texts: list[str], keys: list[tuple[str, str]], tmp_path: Path
) -> None:
    paths = configuration(tmp_path, texts)
    assert asked(paths) == keys
    assert amavis.signing_keys(amavis.code("\n".join(path.read_text() for path in paths))) == keys


def before(directory: Path) -> str:
    """Let mail from users pass amavisd before it is signed; return that setting."""
    edit(directory, f"{AMAVIS}\n-P submission/inet/content_filter=smtp-amavis:[127.0.0.1]:10024", {})
    options = " ".join(BEHIND.split())
    edit(directory, f"-M '127.0.0.1:10025/inet=127.0.0.1:10025 inet n - n - - smtpd {options}'", {})
    return "submission/inet/content_filter"


def proxied(directory: Path) -> str:
    """Do the same by a proxy filter."""
    before(directory)
    edit(directory, "-P submission/inet/content_filter=", {})
    edit(directory, "-P submission/inet/smtpd_proxy_filter=127.0.0.1:10026", {})
    return "submission/inet/smtpd_proxy_filter"


def after(directory: Path) -> str:
    """Let mail pass amavisd when it comes back; return that setting."""
    edit(directory, f"{AMAVIS}\n-P pickup/unix/content_filter=smtp-amavis:[127.0.0.1]:10026", {})
    return "pickup/unix/content_filter"


def relayed(directory: Path) -> str:
    """Do the same where mail comes back by SMTP."""
    edit(directory, AMAVIS.replace("smtp-amavis", "scan"), {})
    edit(directory, "--login= => --relay=127.0.0.1:10028 --login=", {})
    listen = "127.0.0.1:10028 inet n - n - - smtpd -o content_filter=scan:[127.0.0.1]:10024"
    edit(directory, f"-M '127.0.0.1:10028/inet={listen}'", {})
    return "127.0.0.1:10028/inet/content_filter"


def found(directory: Path, tmp_path: Path) -> list[Finding]:
    missing = str(tmp_path / "missing/amavisd.conf")
    return list(amavis.findings(Postconf(directory), SIGN, (missing, str(tmp_path / "conf.d/*"), missing)))


@pytest.mark.parametrize("route", [before, proxied, after, relayed])
def test_mail_that_both_sign(route: Callable[[Path], str], directory: Path, tmp_path: Path) -> None:
    paths = configuration(tmp_path, [f"{ON}{KEY}dkim_key('example.edu', 'e', '/k.pem');\n"])
    place = route(directory)
    (finding,) = found(directory, tmp_path)
    what = "amavisd signs mail from example.com (s=s1) as well, and rotate replaces no key there"
    assert (finding.level, finding.what) == ("warning", f"{place}: {what}")
    command, restart = finding.hint.split(" && ")
    assert restart == "systemctl restart amavis"
    subprocess.run(["sh", "-c", command], check=True)
    assert found(directory, tmp_path) == []
    assert asked(paths) == []


@pytest.mark.parametrize("name", [name for name, (_, keys) in CONFIGURATIONS.items() if keys])
def test_the_hint_turns_it_off(name: str, directory: Path, tmp_path: Path) -> None:
    paths = configuration(tmp_path, CONFIGURATIONS[name][0])
    before(directory)
    (finding,) = found(directory, tmp_path)
    subprocess.run(["sh", "-c", finding.hint.partition(" && ")[0]], check=True)
    assert asked(paths) == []
    assert found(directory, tmp_path) == []


def test_mail_that_does_not_pass_it(directory: Path, tmp_path: Path) -> None:
    configuration(tmp_path, [f"{ON}{KEY}"])
    edit(directory, f"{AMAVIS}\n-P smtp/inet/content_filter=smtp-amavis:[127.0.0.1]:10024", {})
    assert found(directory, tmp_path) == []


@pytest.mark.parametrize("domain", ["example.edu", "notexample.com", "com"])
def test_mail_from_a_domain_that_it_alone_signs(domain: str, directory: Path, tmp_path: Path) -> None:
    configuration(tmp_path, [ON + KEY.replace("example.com", domain, 1)])
    before(directory)
    assert found(directory, tmp_path) == []


def test_mail_from_a_subdomain(directory: Path, tmp_path: Path) -> None:
    configuration(tmp_path, [ON + KEY.replace("example.com", "Lists.Example.com", 1)])
    before(directory)
    (finding,) = found(directory, tmp_path)
    assert "lists.example.com (s=s1)" in finding.what


def test_a_part_that_amavisd_does_not_read(directory: Path, tmp_path: Path) -> None:
    """run-parts(8) leaves out names with a dot, such as those of backups."""
    (path,) = configuration(tmp_path, [f"{ON}{KEY}"])
    path.rename(path.with_suffix(".dpkg-old"))
    before(directory)
    assert found(directory, tmp_path) == []
