"""TXT records as people publish them for a key, right and wrong: one table for all tests of what is said.

``test_records.py`` asks three independent verifiers for their opinion of each, and holds ours against it;
``test_rotate.py`` has ``dkimpipe rotate`` wait for each that is wrong. RFC 6376 section 3.6.1, RFC 8463
section 4.
"""

from __future__ import annotations

import base64
import datetime
import functools
from collections.abc import Callable
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
)

Change = Callable[[bytes], "list[bytes]"]


class Sample(NamedTuple):
    """TXT records of a name.

    ``make``   returns them, made from the right record of the key that signs
    ``error``  what ``check --dns`` says is wrong, empty if it has to be content; {p} is the right p=
    ``key``    the name of that key
    """

    make: Change
    error: str = ""
    key: str = "rsa2048"

    def words(self, value: bytes) -> str:
        """Return the error for a right record: none if there is nothing in it that ``make`` changes."""
        unchanged = self.make is not same and self.make(value) == [value]
        return "" if unchanged else self.error.replace("{p}", value.rpartition(b"p=")[2].decode())


def warnings(name: str) -> list[str]:
    """Return what is warned of in a sample."""
    return list(WARNINGS.get(name, ()))


def same(value: bytes) -> list[bytes]:
    """Leave the record as it is."""
    return [value]


def swap(old: bytes, new: bytes) -> Change:
    """Replace the first of these."""
    return lambda value: [value.replace(old, new, 1)]


def after(text: bytes) -> Change:
    """Put text after the record."""
    return lambda value: [value + text]


def before(text: bytes) -> Change:
    """Put text before the record."""
    return lambda value: [text + value]


def around(text: bytes, end: bytes | None = None) -> Change:
    """Put text before the record, and the same, or another, after it."""
    return lambda value: [text + value + (text if end is None else end)]


def tag(text: bytes) -> Change:
    """Put a tag before p=."""
    return lambda value: [value.replace(b"; p=", b"; " + text + b"; p=")]


def at(place: int, text: bytes) -> Change:
    """Put text where the record is split, or anywhere else."""
    return lambda value: [value[:place] + text + value[place:]]


def notes(length: int) -> Change:
    """Make the record so long by n=."""
    return lambda value: tag(b"n=" + b"x" * (length - len(value) - 4))(value)


def p(change: Callable[[bytes], bytes]) -> Change:
    """Change the base64 of the key."""

    def make(value: bytes) -> list[bytes]:
        begin, mark, key = value.partition(b"p=")
        return [begin + mark + change(key)]

    return make


def der(change: Callable[[bytes], bytes]) -> Change:
    """Change the octets of the key."""
    return p(lambda key: base64.b64encode(change(base64.b64decode(key))))


def without_k(change: Change) -> Change:
    """Leave k= out, too."""
    return lambda value: [
        text.replace(b"k=rsa; ", b"").replace(b"k=ed25519; ", b"") for text in change(value)
    ]


def in_lines(key: bytes, end: bytes) -> bytes:
    """Return base64 as in a PEM file, with another line end."""
    return end.join([key[at : at + 64] for at in range(0, len(key), 64)])


def armored(key: bytes, end: bytes) -> bytes:
    """Return a PEM file, with another line end."""
    lines = (b"-----BEGIN PUBLIC KEY-----", in_lines(key, end), b"-----END PUBLIC KEY-----")
    return end.join(lines)


def bare(octets: bytes) -> bytes:
    """Return the RSAPublicKey of a SubjectPublicKeyInfo (RFC 8017 appendix A.1.1)."""
    return load_der_public_key(octets).public_bytes(Encoding.DER, PublicFormat.PKCS1)


def wrapped(octets: bytes) -> bytes:
    """Return the SubjectPublicKeyInfo of an Ed25519 key, which RFC 8463 does not want."""
    key = ed25519.Ed25519PublicKey.from_public_bytes(octets)
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def both_halves() -> bytes:
    """Return another Ed25519 key, as rspamd writes it."""
    public = ed25519.Ed25519PrivateKey.from_private_bytes(b"x" * 32).public_key()
    return b"x" * 32 + public.public_bytes(Encoding.Raw, PublicFormat.Raw)


@functools.cache
def another() -> rsa.RSAPrivateKey:
    """Return another key."""
    return rsa.generate_private_key(65537, 2048)


