"""What calls for action, one line each, the most pressing first."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from dkimpipe.admin.findings import NOTE, Finding
from dkimpipe.admin.reports.analysis import (
    ALTERED,
    FAILED,
    FORGED,
    SERVICE,
    UNPROVEN,
    UNSIGNED,
    DomainReport,
    Source,
    Strangers,
)

_FEW = 10  # messages of a service; spam, too, is often signed with some other domain
_GLITCH = 0.05  # of the messages: fewer temporary errors are nothing to look into
_SHOWN = 3  # receivers
_MOST_RECEIVERS = 10  # of a selector that failed
_MOST = 50  # errors, and other findings
_MANY_TIMES = 10


class Concern(NamedTuple):
    """What calls for action.

    ``topic``     what it is about, the same in every run
    ``messages``  or TLS sessions
    ``latest``    the number of the latest report on it
    """

    topic: str
    messages: int
    latest: int
    finding: Finding


def concerns(domains: Mapping[str, DomainReport], own: frozenset[str], now: int) -> list[Concern]:
    """Return what calls for action for these domains; ``now`` in seconds since 1970."""
    found = []
    for kind, describe in _KINDS.items():
        for name, domain in domains.items():
            about = _About(name, domain, own, now)
            sources = {key[1]: each for key, each in domain.sources.items() if key[0] == kind}
            for source, total, finding in describe(about, sources):
                topic = f"{kind} {name} {source}".rstrip()
                found.append(Concern(topic, total.messages, total.latest, finding))
    return found


def about_strangers(strangers: Strangers) -> list[Concern]:
    """Return that there are reports on domains whose mail we do not sign; nothing if there are none."""
    count = len(strangers.numbers)
    if not count:
        return []
    what = (
        f"{number(count, 'report')} on domains that are not in the senders file, such as {strangers.example}"
    )
    return [Concern("strangers", count, max(strangers.numbers), Finding(what, level="warning"))]


def about_more(count: int, latest: int) -> list[Concern]:
    """Return that there are reports on so many more domains, up to the latest; nothing if there are none."""
    if not count:
        return []
    what = f"and {number(count, 'more domain')} not shown: no entry of the senders file names them"
    return [Concern("more domains", count, latest, Finding(what, level="warning"))]


def by_level(found: Iterable[Concern]) -> list[Concern]:
    """Return the same with the errors first."""
    return sorted(found, key=lambda each: each.finding.level != "error")


def shown(findings: Sequence[Finding]) -> list[Finding]:
    """Return the first errors and the first of the others, and how many more there are."""
    errors = [finding for finding in findings if finding.level == "error"]
    others = [finding for finding in findings if finding.level != "error"]
    first = [*errors[:_MOST], *others[:_MOST]]
    more = len(findings) - len(first)
    return [*first, *([Finding(f"and {more:,} more", level=NOTE)] if more else [])]


def unsaid(found: Iterable[Concern], after: int, said: Mapping[str, int]) -> list[Concern]:
    """Return what the administrator does not know yet.

    That is what reports after number ``after`` are about. Of these, warnings are left out if they were said
    in the last days, with ``said`` messages by topic, unless the messages are many times as many now.
    """
    return [
        each
        for each in found
        if each.latest > after
        and (
            each.finding.level == "error"
            or each.topic not in said
            or each.messages >= said[each.topic] * _MANY_TIMES
        )
    ]


class _About(NamedTuple):
    name: str
    domain: DomainReport
    own: frozenset[str]
    now: int


_Sources = Mapping[str, Source]
_Described = Iterator[tuple[str, Source, Finding]]  # the name of a source, its messages


def _failed(about: _About, sources: _Sources) -> _Described:
    for selector, source in sources.items():
        counts = []
        for receiver, failed in source.receivers.most_common(_MOST_RECEIVERS):
            share = about.domain.selectors.get(selector, {}).get(receiver)
            messages = share.messages if share else failed
            if set(source.results) != {"temperror"} or failed > messages * _GLITCH:
                counts.append(f"{receiver}: {failed:,} of {messages:,}")
        if counts:
            if len(source.receivers) > _MOST_RECEIVERS:
                counts.append(f"and {len(source.receivers) - _MOST_RECEIVERS} more")
            which = f"selector {selector}" if selector else "a signature"
            results = ", ".join(sorted(source.results))
            since = day_of(source.since, about.now)
            what = f"{which} of {about.name} failed at {', '.join(counts)} since {since} ({results})"
            yield selector, source, Finding(what, f"dkimpipe check --dns\n{_WHY_FAILED}")


_WHY_FAILED = (
    "permerror: its key was not found, or is not valid; fail: the mail was altered after signing,"
    " or signed with another key than the one in DNS;"
    " pass: the domain is not aligned with From (adkim=s)"
)


def _unproven(about: _About, sources: _Sources) -> _Described:
    for selector, source in sources.items():
        if set(source.results) != {"temperror"}:
            address = min(source.addresses)
            more = f" and {len(source.addresses) - 1:,} more" if len(source.addresses) > 1 else ""
            what = (
                f"{about.name}: {number(source.messages, 'message')} with a signature of"
                f" {f'selector {selector}' if selector else 'this domain'} that could not be verified"
                f" ({', '.join(sorted(source.results))}) since {day_of(source.since, about.now)},"
                f" from {address}{more}"
            )
            hint = (
                f"if {address} is a server of yours: --own {address}; otherwise they are forged or forwarded"
            )
            yield selector, source, Finding(what, hint, level="warning")


def _unsigned(about: _About, sources: _Sources) -> _Described:
    silent = about.domain.silent - about.domain.listing
    for address, source in sources.items():
        # Of these receivers nobody knows whether a signature was there.
        unknown = sum(count for receiver, count in source.receivers.items() if receiver in silent)
        how = "unsigned" if unknown < source.messages else "without a valid signature"
        count = source.messages - unknown or unknown
        since = day_of(source.since, about.now)
        what = f"{about.name}: {number(count, 'message')} from {address} {how} since {since}"
        if unknown == source.messages:
            what += f", as reported by {_receivers(source)}, which does not say whether there was one"
        if address in about.own:
            finding = Finding(f"{what}: this server", "dkimpipe audit")
        else:
            hint = "have that server sign, or take it out of the SPF record"
            finding = Finding(f"{what}: a server that its SPF record authorises", hint)
        yield address, source, finding


def _altered(about: _About, sources: _Sources) -> _Described:
    for name, source in sources.items():
        how = f"altered by {name}, a mailing list or forwarder,"
        hint = "have the list leave subject and text unchanged, or put its own address into From"
        if name in source.addresses:  # nothing but the address says whose server it is
            how = f"from {name} with an invalid signature"
            hint = (
                f"if {name} is a server of yours: --own {name}, and add it to the SPF record; otherwise a"
                " mailing list or forwarder altered them"
            )
        what = (
            f"{about.name}: {number(source.messages, 'message')} {how} since"
            f" {day_of(source.since, about.now)}; reported by {_receivers(source)}"
        )
        yield name, source, Finding(what, hint, level="warning")


def _service(about: _About, sources: _Sources) -> _Described:
    for name, source in sources.items():
        if source.messages >= _FEW:
            what = (
                f"{about.name}: {number(source.messages, 'message')} sent by {name} without a signature of"
                f" {about.name} since {day_of(source.since, about.now)}"
            )
            hint = f"if it sends for you, have it sign with d={about.name} and a selector of its own"
            yield name, source, Finding(what, hint, level="warning")


def _forged(about: _About, sources: _Sources) -> _Described:
    few = [
        source
        for (kind, _), source in about.domain.sources.items()
        if kind == SERVICE and source.messages < _FEW
    ]
    total = Source()
    for each in (*sources.values(), *few):
        total.merge(each)
    if not total.delivered:
        return
    policy = about.domain.policy or "p=none"
    what = (
        f"{about.name}: {number(total.messages, 'message')} forged since {day_of(total.since, about.now)},"
        f" from {number(len(total.addresses), 'address', 'es')}; {total.delivered:,} of them delivered"
        f" ({policy})"
    )
    place = f"_dmarc.{about.domain.publisher or about.name}"
    changes = " and ".join(filter(None, map(_stricter, policy.split(", "))))
    hint = f"once all your own mail is signed, {changes} in the record {place}" if changes else ""
    yield "", total, Finding(what, hint, level="warning")


def _stricter(setting: str) -> str:
    """Return how to make part of a policy stricter, nothing if it is strict."""
    tag, _, value = setting.partition("=")
    full = {"t": "n", "pct": "100"}.get(tag, "quarantine" if value == "none" else "")
    return f"change {setting} to {tag}={full}" if full else ""


_KINDS = {
    FAILED: _failed,
    UNSIGNED: _unsigned,
    UNPROVEN: _unproven,
    ALTERED: _altered,
    SERVICE: _service,
    FORGED: _forged,
}


def _receivers(source: Source) -> str:
    names = [name for name, _ in source.receivers.most_common(_SHOWN)]
    more = len(source.receivers) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def number(count: int, word: str, plural: str = "s") -> str:
    """Return a count and what is counted, in the plural if necessary."""
    return f"{count:,} {word}{'' if count == 1 else plural}"


def day_of(seconds: int, now: int) -> str:
    """Return the day of the week for the last six days, otherwise the date; in UTC, as in the reports."""
    form = "%A" if 0 <= now - seconds < 6 * 86400 else "%Y-%m-%d"
    return time.strftime(form, time.gmtime(seconds))
