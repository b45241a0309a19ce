"""The reports in one SQLite file, each once, and what the administrator has been informed of."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dkimpipe.admin.reports import aggregate, tls
from dkimpipe.admin.reports.aggregate import Dkim, Record
from dkimpipe.admin.reports.database import Database
from dkimpipe.admin.reports.documents import JSON, Document, Fault, Unreadable
from dkimpipe.admin.reports.identity import Content
from dkimpipe.admin.reports.tls import Failure
from dkimpipe.errors import one_line

_SKEW = 2 * 86400  # seconds that a report may end in the future


class Reported(NamedTuple):
    """A record and the report that it is from; times in seconds since 1970.

    ``policy``  that applies to the record: ``p=none``, or for a subdomain ``sp=none``, or both that and
                np= if they differ; then what weakens it, such as ``t=y``; empty if unknown
    ``domain``  that publishes it
    """

    number: int
    organisation: str
    policy: str
    domain: str
    begin: int
    end: int
    record: Record


class TlsResult(NamedTuple):
    """One policy of a TLS report, which has this number."""

    number: int
    organisation: str
    begin: int
    policy: tls.Policy


class Which(NamedTuple):
    """Reports with numbers after ``after``, up to ``upto``, about a time after ``begin``."""

    after: int
    upto: int
    begin: int


class Store:
    """Runs inside a ``with`` statement. Each method raises ConfigError if the file cannot be used."""

    def __init__(self, path: Path, mode: str = "rwc") -> None:
        """``mode``: see ``Database``."""
        self._base = Database(path, mode)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()

    def add(self, found: Document | Fault, now: int) -> Fault | None:
        """Store a document, unless it is there already. Return why not if it is not a report."""
        fault = found if isinstance(found, Fault) else None
        if isinstance(found, Document):
            try:
                with self._base.transaction():
                    (self._add_tls if found.kind == JSON else self._add_aggregate)(found, now)
            except Unreadable as cause:
                fault = Fault(found.name, one_line(str(cause)))
        if fault:
            with self._base.transaction():
                self._base.execute("INSERT INTO unreadable VALUES (?, ?, ?)", (*fault, now))
        return fault

    def latest(self) -> int:
        """Return the number of the last report; those that are stored later have higher ones."""
        return self._number("SELECT coalesce(max(id), 0) FROM report")

    def period(self, which: Which) -> tuple[int, int]:
        """Return the first beginning and the last end; zeros if there are no reports."""
        query = 'SELECT coalesce(min(begin), 0), coalesce(max("end"), 0) FROM report'
        ((begin, end),) = self._of(which, query)
        return begin, end

    def authors(self, which: Which) -> Iterator[tuple[str, int]]:
        """Yield the domains of From, each with its number of messages."""
        yield from self._of(
            which,
            "SELECT record.header_from, sum(record.messages) FROM report"
            " JOIN record ON record.report = report.id AND record.messages > 0",
            "GROUP BY record.header_from",
        )

    def records(self, which: Which) -> Iterator[Reported]:
        """Yield the records of DMARC reports, the oldest report first."""
        rows = self._of(
            which,
            "SELECT report.organisation, report.policy, report.domain, report.begin, report."
            '"end", record.*, signature.domain, signature.selector, signature.result FROM report'
            " JOIN record ON record.report = report.id AND record.messages > 0"
            " LEFT JOIN signature ON signature.record = record.id",
            "ORDER BY report.begin, record.id, signature.rowid",
        )
        for _, group in itertools.groupby(rows, lambda row: row[5]):
            lines = list(group)
            signatures = tuple(Dkim(*row[-3:]) for row in lines if row[-3] is not None)
            yield _reported(lines[0], signatures)

    def tls_results(self, which: Which) -> Iterator[TlsResult]:
        """Yield the policies of TLS reports, the oldest report first."""
        rows = self._of(
            which,
            "SELECT report.organisation, report.begin, tls_policy.*"
            " FROM report JOIN tls_policy ON tls_policy.report = report.id",
            "ORDER BY report.begin, tls_policy.id",
        )
        for organisation, begun, number, report, *values in rows:
            query = "SELECT result, mx, ip, sessions FROM tls_failure WHERE policy = ?"
            failures = tuple(Failure(*row) for row in self._base.rows(query, (number,)))
            yield TlsResult(report, organisation, begun, tls.Policy._make((*values, failures)))

    def unreadable(self, received: int) -> list[Fault]:
        """Return what came since then and is not a report."""
        query = "SELECT name, cause FROM unreadable WHERE received >= ?"
        return [Fault(*row) for row in self._base.rows(query, (received,))]

    def expire(self, before: int) -> None:
        """Delete what came before this time."""
        with self._base.transaction():
            self._base.execute("DELETE FROM report WHERE received < ?", (before,))
            self._base.execute("DELETE FROM unreadable WHERE received < ?", (before,))
            self._base.execute("DELETE FROM said WHERE time < ?", (before,))

    def last_cron(self) -> int:
        """Return the number of the last report that the administrator has been informed of."""
        return self._number("SELECT coalesce(max(last_report), 0) FROM cron")

    def said(self, since: int) -> dict[str, int]:
        """Return the messages by topic of what the administrator has been informed of since then."""
        return dict(self._base.rows("SELECT topic, messages FROM said WHERE time > ?", (since,)))

    def remember(self, latest: int, said: Mapping[str, int], now: int) -> None:
        """Remember that the administrator has been informed, up to which report, and of what."""
        with self._base.transaction():
            self._base.execute("DELETE FROM cron")
            self._base.execute("INSERT INTO cron VALUES (?)", (latest,))
            for row in said.items():
                self._base.execute("INSERT OR REPLACE INTO said VALUES (?, ?, ?)", (*row, now))

    def _number(self, query: str) -> int:
        ((number,),) = self._base.rows(query)
        return int(number)

    def _of(self, which: Which, select: str, order: str = "") -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query about these reports."""
        condition = 'WHERE report.id > ? AND report.id <= ? AND report."end" >= ?'
        return self._base.rows(f"{select} {condition} {order}", which)

    def _add_aggregate(self, document: Document, now: int) -> None:
        """Store the records as they are read; what the report is about may follow them."""
        reader = aggregate.Reader()
        content = Content(document.chunks)
        report = self._insert("report", None, "dmarc", "", "", "", "", 0, 0, now)
        for record in reader.records(content.chunks):
            number = self._insert("record", None, report, *record[:7], " ".join(record.reasons), *record.spf)
            for signature in record.signatures:
                self._insert("signature", number, *signature)
        identity = content.identity(reader.report_id, reader.end)
        key = ("dmarc", reader.organisation, identity, reader.domain, reader.begin)
        counts = "SELECT count(*), sum(messages) FROM record WHERE report = ?"
        self._refuse_other_counts(report, key, reader.report_id, counts)
        self._base.execute(
            "UPDATE report SET organisation = ?, report_id = ?, domain = ?, begin = ?, policy = ?, "
            '"end" = ? WHERE id = ?',
            (*key[1:], reader.policy, reader.end, report),
        )
        self._base.execute(
            "UPDATE record SET header_from = ? WHERE report = ? AND header_from = ''", (reader.domain, report)
        )
        _refuse_future(reader.end, now)

    def _add_tls(self, document: Document, now: int) -> None:
        content = Content(document.chunks)
        found = tls.read(content.chunks)
        _refuse_future(found.end, now)
        identity = content.identity(found.report_id, found.end)
        domains = " ".join(sorted({policy.domain for policy in found.policies}))
        report = self._insert("report", None, "tls", "", "", "", "", 0, 0, now)
        for policy in found.policies:
            number = self._insert("tls_policy", None, report, *policy[:4])
            for failure in policy.failures:
                self._insert("tls_failure", number, *failure)
        key = ("tls", found.organisation, identity, domains, found.begin)
        counts = "SELECT sum(successful), sum(failed) FROM tls_policy WHERE report = ?"
        self._refuse_other_counts(report, key, found.report_id, counts)
        self._base.execute(
            "UPDATE report SET organisation = ?, report_id = ?, domain = ?, begin = ?, "
            '"end" = ? WHERE id = ?',
            (*key[1:], found.end, report),
        )

    def _refuse_other_counts(self, report: int, key: tuple[object, ...], name: str, query: str) -> None:
        """Raise Unreadable if a report is there already, by its key, but does not say the same."""
        columns = "kind = ? AND organisation = ? AND report_id = ? AND domain = ? AND begin = ?"
        earlier = self._base.execute(f"SELECT id FROM report WHERE {columns}", key).fetchone()  # noqa: S608
        if earlier:
            counts = [self._base.execute(query, (each,)).fetchone() for each in (earlier[0], report)]
            if counts[0] != counts[1]:
                raise Unreadable(f"other counts than in the report '{name}' stored before: not counted")

    def _insert(self, table: str, *values: object) -> int:
        places = ", ".join("?" * len(values))
        cursor = self._base.execute(f"INSERT INTO {table} VALUES ({places})", values)  # noqa: S608
        return cursor.lastrowid or 0


