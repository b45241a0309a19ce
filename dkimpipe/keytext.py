"""The text of a key, without what editors, web forms and configuration files have done to it.

It is loaded only for a file in which ``keyforms`` finds no key. Nothing here can yield another key: a
structure in DER contains its own length, and the halves of a key must belong together.
"""

import re
from base64 import a85decode, b32decode, b85decode
from binascii import Error as Base64Error
from binascii import a2b_base64, a2b_uu

_BYTE_ORDER_MARKS = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be", b"\xef\xbb\xbf": "utf-8"}
_PERCENT = re.compile("%([0-9A-Fa-f]{2})")
_FORM = re.compile(r"(?:BEGIN|END)\+[A-Z+]*KEY")  # with spaces as a web form sends them
_TAG = re.compile("<[^<>]*>")
_ESCAPES = (  # of JSON, YAML and shells; the backslash may be escaped itself
    (re.compile(r"\\+(?:u00|x)([0-9A-Fa-f]{2})"), lambda found: chr(int(found[1], 16))),
    (re.compile(r"\\+(?:[nrt]|01[25])"), "\n"),
    (re.compile(r"\\+"), ""),
)
_QUOTED_PRINTABLE = ((re.compile("=3[Dd]"), "="), (re.compile(r"(?m)^(.{71,75})=\n"), r"\1"))
_SHOWN_ENDS = re.compile(r"(?m)(?:\^M)+\$?$|\$$")  # of lines, as cat -A and vi(1) show them
_BARE_ENDS = re.compile(r"(-----BEGIN [A-Z0-9 ]+-----)(n\S+n)(-----END )")  # \n without its backslash
_DASHES = re.compile("[\u2010-\u2015\u2212\ufe58\ufe63\uff0d]")
_SPACES = re.compile("[\u00a0\u2000-\u200d\u2028\u2029\u202f\u3000\ufeff\u00ad]")
_ARMOUR = re.compile(r"-*[ \t]*(BEGIN|END)[ \t_]+([A-Z0-9 _]*?KEY|CERTIFICATE|PKCS7|PKCS12)[ \t]*-*", re.I)
_NUMBER = re.compile(r"[ \t]*(\d+)(?:[ \t]*[:.)|\]][ \t]*|[ \t]+)(?=\S)")
_HEX = re.compile(rb"(?:[0-9a-f]{2})+", re.I)
_NOT_HEX = re.compile(rb"\b0[xX]|\\+x|[:,]")
_ARRAY = re.compile(rb"\{([^{}]*)\}")  # of C
_DUMPS = (  # of xxd(1), and of hexdump(1) with -C
    re.compile(rb"(?mi)^[0-9a-f]{8}: ((?:[0-9a-f]{2,4} ?)+)(?: |$)"),
    re.compile(rb"(?mi)^[0-9a-f]{8}  ((?:[0-9a-f]{2} {1,2})+) *\|"),
)
_UUENCODED = re.compile(rb"(?ms)^begin [0-7]+ [^\n]*\n(.*?)^end")
_RUN = re.compile(rb"(?<![A-Za-z0-9+/])(?:[A-Za-z0-9+/_-]{40,}\s+)*[A-Za-z0-9+/_-]+={0,2}")
_JWK = re.compile(rb'"(n|e|d|p|q|dp|dq|qi|x)"\s*:\s*"([\w-]+)"')
_XML = re.compile(rb"<(Modulus|Exponent|D|P|Q|DP|DQ|InverseQ)>([^<]+)</")
_PRINTED = re.compile(rb"\b(\w+):(?:[ \t]*\d+[ \t]*\(0x([0-9A-Fa-f]+)\)|\s+((?:[0-9A-Fa-f]{2}\b[:\s]*)+))")
_BIND = re.compile(rb"(?m)^(\w+):[ \t]*([A-Za-z0-9+/]+={0,2})[ \t]*$")  # of dnssec-keygen(8)
_BIND_FORMAT, _BIND_ED25519 = b"Private-key-format:", b"Algorithm: 15"  # RFC 8624 section 3.1
_HALF = rb"([0-9A-Fa-f]{64}|[A-Za-z0-9+/_-]{43}=?)(?![A-Za-z0-9+/_=-])"
_PRIVATE = re.compile(
    rb"""(?i)(?<!\w)[\w.-]*(?:(?:priv|private|secret)[_.-]?key|priv|private|seed)["']?[ \t]*[:=][ \t]*["']?"""
    + _HALF
)
_HALVES = re.compile(rb"(?<![A-Za-z0-9+/_-])(?<!(?i:sha256:))" + _HALF)  # no fingerprint
_COMMENT = re.compile(rb"(?m)^[ \t]*[#;].*$")
_SEED = re.compile(rb"-----BEGIN (?:ED25519 )?PRIVATE KEY-----([^-]*)-----END (?:ED25519 )?PRIVATE KEY-----")
_NAMES = (  # in the order of RFC 8017 appendix A.1.2
    (_JWK, (b"n", b"e", b"d", b"p", b"q", b"dp", b"dq", b"qi")),  # RFC 7518 section 6.3
    (_XML, (b"Modulus", b"Exponent", b"D", b"P", b"Q", b"DP", b"DQ", b"InverseQ")),
    (_JWK, (b"d", b"x")),  # RFC 8037
    (
        _BIND,
        (
            *(b"Modulus", b"PublicExponent", b"PrivateExponent"),
            *(b"Prime1", b"Prime2", b"Exponent1", b"Exponent2", b"Coefficient"),
        ),
    ),
)
_PRINTED_NAMES = (  # the same, as openssl pkey -text has them
    (
        *(b"modulus", b"publicExponent", b"privateExponent"),
        *(b"prime1", b"prime2", b"exponent1", b"exponent2", b"coefficient"),
    ),
    (b"priv", b"pub"),
)
_LONG = 40  # characters: the shortest key, of Ed25519, has 43
_DIGITS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_STANDARD = bytes.maketrans(b"-_", b"+/")  # from base64url (RFC 4648 section 5)


