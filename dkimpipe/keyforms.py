"""Private keys as other tools write them: what can be read, and what is wrong with the rest.

It is loaded only for a file that is not a key in the usual form.
"""

from binascii import Error as Base64Error
from binascii import a2b_base64
from itertools import permutations

from dkimpipe.errors import PrivateKeyError, for_shell
from dkimpipe.keyhints import ENCRYPTED_MANGLED, HINTS, RESTORE, hint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_BEGIN, _END = b"-----BEGIN ", b"-----END "
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_LABELS = {
    b"ENCRYPTED PRIVATE KEY": "is encrypted",
    b"EC PRIVATE KEY": "contains an EC key",
    b"DSA PRIVATE KEY": "contains a DSA key",
    b"OPENSSH PRIVATE KEY": "is in OpenSSH format",
    # These only where no private key comes after them.
    b"PUBLIC KEY": "contains a public key",
    b"RSA PUBLIC KEY": "contains a public key",
    b"CERTIFICATE": "contains a certificate",
    b"CERTIFICATE REQUEST": "contains a certificate request",
    b"NEW CERTIFICATE REQUEST": "contains a certificate request",
}
_NO_KEY, _NO_BLOCK = "contains no private key", "contains no PEM block"

# What a file begins with, or contains, and what it is then.
_MAGIC = {
    b"\x07\x02\x00\x00": "is a Microsoft key BLOB",
    b"\x1e\xf1\xb5\xb0": "is in PVK format",
    b"\x1f\x8b": "is compressed by gzip",
    b"BZh": "is compressed by bzip2",
    b"\xfd7zXZ\0": "is compressed by xz",
    b"\x28\xb5\x2f\xfd": "is compressed by zstd",
    b"PK\x03\x04": "is a ZIP archive",
    b"\xfe\xed\xfe\xed": "is a Java keystore",
    b"PuTTY-User-Key-File-": "is in PuTTY format",
    b"$ANSIBLE_VAULT;": "is encrypted by Ansible Vault",
    b"age-encryption.org/": "is encrypted by age",
}
_MARKERS = {
    b"BEGIN AGE ENCRYPTED": "is encrypted by age",
    b"ENC[AES256_GCM,": "is encrypted by SOPS",
    b"BEGIN PGP ": "contains an OpenPGP key or message",
    b"BEGIN SSH2 PUBLIC KEY": "contains a public key",
    b"ssh-rsa AAAA": "contains a public key",
    b"ssh-ed25519 AAAA": "contains a public key",
    b"v=DKIM1": "contains a DKIM record",
    b"(ECDSAP": "contains an EC key",  # of dnssec-keygen(8)
}

_INTEGER, _OCTET_STRING, _SEQUENCE = 2, 4, 48
_NESTED = (_OCTET_STRING, _SEQUENCE)
_PKCS5 = bytes.fromhex("2a864886f70d0105")  # RFC 8018 appendix C
_PKCS7 = bytes.fromhex("2a864886f70d0107")  # RFC 5652 section 4
_PKCS7_SIGNED = bytes.fromhex("2a864886f70d010702")  # the same
_PKCS12_PBE = bytes.fromhex("2a864886f70d010c01")  # RFC 7292 appendix C
_RSA = bytes.fromhex("2a864886f70d010101")  # RFC 8017 appendix C
_PSS = bytes.fromhex("2a864886f70d01010a")  # the same
_ED25519 = bytes.fromhex("302e020100300506032b657004220420")  # RFC 8410 section 7; the key follows
_OF_CURVES = {  # RFC 8037 section 2; the others are of RFC 7518 section 6.2.1.1
    b"X25519": "contains an X25519 key",
    b"X448": "contains an X448 key",
    b"Ed448": "contains an Ed448 key",
}
_ED25519_OID = _ED25519[7:12]
_SHORT = _ED25519[-2:]  # its octet string alone
_OPENSSH = b"openssh-key-v1\0"  # PROTOCOL.key of OpenSSH, section 1
_MAX_DEPTH = 3  # encodings, one within another
_MAX_HALVES = 4  # of Ed25519 keys in a file: public and private, of which one is looked for


