"""Which program a milter is, and whether it signs.

Programs are recognised by the sockets with which they are started, by those in their conf files, and by the
names and the ports that they usually have.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dkimpipe.admin.opendkim import programs
from dkimpipe.admin.opendkim.conf import Conf as OpenDKIMConf
from dkimpipe.admin.opendkim.programs import Daemon
from dkimpipe.admin.opendkim.started import Started
from dkimpipe.admin.postfix import hosts
from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.admin.postfix.syntax import split
from dkimpipe.admin.rspamd import signing
from dkimpipe.admin.rspamd.conf import Conf
from dkimpipe.errors import ConfigError
from dkimpipe.files import Place

OPENDKIM, OPENDMARC, DKIMPY, RSPAMD = "OpenDKIM", "OpenDMARC", "dkimpy-milter", "rspamd"
_RSPAMD_DIRECTORIES = (Path("/etc/rspamd"), Path("/usr/local/etc/rspamd"))
_RSPAMD_FILES = tuple(
    Path(directory, name)
    for directory in _RSPAMD_DIRECTORIES
    for name in (
        "worker-proxy.inc",
        "local.d/worker-proxy.inc",
        "override.d/worker-proxy.inc",
        "rspamd.conf.local",
    )
)


class Files(NamedTuple):
    """The conf files of programs that sign or need their results; all sockets in them are theirs.

    ``root``                below which the files of OpenDKIM and OpenDMARC are
    ``rspamd_directories``  where rspamd's configuration may be, which says whether it signs
    """

    root: Path = Path("/")
    dkimpy: tuple[Path, ...] = (
        Path("/etc/dkimpy-milter/dkimpy-milter.conf"),
        Path("/usr/local/etc/dkimpy-milter.conf"),
    )
    rspamd: tuple[Path, ...] = _RSPAMD_FILES
    rspamd_directories: tuple[Path, ...] = _RSPAMD_DIRECTORIES


class Mode(NamedTuple):
    """What OpenDKIM or dkimpy-milter does: the value and the name of the setting, and where it is set."""

    value: str
    name: str
    place: Place

    @property
    def signs(self) -> bool:
        """Whether it signs."""
        return "s" in self.value.lower()

    @property
    def verifies(self) -> bool:
        """Whether it verifies."""
        return "v" in self.value.lower()


# By the names and the ports that they usually have.
_NAMES = {
    RSPAMD: re.compile(r"rspamd|:11332\b"),
    OPENDMARC: re.compile(r"opendmarc|:8893\b"),
    DKIMPY: re.compile("dkimpy"),
    OPENDKIM: re.compile(r"dkim|:8891\b|:12301\b|:12345\b"),
}
_SOCKET = re.compile(r"^\s*Socket\s+[\"']?([^\s\"'#]+)", re.MULTILINE)
_MODE = re.compile(r"\s*Mode\s+([^\s#]+)")
_BIND_SOCKET = re.compile(r"^\s*bind_socket\s*=\s*[\"']?([^\s\"';]+)", re.MULTILINE)


def program_at(postconf: Postconf, address: str, files: Files) -> str:
    """Return which of the known programs a milter is; empty if it is none of them."""
    sockets = {
        RSPAMD: _BIND_SOCKET.findall(text_of(files.rspamd)),
        DKIMPY: _SOCKET.findall(text_of(files.dkimpy)),
        OPENDKIM: _sockets(programs.OPENDKIM, files.root),
        OPENDMARC: _sockets(programs.OPENDMARC, files.root),
    }
    ours = _places(postconf, address)
    for name, known in sockets.items():
        if any(not ours.isdisjoint(_places(postconf, each)) for each in known):
            return name
    return next((name for name, pattern in _NAMES.items() if pattern.search(address)), "")


def may_sign(postconf: Postconf, address: str, files: Files, verifies: bool = False) -> bool:
    """Return whether a milter at this address may sign, or if ``verifies`` is set, verify."""
    name = program_at(postconf, address, files)
    if name == RSPAMD:
        return verifies or not rspamd_is_off(files)
    if name not in (OPENDKIM, DKIMPY):
        return False
    mode = mode_of(name, files)
    return verifies or not mode or mode.signs


def mode_of(name: str, files: Files) -> Mode | None:
    """Return the mode that is set for OpenDKIM or dkimpy-milter; None if it signs and verifies by default."""
    return opendkim_mode(files) if name == OPENDKIM else _dkimpy_mode(files)


def opendkim_mode(files: Files) -> Mode | None:
    """Return the mode that is set for OpenDKIM; None if there is none."""
    with contextlib.suppress(ConfigError):
        started = Started(programs.OPENDKIM, files.root)
        conf = started.configuration(started.conf_file, as_far_as_possible=True)
        if setting := conf.get("Mode"):
            return Mode(setting.value, "-b" if setting in conf.options else "Mode", setting.place)
    return None


def _dkimpy_mode(files: Files) -> Mode | None:
    """Return the mode in the conf file of dkimpy-milter: the last line applies, names are exact."""
    found = None
    for path in [each for each in files.dkimpy if each.is_file()][:1]:
        for number, line in enumerate(text_of((path,)).split("\n"), 1):
            if match := _MODE.match(line):
                found = Mode(match[1], "Mode", Place(str(path), number))
    return found


def rspamd_confs(files: Files) -> list[Conf]:
    """Return the configurations of rspamd that can be read."""
    found = []
    for directory in files.rspamd_directories:
        with contextlib.suppress(ConfigError):
            found.append(Conf(directory))
    return found


def rspamd_is_off(files: Files) -> list[Place]:
    """Return where signing is switched off, if no configuration of rspamd has it on."""
    places = [signing.off(each) for each in rspamd_confs(files)]
    return [each for each in places if each] if all(places) else []


def endpoint(milter: str) -> str:
    """Return the address of an item of smtpd_milters, without its options: ``{ inet:host:port, ... }``."""
    if milter.startswith("{"):
        return next(iter(split(milter.strip("{} \t"), ",")), "")
    return milter


def text_of(paths: tuple[Path, ...]) -> str:
    """Return the text of these files that can be read."""
    texts = []
    for path in paths:
        try:
            texts.append(path.read_text(errors="replace"))
        except OSError:
            continue
    return "\n".join(texts)


def _sockets(daemon: Daemon, root: Path) -> Iterator[str]:
    """Yield the sockets of OpenDKIM or OpenDMARC, wherever they are set."""
    with contextlib.suppress(ConfigError):
        started = Started(daemon, root)
        yield from (each.value for each in started.sockets)
        for path in started.conf_files:
            setting = OpenDKIMConf(path, root=root, as_far_as_possible=True).get("Socket")
            if setting:
                yield setting.value


def _places(postconf: Postconf, address: str) -> set[str]:
    """Return what an address may mean, as Postfix, OpenDKIM or rspamd write it: ports, or paths.

    A port of any name or address of this host is the same one. A path may be relative to the queue directory,
    which is also the root of a service that is chrooted.
    """
    kind, _, rest = address.partition(":")
    if kind in ("unix", "local") or address.startswith("/"):
        path = rest if kind in ("unix", "local") else address
        paths = [path, os.path.join(postconf.value("queue_directory"), path.lstrip("/"))]
        return {re.sub(r"^/var/run/", "/run/", os.path.normpath(each)) for each in paths}
    rest = rest if kind in ("inet", "inet6") else address
    if "@" in rest:  # OpenDKIM: port@host
        port, _, host = rest.partition("@")
    else:
        host, _, port = rest.rpartition(":")
    return {f"{meaning}:{port}" for meaning in hosts.meanings(host)}
