"""``dkimpipe import opendkim``: which conf file OpenDKIM is started with, and the options beside it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from opendkim import NEEDED, PROGRAM

from dkimpipe.admin.migration.foreign import CHANGED, LOST, SAME, Foreign
from dkimpipe.admin.migration.opendkim import host
from dkimpipe.admin.opendkim.commandline import options
from dkimpipe.admin.opendkim.programs import OPENDKIM
from dkimpipe.admin.opendkim.started import Started
from dkimpipe.files import Place

CONF, OTHER = "etc/opendkim.conf", "etc/mail2/opendkim.conf"
LIB, ETC = "lib/systemd/system/opendkim.service", "etc/systemd/system/opendkim.service"
DROPPED = f"{ETC}.d/override.conf"
WANTS = "etc/systemd/system/multi-user.target.wants"
SECOND, TEMPLATE = "etc/systemd/system/opendkim-2.service", "etc/systemd/system/opendkim@.service"
RHEL = "[Service]\nEnvironmentFile=-/etc/sysconfig/opendkim\nExecStart=/usr/sbin/opendkim $OPTIONS\n"
AFTER = "[Unit]\nAfter=opendkim.service\n[Service]\nExecStart=/usr/sbin/x -x /y\n"
MYKEY = "milteropendkim_key=/k\n"
SIGNS = "Mode s\nDomain example.com\nSelector mail\nKeyFile /k\n"
DEBIAN = {LIB: "[Service]\nExecStart=/usr/sbin/opendkim\n", CONF: "Syslog yes\n"}


def runs(options: str) -> str:
    """Return a unit, or what is dropped in, that starts OpenDKIM with options."""
    return f"[Service]\nExecStart=\nExecStart=/usr/sbin/opendkim {options}\n"


def write(root: Path, files: dict[str, str]) -> None:
    """Write files below a directory; names in directories of systemd that end in .wants are links."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("-> "):
            path.symlink_to(text[3:])
        else:
            path.write_text(text)


