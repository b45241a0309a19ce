"""A certificate authority, and certificates that it issues."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


class Authority:
    """An authority; clients trust it if ``SSL_CERT_FILE`` names the file ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(f"{path.stem}.example")
        path.write_bytes(self._pem(self._name, self._key, days=(-1, 100), more=_AUTHORITY))

    def issue(self, host: str, days: tuple[int, int] = (-1, 100)) -> bytes:
        """Return a private key and a certificate for a host, valid from and until so many days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(host)])
        certificate = self._pem(_name(host), key, days, (names, False))
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate

    def _pem(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        days: tuple[int, int],
        more: tuple[x509.ExtensionType, bool],
    ) -> bytes:
        now = datetime.datetime.now(datetime.timezone.utc)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + days[0] * DAY)
            .not_valid_after(now + days[1] * DAY)
            .add_extension(*more)
            .sign(self._key, SHA256())
        )
        return made.public_bytes(Encoding.PEM)


_AUTHORITY = (x509.BasicConstraints(ca=True, path_length=None), True)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