def public(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    """Return a SubjectPublicKeyInfo."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def other(octets: bytes) -> bytes:
    """Return another key."""
    return public(another())


def elliptic(octets: bytes) -> bytes:
    """Return a key of a type that DKIM does not have."""
    return public(ec.generate_private_key(ec.SECP256R1()))


def private(form: PrivateFormat) -> Callable[[bytes], bytes]:
    """Return the half that must not be published."""
    return lambda octets: another().private_bytes(Encoding.DER, form, NoEncryption())


def certificate(octets: bytes) -> bytes:
    """Return a certificate of the key."""
    key = load_der_public_key(octets)
    assert isinstance(key, rsa.RSAPublicKey)
    begin = datetime.datetime(2025, 1, 1)
    builder = x509.CertificateBuilder(x509.Name([]), x509.Name([]), key, 1, begin, begin.replace(year=2026))
    signed = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(Encoding.DER)


def without_null(octets: bytes) -> bytes:
    """Return the key without the parameters of its algorithm, which are NULL (RFC 3279 section 2.3.1)."""
    algorithm = bytes.fromhex("06092a864886f70d010101")
    assert b"\x30\x0d" + algorithm + b"\x05\x00" in octets
    short = octets.replace(b"\x30\x0d" + algorithm + b"\x05\x00", b"\x30\x0b" + algorithm)
    return short[:2] + (len(short) - 4).to_bytes(2, "big") + short[4:]


def modulus(octets: bytes) -> bytes:
    """Return the modulus of an RSA key, as ``openssl rsa -modulus`` prints it."""
    key = load_der_public_key(octets)
    assert isinstance(key, rsa.RSAPublicKey)
    return key.public_numbers().n.to_bytes(key.key_size // 8, "big")


def for_ssh(key: bytes) -> bytes:
    """Return base64 of a key as in authorized_keys."""
    octets = base64.b64decode(key)
    is_short = len(octets) == 32
    made = ed25519.Ed25519PublicKey.from_public_bytes(octets) if is_short else load_der_public_key(octets)
    return made.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)


S = Sample
HEX = "p= is in hexadecimal digits, not in base64"
SPKI = "p= has 12 bytes too many (SubjectPublicKeyInfo); right: p={p}"
PRIVATE = "p= is a private key, which is public now: stop signing with it"
NBSP, ZERO_WIDTH = "\u00a0".encode(), "\u200b".encode()
SAMPLES: dict[str, Sample] = {
    "right": S(same),
    "right 4096": S(same, "", key="rsa4096"),
    "right 1024": S(same, "", key="rsa1024"),
    "right ed": S(same, "", key="ed25519"),
    "512 bits": S(same, "key has 512 bits, less than 1024", key="rsa512"),
    "1008 bits": S(same, "key has 1008 bits, less than 1024", key="rsa1008"),
    "e=3": S(same, "", key="e3"),
    # Remains of web pages and word processors.
    "<br> after ;": S(after(b"; <br>"), "text after the last semicolon: '<br>'"),
    "<br> after p": S(after(b"<br>"), "p= contains '<br>'"),
    "<br/>": S(after(b";<br/>"), "text after the last semicolon: '<br/>'"),
    "<br> within": S(at(255, b"<br>"), "p= contains '<br>'"),
    "&quot; round": S(around(b"&quot;"), "not a tag: '&quot'"),
    "&nbsp; after": S(after(b"&nbsp;"), "p= contains '&nbsp'"),
    "&nbsp; between": S(swap(b"; p", b";&nbsp;p"), "not a tag: '&nbsp'"),
    "&#59;": S(swap(b"; p", b"&#59; p"), "k= is unknown: 'rsa&#59'"),
    "nbsp before k=": S(swap(b"; k", b";" + NBSP + b"k"), "it contains a non-breaking space (U+00A0)"),
    "nbsp before p=": S(swap(b"; p", b";" + NBSP + b"p"), "it contains a non-breaking space (U+00A0)"),
    "nbsp after p=": S(swap(b"p=", b"p=" + NBSP), "it contains a non-breaking space (U+00A0)"),
    "nbsp in p": S(at(255, NBSP), "it contains a non-breaking space (U+00A0)"),
    "nbsp at end": S(after(NBSP), "it contains a non-breaking space (U+00A0)"),
    "nbsp after last ;": S(after(b";" + NBSP), "it contains a non-breaking space (U+00A0)"),
    "nbsp at begin": S(before(NBSP), "it contains a non-breaking space (U+00A0)"),
    "latin1 nbsp at end": S(after(b"\xa0"), "p= contains invalid characters: '\\xa0'"),
    "latin1 nbsp before k": S(swap(b"; k", b";\xa0k"), "not a tag: '\\xa0k=rsa'"),
    "latin1 nbsp before p": S(swap(b"; p", b";\xa0p"), "not a tag: '\\xa0p=MIIBIjANBg...'"),
    "latin1 nbsp after k=": S(swap(b"k=rsa", b"k=rsa\xa0"), "k= contains invalid characters: '\\xa0'"),
    "zwsp at end": S(after(ZERO_WIDTH), "it contains a zero-width space (U+200B)"),
    "zwsp at begin": S(before(ZERO_WIDTH), "it contains a zero-width space (U+200B)"),
    "zwsp in p": S(at(100, ZERO_WIDTH), "it contains a zero-width space (U+200B)"),
    "zwsp after last ;": S(after(b";" + ZERO_WIDTH), "it contains a zero-width space (U+200B)"),
    "soft hyphen": S(at(100, "\u00ad".encode()), "it contains a soft hyphen (U+00AD)"),
    "smart quotes": S(around("\u201c".encode(), "\u201d".encode()), "typographic quotes: '“'"),
    # Comments of key generators and zone files, and other text.
    "----- DKIM key": S(
        after(b" ; ----- DKIM key r for example.com"),
        "text after the last semicolon: '----- DKIM key r for example.com'",
    ),
    "----- DKIM key, paren": S(
        after(b" )  ; ----- DKIM key r for example.com"),
        "text after the last semicolon: '----- DKIM key r for example.com'",
    ),
    "-- opendkim": S(after(b"; -- opendkim"), "text after the last semicolon: '-- opendkim'"),
    "paren": S(after(b" )"), "p= ends with a parenthesis"),
    "parens": S(around(b"( ", b" )"), "not a tag: '( v=DKIM1'"),
    "# comment": S(after(b"; # key"), "text after the last semicolon: '# key'"),
    "trailing text": S(after(b"; published by Joe"), "text after the last semicolon: 'published by Joe'"),
    "trailing text no ;": S(after(b" published"), "text after the key in p=: 'published'"),
    "ttl": S(after(b" 3600"), "text after the key in p=: '3600'"),
    # Semicolons.
    ";;": S(swap(b"; k", b";; k"), "two semicolons in a row"),
    "; ;": S(swap(b"; k", b"; ; k"), "two semicolons in a row"),
    ";; at end": S(after(b";;"), "two semicolons in a row"),
    "; ; at end": S(after(b" ; ; "), "two semicolons in a row"),
    "; at begin": S(before(b";"), "a semicolon before the first tag"),
    "; at end": S(after(b";")),
    "; blank at end": S(after(b"; ")),
    "blank at end": S(after(b" ")),
    "blank at begin": S(before(b" ")),
    "only ;": S(lambda v: [b";"], "the record is empty"),
    "name in record": S(before(b"r._domainkey IN TXT "), "not a tag: 'r._domainkey IN TXT v=DKIM1'"),
    "name in record quote": S(before(b'r._domainkey IN TXT "'), "not a tag: 'r._domainkey IN TXT \"v=DKIM1'"),
    # Tags twice.
    "p twice same": S(lambda v: [v + b"; p=" + v.partition(b"p=")[2]], "the tag p= appears twice"),
    "p twice, other last": S(
        lambda v: [v + b"; p=" + base64.b64encode(other(v))], "the tag p= appears twice"
    ),
    "p twice, empty last": S(after(b"; p="), "the tag p= appears twice"),
    "p twice, empty first": S(swap(b"p=", b"p=; p="), "the tag p= appears twice"),
    "v twice": S(tag(b"v=DKIM1"), "the tag v= appears twice"),
    "v twice at begin": S(before(b"v=DKIM1; "), "the tag v= appears twice"),
    "k twice": S(tag(b"k=rsa"), "the tag k= appears twice"),
    "k twice other": S(tag(b"k=ed25519"), "the tag k= appears twice"),
    "h twice": S(tag(b"h=sha256; h=sha256"), "the tag h= appears twice"),
    "h twice other": S(tag(b"h=sha1; h=sha256"), "the tag h= appears twice"),
    "t twice": S(tag(b"t=s; t=s"), "the tag t= appears twice"),
    "n twice": S(tag(b"n=a; n=b"), "the tag n= appears twice"),
    "long name twice": S(
        tag(b"x" * 200 + b"=; " + b"x" * 200 + b"="), "the tag xxxxxxxxxxxxxxxxxxxx= appears twice"
    ),
    "unknown twice": S(tag(b"x=a; x=b"), "the tag x= appears twice"),
    "whole twice": S(lambda v: [v + b"; " + v], "the tag v= appears twice"),
    "whole twice, no ;": S(lambda v: [v + v], "the tag k= appears twice"),
    "whole twice, blank": S(lambda v: [v + b" " + v], "the tag k= appears twice"),
    # v=, and other punctuation.
    "v last": S(lambda v: [v.removeprefix(b"v=DKIM1; ") + b"; v=DKIM1"], "v=DKIM1 must be first"),
    "v middle": S(lambda v: [v.replace(b"v=DKIM1; k=rsa", b"k=rsa; v=DKIM1")], "v=DKIM1 must be first"),
    "v missing": S(swap(b"v=DKIM1; ", b"")),
    "v lower": S(swap(b"DKIM1", b"dkim1"), "v= is not DKIM1: 'dkim1'"),
    "v without =": S(swap(b"v=DKIM1", b"vDKIM1"), "not a tag: 'vDKIM1'"),
    "DKIM1 alone": S(swap(b"v=DKIM1", b"DKIM1"), "not a tag: 'DKIM1'"),
    "v=DKIM1.": S(swap(b"DKIM1", b"DKIM1."), "v= is not DKIM1: 'DKIM1.'"),
    "v=DKIM1,": S(swap(b"DKIM1;", b"DKIM1,"), "v= is not DKIM1: 'DKIM1, k=rsa'"),
    "v = DKIM1": S(swap(b"v=DKIM1", b"v = DKIM1 ")),
    "v= DKIM1": S(swap(b"v=DKIM1", b"v= DKIM1")),
    "v=DKIM1 ;": S(swap(b"v=DKIM1", b"v=DKIM1 ")),
    "v=DKIM 1": S(swap(b"DKIM1", b"DKIM 1"), "v= is not DKIM1: 'DKIM 1'"),
    "v= empty": S(swap(b"DKIM1", b""), "v= is not DKIM1"),
    "v=1": S(swap(b"DKIM1", b"1"), "v= is not DKIM1: '1'"),
    "v=DKIM": S(swap(b"DKIM1", b"DKIM"), "v= is not DKIM1: 'DKIM'"),
    "v=DKIM2": S(swap(b"DKIM1", b"DKIM2"), "v= is not DKIM1: 'DKIM2'"),
    "V=": S(swap(b"v=", b"V=")),
    "v quoted": S(swap(b"DKIM1", b'"DKIM1"'), "v= is not DKIM1: '\"DKIM1\"'"),
    "v:": S(swap(b"v=", b"v:"), "not a tag: 'v:DKIM1'"),
    "commas": S(
        lambda v: [v.replace(b";", b",")],
        "it is not a key record: 'v=DKIM1, k=rsa, p=MIIBIjANBgkqhkiG9w0BAQ...'",
    ),
    "no ; after v": S(swap(b"; k", b" k"), "v= is not DKIM1: 'DKIM1 k=rsa'"),
    "no ; before p": S(
        swap(b"; p", b" p"), "it is not a key record: 'v=DKIM1; k=rsa p=MIIBIjANBgkqhkiG9w0BAQE...'"
    ),
    "no ; at all": S(
        lambda v: [v.replace(b";", b"")],
        "it is not a key record: 'v=DKIM1 k=rsa p=MIIBIjANBgkqhkiG9w0BAQEF...'",
    ),
    "no blanks": S(lambda v: [v.replace(b" ", b"")]),
    # Something else.
    "spf": S(lambda v: [b"v=spf1 -all"], "it is not a key record: 'v=spf1 -all'"),
    "dmarc": S(lambda v: [b"v=DMARC1; p=none"], "v= is not DKIM1: 'DMARC1'"),
    "hello": S(lambda v: [b"hello"], "not a tag: 'hello'"),
    "empty": S(lambda v: [b""], "the record is empty"),
    "blank": S(lambda v: [b" "], "the record is empty"),
    # Byte order marks and other encodings.
    "bom8": S(before(b"\xef\xbb\xbf"), "a byte order mark before v="),
    "bom8, v missing": S(
        lambda v: [b"\xef\xbb\xbf" + v.removeprefix(b"v=DKIM1; ")], "a byte order mark before v="
    ),
    "bom16": S(before(b"\xff\xfe"), "a byte order mark before v="),
    "utf16": S(lambda v: [v.decode().encode("utf-16")], "a byte order mark before v="),
    "utf16le": S(lambda v: [v.decode().encode("utf-16-le")], "it contains NUL bytes, as in UTF-16 text"),
    "bom at end": S(after(b"\xef\xbb\xbf"), "p= contains '\\ufeff'"),
    # White space and controls.
    "crlf between": S(swap(b"; k", b";\r\n k")),
    "crlf between no blank": S(swap(b"; k", b";\r\nk")),
    "lf between": S(swap(b"; k", b";\nk")),
    "cr between": S(swap(b"; k", b";\rk")),
    "tab between": S(swap(b"; k", b";\tk")),
    "vt between": S(swap(b"; k", b";\vk"), "not a tag: '\\x0bk=rsa'"),
    "ff between": S(swap(b"; k", b";\fk"), "not a tag: '\\x0ck=rsa'"),
    "vt at end": S(after(b"\v"), "p= contains invalid characters: '\\x0b'"),
    "ff after last ;": S(after(b";\f"), "text after the last semicolon: '\\x0c'"),
    "crlf at end": S(after(b"\r\n")),
    "lf at end": S(after(b"\n")),
    "; lf at end": S(after(b";\n")),
    "cr at end": S(after(b"\r")),
    "crlf in p": S(at(255, b"\r\n")),
    "crlf wsp in p": S(at(255, b"\r\n ")),
    "lf in p": S(at(255, b"\n")),
    "cr in p": S(at(255, b"\r")),
    "tab in p": S(at(255, b"\t")),
    "vt in p": S(at(255, b"\v"), "p= contains invalid characters: '\\x0b'"),
    "ff in p": S(at(255, b"\f"), "p= contains invalid characters: '\\x0c'"),
    "blank in p": S(at(255, b" ")),
    "blanks in p": S(at(255, b"     ")),
    "blank many": S(p(lambda k: b" ".join(k[i : i + 64] for i in range(0, len(k), 64)))),
    "crlf in v": S(swap(b"v=DKIM1", b"v=\r\n DKIM1")),
    "crlf in k": S(swap(b"k=rsa", b"k=\r\n rsa")),
    "lf in n": S(tag(b"n=a\nb")),
    "cr in n": S(tag(b"n=a\rb")),
    "nul at end": S(after(b"\0"), "it contains NUL bytes, as in UTF-16 text"),
    "nul in p": S(at(255, b"\0"), "it contains NUL bytes, as in UTF-16 text"),
    "nul between": S(swap(b"; k", b";\0k"), "it contains NUL bytes, as in UTF-16 text"),
    "nul in n": S(tag(b"n=a\0b"), "it contains NUL bytes, as in UTF-16 text"),
    "nul after last ;": S(after(b";\0"), "it contains NUL bytes, as in UTF-16 text"),
    "del at end": S(after(b"\x7f"), "p= contains invalid characters: '\\x7f'"),
    "esc in n": S(tag(b"n=\x1b[2J"), "n= contains invalid characters: '\\x1b'"),
    "vt in n": S(tag(b"n=a\vb"), "n= contains invalid characters: '\\x0b'"),
    "bell tag": S(after(b"; \x1b[2J\x07"), "text after the last semicolon: '\\x1b[2J\\x07'"),
    # Names of tags.
    "p= blank": S(swap(b"p=", b"p= ")),
    "p =": S(swap(b"p=", b"p =")),
    "p = ": S(swap(b"p=", b"p = ")),
    "p tab =": S(swap(b"p=", b"p\t=\t")),
    "k = rsa ": S(swap(b"k=rsa", b"k = rsa ")),
    "P=": S(swap(b"p=", b"P="), "it is not a key record: 'v=DKIM1; k=rsa; P=MIIBIjANBgkqhkiG9w0BAQ...'"),
    "P= beside": S(lambda v: [v.replace(b"p=", b"P=x; p=")]),
    "K=RSA": S(swap(b"k=rsa", b"K=rsa")),
    "V= beside": S(tag(b"V=DKIM1")),
    "K= beside": S(tag(b"K=dsa")),
    "p p=": S(swap(b"p=", b"p p="), "not a tag: 'p p=MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIB...'"),
    "p==": S(swap(b"p=", b"p=="), "p= has '=' too much at character 1"),
    "p:": S(
        swap(b"p=", b"p:"), "text after the last semicolon: 'p:MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCg...'"
    ),
    "my tag=": S(tag(b"my tag=1"), "not a tag: 'my tag=1'"),
    # base64.
    "base64url": S(
        p(lambda k: k.replace(b"+", b"-").replace(b"/", b"_")), "p= is base64url: it has - for + and _ for /"
    ),
    "missing pad": S(p(lambda k: k.rstrip(b"=")), "the padding at the end of p= (=) is wrong", key="rsa4096"),
    "missing one pad": S(p(lambda k: k[:-1]), "the padding at the end of p= (=) is wrong", key="rsa4096"),
    "pad = too many": S(after(b"="), "the padding at the end of p= (=) is wrong", key="rsa4096"),
    "pad == too many": S(after(b"=="), "the padding at the end of p= (=) is wrong"),
    "pad = where none": S(after(b"="), "the padding at the end of p= (=) is wrong"),
    "pad ====": S(after(b"===="), "the padding at the end of p= (=) is wrong"),
    "junk after =": S(after(b"abcd"), "text after the key in p=: 'abcd'", key="rsa4096"),
    "junk ! after =": S(after(b"!"), "p= contains '!'", key="rsa4096"),
    "blank = ": S(p(lambda k: k[:-2] + b" = ="), "", key="rsa4096"),
    "junk after p": S(after(b"!"), "p= contains '!'"),
    "junk AAAA after p": S(after(b"AAAA"), "text after the key in p=: 'AAAA'"),
    "dot after p": S(after(b"."), "p= ends with a full stop"),
    "comma after p": S(after(b","), "p= ends with a comma"),
    "! in p": S(at(100, b"!"), "p= contains '!'"),
    ", in p": S(at(100, b","), "p= contains ','"),
    # Quotes and backslashes.
    "literal \\n in p": S(at(100, b"\\n"), "p= contains '\\n' where a line ended"),
    "literal \\n at end": S(after(b"\\n"), "p= contains '\\n' where a line ended"),
    "backslash ;": S(lambda v: [v.replace(b";", b"\\;")], "backslashes before semicolons"),
    "backslash at split": S(at(255, b"\\ "), "the value contains quotes or backslashes where it was split"),
    "backslash end": S(after(b"\\"), "the value contains quotes or backslashes where it was split"),
    '\\" round': S(around(b'\\"'), "not a tag: '\\\"v=DKIM1'"),
    "\\059": S(
        lambda v: [v.replace(b";", b"\\059")],
        "semicolons are written as \\059",
    ),
    "quotes round": S(around(b'"'), "quotes around the record: '\"v=DKIM1'"),
    "quote at begin": S(before(b'"'), "quotes around the record: '\"v=DKIM1'"),
    "quote at end": S(after(b'"'), ""),
    "quotes round p": S(p(lambda k: b'"' + k + b'"'), ""),
    "single quotes": S(around(b"'"), "quotes around the record: ''v=DKIM1'"),
    "split quotes": S(at(255, b'" "'), ""),
    "split quotes no blank": S(at(255, b'""'), ""),
    "split quotes nl": S(at(255, b'"\n"'), ""),
    "split one quote": S(at(255, b'"'), ""),
    "split plus": S(at(255, b'" + "'), "p= contains '\" + \"'"),
    "quotes round and split": S(
        lambda v: [b'"' + v[:255] + b'" "' + v[255:] + b'"'], "quotes around the record: '\"v=DKIM1'"
    ),
    "split in the middle of v": S(at(3, b'" "'), "v= is not DKIM1: 'D\" \"KIM1'"),
    # k=
    "k empty": S(swap(b"k=rsa", b"k="), "k= is unknown"),
    "k missing": S(swap(b"k=rsa; ", b"")),
    "k=RSA": S(swap(b"k=rsa", b"k=RSA"), "k= with capitals: dkimpy and Mail::DKIM would refuse it"),
    "k=Rsa": S(swap(b"k=rsa", b"k=Rsa"), "k= with capitals: dkimpy and Mail::DKIM would refuse it"),
    "k=rsa ": S(swap(b"k=rsa;", b"k=rsa ;")),
    "k= rsa": S(swap(b"k=rsa;", b"k= rsa;")),
    "k=r sa": S(swap(b"k=rsa;", b"k=r sa;"), "k= is unknown: 'r sa'"),
    "k=dsa": S(swap(b"k=rsa;", b"k=dsa;"), "k= is unknown: 'dsa'"),
    "k=rsa2048": S(swap(b"k=rsa;", b"k=rsa2048;"), "k= is unknown: 'rsa2048'"),
    "k=rsa:ed": S(swap(b"k=rsa;", b"k=rsa:ed25519;"), "k= is unknown: 'rsa:ed25519'"),
    "k=rsa-sha256": S(swap(b"k=rsa;", b"k=rsa-sha256;"), "k= is unknown: 'rsa-sha256'"),
    "k quoted": S(swap(b"k=rsa;", b'k="rsa";'), "k= is unknown: '\"rsa\"'"),
    "k after p": S(lambda v: [v.replace(b" k=rsa;", b"") + b"; k=rsa"]),
    "k after p, unknown": S(lambda v: [v.replace(b" k=rsa;", b"") + b"; k=dsa"], "k= is unknown: 'dsa'"),
    "k=ed with rsa": S(swap(b"k=rsa", b"k=ed25519"), "the key in p= is not of the type in k="),
    "p first": S(lambda v: [b"p=" + v.partition(b"p=")[2]]),
    "p first, k": S(lambda v: [b"p=" + v.partition(b"p=")[2] + b"; k=rsa"]),
    # h=
    "h=sha256": S(tag(b"h=sha256")),
    "h=sha1:sha256": S(tag(b"h=sha1:sha256")),
    "h=sha256:sha1": S(tag(b"h=sha256:sha1")),
    "h=sha1 : sha256": S(tag(b"h=sha1 : sha256"), "h= with spaces or capitals: Mail::DKIM would refuse it"),
    "h=sha1: sha256": S(tag(b"h=sha1: sha256"), "h= with spaces or capitals: Mail::DKIM would refuse it"),
    "h=sha1 :sha256": S(tag(b"h=sha1 :sha256")),
    "h=sha256 ": S(tag(b"h=sha256 ")),
    "h= sha256": S(tag(b"h= sha256")),
    "h=": S(tag(b"h="), "h= does not allow sha256"),
    "h=sha256:": S(tag(b"h=sha256:")),
    "h=:sha256": S(tag(b"h=:sha256")),
    "h=:": S(tag(b"h=:"), "h=: does not allow sha256"),
    "h=SHA256": S(tag(b"h=SHA256"), "h= with spaces or capitals: Mail::DKIM would refuse it"),
    "h=Sha256": S(tag(b"h=Sha256"), "h= with spaces or capitals: Mail::DKIM would refuse it"),
    "h=sha1:SHA256": S(tag(b"h=sha1:SHA256"), "h= with spaces or capitals: Mail::DKIM would refuse it"),
    "h=sha1": S(tag(b"h=sha1"), "h=sha1 does not allow sha256"),
    "h=sha1:": S(tag(b"h=sha1:"), "h=sha1: does not allow sha256"),
    "h=sha512:sha256": S(tag(b"h=sha512:sha256")),
    "h=sha 256": S(tag(b"h=sha 256"), "h=sha 256 does not allow sha256"),
    "h=*": S(tag(b"h=*"), "h=* does not allow sha256"),
    "h=rsa-sha256": S(tag(b"h=rsa-sha256"), "h=rsa-sha256 does not allow sha256"),
    "h=sha-256": S(tag(b"h=sha-256"), "h=sha-256 does not allow sha256"),
    "h=sha256,sha1": S(tag(b"h=sha256,sha1"), "h=sha256,sha1 does not allow sha256"),
    "h=sha256 sha1": S(tag(b"h=sha256 sha1"), "h=sha256 sha1 does not allow sha256"),
    "h=sha256::sha1": S(tag(b"h=sha256::sha1")),
    "h=sha1\r\n :sha256": S(tag(b"h=sha1\r\n :sha256")),
    "h=foo_bar:sha256": S(tag(b"h=foo_bar:sha256")),
    "h=sha256;h2=1": S(tag(b"h=sha256;h2=1")),
    "h=sha256\\:sha1": S(tag(b"h=sha256\\:sha1"), "h=sha256\\:sha1 does not allow sha256"),
    # s=
    "s=*": S(tag(b"s=*")),
    "s=email": S(tag(b"s=email")),
    "s=Email": S(tag(b"s=Email"), "s= other than * or email alone: dkimpy would refuse it"),
    "s=EMAIL": S(tag(b"s=EMAIL"), "s= other than * or email alone: dkimpy would refuse it"),
    "s=tlsrpt": S(tag(b"s=tlsrpt"), "s=tlsrpt does not allow email"),
    "s=": S(tag(b"s="), "s= does not allow email"),
    "s=email:other": S(tag(b"s=email:other"), "s= other than * or email alone: dkimpy would refuse it"),
    "s=other:email": S(tag(b"s=other:email"), "s= other than * or email alone: dkimpy would refuse it"),
    "s=other : email": S(tag(b"s=other : email"), "s= other than * or email alone: dkimpy would refuse it"),
    "s=email : *": S(tag(b"s=email : *"), "s= other than * or email alone: dkimpy would refuse it"),
    "s=email:": S(tag(b"s=email:"), "s= other than * or email alone: dkimpy would refuse it"),
    "s=:email": S(tag(b"s=:email"), "s= other than * or email alone: dkimpy would refuse it"),
    "s=e mail": S(tag(b"s=e mail"), "s=e mail does not allow email"),
    "s=*:email": S(tag(b"s=*:email"), "s= other than * or email alone: dkimpy would refuse it"),
    "s=email,tlsrpt": S(tag(b"s=email,tlsrpt"), "s=email,tlsrpt does not allow email"),
    "s=tlsrpt:email": S(tag(b"s=tlsrpt:email"), "s= other than * or email alone: dkimpy would refuse it"),
    "s=other": S(tag(b"s=other"), "s=other does not allow email"),
    # t=
    "t=": S(tag(b"t=")),
    "t=y": S(tag(b"t=y")),
    "t=s": S(tag(b"t=s")),
    "t=y:s": S(tag(b"t=y:s")),
    "t=s:y": S(tag(b"t=s:y")),
    "t=Y": S(tag(b"t=Y")),
    "t=S": S(tag(b"t=S")),
    "t=n": S(tag(b"t=n")),
    "t=s : y": S(tag(b"t=s : y")),
    "t=s:": S(tag(b"t=s:")),
    "t=:s": S(tag(b"t=:s")),
    "t=ys": S(tag(b"t=ys")),
    "t=x": S(tag(b"t=x")),
    "t=y s": S(tag(b"t=y s")),
    "t=s,y": S(tag(b"t=s,y")),
    "t=1": S(tag(b"t=1")),
    # g=
    "g=": S(tag(b"g="), "g= other than *, for DKIM: Mail::DKIM would refuse it"),
    "g=*": S(tag(b"g=*")),
    "g=alice": S(tag(b"g=alice"), "g= other than *, for DKIM: Mail::DKIM would refuse it"),
    "g=bob": S(tag(b"g=bob"), "g= other than *, for DKIM: Mail::DKIM would refuse it"),
    "g=al*": S(tag(b"g=al*"), "g= other than *, for DKIM: Mail::DKIM would refuse it"),
    "g=a*e": S(tag(b"g=a*e"), "g= other than *, for DKIM: Mail::DKIM would refuse it"),
    "g=Alice": S(tag(b"g=Alice"), "g= other than *, for DKIM: Mail::DKIM would refuse it"),
    "g= * ": S(tag(b"g= * ")),
    "t missing =": S(tag(b"t"), "not a tag: 't'"),
    "s after p": S(after(b"; s=email")),
    "t=y after p": S(after(b"; t=s")),
    # n=, and the length.
    "n=text": S(tag(b"n=hello world")),
    "n=a;b": S(tag(b"n=a;b"), "not a tag: 'b'"),
    "n=a;b=c": S(tag(b"n=a; b=c")),
    "n utf8": S(tag("n=Schlüssel".encode()), "characters outside US-ASCII: OpenDKIM would refuse it"),
    "n latin1": S(tag(b"n=Schl\xfcssel"), "n= contains invalid characters: '\\xfc'"),
    "n quotes": S(tag(b'n=a "b" c')),
    "n=": S(tag(b"n=")),
    "n qp": S(tag(b"n=a=20b=3B")),
    "n qp bad": S(tag(b"n=a=2")),
    "n = =": S(tag(b"n==")),
    "n html": S(tag(b"n=<b>x</b>")),
    "n after p": S(after(b"; n=hello")),
    "n backslash": S(tag(b"n=a\\b")),
    "n long 200": S(tag(b"n=" + b"x" * 200)),
    "n to 1000": S(notes(1000)),
    "n to 1023": S(notes(1023)),
    "n to 1024": S(notes(1024)),
    "n to 1025": S(notes(1025), "more than 1024 bytes: OpenDKIM would refuse it"),
    "n to 2000": S(notes(2000), "more than 1024 bytes: OpenDKIM would refuse it"),
    "n to 20000": S(notes(20000), "key record is too large"),
    # Unknown tags.
    "tag x=1": S(tag(b"x=1")),
    "tag foo=bar": S(tag(b"foo=bar")),
    "tag foo_bar=1": S(tag(b"foo_bar=1")),
    "tag foo-bar=1": S(tag(b"foo-bar=1"), "not a tag: 'foo-bar=1'"),
    "tag 1a=x": S(tag(b"1a=x"), "not a tag: '1a=x'"),
    "tag _a=1": S(tag(b"_a=1"), "not a tag: '_a=1'"),
    "tag a.b=1": S(tag(b"a.b=1"), "not a tag: 'a.b=1'"),
    "tag =value": S(tag(b"=value"), "not a tag: '=value'"),
    "tag x": S(tag(b"x"), "not a tag: 'x'"),
    "tag x=": S(tag(b"x=")),
    "tag ü=1": S(tag(b"\xc3\xbc=1"), "not a tag: 'ü=1'"),
    "tag x=ü": S(tag(b"x=\xc3\xbc"), "characters outside US-ASCII: OpenDKIM would refuse it"),
    "tag a1=2": S(tag(b"a1=2")),
    'tag x="y"': S(tag(b'x="y"')),
    "tag x = y": S(tag(b"x = y")),
    "tag x=a=b": S(tag(b"x=a=b")),
    "tag a?=1": S(tag(b"a?=1"), "not a tag: 'a?=1'"),
    "tag foo-bar=1;z=1": S(tag(b"foo-bar=1;z=1"), "not a tag: 'foo-bar=1'"),
    "unknown after p": S(after(b"; x=1")),
    "hyphen after p": S(after(b"; foo-bar=1"), "not a tag: 'foo-bar=1'"),
    "empty name after p": S(after(b"; =1"), "not a tag: '=1'"),
    # What p= can be.
    "bare": S(der(bare), "p= as the bare key (RSAPublicKey): Mail::DKIM and OpenDKIM would refuse it"),
    "bare 1024": S(
        der(bare), "p= as the bare key (RSAPublicKey): Mail::DKIM and OpenDKIM would refuse it", key="rsa1024"
    ),
    "bare, no k": S(
        without_k(der(bare)), "p= as the bare key (RSAPublicKey): Mail::DKIM and OpenDKIM would refuse it"
    ),
    "certificate": S(der(certificate), "p= is a certificate, not a key"),
    "ec": S(der(elliptic), "p= does not match k="),
    "pss": S(
        der(lambda d: d.replace(bytes.fromhex("f70d010101"), bytes.fromhex("f70d01010a"), 1)),
        "p= is a key for RSASSA-PSS, not for DKIM",
    ),
    "ec k": S(lambda v: [der(elliptic)(v)[0].replace(b"k=rsa", b"k=ec")], "k= is unknown: 'ec'"),
    "private pkcs8": S(
        der(private(PrivateFormat.PKCS8)),
        PRIVATE,
    ),
    "private pkcs1": S(
        der(private(PrivateFormat.TraditionalOpenSSL)),
        PRIVATE,
    ),
    "pem in p": S(
        p(lambda k: b"-----BEGIN PUBLIC KEY-----" + k + b"-----END PUBLIC KEY-----"),
        "p= contains the BEGIN line of a key file",
    ),
    "pem in p, blanks": S(
        p(lambda k: b"-----BEGIN PUBLIC KEY----- " + k + b" -----END PUBLIC KEY-----"),
        "p= contains the BEGIN line of a key file",
    ),
    "pem begin in p": S(
        p(lambda k: b"-----BEGIN PUBLIC KEY-----" + k), "p= contains the BEGIN line of a key file"
    ),
    "base64 twice": S(p(base64.b64encode), "p= is base64 twice"),
    "base64 twice, line end": S(p(lambda k: base64.b64encode(k + b"\n")), "p= is base64 twice"),
    "base64 of PEM": S(
        p(lambda k: base64.b64encode(armored(k, b"\n") + b"\n")), "p= is base64 of the key file"
    ),
    "hex": S(p(lambda k: base64.b64decode(k).hex().encode()), HEX),
    "hex, capitals": S(p(lambda k: base64.b64decode(k).hex().upper().encode()), HEX),
    "hex, colons": S(p(lambda k: base64.b64decode(k).hex(":").encode()), HEX),
    "base32": S(p(lambda k: base64.b32encode(base64.b64decode(k))), "p= is base32, not base64"),
    "base32, small": S(
        p(lambda k: base64.b32encode(base64.b64decode(k)).lower().rstrip(b"=")), "p= is base32, not base64"
    ),
    "modulus": S(der(modulus), "p= is the bare modulus"),
    "modulus, with its sign": S(der(lambda d: b"\0" + modulus(d)), "p= is the bare modulus"),
    "modulus, hex": S(
        p(lambda k: modulus(base64.b64decode(k)).hex().encode()),
        "p= is the bare modulus, in hexadecimal digits",
    ),
    "ssh": S(p(for_ssh), "p= is a public key for ssh (ssh-rsa)"),
    "ssh, value": S(p(lambda k: for_ssh(k).split()[1]), "p= is a public key for ssh (ssh-rsa)"),
    "ssh, comment": S(p(lambda k: for_ssh(k) + b" root@mail"), "p= is a public key for ssh (ssh-rsa)"),
    "ed ssh": S(p(for_ssh), "p= is a public key for ssh (ssh-ed25519)", key="ed25519"),
    "ed hex": S(p(lambda k: base64.b64decode(k).hex().encode()), HEX, key="ed25519"),
    "ed base32": S(
        p(lambda k: base64.b32encode(base64.b64decode(k))), "p= is base32, not base64", key="ed25519"
    ),
    "ed base64 twice": S(p(base64.b64encode), "p= is base64 twice", key="ed25519"),  # rspamadm 3.6
    "&#43;": S(p(lambda k: k.replace(b"+", b"&#43;")), "p= contains HTML entities such as '&#43;'"),
    "&#x2F;": S(p(lambda k: k.replace(b"/", b"&#x2F;")), "p= contains HTML entities such as '&#x2F;'"),
    "&plus;": S(p(lambda k: k.replace(b"+", b"&plus;")), "p= contains HTML entities such as '&plus;'"),
    "&#61;": S(
        p(lambda k: k.replace(b"=", b"&#61;")), "p= contains HTML entities such as '&#61;'", key="ed25519"
    ),
    "\\/": S(p(lambda k: k.replace(b"/", b"\\/")), "p= has a backslash before each /, as in JSON"),
    "\\u002b": S(p(lambda k: k.replace(b"+", b"\\u002b")), "p= contains '\\u002b', as in JSON"),
    "der trailing": S(der(lambda d: d + b"\0\0\0"), "text after the key in p=: 'AAAA'"),
    "der trailing 1": S(der(lambda d: d + b"\0"), "text after the key in p=: 'AA=='"),
    "der cut": S(der(lambda d: d[:-3]), "p= is truncated: 388 of 392 characters are present"),
    "no NULL": S(der(without_null), "p= in an unusual encoding (DER): dkimpy would refuse it"),
    "p cut 255": S(lambda v: [v[:255]], "p= is truncated: 237 of 392 characters are present"),
    "p end only": S(
        lambda v: [b"v=DKIM1; k=rsa; p=" + v[255:]], "p= is truncated: 155 of 392 characters are present"
    ),
    "p empty": S(p(lambda k: b""), "the key is revoked: p= is empty"),
    "p blank": S(p(lambda k: b" "), "the key is revoked: p= is empty"),
    "p missing": S(lambda v: [b"v=DKIM1; k=rsa"], "it is not a key record: 'v=DKIM1; k=rsa'"),
    "p no =": S(swap(b"p=", b"p"), "text after the last semicolon: 'pMIIBIjANBgkqhki...'"),
    "other key": S(der(other), "the key does not match the private key"),
    "p lost": S(swap(b"p=", b""), "text after the last semicolon: 'MIIBIjANBgkqhkiG...'"),
    "p AAAA": S(p(lambda k: b"AAAA"), "p= is not a valid key"),
    # The right key, mangled.
    "pem lines in p": S(p(lambda k: armored(k, b"\n")), "p= contains the BEGIN line of a key file"),
    "pem lines, as n": S(p(lambda k: armored(k, b"n")), "p= contains the BEGIN line of a key file"),
    "pem no dashes": S(
        p(lambda k: armored(k, b" ").replace(b"-", b"")), "p= contains the BEGIN line of a key file"
    ),
    "pem no blanks": S(
        p(lambda k: armored(k, b"").replace(b" ", b"")), "p= contains the BEGIN line of a key file"
    ),
    "pem rsa": S(
        p(lambda k: armored(k, b" ").replace(b" PUBLIC", b" RSA PUBLIC")),
        "p= contains the BEGIN line of a key file",
    ),
    "pem end in p": S(after(b"-----END PUBLIC KEY-----"), "p= contains the END line of a key file"),
    "pem end in p, blank": S(after(b" -----END PUBLIC KEY-----"), "p= contains the END line of a key file"),
    "pem private": S(p(lambda k: armored(k, b" ").replace(b"PUBLIC", b"PRIVATE")), PRIVATE),
    "pem, ed": S(p(lambda k: armored(k, b" ")), "p= contains the BEGIN line of a key file", key="ed25519"),
    "lines": S(p(lambda k: in_lines(k, b"\r\n"))),
    "lines, literal \\n": S(p(lambda k: in_lines(k, b"\\n")), "p= contains '\\n' where a line ended"),
    "lines, literal \\n, at end": S(
        p(lambda k: in_lines(k, b"\\n") + b"\\n"), "p= contains '\\n' where a line ended"
    ),
    "lines, literal \\r\\n": S(
        p(lambda k: in_lines(k, b"\\r\\n")), "p= contains '\\r\\n' where a line ended"
    ),
    "lines, n": S(p(lambda k: in_lines(k, b"n")), "p= contains 'n' where a line ended"),
    "lines, n, at end": S(p(lambda k: in_lines(k, b"n") + b"n"), "p= contains 'n' where a line ended"),
    "lines, rn": S(p(lambda k: in_lines(k, b"rn")), "p= contains 'rn' where a line ended"),
    "lines, quotes": S(p(lambda k: in_lines(k, b'"\n"')), ""),
    "+ to blank": S(p(lambda k: k.replace(b"+", b" ")), "each + in p= has become a space"),
    "+ lost": S(p(lambda k: k.replace(b"+", b"")), "each + in p= is missing"),
    "%2B": S(p(lambda k: k.replace(b"+", b"%2B")), "p= is URL-encoded: it contains '%2B'"),
    "%2F": S(p(lambda k: k.replace(b"/", b"%2F")), "p= is URL-encoded: it contains '%2F'"),
    "%3D": S(p(lambda k: k.replace(b"=", b"%3D")), "p= is URL-encoded: it contains '%3D'", key="rsa4096"),
    "%3B": S(lambda v: [v.replace(b";", b"%3B")], "semicolons are written as %3B"),
    "=3D": S(p(lambda k: k.replace(b"=", b"=3D")), "p= is quoted-printable: it has =3D for =", key="rsa4096"),
    "base64url no pad": S(
        p(lambda k: k.replace(b"+", b"-").replace(b"/", b"_").rstrip(b"=")),
        "p= is base64url: it has - for + and _ for /",
    ),
    "lower case": S(p(bytes.lower), "letters in p= have changed between upper and lower case"),
    "upper case": S(p(bytes.upper), "letters in p= have changed between upper and lower case"),
    "swapped case": S(p(bytes.swapcase), "letters in p= have changed between upper and lower case"),
    "strings swapped": S(p(lambda k: k[237:] + k[:237]), "the strings of p= are in the wrong order"),
    "l for I": S(swap(b"p=MII", b"p=MIl"), "p= is altered at character 3: 'l' instead of 'I'"),
    "O for 0": S(swap(b"G9w0B", b"G9wOB"), "p= is altered at character 19: 'O' instead of '0'"),
    "end altered": S(swap(b"IDAQAB", b"IDAQA8"), "p= is altered at character 392: '8' instead of 'B'"),
    "one lost": S(swap(b"kqhki", b"khki"), "p= lacks 'q' at character 12"),
    "one twice": S(swap(b"G9w0B", b"G9w00B"), "p= has '0' too much at character 20"),
    # What else people put around it.
    "dot after ;": S(after(b";."), "text after the last semicolon: '.'"),
    "blank dot": S(after(b" ."), "p= ends with a full stop"),
    ") no blank": S(after(b")"), "p= ends with a parenthesis"),
    "; )": S(after(b"; )"), "text after the last semicolon: ')'"),
    "' after p": S(after(b"'"), "p= ends with a quote"),
    "` after p": S(after(b"`"), "p= ends with a backquote"),
    "“ round p": S(p(lambda k: "\u201c".encode() + k + "\u201d".encode()), "typographic quotes: '“'"),
    "„ round": S(around("\u201e".encode(), "\u201c".encode()), "typographic quotes: '„'"),
    "« round": S(around("\u00ab".encode(), "\u00bb".encode()), "typographic quotes: '«'"),
    "single typographic": S(around("\u2018".encode(), "\u2019".encode()), "typographic quotes: '\u2018'"),
    "” after p": S(after("\u201d".encode()), "typographic quotes: '”'"),
    "” split": S(at(255, "\u201d \u201c".encode()), "typographic quotes: '”'"),
    "“ in v": S(swap(b"DKIM1", "\u201cDKIM1\u201d".encode()), "typographic quotes: '“'"),
    "backslash ; at end": S(after(b"\\;"), "backslashes before semicolons"),
    "backslash ; once": S(swap(b"; p", b"\\; p"), "backslashes before semicolons"),
    "backslashes ;": S(lambda v: [v.replace(b";", b"\\\\;")], "backslashes before semicolons"),
    "-----, ed": S(
        after(b" ; ----- DKIM key ed for example.com"),
        "text after the last semicolon: '----- DKIM key ed for example.com'",
        key="ed25519",
    ),
    # Several records.
    "spf after": S(
        lambda v: [v, b"v=spf1 -all"],
        "2 TXT records; verifiers may take any of them (RFC 6376 section 3.6.2.2)",
    ),
    "spf before": S(
        lambda v: [b"v=spf1 -all", v],
        "2 TXT records; verifiers may take any of them (RFC 6376 section 3.6.2.2)",
    ),
    "two keys": S(
        lambda v: [v, b"v=DKIM1; k=rsa; p=" + base64.b64encode(other(v))],
        "2 TXT records; verifiers may take any of them (RFC 6376 section 3.6.2.2)",
    ),
    "same twice": S(
        lambda v: [v, v + b";"], "2 TXT records; verifiers may take any of them (RFC 6376 section 3.6.2.2)"
    ),
    "split in two records": S(
        lambda v: [v[:255], v[255:]],
        "2 TXT records contain pieces of one value: join them in one record",
    ),
    "split in two records, the last first": S(
        lambda v: [v[255:], v[:255]],
        "2 TXT records contain pieces of one value: join them in one record",
    ),
    "split in three records": S(
        lambda v: [v[200:300], v[300:], v[:200]],
        "3 TXT records contain pieces of one value: join them in one record",
    ),
    "split in five records": S(
        lambda v: [v[:100], v[100:200], v[200:300], v[300:400], v[400:]],
        "5 TXT records; verifiers may take any of them (RFC 6376 section 3.6.2.2)",
    ),
    "split in two records with tags": S(
        lambda v: [v[:255], b"v=DKIM1; k=rsa; p=" + v[255:]],
        "2 TXT records contain pieces of one key: join them in one record",
    ),
    "split in two records, quotes": S(
        lambda v: [b'"' + v[:255] + b'"', b'"' + v[255:] + b'"'],
        "2 TXT records contain pieces of one value: join them in one record",
    ),
    "revoked beside": S(
        lambda v: [v, b"v=DKIM1; p="],
        "2 TXT records; verifiers may take any of them (RFC 6376 section 3.6.2.2)",
    ),
    # Ed25519.
    "ed spki": S(der(wrapped), SPKI, key="ed25519"),
    "ed no k": S(swap(b"k=ed25519; ", b""), "the key in p= is not of the type in k=", key="ed25519"),
    "ed k=rsa": S(swap(b"k=ed25519", b"k=rsa"), "the key in p= is not of the type in k=", key="ed25519"),
    "ed k=Ed25519": S(
        swap(b"k=ed25519", b"k=Ed25519"),
        "k= with capitals: dkimpy and Mail::DKIM would refuse it",
        key="ed25519",
    ),
    "ed k=ED25519": S(
        swap(b"k=ed25519", b"k=ED25519"),
        "k= with capitals: dkimpy and Mail::DKIM would refuse it",
        key="ed25519",
    ),
    "ed no pad": S(p(lambda k: k[:-1]), "the padding at the end of p= (=) is wrong", key="ed25519"),
    "ed more pad": S(after(b"="), "the padding at the end of p= (=) is wrong", key="ed25519"),
    "ed blank in p": S(at(40, b" "), "", key="ed25519"),
    "ed 31": S(der(lambda d: d[:-1]), "p= has 31 bytes; an Ed25519 key has 32", key="ed25519"),
    "ed both halves": S(der(lambda d: both_halves()), PRIVATE, key="ed25519"),
    "ed 64": S(der(lambda d: b"x" * 32 + d), "p= has 64 bytes; an Ed25519 key has 32", key="ed25519"),
    "ed twice": S(der(lambda d: d + d), "p= is the public key twice", key="ed25519"),
    "ed 33": S(der(lambda d: d + b"\0"), "p= has 33 bytes; an Ed25519 key has 32", key="ed25519"),
    "ed k last": S(lambda v: [v.replace(b" k=ed25519;", b"") + b"; k=ed25519"], "", key="ed25519"),
    "ed h=sha256": S(tag(b"h=sha256"), "", key="ed25519"),
    "ed h=ed": S(tag(b"h=ed25519-sha256"), "h=ed25519-sha256 does not allow sha256", key="ed25519"),
    "ed nbsp": S(after(NBSP), "it contains a non-breaking space (U+00A0)", key="ed25519"),
    "ed <br>": S(after(b"; <br>"), "text after the last semicolon: '<br>'", key="ed25519"),
    "ed junk after =": S(after(b"abcd"), "text after the key in p=: 'abcd'", key="ed25519"),
    "ed spki k missing": S(without_k(der(wrapped)), SPKI, key="ed25519"),
    "ed tab in p": S(at(40, b"\t"), "", key="ed25519"),
    "ed crlf in p": S(at(40, b"\r\n "), "", key="ed25519"),
    "ed n=": S(tag(b"n=x"), "", key="ed25519"),
    "ed quotes": S(at(40, b'" "'), "", key="ed25519"),
    "ed s=email": S(tag(b"s=email"), "", key="ed25519"),
    "ed s=email:x": S(
        tag(b"s=email:x"), "s= other than * or email alone: dkimpy would refuse it", key="ed25519"
    ),
}

# What ``check --dns`` warns of, in records without an error; ``dkimpipe rotate`` waits for these, too.
QUOTES = "the value contains quotes or backslashes where it was split"
LINE_BREAK = "it contains a line break that does not fold it (RFC 6376 section 2.8)"
TESTING = "t=y is left on: verifiers treat the mail as unsigned"
WARNINGS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("quote at end", "quotes round p", "split quotes", "split quotes no blank"), (QUOTES,)),
    **dict.fromkeys(("split one quote", "ed quotes"), (QUOTES,)),
    **dict.fromkeys(("split quotes nl", "lines, quotes"), (QUOTES, LINE_BREAK)),
    **dict.fromkeys(("crlf between no blank", "lf between", "cr between", "lines"), (LINE_BREAK,)),
    **dict.fromkeys(("crlf at end", "lf at end", "; lf at end", "cr at end"), (LINE_BREAK,)),
    **dict.fromkeys(("crlf in p", "lf in p", "cr in p", "lf in n", "cr in n"), (LINE_BREAK,)),
    **dict.fromkeys(("t=y", "t=y:s", "t=s:y", "t=Y", "t=s : y"), (TESTING,)),
    "h=sha256:": ("h= is malformed: 'sha256:'",),
    "h=:sha256": ("h= is malformed: ':sha256'",),
    "h=sha256::sha1": ("h= is malformed: 'sha256::sha1'",),
    "h=foo_bar:sha256": ("h= is malformed: 'foo_bar:sha256'",),
    "t=": ("t= is malformed: ''",),
    "t=s:": ("t= is malformed: 's:'",),
    "t=:s": ("t= is malformed: ':s'",),
    "t=y s": ("t= is malformed: 'y s'",),
    "t=s,y": ("t= is malformed: 's,y'",),
    "t=1": ("t= is malformed: '1'",),
    "n qp bad": ("n= is malformed: 'a=2'",),
    "n = =": ("n= is malformed: '='",),
}
