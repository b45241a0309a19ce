"""``dkimpipe audit`` on a log of a test: the configuration that it reads, lines, and its verdicts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import in_memory
import pytest
from conftest import MAIN, Done
from measure import Cost, cost

from dkimpipe.admin.audit import verdict
from dkimpipe.admin.audit.events import Signature
from dkimpipe.admin.audit.message import Deferred
from dkimpipe.admin.audit.site import Site
from dkimpipe.admin.audit.timestamps import Clock
from dkimpipe.admin.audit.trace import Trace
from dkimpipe.admin.audit.verdict import Verdict
from dkimpipe.admin.postfix.postconf import Postconf

STAMP = "2026-11-27T07:02:05.123456+00:00"
NOW = 1795762925 + 3600.0  # an hour later
MAIN_CF = """\
compatibility_level = 3.6
mynetworks = 127.0.0.0/8 [::1]/128 192.0.2.0/24 [2001:db8:1::]/48
mydestination = mx.test
relay_domains = backup.test
virtual_alias_domains = alias.test
"""
MASTER_CF = """\
smtp inet n - n - - smtpd -o content_filter=dkimpipe-verify:dummy
587 inet n - n - - smtpd -o syslog_name=postfix/users -o content_filter=dkimpipe:dummy
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
pickup unix n - n 60 1 pickup
dkimpipe unix - n n - 4 pipe flags=q null_sender= user=nobody
  argv=/opt/dkimpipe/bin/dkimpipe -f ${sender} -- ${recipient}
dkimpipe-verify unix - n n - 4 pipe flags=q null_sender= user=games
  argv=/opt/dkimpipe/bin/dkimpipe verify -f ${sender} -- ${recipient}
spamassassin unix - n n - - pipe user=bin
  argv=/usr/bin/spamc -e /usr/sbin/sendmail -oi -f ${sender} ${recipient}
"""
SIGNER, VERIFIER, USER = 65534, 5, 33  # nobody, games, www-data


def configuration(directory: Path) -> Path:
    """Return a new configuration directory of a Postfix that signs and verifies."""
    directory.mkdir(exist_ok=True)
    (directory / "main.cf").write_text(MAIN_CF)
    (directory / "master.cf").write_text(MASTER_CF)
    return directory


def lines(text: str, stamp: str = STAMP, path: str = "postfix/") -> str:
    """Return lines of a log for lines such as ``smtpd ABCDEF1: client=...``."""
    pairs = (line.strip().split(" ", 1) for line in text.strip().splitlines())
    return "".join(f"{stamp} mx {_named(program, path)}[123]: {rest}\n" for program, rest in pairs)


def _named(program: str, path: str) -> str:
    return program if "/" in program or program == "opendkim" else path + program


def traced(
    site: Site, logs: Iterable[bytes], since: float = NOW - 7 * 86400, reference: float = NOW
) -> tuple[list[Verdict], list[Deferred], Trace]:
    """Return the verdicts, what is deferred, and the trace."""
    verdicts: list[Verdict] = []
    trace = Trace(site, since, verdicts.append, verdicts.clear)
    for log in logs:
        trace.read([log], Clock(reference))
    return verdicts, trace.finish(), trace


def site_of(directory: Path) -> Site:
    """Return the facts of a configuration."""
    return Site(Postconf(directory))


def audit(
    *arguments: str, log: bytes | None = None, env: dict[str, str] | None = None, user: int | None = None
) -> Done:
    """Run ``dkimpipe audit ARGUMENTS < log``."""
    if user is None:
        return in_memory.verb("audit", *arguments, stdin=log or b"", env=env)
    done = subprocess.run(
        [sys.executable, str(MAIN), "audit", *arguments],
        input=log,
        capture_output=True,
        env=env,
        user=user,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr.decode())


def recent(days: float = 0) -> str:
    """Return an RFC 3339 time stamp of so many days ago."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.000000+00:00", time.gmtime(time.time() - 60 - days * 86400))


def sent(queue_id: str, to: str = "bob@example.net") -> str:
    """Return the lines of a delivery by smtp(8), and of the end."""
    return (
        f"smtp {queue_id}: to=<{to}>, relay=mx.example.net[198.51.100.1]:25, delay=0.1, delays=0/0/0/0.1, "
        f"dsn=2.0.0, status=sent (250 ok)\nqmgr {queue_id}: removed\n"
    )


def queued(queue_id: str, sender: str, message_id: str = "<1@x>", recipients: int = 1) -> str:
    """Return the lines of cleanup(8) and qmgr(8) for a new message."""
    return (
        f"cleanup {queue_id}: message-id={message_id}\n"
        f"qmgr {queue_id}: from=<{sender}>, size=300, nrcpt={recipients} (queue active)\n"
    )


def filtered(queue_id: str, report: str, to: str = "bob@example.net", service: str = "dkimpipe") -> str:
    """Return the line of a delivery to the filter."""
    text = f"dkimpipe: {report}"[:100]
    return (
        f"pipe {queue_id}: to=<{to}>, relay={service}, delay=0.9, delays=0/0/0/0.9, dsn=2.0.0, "
        f"status=sent (delivered via {service} service ({text}))\n"
    )


# One message.

Q1, Q2, Q3 = "07CF823D69C", "0262123D6B8", "1ADC623D6AB"
LONG_NAME = "a" * 54 + ".example.com"
LONG = ("4jbPVc6mtmzKh01", "4jbPVd07DzzKh09")
SIGNED = "signed d=example.com s=mail a=rsa-sha256; from=a; message-id=<1@x>"
MAIL = Signature("example.com", "mail", "dkimpipe")
OPENDKIM = Signature("example.com", "od", "opendkim")
SENDER = "a@example.com"


