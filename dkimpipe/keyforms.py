"""Private keys as other tools write them: what can be read, and for the rest the command that converts it.

It is loaded only for a file that is not a key in the usual form. Whatever is in the file, its public half is
in DNS already: a new key is the advice only where nothing can be converted.
"""

from binascii import Error as Base64Error
from binascii import a2b_base64

from dkimpipe.errors import PrivateKeyError, for_shell

NEW_KEY = "generate a new key: openssl genrsa -out NEWFILE 2048"

_BEGIN, _END = b"-----BEGIN ", b"-----END "
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_USUAL_LABELS = (b"PRIVATE KEY", b"RSA PRIVATE KEY")
_LABELS = {
    b"ENCRYPTED PRIVATE KEY": "is encrypted",
    b"EC PRIVATE KEY": "contains an EC key",
    b"DSA PRIVATE KEY": "contains a DSA key",
    b"OPENSSH PRIVATE KEY": "is in OpenSSH format",
    # These only where no private key comes after them.
    b"PUBLIC KEY": "contains a public key",
    b"RSA PUBLIC KEY": "contains a public key",
    b"CERTIFICATE": "contains a certificate",
}
_NO_KEY = "contains no private key"
_HINTS = {
    "is encrypted": "openssl pkey -in {path} -out NEWFILE writes a copy without a passphrase",
    "is encrypted, in DER": (
        "openssl pkey -inform DER -in {path} -out NEWFILE writes a copy without a passphrase, in PEM"
    ),
    "is encrypted, in OpenSSH format": (
        "install -m 600 {path} NEWFILE && ssh-keygen -p -N '' -m PEM -f NEWFILE "
        "writes a copy without a passphrase"
    ),
    "contains a public key": "give the private key file; the public key belongs in DNS",
    "contains a certificate": "give the private key file; a certificate contains only the public key",
    "is in DER": "openssl pkey -inform DER -in {path} -out NEWFILE converts it to PEM",
    "is in PKCS #12 format": "openssl pkcs12 -in {path} -nodes -nocerts -out NEWFILE extracts the key",
    "is in OpenSSH format": (
        "install -m 600 {path} NEWFILE && ssh-keygen -p -N '' -m PEM -f NEWFILE converts it"
    ),
}
_NO_END = "(umask 077; (awk '/BEGIN/||!/^-/' {path}; echo '-----END {label}-----') >NEWFILE) adds it"
_NO_BEGIN = "(umask 077; (echo '-----BEGIN {label}-----'; cat {path}) >NEWFILE) adds it"

_SEQUENCE = 48
_PKCS5 = bytes.fromhex("2a864886f70d0105")  # RFC 8018 appendix C
_PKCS7 = bytes.fromhex("2a864886f70d0107")  # RFC 5652 section 4
_PKCS12_PBE = bytes.fromhex("2a864886f70d010c01")  # RFC 7292 appendix C
_ED25519 = bytes.fromhex("302e020100300506032b657004220420")  # RFC 8410 section 7; the key follows
_OPENSSH = b"openssh-key-v1\0"  # PROTOCOL.key of OpenSSH, section 1


def structure(path: str, octets: bytes) -> bytes:
    """Return the key in a file as PKCS#1 or PKCS#8 in DER, unchecked. Raises PrivateKeyError.

    Read are PEM that lost its line ends or has them as ``\\n``, in UTF-16 or in base64 once more, and after
    other blocks; base64 without armour; and Ed25519 keys of dkimpy, rspamd and OpenSSH.
    """
    try:
        return _structure(octets)
    except _UnreadableError as error:
        fault = str(error)
        hint = error.hint or _HINTS.get(fault, NEW_KEY)
        hint = hint.replace("{path}", for_shell(path))
        raise PrivateKeyError(f"key file {path} {fault}", hint) from None


class _UnreadableError(Exception):
    """Why a file cannot be read, in words that complete a sentence beginning with it."""

    def __init__(self, fault: str, hint: str = "") -> None:
        super().__init__(fault)
        self.hint = hint


