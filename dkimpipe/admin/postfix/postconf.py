"""The configuration of one Postfix instance, read and edited with postconf(1), which keeps the rest."""

from __future__ import annotations

import functools
import grp
import os
import pwd
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import remedies, values
from dkimpipe.admin.postfix.service import Service
from dkimpipe.admin.postfix.syntax import parameters, real_table, split
from dkimpipe.distribution import install_command
from dkimpipe.errors import ConfigError

FILE = "file"
FAMILIES = ("ipv4", "ipv6")
_DIRECTORIES = ("/usr/sbin", "/usr/local/sbin")  # of postconf(1), and not in the PATH of each user
_STATIC = re.compile(r"static:([^\s{}]+)")  # it has this value for all keys
_VERSION = "mail_version"
_TABLE_LIMIT = 10  # seconds in which a table has to be opened
_SPACE = re.compile(r"\s")
_ENDPOINT = re.compile(
    r"\{\s*(?:inet|unix|local):[^{}]*\}"
)  # of a policy service or milter, with its settings
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Change(NamedTuple):
    """One edit: ``postconf OPTION ARGUMENT``.

    ``option``  -e sets a parameter in main.cf, -P one of a service in master.cf, -M a service; -X, -PX and
                -MX remove them; FILE writes a file of one line in the same directory
    ``why``     the problem without it
    ``level``   error, or warning if there is no harm yet
    """

    option: str
    argument: str
    why: str
    level: str = "error"

    @property
    def what(self) -> str:
        """The name of the edited setting."""
        return self.argument.partition("=")[0]

    @property
    def place(self) -> str:
        """The service in master.cf that is edited, or otherwise the setting."""
        return self.what.rpartition("/")[0] if self.option in ("-P", "-PX") else self.what


def values_of(*names: str) -> dict[str, str]:
    """Return these parameters of the machine's default instance, with macros expanded: one process.

    Raises ConfigError if there is no Postfix, or no such configuration.
    """
    try:
        done = subprocess.run(["postconf", "-x", *names], capture_output=True, check=False)  # noqa: S603, S607
    except OSError as error:
        raise ConfigError(f"cannot run postconf: {error.strerror}", install_command("postfix")) from None
    if done.returncode:
        raise ConfigError(f"postconf -x: {_message(done)}")
    return parameters(done.stdout.decode(errors="surrogateescape"))


