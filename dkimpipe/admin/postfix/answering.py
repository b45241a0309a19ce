"""Whether an SMTP server answers at an address, and what it offers."""

from __future__ import annotations

import smtplib
import ssl

from dkimpipe import relay
from dkimpipe.errors import ConfigError

TIME_LIMIT = 5.0  # seconds for each reply
_OK = 250
# A server that ends may say goodbye within TLS, or not, or not even that.
_CLOSED = (
    smtplib.SMTPServerDisconnected,
    ConnectionResetError,
    BrokenPipeError,
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
)


def fault(address: str, time_limit: float = TIME_LIMIT) -> str:
    """Return why no SMTP server answers at HOST:PORT, by its greeting and EHLO; empty if one does."""
    try:
        host, port = relay.address(address, "relay")
        with smtplib.SMTP(host.decode(), port, "localhost", time_limit) as client:
            code, reply = client.ehlo()
    except ConfigError as error:
        return str(error)
    except OSError as error:
        return _cause(error, time_limit)
    return "" if code == _OK else f"it replies {code} {reply.decode(errors='replace')} to EHLO"


def silence(host: str, port: int, time_limit: float = TIME_LIMIT) -> str:
    """Return why a server that accepts connections sends no greeting; empty if it does, or nobody listens."""
    try:
        with smtplib.SMTP(host, port, "localhost", time_limit):
            return ""
    except smtplib.SMTPConnectError:  # it refuses this host
        return ""
    except (smtplib.SMTPServerDisconnected, ConnectionResetError) as error:
        return _cause(error, time_limit)
    except OSError:
        return ""


def offered(host: str, port: int, has_tls: bool, time_limit: float = TIME_LIMIT) -> dict[str, str]:
    """Return the keywords of EHLO in lower case, each with its parameters, within TLS if that is offered.

    ``has_tls``  the connection begins with TLS. The certificate does not matter. Raises OSError:
    ConnectionAbortedError if the server or TLS fails, and TimeoutError, both with the cause, or another.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            smtplib.SMTP_SSL(host, port, "localhost", timeout=time_limit, context=context)
            if has_tls
            else smtplib.SMTP(host, port, "localhost", time_limit)
        ) as client:
            code, reply = client.ehlo()
            if code != _OK:
                raise smtplib.SMTPConnectError(code, reply)  # this host, or the name it gives, is refused
            keywords = dict(client.esmtp_features)
            if not has_tls and "starttls" in keywords:
                client.starttls(context=context)
                client.ehlo()
                keywords = {"starttls": "", **client.esmtp_features}
            return keywords
    except smtplib.SMTPConnectError:
        raise
    except (smtplib.SMTPException, ssl.SSLError, *_CLOSED, TimeoutError) as error:
        is_late = isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError)
        what = f"no reply within {time_limit:g} s" if is_late else _cause(error, time_limit)
        raise (TimeoutError if is_late else ConnectionAbortedError)(0, what) from None


def _cause(error: OSError, time_limit: float) -> str:
    if isinstance(error, _CLOSED):
        is_late = isinstance(error.__context__, TimeoutError)
        return f"no reply within {time_limit:g} s" if is_late else "it closes the connection"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"it replies {error.smtp_code}"
    return (error.strerror or str(error)).lower()
