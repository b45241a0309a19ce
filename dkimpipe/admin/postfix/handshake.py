"""A TLS handshake in memory, which shows whether clients accept a certificate, as OpenSSL judges it."""

from __future__ import annotations

import ssl
from pathlib import Path

WRONG_NAME = 62  # X509_V_ERR_HOSTNAME_MISMATCH, <openssl/x509_vfy.h>
_ROUNDS = 10  # more than any handshake takes


def refusal(path: str, key: str, host: str) -> ssl.SSLCertVerificationError | None:
    """Return with which error a client refuses a chain, when it has connected to this host name.

    None if it does not, if the key cannot be used, or if this system knows no certificate authorities.
    """
    if not _knows_authorities():
        return None
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        server.load_cert_chain(path, key or None, password=lambda: b"")  # never ask for one
        return _error(server, ssl.create_default_context(), host)
    except (OSError, ValueError):  # SSLError is an OSError; no valid host name
        return None


def _error(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> ssl.SSLCertVerificationError | None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for end in ends * _ROUNDS:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError as error:
            return error
    return None


def _knows_authorities() -> bool:
    paths = ssl.get_default_verify_paths()
    return bool(paths.cafile or (paths.capath and any(Path(paths.capath).iterdir())))