def plain(octets: bytes) -> bytes:
    """Return a text in US-ASCII, its line ends LF, with PEM as RFC 7468 has it, as far as it can be told.

    Undone are UTF-16, percent encoding, HTML, the escapes of JSON and of quoted-printable, typographic
    dashes and spaces, line numbers, and any text in front of each line.
    """
    text = _SHOWN_ENDS.sub("", _characters(octets))
    if _PERCENT.search(text):
        text = (
            text.replace("BEGIN+", "BEGIN ").replace("END+", "END ").replace("+PRIVATE+KEY", " PRIVATE KEY")
        )
        text = _PERCENT.sub(lambda found: chr(int(found[1], 16)), text)
    if "&" in text or "<" in text:
        from html import unescape

        text = unescape(_TAG.sub("\n", text))
    for pattern, instead in _ESCAPES:
        text = pattern.sub(instead, text)
    text = _SPACES.sub(" ", _DASHES.sub("-", text)).replace("\r\n", "\n").replace("\r", "\n")
    text = _without_prefixes(text)
    for pattern, restored in _QUOTED_PRINTABLE:
        text = pattern.sub(restored, text)
    text = _BARE_ENDS.sub(_without_bare_ends, text)
    text = _ARMOUR.sub(_armour, text)
    return text.encode("ascii", "ignore")


def from_hex(text: bytes) -> bytes:
    """Return the octets of a text that is nothing but hexadecimal digits, otherwise nothing."""
    digits = b"".join(_NOT_HEX.sub(b"", text).split())
    return bytes.fromhex(digits.decode()) if _HEX.fullmatch(digits) else b""


def from_other(octets: bytes) -> "list[bytes]":
    """Return the octets of a file as if it were in each of the less usual encodings.

    They are the dumps of xxd(1) and hexdump(1), an array of C, uuencode, base32 and base85.
    """
    digits = b"".join(octets.split()).removeprefix(b"<~").removesuffix(b"~>")
    found = [from_hex(octets), *map(from_hex, _ARRAY.findall(octets))]
    found += [from_hex(b"".join(dump.findall(octets))) for dump in _DUMPS]
    try:
        found += [b"".join(map(a2b_uu, body.splitlines())) for body in _UUENCODED.findall(octets)]
    except Base64Error:
        pass
    for decode in (b32decode, a85decode, b85decode):
        try:
            found.append(decode(digits.upper() if decode is b32decode else digits))
        except ValueError:
            pass
    return found


def decoded(text: bytes) -> bytes:
    """Return the octets of base64 or base64url, with or without padding; nothing if it is neither."""
    digits = b"".join(text.translate(_STANDARD).split()).rstrip(b"=")
    try:
        return b"" if digits.translate(None, _DIGITS) else a2b_base64(digits + b"=" * (-len(digits) % 4))
    except Base64Error:
        return b""


def seed(text: bytes) -> bytes:
    """Return the 32 octets that are all of a text but comments, or all of its PEM, otherwise nothing."""
    bare = _COMMENT.sub(b"", text).strip(b" \n\"'")
    armoured = _SEED.search(text)
    in_armour = decoded(armoured[1]) if armoured else b""
    if in_armour[:1] == b"\x30" and b"\x02\x01" in in_armour[:8]:  # a structure, and not all of it
        in_armour = b""
    return next((each for each in (decoded(bare), from_hex(bare), in_armour) if len(each) == 32), b"")


