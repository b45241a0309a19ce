"""SMTP TLS reports (RFC 8460): whether others could deliver to us as MTA-STS or DANE ask for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any, NamedTuple

from dkimpipe.admin.reports.documents import Unreadable
from dkimpipe.errors import one_line

_LARGEST = 2 << 20  # octets: JSON can take thirty times that in memory
_LONGEST = 1000  # characters of a value
_LONGEST_NAME = 100  # characters of an organisation, which is shown
_DIGITS = 20  # of an integer: Python takes very long for very long ones
_MOST = 1 << 40  # sessions
_NAMES: dict[type, str] = {dict: "an object", list: "a list"}


class Failure(NamedTuple):
    """Sessions that failed in the same way. ``result`` is a result type of RFC 8460 section 4.3."""

    result: str
    mx: str
    sending_ip: str
    sessions: int


class Policy(NamedTuple):
    """What happened under one policy. ``type`` is sts, tlsa or no-policy-found."""

    type: str
    domain: str
    successful: int
    failed: int
    failures: tuple[Failure, ...]


class TlsReport(NamedTuple):
    """A complete report; times in seconds since 1970."""

    organisation: str
    report_id: str
    begin: int
    end: int
    policies: tuple[Policy, ...]


def read(chunks: Iterator[bytes]) -> TlsReport:
    """Return a report. Raises Unreadable."""
    octets = b""
    for chunk in chunks:
        octets += chunk
        if len(octets) > _LARGEST:
            raise Unreadable(f"larger than {_LARGEST >> 20} MiB")
    try:
        report = _is(dict, json.loads(octets, parse_int=_integer), "the report")
    except RecursionError:
        raise Unreadable("JSON: nested too deeply") from None
    except ValueError as error:
        raise Unreadable(f"JSON: {one_line(str(error))}") from None
    dates = _is(dict, report.get("date-range"), "date-range")
    policies = _is(list, report.get("policies"), "policies")
    found = TlsReport(
        (_text(report.get("organization-name")) or _text(report.get("contact-info")))[:_LONGEST_NAME],
        _text(report.get("report-id")),
        _time(dates.get("start-datetime")),
        _time(dates.get("end-datetime")),
        tuple(_policy(_is(dict, each, "a policy")) for each in policies),
    )
    if not found.organisation:
        raise Unreadable("no organization-name")
    return found


def _policy(values: dict[str, Any]) -> Policy:
    policy = _is(dict, values.get("policy"), "policy")
    summary = _is(dict, values.get("summary"), "summary")
    details = _is(list, values.get("failure-details") or [], "failure-details")
    return Policy(
        _text(policy.get("policy-type")).lower(),
        _text(policy.get("policy-domain")).lower().rstrip("."),
        _sessions(summary, "total-successful-session-count"),
        _sessions(summary, "total-failure-session-count"),
        tuple(_failure(_is(dict, each, "failure-details")) for each in details),
    )


def _failure(values: dict[str, Any]) -> Failure:
    return Failure(
        _text(values.get("result-type")),
        _text(values.get("receiving-mx-hostname")).lower(),
        _text(values.get("sending-mta-ip")),
        _sessions(values, "failed-session-count"),
    )


def _is(kind: type, value: Any, name: str) -> Any:
    if not isinstance(value, kind):
        raise Unreadable(f"{name} is not {_NAMES[kind]}")
    return value


def _text(value: Any) -> str:
    """Return a text without lone surrogates, which JSON can contain and a database cannot."""
    return value[:_LONGEST].encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _shown(value: Any) -> str:
    return one_line(str(value)[:60]) if isinstance(value, (str, int, float)) else type(value).__name__


def _integer(text: str) -> int:
    if len(text) > _DIGITS:
        raise Unreadable(f"a number of {len(text):,} digits")
    return int(text)


def _sessions(values: dict[str, Any], name: str) -> int:
    value = values.get(name, 0)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _MOST:
        raise Unreadable(f"{name} '{_shown(value)}' is not a number of sessions")
    return value


def _time(value: Any) -> int:
    """Return a time (RFC 3339) in seconds since 1970."""
    try:
        moment = datetime.fromisoformat(_text(value).replace("Z", "+00:00").replace("z", "+00:00"))
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        raise Unreadable(f"'{_shown(value)}' is not a time as in RFC 3339") from None
    return int(seconds)