class Postconf:
    """One Postfix instance, as read from its configuration directory; None is the default directory.

    ``directory``   the configuration directory
    ``version``     the version of Postfix, such as (3, 7)
    ``explicit``    the settings in main.cf itself, by parameter
    ``effective``   the same with all defaults, and with macros expanded
    ``services``    the lines of master.cf, by ``name/type``
    ``overrides``   the ``-o`` parameters by service, as written
    ``duplicates``  the services that master.cf defines twice; the last line applies
    ``assumed``     edits that are not made yet, with which this was read

    ``broken_tables``  the tables that could not be looked up so far, and Postfix's messages
    """

    def __init__(self, directory: str | Path | None = None) -> None:
        """Read the configuration. Raises ConfigError if there is no Postfix, or no such configuration."""
        self._lookups: dict[tuple[str, str], str] = {}
        self.broken_tables: dict[str, str] = {}
        self.assumed: list[Change] = []
        self._directory_options = ["-c", str(Path(directory).absolute())] if directory else []
        self.directory = Path(directory or "/etc/postfix").absolute()
        if not directory:  # the answer of 3.11 is wrong while main.cf is new
            self.directory = Path(self.run("-h", "config_directory").strip()).absolute()
        self.explicit = parameters(self.run("-n"))
        self.effective = parameters(self.run("-x"))
        is_set = _VERSION in self.explicit
        version = (parameters(self.run("-d", _VERSION)) if is_set else self.effective)[_VERSION]
        self.version = tuple(map(int, re.findall(r"\d+", version)[:2]))
        self.services: dict[str, Service] = {}
        self.duplicates: list[str] = []
        for line in filter(str.strip, self.run("-M").splitlines()):
            service = Service.read(line)
            if service.id in self.services:
                self.duplicates.append(service.id)
            self.services[service.id] = service
        written = self.run("-P")
        self.overrides = self._overrides(written)
        self._expanded = self._overrides(self.run("-x", "-P")) if "$" in written else self.overrides

    def _overrides(self, text: str) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {service: {} for service in self.services}
        for name, value in parameters(text).items():
            service, _, parameter = name.rpartition("/")
            found[service][parameter] = value
        return found

    @property
    def is_chosen(self) -> bool:
        """Whether a directory was given: without, this is the machine's default instance."""
        return bool(self._directory_options)

    @property
    def smtp_chroot(self) -> str:
        """The chroot column of a new smtpd(8): that of the one for mail from outside, or of another."""
        others = (each for each in self.services.values() if each.command in ("smtpd", "smtp"))
        service = self.services.get("smtp/inet") or next(others, None)
        return service.chroot if service else "n"

    @property
    def families(self) -> list[str]:
        """The address families of inet_protocols, ``ipv4`` and ``ipv6``."""
        words = [word.lower() for word in self.words("inet_protocols")]
        return [family for family in FAMILIES if family in words or "all" in words]

    def assuming(self, changes: Sequence[Change]) -> Postconf:
        """Return this configuration as it will be after these edits. Raises ConfigError."""
        if not changes:
            return self
        with tempfile.TemporaryDirectory() as name:
            for file in ("main.cf", "master.cf"):
                shutil.copy2(self.directory / file, name)
            self.edit(changes, Path(name))
            after = Postconf(name)
        after.directory, after._directory_options = self.directory, self._directory_options
        after.assumed = [*self.assumed, *changes]
        return after

    @functools.cached_property
    def defaults(self) -> dict[str, str]:
        """All parameters of this Postfix, without those of one's own, as postconf(1) has them."""
        return parameters(self._run("postconf", "-d").stdout.decode(errors="surrogateescape"))

    @functools.cached_property
    def table_types(self) -> list[str]:
        """The types of tables that this Postfix supports."""
        return self.run("-m").split()

    @functools.cached_property
    def is_running(self) -> bool:
        """Whether this instance of Postfix runs: ``master -t`` fails then (or if this is not root)."""
        master = Path(self.value("daemon_directory"), "master")
        return master.exists() and bool(self.failure_of(str(master), "-t"))

    def lookup(self, table: str, key: str, later: Iterable[str] = ()) -> str:
        """Return the value of a key in a lookup table, by postmap(1); empty if it has none or fails.

        Tables that fail are in ``broken_tables``.

        ``later``  keys that may be asked for afterwards: they are looked up by the same process
        """
        table = real_table(table)
        if found := _STATIC.fullmatch(table):
            return found[1]
        # Each lookup is a process, and those that fail take a second.
        if (table, key) not in self._lookups and table not in self.broken_tables:
            keys = list(dict.fromkeys([key, *later]))
            fault = self._look_up(table, keys)
            if "query error" in fault and len(keys) > 1:  # it may concern another key
                fault = self._look_up(table, [key])
            if fault:
                self.broken_tables[table] = fault
        return self._lookups.get((table, key), "")

    def _look_up(self, table: str, keys: Sequence[str]) -> str:
        """Keep the values of keys in a table; return the message of a fatal error instead."""
        lines = "".join(f"{key}\n" for key in keys)
        done = self._run("postmap", "-q", "-", table, input=os.fsencode(lines))
        if b"fatal: " in done.stderr:
            return _message(done).partition("fatal: ")[2]
        found = (line.partition("\t") for line in os.fsdecode(done.stdout).split("\n"))
        known = {key: value.strip() for key, _, value in found}
        self._lookups.update(((table, key), known.get(key, "")) for key in keys)
        return ""

    def open_table(self, table: str, reader: str = "") -> tuple[str, str]:
        """Return with which error a table cannot be opened, and what Postfix warns of; empty without.

        ``reader``  ``USER`` or ``USER:GROUP`` that opens it, if this is root; empty for root itself
        """
        try:
            done = self._run("postmap", "-q", "x", table, **identity(reader), timeout=_TABLE_LIMIT)
        except subprocess.TimeoutExpired:
            return f"no answer within {_TABLE_LIMIT} s", ""
        lines = done.stderr.decode(errors="backslashreplace").splitlines()
        fatal = [line.partition("fatal: ")[2] for line in lines if "fatal: " in line]
        warnings = [line.partition("warning: ")[2] for line in lines if "warning: " in line]
        return "; ".join(fatal), "".join(warnings[:1])

    def dump(self, table: str) -> list[tuple[str, str]]:
        """Return the keys of an indexed table, each with its value; nothing if that fails."""
        lines = os.fsdecode(self._run("postmap", "-s", table).stdout).splitlines()
        parts = (line.partition("\t") for line in lines)
        return [(key, value.strip()) for key, _, value in parts]

    def run(self, *arguments: str) -> str:
        """Return the output of postconf(1). Raises ConfigError with its message if it fails."""
        done = self._run("postconf", *arguments)
        if done.returncode:
            command = " ".join(["postconf", *self._directory_options, *arguments])
            hint = remedies.for_fatal_error(self.directory, _message(done), self.defaults)
            raise ConfigError(f"{command}: {_message(done)}", hint)
        return done.stdout.decode(errors="surrogateescape")  # values may be in any charset

    def failure_of(self, program: str, *arguments: str) -> str:
        """Return the message with which a program of Postfix fails; empty if it succeeds."""
        done = self._run(program, *arguments)
        return _message(done) if done.returncode else ""

    def _run(self, program: str, *arguments: str, **settings: Any) -> subprocess.CompletedProcess[bytes]:
        """Run a program of Postfix on this configuration. Raises ConfigError if there is no such program."""
        command = [program, *self._directory_options, *arguments]
        try:
            return subprocess.run(command, capture_output=True, check=False, **settings)  # noqa: S603 - no shell
        except OSError as error:
            is_there = any(Path(each, program).exists() for each in _DIRECTORIES)
            hint = f"PATH={':'.join(_DIRECTORIES)}:$PATH" if is_there else install_command("postfix")
            raise ConfigError(f"cannot run {program}: {error.strerror}", hint) from None

    def edit(self, changes: Sequence[Change], directory: Path | None = None) -> None:
        """Make edits in the files, or in copies in another directory. This object does not change."""
        directory = directory or self.directory
        # postconf(1) writes the whole file to the disk each time.
        for group in _grouped(part for change in changes for part in accepted(change)):
            if group[0].option != FILE:
                arguments = [change.argument for change in group]
                self.run("-c", str(directory), group[0].option, *arguments)
                continue
            for change in group:
                name, _, line = change.argument.partition("=")
                (directory / name).write_text(line + "\n")

    def command(self, change: Change) -> str:
        """Return the same edit as a shell command."""
        if change.option == FILE:
            name, _, line = change.argument.partition("=")
            lines = " ".join(map(shlex.quote, line.split("\n")))
            return f"printf '%s\\n' {lines} > {shlex.quote(str(self.directory / name))}"
        commands = (["postconf", "-c", str(self.directory), *each[:2]] for each in accepted(change))
        return " && ".join(map(shlex.join, commands))

    def setting_command(self, settings: Mapping[str, str], service: str = "") -> str:
        """Return the shell command that sets parameters, of a service in master.cf or in main.cf."""
        place, option = (f"{service}/", "-P") if service else ("", "-e")
        edits = [f"{place}{parameter}={value}" for parameter, value in settings.items()]
        if any(accepted(each) != [each] for each in (Change(option, edit, "") for edit in edits)):
            return " && ".join(self.command(Change(option, edit, "")) for edit in edits)
        return shlex.join(["postconf", "-c", str(self.directory), option, *edits])

    def value(self, parameter: str, service: str = "") -> str:
        """Return a parameter's value, for a service or for all; empty if this Postfix does not know it."""
        default = self.effective.get(parameter, self.explicit.get(parameter, ""))
        return self._expanded.get(service, {}).get(parameter, default)

    def own(self, parameter: str, service: str = "") -> str:
        """Return the value set in master.cf for a service, or in main.cf without one; empty if unset."""
        if service:
            return self._expanded.get(service, {}).get(parameter, "")
        return self.value(parameter) if parameter in self.explicit else ""

    def words(self, parameter: str, service: str = "") -> list[str]:
        """Return the words of a list, separated by commas or white space except within braces."""
        return split(self.value(parameter, service), ",")

    def number(self, parameter: str, service: str = "") -> int:
        """Return a number. Raises ConfigError if it is invalid, as Postfix itself would fail."""
        value = self.value(parameter, service)
        try:
            return int(value or 0)
        except ValueError:
            what = f"{parameter} = {value}: not a valid number; Postfix rejects it"
            raise ConfigError(what, self.correction(parameter, service, "numerical")) from None

    def seconds(self, parameter: str, service: str = "") -> int:
        """Return a duration in seconds. Raises ConfigError if it is invalid, as Postfix itself would fail."""
        value = self.value(parameter, service)
        if found := re.match(r"\s*\+?(\d+)(?:$|([smhdw]))", value):  # what follows the unit does not matter
            return int(found[1]) * _SECONDS[found[2] or "s"]
        what = f"{parameter} = {value}: not a valid duration; Postfix rejects it"
        raise ConfigError(what, self.correction(parameter, service, "time"))

    def correction(self, parameter: str, service: str, message: str) -> str:
        """Return the command that corrects a value, or removes it after a comment: what then applies.

        ``message``  Postfix's error, which shows of what kind the value should be
        """
        value = values.corrected(parameter, self.value(parameter, service), message)
        return self.setting_or_removal(parameter, service, value)

    def setting_or_removal(self, parameter: str, service: str, value: str) -> str:
        """Return the command that sets a value where the setting is, or without a value the removal."""
        place = service if parameter in self.overrides.get(service, {}) else ""
        if value:
            return self.setting_command({parameter: value}, place)
        comment = f"# correct it, or remove it {self.without(parameter, place)}:"
        return f"{comment}\n{self.removal(parameter, place)}"

    def removal(self, parameter: str, service: str = "") -> str:
        """Return the command that removes a setting of a service, or from main.cf."""
        place = f"{service}/{parameter}" if service else parameter
        return self.command(Change("-PX" if service else "-X", place, ""))

    def without(self, parameter: str, service: str = "") -> str:
        """Return what applies after that, in brackets, for a comment."""
        if service:
            return remedies.without(parameter, self.value(parameter))
        default = self.defaults.get(parameter)
        if default and default[0] == "$" and default[1:] in self.effective:
            default = self.effective[default[1:]]
        return remedies.without(parameter, default)

    def is_disabled(self, service: str) -> bool:
        """Return whether master_service_disable switches a service off: master(8) has no socket for it.

        The first pattern that matches applies: a type, or ``name/type``, or ``name.type`` as before 2.11.
        """
        name, _, kind = service.rpartition("/")
        for word in self.words("master_service_disable"):
            pattern = word.lstrip("!")
            if pattern in (kind, service, f"{name}.{kind}"):
                return (len(word) - len(pattern)) % 2 == 0
        return False

    def program_command(self, word: str) -> str:
        """Return the command ``postfix WORD`` for this instance."""
        options = ["-c", str(self.directory)] if self.is_chosen else []
        return shlex.join(["postfix", *options, word])

    def running(self, *commands: str) -> list[Service]:
        """Return the services that run these programs."""
        return [service for service in self.services.values() if service.command in commands]


