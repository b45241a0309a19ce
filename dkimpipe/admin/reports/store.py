"""The reports in one SQLite file, each once."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import sqlite3
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dkimpipe.admin import access
from dkimpipe.admin.reports import aggregate, tls
from dkimpipe.admin.reports.aggregate import Dkim, Record
from dkimpipe.admin.reports.documents import JSON, Document, Fault, Unreadable
from dkimpipe.admin.reports.tls import Failure
from dkimpipe.errors import ConfigError, one_line

DATABASE = "/var/lib/dkimpipe/reports/reports.db"
_BEFORE = Path("/var/lib/dkimpipe/reports.db")
IN_MEMORY = Path(":memory:")
_WAIT = 60.0  # seconds for another process
_SKEW = 2 * 86400  # seconds that a report may end in the future
_HOW_TO_BEGIN = "store reports first: see dkimpipe-reports(1)"
# By version; each one adds to those before.
_SCHEMAS = (
    """
CREATE TABLE report (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL,
    organisation TEXT NOT NULL, report_id TEXT NOT NULL, domain TEXT NOT NULL, policy TEXT NOT NULL,
    begin INTEGER NOT NULL, "end" INTEGER NOT NULL,
    received INTEGER NOT NULL, UNIQUE (kind, organisation, report_id, domain, begin)
);
CREATE TABLE record (
    id INTEGER PRIMARY KEY, report INTEGER NOT NULL REFERENCES report ON DELETE CASCADE,
    ip TEXT NOT NULL, messages INTEGER NOT NULL, header_from TEXT NOT NULL, envelope_from TEXT NOT NULL,
    disposition TEXT NOT NULL, dkim_aligned INTEGER NOT NULL, spf_aligned INTEGER NOT NULL,
    reasons TEXT NOT NULL, spf_domain TEXT NOT NULL, spf_result TEXT NOT NULL
);
CREATE TABLE signature (
    record INTEGER NOT NULL REFERENCES record ON DELETE CASCADE,
    domain TEXT NOT NULL, selector TEXT NOT NULL, result TEXT NOT NULL
);
CREATE TABLE tls_policy (
    id INTEGER PRIMARY KEY, report INTEGER NOT NULL REFERENCES report ON DELETE CASCADE,
    type TEXT NOT NULL, domain TEXT NOT NULL, successful INTEGER NOT NULL, failed INTEGER NOT NULL
);
CREATE TABLE tls_failure (
    policy INTEGER NOT NULL REFERENCES tls_policy ON DELETE CASCADE,
    result TEXT NOT NULL, mx TEXT NOT NULL, ip TEXT NOT NULL, sessions INTEGER NOT NULL
);
CREATE TABLE unreadable (name TEXT NOT NULL, cause TEXT NOT NULL, received INTEGER NOT NULL);
CREATE TABLE cron (last_report INTEGER NOT NULL);
CREATE INDEX record_report ON record (report);
CREATE INDEX signature_record ON signature (record);
CREATE INDEX tls_policy_report ON tls_policy (report);
CREATE INDEX tls_failure_policy ON tls_failure (policy);
""",
    """
CREATE TABLE said (topic TEXT NOT NULL UNIQUE, messages INTEGER NOT NULL, time INTEGER NOT NULL);
""",
    # report_id as _identity() returns it; domain of TLS reports: all of them.
    """
