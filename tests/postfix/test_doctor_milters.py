"""``dkimpipe check --postfix``: milters that sign as well, by name, port and socket."""

from __future__ import annotations

from pathlib import Path

import pytest
from diagnosis import GOOD, MAIN, MASTER, PICKUP, PORT_25, check, edit, write

from dkimpipe.admin.findings import NOTE, Finding
from dkimpipe.admin.postfix import milters
from dkimpipe.admin.postfix.filter_service import SIGN, VERIFY
from dkimpipe.admin.postfix.milter_programs import Files
from dkimpipe.admin.postfix.postconf import Postconf

WHY = "may sign as well; remove the domain there, or let it verify only"
_SIGNS = "may sign as well, and filters spam"
# Values of smtpd_milters, and those of them that sign. No conf file names them.
BY_NAME_OR_PORT = {
    "the port of OpenDKIM": ("inet:localhost:8891", ["inet:localhost:8891"]),
    "the port alone": ("inet:8891", ["inet:8891"]),
    "the port of many a how-to": ("inet:localhost:12301", ["inet:localhost:12301"]),
    "another such port": ("inet:127.0.0.1:12345", ["inet:127.0.0.1:12345"]),
    "an IPv6 address": ("inet:[::1]:8891", ["inet:[::1]:8891"]),
    "a socket in the queue directory": ("unix:opendkim/opendkim.sock", ["unix:opendkim/opendkim.sock"]),
    "the same, chrooted": ("unix:/opendkim/opendkim.sock", ["unix:/opendkim/opendkim.sock"]),
    "spelled local": ("local:opendkim/opendkim.sock", ["local:opendkim/opendkim.sock"]),
    "in braces, with options": (
        "{ inet:localhost:12301, timeout=10s, default_action=accept }",
        ["{ inet:localhost:12301, timeout=10s, default_action=accept }"],
    ),
    "dkimpy-milter": (
        "unix:/run/dkimpy-milter/dkimpy-milter.sock",
        ["unix:/run/dkimpy-milter/dkimpy-milter.sock"],
    ),
    "rspamd": ("inet:localhost:11332", ["inet:localhost:11332"]),
    "rspamd, by socket": ("unix:/run/rspamd/milter.sock", ["unix:/run/rspamd/milter.sock"]),
    "among others, with spaces": (
        "unix:/spamass/spamass.sock, inet:localhost:12301",
        ["inet:localhost:12301"],
    ),
    "two, after one another": (
        "inet:localhost:11332 inet:localhost:8891",
        ["inet:localhost:11332", "inet:localhost:8891"],
    ),
    "by macros": ("$scanners $signers", ["inet:localhost:8891"]),
    "ClamAV": ("unix:/run/clamav/clamav-milter.ctl", []),
    "SpamAssassin": ("unix:/spamass/spamass.sock", []),
    "milter-greylist, in braces": ("{ unix:/milter-greylist/milter-greylist.sock, timeout=3s }", []),
    "a port that begins like another": ("inet:localhost:88911", []),
    "none": ("", []),
}
# A conf file, its text, an address in smtpd_milters, and whether it signs.
BY_CONF = {
    "OpenDKIM, by host": ("etc/opendkim.conf", "Socket inet:9001@localhost", "inet:127.0.0.1:9001", True),
    "OpenDKIM, on all hosts": ("etc/opendkim.conf", "Socket inet:9001", "inet:localhost:9001", True),
    "OpenDKIM, another port": (
        "etc/opendkim.conf",
        "Socket inet:9001@localhost",
        "inet:127.0.0.1:9002",
        False,
    ),
    "OpenDKIM, another host": (
        "etc/opendkim.conf",
        "Socket inet:9001@192.0.2.1",
        "inet:127.0.0.1:9001",
        False,
    ),
    "OpenDKIM, that other host": (
        "etc/opendkim.conf",
        "Socket inet:9001@192.0.2.1",
        "inet:192.0.2.1:9001",
        True,
    ),
    "OpenDKIM, IPv6": ("etc/opendkim.conf", "Socket inet6:9001@[::1]", "inet:[::1]:9001", True),
    "OpenDKIM, a comment": ("etc/opendkim.conf", "#Socket inet:9001@localhost", "inet:localhost:9001", False),
    "OpenDKIM, in braces": (
        "etc/opendkim.conf",
        "Socket inet:9001@localhost",
        "{inet:localhost:9001,timeout=3s}",
        True,
    ),
    "OpenDKIM, a socket": ("etc/opendkim.conf", "Socket local:/var/run/od/s", "unix:/run/od/s", True),
    "OpenDKIM, in the queue directory": ("etc/opendkim.conf", "Socket local:QUEUE/od/s", "unix:od/s", True),
    "OpenDKIM, chrooted": ("etc/opendkim.conf", "Socket local:QUEUE/od/s", "unix:/od/s", True),
    "OpenDKIM, spelled unix": ("etc/opendkim.conf", "Socket unix:QUEUE/od/s", "local:od/s", True),
    "OpenDKIM, a path alone": ("etc/opendkim.conf", "Socket /run/od/s", "unix:/run/od/s", True),
    "OpenDKIM, another path": ("etc/opendkim.conf", "Socket local:/run/od/s", "unix:/run/od/t", False),
    "OpenDKIM, Debian's defaults": (
        "etc/default/opendkim",
        'SOCKET="inet:9001@localhost"',
        "inet:localhost:9001",
        True,
    ),
    "OpenDKIM, verifies": (
        "etc/opendkim.conf",
        "Mode v\nSocket inet:9001@localhost",
        "inet:localhost:9001",
        False,
    ),
    "OpenDKIM, verifies at its port": (
        "etc/opendkim.conf",
        "Syslog yes\nMode\tv # no",
        "inet:localhost:8891",
        False,
    ),
    "OpenDKIM, signs and verifies": ("etc/opendkim.conf", "# Mode v\nMode sv\n", "inet:localhost:8891", True),
    "OpenDKIM, by default": ("etc/opendkim.conf", "Syslog yes\n", "inet:localhost:8891", True),
    "OpenDKIM, verifies beside rspamd": ("etc/opendkim.conf", "Mode v", "inet:localhost:11332", True),
    "OpenDKIM, in Latin 1": (
        "etc/opendkim.conf",
        "# M\xfcller\nSocket inet:9001",
        "inet:localhost:9001",
        True,
    ),
    "dkimpy-milter": ("dkimpy", "Socket inet:8892@localhost", "inet:localhost:8892", True),
    "rspamd, by host": ("rspamd", 'bind_socket = "localhost:9900";', "inet:127.0.0.1:9900", True),
    "rspamd, on all hosts": ("rspamd", "milter = yes;\nbind_socket = *:9900;", "inet:localhost:9900", True),
    "rspamd, a socket": (
        "rspamd",
        'bind_socket = "/run/r/m.sock mode=0660 owner=_rspamd group=postfix";',
        "unix:/run/r/m.sock",
        True,
    ),
    "rspamd, another": ("rspamd", 'bind_socket = "localhost:9900";', "inet:127.0.0.1:9901", False),
}


