"""The services in master.cf through which pipe(8) runs dkimpipe: create them, or fix them and keep the rest.

There are two, one to sign and one to verify; a ``Job`` holds the differences.
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
from dkimpipe.admin.postfix import client_options, status_filter
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.admin.postfix.service import Service
from dkimpipe.config import CONF_FILE, SENDMAIL, VERIFY_CONF_FILE, Settings, conf_lines, read_settings
from dkimpipe.errors import Trouble
from dkimpipe.files import exists

ENVELOPE = "-f ${sender} -- ${recipient}"
MAIN = "/dkimpipe/__main__.py"
_RUNNERS = ("python", "env", "nice", "ionice", "timeout")  # programs that run another one as it is
REPLACED = ("flags=", "null_sender=", "chroot=", "size=")
PYTHON = "/usr/bin/python3"  # this path survives upgrades of Python
# What the listener logs of the first pass (XFORWARD).
TRACE = {
    "queue_id": "--queue_id=${queue_id}",
    "client_name": "--client_name=${client_hostname}",
    "client": client_options.CLIENT,
}
NO_CLIENT = "argv does not pass the client address: mail from strangers is signed if Postfix lets it in"


class Job(NamedTuple):
    """The purpose of a filter service: to sign or to verify.

    ``name``             the default name of the service, and of its user
    ``verb``             the verb of dkimpipe that it runs; empty for the filter that signs
    ``python``           the options of the interpreter: with -S it starts faster, but finds no other packages
    ``conf_file``        the default conf file
    ``participle``       ``signed`` or ``verified``, for messages
    ``extra_processes``  processes beyond two per core: verifiers wait for DNS, up to 30 seconds each, and one
                         sender's slow name servers must not delay all other mail
    """

    name: str
    verb: str
    python: str
    conf_file: str
    participle: str
    extra_processes: int

    @property
    def command(self) -> str:
        """The command that the service runs, for messages."""
        return f"dkimpipe {self.verb}".rstrip()

    @property
    def setup_command(self) -> str:
        """The command that sets up Postfix for this job, for messages."""
        return "dkimpipe postfix" + (f" --{self.verb}" if self.verb else "")


SIGN = Job("dkimpipe", "", "-IS", CONF_FILE, "signed", 0)
VERIFY = Job("dkimpipe-verify", "verify", "-I", VERIFY_CONF_FILE, "verified", 8)
JOBS = (SIGN, VERIFY)


def other(job: Job) -> Job:
    """Return the other job."""
    return JOBS[1 - JOBS.index(job)]


def name(postconf: Postconf, job: Job = SIGN) -> str:
    """Return the name of the service that does a job; the default name if there is none."""
    names = [
        service.name
        for service in postconf.running("pipe")
        if options(service, job) is not None and service.name != other(job).name
    ]
    return names[0] if names and job.name not in names else job.name


def find(postconf: Postconf, job: Job = SIGN) -> Service | None:
    """Return the service that does a job; None if there is none."""
    return postconf.services.get(f"{name(postconf, job)}/unix")


def missing(
    postconf: Postconf, user: str, job: Job = SIGN, with_client: bool = False, relay: str = ""
) -> list[Change]:
    """Return the edits that create the service or fix it; none if it is correct.

    ``with_client`` also passes the client address to the filter that signs. ``relay`` is the listener through
    which mail comes back, if it is not to be sendmail(1).
    """
    service, level = find(postconf, job), "error"
    if service:
        faults = list(_faults(postconf, service, job))
        with_client = with_client and client_options.needs_client(own_options(service))
        if with_client and options(service, job) is not None:
            level = "error" if faults else "warning"
            faults.append(NO_CLIENT)
        if relay and relay_of(service, job) != relay:
            level = "error"
            faults.append(f"mail comes back by sendmail(1), which is filtered, and not by {relay}: it loops")
    else:
        processes = str(2 * (os.cpu_count() or 1) + job.extra_processes)
        arguments = f"user={user} argv={_new_command(postconf, job)}"
        service = Service(f"{name(postconf, job)}/unix", "-", "n", "n", "-", processes, "pipe", arguments)
        faults = ["there is no filter service"]
    if not faults:
        return []
    changes = []
    table = postconf.overrides.get(service.id, {}).get(status_filter.NAME, "")
    if _status_faults(postconf, service, job):
        table = status_filter.table(postconf, status_filter.OURS)
        changes = status_filter.file_changes(postconf, status_filter.OURS)
    line = _fixed(postconf, service, table, job, with_client, relay).line
    return [*changes, Change("-M", f"{service.id}={line}", "; ".join(faults), level)]


def program(service: Service, job: Job = SIGN) -> list[str]:
    """Return the program and verb at the start of the command line; empty if it does not do this job."""
    argv = service.argv
    first = argv[0] if argv else ""
    if not first.endswith(("/dkimpipe", MAIN)) and not os.path.basename(first).startswith(_RUNNERS):
        return []  # another filter, which may run dkimpipe in place of sendmail(1)
    for at, word in enumerate(argv):
        if word.endswith(("/dkimpipe", MAIN)) or argv[at - 1 : at + 1] == ["-m", "dkimpipe"]:
            verifies = argv[at + 1 : at + 2] == [VERIFY.verb]
            return argv[: at + 1 + verifies] if verifies is (job is VERIFY) else []
    return []


def options(service: Service, job: Job = SIGN) -> list[str] | None:
    """Return the words after program and verb in the command line; None if it does not do this job."""
    words = len(program(service, job))
    return [_braced(word) for word in service.argv[words:]] if words else None


def with_installed_program(service: Service, job: Job) -> Service:
    """Return the service with its program replaced by this installation's."""
    words = [*installed_command(job), *service.command_line[len(program(service, job)) :]]
    before = service.arguments.partition("argv=")[0]
    return service._replace(arguments=f"{before}argv={' '.join(words)}")


