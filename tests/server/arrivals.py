"""What has arrived at the receiver, and what five verifiers say of it."""

from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import NamedTuple

import house
from nameserver import NameServer
from throwaway import Machine
from witness import Records, dkimpy_verdicts, mail_dkim_verdicts, opendkim_verdicts


class Arrived(NamedTuple):
    """A message at the receiver; ``octets`` is the same."""

    message: EmailMessage
    octets: bytes

    @property
    def is_signed(self) -> bool:
        """Whether it has a signature, valid or not."""
        return "DKIM-Signature" in self.message

    def verdicts(self, records: Records) -> dict[str, list[str]]:
        """Return the verdicts on its signatures, by verifier: three here, and two that the receiver ran."""
        with NameServer(records) as server:
            (perl,) = mail_dkim_verdicts([self.octets], server.port)
        return {
            "dkimpy": dkimpy_verdicts([self.octets], records)[0],
            "libopendkim": opendkim_verdicts([self.octets], records)[0],
            "Mail::DKIM": [verdict.removeprefix("dkim:") for verdict in perl],
            "OpenDKIM at the receiver": self._written_by("opendkim.example.net"),
            "dkimpipe verify at the receiver": self._written_by("mx.example.net"),
        }

    def faults(self, records: Records) -> list[str]:
        """Return the verifiers that do not call all its signatures valid, with what they say."""
        return [f"{name}: {said}" for name, said in self.verdicts(records).items() if {*said} != {"pass"}]

    def _written_by(self, host: str) -> list[str]:
        fields = map(str, self.message.get_all("Authentication-Results", []))
        own = [field for field in fields if field.split(";")[0].strip() == host]
        return [result for field in own for result in re.findall(r"\bdkim=(\w+)", field)]


def messages(machine: Machine) -> Iterator[Arrived]:
    """Yield all that has arrived, in its order."""
    for path in sorted(Path(machine.root, house.MAILDIR[1:], "new").glob("*")):
        octets = path.read_bytes()
        yield Arrived(email.message_from_bytes(octets, policy=email.policy.default), octets)


def wait_for(machine: Machine, mark: str, seconds: float = 30) -> list[Arrived]:
    """Return the messages with this text in Subject or anywhere, one at least. Raises TimeoutError."""
    found: list[Arrived] = []

    def has_come() -> bool:
        octets = mark.encode()
        found[:] = [
            each
            for each in messages(machine)
            if octets in each.octets or mark in str(each.message["Subject"])
        ]
        return bool(found)

    house.until(has_come, f"no message with '{mark}'", seconds)
    return found


def forget(machine: Machine) -> None:
    """Delete what has arrived."""
    machine.shell(f"rm -rf {house.MAILDIR}")