def found(directory: Path, files: Files) -> list[Finding]:
    """Return the milters that sign, without the notes of those that may do so."""
    return [each for each in everything(directory, files) if each.level != NOTE]


def everything(directory: Path, files: Files) -> list[Finding]:
    return list(milters.findings(Postconf(directory), SIGN, files))


def none(tmp_path: Path) -> Files:
    """Conf files that do not exist."""
    missing = (tmp_path / "missing",)
    return Files(tmp_path / "root", missing, missing, missing)


@pytest.mark.parametrize("name", BY_NAME_OR_PORT)
@pytest.mark.parametrize("place", ["main.cf", "master.cf"])
def test_a_milter_that_signs_is_known_by_its_name_or_port(
    name: str, place: str, tmp_path: Path, words: dict[str, str]
) -> None:
    value, signing = BY_NAME_OR_PORT[name]
    macros = "scanners = unix:/clamav\nsigners = inet:localhost:8891\n"
    main = f"{MAIN}{macros}" + (f"smtpd_milters = {value}\n" if place == "main.cf" else "")
    directory = write(tmp_path / "postfix", main, MASTER, words)
    if place == "master.cf":
        _add_option(directory, value)
    spam_filters = [each for each in signing if "rspamd" in each or "11332" in each]
    others = [each for each in signing if each not in spam_filters]
    place = "submission/inet/smtpd_milters:"
    expected = [f"{place} {', '.join(others)} {WHY}"] if others else []
    expected += (
        [f"{place} {', '.join(spam_filters)} may sign as well, and filters spam"] if spam_filters else []
    )
    assert [each.what for each in found(directory, none(tmp_path))] == expected