def command(service: Service) -> list[str]:
    """Return the command line without the envelope; empty if it does neither job."""
    argv = [_braced(word) for word in service.argv]
    is_ours = any(options(service, job) is not None for job in JOBS)
    return [word for word in argv if word not in ENVELOPE.split()] if is_ours else []


def own_options(service: Service, job: Job = SIGN) -> list[str]:
    """Return the options without the envelope."""
    return [word for word in options(service, job) or [] if word not in ENVELOPE.split()]


def _braced(word: str) -> str:
    """Return a word with the macros of pipe(8) spelled ``${name}``: it accepts two other spellings."""
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
        yield f"flags with {wrong}: the message or its addresses are changed before they are {job.participle}"
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
        yield f"argv does not run {job.command}: nothing is {job.participle}"
    elif not _passes_envelope(words):
        yield f"argv does not end in {ENVELOPE}: mail is rejected or misdelivered"
    if path := _missing_file(service, job):
        yield f"argv: {path} does not exist: mail stays in the queue"
    if words is not None and job is SIGN:
        yield from filter(None, [_login_fault(words)])


def _missing_file(service: Service, job: Job) -> str:
    """Return the first file of the program that does not exist, as after an upgrade of Python; or nothing."""
    files = (word for word in program(service, job) if word.startswith("/"))
    return next((file for file in files if not exists(file)), "")


def _login_fault(words: list[str]) -> str:
    return client_options.fault([word for word in words if word not in ENVELOPE.split()])


def _with_identity(command: list[str], words: list[str], with_client: bool) -> list[str]:
    """Return the command line with wrong or missing login and client options corrected."""
    is_wrong = bool(_login_fault(words))
    added = [client_options.LOGIN] if is_wrong or not _has_option("login", words) else []
    if with_client or (is_wrong and _has_option("client", words)):
        added.append(client_options.CLIENT)
    wrong = ("--login=", "--client=") if is_wrong else ()
    kept = [word for word in command if not word.startswith(wrong)]
    return [*kept, *added] if is_wrong or with_client else command


