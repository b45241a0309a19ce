"""Three independent verifiers of signed mail, witnesses for tests: dkimpy, Perl's Mail::DKIM and OpenDKIM's
library.

Each takes many messages in one call and returns, for each message, a list of verdicts: one for each
signature field, top to bottom, and none for an unsigned message. A verdict is a pass only if it is `pass`,
`dkim:pass` or `domainkeys:pass` to the letter; what else it says is the verifier's own wording. Each
verifier is given what SMTP would carry (`as_smtp_carries`). Records are DNS names, lower case and without
the last dot, to TXT values.

    what is judged                       dkimpy 1.1       Mail::DKIM 1.2023   OpenDKIM 2.11.0 beta 2
    rsa-sha256 (RFC 6376)                yes              yes                 yes
    rsa-sha1 (RFC 8301: must not)        yes              yes                 yes
    ed25519-sha256 (RFC 8463)            with PyNaCl      from 1.2024 on      yes
    DomainKeys (RFC 4870)                no               yes                 no
    RSA below 1024 bits                  refused          accepted            refused
    key record: p= a bare RSAPublicKey   read             refused             refused
    key record: h= without the hash      accepted         refused             refused
    key record: t=s, i= in a subdomain   accepted         refused             refused
    key record: g= (RFC 6376 drops it)   not minded       minded              not minded
    several TXT records at one name      the first        the first           refused
    From not in h=                       accepted         accepted            refused
    duplicate tag in the signature       unreadable       accepted            accepted
    x= passed                            after 10 hours   refused             refused
    t= in the future                     after 10 hours   accepted            refused
    l= above the length of the body      accepted         accepted            refused
    signatures of one message            all              all                 all
    the message:
    octets above 127 in field or body    read             read                read
    octets above 127 in a field name     unreadable       read                unreadable
    `Subject :` (SP before the colon)    unreadable       read                read
    `Subject<TAB>:`                      unreadable       read                unreadable
    line without colon in the header     unreadable       read                unreadable
    header that starts with white space  unreadable       no signature seen   unreadable
    h= names DKIM-Signature              read             read                unreadable (see _DEADLY)
    NUL in a field, relaxed              read             read                cut there: fail
    CR, VT, FF in a field, relaxed       at the end: fail at the ends: fail   fail
    bare CR in the body, simple          read             read                lines of CRs only: fail
    bare CR in the body, relaxed         read             read                fail
    NUL in the body                      read             read                read
    no blank line, no body, no last LF   read             read                read
    100 000 octets in a field            read             read                read
    1 000 000 octets in a line           read             read                read
    2000 fields                          read             read                read

"fail" in the second part: the verifier differs from RFC 6376 there and calls a right signature wrong.
"""

from __future__ import annotations

import base64
import ctypes
import functools
import json
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

# dkimpy, dnspython and cryptography are imported where they are used: this file is also the program that
# opendkim_verdicts starts, and that one needs none of them.

Records = dict[str, list[bytes]]
DnsFunc = Callable[..., "bytes | None"]

PERL_SCRIPT = pathlib.Path(__file__).with_name("mail_dkim_verify.pl")
MINIMUM_KEY_BITS = 1024


class WitnessError(Exception):
    """A verifier's process ended badly, or gave not one answer for each message."""


def as_smtp_carries(message: bytes) -> bytes:
    """The octets an SMTP client sends (RFC 5321 2.3.8): each LF without CR before it is CRLF, the last line
    ends in CRLF. CRLF and bare CR stay. No dot is doubled, no line is cut, no blank line is added after a
    bare header."""
    message = re.sub(rb"(?<!\r)\n", b"\r\n", message)
    return message if message.endswith(b"\r\n") or not message else message + b"\r\n"


