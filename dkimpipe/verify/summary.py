"""The report on the signatures: in the Authentication-Results field, and in one log line."""

from __future__ import annotations

from dkimpipe.errors import printable
from dkimpipe.verify.authres import ResInfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from dkimpipe.verify.verifier import SignatureResult

_SHORTEST = 8  # characters of b= (RFC 6008 section 4)
_LOGGED = {"header.d": "d", "header.s": "s", "header.a": "a", "header.from": "from", "policy.dmarc": "policy"}


def resinfos(results: Sequence[SignatureResult], unchecked: int) -> list[ResInfo]:
    """Return the results for the field; ``unchecked`` is the number of signatures that were not checked."""
    reported = [
        ResInfo(each.method, each.result, _properties(each, results), each.reason) for each in results
    ]
    if unchecked:
        reported.append(ResInfo("dkim", "policy", (), f"{unchecked} more signatures were not checked"))
    return reported or [ResInfo("dkim", "none")]


def line(reported: Sequence[ResInfo]) -> str:
    """Return the results for the log."""
    facts = []
    for result in reported:
        words = [f"{result.method}={result.result}", *([f"({result.reason})"] if result.reason else [])]
        wanted = [f"{_LOGGED[name]}={value}" for name, value in result.properties if name in _LOGGED]
        words += [printable(word.encode()) for word in wanted]
        facts.append(" ".join(words))
    return f"verified: {'; '.join(facts)}"


def _properties(each: SignatureResult, results: Sequence[SignatureResult]) -> tuple[tuple[str, str], ...]:
    """Return the properties of a signature (RFC 8601 section 2.7.1); none if it cannot be parsed."""
    signature = each.signature
    if not signature:
        return ()
    pairs = [("header.d", signature.domain)]
    if signature.method == "dkim":
        pairs.append(("header.i", signature.identity))
    pairs += [
        ("header.s", signature.selector),
        ("header.a", signature.algorithm.encode()),
        ("header.b", _beginning(each, results)),
    ]
    return tuple((name, value.decode("utf-8", "replace")) for name, value in pairs)


def _beginning(each: SignatureResult, results: Sequence[SignatureResult]) -> bytes:
    """Return as much of b= as distinguishes it from the others."""
    from dkimpipe.verify import taglist

    values = [taglist.unfolded(other.signature.tags[b"b"]) for other in results if other.signature]
    own = taglist.unfolded(each.signature.tags[b"b"]) if each.signature else b""
    for length in range(_SHORTEST, len(own)):
        if sum(value[:length] == own[:length] for value in values) == 1:
            return own[:length]
    return own[:_SHORTEST]