def _add_option(directory: Path, value: str) -> None:
    """Add smtpd_milters to the options of submission."""
    path = directory / "master.cf"
    option = "  -o content_filter=dkimpipe:dummy\n"
    text = path.read_text()
    assert text.count(option) == 1
    path.write_text(text.replace(option, f"{option}  -o {{ smtpd_milters = {value} }}\n"))


@pytest.mark.parametrize("name", BY_CONF)
def test_a_milter_that_signs_is_known_by_the_socket_in_its_conf_file(
    name: str, tmp_path: Path, words: dict[str, str]
) -> None:
    program, text, value, signs = BY_CONF[name]
    directory = write(tmp_path / "postfix", f"{MAIN}smtpd_milters = {value}\n", MASTER, words)
    files = none(tmp_path)
    path = files.root / program
    path.parent.mkdir(parents=True)
    path.write_text(text.replace("QUEUE", Postconf(directory).value("queue_directory")), encoding="latin-1")
    paths = (tmp_path / "missing", path)
    if program == "dkimpy":
        files = files._replace(dkimpy=paths)
    elif program == "rspamd":
        files = files._replace(rspamd=paths)
    assert bool(found(directory, files)) == signs


def test_the_hint_keeps_the_others(directory: Path, tmp_path: Path, words: dict[str, str]) -> None:
    edit(directory, "-P submission/inet/smtpd_milters=unix:/clamav.ctl,inet:localhost:12301", words)
    (finding,) = found(directory, none(tmp_path))
    assert finding.hint == f"postconf -c {directory} -P submission/inet/smtpd_milters=unix:/clamav.ctl"
    edit(directory, "-P submission/inet/smtpd_milters=unix:/clamav.ctl", words)
    assert check(directory) == GOOD


# Values of smtpd_milters of port 25, and whether OpenDMARC gets no results there.
DMARC = {
    "alone": ("inet:localhost:8893", True),
    "by a socket": ("local:opendmarc/opendmarc.sock", True),
    "by a socket in its conf file": ("inet:127.0.0.1:54321", True),
    "before OpenDKIM": ("inet:localhost:8893 inet:localhost:8891", True),
    "after OpenDKIM": ("inet:localhost:8891 inet:localhost:8893", False),
    "after an unknown milter": ("inet:localhost:9 inet:localhost:8893", False),
    "another milter": ("inet:localhost:9", False),
}


@pytest.mark.parametrize("name", DMARC)
def test_before_opendmarc_a_milter_verifies(name: str, tmp_path: Path, words: dict[str, str]) -> None:
    value, is_blind = DMARC[name]
    master = MASTER.replace(PORT_25, f"{PORT_25}  -o {{ smtpd_milters = {value} }}\n")
    directory = write(tmp_path / "postfix", MAIN, master, words)
    files = none(tmp_path)
    (files.root / "etc").mkdir(parents=True)
    (files.root / "etc/opendmarc.conf").write_text("Socket inet:54321@localhost\n")
    what = f"smtp/inet/smtpd_milters: no milter before OpenDMARC ({value.split()[0]}) verifies DKIM"
    assert [each.what for each in found(directory, files)] == ([what] if is_blind else [])


_ON = "enabled = true;\nuse_domain = header;\n"
_RSPAMD = "inet:localhost:11332"
# What override.d/dkim_signing.conf of rspamd has, and the hint of the finding; none if rspamd does not sign.
RSPAMD = {
    "mailcow": ("", "write 'enabled = false;' into ETC/override.d/dkim_signing.conf, and reload rspamd"),
    "docker-mailserver": (
        f"# documentation\n{_ON}",
        "change it to 'enabled = false;' in ETC/override.d/dkim_signing.conf, line 2, and reload rspamd",
    ),
    "a second line": (
        f"{_ON}enabled = false;\n",
        "change it to 'enabled = false;' in ETC/override.d/dkim_signing.conf, line 1, and reload rspamd",
    ),
    "switched off": ("enabled = false;\n", None),
    "a fault": (
        "enabled = false;\n}\n",
        "set 'enabled = false;' in override.d/dkim_signing.conf of rspamd, above other lines with enabled,"
        " and reload it",
    ),
}