def _has_option(option: str, words: list[str]) -> bool:
    return any(word.partition("=")[0] == f"--{option}" for word in words)


def settings_of(service: Service, job: Job) -> Settings:
    """Return the filter settings of a service, from its command line and conf file. Raises Trouble."""
    if job is SIGN:
        return read_settings(own_options(service))
    from dkimpipe.verify.settings import VerifySettings

    return read_settings(own_options(service, job), VerifySettings())


def recipient_limit(postconf: Postconf, job: Job) -> int:
    """Return how many recipients a message from the filter may have; 0 for no limit."""
    own = f"{name(postconf, job)}_destination_recipient_limit"
    return postconf.number(own if postconf.value(own) else "default_destination_recipient_limit")


def relay_of(service: Service, job: Job) -> str:
    """Return the relay of a service, from its command line or conf file; empty for sendmail(1)."""
    return _given(service, job, "relay") or relay_in(conf_file(service, job))


def conf_file(service: Service, job: Job) -> str:
    """Return the conf file that a service reads."""
    return _given(service, job, "conf_file") or job.conf_file


def _given(service: Service, job: Job, name: str) -> str:
    """Return the value of an option in the command line of a service; empty if it is not there."""
    words = [part for word in own_options(service, job) for part in word.split("=", 1)]
    given = {word.replace("-", "_"): value for word, value in zip(words, words[1:])}
    return given.get(f"__{name}", "")


def relay_in(path: str) -> str:
    """Return the relay that a conf file names; empty if there is none."""
    return (directives(path, "relay") or [""])[-1]


def directives(path: str, name: str) -> list[str]:
    """Return the values of a directive in a conf file, in order; none if it cannot be read."""
    if not exists(path):
        return []
    try:
        return [value for each, value, *_ in conf_lines(path) if each == name]
    except Trouble:  # the test run reports it
        return []


def _with_relay(command: list[str], words: list[str], job: Job, relay: str, by_conf: bool) -> list[str]:
    """Return the command line with the relay, unless the conf file names it, and what its log needs."""
    kept = [word for word in command if by_conf or not word.startswith("--relay")]
    names = ("queue_id", "client_name", *(("client",) if job is VERIFY else ()))
    trace = [TRACE[name] for name in names if not _has_option(name, words)]
    return [*kept, *(() if by_conf else (f"--relay={relay}",)), *trace]


def _fixed(
    postconf: Postconf, service: Service, status_table: str, job: Job, with_client: bool, relay: str
) -> Service:
    overrides = {**postconf.overrides.get(service.id, {}), status_filter.NAME: status_table}
    runs = options(service, job) is not None
    if _missing_file(service, job):
        service = with_installed_program(service, job)
    command = service.command_line if runs else [_new_command(postconf, job)]
    if job is SIGN:
        command = _with_identity(
            command, (options(service, job) or []) if runs else [client_options.LOGIN], with_client
        )
    if relay:
        by_conf = relay_of(service, job) == relay
        command = _with_relay(command, options(service, job) or [], job, relay, by_conf)
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


def installed_command(job: Job) -> list[str]:
    """Return the fastest command line that runs this installation, up to the verb.

    Verification runs this very interpreter, whose venv has the packages.
    """
    interpreter = sys.executable
    if job is SIGN:
        interpreter = os.path.realpath(interpreter)
        if os.path.realpath(PYTHON) == interpreter:
            interpreter = PYTHON
    main = Path(dkimpipe.__file__).resolve().with_name("__main__.py")
    return [interpreter, job.python, str(main), *filter(None, [job.verb])]


def _new_command(postconf: Postconf, job: Job) -> str:
    words, sendmail = installed_command(job), postconf.value("sendmail_path")
    if os.path.realpath(sendmail) != os.path.realpath(SENDMAIL):
        words.append(f"--sendmail={sendmail}")
    if job is SIGN:
        words.append(client_options.LOGIN)
    elif postconf.value("myhostname") != socket.gethostname():
        words.append(f"--hostname={postconf.value('myhostname')}")
    return " ".join(words)


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
