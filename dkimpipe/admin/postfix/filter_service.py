"""The services in master.cf that run dkimpipe by pipe(8): create them, or fix them and keep the rest.

There are two: one signs, one verifies. A ``Job`` holds the differences.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import dkimpipe
from dkimpipe.admin.postfix import client_options
from dkimpipe.admin.postfix.postconf import FILE, Change, Postconf, Service
from dkimpipe.config import SENDMAIL
from dkimpipe.files import exists

ENVELOPE = "-f ${sender} -- ${recipient}"
MAIN = "/dkimpipe/__main__.py"
REPLACED = ("flags=", "null_sender=", "chroot=", "size=")
PYTHON = "/usr/bin/python3"  # the name that stays when the system gets another Python

# What the filter cannot catch, a missing interpreter or the time limit, is 5.3.x and would bounce.
STATUS_PATTERN = r"/^5(\.3\..*)/ 4$1"
STATUS_FILE = "dkimpipe-status.regexp"
NO_CLIENT = "argv does not pass the client address: mail from strangers is signed if Postfix lets it in"


class Job(NamedTuple):
    """What a service is for.

    ``name``    what the service is called if we make it, and the user that it runs as
    ``verb``    of the command line; the filter has none
    ``python``  the options of the interpreter: with -S it starts faster, and finds no other package
    ``done``    what happens to the mail, in messages
    ``waiting`` how many more may run at once than the processors have work for: they wait for DNS, up to
                half a minute each, and slow name servers of one sender must not delay all other mail
    """

    name: str
    verb: str
    python: str
    done: str
    waiting: int

    @property
    def command(self) -> str:
        """What is run, in messages."""
        return f"dkimpipe {self.verb}".rstrip()

    @property
    def setting_up(self) -> str:
        """The verb that makes the settings, in messages."""
        return "dkimpipe postfix" + (f" --{self.verb}" if self.verb else "")


SIGN = Job("dkimpipe", "", "-IS", "signed", 0)
VERIFY = Job("dkimpipe-verify", "verify", "-I", "verified", 8)
JOBS = (SIGN, VERIFY)


def other(job: Job) -> Job:
    """Return the job that is not this one."""
    return JOBS[1 - JOBS.index(job)]


def name(postconf: Postconf, job: Job = SIGN) -> str:
    """Return the name of the service that does a job, or ours if there is none."""
    names = [
        service.name
        for service in postconf.running("pipe")
        if options(service, job) is not None and service.name != other(job).name
    ]
    return names[0] if names and job.name not in names else job.name


def find(postconf: Postconf, job: Job = SIGN) -> Service | None:
    """Return the service that does a job."""
    return postconf.services.get(f"{name(postconf, job)}/unix")


def missing(postconf: Postconf, user: str, job: Job = SIGN, with_client: bool = False) -> list[Change]:
    """Return the edits that create the service or fix it; none if it is correct.

    With ``with_client``, the filter that signs also gets the client address.
    """
    service, level = find(postconf, job), "error"
    if service:
        whys = list(_faults(postconf, service, job))
        with_client = with_client and client_options.lacks_client(own_options(service))
        if with_client and options(service, job) is not None:
            level = "error" if whys else "warning"
            whys.append(NO_CLIENT)
    else:
        processes = str(2 * (os.cpu_count() or 1) + job.waiting)
        arguments = f"user={user} argv={_start(postconf, job)}"
        service = Service(f"{name(postconf, job)}/unix", "-", "n", "n", "-", processes, "pipe", arguments)
        whys = ["there is no filter service"]
    if not whys:
        return []
    changes = []
    status_filter = postconf.overrides.get(service.id, {}).get("pipe_delivery_status_filter", "")
    if _status_faults(postconf, service, job):
        status_filter = _status_filter(postconf)
        if status_filter == f"regexp:{postconf.directory / STATUS_FILE}":
            changes.append(Change(FILE, f"{STATUS_FILE}={STATUS_PATTERN}", "a table for the next line"))
    line = _fixed(postconf, service, status_filter, job, with_client).line
    return [*changes, Change("-M", f"{service.id}={line}", "; ".join(whys), level)]


def program(service: Service, job: Job = SIGN) -> list[str]:
    """Return program and verb, with which the command line begins; nothing if it does not do this job."""
    argv = service.argv
    for at, word in enumerate(argv):
        if word.endswith(("/dkimpipe", MAIN)) or argv[at - 1 : at + 1] == ["-m", "dkimpipe"]:
            verifies = argv[at + 1 : at + 2] == [VERIFY.verb]
            return argv[: at + 1 + verifies] if verifies is (job is VERIFY) else []
    return []


def options(service: Service, job: Job = SIGN) -> list[str] | None:
    """Return the options after program and verb in the command line; None if it does not do this job."""
    words = len(program(service, job))
    return [_macro(word) for word in service.argv[words:]] if words else None


def renewed(service: Service, job: Job) -> Service:
    """Return the service with its program replaced by the one that is installed here."""
    words = [*installed(job), *service.command_line[len(program(service, job)) :]]
    before = service.arguments.partition("argv=")[0]
    return service._replace(arguments=f"{before}argv={' '.join(words)}")


def command(service: Service) -> list[str]:
    """Return the command line without the envelope; nothing if it does neither job."""
    argv = [_macro(word) for word in service.argv]
    is_ours = any(options(service, job) is not None for job in JOBS)
    return [word for word in argv if word not in ENVELOPE.split()] if is_ours else []


def own_options(service: Service, job: Job = SIGN) -> list[str]:
    """Return the options without the envelope."""
    return [word for word in options(service, job) or [] if word not in ENVELOPE.split()]


def _macro(word: str) -> str:
    """Return a macro of pipe(8) in the one of its three spellings that we use."""
    return re.sub(
        r"\$(?:\((\w+)\)|\{(\w+)\}|(\w+))", lambda found: f"${{{found[1] or found[2] or found[3]}}}", word
    )


def _passes_envelope(words: list[str]) -> bool:
    return words[-2:] == ["--", "${recipient}"] and ("-f", "${sender}") in zip(words, words[1:])


def _faults(postconf: Postconf, service: Service, job: Job) -> Iterator[str]:
    words = options(service, job)
    if service.unprivileged != "n":
        yield "unprivileged: pipe(8) cannot switch to the filter's user"
    if service.chroot == "y" or (
        service.chroot == "-" and postconf.value("compatibility_level") in ("", "0")
    ):
        yield "chroot: the filter cannot find its interpreter there"
    flags = service.attribute("flags") or ""
    if wrong := "".join(sorted({*flags} - {"q", "X"})):
        yield f"flags with {wrong}: the message or its addresses are changed before they are {job.done}"
    if "q" not in flags:
        yield 'flags without q: mail to "a b"@example.com is misdelivered'
    if service.attribute("null_sender") != "":
        yield "null_sender is not empty: the filter gets an address instead of the null sender"
    if service.attribute("chroot"):
        yield "chroot=: the filter cannot find its interpreter there"
    if service.attribute("size") not in (None, "", "0"):
        yield "size=: mail over that size bounces"
    yield from _status_faults(postconf, service, job)
    if words is None:
        yield f"argv does not run {job.command}: nothing is {job.done}"
    elif not _passes_envelope(words):
        yield f"argv does not end in {ENVELOPE}: mail is rejected or misdelivered"
    if gone := _gone(service, job):
        yield f"argv: {gone} does not exist: mail stays in the queue"
    if words is not None and job is SIGN:
        yield from filter(None, [_login_fault(words)])


def _gone(service: Service, job: Job) -> str:
    """Return the first missing file of the program, as after an upgrade of Python; or nothing."""
    files = (word for word in program(service, job) if word.startswith("/"))
    return next((file for file in files if not exists(file)), "")


def _login_fault(words: list[str]) -> str:
    return client_options.fault([word for word in words if word not in ENVELOPE.split()])


def _told(command: list[str], words: list[str], with_client: bool) -> list[str]:
    """Return a command line that passes login and client, if one of them is wrong or to be added."""
    is_wrong = bool(_login_fault(words))
    told = [client_options.TOLD] if is_wrong or not _names("login", words) else []
    if with_client or (is_wrong and _names("client", words)):
        told.append(client_options.CLIENT)
    wrong = ("--login=", "--client=") if is_wrong else ()
    kept = [word for word in command if not word.startswith(wrong)]
    return [*kept, *told] if is_wrong or with_client else command


def _names(option: str, words: list[str]) -> bool:
    return any(word.partition("=")[0] == f"--{option}" for word in words)


def _fixed(postconf: Postconf, service: Service, status_filter: str, job: Job, with_client: bool) -> Service:
    overrides = {**postconf.overrides.get(service.id, {}), "pipe_delivery_status_filter": status_filter}
    runs = options(service, job) is not None
    if _gone(service, job):
        service = renewed(service, job)
    command = service.command_line if runs else [_start(postconf, job)]
    if job is SIGN:
        command = _told(
            command, (options(service, job) or []) if runs else [client_options.TOLD], with_client
        )
    attributes = (word for word in service.attributes if not word.startswith(REPLACED))
    envelope = {*ENVELOPE.split(), *ENVELOPE.replace("{", "").replace("}", "").split()}
    arguments = [
        *(f"-o {{{parameter}={value}}}" for parameter, value in overrides.items()),
        "flags=qX" if "X" in (service.attribute("flags") or "") else "flags=q",
        "null_sender=",
        *attributes,
        f"argv={' '.join(word for word in command if word not in envelope)}",
        ENVELOPE,
    ]
    return service._replace(unprivileged="n", chroot="n", arguments=" ".join(arguments))


def installed(job: Job) -> list[str]:
    """Return program and verb as they are here, by the start that costs least.

    To verify it is this interpreter, whose venv has the packages.
    """
    interpreter = sys.executable
    if job is SIGN:
        interpreter = os.path.realpath(interpreter)
        if os.path.realpath(PYTHON) == interpreter:
            interpreter = PYTHON
    main = Path(dkimpipe.__file__).resolve().with_name("__main__.py")
    return [interpreter, job.python, str(main), *filter(None, [job.verb])]


def _start(postconf: Postconf, job: Job) -> str:
    words, sendmail = installed(job), postconf.value("sendmail_path")
    if os.path.realpath(sendmail) != os.path.realpath(SENDMAIL):
        words.append(f"--sendmail={sendmail}")
    if job is SIGN:
        words.append(client_options.TOLD)
    elif postconf.value("myhostname") != socket.gethostname():
        words.append(f"--hostname={postconf.value('myhostname')}")
    return " ".join(words)


def _status_filter(postconf: Postconf) -> str:
    """Return the table that makes a deferral of a bounce: in line, or before Postfix 3.7 in a file."""
    if postconf.version >= (3, 7):
        return "regexp:{{" + STATUS_PATTERN.replace("$", "$$") + "}}"
    return f"regexp:{postconf.directory / STATUS_FILE}"


def _status_faults(postconf: Postconf, service: Service, job: Job) -> list[str]:
    """Return what is wrong with the status filter: ours is good, others are tried."""
    standing = postconf.overrides.get(service.id, {}).get("pipe_delivery_status_filter", "")
    is_there = postconf.version >= (3, 7) or (postconf.directory / STATUS_FILE).exists()
    if standing and standing == _status_filter(postconf) and is_there:
        return []
    faults, table = [], postconf.value("pipe_delivery_status_filter", service.id)
    if not (table and postconf.lookup(table, "5.3.0 x").startswith("4.")):
        faults.append("pipe_delivery_status_filter: errors that the filter cannot catch bounce")
    if job is VERIFY and table and postconf.lookup(table, "5.7.1 x").startswith("4."):
        faults.append("pipe_delivery_status_filter: rejected mail is retried for days")
    return faults