def record(key: bytes) -> bytes:
    """The TXT value (RFC 6376 3.6.1, RFC 8463 4) that publishes `key`: a private key in PEM, or a public
    key in PEM or DER (SubjectPublicKeyInfo); RSA or Ed25519."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    if b"PRIVATE KEY-----" in key:
        # OpenSSL would check the primes, which takes longer than to make most of these keys.
        private = serialization.load_pem_private_key(key, None, unsafe_skip_rsa_key_validation=True)
        public = private.public_key()
    elif b"PUBLIC KEY-----" in key:
        public = serialization.load_pem_public_key(key)
    else:
        public = serialization.load_der_public_key(key)
    if isinstance(public, ed25519.Ed25519PublicKey):
        raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return b"v=DKIM1; k=ed25519; p=" + base64.b64encode(raw)
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return b"v=DKIM1; k=rsa; p=" + base64.b64encode(der)


# dkimpy


def records_dnsfunc(records: Records) -> DnsFunc:
    """A dkimpy `dnsfunc` that looks names up in `records`: the first TXT value, or None."""

    def look_up(name: bytes | str, timeout: float = 5) -> bytes | None:
        text = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
        values = records.get(text.rstrip(".").lower())
        return values[0] if values else None

    return look_up


def nameserver_dnsfunc(port: int, address: str = "127.0.0.1") -> DnsFunc:
    """A dkimpy `dnsfunc` that asks the DNS server at `address` and `port` by UDP, and by TCP when the
    answer is truncated: the first TXT record with its strings joined, or None for an empty or negative
    answer. Raises WitnessError for SERVFAIL and the like, and dnspython's own errors."""
    import dns.message
    import dns.query
    import dns.rcode
    import dns.rdatatype

    def look_up(name: bytes | str, timeout: float = 5) -> bytes | None:
        query = dns.message.make_query(name.decode("utf-8") if isinstance(name, bytes) else name, "TXT")
        response, _ = dns.query.udp_with_fallback(query, address, timeout=timeout, port=port)
        if response.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            raise WitnessError(f"DNS answer {dns.rcode.to_text(response.rcode())}")
        for rrset in response.answer:
            if rrset.rdtype == dns.rdatatype.TXT:
                return b"".join(rrset[0].strings)
        return None

    return look_up


class _Log:
    """Stands for dkimpy's logger: keeps the error that `verify` turns into a bare False."""

    def __init__(self) -> None:
        self.reason = "signature does not verify"

    def debug(self, *text: object) -> None:
        """Not kept."""

    def error(self, text: str) -> None:
        self.reason = text


def dkimpy_verdicts(
    messages: Sequence[bytes], records: Records, dnsfunc: DnsFunc | None = None
) -> list[list[str]]:
    """dkimpy's verdict on each DKIM-Signature: 'pass', 'fail: reason', or 'unreadable: reason'.

    'unreadable' stands for whatever made dkimpy raise before it came to a verdict; for a message that it
    cannot parse at all it is the one verdict. Keys come from `dnsfunc` if given, else from `records`. In
    this process.

    Where dkimpy differs from RFC 6376, besides the table: white space at the end of the signature field
    itself is dropped in the simple form too; From is hashed once more than h= says, so an unsigned second
    From fails; it does not ask that the key is of the type a= names. Its relaxed body form takes quadratic
    time on a long run of blanks inside a line (100 000 of them: some 10 seconds).
    """
    look_up = records_dnsfunc(records) if dnsfunc is None else dnsfunc
    return [_dkimpy_judges(as_smtp_carries(message), look_up) for message in messages]


@functools.cache
def _dkimpy() -> Any:
    """Return dkimpy, which keeps its canonical forms of a message: each signature asks for them again."""
    import dkim  # type: ignore[import-untyped,unused-ignore]

    simple, relaxed = dkim.canonicalization.Simple, dkim.canonicalization.Relaxed
    for each in (simple, relaxed):
        each.canonicalize_body = staticmethod(functools.lru_cache(maxsize=2)(each.canonicalize_body))
    canonicalize = relaxed.canonicalize_headers
    field = functools.lru_cache(maxsize=256)(lambda pair: canonicalize([pair])[0])
    relaxed.canonicalize_headers = staticmethod(lambda fields: [field(tuple(pair)) for pair in fields])
    return dkim


def _dkimpy_judges(message: bytes, dnsfunc: DnsFunc) -> list[str]:
    dkim = _dkimpy()
    if not message:
        return []  # dkimpy takes an empty message for no message
    try:
        verifier = dkim.DKIM(message, logger=_Log(), minkey=MINIMUM_KEY_BITS)
    except Exception as error:  # IndexError and others besides its own
        return [f"unreadable: {error}"]
    verdicts = []
    for index in range(sum(name.lower() == b"dkim-signature" for name, _ in verifier.headers)):
        verifier.logger = log = _Log()
        try:
            verdicts.append("pass" if verifier.verify(index, dnsfunc) else f"fail: {log.reason}")
        except Exception as error:
            judged = isinstance(error, dkim.DKIMException) and not isinstance(error, dkim.MessageFormatError)
            verdicts.append(f"{'fail' if judged else 'unreadable'}: {error}")
    return verdicts


# The other two run as one process for all messages. A frame is a length in octets, LF, and so many octets.


def _frames(messages: Sequence[bytes]) -> bytes:
    return b"".join(b"%d\n%s" % (len(message), message) for message in map(as_smtp_carries, messages))


def _read_frames(stream: BinaryIO) -> Iterator[bytes]:
    for line in iter(stream.readline, b""):
        yield stream.read(int(line))