def structure(path: str, octets: bytes) -> bytes:
    """Return the key in a file as PKCS#1 or PKCS#8 in DER, unchecked. Raises PrivateKeyError.

    Read are PEM under any label, after other blocks, and as ``keytext`` can restore it; base64 without
    armour, also within other text, base64url, hexadecimal digits, and the less usual encodings that
    ``keytext`` names, each of them also of PEM or once more;
    Ed25519 keys of dkimpy, rspamd and OpenSSH; JWK, .NET's XML, and what openssl pkey -text prints.
    """
    try:
        return _bare(_searched(octets))
    except _UnreadableError as error:
        fault = str(error)
        advice = error.hint or hint(fault)
        if fault == "is encrypted" and not error.hint and not _is_framed(octets):
            advice = ENCRYPTED_MANGLED if b"ENCRYPTED PRIVATE KEY" in octets else RESTORE
        advice = advice.replace("{path}", for_shell(path))
        raise PrivateKeyError(f"key file {path} {fault}", advice) from None


class _UnreadableError(Exception):
    """Why a file cannot be read, in words that complete a sentence beginning with it."""

    def __init__(self, fault: str, hint: str = "") -> None:
        super().__init__(fault)
        self.hint = hint


def _searched(octets: bytes, depth: int = 0) -> bytes:
    """Return the DER of the first key in a file, or of what could be one; else as ``_structure``."""
    der, refused = b"", None
    if b'"crv"' in octets:
        _refuse_other_curve(octets)
    try:
        der = _structure(octets)
    except _UnreadableError as error:
        refused = error
    if not _is_key(der):
        der = next(_restored(octets, depth), der)
    if refused and not _is_key(der):
        raise _named(octets, refused)
    return _without_rest(der)


def _refuse_other_curve(octets: bytes) -> None:
    """Raise _UnreadableError if the only key is a JWK of another curve: its d would sign as Ed25519."""
    words = octets.replace(b" ", b"").replace(b"\t", b"").replace(b"\n", b"").replace(b"\r", b"")
    curve = words.partition(b'"crv":"')[2].partition(b'"')[0]
    if curve and b'"Ed25519"' not in words and b'"RSA"' not in words and curve.isascii():
        raise _UnreadableError(_OF_CURVES.get(curve, "contains an EC key"))


def _named(octets: bytes, refused: _UnreadableError) -> _UnreadableError:
    """Return why a file cannot be read, in more certain words if there are any."""
    from dkimpipe import keytext

    if str(refused) != _NO_BLOCK:
        return refused
    if keytext.is_public(octets):
        return _UnreadableError("contains a public key")
    if keytext.lacks_primes(octets):
        return _UnreadableError("contains an RSA key without its primes")
    if len(keytext.halves(keytext.plain(octets))) == 1:
        return _UnreadableError("contains 32 bytes that may be either half of an Ed25519 key")
    return refused


