"""The problems with a key record, and whose key a record contains.

The parser of ``verify`` decides whether a record is valid; a few rules here cover stricter verifiers, because
mail that any of them refuses is lost. The cause is determined afterwards, for the message only.
"""

from __future__ import annotations

import enum
import itertools
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from dkimpipe.admin.dns import mangled
from dkimpipe.admin.dns.mangled import SPLIT_MARKS, quoted, typographic_quotes
from dkimpipe.errors import printable
from dkimpipe.options import SignatureOptions
from dkimpipe.verify import keyrecord, taglist
from dkimpipe.verify.keyrecord import KeyRecord, KeyRecordError
from dkimpipe.verify.taglist import TagListError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dkimpipe.admin.maps.outcomes import Use

_SHOWN = 40  # bytes of a record in a message
_OPENDKIM_LIMIT = 1024  # bytes: its BUFRSZ, beyond which it does not read
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_INVISIBLE = {"\u00a0": "non-breaking space", "\u200b": "zero-width space", "\u00ad": "soft hyphen"}
_ESCAPED_SEMICOLONS = {
    b"\\;": "backslashes before semicolons",
    b"\\059": "semicolons are written as \\059",
    b"\\3b": "semicolons are written as \\3b",
    b"%3B": "semicolons are written as %3B",
}
_MAX_PIECES = 4  # TXT records that may be one value: there are 24 orders
_NOT_TAG_CHARACTERS = re.compile(rb"[^\x20-\x7e\t\r\n]+")
_KEY_LIKE = re.compile(rb"[A-Za-z0-9+/]{40}")  # the shortest, of Ed25519, has 43


class Need(NamedTuple):
    """The requirements of a signature for its record.

    ``value``       the record as ``dkimpipe dns`` writes it
    ``hash``        sha256, or sha1 for DomainKeys and a=rsa-sha1
    ``below``       i= can be in a subdomain of d=
    ``domainkeys``  it is a DomainKeys signature
    ``local_part``  the local part of the sender, if there is only one
    """

    value: str
    hash: str = "sha256"
    below: bool = False
    domainkeys: bool = False
    local_part: str = ""


def need(options: SignatureOptions, below: bool, local_part: str, value: str) -> Need:
    """Return the requirements of a signature; ``value`` is the record of its key."""
    domainkeys = options.type == "domainkeys"
    sha1 = domainkeys or options.algorithm == "rsa-sha1"
    return Need(value, "sha1" if sha1 else "sha256", below, domainkeys, local_part)


def need_of(use: Use, value: str) -> Need:
    """Return the requirements of a signature in a map; ``value`` is the record of its key."""
    local_part, at, _ = use.line.key.rpartition("@")
    return need(use.options, use.below, local_part if at else "", value)


def faults(needed: Need, texts: list[bytes]) -> list[tuple[str, str]]:
    """Return the problems with the TXT records of a name, each with its level: error or warning."""
    if exposed := mangled.exposed(texts, _key_of(needed.value)):
        return [(exposed, "error")]
    if len(texts) > 1:
        return [(_describe_several(texts, needed.value), "error")]
    (text,) = texts
    try:
        found = keyrecord.parse(text)
    except KeyRecordError as error:
        return [(_describe(error, text, _key_of(needed.value)), "error")]
    if found.key.base64.encode() != _key_of(needed.value):
        return [(_describe_other_key(found.tags[b"p"], _key_of(needed.value)), "error")]
    known = [
        *_against_signature(needed, found),
        *_foreign(needed, found, text),
        *_refused_by_stricter(needed, found, text),
    ]
    is_wrong = any(level == "error" for _, level in known)
    return known if is_wrong else [*known, *_against_grammar(found, text)]


def _foreign(needed: Need, found: KeyRecord, text: bytes) -> Iterator[tuple[str, str]]:
    """Yield the characters in p= that verifiers ignore: quotes all of them, any others not Mail::DKIM."""
    value = found.tags[b"p"]
    if characters := keyrecord.foreign(value):
        what = mangled.describe(value, _key_of(needed.value))
        if value.endswith(b"\\"):
            what = _ESCAPED_SEMICOLONS.get(text[text.rindex(b"\\") :][:2], what)
        yield (
            what or "p= contains characters that are not base64",
            "warning" if characters == {b'"'} else "error",
        )


def _key_of(value: str) -> bytes:
    """Return the base64 key in one of our records; empty if the record is damaged."""
    try:
        return taglist.parse(value.encode()).get(b"p", b"")
    except TagListError:
        return b""


# Forms of a correct record that RFC 6376 allows and ``verify`` accepts: what they are, the verifiers that
# refuse them, and whether a record has this form. Seen with dkimpy 1.1, Mail::DKIM 1.2023, OpenDKIM 2.11.


