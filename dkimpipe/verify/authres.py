"""The Authentication-Results field (RFC 8601), written.

Text from a message or DNS cannot inject anything: a value that is not a token, domain or address (section
2.2) is written as a quoted string, without any octet that could end it, even for a reader that does not parse
quoted pairs (such as Mail::AuthenticationResults), or quotes.
"""

from __future__ import annotations

from dkimpipe.tags import WIDTH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = b"authentication-results"
# The methods, by the name of the signature field in lower case.
METHODS = {b"dkim-signature": "dkim", b"domainkey-signature": "domainkeys"}
_MAX_VALUE = 255  # characters
_SPECIAL = '"\\;()'
_LABEL = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
# RFC 5322, without "/", "=" and "?": a token has none of them, and not all read header.i==@example.com.
_ATOM = _LABEL + "!#$%&'*+^`{|}~"
_WORD = _ATOM + "."  # a token of RFC 2045; a domain is one, too


class ResInfo:
    """The result of one method, which is ``resinfo`` in the grammar (section 2.2).

    ``method``      dkim, domainkeys, dmarc, or one of other programs, such as spf
    ``result``      none pass fail policy neutral temperror permerror (section 2.7.1)
    ``properties``  such as ("header.d", "example.com")
    ``reason``      in words, or empty
    """

    __slots__ = ("method", "properties", "reason", "result")

    def __init__(
        self, method: str, result: str, properties: tuple[tuple[str, str], ...] = (), reason: str = ""
    ) -> None:
        self.method = method
        self.result = result
        self.properties = properties
        self.reason = reason


def write(authserv_id: str, resinfos: Sequence[ResInfo]) -> bytes:
    """Return the field as LF text, folded at WIDTH columns where its parts allow it, no LF at its end."""
    lines = [f"Authentication-Results: {authserv_id}"]
    for resinfo in resinfos:
        lines[-1] += ";"
        words = [f"{resinfo.method}={resinfo.result}"]
        if resinfo.reason:
            words.append(f"reason={_value(resinfo.reason)}")
        words += [f"{name}={_value(value)}" for name, value in resinfo.properties]
        lines.append("")
        for word in words:
            if lines[-1] and len(lines[-1]) + 1 + len(word) >= WIDTH:
                lines.append("")
            lines[-1] += " " + word
    if not resinfos:
        lines[-1] += "; none"
    return "\n".join(lines).encode("ascii")


def _value(text: str) -> str:
    """Return a value in a form that is safe in the field: at most _MAX_VALUE characters of it."""
    text = "".join([c if " " <= c <= "~" and c not in _SPECIAL else "?" for c in text[:_MAX_VALUE]])
    return text if _needs_no_quotes(text) else f'"{text}"'


def _needs_no_quotes(text: str) -> bool:
    local_part, at, domain = text.partition("@")
    if not at:
        return text != "" and not text.strip(_WORD)
    return (not local_part or _is_dotted(local_part, _ATOM)) and _is_dotted(domain, _LABEL)


def _is_dotted(text: str, letters: str) -> bool:
    """Return whether this is words of these letters, with a dot between each two."""
    return all(word and not word.strip(letters) for word in text.split("."))
