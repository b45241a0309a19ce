"""DMARC aggregate reports: RFC 9990, RFC 7489 appendix C, and what the senders of reports make of them.

The XML is read by expat in pieces, so memory does not grow with the report. There are no entities to expand:
a document type declaration is refused, which none of these formats has. Elements may be in any order and in
any case. Unknown ones are ignored, and cost nothing: so are those of other namespaces, which extensions use
(RFC 9990 section 4). The report is in the namespace of its root, whichever that is, or in none.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from xml.parsers import expat

from dkimpipe.address import as_a_labels
from dkimpipe.admin.reports.documents import Unreadable
from dkimpipe.errors import one_line

_DEEPEST = 20
_LONGEST = 1000  # characters of a value; longer ones are cut
_MOST_ROWS = 200_000  # records and signatures; true reports to a small server have hundreds
_MANY = 100  # signatures, results of SPF, or reasons of one record
_LONGEST_TAG = 1 << 20  # octets, also of a comment: expat keeps it in memory
_NAMES = 1000  # of elements and attributes: expat remembers each
_CHUNK = 1 << 16
_EARLIEST, _LATEST = 10**8, 1 << 33  # seconds since 1970; the examples of RFC 9990 are about 1979
_LONGEST_NAME = 100  # characters of an organisation, which is shown
_MOST = 1 << 40  # messages
# Results as receivers write them, by what RFC 8601 calls them.
_RESULTS = {"hardfail": "fail", "unknown": "permerror", "error": "temperror", "": "none"}
_HEAD = {
    "report_metadata/org_name",
    "report_metadata/email",
    "report_metadata/report_id",
    "report_metadata/date_range/begin",
    "report_metadata/date_range/end",
    "policy_published/domain",
    "policy_published/p",
    "policy_published/sp",
    "policy_published/np",
    "policy_published/testing",
    "policy_published/pct",
}
_VALUES = {
    "record/row/source_ip",
    "record/row/count",
    "record/row/policy_evaluated/disposition",
    "record/row/policy_evaluated/dkim",
    "record/row/policy_evaluated/spf",
    "record/identifiers/header_from",
    "record/identifiers/envelope_from",
}
_FOREIGN = ":"  # for the name of an element in another namespace
_IN_LISTS = ("domain", "selector", "result", "type", "scope")
_SCOPES = ("mfrom", "", "helo")  # of SPF: DMARC uses the envelope sender (RFC 9989 section 4.4.2)
_POLICY = ("p", "sp", "np", "testing", "pct")
_LISTS = ("record/auth_results/dkim", "record/auth_results/spf", "record/row/policy_evaluated/reason")


class Dkim(NamedTuple):
    """A signature that the receiver has verified. ``result`` as in RFC 8601; ``selector`` may be empty."""

    domain: str
    selector: str
    result: str


class Record(NamedTuple):
    """Messages that have these things in common.

    ``ip``             of the client that brought them
    ``header_from``    the domain of From, ``envelope_from`` that of the envelope sender, if it is reported
    ``disposition``    what the receiver did: none, quarantine or reject
    ``dkim_aligned``   whether a valid signature is aligned, ``spf_aligned`` whether SPF passes and is, as the
                       receiver has evaluated it; where it does not say, as the other results say (relaxed)
    ``reasons``        why the receiver did not follow the policy, such as ``forwarded``
    ``signatures``     all that the receiver reports
    ``spf``            domain and result of SPF
    """

    ip: str
    messages: int
    header_from: str
    envelope_from: str
    disposition: str
    dkim_aligned: bool
    spf_aligned: bool
    reasons: tuple[str, ...]
    signatures: tuple[Dkim, ...]
    spf: tuple[str, str]


class Reader:
    """Reads one report. After ``records`` has ended the other attributes are known.

    ``organisation``  that sent the report, ``report_id`` unique for it
    ``begin``, ``end``  seconds since 1970
    ``domain``, ``policy``  as published, in lower case: words for p=, sp= and np=, each as far as the last
                      differs from the one before; then tags that weaken it, such as t=y or pct=50
    """

    def __init__(self) -> None:
        self.organisation = self.report_id = self.domain = self.policy = ""
        self.begin = self.end = 0
        self._head: dict[str, str] = {}
        self._path: list[str] = []  # of each open element, the names from below the root to it
        self._text: list[str] = []
        self._length = 0
        self._values: dict[str, str] = {}
        self._lists: dict[str, list[dict[str, str]]] = {}
        self._names: set[str] = set()
        self._outermost = ""  # the element around the report, if any
        self._is_complete = False
        self._root = ("", "")  # its prefix, and the namespace that it declares
        self._silence = 0  # octets since the last event
        self._records: list[Record] = []
        self._rows = 0

    @property
    def identity(self) -> tuple[str, str, str, str, int, int]:
        """What is stored once for a report, after its records."""
        return self.organisation, self.report_id, self.domain, self.policy, self.begin, self.end

    def records(self, chunks: Iterator[bytes]) -> Iterator[Record]:
        """Yield the records of a report. Raises Unreadable, perhaps after some of them."""
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = _refuse_doctype
        try:
            for chunk in _without_margin(chunks):
                self._silence += len(chunk)
                if self._silence > _LONGEST_TAG:
                    raise Unreadable(f"a tag or comment of more than {_LONGEST_TAG >> 20} MiB")
                parser.Parse(chunk, False)
                yield from self._take()
            parser.Parse(b"", True)
            yield from self._take()
        except expat.ExpatError as error:
            if not (self._outermost and self._is_complete):  # its element may stay open
                what = expat.errors.messages[error.code]
                raise Unreadable(f"XML, line {error.lineno}: {what}") from None
        except (LookupError, ValueError) as error:  # an encoding that Python does not know, or not for text
            raise Unreadable(f"XML: {one_line(str(error))}") from None
        self._finish()

    def _take(self) -> list[Record]:
        found, self._records = self._records, []
        return found

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._silence = 0
        if name not in self._names or attributes:
            self._names.update((name, *attributes))
            if len(self._names) > _NAMES:
                raise Unreadable(f"more than {_NAMES:,} kinds of elements")
        prefix, _, local = name.lower().rpartition(":")
        namespace = attributes.get("xmlns", "")
        if not self._path:
            if local != "feedback":
                self._wrap(local)
                return
            if self._is_complete:
                raise Unreadable("more than one report in a file")
            self._root = prefix, namespace
        if len(self._path) == _DEEPEST:
            raise Unreadable(f"elements more than {_DEEPEST} deep")
        is_own = prefix in ("", self._root[0]) and namespace in ("", self._root[1])
        local = local if is_own else _FOREIGN
        place = f"{self._path[-1]}/{local}" if len(self._path) > 1 else local
        self._path.append(place if self._path else "")
        self._text, self._length = [], 0
        if place == "record":
            self._values, self._lists = {}, {}
        elif place in _LISTS and len(self._lists.setdefault(place, [])) < _MANY:
            self._lists[place].append({})

    def _wrap(self, name: str) -> None:
        """Pass over an element around the report: some senders begin with one of the XML schema."""
        if self._outermost or self._is_complete:
            raise Unreadable(f"XML, but not a report: <{self._outermost or one_line(name[:40])}>")
        self._outermost = one_line(name[:40])

    def _characters(self, text: str) -> None:
        self._silence = 0
        if self._length < _LONGEST:
            self._text.append(text[:_LONGEST])
            self._length += len(text)

    def _end(self, _: str) -> None:
        if not self._path:
            return
        place = self._path[-1]
        value = "".join(self._text)[:_LONGEST].strip()
        self._text = []
        parent, _, name = place.rpartition("/")
        if place == "record":
            record = _record(self._values, self._lists)
            self._records += [record] if record.messages else []
            self._rows += 1 + len(record.signatures)
            if self._rows > _MOST_ROWS:
                raise Unreadable(f"more than {_MOST_ROWS:,} records and signatures")
        elif parent in self._lists and name in _IN_LISTS:
            self._lists[parent][-1][name] = value
        elif place in _VALUES:
            self._values[place] = value
        elif place in _HEAD:
            self._head[place] = value
        self._path.pop()
        self._is_complete = not self._path
        self._silence = 0

    def _finish(self) -> None:
        if not self._is_complete:
            raise Unreadable(f"XML, but not a report: <{self._outermost}>")
        head = self._head.get
        name = head("report_metadata/org_name", "") or head("report_metadata/email", "")
        self.organisation = name[:_LONGEST_NAME]
        self.report_id = head("report_metadata/report_id", "")
        self.begin = _seconds(head("report_metadata/date_range/begin", ""))
        self.end = _seconds(head("report_metadata/date_range/end", ""))
        self.domain = _domain(head("policy_published/domain", ""))
        self.policy = _policy(*(head(f"policy_published/{tag}", "").lower() for tag in _POLICY))
        for name, value in (("org_name", self.organisation), ("domain", self.domain)):
            if not value:
                raise Unreadable(f"no {name}")
        if self.end < self.begin:
            raise Unreadable("date_range ends before it begins")


def _policy(policy: str, for_subdomains: str, for_missing: str, testing: str, percentage: str) -> str:
    words = [policy, for_subdomains or policy, for_missing or for_subdomains or policy]
    words = [word if word.isalpha() else "" for word in words]
    while len(words) > 1 and words[-1] == words[-2]:
        del words[-1]
    tags = ["t=y"] * (testing in ("y", "yes", "true"))
    if percentage.isascii() and percentage.isdigit() and percentage != "100":
        tags.append(f"pct={percentage[:3]}")
    return " ".join([*words, *tags])


def _without_margin(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield small chunks, without the empty lines that some senders put above the XML declaration."""
    is_begun = False
    for chunk in chunks:
        octets = chunk if is_begun else chunk.lstrip(b" \t\r\n")
        is_begun = is_begun or bool(octets)
        for at in range(0, len(octets), _CHUNK):
            yield octets[at : at + _CHUNK]