def _restored(octets: bytes, depth: int) -> "Iterator[bytes]":
    """Yield the keys in a file that is not as it should be."""
    from dkimpipe import keytext

    numbers = keytext.numbers(octets)
    if len(numbers) > 2:
        yield _encoded(_SEQUENCE, b"".join(map(_integer, (b"", *numbers))))
    text = keytext.plain(octets)
    binary = b"" if octets.isascii() else octets
    for each in (keytext.seed(text), binary, binary[2:] if binary[:2] == _SHORT else b""):
        if len(each) == 32:
            yield _ED25519 + each
    found = [octets if len(octets) == 64 else b"", text, keytext.from_hex(text), *keytext.runs(text)]
    # Not of restored text: it lacks characters that these encodings have, and Ed25519 has no checksum.
    others = [] if depth else keytext.from_other(octets)
    found += [each for each in others if _BEGIN in each or _is_whole(each)]
    halves = list(dict.fromkeys([*[each for each in found if len(each) == 32], *keytext.halves(text)]))
    private = keytext.labelled(text)
    if private and halves == [private]:
        yield _ED25519 + private
    for each in (*found, b"".join(numbers), *map(b"".join, permutations(halves[:_MAX_HALVES], 2))):
        if _is_key(each):
            yield each
        elif len(each) == 34 and each[:2] == _SHORT:
            yield _ED25519 + each[2:]
        elif len(each) == 64 and _public_half(each[:32]) == each[32:]:
            yield _ED25519 + each[:32]
        elif depth < _MAX_DEPTH and len(each) >= 64 and each != octets:
            try:
                inner = _searched(each, depth + 1)
            except _UnreadableError:
                continue
            if _is_key(inner):
                yield inner


def _structure(octets: bytes) -> bytes:
    """Return the DER of a key in a file that is almost as usual, unchecked."""
    known = next((fault for magic, fault in _MAGIC.items() if octets.startswith(magic)), "")
    if known or _is_binary(octets):
        raise _UnreadableError(known or _fault_of_der(octets))
    if octets[:1] == bytes([_OCTET_STRING]) and _is_key(octets):
        skipped = f"tail -c +{_start(octets) + 1} {{path}} | openssl pkey -inform DER -out NEWFILE"
        raise _UnreadableError("is in DER, in an octet string", f"{skipped} converts it to PEM")
    text = _plain(octets)
    if not text.strip():
        raise _UnreadableError("is empty")
    faults = []
    for block in text.split(_BEGIN)[1:]:
        label, _, rest = block.partition(b"-----")
        der = _decoded(rest.partition(_END)[0])
        if _is_key(der):
            return der
        if label == b"OPENSSH PRIVATE KEY":
            return _of_openssh(rest.partition(_END)[0])
        if label.endswith(b"PRIVATE KEY"):
            if label in _LABELS:
                raise _UnreadableError(_LABELS[label])
            return _of_block(label, rest)
        faults.append(_fault_of_block(label, der))
    for marker, fault in _MARKERS.items():
        if marker in text:
            faults.append(fault)
    if faults:
        raise _UnreadableError(next((fault for fault in faults if fault != _NO_KEY), _NO_KEY))
    return _without_armour(text)


def _fault_of_block(label: bytes, der: bytes) -> str:
    """Return what is in a PEM block that is not a private key; it may be a file that contains one."""
    fault = _fault_of_der(der) if _is_whole(der) else ""
    if fault in ("is in PKCS #12 format", "is encrypted, in DER"):
        advice = hint(fault).replace(" -in {path}", "")
        raise _UnreadableError(fault, f"sed '/-BEGIN/,/-END/!d;/^-/d' {{path}} | base64 -d | {advice}")
    return _LABELS.get(label, fault if fault in HINTS and fault != "is in DER" else _NO_KEY)


def _plain(octets: bytes) -> bytes:
    """Return text without a byte order mark and the zeros of UTF-16, with all line ends as LF."""
    for mark in _BYTE_ORDER_MARKS:
        if octets.startswith(mark):
            octets = octets[len(mark) :]
    octets = octets.replace(b"\0", b"")
    for line_end in (b"\\r", b"\\n", b"\r\n", b"\r"):
        octets = octets.replace(line_end, b"\n")
    return octets


def _of_block(label: bytes, rest: bytes) -> bytes:
    """Return the DER of a PEM block, of which ``rest`` begins after the BEGIN line."""
    body, found, _ = rest.partition(_END + label + b"-----")
    if b"ENCRYPTED" in body:
        raise _UnreadableError("is encrypted")
    if not found:
        raise _UnreadableError("is truncated: no END line")
    try:
        der = a2b_base64(body)
    except Base64Error:
        raise _UnreadableError("is damaged: invalid base64") from None
    fault = _fault_of_der(der) if _is_whole(der) else "is in DER"
    if fault != "is in DER":
        raise _UnreadableError(fault)
    return der