def _run(command: Sequence[str], stdin: bytes, answers: int) -> list[str]:
    done = subprocess.run(command, input=stdin, capture_output=True, check=False)
    lines = done.stdout.decode("utf-8", "replace").split("\n")[:-1]
    if done.returncode or len(lines) != answers:
        raise WitnessError(
            f"{command[0]}: exit status {done.returncode}, {len(lines)} answers for {answers} messages: "
            + done.stderr.decode("utf-8", "replace")
        )
    return lines


def mail_dkim_on_ed25519() -> str:
    """What Mail::DKIM says of a right signature by Ed25519, which it knows from 1.2024 on."""
    knows = ("perl", "-e", "exit !eval { require Mail::DKIM::Algorithm::ed25519_sha256 }")
    if subprocess.run(knows, check=False).returncode:
        return "dkim:invalid (unsupported algorithm ed25519-sha256)"
    return "dkim:pass"


def mail_dkim_verdicts(messages: Sequence[bytes], nameserver_port: int) -> list[list[str]]:
    """Mail::DKIM's verdict on each DKIM-Signature and DomainKey-Signature: 'dkim:pass', 'domainkeys:pass',
    'dkim:fail (body has been altered)', 'dkim:invalid (public key: not available)', 'dkim:unparsable (...)'.

    Keys come by real DNS from 127.0.0.1 at `nameserver_port`, each name asked once a call. Not Strict:
    rsa-sha1 and RSA below 1024 bits pass. ed25519-sha256 is `mail_dkim_on_ed25519()` at best.

    Where Mail::DKIM differs from RFC 6376 and RFC 4870, besides the table: l=0 counts as no l=; the simple
    body form adds no CRLF to an unfinished last line (none reaches it). DomainKeys: fields are hashed in
    the order of h=, and at a name that h= holds once all fields of that name are hashed, at that place;
    fields above the signature are left out; d= must be the domain, or a parent of it, of Sender or else
    From as far as h= holds them, the last of each, or it is 'domainkeys:invalid (bad identity)'; nofws
    drops bare CR.
    """
    command = ("perl", str(PERL_SCRIPT), str(nameserver_port))
    lines = _run(command, _frames(messages), len(messages))
    return [line.split("\t") if line else [] for line in lines]


# OpenDKIM


def opendkim_verdicts(messages: Sequence[bytes], records: Records) -> list[list[str]]:
    """libopendkim's verdict on each DKIM-Signature: 'pass' or 'fail: reason'; ['unreadable: reason'] for a
    message with a field that it refuses.

    It is the library of Debian's opendkim, called as the opendkim milter calls it (field by field, then the
    body), in a process of its own because it ends its process by assert(3) where it meets a fault in
    itself. Keys come from `records`, the only TXT value of a name, 1024 octets at most. `opendkim -t` is
    no substitute: its own reader loses NULs, fields with nothing on the first line and the missing blank of
    `From:a`, and stops at long fields.
    """
    setup = json.dumps({name: [value.decode("latin-1") for value in own] for name, own in records.items()})
    stdin = b"%d\n%s" % (len(setup), setup.encode("ascii")) + _frames(messages)
    return [json.loads(line) for line in _run((sys.executable, __file__), stdin, len(messages))]


# From opendkim/dkim.h.
_OK, _SYNTAX = 0, 5
_SET_OPTION, _FLAGS, _MINIMUM_KEY_BITS, _KEEP_BAD_SIGNATURES = 1, 0, 14, 0x400
_KEY_FOUND, _KEY_NOT_FOUND, _KEY_ERROR = 0, 3, 4
_SIGNATURE_PASSED, _BODY_MATCHES, _BODY_DIFFERS = 0x04, 0, 1

# With such a signature the library frees memory that it did not allocate, and the process may end.
_DEADLY = re.compile(rb"(?is)dkim-signature[ \t]*:(?:.*[;\s])?h\s*=[^;]*dkim-signature")

_POINTER, _INT, _TEXT, _SIZE = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t
_KEY_LOOKUP = ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, _POINTER, _SIZE)
_PROTOTYPES = {
    "dkim_init": (_POINTER, _POINTER, _POINTER),
    "dkim_options": (_INT, _POINTER, _INT, _INT, _POINTER, _SIZE),
    "dkim_set_key_lookup": (_INT, _POINTER, _KEY_LOOKUP),
    "dkim_verify": (_POINTER, _POINTER, _TEXT, _POINTER, _POINTER),
    "dkim_header": (_INT, _POINTER, _TEXT, _SIZE),
    "dkim_eoh": (_INT, _POINTER),
    "dkim_body": (_INT, _POINTER, _TEXT, _SIZE),
    "dkim_eom": (_INT, _POINTER, _POINTER),
    "dkim_free": (_INT, _POINTER),
    "dkim_getsiglist": (_INT, _POINTER, _POINTER, _POINTER),
    "dkim_getresultstr": (_TEXT, _INT),
    "dkim_sig_process": (_INT, _POINTER, _POINTER),
    "dkim_sig_getflags": (ctypes.c_uint, _POINTER),
    "dkim_sig_getbh": (_INT, _POINTER),
    "dkim_sig_geterror": (_INT, _POINTER),
    "dkim_sig_geterrorstr": (_TEXT, _INT),
    "dkim_sig_getdomain": (_TEXT, _POINTER),
    "dkim_sig_getselector": (_TEXT, _POINTER),
}