def _refuse_doctype(*_: object) -> None:
    raise Unreadable("XML with a document type declaration")


def _record(values: dict[str, str], lists: dict[str, list[dict[str, str]]]) -> Record:
    row = "record/row/"
    dkim, spf, reasons = (lists.get(place, []) for place in _LISTS)
    by_spf = min(spf, key=_scope, default={})
    header_from = _domain(values.get("record/identifiers/header_from", "").rpartition("@")[2])
    signatures = tuple(
        Dkim(_domain(each.get("domain", "")), each.get("selector", "").lower(), _result(each))
        for each in dkim
        if each.get("domain")
    )
    by_dkim = [(each.domain, each.result) for each in signatures]
    checked = _domain(by_spf.get("domain", "")), _result(by_spf)
    return Record(
        _address(values.get(f"{row}source_ip", "")),
        _count(values.get(f"{row}count", "")),
        header_from,
        _domain(values.get("record/identifiers/envelope_from", "").rpartition("@")[2]),
        values.get(f"{row}policy_evaluated/disposition", "").lower(),
        # A domain is aligned with itself, also with adkim=s and whatever the receiver writes elsewhere.
        (header_from, "pass") in by_dkim
        or _passes(values.get(f"{row}policy_evaluated/dkim", ""), by_dkim, header_from),
        _passes(values.get(f"{row}policy_evaluated/spf", ""), [checked], header_from),
        tuple(filter(None, [reason.get("type", "").lower() for reason in reasons])),
        signatures,
        checked,
    )