# Files, the conf file that is imported, and the options that replace its lines.
STARTED: dict[str, tuple[dict[str, str], str | None, list[str]]] = {
    "nothing is known": ({}, "/etc/opendkim.conf", []),
    "Debian": (DEBIAN, "/etc/opendkim.conf", []),
    "another place": ({"etc/opendkim/opendkim.conf": SIGNS}, "/etc/opendkim/opendkim.conf", []),
    "-x in a drop-in": (
        {**DEBIAN, OTHER: SIGNS, DROPPED: runs("-f -x /etc/mail2/opendkim.conf")},
        "/etc/mail2/opendkim.conf",
        ["Background no"],
    ),
    "the last -x": (
        {**DEBIAN, DROPPED: runs("-x /a -x /b")},
        "/b",
        [],
    ),
    "options that sign": (
        {**DEBIAN, DROPPED: runs("-d example.com -s mail -k /k.pem -b s -p inet:1")},
        "/etc/opendkim.conf",
        ["Domain example.com", "Selector mail", "KeyFile /k.pem", "Mode s"],
    ),
    "options without a conf file": (
        {LIB: runs("-f -l -p inet:1 -d a.example,b.example -k /k -s mail")},
        None,
        ["Background no", "Syslog yes", "Domain a.example,b.example", "KeyFile /k", "Selector mail"],
    ),
    "each option": (
        {
            LIB: runs("-ADrW -c relaxed -L1 -oX-A -P/p -S rsa-sha256 -T3 -uod"),
            CONF: "",
        },
        "/etc/opendkim.conf",
        [
            *("AutoRestart yes", "SubDomains yes", "RequiredHeaders yes", "LogWhy yes"),
            *("Canonicalization relaxed", "Minimum 1", "OmitHeaders X-A", "PidFile /p"),
            *("SignatureAlgorithm rsa-sha256", "DNSTimeout 3", "UserID od"),
        ],
    ),
    "an option twice": (
        {LIB: runs("-s a -s b"), CONF: ""},
        "/etc/opendkim.conf",
        ["Selector b"],
    ),
    "variables of a unit": (
        {
            LIB: RHEL,
            "etc/sysconfig/opendkim": "OPTIONS='-x /etc/mail2/opendkim.conf -b s'\n",
        },
        "/etc/mail2/opendkim.conf",
        ["Mode s"],
    ),
    "a script, where systemd is not running": (
        {**DEBIAN, "etc/default/opendkim": 'DAEMON_OPTS="-d example.com -s m -k /k"\n'},
        "/etc/opendkim.conf",
        ["Domain example.com", "Selector m", "KeyFile /k"],
    ),
    "a script that systemd does not read": (
        {**DEBIAN, "etc/default/opendkim": "DAEMON_OPTS=-sm\n", "run/systemd/system/x": ""},
        "/etc/opendkim.conf",
        [],
    ),
    "a script that only names the socket": (
        {**DEBIAN, "etc/default/opendkim": "SOCKET=inet:1\nDAEMON_OPTS=-l\n"},
        "/etc/opendkim.conf",
        [],
    ),
    "FreeBSD": (
        {
            "usr/local/etc/mail/opendkim.conf": SIGNS,
            "etc/rc.conf": 'milteropendkim_enable="YES"\nmilteropendkim_flags="-b s"\n',
            "etc/rc.conf.d/milteropendkim": "milteropendkim_selector=m\n",
        },
        "/usr/local/etc/mail/opendkim.conf",
        ["Mode s", "Selector m"],
    ),
    "FreeBSD, without its conf file": (
        {"etc/rc.conf": f"{MYKEY}milteropendkim_domain=example.com\nmilteropendkim_alg=rsa-sha1\n"},
        None,
        ["Domain example.com", "KeyFile /k", "SignatureAlgorithm rsa-sha1"],
    ),
    "FreeBSD, another file": (
        {"etc/rc.conf": "milteropendkim_cfgfile=/data/etc/opendkim.conf\n"},
        "/data/etc/opendkim.conf",
        [],
    ),
    "FreeBSD, profiles": (
        {
            "etc/rc.conf": (
                'milteropendkim_profiles="in out"\n'
                "milteropendkim_in_cfgfile=/in\nmilteropendkim_out_cfgfile=/out\n"
            ),
            "in": "Mode v\n",
            "out": SIGNS,
        },
        "/out",
        [],
    ),
    "Gentoo": ({"etc/conf.d/opendkim": "OPENDKIM_SOCKET=inet:1\n", CONF: ""}, "/etc/opendkim.conf", []),
    "Alpine": (
        {"etc/conf.d/opendkim": 'command_args="-b s"\n', "etc/opendkim/opendkim.conf": SIGNS, CONF: ""},
        "/etc/opendkim/opendkim.conf",
        ["Mode s"],
    ),
    "Void": ({"etc/sv/opendkim/conf": 'OPTS="-x /etc/o.conf -b s"\n'}, "/etc/o.conf", ["Mode s"]),
    "OpenBSD": ({"etc/rc.conf.local": "opendkim_flags=-x /etc/o.conf\n"}, "/etc/opendkim.conf", []),
    "OpenBSD, quoted": ({"etc/rc.conf.local": 'opendkim_flags="-x /etc/o.conf"\n'}, "/etc/o.conf", []),
    "another unit": (
        {CONF: "", "etc/systemd/system/dkim.service": runs("-x /etc/mail2/opendkim.conf")},
        "/etc/mail2/opendkim.conf",
        [],
    ),
    "another unit, and one that is masked": (
        {
            **DEBIAN,
            ETC: "-> /dev/null",
            "etc/systemd/system/dkim.service": runs("-x /etc/mail2/opendkim.conf"),
        },
        "/etc/mail2/opendkim.conf",
        [],
    ),
    "another unit, which is enabled": (
        {
            **DEBIAN,
            "etc/systemd/system/mail-dkim.service": runs("-x /etc/mail2/opendkim.conf"),
            f"{WANTS}/mail-dkim.service": "-> ../mail-dkim.service",
        },
        "/etc/mail2/opendkim.conf",
        [],
    ),
    "a template": (
        {
            TEMPLATE: runs("-x /etc/opendkim/%i.conf -b s"),
            f"{WANTS}/opendkim@mail.service": "-> ../opendkim@.service",
        },
        "/etc/opendkim/mail.conf",
        ["Mode s"],
    ),
    "a template that nobody uses": (
        {
            **DEBIAN,
            TEMPLATE: runs("-x /etc/opendkim/%i.conf"),
        },
        "/etc/opendkim.conf",
        [],
    ),
    "the one that signs": (
        {
            **DEBIAN,
            CONF: "Mode v\n",
            "etc/systemd/system/opendkim-out.service": runs("-x /out.conf"),
            "out.conf": SIGNS,
        },
        "/out.conf",
        [],
    ),
    "a unit after it": (
        {
            **DEBIAN,
            "lib/systemd/system/postfix.service": "[Unit]\nAfter=opendkim.service\n"
            + runs("/usr/sbin/x -x /y"),
        },
        "/etc/opendkim.conf",
        [],
    ),
}


