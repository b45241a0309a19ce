"""A TXT record in a file: each format of ``dkimpipe dns``, a zone file, the answer of a program, or its text.

The programs are dig(1), host(1), nslookup(1), also that of Windows, servers of DNS over HTTPS and the API of
hosting providers (JSON), dnsmasq(8), and those that write CSV. In a text of any other form it is the only
``v=DKIM1`` (module ``recordtext``). A record of another name is an error, unless the name is an alias of it;
so is a record without a name in a file in which only other names are.
"""

from __future__ import annotations

import csv
import json
import re

from dkimpipe.errors import ConfigError, for_shell, printable
from dkimpipe.verify import recordtext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_STRING = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPED = re.compile(rb"\\([0-9]{3}|.)", re.DOTALL)
_RECORD = re.compile(
    rb"(?im)(?:^|[ \t])(?:TXT\s+(?:[\w.-]+\s+){0,2}[(\s]*|text[ \t]*=\s*|descriptive[ \t]+text[ \t]+)(?=\")"
    rb"|\A\s*\(?\s*(?=\")"
)
_WORD = re.compile(rb"[^\s\"'();]+")
_OWNER = re.compile(rb"(?i)(?:update[ \t]+add[ \t]+)?([^\s\"();]+)")
_NAME = re.compile(rb"[\w*-]+(?:\.[\w-]+)*\.?")
_TINYDNS = re.compile(rb"(?m)^'([^:\s]+):([^:\n]*):[0-9]*\r?$")
_TINYDNS_OCTETS = re.compile(rb"(?m)^:([^:\s]+):16:([^:\n]*):[0-9]*\r?$")
_PLAIN = re.compile(rb"([A-Za-z0-9_-]+\.[A-Za-z0-9._-]+)\r?\n([^\"\r\n][^\r\n]*)")
_OCTAL = re.compile(rb"\\([0-7]{3})")
_COMMENT = re.compile(rb'(?m)^[ \t]*;.*$|(?<=[")]);.*$|(?<=[")])[ \t]+;.*$')
_BASE64 = re.compile(rb"[A-Za-z0-9+/\s]+={0,2}")
_TAG = re.compile(rb"\s*[A-Za-z]\s*=")
_SSH = re.compile(rb"ssh-[a-z0-9]+ AAAA")
_SEQUENCE = b"\x30"  # the first octet of a key in DER
_KEY = 40  # characters of base64: the shortest, of Ed25519, has 44
_FORM = "give the record, as dkimpipe dns or dig(1) prints it, or a key in PEM"

_BYTE_ORDER_MARKS = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be", b"\xef\xbb\xbf": "utf-8"}
_TARGETS = re.compile(rb'\A(?:[\w.-]+\.\s+)+(?=")')  # of aliases, as dig +short prints them
_ALIAS = re.compile(
    rb"(?im)^([\w.-]+)[ \t](?:[ \tA-Z0-9]*[ \t]CNAME[ \t]+|is an alias for |canonical name = )([\w.-]+)"
)
_ORIGIN = re.compile(rb"(?im)^\$ORIGIN[ \t]+([\w.-]+)")
_NOT_OWNER = re.compile(rb"(?i)IN|TXT|text|[0-9]+[smhdw]?|@?")  # what a line without an owner begins with
_UNQUOTED = re.compile(rb"(?im)^([\w.-]+)[ \t](?:[ \tA-Z0-9]*[ \t])?TXT[ \t]+(v=[^\r\n]*)$")
_DNSMASQ = re.compile(rb"(?m)^txt-record=([^,\s]+),([^\r\n]+)")
_POWERSHELL = re.compile(
    rb"(?m)^Strings[ \t]*:[ \t]*\{|^Name[ \t]+Type[ \t]+TTL[ \t]+Section[ \t]+Strings"
    rb"|^HostName[ \t]+RecordType[ \t]+Type[ \t]"
)
# Of dkimpipe and Route 53, of DNS over HTTPS, of PowerDNS and Cloudflare.
_VALUES = ("value", "data", "content")
_MAX_ALIASES = 8

_Records = list[tuple[bytes, bytes]]  # each with its name, empty if it has none


