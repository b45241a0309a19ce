"""Whether an SMTP server answers at an address, and whether Postfix is running."""

from __future__ import annotations

import smtplib
from pathlib import Path

from dkimpipe import relay
from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.errors import ConfigError

TIME_LIMIT = 5.0  # seconds for each reply


def fault(address: str, time_limit: float = TIME_LIMIT) -> str:
    """Return why no SMTP server answers at HOST:PORT, by its greeting and EHLO; empty if one does."""
    try:
        host, port = relay.address(address, "relay")
        with smtplib.SMTP(host.decode(), port, "localhost", time_limit) as client:
            code, reply = client.ehlo()
    except ConfigError as error:
        return str(error)
    except smtplib.SMTPServerDisconnected as error:
        is_late = isinstance(error.__context__, TimeoutError)
        return f"no reply within {time_limit:g} s" if is_late else "it closes the connection"
    except smtplib.SMTPResponseException as error:
        return f"it replies {error.smtp_code}"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return "" if code == 250 else f"it replies {code} {reply.decode(errors='replace')} to EHLO"


def is_running(postconf: Postconf) -> bool:
    """Return whether this instance of Postfix runs: ``master -t`` fails then (or if this is not root)."""
    master = Path(postconf.value("daemon_directory"), "master")
    return master.exists() and bool(postconf.failure_of(str(master), "-t"))
