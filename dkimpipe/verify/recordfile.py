"""A TXT record in a file: each format of ``dkimpipe dns``, a zone file, dig(1), or its text alone."""

from __future__ import annotations

import json
import re

_STRING = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPED = re.compile(rb"\\([0-9]{3}|.)", re.DOTALL)
_RECORD = re.compile(rb"(?i)(?:^|\s)TXT\s+[(\s]*(?=\")|^\s*\(?\s*(?=\")")
_TINYDNS = re.compile(rb"'[^:\s]+:([^:\n]*):[0-9]*")
_PLAIN = re.compile(rb"[A-Za-z0-9._-]+\r?\n([^\r\n]+)")
_COMMENT = re.compile(rb'(?m)^[ \t]*;.*$|(?<=[")]);.*$|(?<=[")])[ \t]+;.*$')


def text(octets: bytes) -> bytes:
    """Return the text of the one TXT record in a file; the octets themselves if it has no quoted strings."""
    octets = _COMMENT.sub(b"", octets).strip()
    if octets.startswith(b"["):
        return _of_json(octets)
    if tinydns := _TINYDNS.fullmatch(octets):
        return re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8) & 255]), tinydns[1])
    if plain := _PLAIN.fullmatch(octets):
        return plain[1]
    found = list(_RECORD.finditer(octets))
    if len(found) != 1:
        return octets
    strings = _STRING.findall(octets[found[0].end() :])
    return b"".join([_ESCAPED.sub(_unescaped, string) for string in strings])


def _of_json(octets: bytes) -> bytes:
    try:
        (record,) = json.loads(octets)
        return str(record["value"]).encode()
    except (ValueError, LookupError, TypeError, RecursionError):
        return octets


def _unescaped(found: re.Match[bytes]) -> bytes:
    """Return the octet of an escape (RFC 1035 section 5.1)."""
    octet = found[1]
    return bytes([int(octet) & 255]) if octet.isdigit() and len(octet) > 1 else octet