def text(octets: bytes, name: str, path: str) -> bytes:
    """Return the text of a record in a file: the one of this name, or the only one if it has no name.

    These are the octets themselves if they have none of the known formats. Raises ConfigError.
    """
    octets = _as_utf8(octets)
    records = _records(octets)
    if not records:
        fault, hint = _fault(octets.strip(), name, path)
        if fault:
            raise ConfigError(f"key file {path} {fault}", hint)
        if _TAG.match(octets):
            return octets.strip()
        records = [(b"", value) for value in recordtext.values(octets)]
    names = [name, *_targets(octets, name)]
    found = {value for owner, value in records if any(_fits(owner, each) for each in names)}
    if len(records) == 1:
        owner, value = records[0]
        others = [owner] if owner else recordtext.names(_COMMENT.sub(b"", octets))
        if found or not others or any(_fits(other, each) for other in others for each in names):
            return value
        other = printable(others[0])
        raise ConfigError(f"key file {path} contains the record of {other}, not of {name}", _FORM)
    if not records:
        raise ConfigError(f"key file {path} contains no record", _FORM)
    if len(found) != 1:
        count = f"{len(found)} records" if found else "no record"
        raise ConfigError(f"key file {path} contains {count} for {name}, of {len(records)}", _FORM)
    return found.pop()


def _as_utf8(octets: bytes) -> bytes:
    """Return a text without its byte order mark, and in UTF-8."""
    for mark, codec in _BYTE_ORDER_MARKS.items():
        if octets.startswith(mark):
            return octets[len(mark) :].decode(codec, "replace").encode()
    if octets[:1] and b"\0" in octets[:2]:
        codec = "utf-16-le" if octets[0] else "utf-16-be"
        return octets.decode(codec, "replace").encode()
    return octets


def _fits(owner: bytes, name: str) -> bool:
    """Return whether the owner of a record is this name, or relative to its zone."""
    labels = owner.decode("latin-1").lower()
    if labels.endswith("."):
        return labels == f"{name}."
    return f"{name}.".startswith(f"{labels}.") if labels else False


def _targets(octets: bytes, name: str) -> Iterator[str]:
    """Yield the names that a name is an alias of, one after another."""
    aliases = {owner.lower().rstrip(b"."): target for owner, target in _aliases(octets)}
    for _ in range(_MAX_ALIASES):
        target = aliases.get(name.encode())
        if not target:
            break
        name = target.decode().lower().rstrip(".")
        yield name


def _aliases(octets: bytes) -> Iterable[tuple[bytes, bytes]]:
    if octets.strip()[:1] in (b"[", b"{"):
        return _of_json(octets, ("5", "CNAME"))
    return _ALIAS.findall(octets)


def _records(octets: bytes) -> _Records:
    of_csv = _of_csv(octets)
    octets = _COMMENT.sub(b"", octets).strip()
    if octets[:1] in (b"[", b"{"):
        return _of_json(octets)
    if tinydns := _TINYDNS.findall(octets):
        return [(name, _OCTAL.sub(_from_octal, value)) for name, value in tinydns]
    if tinydns := _TINYDNS_OCTETS.findall(octets):
        return [(name, _of_octets(_OCTAL.sub(_from_octal, value))) for name, value in tinydns]
    plain = [_PLAIN.fullmatch(block) for block in re.split(rb"(?:\r?\n){2,}", octets)]
    if all(plain):
        return [(each[1], each[2]) for each in plain if each]
    if dnsmasq := _DNSMASQ.findall(octets):
        return [
            (name, b"".join(piece.strip(b' "') for piece in value.split(b","))) for name, value in dnsmasq
        ]
    if of_csv:
        return of_csv
    octets = _TARGETS.sub(b"", octets)
    found = list(_RECORD.finditer(octets))
    ends = [*[each.start() for each in found[1:]], len(octets)]
    quoted = [
        (_owner(octets, each.start(), each.end()), _joined(octets, each.end(), end))
        for each, end in zip(found, ends)
    ]
    escaped = [(name, value) for name, value in _UNQUOTED.findall(octets) if not _ends_early(value)]
    return quoted + [(name, _ESCAPED.sub(_unescaped, value)) for name, value in escaped]


def _ends_early(value: bytes) -> bool:
    """Return whether a server would read a part of an unquoted value: the rest is a comment, or a string."""
    return re.search(rb"(?<!\\);", value) is not None


def _of_csv(octets: bytes) -> _Records:
    """Return the records in lines of which one cell is TXT, one the name, and one the value."""
    records = []
    lines = octets.decode("utf-8", "surrogateescape").splitlines()
    rows = [row for separator in ",;" for row in csv.reader(lines, delimiter=separator)]
    rows += [line.split("\t") for line in lines if '"' not in line]
    for row in rows:
        cells = [cell.strip().encode("utf-8", "surrogateescape") for cell in row]
        values = [cell for cell in cells if cell.lstrip(b'"').startswith(b"v=DKIM1") and b"p=" in cell]
        if values and b"TXT" in map(bytes.upper, cells):
            names = [cell for cell in cells if _NAME.fullmatch(cell) and not _NOT_OWNER.fullmatch(cell)]
            owner = next((name for name in names if b"." in name), b"".join(names[:1]))
            value = values[0]
            records.append((owner, _joined(value, 0, len(value)) if value.startswith(b'"') else value))
    return records