def accepted(change: Change) -> list[Change]:
    """Return an edit in the form that postconf(1) accepts: -P takes no spaces.

    Spaces that separate nothing are left out; with others, the value is a parameter in main.cf.
    """
    name, _, value = change.argument.partition("=")
    if change.option != "-P" or not _SPACE.search(value):
        return [change]
    words = split(value, ",")
    if all(_ENDPOINT.match(word) for word in words if _SPACE.search(word)):
        compact = ",".join(re.sub(r"\s*([{},=])\s*|(\s)\s*", _joint, word) for word in words)
        return [change._replace(argument=f"{name}={compact}")]
    parameter = re.sub(r"\W+", "_", name).strip("_")
    return [
        change._replace(option="-e", argument=f"{parameter}={value}"),
        change._replace(argument=f"{name}=${parameter}"),
    ]


def _joint(found: re.Match[str]) -> str:
    return found[1] or ","


def _grouped(changes: Iterable[Change]) -> list[list[Change]]:
    """Return edits in groups, each for one command. Those of the same service or setting keep their order."""
    groups: list[list[Change]] = []
    for change in changes:
        for group in reversed(groups):
            if group[0].option == change.option:
                group.append(change)
                break
            if change.place in [each.place for each in group]:
                groups.append([change])
                break
        else:
            groups.append([change])
    return groups


