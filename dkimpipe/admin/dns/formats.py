"""TXT and CNAME records in the formats of name servers, web forms and programs.

Each format is a function that takes names without the trailing dot, US-ASCII values of any length (of a
CNAME, a name), and the time to live in seconds, and returns complete lines.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Callable

if TYPE_CHECKING:
    from dkimpipe.admin.dns.record import Record

STRING_LIMIT = 255  # bytes in one string of a TXT record, RFC 1035 section 3.3


def bind(records: Sequence[Record], ttl: int, origin: str = "") -> str:
    """Return lines of a zone file (RFC 1035 section 5.1); names below ``origin`` are relative to it."""
    return "".join([f"{_owner(r.name, origin)} {ttl} IN {zone_data(r)}\n" for r in records])


def plain(records: Sequence[Record], ttl: int) -> str:
    """Return name and value on separate lines, for a web form, with a blank line between records."""
    return "\n".join([f"{record.name}\n{record.value}\n" for record in records])


def tinydns(records: Sequence[Record], ttl: int) -> str:
    """Return lines of tinydns-data(8), which itself splits long values, at 127 bytes."""
    marks = {"TXT": "'", "CNAME": "C"}
    return "".join([f"{marks[r.type]}{r.name}:{_octal(r.value)}:{ttl}\n" for r in records])


def nsupdate(records: Sequence[Record], ttl: int) -> str:
    """Return commands of nsupdate(1): each record replaces all of its type and name."""
    return "".join(
        [
            f"update delete {record.name}. {record.type}\n"
            f"update add {record.name}. {ttl} {record.type} {_data(record)}\n"
            "send\n"  # one for each record: they may be in different zones
            for record in records
        ]
    )


def as_json(records: Sequence[Record], ttl: int) -> str:
    """Return a list of objects."""
    return json.dumps([as_object(record, ttl) for record in records], indent=2) + "\n"


def as_object(record: Record, ttl: int) -> dict[str, object]:
    """Return a record for JSON; ``strings``, of TXT only, is the value in pieces of at most 255 bytes."""
    found = {"name": record.name, "ttl": ttl, "type": record.type, "value": record.value}
    return {**found, "strings": strings(record.value)} if record.type == "TXT" else found


FORMATS: dict[str, Callable[[Sequence[Record], int], str]] = {
    "bind": bind,
    "plain": plain,
    "tinydns": tinydns,
    "nsupdate": nsupdate,
    "json": as_json,
}


def zone_data(record: Record) -> str:
    """Return the type and data of a record as in a zone file."""
    return f"TXT ( {_data(record)} )" if record.type == "TXT" else f"{record.type} {_data(record)}"


def _data(record: Record) -> str:
    return quoted(record.value) if record.type == "TXT" else f"{record.value}."


def strings(value: str) -> list[str]:
    """Return a value in pieces that a TXT record can hold."""
    return [value[at : at + STRING_LIMIT] for at in range(0, len(value), STRING_LIMIT)]


def quoted(value: str) -> str:
    """Return a value as the strings of a zone file, quoted and separated by spaces."""
    return " ".join([f'"{_escaped(string)}"' for string in strings(value)])


def _escaped(string: str) -> str:
    return string.replace("\\", "\\\\").replace('"', '\\"')


def _octal(value: str) -> str:
    return "".join([f"\\{o:03o}" if o in b":\\" or not 32 <= o < 127 else chr(o) for o in value.encode()])


def _owner(name: str, origin: str) -> str:
    if name == origin:
        return "@"
    return name[: -len(origin) - 1] if origin and name.endswith("." + origin) else name + "."
