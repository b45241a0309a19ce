"""``dkimpipe import opendkim``: sockets that are set where OpenDKIM is started, by the rules of each"
" system."""

from __future__ import annotations

from pathlib import Path

import pytest

from dkimpipe.admin.opendkim.programs import OPENDKIM
from dkimpipe.admin.opendkim.started import Started

CONF = "/etc/opendkim.conf"
ETC, LIB = "etc/systemd/system/opendkim.service", "lib/systemd/system/opendkim.service"
DEBIAN = "[Service]\nType=forking\nExecStart=/usr/sbin/opendkim\n"
RHEL = (
    "[Service]\nEnvironmentFile=-/etc/sysconfig/opendkim\nExecStart=/usr/sbin/opendkim $OPTIONS\n"
    "ExecReload=/bin/kill -USR1 $MAINPID\n"
)
# Files, and the sockets, each with the file and the line that sets it.
STARTED = {
    "nothing": ({}, []),
    "Debian's script": (
        {"etc/default/opendkim": '# x\nSOCKET="inet:12301@localhost"\n', LIB: DEBIAN},
        [("inet:12301@localhost", "etc/default/opendkim, line 2")],
    ),
    "Debian's default": (
        {"etc/default/opendkim": "RUNDIR=/run/od\n#SOCKET=inet:1\nSOCKET=local:$RUNDIR/opendkim.sock\n"},
        [("local:/run/od/opendkim.sock", "etc/default/opendkim, line 3")],
    ),
    "variables of the script itself": (
        {"etc/default/opendkim": "SOCKET=local:${RUNDIR}/$NAME.sock # here\n"},
        [("local:/run/opendkim/opendkim.sock", "etc/default/opendkim, line 1")],
    ),
    "options of Debian's script": (
        {"etc/default/opendkim": "DAEMON_OPTS='-v -p inet:8892@localhost'\n"},
        [("inet:8892@localhost", "etc/default/opendkim, line 1")],
    ),
    "RHEL": (
        {"etc/sysconfig/opendkim": 'OPTIONS="-x /etc/opendkim.conf -p inet:8892"\n', LIB: RHEL},
        [("inet:8892", "lib/systemd/system/opendkim.service, line 3")],
    ),
    "FreeBSD": (
        {"etc/rc.conf": 'milteropendkim_enable="YES"\nmilteropendkim_socket="inet:8891@127.0.0.1"\n'},
        [("inet:8891@127.0.0.1", "etc/rc.conf, line 2")],
    ),
    "what Debian's generator drops in": (
        {
            LIB: DEBIAN,
            f"{ETC}.d/override.conf": (
                "[Service]\nExecStart=\n"
                "ExecStart=/usr/sbin/opendkim -P /run/opendkim/opendkim.pid -p local:/run/o.sock -v\n"
            ),
        },
        [("local:/run/o.sock", "etc/systemd/system/opendkim.service.d/override.conf, line 3")],
    ),
    "a unit of one's own": (
        {LIB: f"{DEBIAN} -p inet:1\n", ETC: "[Service]\nExecStart=-/usr/sbin/opendkim -f \\\n  -pinet:2\n"},
        [("inet:2", "etc/systemd/system/opendkim.service, line 2")],
    ),
    "the last of what is dropped in": (
        {
            LIB: DEBIAN,
            f"{ETC}.d/b.conf": "[Service]\nExecStart=\nExecStart=/usr/sbin/opendkim -p ${S}\n",
            f"{LIB}.d/a.conf": "[Service]\nExecStart=\nExecStart=/usr/sbin/opendkim -p inet:1\n",
            f"{ETC}.d/c.conf": '[Service]\nEnvironment="S=inet:3@localhost" T=u\n',
        },
        [("inet:3@localhost", "etc/systemd/system/opendkim.service.d/b.conf, line 3")],
    ),
    "the same name in two places": (
        {
            LIB: DEBIAN,
            f"{ETC}.d/a.conf": "[Service]\nExecStart=\nExecStart=/usr/sbin/opendkim -p inet:1\n",
            f"{LIB}.d/a.conf": "[Service]\nExecStart=\nExecStart=/usr/sbin/opendkim -p inet:2\n",
        },
        [("inet:1", "etc/systemd/system/opendkim.service.d/a.conf, line 3")],
    ),
    "a shell": (
        {ETC: '[Service]\nExecStart=/bin/sh -c "exec /usr/sbin/opendkim -f -p inet:9982@127.0.0.1"\n'},
        [("inet:9982@127.0.0.1", "etc/systemd/system/opendkim.service, line 2")],
    ),
    "env": (
        {ETC: "[Service]\nExecStart=/usr/bin/env LANG=C opendkim -p inet:1\n"},
        [("inet:1", "etc/systemd/system/opendkim.service, line 2")],
    ),
    "a name of its own for the process": (
        {ETC: "[Service]\nExecStart=@/usr/sbin/opendkim dkim -p inet:1\n"},
        [("inet:1", "etc/systemd/system/opendkim.service, line 2")],
    ),
    "specifiers": (
        {ETC: "[Service]\nExecStart=/usr/sbin/opendkim -p local:%t/%p/%N.sock%%\n"},
        [("local:/run/opendkim/opendkim.sock%", "etc/systemd/system/opendkim.service, line 2")],
    ),
    "another unit": (
        {LIB: DEBIAN, "etc/systemd/system/mail-dkim.service": f"{DEBIAN.rstrip()} -p inet:9982\n"},
        [("inet:9982", "etc/systemd/system/mail-dkim.service, line 3")],
    ),
    "another unit, by what is dropped in": (
        {
            "lib/systemd/system/dkim.service": "[Service]\nExecStart=/usr/bin/dkim\n",
            "etc/systemd/system/dkim.service.d/a.conf": f"{DEBIAN.rstrip()} -p inet:1\n",
        },
        [("inet:1", "etc/systemd/system/dkim.service.d/a.conf, line 3")],
    ),
    "a template": (
        {
            "etc/systemd/system/opendkim@.service": f"{DEBIAN.rstrip()} -p local:%t/opendkim-%i.sock\n",
            "etc/systemd/system/multi-user.target.wants/opendkim@a.service": "",
            "etc/systemd/system/opendkim@a.service.d/x.conf": "[Service]\nEnvironment=X=y\n",
            "etc/systemd/system/opendkim@b.service.d/x.conf": (
                "[Service]\nExecStart=\nExecStart=/usr/sbin/opendkim -p inet:1\n"
            ),
        },
        [
            ("local:/run/opendkim-a.sock", "etc/systemd/system/opendkim@.service, line 3"),
            ("inet:1", "etc/systemd/system/opendkim@b.service.d/x.conf, line 3"),
        ],
    ),
    "Gentoo": (
        {"etc/conf.d/opendkim": 'OPENDKIM_SOCKET="local:/run/opendkim/x.sock"\n'},
        [("local:/run/opendkim/x.sock", "etc/conf.d/opendkim, line 1")],
    ),
    "Alpine": (
        {"etc/conf.d/opendkim": '# x\ncommand_args="-p inet:1"\n'},
        [("inet:1", "etc/conf.d/opendkim, line 2")],
    ),
    "FreeBSD, in rc.conf.d": (
        {
            "etc/rc.conf": "milteropendkim_socket=inet:1\n",
            "etc/rc.conf.d/milteropendkim": "milteropendkim_socket=inet:2\n",
            "usr/local/etc/rc.conf.d/other": "milteropendkim_socket=inet:3\n",
        },
        [("inet:2", "etc/rc.conf.d/milteropendkim, line 1")],
    ),
    "FreeBSD, profiles": (
        {
            "etc/rc.conf": (
                'milteropendkim_profiles="a b"\nmilteropendkim_a_socket=inet:1\n'
                "milteropendkim_b_socket=inet:2\n"
            )
        },
        [("inet:1", "etc/rc.conf, line 2"), ("inet:2", "etc/rc.conf, line 3")],
    ),
    "a comment": ({ETC: "[Service]\n# ExecStart=x -p inet:1\nExecStart=/usr/sbin/opendkim\n"}, []),
    "options that opendkim refuses": ({ETC: "[Service]\nExecStart=/usr/sbin/opendkim -p\n"}, []),
    "by env(1)": (
        {ETC: "[Service]\nExecStart=/usr/bin/env opendkim -f -p inet:1\n"},
        [("inet:1", f"{ETC}, line 2")],
    ),
    "by a shell": (
        {ETC: "[Service]\nExecStart=/bin/sh -c 'exec /usr/sbin/opendkim -f -p local:%t/o.sock'\n"},
        [("local:/run/o.sock", f"{ETC}, line 2")],
    ),
    "an open quote": ({"etc/default/opendkim": "SOCKET=\"inet:1\nDAEMON_OPTS='-p\n"}, []),
    "a unit and a script": (
        {
            ETC: "[Service]\nExecStart=/usr/sbin/opendkim -p inet:1\n",
            "etc/default/opendkim": "SOCKET=inet:2\nDAEMON_OPTS=-pinet:1\n",
        },
        [
            ("inet:1", "etc/systemd/system/opendkim.service, line 2"),
            ("inet:2", "etc/default/opendkim, line 1"),
        ],
    ),
}