UPDATE OR IGNORE report SET report_id = report_id || char(10) || "end" WHERE report_id <> '';
UPDATE OR IGNORE report SET domain = (
    SELECT coalesce(group_concat(domain, ' '), '') FROM (
        SELECT DISTINCT domain FROM tls_policy WHERE tls_policy.report = report.id ORDER BY domain
    )
) WHERE kind = 'tls';
""",
)


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
    """Runs inside a ``with`` statement. Each method raises ConfigError if the file cannot be used.

    ``mode`` as in SQLite: ro (read only), rw, or rwc, which creates the file if there is none.
    """

    def __init__(self, path: Path, mode: str = "rwc") -> None:
        self._path = path
        self._mode = mode
        if path == IN_MEMORY:
            address = ""  # a file of SQLite's own, without a name
        else:
            _open_or_create(path, mode)
            address = f"file:{urllib.parse.quote(os.fsencode(path.absolute()))}?mode={mode}"
        with self._errors():
            self._base = sqlite3.connect(address, timeout=_WAIT, isolation_level=None, uri=True)
            self._base.execute("PRAGMA foreign_keys = ON")
            self._prepare()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()

    def add(self, found: Document | Fault, now: int) -> Fault | None:
        """Store a document, unless it is there already. Return why not if it is not a report."""
        fault = found if isinstance(found, Fault) else None
        if isinstance(found, Document):
            try:
                with self._transaction():
                    (self._add_tls if found.kind == JSON else self._add_aggregate)(found, now)
            except Unreadable as cause:
                fault = Fault(found.name, one_line(str(cause)))
        if fault:
            with self._transaction():
                self._base.execute("INSERT INTO unreadable VALUES (?, ?, ?)", (*fault, now))
        return fault

    def latest(self) -> int:
        """Return the number of the last report; those that are stored later have higher ones."""
        with self._errors():
            row = self._base.execute("SELECT coalesce(max(id), 0) FROM report").fetchone()
            return int(row[0])

    def period(self, which: Which) -> tuple[int, int]:
        """Return the first beginning and the last end; zeros if there are no reports."""
        with self._errors():
            row = self._base.execute(
                'SELECT coalesce(min(begin), 0), coalesce(max("end"), 0) FROM report'
                ' WHERE report.id > ? AND report.id <= ? AND report."end" >= ?',
                which,
            )
            begin, end = row.fetchone()
            return begin, end

    def authors(self, which: Which) -> Iterator[tuple[str, int]]:
        """Yield the domains of From, each with its number of messages."""
        with self._errors():
            yield from self._base.execute(
                "SELECT record.header_from, sum(record.messages) FROM report"
                " JOIN record ON record.report = report.id AND record.messages > 0"
                ' WHERE report.id > ? AND report.id <= ? AND report."end" >= ?'
                " GROUP BY record.header_from",
                which,
            )

    def records(self, which: Which) -> Iterator[Reported]:
        """Yield the records of DMARC reports, the oldest report first."""
        with self._errors():
            rows = self._base.execute(
                "SELECT report.organisation, report.policy, report.domain, report.begin, report."
                '"end", record.*, signature.domain, signature.selector, signature.result FROM report'
                " JOIN record ON record.report = report.id AND record.messages > 0"
                " LEFT JOIN signature ON signature.record = record.id"
                ' WHERE report.id > ? AND report.id <= ? AND report."end" >= ?'
                " ORDER BY report.begin, record.id, signature.rowid",
                which,
            )
            for _, group in itertools.groupby(rows, lambda row: row[5]):
                lines = list(group)
                signatures = tuple(Dkim(*row[-3:]) for row in lines if row[-3] is not None)
                yield _reported(lines[0], signatures)

    def tls_results(self, which: Which) -> Iterator[TlsResult]:
        """Yield the policies of TLS reports, the oldest report first."""
        with self._errors():
            rows = self._base.execute(
                "SELECT report.organisation, report.begin, tls_policy.*"
                " FROM report JOIN tls_policy ON tls_policy.report = report.id"
                ' WHERE report.id > ? AND report.id <= ? AND report."end" >= ?'
                " ORDER BY report.begin, tls_policy.id",
                which,
            )
            for organisation, begun, number, report, *values in rows:
                query = "SELECT result, mx, ip, sessions FROM tls_failure WHERE policy = ?"
                failures = tuple(Failure(*row) for row in self._base.execute(query, (number,)))
                yield TlsResult(report, organisation, begun, tls.Policy._make((*values, failures)))

    def unreadable(self, received: int) -> list[Fault]:
        """Return what came since then and is not a report."""
        with self._errors():
            rows = self._base.execute("SELECT name, cause FROM unreadable WHERE received >= ?", (received,))
            return [Fault(*row) for row in rows]

    def expire(self, before: int) -> None:
        """Delete what came before this time."""
        with self._transaction():
            self._base.execute("DELETE FROM report WHERE received < ?", (before,))
            self._base.execute("DELETE FROM unreadable WHERE received < ?", (before,))
            self._base.execute("DELETE FROM said WHERE time < ?", (before,))

    def last_cron(self) -> int:
        """Return the number of the last report that the administrator has been informed of."""
        with self._errors():
            row = self._base.execute("SELECT coalesce(max(last_report), 0) FROM cron").fetchone()
            return int(row[0])

    def said(self, since: int) -> dict[str, int]:
        """Return the messages by topic of what the administrator has been informed of since then."""
        with self._errors():
            return dict(self._base.execute("SELECT topic, messages FROM said WHERE time > ?", (since,)))

    def remember(self, latest: int, said: Mapping[str, int], now: int) -> None:
        """Remember that the administrator has been informed, up to which report, and of what."""
        with self._transaction():
            self._base.execute("DELETE FROM cron")
            self._base.execute("INSERT INTO cron VALUES (?)", (latest,))
            rows = [(topic, messages, now) for topic, messages in said.items()]
            self._base.executemany("INSERT OR REPLACE INTO said VALUES (?, ?, ?)", rows)

    def _prepare(self) -> None:
        """Create what is missing; a file of an earlier version can be read without it."""
        newest = len(_SCHEMAS)
        (version,) = self._base.execute("PRAGMA user_version").fetchone()
        if version > newest:
            raise ConfigError(f"{self._path}: written by a newer version of dkimpipe")
        if self._mode == "ro":
            if not version:  # such as a file without an octet, which a full disk can leave
                raise ConfigError(f"{self._path}: not a database of reports", _HOW_TO_BEGIN)
        elif version < newest:
            with self._transaction():
                (version,) = self._base.execute("PRAGMA user_version").fetchone()  # by another process
                if not version and self._base.execute("SELECT name FROM sqlite_master").fetchone():
                    raise ConfigError(f"{self._path}: a database of another program")
                for statement in itertools.chain(*(each.split(";") for each in _SCHEMAS[version:])):
                    self._base.execute(statement)
                self._base.execute(f"PRAGMA user_version = {newest}")

    def _add_aggregate(self, document: Document, now: int) -> None:
        """Store the records as they are read; what the report is about may follow them."""
        reader = aggregate.Reader()
        digest = hashlib.sha256()
        report = self._insert("report", None, "dmarc", "", "", "", "", 0, 0, now)
        for record in reader.records(_hashed(document.chunks, digest)):
            number = self._insert("record", None, report, *record[:7], " ".join(record.reasons), *record.spf)
            for signature in record.signatures:
                self._insert("signature", number, *signature)
        self._base.execute(
            "UPDATE report SET organisation = ?, report_id = ?, domain = ?, policy = ?, begin = ?, "
            '"end" = ? WHERE id = ?',
            (
                *(reader.organisation, _identity(reader.report_id, reader.end, digest), reader.domain),
                *(reader.policy, reader.begin, reader.end, report),
            ),
        )
        self._base.execute(
            "UPDATE record SET header_from = ? WHERE report = ? AND header_from = ''", (reader.domain, report)
        )
        _refuse_future(reader.end, now)

    def _add_tls(self, document: Document, now: int) -> None:
        digest = hashlib.sha256()
        found = tls.read(_hashed(document.chunks, digest))
        _refuse_future(found.end, now)
        identity = _identity(found.report_id, found.end, digest)
        domains = " ".join(sorted({policy.domain for policy in found.policies}))
        report = self._insert(
            "report", None, "tls", found.organisation, identity, domains, "", found.begin, found.end, now
        )
        for policy in found.policies:
            number = self._insert("tls_policy", None, report, *policy[:4])
            for failure in policy.failures:
                self._insert("tls_failure", number, *failure)

    def _insert(self, table: str, *values: object) -> int:
        places = ", ".join("?" * len(values))
        cursor = self._base.execute(f"INSERT INTO {table} VALUES ({places})", values)  # noqa: S608
        return cursor.lastrowid or 0

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing. A report that is there already, with the same identity, is left out."""
        with self._errors():
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield
            except sqlite3.IntegrityError:
                self._base.execute("ROLLBACK")
            except BaseException:
                self._base.execute("ROLLBACK")
                raise
            else:
                self._base.execute("COMMIT")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OverflowError) as error:
            raise ConfigError(f"{self._path}: {error}") from None