class _OpenDkim:
    def __init__(self, records: Records) -> None:
        self.opendkim = ctypes.CDLL("libopendkim.so.11")
        for name, (result, *arguments) in _PROTOTYPES.items():
            function = getattr(self.opendkim, name)
            function.restype, function.argtypes = result, arguments
        self.records = records
        self.key_lookup = _KEY_LOOKUP(self._key)  # kept: the library calls it for as long as it lives
        self.handle = self.opendkim.dkim_init(None, None)
        for option, value in ((_FLAGS, _KEEP_BAD_SIGNATURES), (_MINIMUM_KEY_BITS, MINIMUM_KEY_BITS)):
            number = ctypes.c_uint(value)
            self.opendkim.dkim_options(self.handle, _SET_OPTION, option, ctypes.byref(number), 4)
        self.opendkim.dkim_set_key_lookup(self.handle, self.key_lookup)

    def _key(self, message: int, signature: int, buffer: int, size: int) -> int:
        selector = self.opendkim.dkim_sig_getselector(signature)
        domain = self.opendkim.dkim_sig_getdomain(signature)
        name = selector + b"._domainkey." + domain
        found = self.records.get(name.decode("latin-1").lower())
        if not found:
            return _KEY_NOT_FOUND
        if len(found) > 1 or len(found[0]) >= size:  # its own look-up wants one: DKIM_STAT_MULTIDNSREPLY
            return _KEY_ERROR
        ctypes.memmove(buffer, found[0] + b"\0", len(found[0]) + 1)
        return _KEY_FOUND

    def verdicts(self, message: bytes) -> list[str]:
        status = _INT()
        handle = self.opendkim.dkim_verify(self.handle, b"witness", None, ctypes.byref(status))
        try:
            return self._judge(handle, message)
        finally:
            self.opendkim.dkim_free(handle)

    def _judge(self, handle: int, message: bytes) -> list[str]:
        header, _, body = (b"\r\n" + message).partition(b"\r\n\r\n")
        for field in re.findall(rb"(?s)\r\n(.+?)(?=\r\n(?![ \t])|\Z)", header):
            if _DEADLY.match(field):
                return ["unreadable: h= names DKIM-Signature"]
            status = self.opendkim.dkim_header(handle, field, len(field))
            bad_signature = status == _SYNTAX and field.lower().startswith(b"dkim-signature:")
            if status != _OK and not bad_signature:
                return [f"unreadable: {self._text('dkim_getresultstr', status)}: {field[:40]!r}"]
        self.opendkim.dkim_eoh(handle)
        if body:
            self.opendkim.dkim_body(handle, body, len(body))
        self.opendkim.dkim_eom(handle, None)
        signatures, count = ctypes.POINTER(_POINTER)(), _INT()
        self.opendkim.dkim_getsiglist(handle, ctypes.byref(signatures), ctypes.byref(count))
        return [self._verdict(handle, signatures[index]) for index in range(count.value)]

    def _verdict(self, handle: int, signature: int | None) -> str:
        # Once one signature has passed, dkim_eom leaves the others alone.
        self.opendkim.dkim_sig_process(handle, signature)
        error = self.opendkim.dkim_sig_geterror(signature)
        body = self.opendkim.dkim_sig_getbh(signature)
        passed = self.opendkim.dkim_sig_getflags(signature) & _SIGNATURE_PASSED
        if passed and body == _BODY_MATCHES and error == _OK:
            return "pass"
        if body == _BODY_DIFFERS:
            return "fail: body hash mismatch"
        return f"fail: {self._text('dkim_sig_geterrorstr', error)}"

    def _text(self, function: str, code: int) -> str:
        text: bytes | None = getattr(self.opendkim, function)(code)
        return text.decode("ascii") if text else f"code {code}"


def main() -> int:
    """The program that opendkim_verdicts starts: a frame with the records in JSON, then a frame a message;
    one line of JSON a message."""
    frames = _read_frames(sys.stdin.buffer)
    setup = json.loads(next(frames))
    opendkim = _OpenDkim({name: [value.encode("latin-1") for value in own] for name, own in setup.items()})
    for message in frames:
        print(json.dumps(opendkim.verdicts(message)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
