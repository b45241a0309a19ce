"""SigningTable and KeyTable as rules.

``%`` stands for the domain of the sender: in a SigningTable as the name of a key, and within i=; in a
KeyTable as d=, and within the path for d=.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dkimpipe.admin.migration.foreign import CHANGED, LOST, SAME, Foreign, ForeignSignature, Rule
from dkimpipe.admin.migration.opendkim.datasets import Dataset, Record, absolute
from dkimpipe.admin.migration.opendkim.senders import (
    SENDER_DOMAIN,
    Key,
    from_domain_pattern,
    from_domain_word,
    from_pattern,
    from_word,
)
from dkimpipe.admin.opendkim.conf import Conf

_MOST = 2  # dkimf_add_signrequest in opendkim.c does not advance the end of its list
_PATHS = ("/", "./", "../")


class _Choice(NamedTuple):
    """A line of the SigningTable for some senders, and the line of the KeyTable that it leads to, if any."""

    key: Key
    line: Record
    entry: Record | None


def add_rules(conf: Conf, signing_table: Dataset, key_table: Dataset, foreign: Foreign) -> None:
    """Add the rules of both tables, and what cannot be expressed."""
    choices = [each for line in signing_table.records for each in _choices(line, signing_table, key_table)]
    _remark_keys(signing_table, foreign)
    if not signing_table.patterns:  # OpenDKIM looks up the more particular first, and ignores the order
        first = {choice.key.text: choice for choice in reversed(choices)}
        choices = sorted(first.values(), key=lambda choice: -sum(text in first for text in choice.key.wider))
    several = conf.yes("MultipleSignatures")
    numbers: dict[str, list[int]] = {}
    for number, choice in enumerate(choices):
        numbers.setdefault(choice.key.text, []).append(number)
    for number, choice in enumerate(choices):
        applying = sorted(each for text in choice.key.wider for each in numbers.get(text, ()))
        if applying[0] < number and not several:
            text = f"{choice.line.key} is never used: {choices[applying[0]].line.place} applies first"
            foreign.remark(choice.line.place, SAME, f"SigningTable: {text}")
        elif numbers[choice.key.text][0] == number:
            used = [choices[each] for each in applying] if several else [choice]
            _add_rule(choice, used, conf, foreign)


def _key(line: Record, table: Dataset) -> Key:
    return from_pattern(line.key) if table.patterns else from_word(line.key)


def _remark_keys(table: Dataset, foreign: Foreign) -> None:
    for line in table.records:
        key = _key(line, table)
        name = f"SigningTable: {line.key}".rstrip(": ")
        if key.reason:
            foreign.remark(line.place, key.effect, f"{name}: {key.reason}")
        if line.value.startswith("%") and key.text and not key.domain:
            text = f"{name}: mail of a domain without a key is deferred today; here it is not signed"
            foreign.remark(line.place, CHANGED, text)


def _choices(line: Record, signing_table: Dataset, key_table: Dataset) -> Iterator[_Choice]:
    """Yield what a line means: one choice, or one for each key if the sender's domain names the key."""
    key, name = _key(line, signing_table), line.value.partition(":")[0]
    if not key.text:
        return
    if name != "%" or key.domain:
        yield _Choice(key, line, key_table.find(key.domain if name == "%" else name))
        return
    for entry in key_table.records:
        domain = from_domain_pattern(entry.key) if key_table.patterns else from_domain_word(entry.key, False)
        if domain.text and key.includes(domain):
            yield _Choice(domain, line, entry)
        elif domain.text and domain.includes(key):
            yield _Choice(key, line, entry)


def _add_rule(choice: _Choice, used: list[_Choice], conf: Conf, foreign: Foreign) -> None:
    """Add the rule for a key, with the signatures of all choices that are used."""
    if len(used) > _MOST:
        text = f"of {len(used)} signatures the first and the last are made, as today"
        foreign.remark(choice.line.place, SAME, f"SigningTable: {choice.line.key}: {text}")
        used = [used[0], used[-1]]
    signatures = [_signature(choice.key, each, conf, foreign) for each in used]
    made = tuple(dict.fromkeys(signature for signature in signatures if signature))
    if len(made) < len([signature for signature in signatures if signature]):
        text = f"SigningTable: {choice.line.key}: signed twice with one key today; once here"
        foreign.remark(choice.line.place, CHANGED, text)
    if made:
        foreign.rules.append(Rule(choice.line.place, choice.key.text, made))
    if made and choice.key.is_extensible:
        extended = choice.key.text.replace("@", "+extension@")
        text = f"SigningTable: {choice.line.key}: {extended} has this signature from now on, too"
        foreign.remark(choice.line.place, CHANGED, text)


def _signature(key: Key, choice: _Choice, conf: Conf, foreign: Foreign) -> ForeignSignature | None:
    line, entry = choice.line, choice.entry
    name, _, identity = line.value.partition(":")
    parts = entry.value.split(":", 2) if entry else []
    if not entry or len(parts) < 3 or not all(parts):
        what = f"{entry.place}: no domain, selector and key" if entry else f"KeyTable has no {name}"
        text = f"SigningTable: {line.key}: {what}: its mail is deferred today; here it is not signed"
        foreign.remark(line.place, LOST, text)
        return None
    domain = parts[0].lower() if parts[0] != "%" else key.domain or SENDER_DOMAIN
    signer = identity.replace("%", key.domain or SENDER_DOMAIN)
    options = (("i", signer),) if _is_identity(signer, domain) else ()
    if signer and "@" not in signer:
        text = (
            f"SigningTable: {line.key}: i={identity} has no @: its mail is unsigned today; here it is signed"
        )
        foreign.remark(line.place, CHANGED, text)
    elif signer and not options:
        text = f"SigningTable: {line.key}: i={identity} is not at or below d={domain}: left out, as today"
        foreign.remark(line.place, SAME, text)
    if not parts[2].startswith(_PATHS):
        return ForeignSignature(entry.place, domain, parts[1], "", parts[2].encode(), options)
    path = parts[2].replace("%", domain) if parts[2].startswith("/") else parts[2]
    if SENDER_DOMAIN in path:
        text = f"KeyTable: {entry.key}: mail of a domain without a key is deferred today; here it leaves"
        foreign.remark(entry.place, CHANGED, f"{text} unsigned, with a warning in the log")
    return ForeignSignature(entry.place, domain, parts[1], str(absolute(conf, path)), b"", options)


def _is_identity(signer: str, domain: str) -> bool:
    """Return whether i= can be at or below d=; our macros are checked when they are expanded."""
    _, at, host = signer.rpartition("@")
    is_below = f".{host}".lower().endswith(f".{domain}")
    return bool(at) and (is_below or (host.startswith("$") and not domain.startswith("$")))