def _is_bare(needed: Need, found: KeyRecord, text: bytes) -> bool:
    # A SubjectPublicKeyInfo ends in the RSAPublicKey (RFC 8017 appendix A.1.1).
    octets, usual = keyrecord.key_octets(found.tags[b"p"]), taglist.base64(_key_of(needed.value))
    return octets != usual and usual.endswith(octets)


def _is_unusual_der(needed: Need, found: KeyRecord, text: bytes) -> bool:
    return not taglist.base64(_key_of(needed.value)).endswith(keyrecord.key_octets(found.tags[b"p"]))


def _has_odd_type(needed: Need, found: KeyRecord, text: bytes) -> bool:
    return found.tags.get(b"k", b"rsa") != found.type.encode()


def _has_odd_hashes(needed: Need, found: KeyRecord, text: bytes) -> bool:
    hash_name = needed.hash.encode()
    words = found.tags.get(b"h", hash_name).split(b":")
    return found.allows_hash(needed.hash) and hash_name not in words


def _has_odd_services(needed: Need, found: KeyRecord, text: bytes) -> bool:
    is_odd = found.tags.get(b"s", b"*") not in (b"*", b"email")
    return is_odd and found.allows_email and not needed.domainkeys


def _has_granularity(needed: Need, found: KeyRecord, text: bytes) -> bool:
    return found.tags.get(b"g", b"*") != b"*" and not needed.domainkeys


_STRICTER: tuple[tuple[str, str, Callable[[Need, KeyRecord, bytes], bool]], ...] = (
    ("characters outside US-ASCII", "OpenDKIM", lambda needed, found, text: not text.isascii()),
    ("more than 1024 bytes", "OpenDKIM", lambda needed, found, text: len(text) > _OPENDKIM_LIMIT),
    ("p= as the bare key (RSAPublicKey)", "Mail::DKIM and OpenDKIM", _is_bare),
    ("p= in an unusual encoding (DER)", "dkimpy", _is_unusual_der),
    ("k= with capitals", "dkimpy and Mail::DKIM", _has_odd_type),
    ("h= with spaces or capitals", "Mail::DKIM", _has_odd_hashes),
    ("s= other than * or email alone", "dkimpy", _has_odd_services),
    ("g= other than *, for DKIM", "Mail::DKIM", _has_granularity),
)


def _refused_by_stricter(needed: Need, found: KeyRecord, text: bytes) -> Iterator[tuple[str, str]]:
    for what, verifiers, has_form in _STRICTER:
        if has_form(needed, found, text):
            yield f"{what}: {verifiers} would refuse it", "error"


# What all verifiers accept, although the grammar of RFC 6376 section 3.6.1 does not allow it.
_WORD = rb"[A-Za-z](?:[A-Za-z0-9-]*[A-Za-z0-9])?"  # hyphenated-word, section 2.10
_COLON = rb"[ \t\r\n]*:[ \t\r\n]*"
_FORMS = {
    b"h": re.compile(rb"%b(?:%b%b)*" % (_WORD, _COLON, _WORD)),
    b"s": re.compile(rb"(?:%b|\*)(?:%b(?:%b|\*))*" % (_WORD, _COLON, _WORD)),
    b"t": re.compile(rb"%b(?:%b%b)*" % (_WORD, _COLON, _WORD)),
    b"n": re.compile(rb"(?:[^=]|=[0-9A-F]{2})*"),  # quoted-printable (RFC 2045)
}
_LINE_BREAK = re.compile(rb"\r\n(?![ \t])|(?<!\r)\n|\r(?!\n)")  # that does not fold: section 2.8


def _against_grammar(found: KeyRecord, text: bytes) -> Iterator[tuple[str, str]]:
    if _LINE_BREAK.search(text):
        yield "it contains a line break that does not fold it (RFC 6376 section 2.8)", "warning"
    for tag, form in _FORMS.items():
        value = found.tags.get(tag)
        if value is not None and not form.fullmatch(value):
            yield f"{tag.decode()}= is malformed: '{quoted(value)}'", "warning"


def _against_signature(needed: Need, found: KeyRecord) -> Iterator[tuple[str, str]]:
    """Yield conflicts of the right key's record with the signature (RFC 6376 3.6.1, RFC 4870 3.2.3)."""
    values = {tag: printable(value, _SHOWN) for tag, value in found.tags.items()}
    if not found.allows_hash(needed.hash):
        yield f"h={values[b'h']} does not allow {needed.hash}", "error"
    if not needed.domainkeys and not found.allows_email:
        yield f"s={values[b's']} does not allow email", "error"
    if b"s" in found.flags and needed.domainkeys:
        yield (
            "t=s: DomainKeys, which also uses the key, defines only t=y (RFC 4870 section 3.2.3)",
            "warning",
        )
    if b"s" in found.flags and needed.below and not needed.domainkeys:
        yield "t=s does not allow i= in a subdomain of d=", "error"
    if b"y" in found.flags:
        yield "t=y is left on: verifiers treat the mail as unsigned", "warning"
    if needed.domainkeys and not found.allows_local_part(needed.local_part.encode("utf-8", "replace")):
        yield f"g={values[b'g']}: DomainKeys verifies mail of this local part only", "warning"


