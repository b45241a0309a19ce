"""How a message of one's own gets into Postfix: by port 25, by the submission service, by sendmail(1)."""

from __future__ import annotations

import getpass
import smtplib
import ssl
import subprocess
import sys
from email.message import EmailMessage

from dkimpipe.admin.postfix import certificate
from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.errors import ConfigError, one_line, printable

IS_RUNNING = "is Postfix running? postfix status"
_TIMEOUT = 10  # seconds for one reply of the server
# What helps against the failure of an SMTP session; otherwise the fault is in the settings of Postfix.
_REMEDIES: dict[type[Exception], str] = {
    ConnectionRefusedError: f"{IS_RUNNING}\nif it is: dkimpipe check --postfix",
    smtplib.SMTPAuthenticationError: "check the login and the password",
    smtplib.SMTPRecipientsRefused: "send it to an ADDRESS that this server accepts, or without ADDRESS",
    smtplib.SMTPSenderRefused: "--from with an ADDRESS that this server accepts",
}


def by_smtp(postconf: Postconf, message: EmailMessage, recipient: str) -> None:
    """Send a message to port 25 of this host. Raises ConfigError."""
    _submit(postconf, message, recipient, ("localhost", 25))


def by_submission(postconf: Postconf, message: EmailMessage, recipient: str, host: str, login: str) -> None:
    """Send a message as a user, with TLS; the password is asked for, or read from a pipe.

    Raises ConfigError.

    ``host``  the name in the server's certificate
    """
    _submit(postconf, message, recipient, (host, 587), login)


def by_sendmail(postconf: Postconf, message: EmailMessage, recipient: str) -> None:
    """Send a message as local programs do. Raises ConfigError."""
    program, sender = postconf.value("sendmail_path"), str(message["From"])
    command = [program, "-C", str(postconf.directory), "-i", "-f", sender, "--", recipient]
    done = subprocess.run(command, input=message.as_bytes(), capture_output=True, check=False)  # noqa: S603
    if done.returncode:
        raise ConfigError(f"sendmail: {one_line(done.stderr.decode(errors='replace'))}")


def _submit(
    postconf: Postconf, message: EmailMessage, recipient: str, where: tuple[str, int], login: str = ""
) -> None:
    try:
        with smtplib.SMTP(*where, timeout=_TIMEOUT) as server:
            if login:
                server.starttls(context=ssl.create_default_context())
                server.login(login, _password())
            server.send_message(message, to_addrs=[recipient])
    except (OSError, smtplib.SMTPException) as error:
        what = f"{where[0]}, port {where[1]}: {_reply(error)}"
        raise ConfigError(what, _remedy(error, postconf)) from None


def _reply(error: Exception) -> str:
    """Return what the server replied, or the system's message."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        error = smtplib.SMTPResponseException(*next(iter(error.recipients.values())))
    if isinstance(error, smtplib.SMTPResponseException):
        text = error.smtp_error
        return f"{error.smtp_code} {printable(text if isinstance(text, bytes) else text.encode())}"
    return one_line(str(error))


def _remedy(error: Exception, postconf: Postconf) -> str:
    """Return what helps against the failure of an SMTP session."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return certificate.remedy(postconf, error, "submission/inet")
    remedies = (hint for kind, hint in _REMEDIES.items() if isinstance(error, kind))
    return next(remedies, "dkimpipe check --postfix")


def _password() -> str:
    return getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
