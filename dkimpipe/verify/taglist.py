"""Tag lists, parsed strictly (RFC 6376 section 3.2): the syntax of signatures and key records."""

from __future__ import annotations

from binascii import a2b_base64

NO_TAG = "not a tag list"
FWS = b" \t\r\n"
_LETTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NAME = _LETTERS + b"0123456789_"
_BASE64 = _LETTERS + b"0123456789+/"
# VALCHAR and folding white space between; above US-ASCII only UTF-8 (RFC 8616), which parse() checks.
_VALUE = bytes([*range(0x21, 0x7F), *range(0x80, 0x100)]).replace(b";", b"") + FWS


class TagListError(ValueError):
    """A fault in a tag list, in words that quote none of its content.

    ``piece``  the text at fault, of any content; empty if the words are enough
    ``place``  the number of the part between semicolons, from 0
    ``left``   the number of parts that follow
    """

    def __init__(self, what: str, piece: bytes, place: int, left: int) -> None:
        super().__init__(what)
        self.piece = piece
        self.place = place
        self.left = left


def parse(text: bytes) -> dict[bytes, bytes]:
    """Return the value of each tag, without surrounding white space, in order.

    ``text`` may be folded, in any way. Raises TagListError: a duplicate tag makes the list invalid.
    """
    tags: dict[bytes, bytes] = {}
    specs = text.strip(FWS).split(b";")
    if len(specs) > 1 and not specs[-1].strip(FWS):
        specs.pop()
    for place, spec in enumerate(specs):
        where = (place, len(specs) - place - 1)
        name, equals, value = spec.partition(b"=")
        name, value = name.strip(FWS), value.strip(FWS)
        if not equals or not _is_name(name):
            raise TagListError(NO_TAG, spec, *where)
        if value.translate(None, _VALUE) or not _is_utf8(value):
            raise TagListError(f"{_short(name)}= contains invalid characters", value, *where)
        if name in tags:
            raise TagListError(f"the tag {_short(name)}= appears twice", b"", *where)
        tags[name] = value
    return tags


def unfolded(value: bytes) -> bytes:
    """Return a value without white space, where that is insignificant: base64, or quoted-printable."""
    return value.translate(None, FWS)


def words(value: bytes) -> list[bytes]:
    """Return the words of a colon-separated list, in lower case, without surrounding white space."""
    return [word.strip(FWS) for word in value.lower().split(b":")]


def base64(value: bytes) -> bytes:
    """Return the octets of base64 text, which may be folded. Raises ValueError if it is invalid or empty."""
    text = unfolded(value)
    digits = text.rstrip(b"=")
    if not digits or digits.translate(None, _BASE64) or len(text) - len(digits) > 2 or len(text) % 4:
        raise ValueError("not base64")
    return a2b_base64(text)


def _is_name(name: bytes) -> bool:
    return name[:1].isalpha() and not name.translate(None, _NAME)


def _short(name: bytes) -> str:
    """Return the name of a tag for a message: a name is US-ASCII, but can be of any length."""
    return name[:20].decode("ascii")


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