@pytest.mark.parametrize(("files", "conf", "expected"), STARTED.values(), ids=STARTED)
def test_the_configuration_that_opendkim_is_started_with(
    tmp_path: Path, files: dict[str, str], conf: str | None, expected: list[str]
) -> None:
    write(tmp_path, files)
    started = Started(OPENDKIM, tmp_path)
    found = started.conf_file
    command = started.command(found)
    settings = command.settings if command else []
    assert (found, [f"{each.name} {each.value}" for each in settings]) == (conf and Path(conf), expected)


# A command, and its arguments; None if it starts no daemon.
COMMANDS = {
    "/usr/sbin/opendkim": [],
    "/usr/sbin/opendkim -f -p inet:1": ["-f", "-p inet:1"],
    "/usr/sbin/opendkim -pinet:1 -bs": ["-p inet:1", "-b s"],
    "/usr/bin/env opendkim -p inet:1": ["-p inet:1"],
    "/usr/bin/env -i A=b opendkim -p inet:1": ["-p inet:1"],
    "LANG=C /usr/sbin/opendkim -f": ["-f"],
    "/usr/bin/nice -n 5 /usr/sbin/opendkim -f": ["-f"],
    '/bin/sh -c "exec /usr/sbin/opendkim -p inet:1"': ["-p inet:1"],
    "/bin/bash -lc 'umask 7; /usr/sbin/opendkim -f -p inet:1 >/dev/null 2>&1'": ["-f", "-p inet:1"],
    "/bin/sh -c 'test -x /usr/sbin/opendkim && exec /usr/sbin/opendkim -f || exit 1'": ["-f"],
    "/usr/bin/env sh -c 'exec opendkim -f'": ["-f"],
    "/bin/sh -c 'exec /usr/sbin/opendkim -p \"inet:1'": None,
    "/bin/sh /usr/local/bin/start-opendkim": None,
    "/usr/sbin/opendkim -n": None,
    "/usr/sbin/opendkim -t msg": None,
    "/usr/sbin/opendkim -V": None,
    "/usr/sbin/opendkim file": None,
    "/usr/sbin/opendkim -p": None,
    "/usr/sbin/opendkim -Z": None,
    "/usr/sbin/opendmarc -p inet:1": None,
    "/usr/bin/pkill opendkim": None,
    "": None,
}


@pytest.mark.parametrize(("command", "expected"), COMMANDS.items())
def test_the_options_in_a_command(command: str, expected: list[str] | None) -> None:
    found = options(OPENDKIM, command, Place("x"))
    assert (None if found is None else [f"{each.name} {each.value}".strip() for each in found]) == expected


