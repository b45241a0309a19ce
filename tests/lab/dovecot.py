"""A server that speaks as Dovecot does to smtpd(8) before a login, and certificates for smtpd(8)."""

from __future__ import annotations

import contextlib
import datetime
import socket
import threading
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

# What Dovecot 2.3.19 sends with auth_mechanisms = plain login.
GREETING = b"VERSION\t1\t2\n"
MECHANISMS = b"MECH\tPLAIN\tplaintext\nMECH\tLOGIN\tplaintext\n"
END = b"SPID\t4711\nCUID\t1\nCOOKIE\t5a1bd0f20a4a3a2d7f5ac4bf04a4cc57\nDONE\n"


class Dovecot:
    """A context manager: an authentication server on loopback, or at a path.

    ``path``  what smtpd_sasl_path is for it
    """

    def __init__(self, mechanisms: bytes = MECHANISMS, at: Path | None = None, answer: bytes = b"") -> None:
        self._answer = answer or GREETING + mechanisms + END
        self._at = at

    def __enter__(self) -> Dovecot:
        self._server = socket.socket(socket.AF_UNIX if self._at else socket.AF_INET)
        self._server.bind(str(self._at) if self._at else ("127.0.0.1", 0))
        self._server.listen()
        self.path = str(self._at or f"inet:127.0.0.1:{self._server.getsockname()[1]}")
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._greet, args=(client,), daemon=True).start()

    def _greet(self, client: socket.socket) -> None:
        """Answer to a handshake, and keep the connection, as smtpd(8) does."""
        with client, contextlib.suppress(OSError):
            client.settimeout(5)
            said = b""
            while said.count(b"\n") < 2 and (octets := client.recv(1000)):
                said += octets
            if said.startswith(b"VERSION\t1\t") and b"\nCPID\t" in said:
                client.sendall(self._answer)
            client.settimeout(None)
            while client.recv(1000):
                pass


def certificate(subject: str, issuer: str) -> bytes:
    """Return a certificate as PEM, valid for ten years, without its key."""
    key, now = ed25519.Ed25519PrivateKey.generate(), datetime.datetime(2026, 1, 1)
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (subject, issuer)]
    made = (
        x509.CertificateBuilder()
        .subject_name(names[0])
        .issuer_name(names[1])
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=3652))
        .sign(key, None)
    )
    return made.public_bytes(Encoding.PEM)
