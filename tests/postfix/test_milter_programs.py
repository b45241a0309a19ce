"""Which program a milter is, and whether it signs: wherever OpenDKIM and OpenDMARC have their settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from diagnosis import MAIN, MASTER, write

from dkimpipe.admin.postfix import milter_lists, milters
from dkimpipe.admin.postfix.milter_programs import Files, may_sign, program_at
from dkimpipe.admin.postfix.postconf import Postconf

PROGRAMS = {"opendkim": ("OpenDKIM", "-x"), "opendmarc": ("OpenDMARC", "-c")}
UNIT, DROP_IN = "lib/systemd/system/NAME.service", "etc/systemd/system/NAME.service.d/override.conf"
DEBIAN = "[Service]\nType=forking\nExecStart=/usr/sbin/NAME\n"
RESET = "[Service]\nExecStart=\nExecStart="
# Files that set a socket, as packages and administrators write them, and an address in smtpd_milters.
SOCKETS = {
    "its conf file": ({"etc/NAME.conf": "Socket inet:54322@localhost\n"}, "inet:127.0.0.1:54322"),
    "in any case": ({"etc/NAME.conf": "socket\tinet:54322@localhost # x\n"}, "inet:127.0.0.1:54322"),
    "a directory of its own": ({"etc/NAME/NAME.conf": "Socket inet:54322\n"}, "inet:localhost:54322"),
    "/etc/mail": ({"etc/mail/NAME.conf": "Socket inet:54322\n"}, "inet:localhost:54322"),
    "FreeBSD": ({"usr/local/etc/mail/NAME.conf": "Socket inet:54322\n"}, "inet:localhost:54322"),
    "what it includes": (
        {"etc/NAME.conf": "Include /etc/NAME/inc.conf\n", "etc/NAME/inc.conf": "Socket inet:54322\n"},
        "inet:localhost:54322",
    ),
    "above a line with a fault": ({"etc/NAME.conf": "Socket inet:54322\nSyslog\n"}, "inet:localhost:54322"),
    "Debian's script": ({"etc/default/NAME": 'SOCKET="inet:54322@localhost"\n'}, "inet:localhost:54322"),
    "a path in Debian's script": (
        {"etc/default/NAME": "RUNDIR=/run/mail\nSOCKET=local:$RUNDIR/m.sock\n"},
        "unix:/run/mail/m.sock",
    ),
    "RHEL": (
        {
            "etc/sysconfig/NAME": 'OPTIONS="-f -p inet:54322@localhost"\n',
            UNIT: "[Service]\nEnvironmentFile=-/etc/sysconfig/NAME\nExecStart=/usr/sbin/NAME $OPTIONS\n",
        },
        "inet:localhost:54322",
    ),
    "what is dropped in": (
        {
            UNIT: DEBIAN,
            DROP_IN: f"{RESET}/usr/sbin/NAME -p inet:54322@localhost -P /run/NAME/NAME.pid\n",
            "etc/NAME.conf": "Socket local:/run/mail/m.sock\n",
        },
        "inet:127.0.0.1:54322",
    ),
    "its environment": (
        {UNIT: f"{DEBIAN[:-1]} -p $S\n", DROP_IN: "[Service]\nEnvironment=S=inet:54322@localhost\n"},
        "inet:127.0.0.1:54322",
    ),
    "a file of its environment": (
        {
            UNIT: f"{DEBIAN[:-1]} -p ${{S}}\n",
            DROP_IN: "[Service]\nEnvironmentFile=/etc/mail.env\n",
            "etc/mail.env": "S=inet:54322@localhost\n",
        },
        "inet:127.0.0.1:54322",
    ),
    "a shell": (
        {UNIT: "[Service]\nExecStart=/bin/sh -c 'umask 7; exec /usr/sbin/NAME -f -p inet:54322@localhost'\n"},
        "inet:127.0.0.1:54322",
    ),
    "env(1), and a unit of another name": (
        {"etc/systemd/system/dm.service": "[Service]\nExecStart=/usr/bin/env A=b NAME -p local:%t/%p.sock\n"},
        "unix:/run/dm.sock",
    ),
    "Gentoo and Alpine": (
        {"etc/conf.d/NAME": 'command_args="-p inet:54322@localhost"\n'},
        "inet:127.0.0.1:54322",
    ),
    "Void": ({"etc/sv/NAME/conf": "OPTS='-f -p inet:54322@localhost'\n"}, "inet:127.0.0.1:54322"),
    "OpenBSD": ({"etc/rc.conf.local": "NAME_flags='-p inet:54322@localhost'\n"}, "inet:127.0.0.1:54322"),
    "the conf file that the unit names": (
        {
            UNIT: DEBIAN,
            DROP_IN: f"{RESET}/usr/sbin/NAME FLAG /srv/mail.conf\n",
            "srv/mail.conf": "Socket inet:54322@localhost\n",
        },
        "inet:127.0.0.1:54322",
    ),
}
FREEBSD = {
    "opendkim": "milteropendkim_socket=inet:54322@localhost\n",
    "opendmarc": "opendmarc_socketspec=inet:54322@localhost\n",
}


def put(root: Path, files: dict[str, str], name: str) -> None:
    """Write files below a directory: NAME is the program, FLAG that for its conf file."""
    for file, text in files.items():
        path = root / file.replace("NAME", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("NAME", name).replace("FLAG", PROGRAMS[name][1]))


def files_of(tmp_path: Path) -> Files:
    """Files below a directory, and no others."""
    missing = (tmp_path / "missing",)
    return Files(tmp_path / "root", missing, missing, missing)


@pytest.mark.parametrize("where", SOCKETS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_socket_is_found_where_it_is_set(directory: Path, tmp_path: Path, name: str, where: str) -> None:
    put(tmp_path / "root", SOCKETS[where][0], name)
    address = SOCKETS[where][1]
    assert program_at(Postconf(directory), address, files_of(tmp_path)) == PROGRAMS[name][0]
    assert program_at(Postconf(directory), "inet:localhost:54323", files_of(tmp_path)) == ""


@pytest.mark.parametrize("name", FREEBSD)
def test_a_socket_in_rc_conf(directory: Path, tmp_path: Path, name: str) -> None:
    put(tmp_path / "root", {"etc/rc.conf": FREEBSD[name]}, name)
    assert program_at(Postconf(directory), "inet:localhost:54322", files_of(tmp_path)) == PROGRAMS[name][0]


# Addresses that are usually OpenDKIM's, and the program whose conf file has them.
USUALLY_ANOTHER = {"inet:localhost:12345": "inet:12345@localhost", "unix:/run/dkim/s": "local:/run/dkim/s"}


@pytest.mark.parametrize("address", USUALLY_ANOTHER)
def test_a_conf_file_comes_before_a_name_or_port(directory: Path, tmp_path: Path, address: str) -> None:
    put(tmp_path / "root", {"etc/opendmarc.conf": f"Socket {USUALLY_ANOTHER[address]}\n"}, "opendmarc")
    assert program_at(Postconf(directory), address, files_of(tmp_path)) == "OpenDMARC"
    assert not may_sign(Postconf(directory), address, files_of(tmp_path))


INET = "inet:localhost:8891"


@pytest.mark.parametrize("where", SOCKETS)
def test_opendmarc_needs_the_results_of_a_milter_that_is_replaced(
    tmp_path: Path, words: dict[str, str], where: str
) -> None:
    files, address = SOCKETS[where]
    put(tmp_path / "root", files, "opendmarc")
    postconf = Postconf(
        write(tmp_path / "postfix", f"{MAIN}smtpd_milters = {INET} {address}\n", MASTER, words)
    )
    used = milter_lists.uses(postconf, [INET])
    assert milters.dmarc_after(postconf, used, files_of(tmp_path)) == [address]
    put(tmp_path / "root", {"etc/opendkim.conf": "Mode s\n"}, "opendkim")
    assert milters.dmarc_after(postconf, used, files_of(tmp_path)) == []


def test_opendmarc_is_no_candidate_for_another_signer(directory: Path, tmp_path: Path) -> None:
    put(tmp_path / "root", SOCKETS["what is dropped in"][0], "opendmarc")
    assert milters.suspicion(Postconf(directory), "inet:localhost:54322", files_of(tmp_path)) == ""
    assert milters.suspicion(Postconf(directory), "inet:localhost:54323", files_of(tmp_path)) != ""


# Files of OpenDKIM, and whether it signs.
MODES = {
    "the default": ({}, True),
    "without Mode": ({"etc/opendkim.conf": "Syslog yes\n"}, True),
    "it verifies": ({"etc/opendkim.conf": "Mode v\n"}, False),
    "the last line": ({"etc/opendkim.conf": "Mode v\nDomain example.com\nMode sv\n"}, True),
    "the last line, which verifies": ({"etc/opendkim.conf": "Mode sv\nmode  v # only\n"}, False),
    "Include": (
        {"etc/opendkim.conf": "Include /etc/opendkim/i.conf\n", "etc/opendkim/i.conf": "Mode v\n"},
        False,
    ),
    "Include, from the root directory": (
        {"etc/opendkim.conf": "Include etc/opendkim/i.conf\n", "etc/opendkim/i.conf": "Mode v\n"},
        False,
    ),
    "below Include": (
        {"etc/opendkim.conf": "Include /etc/opendkim/i.conf\nMode s\n", "etc/opendkim/i.conf": "Mode v\n"},
        True,
    ),
    "Include, without a file": ({"etc/opendkim.conf": "Mode v\nInclude /etc/none.conf\n"}, False),
    "another file, unused": (
        {"etc/opendkim.conf": "Mode sv\n", "etc/opendkim/opendkim.conf": "Mode v\n"},
        True,
    ),
    "another file, used": ({"etc/opendkim/opendkim.conf": "Mode v\n"}, False),
    "/etc/default is not a conf file": (
        {"etc/opendkim.conf": "Mode s\n", "etc/default/opendkim": "Mode v\n"},
        True,
    ),
    "the file that the unit names": (
        {
            "etc/opendkim.conf": "Mode v\n",
            "srv/mail.conf": "Mode sv\n",
            UNIT: f"{DEBIAN[:-1]} -f -x /srv/mail.conf\n",
        },
        True,
    ),
    "the file that the unit names, which verifies": (
        {
            "etc/opendkim.conf": "Mode sv\n",
            "srv/mail.conf": "Mode v\n",
            DROP_IN: f"{RESET}NAME -x/srv/mail.conf\n",
        },
        False,
    ),
    "the file that the unit names is missing": (
        {"etc/opendkim.conf": "Mode v\n", UNIT: f"{DEBIAN[:-1]} -x /srv/mail.conf\n"},
        True,
    ),
    "a script, which the unit ignores": (
        {
            "etc/opendkim.conf": "Mode sv\n",
            "srv/mail.conf": "Mode v\n",
            "etc/default/opendkim": "DAEMON_OPTS='-x /srv/mail.conf'\n",
            UNIT: DEBIAN,
            "run/systemd/system/x": "",
        },
        True,
    ),
    "a script, where systemd is not running": (
        {
            "etc/opendkim.conf": "Mode sv\n",
            "srv/mail.conf": "Mode v\n",
            "etc/default/opendkim": "DAEMON_OPTS='-x /srv/mail.conf'\n",
            UNIT: DEBIAN,
        },
        False,
    ),
    "a script, without a unit": (
        {
            "etc/opendkim.conf": "Mode sv\n",
            "srv/mail.conf": "Mode v\n",
            "etc/default/opendkim": "DAEMON_OPTS='-x /srv/mail.conf'\n",
        },
        False,
    ),
    "FreeBSD's script": (
        {"srv/mail.conf": "Mode v\n", "etc/rc.conf": 'milteropendkim_cfgfile="/srv/mail.conf"\n'},
        False,
    ),
    "the command line": ({"etc/opendkim.conf": "Mode sv\n", UNIT: f"{DEBIAN[:-1]} -b v\n"}, False),
    "the command line, which signs": ({"etc/opendkim.conf": "Mode v\n", UNIT: f"{DEBIAN[:-1]} -bsv\n"}, True),
}


# The conf file of dkimpy-milter, and whether it signs.
DKIMPY_MODES = {
    "the default": ("Syslog yes\n", True),
    "it verifies": ("Mode v # only\n", False),
    "the last line": ("Mode v\nMode sv\n", True),
    "the last line, which verifies": ("Mode s\n  Mode\tv\n", False),
    "a comment": ("#Mode v\n", True),
    "another name": ("mode v\nModes v\n", True),
}


@pytest.mark.parametrize(("text", "signs"), DKIMPY_MODES.values(), ids=DKIMPY_MODES)
def test_whether_dkimpy_milter_signs(directory: Path, tmp_path: Path, text: str, signs: bool) -> None:
    path = tmp_path / "dkimpy-milter.conf"
    path.write_text(f"{text}Socket inet:8892@localhost\n")
    files = files_of(tmp_path)._replace(dkimpy=(tmp_path / "missing", path))
    assert may_sign(Postconf(directory), "inet:localhost:8892", files) == signs
    assert may_sign(Postconf(directory), "inet:localhost:8892", files, verifies=True)


@pytest.mark.parametrize("name", MODES)
def test_whether_opendkim_signs(directory: Path, tmp_path: Path, name: str) -> None:
    files, signs = MODES[name]
    put(tmp_path / "root", files, "opendkim")
    assert may_sign(Postconf(directory), INET, files_of(tmp_path)) == signs
    assert may_sign(Postconf(directory), INET, files_of(tmp_path), verifies=True)
    assert may_sign(Postconf(directory), "unix:/run/dkimpy-milter/s", files_of(tmp_path))