def _without_armour(text: bytes) -> bytes:
    """Return the DER of a key in nothing but base64, or in a file that itself was encoded once more."""
    octets = _decoded(text)
    if len(octets) == 32:  # as dkimpy writes it
        return _ED25519 + octets
    if len(octets) == 64:  # as rspamd writes it
        return _of_pair(octets)
    if not (_BEGIN in octets or _is_whole(octets)):
        raise _UnreadableError(_NO_BLOCK)
    try:
        return _structure(octets) if _BEGIN in octets else _of_der(octets)
    except _UnreadableError as error:
        fault = str(error)
        advice = error.hint or HINTS.get(fault, "")
        if " -in {path}" in advice:
            advice = "base64 -d {path} | " + advice.replace(" -in {path}", "")
        raise _UnreadableError(fault, advice) from None


def _of_der(octets: bytes) -> bytes:
    """Return DER if it is a private key."""
    fault = _fault_of_der(octets)
    if fault != "is in DER":
        raise _UnreadableError(fault)
    return octets


def _decoded(text: bytes) -> bytes:
    """Return the octets of text that consists of base64 and white space, otherwise nothing.

    Padding within it ends a value: what precedes is not all, and perhaps the public half of a key.
    """
    text = b"".join(text.split())
    try:
        return b"" if text.translate(None, _BASE64) or b"=" in text.rstrip(b"=") else a2b_base64(text)
    except Base64Error:
        return b""


def _of_pair(octets: bytes) -> bytes:
    """Return the DER of an Ed25519 key given as private and public half of 32 octets each."""
    if _public_half(octets[:32]) not in (b"", octets[32:]):
        raise _UnreadableError("is damaged: its public half belongs to another Ed25519 key")
    return _ED25519 + octets[:32]


def _public_half(private: bytes) -> bytes:
    """Return the public half of an Ed25519 key; empty without OpenSSL, which signing then reports."""
    from dkimpipe.libcrypto import Library

    try:
        return Library().public_ed25519(private)
    except OSError:
        pass
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        public = Ed25519PrivateKey.from_private_bytes(private).public_key()
        return public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    except (ImportError, OSError):
        return b""


def _of_openssh(body: bytes) -> bytes:
    """Return the DER of an Ed25519 key in the format of ssh-keygen(1)."""
    octets = _decoded(body)
    fields = _fields(octets[len(_OPENSSH) :], 3)  # cipher, key derivation, its options
    if octets.startswith(_OPENSSH) and fields and fields[0] != b"none":
        raise _UnreadableError("is encrypted, in OpenSSH format")
    at = len(_OPENSSH) + sum(4 + len(field) for field in fields) + 4  # the number of keys
    public_and_private = _fields(octets[at:], 2)
    private = _fields(public_and_private[-1][8:], 3) if len(public_and_private) == 2 else []
    if len(private) == 3 and private[0] == b"ssh-ed25519" and len(private[2]) == 64:
        return _of_pair(private[2])
    if private and private[0].startswith(b"ecdsa-"):
        raise _UnreadableError("contains an EC key")
    if private and private[0] == b"ssh-dss":
        raise _UnreadableError("contains a DSA key")
    raise _UnreadableError("is in OpenSSH format")


def _fields(octets: bytes, count: int) -> "list[bytes]":
    """Return up to this number of strings, each after its length (RFC 4251 section 5)."""
    fields: list[bytes] = []
    while octets and len(fields) < count:
        end = 4 + int.from_bytes(octets[:4], "big")
        fields.append(octets[4:end])
        octets = octets[end:]
    return fields


