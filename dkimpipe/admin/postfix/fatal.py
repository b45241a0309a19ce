"""Fatal errors: settings with which no program of Postfix starts, and tables that it cannot read.

postconf(1) prints such settings without complaint. All other programs check them first, postmap(1) included.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.errors import ConfigError

# Tables behind another program, which may merely not be running now.
_SERVED = ("proxy:", "tcp:", "socketmap:", "memcache:", "ldap:", "mysql:", "pgsql:")


def refuse(postconf: Postconf) -> None:
    """Raise ConfigError with Postfix's own message if its programs do not start with this main.cf."""
    message = postconf.failure_of("postmap", "-q", "x", "static:x")
    if message:
        raise ConfigError(f"no program of Postfix starts: {message}", _hint(postconf, message))


def _hint(postconf: Postconf, message: str) -> str:
    """Return the command that restores the default of the setting in a message, if main.cf has it."""
    words = [word.rstrip(":.") for word in re.findall(r"[\w./:-]+", message.partition("fatal: ")[2])]
    known = [name for name in postconf.explicit if name in postconf.effective]
    named = [name for name in known if name in words]
    shown = [name for name in known if postconf.effective[name] in words]
    return postconf.command(Change("-X", (named or shown)[0], "")) if named or shown else ""


def tables(postconf: Postconf) -> Iterator[Finding]:
    """Yield the tables that could not be read when they were looked up, each with Postfix's own message."""
    for table, message in postconf.broken_tables.items():
        may_work = table.startswith(_SERVED) and "unsupported" not in message
        level = "warning" if may_work else "error"
        yield Finding(f"{table}: Postfix cannot look it up: {message}", level=level)
