"""The report on the signatures: in the Authentication-Results field, and in one log line."""

from __future__ import annotations

from dkimpipe.errors import printable
from dkimpipe.verify.authres import ResInfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from dkimpipe.verify.verifier import SignatureResult

_LENGTHS = (8, 16, 32, 64, 128)  # characters of b= (RFC 6008 section 4: at least 8)
_LOGGED = {"header.d": "d", "header.s": "s", "header.a": "a", "header.from": "from", "policy.dmarc": "policy"}


def resinfos(results: Sequence[SignatureResult], unchecked: int) -> list[ResInfo]:
    """Return the results for the field; ``unchecked`` is the number of signatures that were not checked."""
    values = [_signature_value(each) for each in results]
    reported = [ResInfo(each.method, each.result, _properties(each, values), each.reason) for each in results]
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


def _properties(each: SignatureResult, values: Sequence[bytes]) -> tuple[tuple[str, str], ...]:
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
        ("header.b", _beginning(_signature_value(each), values)),
    ]
    return tuple((name, value.decode("utf-8", "replace")) for name, value in pairs)


def _signature_value(each: SignatureResult) -> bytes:
    """Return b= without white space; empty if it cannot be parsed."""
    from dkimpipe.verify import taglist

    return taglist.unfolded(each.signature.tags[b"b"]) if each.signature else b""


def _beginning(value: bytes, values: Sequence[bytes]) -> bytes:
    """Return as much of b= as distinguishes it from the others, the least if nothing does."""
    for length in _LENGTHS:
        begin = value[:length]
        if sum([other.startswith(begin) for other in values]) == 1:
            return begin
    return value[: _LENGTHS[0]]
