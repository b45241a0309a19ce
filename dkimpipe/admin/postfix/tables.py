"""Lookup tables and lists of patterns that Postfix cannot read: mail that needs them is deferred.

Each table in main.cf and master.cf is opened by postmap(1), as root, as most programs of Postfix do when they
start, or as the user of those that do it later. postconf(1) has the parameters, and the types of tables.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import filter_service
from dkimpipe.admin.postfix.network_patterns import fault_of_network
from dkimpipe.admin.postfix.postconf import Change, Postconf, list_command
from dkimpipe.admin.postfix.restriction_lists import is_list, split_restrictions
from dkimpipe.admin.postfix.syntax import real_table, split
from dkimpipe.distribution import install_command

# Databases that Postfix writes by itself, and lists of tables that are only permitted.
_NOT_READ = re.compile(r"address_verify_map|alias_database|.*_cache_(map|database)|proxy_(read|write)_maps")
_TABLES_ONLY = re.compile(r".*_(maps|checks)")
_PATTERNS = re.compile(r"mydestination|mynetworks|.*_(domains|networks|hosts|clients|exceptions|users)")
# Types that other packages than Postfix's own may add, and those that can hardly fail, or are meant to.
_ADDED = ("cdb", "ldap", "lmdb", "mongodb", "mysql", "pcre", "pgsql", "sdbm", "sqlite")
_PROPER = ("environ", "fail", "internal", "nis", "nisplus", "unix")
_INDEXED = {"hash": ".db", "btree": ".db", "cdb": ".cdb", "lmdb": ".lmdb", "sdbm": ".pag", "dbm": ".pag"}
# Tables behind another program, which may merely not be running now.
_SERVED = ("tcp:", "socketmap:", "memcache:", "ldap:", "mongodb:", "mysql:", "pgsql:")
_BY_SENDMAIL = ("authorized_submit_users", "local_login_sender_maps")  # as any user, and as postdrop(1)
_ALIASES = ("alias_maps", "alias_database")
_NEEDED = ("smtp_sasl_password_maps",)  # without it smtp(8) does not start
_WORKERS = 16  # each failure takes a second


class Use(NamedTuple):
    """A word of a list: in main.cf, or of a service in master.cf."""

    service: str
    parameter: str
    word: str

    @property
    def where(self) -> str:
        """The list, for messages."""
        return f"{self.service}/{self.parameter}" if self.service else self.parameter


def findings(postconf: Postconf) -> Iterator[Finding]:
    """Yield the tables, files and networks in lists that Postfix cannot read.

    Those tables are then in ``broken_tables``, and are looked up no more.
    """
    from concurrent.futures import ThreadPoolExecutor

    tables: dict[tuple[str, str], list[Use]] = {}
    for use in _uses(postconf):
        found = list(_pattern(postconf, use)) if _PATTERNS.fullmatch(use.parameter) else []
        if not found and _is_table(postconf, use):
            tables.setdefault((real_table(use.word.lstrip("!")), _reader(postconf, use)), []).append(use)
            found = list(_unapproved(postconf, use))
        yield from found
    with ThreadPoolExecutor(_WORKERS) as pool:
        results = pool.map(lambda key: _open(postconf, *key), tables)
        for uses, (table, reader), (fault, advice) in zip(tables.values(), tables, results):
            if fault and not (reader and "denied" in fault):  # root can read that
                postconf.broken_tables[table] = fault
            if fault:
                yield _broken(postconf, table, reader, fault, uses)
            elif advice and "main.cf, line" not in advice:
                stale = "older than source" in advice
                hint = _index_command(table, uses) if stale else ""
                yield Finding(f"{_places(uses)}: {advice}", hint, "warning")


def _open(postconf: Postconf, table: str, reader: str) -> tuple[str, str]:
    """Return the error and the warning with which a table is opened; by root if others cannot even start."""
    if ":" not in table:
        return "it has no type, TYPE:NAME", ""
    fault, advice = postconf.open_table(table, reader)
    if reader and str(postconf.directory / "main.cf") in fault:
        return postconf.open_table(table)
    return fault, advice


def others(postconf: Postconf, known: dict[str, str]) -> Iterator[Finding]:
    """Yield the tables that were found broken by later lookups: they are in files and other tables."""
    for table, message in postconf.broken_tables.items():
        if table not in known:
            yield Finding(f"{table}: Postfix cannot read it: {message}", level=_level(table, message))


def _uses(postconf: Postconf) -> Iterator[Use]:
    """Yield the words of all lists that are set."""
    for service, settings in {"": postconf.explicit, **postconf.overrides}.items():
        for parameter in settings:
            is_known = parameter in postconf.defaults or is_list(postconf, parameter)
            if is_known and not _NOT_READ.fullmatch(parameter):
                for word in split(postconf.own(parameter, service), ","):
                    yield Use(service, parameter, word)


def _is_table(postconf: Postconf, use: Use) -> bool:
    """Return whether a word is a table, or cannot be anything else, although its type does not exist."""
    kind, colon, _ = use.word.lstrip("!").partition(":")
    if kind in _PROPER or use.word.startswith(("{", "[", "!/")) or "$" in kind:
        return False
    if colon and kind in (*postconf.table_types, *_ADDED):
        return True
    if is_list(postconf, use.parameter):
        return _is_argument(postconf, use)
    return bool(_TABLES_ONLY.fullmatch(use.parameter) or (colon and _PATTERNS.fullmatch(use.parameter)))


def _is_argument(postconf: Postconf, use: Use) -> bool:
    """Return whether a word is the table of a restriction, check_..._access."""
    words = postconf.words(use.parameter, use.service)
    return any(
        argument == use.word and name.lower().endswith("_access")
        for *_, name, argument in split_restrictions(words)
    )


def _reader(postconf: Postconf, use: Use) -> str:
    """Return the user and group that open a table, ``USER:GROUP``; empty for root."""
    if use.word.lstrip("!").startswith("proxy:"):
        return postconf.value("mail_owner")
    if use.parameter in _BY_SENDMAIL and (service := filter_service.find(postconf)):
        return service.attribute("user") or ""
    return ""


def _unapproved(postconf: Postconf, use: Use) -> Iterator[Finding]:
    """Yield a finding if proxymap(8) refuses a table."""
    table = use.word.lstrip("!")
    approved = map(real_table, postconf.words("proxy_read_maps", "proxymap/unix"))
    if table.startswith("proxy:") and real_table(table) not in approved:
        change = Change("-e", "proxy_read_maps=", "")
        command = f"{postconf.command(Change('-h', 'proxy_read_maps', ''))}"
        hint = f'{postconf.command(change)}"$({command}) "{shlex.quote(table)}'
        yield Finding(f"{use.where}: proxymap(8) refuses {table}: it is not in proxy_read_maps", hint)


def _pattern(postconf: Postconf, use: Use) -> Iterator[Finding]:
    """Yield a finding if a word is a file that does not exist, or an invalid network."""
    word = use.word.lstrip("!")
    if word.startswith("/") and not os.access(word, os.R_OK):
        if os.geteuid() == 0 or not os.path.exists(word):
            cause = "No such file" if not os.path.exists(word) else "it cannot be read"
            hint = _leave_out(postconf, word, [use], f"restore {word}")
            yield Finding(f"{use.where}: {word}: {cause}", hint)
    elif fault := fault_of_network(word):
        words = _words(postconf, use)
        hint = _set(postconf, use, list(map(_corrected, words))) if _corrected(use.word) != use.word else ""
        hint = hint or _leave_out(postconf, use.word, [use], f"correct {word}")
        yield Finding(f"{use.where}: {word}: {fault}", hint)


def _corrected(word: str) -> str:
    """Return a word with the network as Postfix wants it, if its fault shows that."""
    network = word.lstrip("!")
    right = re.findall(r"\S+/\d+$", fault_of_network(network))
    return word.replace(network, right[0]) if right else word


def _broken(postconf: Postconf, table: str, reader: str, fault: str, uses: list[Use]) -> Finding:
    """Return a finding for a table that cannot be opened."""
    if reader and "denied" in fault:
        user, _, group = reader.partition(":")
        path = table.partition(":")[2] + _INDEXED.get(table.partition(":")[0], "")
        quoted, group = shlex.quote(path), group or user
        hint = f"chgrp {group} {quoted} && chmod g+r {quoted}"
        if any(use.parameter in _BY_SENDMAIL for use in uses):
            hint = f"chmod a+r {quoted}"
        hint += f"\n# what else prevents access: namei -l {quoted}"
        return Finding(f"{_places(uses)}: {table}: user {user} cannot read it: {fault}", hint)
    what = f"{_places(uses)}: {table}: Postfix cannot read it: {fault}"
    return Finding(what, _hint(postconf, table, fault, uses), _level(table, fault))


def _level(table: str, fault: str) -> str:
    """Return the level of a fault: the program behind a table may merely not be running now."""
    is_denied = os.geteuid() != 0 and "denied" in fault  # only root can look
    return "warning" if is_denied or (table.startswith(_SERVED) and "unsupported" not in fault) else "error"


def _places(uses: list[Use]) -> str:
    return ", ".join(dict.fromkeys(use.where for use in uses))


def _hint(postconf: Postconf, table: str, fault: str, uses: list[Use]) -> str:
    """Return the commands with which Postfix can read a table, or does without it."""
    if os.geteuid() != 0 and "denied" in fault:
        return "# run it as root"
    kind, colon, path = table.partition(":")
    if not colon and Path(table).exists():
        return _replaced(postconf, table, f"{postconf.value('default_database_type')}:{table}", uses)
    path = path if colon else table
    if "unsupported dictionary type" in fault:
        if kind in _ADDED:
            return install_command(f"postfix-{kind}")
        close = difflib.get_close_matches(kind, postconf.table_types, 1)
        if close and Path(path).exists():
            return _replaced(postconf, table, f"{close[0]}:{path}", uses)
        return _leave_out(postconf, uses[0].word, uses, f"write one of {' '.join(postconf.table_types)}")
    if table.startswith(_SERVED) and "open " not in fault:
        return ""
    if kind in _INDEXED and Path(path).exists():
        return _index_command(table, uses)
    return _restore(postconf, table, path, uses)


def _restore(postconf: Postconf, table: str, path: str, uses: list[Use]) -> str:
    cause = f"restore {path}" if path.startswith("/") and not os.path.exists(path) else f"correct {table}"
    return _leave_out(postconf, uses[0].word, uses, cause)


def _index_command(table: str, uses: list[Use]) -> str:
    program = "postalias" if any(use.parameter in _ALIASES for use in uses) else "postmap"
    return shlex.join([program, table])


def _replaced(postconf: Postconf, table: str, new: str, uses: list[Use]) -> str:
    """Return the commands that write a table in another way, and index it where it needs that."""
    commands = [_index_command(new, uses)] if new.partition(":")[0] in _INDEXED else []
    for use in uses:
        words = _words(postconf, use)
        if command := _set(postconf, use, [word.replace(table, new) for word in words]):
            commands.append(command)
    return " && ".join(dict.fromkeys(commands))


def _leave_out(postconf: Postconf, word: str, uses: list[Use], otherwise: str) -> str:
    """Return the commands that take a word out of lists; a comment says what is better."""
    if any(use.parameter in _NEEDED for use in uses):
        return f"# {otherwise}"
    commands, effects = [], []
    for use in uses:
        words = _words(postconf, use)
        if is_list(postconf, use.parameter):
            parts = [each for each in split_restrictions(words) if each[-1] != word]
            words = [each for part in parts for each in part if each]
        kept = [each for each in words if each != use.word]
        effects += [] if kept else [f" {postconf.without(use.parameter, use.service)}"]
        commands.append(_set(postconf, use, kept))
    if not all(commands):
        return f"# {otherwise}, or take it out of {_places(uses)}"
    effect = "".join(dict.fromkeys(effects))
    return "\n".join([f"# {otherwise}, or leave it out{effect}:", *dict.fromkeys(commands)])


def _words(postconf: Postconf, use: Use) -> list[str]:
    """Return the words of a list as written, or with macros expanded if one of these has the word."""
    settings = postconf.overrides[use.service] if use.service else postconf.explicit
    words = split(settings[use.parameter], ",")
    return words if use.word in words else postconf.words(use.parameter, use.service)


def _set(postconf: Postconf, use: Use, words: list[str]) -> str:
    """Return the command that sets a list, or its default if nothing is left; empty if there is none."""
    if words:
        return list_command(postconf, use.service, use.parameter, words)
    return postconf.removal(use.parameter, use.service)