# The error messages for invalid records.


def _describe(error: KeyRecordError, text: bytes, wanted: bytes) -> str:
    """Return the problem with a record that the parser refused; ``wanted`` is the key in base64."""
    for character, name in _INVISIBLE.items():
        if character.encode() in text:
            return f"it contains a {name} (U+{ord(character):04X})"
    for mark, name in _ESCAPED_SEMICOLONS.items():
        if mark in text:
            return name
    if isinstance(error.__cause__, TagListError):
        if entities := mangled.entities(text):
            return entities
        return typographic_quotes(error.__cause__.piece) or _describe_tag_list_error(error.__cause__, text)
    if str(error) == keyrecord.REVOKED:
        return "the key is revoked: p= is empty"
    if str(error) == keyrecord.NO_KEY:
        return f"it is not a key record: '{quoted(text)}'"
    what = str(error).removeprefix("key record: ")
    if error.tag == b"p":
        return mangled.describe(error.value, wanted) or what
    unusual = typographic_quotes(error.value)
    return unusual or (f"{what}: '{quoted(error.value)}'" if error.value else what)


def _describe_several(texts: list[bytes], value: str) -> str:
    """Return what is wrong with several records; ``value`` is the right one."""
    if len(texts) <= _MAX_PIECES and not any(holds(text, value) is Holds.OURS for text in texts):
        for order in itertools.permutations(texts):
            if holds(b"".join(order), value) is Holds.OURS:
                return f"{len(texts)} TXT records contain pieces of one value: join them in one record"
            keys = b"".join([text.rpartition(b"p=")[2] for text in order])
            if taglist.unfolded(keys) == _key_of(value):
                return f"{len(texts)} TXT records contain pieces of one key: join them in one record"
    return f"{len(texts)} TXT records; verifiers may take any of them (RFC 6376 section 3.6.2.2)"


def _describe_other_key(value: bytes, wanted: bytes) -> str:
    """Return how a key differs that is not the right one: it may be a mangled form of it."""
    return mangled.describe(value, wanted) or "the key does not match the private key"


def _describe_tag_list_error(error: TagListError, text: bytes) -> str:
    if text.startswith(_BYTE_ORDER_MARKS):
        return "a byte order mark before v="
    if b"\0" in text:
        return "it contains NUL bytes, as in UTF-16 text"
    if str(error) != taglist.NO_TAG:
        unusual = _NOT_TAG_CHARACTERS.search(error.piece)
        return f"{error}: '{quoted(unusual[0])}'" if unusual else str(error)
    piece = error.piece.strip(taglist.FWS)
    if not piece:
        if error.place:
            return "two semicolons in a row"
        return "a semicolon before the first tag" if error.left else "the record is empty"
    if not error.place and piece[:1] in (b'"', b"'"):
        return f"quotes around the record: '{quoted(piece)}'"
    if error.place and not error.left and b"=" not in piece:
        return f"text after the last semicolon: '{quoted(piece)}'"
    return f"not a tag: '{quoted(piece)}'"


# Whose key a record contains.


class Holds(enum.Enum):
    """What a TXT record contains. UNCLEAR may be a key, so its name is not free and its key not gone."""

    NOTHING = "no key"
    OURS = "the key that is asked for, and no other"
    OTHER = "a different key"
    UNCLEAR = "a record that may be for a different key"


def holds(text: bytes, value: str = "") -> Holds:
    """Return what a TXT record contains; ``value`` is the record of the key in question, if there is one.

    A record that verifiers refuse still counts: less strict verifiers, and its owner, may use the key.
    """
    wanted = _key_of(value)
    try:
        found = keyrecord.parse(text).key.base64.encode()
    except KeyRecordError as error:
        return _holds_if_refused(error, text, wanted)
    if not wanted:
        return Holds.UNCLEAR
    return Holds.OURS if found == wanted else Holds.OTHER


def is_revoked(text: bytes) -> bool:
    """Return whether a TXT record is that of a revoked key: p= is empty."""
    try:
        keyrecord.parse(text)
    except KeyRecordError as error:
        return str(error) == keyrecord.REVOKED
    return False


def _holds_if_refused(error: KeyRecordError, text: bytes, wanted: bytes) -> Holds:
    if str(error) == keyrecord.REVOKED:
        return Holds.NOTHING
    solid = text.translate(None, SPLIT_MARKS)
    if wanted and wanted in solid:
        return Holds.UNCLEAR if _KEY_LIKE.search(solid.replace(wanted, b"")) else Holds.OURS
    if str(error) == keyrecord.NO_KEY and not _KEY_LIKE.search(solid):
        return Holds.NOTHING  # another kind of record, such as SPF from a wildcard
    return Holds.UNCLEAR
