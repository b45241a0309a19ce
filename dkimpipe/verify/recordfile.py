"""A TXT record in a file: each format of ``dkimpipe dns``, a zone file, the answer of a program, or its text.

The programs are dig(1), host(1), nslookup(1), also that of Windows, and servers of DNS over HTTPS (JSON).
"""

from __future__ import annotations

import json
import re

from dkimpipe.errors import ConfigError

_STRING = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPED = re.compile(rb"\\([0-9]{3}|.)", re.DOTALL)
_RECORD = re.compile(
    rb"(?im)(?:^|[ \t])(?:TXT\s+[(\s]*|text[ \t]*=\s*|descriptive[ \t]+text[ \t]+)(?=\")"
    rb"|\A\s*\(?\s*(?=\")"
)
_OWNER = re.compile(rb"(?i)(?:update[ \t]+add[ \t]+)?([^\s\"();]+)")
_TINYDNS = re.compile(rb"(?m)^'([^:\s]+):([^:\n]*):[0-9]*\r?$")
_PLAIN = re.compile(rb"([A-Za-z0-9_-]+\.[A-Za-z0-9._-]+)\r?\n([^\r\n]+)")
_COMMENT = re.compile(rb'(?m)^[ \t]*;.*$|(?<=[")]);.*$|(?<=[")])[ \t]+;.*$')
_BASE64 = re.compile(rb"[A-Za-z0-9+/\s]+={0,2}")
_SEQUENCE = b"\x30"  # the first octet of a key in DER
_KEY = 40  # characters of base64: the shortest, of Ed25519, has 44
_FORM = "give the record, as dkimpipe dns or dig(1) prints it, or a key in PEM"

_Records = list[tuple[bytes, bytes]]  # each with its name, empty if it has none


def text(octets: bytes, name: str, path: str) -> bytes:
    """Return the text of a record in a file: the only one, or the one of this name.

    These are the octets themselves if they have none of the known formats. Raises ConfigError.
    """
    records = _records(octets)
    if not records:
        if fault := _fault(octets.strip()):
            raise ConfigError(f"key file {path} {fault}", _FORM)
        return octets.strip()
    if len(records) == 1:
        return records[0][1]
    found = {value for owner, value in records if _fits(owner, name)}
    if len(found) != 1:
        count = f"{len(found)} records" if found else "no record"
        raise ConfigError(f"key file {path} contains {count} for {name}, of {len(records)}", _FORM)
    return found.pop()


def _fits(owner: bytes, name: str) -> bool:
    """Return whether the owner of a record is this name, or relative to its zone."""
    labels = owner.decode("latin-1").lower().rstrip(".")
    return f"{name}.".startswith(f"{labels}.") if labels else False


def _records(octets: bytes) -> _Records:
    octets = _COMMENT.sub(b"", octets).strip()
    if octets[:1] in (b"[", b"{"):
        return _of_json(octets)
    if tinydns := _TINYDNS.findall(octets):
        return [
            (name, re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8) & 255]), value))
            for name, value in tinydns
        ]
    plain = [_PLAIN.fullmatch(block) for block in re.split(rb"(?:\r?\n){2,}", octets)]
    if all(plain):
        return [(each[1], each[2]) for each in plain if each]
    found = list(_RECORD.finditer(octets))
    ends = [*[each.start() for each in found[1:]], len(octets)]
    return [
        (_owner(octets, each.start()), _joined(octets, each.end(), end)) for each, end in zip(found, ends)
    ]


def _owner(octets: bytes, at: int) -> bytes:
    """Return the first word of a line."""
    found = _OWNER.match(octets, octets.rfind(b"\n", 0, at + 1) + 1)
    return found[1] if found else b""


def _joined(octets: bytes, at: int, end: int) -> bytes:
    """Return the strings of a record, joined."""
    return b"".join([_ESCAPED.sub(_unescaped, string) for string in _STRING.findall(octets, at, end)])


def _of_json(octets: bytes) -> _Records:
    """Return the records of ``dkimpipe dns``, or of an answer of DNS over HTTPS."""
    try:
        found = json.loads(octets)
        answers = found.get("Answer", []) if isinstance(found, dict) else found
        return [_of_object(each) for each in answers if each.get("type", "TXT") in (16, "TXT")]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return []


def _of_object(record: dict[str, object]) -> tuple[bytes, bytes]:
    data = str(record["value"] if "value" in record else record["data"]).encode("utf-8", "surrogateescape")
    is_quoted = "data" in record and data.startswith(b'"')
    return str(record["name"]).encode("utf-8", "replace"), _joined(data, 0, len(data)) if is_quoted else data


def _fault(octets: bytes) -> str:
    """Return what a file without a record is instead; empty if it may be a record with an error."""
    if octets.startswith(_SEQUENCE) and not octets.isascii():
        return "is in DER, not in PEM"
    if octets[:1] in (b"[", b"{"):
        return "contains JSON, but no TXT record"
    if not octets:
        return "is empty"
    is_bare = len(octets) >= _KEY and _BASE64.fullmatch(octets)
    return "contains base64 alone: neither a record nor PEM" if is_bare else ""


def _unescaped(found: re.Match[bytes]) -> bytes:
    """Return the octet of an escape (RFC 1035 section 5.1)."""
    octet = found[1]
    return bytes([int(octet) & 255]) if octet.isdigit() and len(octet) > 1 else octet