def _is_framed(octets: bytes) -> bool:
    """Return whether a BEGIN line is a line of its own, as openssl(1) needs it."""
    lines = [line.rstrip() for line in octets.split(b"\n")]
    return any(line.startswith(_BEGIN) and line.count(b"-----") == 2 for line in lines)


def _is_key(der: bytes) -> bool:
    """Return whether this is a key that DKIM has, complete, and perhaps in a wrapper: see ``_bare``."""
    der = _bare(der)
    if not _is_whole(der) or _fault_of_der(der) != "is in DER":
        return False
    algorithm = der[:32]
    return len(_integers(der)) >= 9 or _RSA in algorithm or _ED25519_OID in algorithm


def _bare(der: bytes) -> bytes:
    """Return a key without octet strings around it, and without an algorithm that limits it to RSASSA-PSS."""
    while len(der) > 2 and der[0] == _OCTET_STRING and _end(der) == len(der) and der[_start(der)] in _NESTED:
        der = der[_start(der) :]
    if _PSS in der[:40] and der[0] == _SEQUENCE:
        algorithm = der[_start(der) + 3 :]
        inner = algorithm[_end(algorithm) :]
        return inner[_start(inner) : _end(inner)]
    return der


def _without_rest(der: bytes) -> bytes:
    """Return an RSA key without what comes after it: a wrong one cannot sign, unlike one of Ed25519."""
    key = der[: _end(der)] if len(der) > 2 and der[0] == _SEQUENCE else der
    return key if _is_key(key) and _ED25519_OID not in key[:32] else der


def _integers(der: bytes) -> "list[bytes]":
    """Return the integers at the beginning of a structure."""
    found, at = [], _start(der)
    while der[at : at + 1] == bytes([_INTEGER]) and at + 1 < len(der):
        end = at + _end(der[at:])
        found.append(der[at:end])
        at = end
    return found


def _integer(octets: bytes) -> bytes:
    """Return an unsigned number as an element in DER."""
    number = int.from_bytes(octets, "big")
    return _encoded(_INTEGER, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _encoded(tag: int, content: bytes) -> bytes:
    """Return an element in DER."""
    length = len(content)
    if length < 128:
        return bytes([tag, length]) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 128 + len(octets)]) + octets + content


def _is_binary(octets: bytes) -> bool:
    """Return whether a file begins with a structure in DER, and is not text that begins with a zero."""
    return _is_whole(octets) or (octets[1:2] > b"\x80" and _is_whole(octets[: _end(octets)]))


def _is_whole(octets: bytes) -> bool:
    """Return whether octets are one structure in DER, complete."""
    if len(octets) < 2 or octets[0] != _SEQUENCE:
        return False
    return _end(octets) == len(octets)


def _start(der: bytes) -> int:
    """Return where the content of the outermost structure begins."""
    return 2 + max(0, der[1] - 128)


def _end(der: bytes) -> int:
    """Return where it ends."""
    start = _start(der)
    return start + (der[1] if der[1] < 128 else int.from_bytes(der[2:start], "big"))


def _fault_of_der(der: bytes) -> str:
    """Return what is wrong with a file that has this structure in place of PEM."""
    content = der[_start(der) :]
    begin = content[:40]
    if _PKCS7_SIGNED in begin[:13]:
        return "is in PKCS #7 format"
    if content[:1] == b"\x30":
        if _PKCS5 in begin or _PKCS12_PBE in begin:
            return "is encrypted, in DER"
        inner = content[_start(content) :]
        return "contains a public key" if inner[:1] == b"\x06" else "contains a certificate"
    if content[:3] == b"\x02\x01\x03" and _PKCS7 in begin:
        return "is in PKCS #12 format"
    if content[:2] != b"\x02\x01":  # a version has one octet: this is a modulus
        return "contains a public key"
    return "contains an EC key" if content[3:4] == b"\x04" else "is in DER"