def finding_for(postconf: Postconf, option: str, argument: str, why: str, level: str = "error") -> Finding:
    """Return the problem that a change fixes, with the command that makes the change as the hint."""
    change = Change(option, argument, why)
    return Finding(f"{change.what}: {why}", postconf.command(change), level)


def list_command(postconf: Postconf, service: str, parameter: str, words: Sequence[str]) -> str:
    """Return the command that sets a list in main.cf, or of a service."""
    if not service:
        return postconf.command(Change("-e", f"{parameter}={', '.join(words)}", ""))
    return postconf.command(Change("-P", f"{service}/{parameter}={','.join(words)}", ""))


def identity(reader: str) -> dict[str, Any]:
    """Return the settings with which subprocess runs a program as ``USER`` or ``USER:GROUP``."""
    user, _, group = reader.partition(":")
    if not user or os.geteuid() != 0:
        return {}
    account = pwd.getpwnam(user)
    number = grp.getgrnam(group).gr_gid if group else account.pw_gid
    return {"user": account.pw_uid, "group": number, "extra_groups": [], "cwd": "/"}


def _message(done: subprocess.CompletedProcess[bytes]) -> str:
    """Return the error message of a program of Postfix on one line.

    It is the last line: a fatal error, and the one before it if it names no cause.
    """
    lines = done.stderr.decode(errors="backslashreplace").strip().splitlines()
    has_cause = bool(lines) and not lines[-1].endswith("macro processing error")
    return "; ".join(lines[-1:] if has_cause else lines[-2:]) or f"exit status {done.returncode}"