def add_all(store: Store, found: Iterable[Document | Fault], now: int) -> list[Fault]:
    """Store all documents, and return those that are not reports."""
    return [fault for each in found if (fault := store.add(each, now))]


def _reported(row: tuple[Any, ...], signatures: tuple[Dkim, ...]) -> Reported:
    (
        organisation,
        policy,
        domain,
        begin,
        end,
        _,
        number,
        *first,
        dkim,
        spf,
        reasons,
        spf_domain,
        spf_result,
    ) = row[:-3]
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


def _hashed(chunks: Iterator[bytes], digest: hashlib._Hash) -> Iterator[bytes]:
    for chunk in chunks:
        digest.update(chunk)
        yield chunk


def _identity(report_id: str, end: int, digest: hashlib._Hash) -> str:
    """Return what tells a report from others of the same sender, domain and beginning.

    Not all senders have unique identifiers, and some have none: then the content decides.
    """
    return f"{report_id}\n{end}" if report_id else digest.hexdigest()


def _refuse_future(end: int, now: int) -> None:
    if end > now + _SKEW:
        raise Unreadable("the report is about the future")


def place(path: str) -> Path:
    """Return where a database is: that of an earlier version as long as it is the only one."""
    is_only_one = os.path.exists(_BEFORE) and not os.path.exists(path)
    return _BEFORE if path == DATABASE and is_only_one else Path(path)


def _open_or_create(path: Path, mode: str) -> None:
    """Raise ConfigError if the file cannot be opened. A new one has the mode 0640, whatever the umask is."""
    flags = os.O_CLOEXEC | (os.O_RDONLY if mode == "ro" else os.O_RDWR)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if mode == "rwc":
            with contextlib.suppress(FileExistsError):
                new = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
                os.fchmod(new, 0o640)
                os.close(new)
        os.close(os.open(path, flags))
        if mode != "ro" and not os.access(path.parent, os.W_OK):  # for the journal
            raise PermissionError
    except FileNotFoundError:
        is_missing = mode == "rwc" and not path.parent.is_dir()
        hint = f"install -d -m 0750 -o {access.user()} {path.parent}" if is_missing else _HOW_TO_BEGIN
        raise ConfigError(f"{path}: No such file or directory", hint) from None
    except PermissionError:
        cause, hint = access.barrier(path.absolute())
        if mode == "rwc" and not cause:
            cause, hint = access.wrong_owner(path.absolute())
        what = f"Permission denied: {cause}" if cause else "Permission denied"
        raise ConfigError(f"{path}: {what}", hint) from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
