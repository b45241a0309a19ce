"""The services in master.cf through which pipe(8) runs dkimpipe: which they are, and what their commands say.

There are two, one to sign and one to verify; a ``Job`` holds the differences.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import dkimpipe
from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.admin.postfix.service import Service
from dkimpipe.config import CONF_FILE, VERIFY_CONF_FILE, Settings, conf_lines, read_settings
from dkimpipe.errors import Trouble
from dkimpipe.files import exists

ENVELOPE = "-f ${sender} -- ${recipient}"
MAIN = "/dkimpipe/__main__.py"
_RUNNERS = ("python", "env", "nice", "ionice", "timeout")  # programs that run another one as it is
_PYTHON = "/usr/bin/python3"  # this path survives upgrades of Python


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


def program(service: Service, job: Job = SIGN) -> list[str]:
    """Return the program and verb at the start of the command line; empty if it does not do this job."""
    return list(_program(service, job))


@functools.lru_cache(maxsize=256)  # each check asks for the filter again
def _program(service: Service, job: Job) -> Sequence[str]:
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


def installed_command(job: Job) -> list[str]:
    """Return the fastest command line that runs this installation, up to the verb.

    Verification runs this very interpreter, whose venv has the packages.
    """
    interpreter = sys.executable
    if job is SIGN:
        interpreter = os.path.realpath(interpreter)
        if os.path.realpath(_PYTHON) == interpreter:
            interpreter = _PYTHON
    main = Path(dkimpipe.__file__).resolve().with_name("__main__.py")
    return [interpreter, job.python, str(main), *filter(None, [job.verb])]
