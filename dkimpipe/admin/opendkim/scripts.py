"""How OpenDKIM and OpenDMARC are started by scripts of init(8), with options in files of variables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dkimpipe.admin.opendkim.commandline import Command, Option, options_alone
from dkimpipe.admin.opendkim.programs import SOCKET, Daemon
from dkimpipe.admin.opendkim.variables import assignments
from dkimpipe.files import Place


class _Script(NamedTuple):
    """The file of variables of a script, as a pattern; NAME is the program.

    ``flags``    the variables that contain options
    ``sockets``  the variables that contain the socket
    ``conf``     the conf file that the script names, with the name of the file in place of ``{}``
    """

    file: str
    flags: Sequence[str]
    sockets: Sequence[str] = ()
    conf: str = ""


_SCRIPTS = (
    _Script("etc/default/NAME", ["DAEMON_OPTS", "OPTIONS"], ["SOCKET"]),
    _Script("etc/sysconfig/NAME", ["DAEMON_OPTS", "OPTIONS"], ["SOCKET"]),
    _Script("etc/conf.d/NAME*", ["command_args"], ["NAME_SOCKET"], "/etc/NAME/{}.conf"),  # Gentoo, and Alpine
    _Script("etc/sv/NAME/conf", ["OPTS"]),  # Void
    _Script("etc/rc.conf.local", ["NAME_flags"]),  # OpenBSD
)
# FreeBSD's script: variables of all these files, for one daemon or for each of several profiles.
_FREEBSD_FILES = (
    *("etc/rc.conf", "etc/rc.conf.local", "etc/rc.conf.d/PREFIX", "etc/rc.conf.d/PREFIX/*"),
    *("usr/local/etc/rc.conf.d/PREFIX", "usr/local/etc/rc.conf.d/PREFIX/*"),
)
_FREEBSD_CONF = "/usr/local/etc/mail/NAME.conf"
_FREEBSD_FLAGS = "flags"


def scripts(daemon: Daemon, root: Path) -> Iterator[Command]:
    """Yield the commands of scripts, one for each file of variables that has options. Raises ConfigError."""
    for script in _SCRIPTS:
        for path in sorted(root.glob(script.file.replace("NAME", daemon.name))):
            if path.is_file():
                options = list(_of_script(daemon, path, script))
                conf = script.conf.replace("NAME", daemon.name).format(path.name)
                if options or conf:
                    yield Command(daemon, options, Place(str(path)), Path(conf) if conf else None)
    yield from _of_freebsd(daemon, root)


def _of_script(daemon: Daemon, path: Path, script: _Script) -> Iterator[Option]:
    flags = [each.replace("NAME", daemon.name) for each in script.flags]
    sockets = [each.replace("NAME", daemon.name.upper()) for each in script.sockets]
    for name, value, place in assignments(daemon, path):
        if name in flags:
            yield from options_alone(daemon, value, place)
        elif name in sockets and value:
            yield Option(SOCKET, value, place)


def _of_freebsd(daemon: Daemon, root: Path) -> Iterator[Command]:
    files = [each.replace("PREFIX", daemon.prefix) for each in _FREEBSD_FILES]
    start = f"{daemon.prefix}_"
    found = {
        name[len(start) :]: (value, place)
        for file in files
        for path in sorted(root.glob(file))
        if path.is_file()
        for name, value, place in assignments(daemon, path)
        if name.startswith(start)
    }
    for profile in found["profiles"][0].split() if "profiles" in found else [""]:
        names = (_FREEBSD_FLAGS, *daemon.freebsd)
        used = {each: found.get(f"{profile}_{each}") or found.get(each) for each in names}
        options = list(_of_profile(daemon, used))
        if options:
            conf = Path(_FREEBSD_CONF.replace("NAME", daemon.name))
            yield Command(daemon, options, options[0].place, conf)


def _of_profile(daemon: Daemon, used: Mapping[str, tuple[str, Place] | None]) -> Iterator[Option]:
    """Yield the options in the variables of a profile: its flags are before the others."""
    flags = used[_FREEBSD_FLAGS]
    if flags:
        yield from options_alone(daemon, *flags)
    for name, option in daemon.freebsd.items():
        value = used[name]
        if value and value[0]:
            yield Option(option, *value)