def are_aligned(domain: str, header_from: str) -> bool:
    """Return whether a domain is aligned with From: relaxed, without queries."""
    if "." not in domain:
        return False
    return domain == header_from or domain.endswith(f".{header_from}") or header_from.endswith(f".{domain}")


def _passes(evaluated: str, results: Iterable[tuple[str, str]], header_from: str) -> bool:
    if evaluated:
        return evaluated.lower() == "pass"
    return any(result == "pass" and are_aligned(domain, header_from) for domain, result in results)


def _scope(values: dict[str, str]) -> int:
    scope = values.get("scope", "").lower()
    return _SCOPES.index(scope) if scope in _SCOPES else len(_SCOPES)


def _result(values: dict[str, str]) -> str:
    result = values.get("result", "").lower()
    return _RESULTS.get(result, result)


def _domain(text: str) -> str:
    """Return a domain in lower case and A-labels; in reports it is in either spelling."""
    return as_a_labels(text.strip().rstrip(".").lower().encode("utf-8", "replace")).decode("utf-8", "replace")


def _address(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
        return str(getattr(address, "ipv4_mapped", None) or address)
    except ValueError:
        raise Unreadable(f"source_ip '{one_line(text[:60])}' is not an IP address") from None


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 13 and int(text) < _MOST):
        raise Unreadable(f"count '{one_line(text[:60])}' is not a number of messages")
    return int(text)


def _seconds(text: str) -> int:
    whole = text.partition(".")[0]
    if not (whole.isascii() and whole.isdigit() and len(whole) < 20 and _EARLIEST <= int(whole) < _LATEST):
        raise Unreadable(f"date_range: '{one_line(text[:60])}' is not a time in seconds since 1970")
    return int(whole)
