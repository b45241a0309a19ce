"""The problems with a key record, and whose key a record contains.

The parser of ``verify`` decides whether a record is valid; a few rules here cover stricter verifiers, because
mail that any of them refuses is lost. The cause is determined afterwards, for the message only.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_private_key

from dkimpipe import publickey
from dkimpipe.errors import printable, shown
from dkimpipe.options import SignatureOptions
from dkimpipe.verify import keyrecord, taglist
from dkimpipe.verify.keyrecord import KeyRecord, KeyRecordError
from dkimpipe.verify.taglist import TagListError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dkimpipe.admin.maps.entries import Use

_SHOWN = 40  # bytes of a record in a message
_OPENDKIM_LIMIT = 1024  # bytes: its BUFRSZ, beyond which it does not read
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_INVISIBLE = {"\u00a0": "non-breaking space", "\u200b": "zero-width space", "\u00ad": "soft hyphen"}
_SPLIT_MARKS = b'"\\ \t\r\n'  # remnants where a value was split or joined
_NOT_BASE64 = re.compile(rb"(?s)<[^<>]*>|&#?\w{1,8}|[^A-Za-z0-9+/= \t\r\n](?:.*[^A-Za-z0-9+/= \t\r\n])?")
_NOT_TAG_CHARACTERS = re.compile(rb"[^\x20-\x7e\t\r\n]+")
# The start of a version 3 certificate (RFC 5280 section 4.1): loading one may print warnings.
_CERTIFICATE = re.compile(rb"(?s)\x30\x82..\x30\x82..\xa0\x03\x02\x01\x02")
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
    if len(texts) > 1:
        what = f"{len(texts)} TXT records; verifiers may take any of them (RFC 6376 section 3.6.2.2)"
        return [(what, "error")]
    (text,) = texts
    try:
        found = keyrecord.parse(text)
    except KeyRecordError as error:
        return [(_describe(error, text, _key_of(needed.value)), "error")]
    if publickey.base64_of(found.key).encode() != _key_of(needed.value):
        return [("the key does not match the private key", "error")]
    return [*_against_signature(needed, found), *_refused_by_stricter(needed, found, text)]


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
    octets, usual = taglist.base64(found.tags[b"p"]), taglist.base64(_key_of(needed.value))
    return octets != usual and usual.endswith(octets)


def _is_unusual_der(needed: Need, found: KeyRecord, text: bytes) -> bool:
    return not taglist.base64(_key_of(needed.value)).endswith(taglist.base64(found.tags[b"p"]))


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
    if isinstance(error.__cause__, TagListError):
        return _describe_tag_list_error(error.__cause__, text)
    if str(error) == keyrecord.REVOKED:
        return "the key is revoked: p= is empty"
    if str(error) == keyrecord.NO_KEY:
        return f"it is not a key record: '{_quoted(text)}'"
    what = str(error).removeprefix("key record: ")
    if error.tag == b"p":
        return _describe_p(error.value, wanted) or what
    return f"{what}: '{_quoted(error.value)}'" if error.value else what


def _describe_tag_list_error(error: TagListError, text: bytes) -> str:
    if text.startswith(_BYTE_ORDER_MARKS):
        return "a byte order mark before v="
    if b"\0" in text:
        return "it contains NUL bytes, as in UTF-16 text"
    if str(error) != taglist.NO_TAG:
        unusual = _NOT_TAG_CHARACTERS.search(error.piece)
        return f"{error}: '{_quoted(unusual[0])}'" if unusual else str(error)
    piece = error.piece.strip(taglist.FWS)
    if not piece:
        if error.place:
            return "two semicolons in a row"
        return "a semicolon before the first tag" if error.left else "the record is empty"
    if not error.place and piece[:1] in (b'"', b"'"):
        return f"quotes around the record: '{_quoted(piece)}'"
    if error.place and not error.left and b"=" not in piece:
        return f"text after the last semicolon: '{_quoted(piece)}'"
    return f"not a tag: '{_quoted(piece)}'"


def _describe_p(value: bytes, wanted: bytes) -> str:
    """Return what p= contains instead of a key; empty if unknown."""
    key = taglist.unfolded(value)
    if b"-----BEGIN" in value:
        return "p= contains the BEGIN line of a key file"
    if key == wanted:
        return "the key in p= is not of the type in k="
    if key.translate(None, _SPLIT_MARKS) == wanted:
        return "the value contains quotes or backslashes where it was split"
    if key.rstrip(b"=") == wanted.rstrip(b"="):
        return "the padding at the end of p= (=) is wrong"
    if key.translate(bytes.maketrans(b"-_", b"+/")) == wanted:
        return "p= is base64url: it has - for + and _ for /"
    if junk := _NOT_BASE64.search(value):
        return f"p= contains '{_quoted(junk[0])}'"
    if wanted.startswith(key) or wanted.endswith(key):
        return f"p= is truncated: {len(key)} of {len(wanted)} characters are present"
    if wanted and key.startswith(wanted):
        return f"text after the key in p=: '{_quoted(key[len(wanted) :])}'"
    return _other_object(key)


def _other_object(key: bytes) -> str:
    """Return the kind of file that was pasted into p= by mistake; empty if unknown."""
    try:
        octets = taglist.base64(key)
        if _CERTIFICATE.match(octets):
            return "p= is a certificate, not a key"
        load_der_private_key(octets, None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm, InternalError):
        return ""
    return "p= is a private key, which is public now: stop signing with it"


def _quoted(octets: bytes) -> str:
    return shown(printable(octets, _SHOWN))


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
        found = publickey.base64_of(keyrecord.parse(text).key).encode()
    except KeyRecordError as error:
        return _holds_if_refused(error, text, wanted)
    if not wanted:
        return Holds.UNCLEAR
    return Holds.OURS if found == wanted else Holds.OTHER


def _holds_if_refused(error: KeyRecordError, text: bytes, wanted: bytes) -> Holds:
    if str(error) == keyrecord.REVOKED:
        return Holds.NOTHING
    solid = text.translate(None, _SPLIT_MARKS)
    if wanted and wanted in solid:
        return Holds.UNCLEAR if _KEY_LIKE.search(solid.replace(wanted, b"")) else Holds.OURS
    if str(error) == keyrecord.NO_KEY and not _KEY_LIKE.search(solid):
        return Holds.NOTHING  # another kind of record, such as SPF from a wildcard
    return Holds.UNCLEAR