def _owner(octets: bytes, at: int, end: int) -> bytes:
    """Return the name in a line, or its first word if it is one, with the origin that applies there."""
    start = octets.rfind(b"\n", 0, at + 1) + 1
    words = _WORD.findall(octets, start, end)
    found = _OWNER.match(octets, start)
    first = found[1] if found else b""
    name = next((word for word in words if b"." in word and _NAME.fullmatch(word)), first)
    origins = _ORIGIN.findall(octets, 0, at)
    if origins and name in (b"@", b""):
        return origins[-1] if name else b""
    if _NOT_OWNER.fullmatch(name) or not _NAME.fullmatch(name):
        return b""
    return b"%b.%b" % (name, origins[-1]) if origins and not name.endswith(b".") else name


def _of_octets(octets: bytes) -> bytes:
    """Return the strings of a record, each after its length (RFC 1035 section 3.3), joined."""
    text, at = b"", 0
    while at < len(octets):
        end = at + 1 + octets[at]
        text += octets[at + 1 : end]
        at = end
    return text


def _from_octal(found: re.Match[bytes]) -> bytes:
    return bytes([int(found[1], 8) & 255])


def _joined(octets: bytes, at: int, end: int) -> bytes:
    """Return the strings of a record, joined."""
    return b"".join([_ESCAPED.sub(_unescaped, string) for string in _STRING.findall(octets, at, end)])


def _of_json(octets: bytes, types: tuple[str, ...] = ("16", "TXT", "txt")) -> _Records:
    """Return the records of ``dkimpipe dns``, of DNS over HTTPS, or of the API of a provider."""
    try:
        return [
            (str(each["name"]).encode("utf-8", "replace"), value)
            for each in _objects(json.loads(octets))
            if str(each.get("type", "TXT")) in types and each.get("name")
            for value in _data(each)
        ]
    except (ValueError, RecursionError):
        return []


def _objects(found: object) -> Iterator[dict[str, object]]:
    """Yield the objects within JSON, with their names in lower case."""
    if isinstance(found, dict):
        found = {name.lower(): value for name, value in found.items()}
        yield found
        found = list(found.values())
    for each in found if isinstance(found, list) else ():
        yield from _objects(each)


def _data(record: dict[str, object]) -> Iterator[bytes]:
    """Yield the values of a record, or of a set of records."""
    inner = record.get("records", record.get("resourcerecords"))
    for each in [record, *_objects(inner)]:
        data = next((each[name] for name in _VALUES if isinstance(each.get(name), str)), None)
        if data is not None:
            octets = str(data).encode("utf-8", "surrogateescape")
            yield _joined(octets, 0, len(octets)) if octets.startswith(b'"') else octets


def _fault(octets: bytes, name: str, path: str) -> tuple[str, str]:
    """Return what a file is instead, and a hint; empty if it may contain a record."""
    if octets.startswith(_SEQUENCE) and not octets.isascii():
        return "is in DER, not in PEM", _FORM
    if octets[:1] in (b"[", b"{") and not recordtext.values(octets):
        return "contains JSON, but no TXT record", _FORM
    if _SSH.match(octets):
        hint = f"ssh-keygen -e -m PKCS8 -f {for_shell(path)} >NEWFILE converts it"
        return "contains a public key in OpenSSH format", hint
    if not octets:
        return "is empty", _FORM
    if _POWERSHELL.search(octets):
        hint = f"(Resolve-DnsName {name} -Type TXT).Strings -join '' prints the text of the record"
        return "is the output of PowerShell, which breaks or cuts lines", hint
    if _UNQUOTED.search(octets):
        hint = "write it in quotes, as dkimpipe dns does"
        return "contains a value without quotes, which ends at the first semicolon", hint
    is_bare = len(octets) >= _KEY and _BASE64.fullmatch(octets)
    return ("contains base64 alone: neither a record nor PEM", _FORM) if is_bare else ("", "")


def _unescaped(found: re.Match[bytes]) -> bytes:
    """Return the octet of an escape (RFC 1035 section 5.1)."""
    octet = found[1]
    return bytes([int(octet) & 255]) if octet.isdigit() and len(octet) > 1 else octet
