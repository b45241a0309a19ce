"""Publish and delete records by dynamic update (RFC 2136), signed with TSIG (RFC 8945).

Every query and update is signed, and so must every answer be. A name is queried first; an update has the
previous contents as its prerequisite, so that the server refuses it after a concurrent change; then the name
is queried again. Only the TXT records of that one name are changed.
"""

from __future__ import annotations

import argparse
import base64
import re
from collections.abc import Sequence
from typing import NamedTuple

import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.tsig
import dns.update
from dns.rdtypes.ANY.TXT import TXT

from dkimpipe.admin.dns import mangled
from dkimpipe.admin.dns.formats import strings
from dkimpipe.admin.dns.record import Record
from dkimpipe.admin.dns.server_option import FORM, server
from dkimpipe.errors import ConfigError, for_shell, printable
from dkimpipe.files import open_file, why
from dkimpipe.verify.nameserver import Server

_MAX_RECORD = 65000  # bytes: a message holds more, but also names and the signature
TIMEOUT = 10.0  # seconds for one query
_MAX_KEY_FILE = 65536
_UDP_LIMIT = 512  # bytes, RFC 1035 section 4.2.1
_OPEN_TO_OTHERS = 0o026  # the mode bits that a private key must not have either
_ALGORITHMS = {
    "hmac-md5": dns.tsig.HMAC_MD5,
    "hmac-sha1": dns.tsig.HMAC_SHA1,
    "hmac-sha224": dns.tsig.HMAC_SHA224,
    "hmac-sha256": dns.tsig.HMAC_SHA256,
    "hmac-sha384": dns.tsig.HMAC_SHA384,
    "hmac-sha512": dns.tsig.HMAC_SHA512,
}
_TOKEN = re.compile(r'/\*.*?\*/|//[^\n]*|#[^\n]*|("[^"\n]*"|[{};]|[^\s{};"]+)', re.DOTALL)

# Answers of a server, and their hints.
_REFUSALS = {
    dns.rcode.REFUSED: (
        "refused the request (REFUSED)",
        "permit it for this key: update-policy or allow-update",
    ),
    dns.rcode.NOTAUTH: ("is not authoritative for the zone (NOTAUTH)", "name its primary server: --server"),
    dns.rcode.NOTZONE: ("reports that the name is not in the zone (NOTZONE)", "name its zone: --zone"),
    dns.rcode.NOTIMP: ("does not accept updates (NOTIMP)", "name the zone's primary server: --server"),
    dns.rcode.NXRRSET: ("has different records from a moment ago (NXRRSET)", "try again"),
    dns.rcode.YXRRSET: ("has records that did not exist a moment ago (YXRRSET)", "try again"),
    dns.rcode.SERVFAIL: ("failed (SERVFAIL)", "see its log"),
}
_UNSIGNED = ("sent an answer that is damaged or not signed", "check that it supports TSIG")
_TSIG_FAULTS: dict[type[dns.exception.DNSException], tuple[str, str]] = {
    dns.tsig.PeerBadKey: ("does not know this key (BADKEY)", "name and algorithm must match the server's"),
    dns.tsig.PeerBadSignature: (
        "has a different secret for this key (BADSIG)",
        "copy the secret from the server",
    ),
    dns.tsig.PeerBadTime: ("has a different time (BADTIME)", "set both clocks: the limit is five minutes"),
    dns.exception.FormError: _UNSIGNED,
}


class Change(NamedTuple):
    """A change of a name: ``before`` and ``after`` are all its TXT records, None if there are none."""

    name: dns.name.Name
    zone: dns.name.Name
    before: dns.rdataset.Rdataset | None
    after: dns.rdataset.Rdataset | None

    @property
    def word(self) -> str:
        """The outcome, for output."""
        if self.after is None:
            return "deleted" if self.before else "not there"
        if self.before is None:
            return "added"
        same = _values(self.before) == _values(self.after) and self.before.ttl == self.after.ttl
        return "already there" if same else "replaced"


