"""Entries that ``dkimpipe setup`` holds back while Postfix signs already, until DNS has their records.

The senders file applies to the next message, and a signature whose record is missing is worth less than none.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dkimpipe import publickey
from dkimpipe.admin.findings import NOTE, Finding
from dkimpipe.admin.maps import configured, entries
from dkimpipe.admin.postfix.known_settings import known_settings, needed
from dkimpipe.config import Settings
from dkimpipe.errors import ConfigError, Trouble

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dkimpipe.verify.nameserver import Server

Pair = tuple[str, Path]  # a selector, and the path of its key
_DEFAULT = re.compile(r"(\d{6})[re]?")  # the selectors that setup chooses: year and month


def keys(directory: Path, domain: str) -> list[Pair]:
    """Return the newest keys of a domain with selectors that setup chose itself; none if there are none.

    A second key is not enough: one of them is RSA, which every verifier supports.
    """
    found: dict[str, list[Pair]] = {}
    for path in sorted(directory.glob(f"{domain}.*.pem")):
        selector = path.name[len(domain) + 1 : -len(".pem")]
        if match := _DEFAULT.fullmatch(selector):
            found.setdefault(match[1], []).append((selector, path))
    months = [month for month, pairs in found.items() if not all(pair[0].endswith("e") for pair in pairs)]
    return sorted(found[max(months)], key=lambda pair: pair[0].endswith("e")) if months else []


def ed25519_key(directory: Path, domain: str) -> Pair | None:
    """Return the newest Ed25519 key of a domain with a selector that setup chose itself, if there is one."""
    paths = sorted(directory.glob(f"{domain}.{'[0-9]' * 6}e.pem"))
    return (paths[-1].name[len(domain) + 1 : -len(".pem")], paths[-1]) if paths else None


def records(domain: str, pairs: list[Pair]) -> Iterator[tuple[str, str]]:
    """Yield name and value of the record of each key."""
    for selector, path in pairs:
        yield publickey.record_name(selector, domain), publickey.record_value(str(path))


def published(domain: str, pairs: list[Pair], at: Sequence[Server] = ()) -> list[Pair]:
    """Return the keys whose records every name server, or each of these, has without errors."""
    from dkimpipe.admin.dns.compare import Need
    from dkimpipe.admin.dns.lookup import NameServers

    servers = NameServers(at)
    return [
        pair
        for pair in pairs
        if pair[1].exists()
        and not any(
            finding.level == "error"
            for name, value in records(domain, [pair])
            for finding in servers.findings(name, [Need(value)])
        )
    ]


def usable(pairs: list[Pair], among: list[Pair]) -> list[Pair]:
    """Return those of the keys of a new entry that are among these, or none if none of them is RSA.

    The second key may come later, but an entry does not begin with it: not every verifier supports Ed25519.
    """
    found = [pair for pair in pairs if pair in among]
    return found if len(pairs) == 1 or has_rsa(found) else []


def has_rsa(pairs: list[Pair]) -> bool:
    """Return whether one of these keys, with selectors that setup chose, is RSA."""
    return any(not selector.endswith("e") for selector, _ in pairs)


class Waiting(NamedTuple):
    """Keys that the filter may read, but no entry uses: they wait for their records, as far as is known.

    ``options``  of setup, for the command that signs with them
    """

    domain: str
    pairs: list[Pair]
    options: list[str]

    @property
    def command(self) -> str:
        """The command that prints their records, and signs with them once DNS has these."""
        return shlex.join(["dkimpipe", "setup", *self.options, self.domain])

    def published(self, at: Sequence[Server] = ()) -> list[Pair]:
        """Return the keys that could sign now; none if a key cannot be read."""
        try:
            return usable(self.pairs, published(self.domain, self.pairs, at))
        except Trouble:
            return []

    def finding(self, published: list[Pair]) -> Finding:
        """Return a note, or a warning if DNS has the records of these keys."""
        what = f"{self.domain} waits for its record: {_paths(self.pairs)} does not sign yet"
        if published:
            what = f"DNS has the record of {_paths(published)}, but no entry for {self.domain} uses this key"
        hint = f"{self.command}\n# to give the key up: {giving_up(self.pairs)}"
        if len(self.pairs) > 1:
            hint += f"\n# to give only the second key up: {giving_up(self.pairs[-1:])}"
        return Finding(what, hint, "warning" if published else NOTE)


def giving_up(pairs: list[Pair]) -> str:
    """Return the command after which keys do not wait any more, and setup leaves them alone."""
    return f"chown root:root {_paths(pairs)}"


def _paths(pairs: list[Pair]) -> str:
    return shlex.join([str(path) for _, path in pairs])


def is_given_up(path: Path) -> bool:
    """Return whether this is a key that only root can read."""
    return path.exists() and not path.stat().st_gid


def waiting(settings: Settings, directory: Path) -> Iterator[Waiting]:
    """Yield the keys in a directory that wait, by domain: neither these settings nor others use them.

    A key that only root can read was given up.
    """
    try:
        lines = configured.lines(settings)
    except ConfigError:
        return  # which entries there are is unknown
    texts = [line.text for line in lines] + [settings.get("keyfile")]
    unused = _unused(directory, texts)
    if not unused:
        return
    try:
        others = list(known_settings())
        more = [line for each in others for line in configured.lines(each)]
        used = needed().keyfiles
    except Trouble:
        return  # other files may use them
    texts += [line.text for line in more] + [each.get("keyfile") for each in others]
    own = {entries.canonical(line.key): line for line in (*more, *lines)}
    for domain, pairs in _unused(directory, texts, used).items():
        line = own.get(domain.encode())
        chosen = [pair for pair in keys(directory, domain) if not is_given_up(pair[1])]
        second = ed25519_key(directory, domain)
        if line and second in pairs and not _has_ed25519(line):
            yield Waiting(domain, [pair for pair in pairs if pair == second], ["--ed25519"])
        elif not line and has_rsa(chosen) and all(pair in pairs for pair in chosen):
            yield Waiting(domain, chosen, [])
        elif not line and not chosen:
            yield _with_selector(domain, pairs)


def _unused(
    directory: Path, texts: Sequence[str], used: frozenset[str] = frozenset()
) -> dict[str, list[Pair]]:
    """Return the keys in a directory that neither these entries nor ``used`` contain, by domain."""
    found: dict[str, list[Pair]] = {}
    if any("$" in text for text in texts):
        return found  # with macros, an entry may use any key
    for path in sorted(directory.glob("*.pem")):
        domain, _, selector = path.stem.rpartition(".")
        if (
            domain
            and not is_given_up(path)
            and path.stat().st_mode & 0o040
            and os.path.realpath(path) not in used
            and not any(str(path) in text for text in texts)
        ):
            found.setdefault(domain, []).append((selector, path))
    return found


def _has_ed25519(line: entries.Line) -> bool:
    """Return whether an entry has an Ed25519 key; True if that is unknown."""
    try:
        paths = [signature.options.get("keyfile", "") for signature in line.signatures()]
        return any(publickey.public(path)[0] == "ed25519" for path in paths)
    except Trouble:
        return True


def _with_selector(domain: str, pairs: list[Pair]) -> Waiting:
    """Return the newest of a domain's keys with selectors that were given to setup."""
    newest = max(pairs, key=lambda pair: pair[1].stat().st_mtime)[0]
    both = [
        pair for pair in pairs if newest[-1] in "re" and pair[0] in (f"{newest[:-1]}r", f"{newest[:-1]}e")
    ]
    if len(both) > 1:
        return Waiting(domain, both[::-1], ["--ed25519", "--selector", newest[:-1]])
    return Waiting(domain, [pair for pair in pairs if pair[0] == newest], ["--selector", newest])