def labelled(text: bytes) -> bytes:
    """Return the 32 octets that a text calls private, if they are the only ones, otherwise nothing.

    Others beside them are for ``halves``. BIND calls a key of any type private.
    """
    if _BIND_FORMAT in text and _BIND_ED25519 not in text:
        return b""
    found = {_octets(each) for each in _PRIVATE.findall(text)}
    return found.pop() if len(found) == 1 else b""


def halves(text: bytes) -> "list[bytes]":
    """Return each 32 octets in a text, in base64 or hexadecimal digits, once."""
    return list(dict.fromkeys(map(_octets, _HALVES.findall(text))))


def _octets(digits: bytes) -> bytes:
    return from_hex(digits) if len(digits) == 64 else decoded(digits)


def lacks_primes(octets: bytes) -> bool:
    """Return whether a file is a private RSA key in JWK with n, e and d alone (RFC 7518 section 6.3.2)."""
    names = dict(_JWK.findall(_characters(octets).encode())).keys()
    return names >= {b"n", b"e", b"d"} and not names >= {b"p", b"q"}


def is_public(octets: bytes) -> bool:
    """Return whether a file is a public key in JWK, or in .NET's XML."""
    text = _characters(octets).encode()
    names = dict(_JWK.findall(text)).keys() | dict(_XML.findall(text)).keys()
    has_public = any(names >= each for each in ({b"n", b"e"}, {b"x"}, {b"Modulus", b"Exponent"}))
    return has_public and not names & {b"d", b"D"} and (b'"kty"' in text or b"<Modulus>" in text)


def runs(text: bytes) -> "list[bytes]":
    """Return the octets of all base64 in a text that is long enough for a key, in their order.

    A space within a line may have been a plus sign: that is how a web form sends it.
    """
    found = []
    for part in re.split(rb"-----[^-\n]*-----", text):
        found += [decoded(run) for run in _RUN.findall(part) if len(run) >= _LONG]
        found.append(decoded(part.replace(b" ", b"+")))
    return [octets for octets in found if octets]


def numbers(octets: bytes) -> "list[bytes]":
    """Return the numbers of a key in JWK, in .NET's XML or printed by openssl(1).

    They are those of RSA, or the halves of Ed25519.
    """
    text = _characters(octets).encode()
    for pattern, names in _NAMES:
        found = dict(pattern.findall(text))
        if found.keys() >= set(names):
            return [decoded(found[name]) for name in names]
    printed = {
        name: b"0" * (len(short) % 2) + short or digits for name, short, digits in _PRINTED.findall(text)
    }
    for names in _PRINTED_NAMES:
        if printed.keys() >= set(names):
            return [from_hex(printed[name]) for name in names]
    return []


def _characters(octets: bytes) -> str:
    for mark, codec in _BYTE_ORDER_MARKS.items():
        if octets.startswith(mark):
            return octets[len(mark) :].decode(codec, "replace")
    return octets.replace(b"\0", b"").decode("utf-8", "replace")


def _without_bare_ends(found: "re.Match[str]") -> str:
    """Return PEM in one line with its line ends restored, if an n is in the place of each."""
    body = found[2][1:-1]
    for width in (64, 76):
        if set(body[width :: width + 1]) <= {"n"}:
            lines = [body[at : at + width] for at in range(0, len(body), width + 1)]
            return "\n".join([found[1], *lines, found[3]])
    return found[0]


def _armour(found: "re.Match[str]") -> str:
    label = found[2].replace("_", " ").upper()
    return f"\n-----{found[1].upper()} {label}-----\n"


def _without_prefixes(text: str) -> str:
    """Return text without line numbers, and without what its armour has in front in the same line."""
    lines = [line for line in text.split("\n") if line.strip()]
    numbers = [_NUMBER.match(line) for line in lines]
    if len(lines) > 2 and all(numbers):
        counted = [int(number[1]) for number in numbers if number]
        if counted == list(range(counted[0], counted[0] + len(lines))):
            lines = [line[number.end() :] for line, number in zip(lines, numbers) if number]
    begin = next((line for line in lines if _ARMOUR.search(line)), "")
    found = _ARMOUR.search(begin)
    prefix = begin[: found.start()] if found else ""
    if prefix and sum(line.startswith(prefix) for line in lines) > 2:
        lines = [line.removeprefix(prefix) for line in lines]
    return "\n".join(lines)
