"""A server in a throwaway copy of the machine, and the SMTP sink where its mail arrives."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import witness
from installing import dkimpipe
from throwaway import Machine

from postfix import Message, Sink


def subject(message: Message) -> str:
    """Return the Subject of a message; empty if it has none."""
    found = re.search(rb"^Subject: (.*)\r$", message.data, re.MULTILINE)
    return found[1].decode() if found else ""


class Server(NamedTuple):
    """A server, where its mail goes, and the records of its key."""

    machine: Machine
    sink: Sink
    records: dict[str, list[bytes]]

    def arrived(self, *subjects: str) -> dict[str, int]:
        """Return how many signatures verify of each message, once all are there; each arrives once."""
        found = self.sink.wait(len(subjects))
        assert sorted(map(subject, found)) == sorted(subjects)
        verdicts = witness.dkimpy_verdicts([each.data for each in found], self.records)
        return {subject(each): verdict.count("pass") for each, verdict in zip(found, verdicts)}

    def message(self, name: str) -> Message:
        """Return the one message with this subject, once it is there."""
        count = len(self.sink.messages)
        is_there = name in map(subject, self.sink.messages)
        (found,) = [each for each in self.sink.wait(count + (not is_there)) if subject(each) == name]
        return found

    def hints(self, what: str) -> str:
        """Return the commands with which the check fixes this."""
        output = dkimpipe(self.machine, "check", "--postfix").stdout
        assert what in output, output
        hints = output.partition(what)[2].split("dkimpipe: ")[0].splitlines()[1:]
        return "\n".join(hint.removeprefix("hint: ") for hint in hints)


@contextlib.contextmanager
def serving(fresh: Path, commands: str) -> Iterator[Server]:
    """Yield a server on which these commands were run; ``SINK`` in them is the port of its sink."""
    with Machine(fresh, network=True) as machine, contextlib.ExitStack() as stack:
        with machine.network():
            sink = stack.enter_context(Sink())
        machine.shell(commands.replace("SINK", str(sink.port)))
        yield Server(machine, sink, {})