def rspamd(tmp_path: Path, text: str) -> Files:
    """Write rspamd's files, as in a container: without those of the package."""
    etc = tmp_path / "rspamd"
    for name in ("local.d", "override.d"):
        (etc / name).mkdir(parents=True)
    (etc / "local.d/dkim_signing.conf").write_text("sign_authenticated = true;\nsign_local = true;\n")
    (etc / "override.d/dkim_signing.conf").write_text(text)
    return none(tmp_path)._replace(rspamd_directories=(tmp_path / "missing", etc))


@pytest.mark.parametrize(("text", "hint"), RSPAMD.values(), ids=RSPAMD)
def test_rspamd_stays_and_stops_signing(
    directory: Path, tmp_path: Path, words: dict[str, str], text: str, hint: str | None
) -> None:
    files = rspamd(tmp_path, text)
    edit(directory, f"-P submission/inet/smtpd_milters={_RSPAMD}", words)
    what = f"submission/inet/smtpd_milters: {_RSPAMD} {_SIGNS}"
    expected = [Finding(what, hint.replace("ETC", f"{tmp_path}/rspamd"), "warning")] if hint else []
    assert found(directory, files) == expected


def test_rspamd_that_no_longer_signs_still_verifies(
    tmp_path: Path, directory: Path, words: dict[str, str]
) -> None:
    edit(directory, f"-P smtp/inet/smtpd_milters={_RSPAMD}", words)
    (finding,) = milters.findings(Postconf(directory), VERIFY, rspamd(tmp_path, "enabled = false;"))
    assert finding.what == f"smtp/inet/smtpd_milters: {_RSPAMD} may verify as well"


def test_opendkim_beside_rspamd_is_taken_out_alone(
    directory: Path, tmp_path: Path, words: dict[str, str]
) -> None:
    edit(directory, f"-P submission/inet/smtpd_milters={_RSPAMD},inet:localhost:8891", words)
    (finding,) = found(directory, rspamd(tmp_path, "enabled = false;"))
    assert finding.hint == f"postconf -c {directory} -P submission/inet/smtpd_milters={_RSPAMD}"


def test_local_mail_keeps_its_spam_filter(tmp_path: Path, words: dict[str, str]) -> None:
    main = f"{MAIN}non_smtpd_milters = {_RSPAMD}, inet:localhost:8891\n"
    master = MASTER.replace(PICKUP, "pickup unix n - y 60 1 pickup -o content_filter=dkimpipe:dummy\n")
    directory = write(tmp_path / "postfix", main, master, words)
    what = "pickup/unix/receive_override_options: {} may sign mail from local programs as well"
    own = f"write 'enabled = false;' into {tmp_path}/rspamd/override.d/dkim_signing.conf, and reload rspamd"
    command = f"postconf -c {directory} -e non_smtpd_milters={_RSPAMD}"
    expected = [
        Finding(what.format("inet:localhost:8891"), command, "warning"),
        Finding(what.format(_RSPAMD), own, "warning"),
    ]
    assert found(directory, rspamd(tmp_path, "")) == expected
    assert found(directory, rspamd(tmp_path / "2", "enabled = false;")) == expected[:1]


def test_a_milter_on_port_25_signs_mail_from_mynetworks_as_well(
    tmp_path: Path, words: dict[str, str]
) -> None:
    access = (
        "  -o { smtpd_client_restrictions = check_client_access"
        " inline:{{127.0.0.1 = FILTER dkimpipe:dummy}} }\n  -o message_size_limit=10223616\n"
    )
    master = MASTER.replace(PORT_25, f"{PORT_25}  -o smtpd_milters=inet:localhost:8891\n{access}")
    directory = write(tmp_path / "postfix", f"{MAIN}mynetworks = 127.0.0.1\n", master, words)
    what = "smtp/inet/smtpd_milters: inet:localhost:8891 may sign mail from mynetworks as well"
    hint = "remove the domain there, or let it verify only"
    assert found(directory, none(tmp_path)) == [Finding(what, hint, "warning")]
