"""The mailbox of a user of this host, as local(8) writes it, and one message in it."""

from __future__ import annotations

import pwd
import re
from collections.abc import Iterator
from pathlib import Path

from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.errors import ConfigError

_END = 1 << 20  # octets of an mbox file that are searched, from its end
_NEWEST = 100  # files of a Maildir that are searched
_NEXT = re.compile(rb"^From ", re.MULTILINE)  # local(8) quotes such lines within a message


def address(postconf: Postconf, user: str) -> str:
    """Return an address of this user that Postfix delivers on this host. Raises ConfigError."""
    domains = postconf.words("mydestination")
    wanted = ("localhost", postconf.value("myhostname"), *domains)
    domain = next((each for each in wanted if each in domains and "/" not in each and ":" not in each), "")
    if not domain:
        raise ConfigError("no domain has mailboxes on this host (mydestination)", "dkimpipe test ADDRESS")
    return f"{user}@{domain}"


def find(postconf: Postconf, user: str, message_id: str) -> tuple[Path, bytes] | None:
    """Return the file and the octets of the message with this Message-ID, if it is in the user's mailbox."""
    mark = re.compile(rb"(?i)^message-id:\s*" + re.escape(message_id.encode()), re.MULTILINE)
    for path in _files(postconf, user):
        try:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - _END))
                text = file.read()
        except OSError:
            continue
        if found := mark.search(text):
            return path, _message_at(text, found.start())
    return None


def _message_at(text: bytes, place: int) -> bytes:
    """Return the message around a place, without the separator lines of mbox, if there are any."""
    starts = [0, *(found.end() for found in re.finditer(rb"(?m)^From [^\n]*\n", text[:place]))]
    following = _NEXT.search(text, place)
    return text[starts[-1] : following.start() if following else len(text)]


def _files(postconf: Postconf, user: str) -> Iterator[Path]:
    """Yield the files that may hold new mail of this user: mbox files, and the newest of a Maildir."""
    home, spool = Path(pwd.getpwnam(user).pw_dir), Path(postconf.value("mail_spool_directory"))
    named = postconf.value("home_mailbox")
    for path in (*([home / named] if named else []), spool / user, home / "Maildir"):
        if path.is_file():
            yield path
        found = [each for part in ("new", "cur") for each in path.glob(f"{part}/*") if each.is_file()]
        yield from sorted(found, key=lambda each: each.lstat().st_mtime, reverse=True)[:_NEWEST]