def _structure(octets: bytes) -> bytes:
    if _is_binary(octets):
        raise _UnreadableError(_fault_of_der(octets))
    text = _plain(octets)
    blocks = text.split(_BEGIN)[1:]
    if not blocks:
        return _without_armour(text)
    faults = []
    for block in blocks:
        label, _, rest = block.partition(b"-----")
        if label == b"OPENSSH PRIVATE KEY":
            return _of_openssh(rest.partition(_END)[0])
        if label.endswith(b"PRIVATE KEY"):
            if label in _LABELS:
                raise _UnreadableError(_LABELS[label])
            return _of_block(label, rest)
        faults.append(_LABELS.get(label, _NO_KEY))
    raise _UnreadableError(next((fault for fault in faults if fault != _NO_KEY), _NO_KEY))


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
        in_lines = label in _USUAL_LABELS and rest.startswith(b"\n")
        whole = in_lines and _is_whole(_decoded(body.partition(b"\n-")[0]))
        hint = _NO_END.replace("{label}", label.decode()) if whole else ""
        raise _UnreadableError("is truncated: no END line", hint)
    try:
        return a2b_base64(body)
    except Base64Error:
        raise _UnreadableError("is damaged: invalid base64") from None


def _without_armour(text: bytes) -> bytes:
    """Return the DER of a key in nothing but base64, or in a file that itself was encoded once more."""
    body, end, rest = text.partition(_END)
    octets = _decoded(body)
    label = rest.partition(b"-----")[0]
    if end and label in _USUAL_LABELS and _is_whole(octets):
        raise _UnreadableError("is damaged: no BEGIN line", _NO_BEGIN.replace("{label}", label.decode()))
    if not end and len(octets) == 32:  # as dkimpy writes it
        return _ED25519 + octets
    if not end and len(octets) == 64:  # as rspamd writes it
        return _of_pair(octets)
    if end or not (_BEGIN in octets or _is_whole(octets)):
        raise _UnreadableError("contains no PEM block")
    try:
        return _structure(octets) if _BEGIN in octets else _of_der(octets)
    except _UnreadableError as error:
        fault = str(error)
        hint = error.hint or _HINTS.get(fault, "")
        if " -in {path}" in hint:
            hint = "base64 -d {path} | " + hint.replace(" -in {path}", "")
        raise _UnreadableError(fault, hint) from None


def _of_der(octets: bytes) -> bytes:
    """Return DER if it is a private key."""
    fault = _fault_of_der(octets)
    if fault != "is in DER":
        raise _UnreadableError(fault)
    return octets


def _decoded(text: bytes) -> bytes:
    """Return the octets of text that consists of base64 and white space, otherwise nothing."""
    text = b"".join(text.split())
    try:
        return b"" if text.translate(None, _BASE64) else a2b_base64(text)
    except Base64Error:
        return b""


def _of_pair(octets: bytes) -> bytes:
    """Return the DER of an Ed25519 key given as private and public half of 32 octets each."""
    from dkimpipe.libcrypto import Library

    try:
        public = Library().public_ed25519(octets[:32])
    except OSError:
        public = b""  # OpenSSL's library is missing: signing names the fault, or does without
    if public and public != octets[32:]:
        raise _UnreadableError("is damaged: its public half belongs to another Ed25519 key")
    return _ED25519 + octets[:32]


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
    raise _UnreadableError("is in OpenSSH format")


def _fields(octets: bytes, count: int) -> "list[bytes]":
    """Return up to this number of strings, each after its length (RFC 4251 section 5)."""
    fields: list[bytes] = []
    while octets and len(fields) < count:
        end = 4 + int.from_bytes(octets[:4], "big")
        fields.append(octets[4:end])
        octets = octets[end:]
    return fields


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
    if content[:1] == b"\x30":
        if _PKCS5 in begin or _PKCS12_PBE in begin:
            return "is encrypted, in DER"
        inner = content[_start(content) :]
        return "contains a public key" if inner[:1] == b"\x06" else "contains a certificate"
    if content[:3] == b"\x02\x01\x03" and _PKCS7 in begin:
        return "is in PKCS #12 format"
    if content[:2] != b"\x02\x01":  # a version has one octet: this is a modulus
        return "contains a public key"
    return "is in DER"
