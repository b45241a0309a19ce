"""What p= of a key record contains instead of the right key, in words: what an editor or web form did to it.

For messages only: whether a record is valid is decided elsewhere.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterable, Iterator
from html import unescape
from urllib.parse import unquote_to_bytes

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_der_public_key

from dkimpipe import keytext, publickey
from dkimpipe.admin.dns import edwards25519
from dkimpipe.admin.findings import Finding
from dkimpipe.errors import ConfigError, printable, shown
from dkimpipe.verify import taglist

SPLIT_MARKS = b'"\\ \t\r\n'  # remnants where a value was split or joined
_SHOWN = 40  # bytes of a record in a message
_ARMOR = re.compile(rb"(BEGIN|END) ?(?:RSA ?)?(PUBLIC|PRIVATE) ?KEY")
PRIVATE = "p= is a private key, which is public now: stop signing with it"
PUBLIC_HALF = "the key file contains the public half: p= is the key that signs, so anyone can sign with it"
_NOT_BASE64 = re.compile(rb"(?s)<[^<>]*>|&#?\w{1,8}|[^A-Za-z0-9+/= \t\r\n](?:.*[^A-Za-z0-9+/= \t\r\n])?")
_TYPOGRAPHIC = re.compile("[\u2018-\u201f\u00ab\u00bb\u2039\u203a]")
_AT_THE_END = {b".": "full stop", b",": "comma", b")": "parenthesis", b"'": "quote", b"`": "backquote"}
# The start of a version 3 certificate (RFC 5280 section 4.1): loading one may print warnings.
_CERTIFICATE = re.compile(rb"(?s)\x30\x82..\x30\x82..\xa0\x03\x02\x01\x02")
_UNICODE = re.compile(rb"\\u00([0-9A-Fa-f]{2})")
_ENTITY = re.compile(rb"&(?:#0*(?:43|47|61)|#[xX]0*(?:2[bB]|2[fF]|3[dD])|plus|sol|equals)(?=;|$)")
_SSH = {"ssh-rsa": b"AAAAB3NzaC1yc2E", "ssh-ed25519": b"AAAAC3NzaC1lZDI1NTE5"}
_ED25519 = 32  # bytes of a key
_ED25519_PREFIX = bytes.fromhex("302a300506032b6570032100")  # of its SubjectPublicKeyInfo (RFC 8410)
_PKCS8 = bytes.fromhex("302e020100300506032b657004220420")  # before the private half (RFC 8410)
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{40,}")  # the shortest key, of Ed25519, has 43
_SAME = 0.9  # of the characters, in a key that was altered in one place


def quoted(octets: bytes) -> str:
    """Return the start of a text, in a form that any terminal can show."""
    return shown(printable(octets, _SHOWN))


def typographic_quotes(text: bytes) -> str:
    """Return a message about typographic quotes in a text; empty if there are none."""
    found = _TYPOGRAPHIC.search(text.decode("utf-8", "replace"))
    return f"typographic quotes: '{found[0]}'" if found else ""


def exposed(texts: Iterable[bytes], wanted: bytes) -> str:
    """Return what is wrong if a record shows the private half of the Ed25519 key ``wanted``, in base64.

    Either it was published, or the key file contains the public half: any 32 octets are a private half, so
    this one signs, too. Empty if no record does.
    """
    return next((what for _, what in exposures(texts, [wanted])), "")


def exposures(texts: Iterable[bytes], wanted: Collection[bytes]) -> Iterator[tuple[bytes, str]]:
    """Yield which of these keys, in base64, have a private half that records show, and what it is.

    Keys of RSA are never among them.
    """
    runs = [run for text in texts for run in _BASE64.findall(text.translate(None, SPLIT_MARKS))]
    for octets in [reading for run in runs for reading in (keytext.decoded(run), keytext.from_hex(run))]:
        for half in {octets[:_ED25519], octets[-_ED25519:]}:
            if len(half) == _ED25519 and (public := _public(half)) and public in wanted:
                is_private = octets.startswith(_PKCS8) or public == base64.b64encode(octets[_ED25519:])
                is_swapped = not is_private and edwards25519.is_public_half(half)
                yield public, PUBLIC_HALF if is_swapped else PRIVATE


def is_exposed(what: str) -> bool:
    """Return whether a finding says that anybody can read the key in DNS."""
    return PRIVATE in what or PUBLIC_HALF in what


def refuse_exposed(name: str, texts: Iterable[bytes], value: str) -> None:
    """Raise ConfigError if one of the records that a name has shows the private half of the key in ``value``.

    The record of its public half would let anyone sign.
    """
    wanted = value.rpartition("p=")[2].encode()
    if found := exposed(texts, wanted):
        raise ConfigError(f"{name}: {found}", another_key(found, name))


def another_key(what: str, name: str) -> str:
    """Return what to do about a key that anyone can read, by the finding and the name of its record."""
    genkey = f"another key: dkimpipe genkey {name.partition('._domainkey.')[2]}"
    if what == PUBLIC_HALF:
        return f"sign with the private half of the published record instead, or with {genkey}"
    return f"create {genkey}\nsign with it, and delete this record"


def elsewhere(what: str, owner: str, name: str) -> Finding:
    """Return the finding about a name whose key the record of another one, ``owner``, shows."""
    if what == PUBLIC_HALF:
        return Finding(f"{name}: {what}", another_key(what, name))
    told = f"{name}: its private key is p= of {owner}, so anyone can sign with it: stop signing with it"
    return Finding(told, another_key(what, name))


def _public(seed: bytes) -> bytes:
    """Return the public half of an Ed25519 key in base64; empty without Ed25519 in OpenSSL."""
    try:
        return publickey.base64_of(Ed25519PrivateKey.from_private_bytes(seed).public_key()).encode()
    except (InternalError, UnsupportedAlgorithm):
        return b""


def describe(value: bytes, wanted: bytes) -> str:
    """Return what p= contains instead of the key ``wanted``, in base64; empty if unknown."""
    key = taglist.unfolded(value)
    if armor := _ARMOR.search(value):
        if armor[2] == b"PRIVATE":
            return PRIVATE
        return f"p= contains the {armor[1].decode()} line of a key file"
    if key == wanted:
        return "the key in p= is not of the type in k="
    if not wanted:
        return _other_object(key)
    return next(filter(None, _guesses(value, key, wanted)), "")


def _guesses(value: bytes, key: bytes, wanted: bytes) -> Iterator[str]:
    """Yield what may have happened, the most certain first; empty where it did not."""
    yield _escaped(key, wanted)
    if key.translate(None, SPLIT_MARKS) == wanted:
        yield "the value contains quotes or backslashes where it was split"
    yield _for_ssh(value)
    yield typographic_quotes(value)
    yield reencoded(value, wanted)
    if key[:-1] == wanted and key[-1:] in _AT_THE_END:
        yield f"p= ends with a {_AT_THE_END[key[-1:]]}"
    if junk := _NOT_BASE64.search(value):
        yield f"p= contains '{quoted(junk[0])}'"
    if wanted.startswith(key) or wanted.endswith(key):
        yield f"p= is truncated: {len(key)} of {len(wanted)} characters are present"
    if key.startswith(wanted):
        yield f"text after the key in p=: '{quoted(key[len(wanted) :])}'"
    yield _wrong_size(key, wanted)
    yield altered(key, wanted)
    yield _other_object(key)


def reencoded(value: bytes, wanted: bytes) -> str:
    """Return how the characters of the right key were changed throughout; empty if they were not."""
    key = taglist.unfolded(value)
    for what, form in _forms(wanted):
        if key.rstrip(b"=").lower() == form.rstrip(b"=").lower():
            return f"p= is {what}"
    if key.rstrip(b"=") == wanted.rstrip(b"="):
        return "the padding at the end of p= (=) is wrong"
    if key.translate(bytes.maketrans(b"-_", b"+/")) in (wanted, wanted.rstrip(b"=")):
        return "p= is base64url: it has - for + and _ for /"
    if key == wanted.replace(b"+", b""):
        return f"each + in p= {'has become a space' if b' ' in value else 'is missing'}"
    if unquote_to_bytes(key) == wanted:
        return f"p= is URL-encoded: it contains '{quoted(key[key.index(b'%') :][:3])}'"
    if key.replace(b"=3D", b"=") == wanted:
        return "p= is quoted-printable: it has =3D for ="
    if key.lower() == wanted.lower():
        return "letters in p= have changed between upper and lower case"
    return _line_ends(key, wanted)


def _escaped(key: bytes, wanted: bytes) -> str:
    """Return how characters of the right key were escaped; empty if they were not."""
    if b"/" in wanted and key == wanted.replace(b"/", b"\\/"):
        return "p= has a backslash before each /, as in JSON"
    if (found := _UNICODE.search(key)) and _UNICODE.sub(
        lambda each: bytes.fromhex(each[1].decode()), key
    ) == wanted:
        return f"p= contains '{quoted(found[0])}', as in JSON"
    return entities(key) if unescape(key.decode("ascii", "replace")).encode() == wanted else ""


def entities(text: bytes) -> str:
    """Return a message about HTML entities in place of characters of base64; empty if there are none."""
    found = _ENTITY.search(text)
    return f"p= contains HTML entities such as '{quoted(found[0])};'" if found else ""


def _for_ssh(value: bytes) -> str:
    """Return a message if a key is in the format of OpenSSH (RFC 4253 section 6.6, RFC 8709)."""
    found = next((name for name, begin in _SSH.items() if begin in value), "")
    return f"p= is a public key for ssh ({found})" if found else ""


def _forms(wanted: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield other encodings of the right key, with what they are."""
    try:
        octets = taglist.base64(wanted)
    except ValueError:
        return
    yield "base64 twice", base64.b64encode(wanted)
    yield "base64 twice", base64.b64encode(wanted + b"\n")
    for each in (octets, _ED25519_PREFIX + octets):
        yield "base64 of the key file", base64.b64encode(_pem(each))
    yield "in hexadecimal digits, not in base64", octets.hex().encode()
    yield "in hexadecimal digits, not in base64", octets.hex(":").encode()
    yield "base32, not base64", base64.b32encode(octets)
    try:
        numbers = load_der_public_key(octets)
    except (ValueError, UnsupportedAlgorithm, InternalError):
        return
    if isinstance(numbers, RSAPublicKey):
        modulus = numbers.public_numbers().n
        bare = modulus.to_bytes((modulus.bit_length() + 7) // 8, "big")
        yield "the bare modulus", base64.b64encode(bare)
        yield "the bare modulus", base64.b64encode(b"\0" + bare)
        yield "the bare modulus, in hexadecimal digits", bare.hex().encode()


def _pem(octets: bytes) -> bytes:
    body = base64.b64encode(octets)
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    return b"\n".join([b"-----BEGIN PUBLIC KEY-----", *lines, b"-----END PUBLIC KEY-----", b""])


def _line_ends(key: bytes, wanted: bytes) -> str:
    """Return a message if there are remnants of line ends in p=, such as \\n or, unescaped by a server, n."""
    for end in (b"\\n", b"\\r\\n", b"n", b"rn"):
        if key.replace(end, b"") == wanted:
            return f"p= contains '{end.decode()}' where a line ended"
        for width in range(1, len(wanted)):
            joined = end.join([wanted[at : at + width] for at in range(0, len(wanted), width)])
            if key in (joined, joined + end):
                return f"p= contains '{end.decode()}' where a line ended"
    return ""


def altered(key: bytes, wanted: bytes) -> str:
    """Return where the right key was altered in one place; empty if it is another key."""
    if len(key) == len(wanted) and key in wanted + wanted:
        return "the strings of p= are in the wrong order"
    begin = _shared(key, wanted)
    end = _shared(key[begin:][::-1], wanted[begin:][::-1])
    if begin + end < _SAME * max(len(key), len(wanted)):
        return ""
    got, right = key[begin : len(key) - end], wanted[begin : len(wanted) - end]
    if not right:
        return f"p= has '{quoted(got)}' too much at character {begin + 1}"
    if not got:
        return f"p= lacks '{quoted(right)}' at character {begin + 1}"
    return f"p= is altered at character {begin + 1}: '{quoted(got)}' instead of '{quoted(right)}'"


def _shared(one: bytes, other: bytes) -> int:
    """Return the number of bytes at the start that are the same."""
    pairs = enumerate(zip(one, other))
    return next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))


def _wrong_size(key: bytes, wanted: bytes) -> str:
    """Return what is wrong with the size of an Ed25519 key; empty if it is not one."""
    try:
        octets, usual = taglist.base64(key), taglist.base64(wanted)
    except ValueError:
        return ""
    if len(usual) != _ED25519 or len(octets) == _ED25519:
        return ""
    if octets == _ED25519_PREFIX + usual:
        extra = len(_ED25519_PREFIX)
        return f"p= has {extra} bytes too many (SubjectPublicKeyInfo); right: p={wanted.decode()}"
    if octets == usual + usual:
        return "p= is the public key twice"
    if len(octets) == 2 * _ED25519 and _public(octets[:_ED25519]) == base64.b64encode(octets[_ED25519:]):
        return PRIVATE
    return _other_object(key) or f"p= has {len(octets)} bytes; an Ed25519 key has {_ED25519}"


def _other_object(key: bytes) -> str:
    """Return the kind of file that was pasted into p= by mistake; empty if unknown."""
    try:
        octets = taglist.base64(key)
        if _CERTIFICATE.match(octets):
            return "p= is a certificate, not a key"
        load_der_private_key(octets, None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm, InternalError):
        return ""
    return PRIVATE
