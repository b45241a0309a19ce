"""SELinux: may the filter read its files, and may sendmail(1) read the message that the filter hands over?

pipe(8) runs the filter in a separate domain, and the exec of sendmail(1) changes the domain again. The kernel
replaces each descriptor that the new domain may not use with the null device, and no program gets an error.
So the kernel is queried beforehand. Without SELinux, there are no findings.
"""

from __future__ import annotations

import functools
import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import dkimpipe
from dkimpipe import mapindex
from dkimpipe.admin.findings import Finding
from dkimpipe.admin.maps import configured
from dkimpipe.admin.postfix import filter_service
from dkimpipe.admin.postfix.filter_service import MAIN, SIGN, Job
from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.admin.postfix.service import Service
from dkimpipe.admin.selinux import hints
from dkimpipe.admin.selinux.hints import CODE, CONFIG, PROGRAM, SHIPPED, Refusal, Types, Use
from dkimpipe.admin.selinux.kernel import Kernel, type_of, with_type
from dkimpipe.config import SENDMAIL
from dkimpipe.distribution import install_command
from dkimpipe.errors import ConfigError, Trouble

_ALL = "all mail stays in the queue"
_LARGE = "messages larger than a pipe stay in the queue"
_ENTER = ("search",)
_READ = ("getattr", "open", "read")
_LIST = ("getattr", "open", "read", "search")  # Python looks for modules in listings of directories
_RUN = ("execute", "getattr", "map", "open", "read")
_CREATE = ("create", "getattr", "open", "read", "write")
_INHERIT = ("getattr", "read")  # where fstat(2) fails, Postfix's sendmail(1) takes the null device instead
_READ_CONFIG = Use(_READ, "read {}", CONFIG)
_READ_CODE = Use(_READ, "read {}", CODE)
_LIST_CODE = Use(_LIST, "read {}", CODE)
_START = Use(_RUN, "run {}", PROGRAM)
_START_IN_SAME_DOMAIN = Use((*_RUN, "execute_no_trans"), "run {}", PROGRAM)
_ADD_FILES = Use(("add_name", "search", "write"), f"create files in {{}}: {_LARGE}", SHIPPED)
_OWN_PIPES = Use(("getattr", "read", "write"), f"use its own pipes: {_ALL}")
_KINDS = {stat.S_IFDIR: "dir", stat.S_IFLNK: "lnk_file"}  # anything else is taken for a file
_LONGEST_LINE = 256  # bytes of an interpreter: BINPRM_BUF_SIZE of the kernel


class System(NamedTuple):
    """The paths of the system that are checked."""

    selinuxfs: str = "/sys/fs/selinux"
    proc: str = "/proc"
    temporary: str = "/var/tmp"  # noqa: S108 - nothing is written there
    matchpathcon: str = "matchpathcon"
    semanage: str = "semanage"


SYSTEM = System()


def findings(
    postconf: Postconf, job: Job, files: Iterable[str] = (), system: System = SYSTEM
) -> list[Finding]:
    """Return the access that SELinux refuses to the service of a job.

    ``files``: files that the filter reads besides the conf file and the maps that its options name
    """
    service = filter_service.find(postconf, job)
    kernel = Kernel(system.selinuxfs)
    if kernel.enforces() is None or not (service and filter_service.command(service)):
        return []
    if os.geteuid() != 0:
        what = "SELinux: whether the filter may read its files was not checked: only root can"
        return [Finding(what, "sudo dkimpipe check", "warning")]
    survey = _Survey(kernel, system)
    try:
        survey.service(postconf, service, job, files)
    except ConfigError as error:
        return [*survey.findings(), Finding(f"SELinux: not everything was checked: {error}", "", "warning")]
    return survey.findings()