def submitted(
    queue_id: str = Q1, client: str = "far[203.0.113.9], sasl_method=PLAIN, sasl_username=al"
) -> str:
    """Return the lines of a new message from a client."""
    return f"smtpd {queue_id}: client={client}\n{queued(queue_id, SENDER)}"


def returned(queue_id: str = Q2, uid: int = SIGNER) -> str:
    """Return the lines of a message from sendmail(1): by default, what the filter brings back."""
    return f"pickup {queue_id}: uid={uid} from=<{SENDER}>\n{queued(queue_id, SENDER)}"


def unsigned(kind: str, source: str, reason: str = verdict.NOT_FILTERED) -> Verdict:
    """Return the verdict on a message of example.com that left unsigned."""
    return Verdict("unsigned", (), kind, source, "example.com", reason)


END = f"qmgr {Q1}: removed\n"
SIGNED_VERDICT = Verdict("signed", (MAIL,), domain="example.com")
UNKNOWN = Verdict("unknown", domain="example.com")
FORWARDED = Verdict("forwarded", domain="example.com")
LOGIN = ("submission", "postfix, login al")
NO_ENTRY = "not signed: no entry for a@example.com; from=a@example.com"
AMAVIS = (
    f"smtp {Q1}: to=<b@y.test>, relay=127.0.0.1[127.0.0.1]:10024, delay=1, delays=0/0/0/1, dsn=2.0.0, "
    f"status=sent (250 2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as {Q2})\n"
)
STRANGER = "far[203.0.113.9]"
SIGNED_WAY = submitted() + returned() + filtered(Q1, SIGNED) + END + sent(Q2)


def written(path: Path, octets: bytes, days: float = 0) -> Path:
    """Return a file that was last written to so many days ago."""
    path.write_bytes(octets)
    os.utime(path, (time.time() - days * 86400,) * 2)
    return path


def json_report(*arguments: str, status: int = 78, log: bytes | None = None) -> dict[str, int]:
    """Return the report of ``dkimpipe audit --json``, which has to end with this status."""
    done = audit("--json", *arguments, log=log)
    assert (done.status, done.stderr) == (status, "")
    found: dict[str, int] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def etc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration directory of a Postfix that signs and verifies."""
    return configuration(tmp_path_factory.mktemp("etc"))


@pytest.fixture(scope="module")
def audited(etc: Path) -> Site:
    return site_of(etc)


# A large log.

_CLIENT = "far[203.0.113.9]"
_REPORT = "signed d=example.com s=mail a=rsa-sha256; from=a; message-id=<1@x>"


def mixed(octets: int, stamp: str) -> Iterator[bytes]:
    """Yield a log of so many octets, in which no message is like another; a few stay in the queue."""
    first = done = 0
    while done < octets:
        block = "".join(lines(one_of_many(number), stamp) for number in range(first, first + 200)).encode()
        first, done = first + 200, done + len(block)
        yield block


def one_of_many(number: int) -> str:
    """Return a message that was signed, or in one case of three was not, or in one of 300 stays."""
    one, two = f"{number % 0xFFFFF:05X}AAAAAA", f"{number % 0xFFFFF:05X}BBBBBB"
    sender, message_id = f"user{number}@d{number % 50_000}.test", f"<{number}.{number}@host{number}.test>"
    came = f"smtpd connect from {_CLIENT}\nsmtpd {one}: client=h[192.0.2.7], sasl_method=PLAIN, "
    came += f"sasl_username=u{number}\n{queued(one, sender, message_id)}"
    came += f"smtpd disconnect from {_CLIENT} ehlo=1 mail=1 rcpt=1 data=1 quit=1 commands=5\n"
    if number % 3:
        back = f"pickup {two}: uid={SIGNER} from=<{sender}>\n{queued(two, sender, message_id)}"
        return came + back + filtered(one, _REPORT) + f"qmgr {one}: removed\n" + sent(two)
    return came + sent(one) if number % 100 else came


def generated(directory: Path, octets: int) -> Path:
    """Return a new log of so many octets."""
    path = directory / f"{octets}.log"
    with path.open("wb") as file:
        file.writelines(mixed(octets, recent()))
    return path


class Measured(NamedTuple):
    """What an audit of a log costs, beside wc(1) and gzip(1) in the same run."""

    megabytes: int
    cost: Cost
    counting: Cost
    packing: Cost

    def __str__(self) -> str:
        cpu = self.cost.cpu
        ratios = f"{cpu / self.counting.cpu:.0f} times wc -l, {cpu / self.packing.cpu:.1f} times gzip -1"
        return f"{self.megabytes} MB: {cpu:.1f} s, {ratios}; {self.cost.memory >> 10} MiB"


def measured(configuration: Path, directory: Path, megabytes: int) -> Measured:
    """Measure the audit of a new log, which is removed."""
    log = generated(directory, megabytes * 1_000_000)
    finds_something = ["/bin/sh", "-c", '"$@"; [ $? = 78 ]', "sh"]
    command = [sys.executable, str(MAIN), "audit", "--cron", "-c", str(configuration), str(log)]
    commands = ([*finds_something, *command], ["/usr/bin/wc", "-l", str(log)], ["/bin/gzip", "-1c", str(log)])
    costs = [cost(command, Path(os.devnull)) for command in commands]
    log.unlink()
    return Measured(megabytes, *costs)
