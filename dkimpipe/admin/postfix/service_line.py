"""The line of a filter service in master.cf: its faults, and the line that fixes them and keeps the rest."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from dkimpipe.admin.postfix import client_options, filter_service, filter_user, incoming, status_filter
from dkimpipe.admin.postfix.filter_service import ENVELOPE, SIGN, VERIFY, Job
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.admin.postfix.service import Service
from dkimpipe.config import SENDMAIL
from dkimpipe.files import exists

_REPLACED = ("flags=", "null_sender=", "chroot=", "size=", "eol=")
_MACRO = re.compile(r"\$[{(]?(\w+)")
_LINE_ENDS = (None, r"\n", r"\r\n")
# What the listener logs of the first pass (XFORWARD).
_TRACE = {
    "queue_id": "--queue_id=${queue_id}",
    "client_name": "--client_name=${client_hostname}",
    "client": client_options.CLIENT,
}
_NO_CLIENT = "argv does not pass the client address: mail from strangers is signed if Postfix lets it in"


def missing(
    postconf: Postconf, user: str, job: Job = SIGN, with_client: bool = False, relay: str = ""
) -> list[Change]:
    """Return the edits that create the service or fix it; none if it is correct.

    ``with_client`` also passes the client address to the filter that signs. ``relay`` is the listener through
    which mail comes back, if it is not to be sendmail(1).
    """
    service, level = filter_service.find(postconf, job), "error"
    if service:
        faults = list(_faults(postconf, service, job))
        with_client = with_client and client_options.needs_client(filter_service.own_options(service))
        if with_client and filter_service.options(service, job) is not None:
            level = "error" if faults else "warning"
            faults.append(_NO_CLIENT)
        if relay and filter_service.relay_of(service, job) != relay:
            level = "error"
            faults.append(_wrong_way_back(postconf, filter_service.relay_of(service, job), relay))
    else:
        processes = str(2 * (os.cpu_count() or 1) + job.extra_processes)
        arguments = f"user={user} argv={_new_command(postconf, job)}"
        name = f"{filter_service.name(postconf, job)}/unix"
        service = Service(name, "-", "n", "n", "-", processes, "pipe", arguments)
        faults = ["there is no filter service"]
    if not faults:
        return []
    changes = []
    table = postconf.overrides.get(service.id, {}).get(status_filter.NAME, "")
    if _status_faults(postconf, service, job):
        table = status_filter.table(postconf, status_filter.OURS)
        changes = status_filter.file_changes(postconf, status_filter.OURS)
    if not service.attribute("user"):
        service = _with_user(service, user)
    line = _fixed(postconf, service, table, job, with_client, relay).line
    return [*changes, Change("-M", f"{service.id}={line}", "; ".join(faults), level)]


def _faults(postconf: Postconf, service: Service, job: Job) -> Iterator[str]:
    """Yield what is wrong with a service, and what happens to mail."""
    words = filter_service.options(service, job)
    if service.unprivileged != "n":
        yield "unprivileged: pipe(8) cannot switch to the filter's user"
    if service.chroot == "y" or (
        service.chroot == "-" and postconf.value("compatibility_level") in ("", "0")
    ):
        yield "chroot: the filter cannot find its interpreter there"
    flags = service.attribute("flags") or ""
    if wrong := "".join(sorted({*flags} - {"q", "X"})):
        yield f"flags with {wrong}: the message or its addresses are changed before they are {job.participle}"
    if "q" not in flags:
        yield 'flags without q: mail to "a b"@example.com is misdelivered'
    if service.attribute("null_sender") != "":
        yield "null_sender is not empty: the filter gets an address instead of the null sender"
    if not service.attribute("user"):
        yield "there is no user=: pipe(8) does not start"
    if service.attribute("chroot"):
        yield "chroot=: the filter cannot find its interpreter there"
    if service.attribute("size") not in (None, "", "0"):
        yield "size=: mail over that size bounces"
    if service.attribute("eol") not in _LINE_ENDS:
        yield f"eol=: lines end in another way before they are {job.participle}"
    if fault := _directory_fault(postconf, service):
        yield fault
    for word in _unknown(postconf, service):
        yield f"argv: pipe(8) does not know the macro in {word}: mail stays in the queue"
    yield from _status_faults(postconf, service, job)
    if words is None:
        yield f"argv does not run {job.command}: nothing is {job.participle}"
    elif not _passes_envelope(words):
        yield f"argv does not end in {ENVELOPE}: mail is rejected or misdelivered"
    if path := _missing_file(service, job):
        yield f"argv: {path} does not exist: mail stays in the queue"
    if words is not None and job is SIGN:
        yield from filter(None, [_login_fault(words)])


def _wrong_way_back(postconf: Postconf, now: str, relay: str) -> str:
    if found := incoming.find(postconf, now):
        return f"mail comes back by {now}, which is {found.id}, where mail comes in: it loops"
    if now:
        return f"mail comes back by {now}, where Postfix cannot listen, and stays in the queue"
    return f"mail comes back by sendmail(1), which is filtered, and not by {relay}: it loops"


def _directory_fault(postconf: Postconf, service: Service) -> str:
    """Return why pipe(8) cannot change to the directory in which it is to run the filter; empty if it can."""
    directory = service.attribute("directory")
    if directory is None:
        return ""
    path = Path(postconf.value("queue_directory"), directory)
    if not path.is_dir():
        return f"directory={directory}: there is no such directory: mail stays in the queue"
    user = service.attribute("user") or ""
    if not filter_user.may_enter(path, user):
        name = user.partition(":")[0]
        return f"directory={directory}: user {name} cannot enter it: mail stays in the queue"
    return ""


def _unknown(postconf: Postconf, service: Service) -> list[str]:
    """Return the words of the command line with macros that this version of pipe(8) does not know."""
    try:
        program = Path(postconf.value("daemon_directory"), "pipe").read_bytes()
    except OSError:
        return []

    def is_known(word: str) -> bool:
        names = _MACRO.findall(word.replace("$$", ""))
        return all(f"{name}\0".encode() in program for name in names)

    return [word for word in service.command_line if not is_known(word)]


def _status_faults(postconf: Postconf, service: Service, job: Job) -> list[str]:
    """Return the problems with the status filter: ours is correct, any other is tested with lookups."""
    ours, name = status_filter.OURS, status_filter.NAME
    own = postconf.overrides.get(service.id, {}).get(name, "")
    table_exists = postconf.version >= (3, 7) or (postconf.directory / ours.file).exists()
    if own and own == status_filter.table(postconf, ours) and table_exists:
        return []
    faults = []
    if not status_filter.answer(postconf, service.id, "5.3.0 x").startswith("4."):
        faults.append(f"{name}: errors that the filter cannot catch bounce")
    if job is VERIFY and status_filter.answer(postconf, service.id, "5.7.1 x").startswith("4."):
        faults.append(f"{name}: rejected mail is retried for days")
    return faults


def _with_user(service: Service, user: str) -> Service:
    """Return the service with the user that it lacks."""
    before, argv, command = service.arguments.partition("argv=")
    words = " ".join(word for word in before.split(" ") if not word.startswith("user="))
    return service._replace(arguments=f"{words}user={user} {argv}{command}")


def _passes_envelope(words: list[str]) -> bool:
    return words[-2:] == ["--", "${recipient}"] and ("-f", "${sender}") in zip(words, words[1:])


def _missing_file(service: Service, job: Job) -> str:
    """Return the first file of the program that does not exist, as after an upgrade of Python; or nothing."""
    files = (word for word in filter_service.program(service, job) if word.startswith("/"))
    return next((file for file in files if not exists(file)), "")


def _login_fault(words: list[str]) -> str:
    return client_options.fault([word for word in words if word not in ENVELOPE.split()])


def _fixed(
    postconf: Postconf, service: Service, status_table: str, job: Job, with_client: bool, relay: str
) -> Service:
    """Return the service without its faults; other attributes, options and overrides are kept."""
    overrides = {**postconf.overrides.get(service.id, {}), status_filter.NAME: status_table}
    runs = filter_service.options(service, job) is not None
    if _missing_file(service, job):
        service = filter_service.with_installed_program(service, job)
    command = service.command_line if runs else [_new_command(postconf, job)]
    words = filter_service.options(service, job) or []
    if job is SIGN:
        command = _with_identity(command, words if runs else [client_options.LOGIN], with_client)
    if relay:
        by_conf = filter_service.relay_of(service, job) == relay
        command = _with_relay(command, words, job, relay, by_conf)
    unknown = _unknown(postconf, service)
    replaced = (*_REPLACED, *(("directory=",) if _directory_fault(postconf, service) else ()))
    attributes = (word for word in service.attributes if not word.startswith(replaced))
    envelope = {*ENVELOPE.split(), *ENVELOPE.replace("{", "").replace("}", "").split()}
    arguments = [
        *(f"-o {{{parameter}={value}}}" for parameter, value in overrides.items()),
        "flags=qX" if "X" in (service.attribute("flags") or "") else "flags=q",
        "null_sender=",
        *attributes,
        f"argv={' '.join(word for word in command if word not in (*envelope, *unknown))}",
        ENVELOPE,
    ]
    return service._replace(unprivileged="n", chroot="n", arguments=" ".join(arguments))


def _with_identity(command: list[str], words: list[str], with_client: bool) -> list[str]:
    """Return the command line with wrong or missing login and client options corrected."""
    is_wrong = bool(_login_fault(words))
    added = [client_options.LOGIN] if is_wrong or not _has_option("login", words) else []
    if with_client or (is_wrong and _has_option("client", words)):
        added.append(client_options.CLIENT)
    wrong = ("--login=", "--client=") if is_wrong else ()
    kept = [word for word in command if not word.startswith(wrong)]
    return [*kept, *added] if is_wrong or with_client else command


def _with_relay(command: list[str], words: list[str], job: Job, relay: str, by_conf: bool) -> list[str]:
    """Return the command line with the relay, unless the conf file names it, and what its log needs."""
    kept = [
        word
        for before, word in zip(["", *command], command)
        if by_conf or not (word.startswith("--relay") or before == "--relay")
    ]
    names = ("queue_id", "client_name", *(("client",) if job is VERIFY else ()))
    trace = [_TRACE[name] for name in names if not _has_option(name, words)]
    return [*kept, *(() if by_conf else (f"--relay={relay}",)), *trace]


def _has_option(option: str, words: list[str]) -> bool:
    return any(word.partition("=")[0] == f"--{option}" for word in words)


def _new_command(postconf: Postconf, job: Job) -> str:
    words, sendmail = filter_service.installed_command(job), postconf.value("sendmail_path")
    if os.path.realpath(sendmail) != os.path.realpath(SENDMAIL):
        words.append(f"--sendmail={sendmail}")
    if job is SIGN:
        words.append(client_options.LOGIN)
    elif postconf.value("myhostname") != socket.gethostname():
        words.append(f"--hostname={postconf.value('myhostname')}")
    return " ".join(words)
