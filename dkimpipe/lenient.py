"""The address in a From field whose display name has a syntax error, as other programs read it.

RFC 5322 wants backslashes, brackets, parentheses and quotes of a display name in a quoted string, but some
programs write ``ACME\\Sales <a@example.com>`` or ``O'Brien) <a@example.com>``. Only a field in which nothing
else looks like an address, in any reading, is accepted: a display name must never choose the key. An at sign
alone, as in ``Foo b@other.org <a@example.com>``, is not in doubt, and ``first_mailbox`` reads it.
"""

from binascii import Error as Base64Error
from binascii import a2b_base64, a2b_qp

from dkimpipe.address import Mailbox, after_quoted, first_mailbox
from dkimpipe.errors import NotSigned

# The marks of an address, and all characters that become one of them in Unicode's compatibility forms.
_MARKS = "@<>\uff20\ufe6b\uff1c\ufe64\u226e\uff1e\ufe65\u226f"
_NOT_PLAIN = bytes([*range(33), 127]) + b'()<>[]:;\\,"'
_PAIRS = ((b'"', b'"'), (b"(", b")"), (b"[", b"]"))
# The charsets of encoded words (RFC 2047) that can be searched for these marks.
_CHARSETS = (
    *("utf-8", "us-ascii", "koi8-r", "koi8-u", "gb2312", "gbk", "gb18030", "big5", "euc-kr"),
    *("euc-jp", "iso-2022-jp", "shift_jis"),
    *(f"iso-8859-{part}" for part in (*range(1, 12), *range(13, 17))),
    *(f"windows-{page}" for page in range(1250, 1259)),
)


def only_mailbox(value: bytes) -> "Mailbox | None":
    """Return the mailbox of an unfolded field value that ``first_mailbox`` cannot read; None if in doubt."""
    name, _, rest = value.partition(b"<")
    inside, closing, after = rest.partition(b">")
    address = inside.strip(b" \t")
    if not closing or address.translate(None, _NOT_PLAIN) != address or _marks(address) != ["@"]:
        return None
    if _marks(name) or _marks(after):
        return None
    if any(opens in name and closes in after for opens, closes in _PAIRS):  # the address may be within them
        return None
    outside = _without_quoted_strings(name).replace(b"\\\\", b"")
    outside = outside.replace(b"\\,", b"").replace(b"\\;", b"") + after  # escaped, they are in a name
    if b"," in outside or b";" in outside:  # a list, perhaps of other mailboxes
        return None
    try:
        return first_mailbox(address)
    except NotSigned:
        return None


def _marks(octets: bytes) -> "list[str]":
    """Return what looks like the marks of an address; something, too, if encoded words cannot be decoded."""
    text = _decoded(octets)
    return ["?"] if text is None else [letter for letter in text if letter in _MARKS]


def _decoded(octets: bytes) -> "str | None":
    """Return text with its encoded words decoded; None if one has an error or an unusual charset."""
    pieces = []
    at = 0
    while (start := octets.find(b"=?", at)) >= 0:
        pieces.append(octets[at:start].decode("utf-8", "replace"))
        after_charset = octets.find(b"?", start + 2)
        at = octets.find(b"?=", after_charset + 3) + 2
        if after_charset < 0 or at < 2:
            return None
        word = _decoded_word(octets[start + 2 : after_charset], octets[after_charset + 1 : at - 2])
        if word is None:
            return None
        pieces.append(word)
    return "".join([*pieces, octets[at:].decode("utf-8", "replace")])


def _decoded_word(charset: bytes, rest: bytes) -> "str | None":
    """Return the text of an encoded word; ``rest`` is its encoding, a question mark, and the encoded text."""
    name = charset.partition(b"*")[0].decode("latin-1").lower()  # RFC 2231 section 5: a language may follow
    decode = {b"B?": a2b_base64, b"Q?": lambda text: a2b_qp(text, header=True)}.get(rest[:2].upper())
    if name not in _CHARSETS or not decode:
        return None
    try:
        return decode(rest[2:]).decode(name)
    except (Base64Error, ValueError):
        return None


def _without_quoted_strings(octets: bytes) -> bytes:
    """Return octets with a space in place of each complete quoted string."""
    pieces = []
    at = 0
    while (start := octets.find(b'"', at)) >= 0:
        try:
            end = after_quoted(octets, start)
        except ValueError:
            break
        pieces.append(octets[at:start])
        at = end
    return b" ".join([*pieces, octets[at:]])