def write(root: Path, files: dict[str, str]) -> None:
    """Write files below a directory."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(("files", "expected"), STARTED.values(), ids=STARTED)
def test_sockets_of_the_command_line(
    tmp_path: Path, files: dict[str, str], expected: list[tuple[str, str]]
) -> None:
    write(tmp_path, files)
    found = Started(OPENDKIM, tmp_path).sockets
    assert [(each.value, str(each.place).replace(f"{tmp_path}/", "")) for each in found] == expected


def test_a_unit_that_is_masked(tmp_path: Path) -> None:
    write(tmp_path, {LIB: f"{DEBIAN.rstrip()} -p inet:1\n"})
    (tmp_path / ETC).parent.mkdir(parents=True)
    (tmp_path / ETC).symlink_to("/dev/null")
    assert [each.value for each in Started(OPENDKIM, tmp_path).sockets] == ["inet:1"]


# A configuration, and whether OpenDKIM of this host has it.
CONFS = {
    CONF: True,
    "/usr/local/etc/mail/opendkim.conf": True,
    "/srv/dkim.conf": True,
    "/srv/copy/opendkim.conf": False,
}


@pytest.mark.parametrize(("conf", "expected"), CONFS.items())
def test_only_the_configuration_of_this_host_has_them(tmp_path: Path, conf: str, expected: bool) -> None:
    write(tmp_path, {ETC: "[Service]\nExecStart=/usr/sbin/opendkim -x /srv/dkim.conf -p inet:1\n"})
    assert (Path(conf) in Started(OPENDKIM, tmp_path).conf_files) == expected