# Files, the configuration that is read, and the remarks, each with its place.
REMARKS: dict[str, tuple[dict[str, str], str | None, list[tuple[str, str, str]]]] = {
    "nothing is known": ({}, "/etc/opendkim.conf", []),
    "as usual": (DEBIAN, "/etc/opendkim.conf", []),
    "-x": (
        {**DEBIAN, OTHER: SIGNS, DROPPED: runs("-v -x /etc/mail2/opendkim.conf")},
        "/etc/mail2/opendkim.conf",
        [
            (f"{DROPPED}, line 3", SAME, "-x: OpenDKIM is started with /etc/mail2/opendkim.conf"),
            (f"{DROPPED}, line 3", SAME, "-v: for tests only"),
        ],
    ),
    "a file that it is not started with": (
        {**DEBIAN, OTHER: SIGNS},
        "/etc/mail2/opendkim.conf",
        [
            (
                "/etc/mail2/opendkim.conf",
                CHANGED,
                f"OpenDKIM is started with /etc/opendkim.conf, not with this file: {LIB}, line 2",
            )
        ],
    ),
    "a file that replaced options": (
        {LIB: runs("-d example.com -s m -k /k -l"), OTHER: SIGNS},
        "/etc/mail2/opendkim.conf",
        [
            (
                "/etc/mail2/opendkim.conf",
                CHANGED,
                "OpenDKIM is started with Domain example.com, Selector m, KeyFile /k, not with this file:"
                f" {LIB}, line 3",
            )
        ],
    ),
    "another that signs": (
        {
            **DEBIAN,
            CONF: SIGNS,
            SECOND: runs("-x /2.conf -b s"),
            "2.conf": "",
        },
        "/etc/opendkim.conf",
        [
            (
                f"{SECOND}, line 3",
                LOST,
                "another OpenDKIM is started with /2.conf and Mode s: what that signs is not imported;"
                " import it with --output, and merge the files",
            )
        ],
    ),
    "another that verifies": (
        {
            **DEBIAN,
            CONF: SIGNS,
            SECOND: runs("-b v -p inet:2"),
        },
        "/etc/opendkim.conf",
        [],
    ),
    "the same at another socket": (
        {**DEBIAN, SECOND: runs("-p inet:2 -P /2.pid")},
        "/etc/opendkim.conf",
        [],
    ),
    "a script that nobody runs": (
        {**DEBIAN, "etc/default/opendkim": "DAEMON_OPTS='-s m -l'\n", "run/systemd/system/x": ""},
        "/etc/opendkim.conf",
        [("etc/default/opendkim, line 1", SAME, f"Selector m: not in use: {LIB}, line 2 starts OpenDKIM")],
    ),
    "variables that a unit reads": (
        {
            LIB: RHEL,
            "etc/sysconfig/opendkim": "OPTIONS='-s m'\n",
            CONF: "",
        },
        "/etc/opendkim.conf",
        [],
    ),
}


@pytest.mark.parametrize(("files", "conf", "expected"), REMARKS.values(), ids=REMARKS)
def test_what_is_said_about_it(
    tmp_path: Path, files: dict[str, str], conf: str | None, expected: list[tuple[str, str, str]]
) -> None:
    write(tmp_path, files)
    started, foreign = Started(OPENDKIM, tmp_path), Foreign()
    read = started.configuration(Path(conf) if conf else None, as_far_as_possible=True)
    host.remark(started, read, foreign)
    found = [(str(each.place), each.effect, each.text) for each in foreign.remarks]
    assert [tuple(word.replace(f"{tmp_path}/", "") for word in each) for each in found] == expected


@NEEDED
@pytest.mark.parametrize(("option", "starts"), [("-sx", True), ("-k/k", False)])
def test_opendkim_refuses_a_key_beside_a_key_table(tmp_path: Path, option: str, starts: bool) -> None:
    (tmp_path / "opendkim.conf").write_text("KeyTable csl:a=b\nSigningTable csl:a=b\n")
    done = subprocess.run([PROGRAM, "-n", "-x", "opendkim.conf", option], cwd=tmp_path, capture_output=True)
    assert (done.returncode == 0) == starts
