"""A DNS panel that takes no updates (RFC 2136): a name server, and a program that changes its zone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple

from nameserver import NameServer

PROGRAM = f"""#!{sys.executable} -IS
import json, os, sys
action, name, ttl = sys.argv[1:]
value, description = sys.stdin.read().splitlines()
with open("DIRECTORY/calls", "a") as calls:
    calls.write(json.dumps([action, name, ttl, value, json.loads(description)]) + "\\n")
with open("DIRECTORY/zone.json") as file:
    zone = json.load(file)
values = [each for each in zone.pop(name, []) if each != value] + [value] * (action == "add")
zone.update({{name: values}} if values else {{}})
with open("DIRECTORY/zone.json.new", "w") as file:
    json.dump(zone, file)
os.rename("DIRECTORY/zone.json.new", "DIRECTORY/zone.json")
"""


class Call(NamedTuple):
    """How the program was called: its arguments, and the two lines of its standard input."""

    action: str
    name: str
    ttl: str
    value: str
    description: dict[str, object]


class Panel(NameServer):
    """A name server whose records are in a file, which the program ``command`` changes.

    A context manager; ``directory`` is where the file, the program and its log are.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory
        self.command = self.program(PROGRAM.replace("DIRECTORY", str(directory)))
        self.set({})

    @property
    def look_at(self) -> str:
        return f"--look-at=127.0.0.1#{self.port}"

    def program(self, text: str, name: str = "change-dns", mode: int = 0o755) -> Path:
        """Write a program and return its path."""
        path = self.directory / name
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def set(self, records: dict[str, list[str]]) -> None:
        """Replace all records."""
        (self.directory / "zone.json").write_text(json.dumps(records))

    @property
    def zone(self) -> dict[str, list[str]]:
        """The records."""
        found: dict[str, list[str]] = json.loads((self.directory / "zone.json").read_text())
        return found

    def calls(self) -> list[Call]:
        """Return how the program was called since this was last asked."""
        path = self.directory / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [Call(*json.loads(line)) for line in lines]

    def answer(self, wire: bytes, transport: str) -> bytes:
        self.records = {name: [each.encode() for each in values] for name, values in self.zone.items()}
        return super().answer(wire, transport)