class _Survey:
    """Queries to the kernel, each once, and the refused access."""

    def __init__(self, kernel: Kernel, system: System) -> None:
        self._kernel, self._system = kernel, system
        self._access = functools.cache(kernel.access)
        self._refused: dict[Refusal, list[str]] = {}

    def service(self, postconf: Postconf, service: Service, job: Job, files: Iterable[str]) -> None:
        """Query all access on the way of a message from pipe(8) to sendmail(1). Raises ConfigError."""
        command = filter_service.command(service)
        sendmail, named = _of_options(service, job)
        pipe = Path(postconf.value("daemon_directory"), "pipe")
        domain = self._exec(self._kernel.after_exec(self._master(postconf), pipe), command[0])
        self._code(domain, command)
        for path in dict.fromkeys([*named, *files]):
            absolute = os.path.join(postconf.value("queue_directory"), path)
            self._reach(domain, absolute, _READ_CONFIG)
        self._handover(domain, self._exec(domain, sendmail))

    def _master(self, postconf: Postconf) -> str:
        """Return the domain of master(8): of the one that is running, or of one that init(1) starts."""
        proc = Path(self._system.proc)
        try:
            file = Path(postconf.value("queue_directory"), "pid", "master.pid")
            number = file.read_text(errors="replace").strip()
            if (proc / number / "comm").read_bytes() == b"master\n":  # the file may be of an old one
                return _context(proc / number)
        except OSError:
            pass
        try:
            init = _context(proc / "1")
        except OSError as error:
            raise ConfigError(f"{proc}/1/attr/current: {error.strerror}") from None
        return self._kernel.after_exec(init, Path(postconf.value("daemon_directory"), "master"))

    def _exec(self, source: str, program: str) -> str:
        """Ask for an exec, and for the interpreter of a script; return the domain after it."""
        domain = self._kernel.after_exec(source, program)
        if domain == source:
            self._reach(source, program, _START_IN_SAME_DOMAIN)
        else:
            self._reach(source, program, _START)
            label = self._kernel.label(os.path.realpath(program))
            self._ask(source, domain, "process", Use(("transition",), f"become {type_of(domain)}"))
            self._ask(domain, label, "file", Use(("entrypoint",), f"be entered by {program}"))
        for interpreter in _interpreters(program):
            self._reach(source, interpreter, _START)
        return domain

    def _code(self, domain: str, command: list[str]) -> None:
        """Ask for dkimpipe's own modules."""
        main = next((word for word in command if word.endswith(MAIN)), dkimpipe.__file__)
        package = Path(main).resolve().parent
        if self._reach(domain, str(package), _LIST_CODE):
            for path in sorted(package.rglob("*")):
                self._ask_for(domain, str(path), _LIST_CODE if path.is_dir() else _READ_CODE)

    def _handover(self, domain: str, sendmail: str) -> None:
        """Ask for the pipe and the temporary file that sendmail(1) inherits from the filter."""
        name = type_of(domain)
        self._ask(domain, domain, "fifo_file", _OWN_PIPES)
        if sendmail != domain:
            self._ask(sendmail, domain, "fd", Use(("use",), f"use descriptors of {name}: {_ALL}"))
        self._ask(sendmail, domain, "fifo_file", Use(_INHERIT, f"read pipes of {name}: {_ALL}"))
        directory = os.path.realpath(self._system.temporary)
        if self._reach(domain, directory, _ADD_FILES):
            file = self._kernel.create(domain, self._kernel.label(directory), "file")
            files = f"temporary files of {name} ({type_of(file)}): {_LARGE}"
            self._ask(domain, file, "file", Use(_CREATE, f"create {files}"))
            self._ask(sendmail, file, "file", Use(_INHERIT, f"read {files}"))

    def _reach(self, source: str, path: str, use: Use) -> bool:
        """Query access to a file and to the path to it. Other checks report missing files."""
        if not os.path.exists(path):
            return True
        *above, last = _way(path)
        for each in above:
            step = Use(("read",), "follow {}") if os.path.islink(each) else Use(_ENTER, "enter {}")
            if not self._ask_for(source, each, step._replace(place=use.place)):
                return False
        return self._ask_for(source, last, use)

    def _ask_for(self, source: str, path: str, use: Use) -> bool:
        kind = _KINDS.get(stat.S_IFMT(os.lstat(path).st_mode), "file")
        return self._ask(source, self._kernel.label(path), kind, use, path)

    def _ask(self, source: str, target: str, kind: str, use: Use, path: str = "") -> bool:
        missing, _ = self._access(source, target, kind, use.permissions)
        if missing:
            self._refused.setdefault(Refusal(source, target, kind, use, missing), []).append(path)
        return not missing

    def findings(self) -> list[Finding]:
        """Return what is refused: errors, or warnings where it is only logged."""
        return [self._finding(each, list(dict.fromkeys(paths))) for each, paths in self._refused.items()]

    def _finding(self, refusal: Refusal, paths: list[str]) -> Finding:
        source, target, kind, use, _ = refusal
        permissive = self._access(source, target, kind, use.permissions).permissive
        permissive = permissive or not self._kernel.enforces()
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        what = use.what.replace("{}", f"{paths[0]}{more} ({type_of(target)})")
        who = f"SELinux{' (permissive)' if permissive else ''}: {type_of(source)}"
        default = functools.partial(hints.default_type, self._system.matchpathcon)
        types = Types(functools.partial(self._would_do, refusal), default)
        hint = hints.lines(refusal, paths, types)
        if any(line.startswith("semanage ") for line in hint) and not shutil.which(self._system.semanage):
            hint[0] = f"{install_command('semanage')} && {hint[0]}"
        return Finding(f"{who} may not {what}", "\n".join(hint), "warning" if permissive else "error")

    def _would_do(self, refusal: Refusal, name: str) -> bool:
        """Return whether the domain may do it to files of another type."""
        target = with_type(refusal.target, name)
        try:
            return not self._access(refusal.source, target, refusal.kind, refusal.use.permissions).missing
        except ConfigError:  # the policy has no such type
            return False


def _context(process: Path) -> str:
    return (process / "attr" / "current").read_text(errors="replace").strip("\0\n")


def _of_options(service: Service, job: Job) -> tuple[str, list[str]]:
    """Return the sendmail(1) that the options of a service name, and the files that they let it read."""
    try:
        settings = filter_service.settings_of(service, job)
        maps = list(configured.maps(settings)) if job is SIGN else []
    except Trouble:  # the doctor reports it
        return SENDMAIL, []
    conf_file = settings.get("conf_file", settings.conf_file)
    return settings.get("sendmail", SENDMAIL), [conf_file, *maps, *map(mapindex.path_of, maps)]


def _interpreters(program: str) -> list[str]:
    """Return the interpreter that a script names in its first line; none for a program of another kind."""
    try:
        with open(program, "rb") as file:
            first = file.readline(_LONGEST_LINE)
    except OSError:
        return []
    return [os.fsdecode(word) for word in first[2:].split()[:1]] if first.startswith(b"#!") else []


def _way(path: str) -> list[str]:
    """Return each directory and symbolic link on the way to a path that exists, and at last the file."""
    way, here, left = ["/"], "/", list(filter(None, path.split("/")))
    while left:
        here = os.path.normpath(os.path.join(here, left.pop(0)))
        way.append(here)
        if os.path.islink(here):
            target = os.readlink(here)
            left = [*filter(None, target.split("/")), *left]
            here = "/" if target.startswith("/") else os.path.dirname(here)
    return way
