"""The SQLite file of the reports: where it is, how it is opened, and its tables by version."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import sqlite3
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dkimpipe.admin import access
from dkimpipe.errors import ConfigError, for_shell

DATABASE = "/var/lib/dkimpipe/reports/reports.db"
_BEFORE = Path("/var/lib/dkimpipe/reports.db")
IN_MEMORY = Path(":memory:")
_WAIT = 60.0  # seconds for another process
# What SQLite says of a file that it did not write, and of one that it did.
_NO_DATABASE, _DAMAGED = "file is not a database", "database disk image is malformed"
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
    # report_id as identity() returns it; domain of TLS reports: all of them.
    """
UPDATE OR IGNORE report SET report_id = report_id || char(10) || "end" WHERE report_id <> '';
UPDATE OR IGNORE report SET domain = (
    SELECT coalesce(group_concat(domain, ' '), '') FROM (
        SELECT DISTINCT domain FROM tls_policy WHERE tls_policy.report = report.id ORDER BY domain
    )
) WHERE kind = 'tls';
""",
)


def place(path: str) -> Path:
    """Return where a database is: that of an earlier version as long as it is the only one."""
    is_only_one = os.path.exists(_BEFORE) and not os.path.exists(path)
    return _BEFORE if path == DATABASE and is_only_one else Path(path)


class Database:
    """An open database, with all its tables unless it can only be read."""

    def __init__(self, path: Path, mode: str) -> None:
        """``mode`` as in SQLite: ro (read only), rw, or rwc, which creates the file if there is none.

        Raises ConfigError if the file cannot be used.
        """
        self._path = path
        self._mode = mode
        if path == IN_MEMORY:
            address = ""  # a file of SQLite's own, without a name
        else:
            _open_or_create(path, mode)
            address = f"file:{urllib.parse.quote(os.fsencode(path.absolute()))}?mode={mode}"
        with self._errors():
            self._connection = sqlite3.connect(address, timeout=_WAIT, isolation_level=None, uri=True)
            self.execute("PRAGMA foreign_keys = ON")
            self._prepare()

    def close(self) -> None:
        """Close it."""
        self._connection.close()

    def rows(self, query: str, values: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query. Raises ConfigError if the file cannot be used."""
        with self._errors():
            yield from self.execute(query, values)

    def execute(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """Execute a statement inside a transaction, which handles errors."""
        return self._connection.execute(statement, values)

    def _prepare(self) -> None:
        """Create what is missing; a file of an earlier version can be read without it."""
        newest = len(_SCHEMAS)
        (version,) = self.execute("PRAGMA user_version").fetchone()
        if version > newest:
            raise ConfigError(f"{self._path}: written by a newer version of dkimpipe")
        if self._mode == "ro":
            if not version:  # such as a file without an octet, which a full disk can leave
                raise ConfigError(f"{self._path}: not a database of reports", _HOW_TO_BEGIN)
        elif version < newest:
            with self.transaction():
                (version,) = self.execute("PRAGMA user_version").fetchone()  # by another process
                if not version and self.execute("SELECT name FROM sqlite_master").fetchone():
                    raise ConfigError(f"{self._path}: a database of another program")
                for statement in itertools.chain(*(each.split(";") for each in _SCHEMAS[version:])):
                    self.execute(statement)
                self.execute(f"PRAGMA user_version = {newest}")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Store all or nothing: nothing of a report that is there already, by UNIQUE. Raises ConfigError."""
        with self._errors():
            self.execute("BEGIN IMMEDIATE")
            try:
                yield
            except sqlite3.IntegrityError:
                self.execute("ROLLBACK")
            except BaseException:
                self.execute("ROLLBACK")
                raise
            else:
                self.execute("COMMIT")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OverflowError) as error:
            raise ConfigError(f"{self._path}: {error}", _hint(self._path, str(error))) from None


def _hint(path: Path, error: str) -> str:
    """Return what to do about an error of SQLite: a file of another program must stay where it is."""
    is_ours = path in (Path(DATABASE), _BEFORE)
    if error == _DAMAGED or (error == _NO_DATABASE and is_ours):
        old, new = for_shell(str(path)), for_shell(f"{path}.damaged")
        return f"# restore it from a backup, or store the reports again in a new one:\nmv {old} {new}"
    return "name the database of the reports: --database" if error == _NO_DATABASE else ""


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
        if not cause:
            find = access.wrong_owner if mode == "rwc" else access.wrong_user
            cause, hint = find(path.absolute())
        what = f"Permission denied: {cause}" if cause else "Permission denied"
        raise ConfigError(f"{path}: {what}", hint) from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