def add_all(store: Store, found: Iterable[Document | Fault], now: int) -> list[Fault]:
    """Store all documents, and return those that are not reports."""
    return [fault for each in found if (fault := store.add(each, now))]


def _reported(row: tuple[Any, ...], signatures: tuple[Dkim, ...]) -> Reported:
    organisation, policy, domain, begin, end, _, number, *values = row[:-3]
    *first, dkim, spf, reasons, spf_domain, spf_result = values
    aligned = bool(dkim), bool(spf)
    record = Record._make((*first, *aligned, tuple(reasons.split()), signatures, (spf_domain, spf_result)))
    applies = _policy(policy, is_for_subdomain=record.header_from != domain)
    return Reported(number, organisation, applies, domain, begin, end, record)


def _policy(published: str, is_for_subdomain: bool) -> str:
    tags = [word for word in published.split() if "=" in word]
    policy, *others = [word for word in published.split(" ") if "=" not in word] or [""]
    named = [f"p={policy}"] if policy else []
    if is_for_subdomain and others:  # whether it exists, so that np= does not apply, is not reported
        named = [] if others[0] != policy else named
        named += [f"{tag}={word}" for tag, word in zip(("sp", "np"), others) if word != policy or not named]
    return ", ".join([*named, *tags])


def _refuse_future(end: int, now: int) -> None:
    if end > now + _SKEW:
        raise Unreadable("the report is about the future")