class Primary:
    """The primary server of a zone, which takes updates.

    ``key``      signs queries and updates, and authenticates the answers
    ``timeout``  seconds for one query
    """

    def __init__(self, server: Server, key: dns.tsig.Key, timeout: float = TIMEOUT) -> None:
        self.server = server
        self.key = key
        self.timeout = timeout

    def __str__(self) -> str:
        return str(self.server)

    def zone_of(self, name: dns.name.Name) -> dns.name.Name:
        """Return the zone that a name is in, by its SOA record (RFC 2308 section 2). Raises ConfigError."""
        answer = self._ask(dns.message.make_query(name, "SOA"), name)
        for rrset in answer.answer + answer.authority:
            if rrset.rdtype == dns.rdatatype.SOA and name.is_subdomain(rrset.name):
                return rrset.name
        raise ConfigError(
            f"{_text(name)}: {self} is not authoritative for its zone", "name its primary server: --server"
        )

    def texts(self, name: dns.name.Name, zone: dns.name.Name) -> dns.rdataset.Rdataset | None:
        """Return the TXT records of a name itself, None if it has none. Raises ConfigError."""
        answer = self._ask(dns.message.make_query(name, "TXT"), name)
        for rrset in answer.answer:
            if rrset.name != name or not self._has(name, rrset.rdtype, zone):
                continue
            if rrset.rdtype == dns.rdatatype.CNAME:
                target = _text(rrset[0].target)
                raise ConfigError(
                    f"{_text(name)} is an alias (CNAME) of {target}", "publish the record there"
                )
            return rrset.to_rdataset()
        return None

    def _has(self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType, zone: dns.name.Name) -> bool:
        """Return whether records are the name's own: update prerequisites (RFC 2136) ignore wildcards."""
        update = dns.update.UpdateMessage(zone)
        update.present(name, rdtype)
        return self._ask(update, name, dns.rcode.NXRRSET).rcode() == dns.rcode.NOERROR

    def make(self, change: Change) -> None:
        """Request a change, provided that the name has not changed meanwhile. Raises ConfigError."""
        update = dns.update.UpdateMessage(change.zone)
        if change.before is None:
            update.absent(change.name, "TXT")
        else:
            update.present(change.name, *change.before)
        if change.after is None:
            update.delete(change.name, "TXT")
        else:
            update.replace(change.name, change.after)
        self._ask(update, change.name)

    def _ask(
        self, message: dns.message.Message, name: dns.name.Name, also: dns.rcode.Rcode = dns.rcode.NXDOMAIN
    ) -> dns.message.Message:
        """Return the authenticated answer, if its code is NOERROR or ``also``. Raises ConfigError."""
        message.use_tsig(self.key)
        try:
            answer = self._exchange(message)
        except dns.exception.Timeout:
            fault, hint = (
                f"did not answer within {self.timeout:g} seconds",
                "check that it is running and port 53 is open",
            )
        except OSError as error:
            fault, hint = f"cannot be queried: {why(error)}", ""
        except dns.exception.DNSException as error:
            fault, hint = _TSIG_FAULTS.get(type(error), (f"sent an invalid answer: {error}", ""))
        else:
            code = answer.rcode()
            if answer.had_tsig and code in (dns.rcode.NOERROR, also):
                return answer
            fault, hint = _REFUSALS.get(code, (f"answered {dns.rcode.to_text(code)}", ""))
            if code == dns.rcode.NOERROR:
                fault, hint = _UNSIGNED
        raise ConfigError(f"{_text(name)}: {self} {fault}", hint)

    def _exchange(self, message: dns.message.Message) -> dns.message.Message:
        """Return the answer to a message. TCP is used for large messages and answers."""
        if len(message.to_wire()) > _UDP_LIMIT:
            return dns.query.tcp(message, self.server.address, self.timeout, self.server.port)
        answer, _ = dns.query.udp_with_fallback(
            message, self.server.address, self.timeout, self.server.port, ignore_unexpected=True
        )
        return answer


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Describe the options of an update."""
    add = group.add_argument
    add("--server", type=server, metavar=FORM, help="the zone's primary server")
    add("--tsig", metavar="FILE", help="the TSIG key file, as written by tsig-keygen(8)")


def primary(options: argparse.Namespace) -> Primary:
    """Return the server that the options of an update name. Raises ConfigError."""
    return Primary(options.server, read_tsig_key(options.tsig), options.timeout or TIMEOUT)


class DynamicUpdate:
    """A primary server, and the zone of all names, or '' to ask the server."""

    def __init__(self, primary: Primary, zone: str) -> None:
        self._primary = primary
        self._zone = zone

    def texts(self, name: str) -> list[bytes]:
        """Return all TXT records of a name, as the server that takes updates has them. Raises ConfigError."""
        owner = dns.name.from_text(name)
        there = self._primary.texts(owner, _zone(self._primary, owner, self._zone))
        return _values(there) if there else []

    def publish(self, records: Sequence[Record], ttl: int, replace: bool) -> None:
        """Publish records; see ``publish``."""
        publish(self._primary, records, ttl, self._zone, replace)

    def delete(self, records: Sequence[Record], ttl: int, replace: bool) -> None:
        """Delete records; see ``delete``."""
        delete(self._primary, records, self._zone, replace)


class OccupiedError(ConfigError):
    """There is another TXT record at a name."""


def publish(primary: Primary, records: Sequence[Record], ttl: int, zone: str, replace: bool) -> None:
    """Publish records, and print the outcome for each. Raises ConfigError.

    Another TXT record at a name is an OccupiedError, before anything is changed, unless ``replace`` is set.
    ``zone``: the zone of all names, or '' to ask the server.
    """
    _carry_out(primary, [(record, _rdataset(record.value, ttl)) for record in records], zone, replace)


def delete(primary: Primary, records: Sequence[Record], zone: str, replace: bool) -> None:
    """Delete records from DNS; otherwise like ``publish``."""
    _carry_out(primary, [(record, None) for record in records], zone, replace)


def _carry_out(
    primary: Primary, wanted: Sequence[tuple[Record, dns.rdataset.Rdataset | None]], zone: str, replace: bool
) -> None:
    changes = []
    for record, after in wanted:
        name = dns.name.from_text(record.name)
        origin = _zone(primary, name, zone)
        change = Change(name, origin, primary.texts(name, origin), after)
        if change.before and change.after:
            mangled.refuse_exposed(record.name, _values(change.before), record.value)
        if change.before and not replace and _values(change.before) != [record.value.encode()]:
            there = " and ".join([f"'{printable(value, 500)}'" for value in _values(change.before)])
            raise OccupiedError(f"{record.name} has another TXT record: {there}", "--replace overwrites it")
        changes.append(change)
    for change in changes:
        if change.word not in ("already there", "not there"):
            primary.make(change)
            _read_back(primary, change)
        print(f"{_text(change.name)}: {change.word}")


def _zone(primary: Primary, name: dns.name.Name, zone: str) -> dns.name.Name:
    if not zone:
        return primary.zone_of(name)
    origin = dns.name.from_text(zone)
    if not name.is_subdomain(origin):
        raise ConfigError(f"{_text(name)} is not in the zone {zone}")
    return origin


def _read_back(primary: Primary, change: Change) -> None:
    there = primary.texts(change.name, change.zone)
    if (_values(there) if there else []) != (_values(change.after) if change.after else []):
        raise ConfigError(
            f"{_text(change.name)}: {primary} accepted the update, but does not serve it", "see its log"
        )


def _rdataset(value: str, ttl: int) -> dns.rdataset.Rdataset:
    octets = [string.encode() for string in strings(value)]
    if sum(len(string) + 1 for string in octets) > _MAX_RECORD:
        raise ConfigError(f"a record of {len(value)} bytes is too long for DNS", "shorten --notes")
    return dns.rdataset.from_rdata(ttl, TXT(dns.rdataclass.IN, dns.rdatatype.TXT, octets))


def _values(rdataset: dns.rdataset.Rdataset) -> list[bytes]:
    """Return the values of TXT records, with the strings of each joined, sorted."""
    return sorted(b"".join(rdata.strings) for rdata in rdataset)


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True)


def read_tsig_key(path: str) -> dns.tsig.Key:
    """Return the key of a file as written by tsig-keygen(8), which only its owner and group can read.

    ``key "NAME" { algorithm hmac-sha256; secret "BASE64"; };``  Raises ConfigError; never shows the secret.
    """
    descriptor, status = open_file(path, "TSIG key file")
    with open(descriptor, "rb") as file:
        mode = status.st_mode & 0o777
        if mode & _OPEN_TO_OTHERS:
            hint = f"chmod {mode & 0o640:04o} {for_shell(path)}"
            raise ConfigError(f"TSIG key file {path} is accessible to others (mode {mode:04o})", hint)
        text = file.read(_MAX_KEY_FILE).decode("utf-8", "replace")
    words = [word.strip('"') for word in _TOKEN.findall(text) if word]
    if words[:1] != ["key"] or words[2:3] != ["{"] or "}" not in words or words.count("{") > 1:
        hint = 'create one with tsig-keygen(8): key "NAME" { algorithm hmac-sha256; secret "..."; };'
        raise ConfigError(f"TSIG key file {path} does not contain exactly one key", hint)
    inside = words[3 : words.index("}")]
    return _tsig_key(path, words[1], dict(zip(inside[::3], inside[1::3])))


def _tsig_key(path: str, name: str, statements: dict[str, str]) -> dns.tsig.Key:
    algorithm = statements.get("algorithm", "").lower()
    if algorithm not in _ALGORITHMS:
        raise ConfigError(f"TSIG key file {path}: unknown algorithm", f"supported: {', '.join(_ALGORITHMS)}")
    try:
        secret = base64.b64decode(statements.get("secret", ""), validate=True)
        if not secret:
            raise ValueError("no secret")
        return dns.tsig.Key(dns.name.from_text(name), secret, _ALGORITHMS[algorithm])
    except (ValueError, dns.exception.DNSException):
        raise ConfigError(f"TSIG key file {path}: invalid name or secret") from None
