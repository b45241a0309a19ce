"""``dkimpipe test``: send one message along the real road, and show what happened to it hop by hop."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import pwd
import re
import shlex
import time
from email.message import EmailMessage
from email.utils import formatdate, make_msgid, parseaddr
from pathlib import Path

from dkimpipe.admin.audit import logfiles
from dkimpipe.admin.audit.actions import Parties
from dkimpipe.admin.audit.follow import Follower, Hop
from dkimpipe.admin.dns.server_option import FORM, server
from dkimpipe.admin.findings import ERRORS_FOUND, hint_lines
from dkimpipe.admin.postfix import mailbox, origin, sending
from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.admin.verbs import verdict
from dkimpipe.body import BodyHashes
from dkimpipe.errors import ConfigError, one_line
from dkimpipe.message import Message
from dkimpipe.verify.resolver import Resolver
from dkimpipe.verify.verifier import SignatureResult, Verifier

_SECONDS = 30
_LOG_FILE = "/var/log/mail.log"
_DELIVERED = re.compile(r"to=<([^@>+]+)[^>]*>, .* status=sent ")
_RECENT = 86400  # seconds; a log that was not written to for so long is out of use


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.set_defaults(fail=parser.error)
    add = parser.add_argument
    text = "where the message goes (default: your own mailbox on this host, where it is verified)"
    add("recipient", nargs="?", metavar="ADDRESS", help=text)
    add("--from", dest="sender", metavar="ADDRESS", help="its author (root, in a domain that is signed)")
    add(
        "--via",
        choices=("smtp", "submission", "sendmail"),
        default="smtp",
        help="localhost:25, port 587, or sendmail(1) (%(default)s)",
    )
    add("--server", metavar="NAME", help="for submission: the name in its certificate (this host's)")
    add("--login", metavar="USER", help="for submission; the password is asked for, or read from a pipe")
    text = "get keys from this name server, not the system's resolver"
    add("--dns-server", dest="resolver", type=server, metavar=FORM, help=text)
    add("--wait", type=float, default=_SECONDS, metavar="SECONDS", help="(%(default)s)")
    words = "configuration directory, for another instance"
    add("-c", dest="directory", metavar="DIR", default=os.environ.get("MAIL_CONFIG"), help=words)


def run(options: argparse.Namespace) -> int:
    """Send the message and show its way; return 0 if it has left signed, otherwise 78."""
    postconf = Postconf(options.directory)
    follower = Follower(_log(postconf))
    user = "" if options.recipient else _user()
    options.recipient = options.recipient or mailbox.address(postconf, user)
    message = _message(options, postconf)
    _send(options, postconf, message)
    print(f"sent {message['Message-ID']} from {message['From']} to {options.recipient}, by {options.via}")
    addresses = (parseaddr(text)[1] or text for text in (message["From"], options.recipient))
    parties = Parties(*(address.lower().encode() for address in addresses))
    hops = follower.hops(message["Message-ID"].strip("<>"), parties, options.wait)
    for hop in hops:
        print(one_line(f"{hop.queue_id}  {hop.service}: {hop.text}"))
    if not hops:
        raise ConfigError("the message was sent, but is not in the log", _no_lines(options, postconf))
    status = verdict.conclude(hops, parties.recipient.decode(), postconf)
    if not user or status:
        return status
    return _verify(postconf, _owner(hops) or user, message["Message-ID"], Resolver(options.resolver))


def _send(options: argparse.Namespace, postconf: Postconf, message: EmailMessage) -> None:
    if options.via == "smtp":
        sending.by_smtp(postconf, message, options.recipient)
    elif options.via == "sendmail":
        sending.by_sendmail(postconf, message, options.recipient)
    elif options.login:
        host = options.server or postconf.value("myhostname")
        sending.by_submission(postconf, message, options.recipient, host, options.login)
    else:
        options.fail("--via submission needs --login")


def _user() -> str:
    """Return who runs this, also by sudo(8). Raises ConfigError."""
    name = os.environ.get("SUDO_USER")
    try:
        return (pwd.getpwnam(name) if name else pwd.getpwuid(os.getuid())).pw_name
    except KeyError:
        raise ConfigError(f"there is no user {name or os.getuid()}", "dkimpipe test ADDRESS") from None


def _owner(hops: list[Hop]) -> str:
    """Return the user that local(8) delivered to, by an alias or not; empty if the log has none."""
    texts = [hop.text for hop in reversed(hops) if hop.program == "local"]  # aliases come first
    for found in filter(None, map(_DELIVERED.match, texts)):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(found[1]).pw_name
    return ""


def _verify(postconf: Postconf, user: str, message_id: str, resolver: Resolver) -> int:
    """Verify the message as it arrived, and print the results; return 0 if all signatures are valid."""
    found = mailbox.find(postconf, user, message_id)
    if not found:
        print(f"dkimpipe: error: not verified: the message is in no mailbox of {user} that can be read here")
        print(*hint_lines("send it to a mailbox that shows the results: dkimpipe test ADDRESS"))
        return ERRORS_FOUND
    print(f"verified in {found[0]}:")
    results = _results(found[1], resolver)
    for each in results:
        what = each.result + f": {each.reason}" * bool(each.reason)
        key = f" ({each.signature.key_name})" if each.signature else ""
        print(one_line(f"{each.method}: {what}{key}"))
    if results and all(each.result == "pass" for each in results):
        return 0
    print("dkimpipe: error: not valid", *hint_lines("dkimpipe check --dns"), sep="\n")
    return ERRORS_FOUND


def _results(octets: bytes, resolver: Resolver) -> list[SignatureResult]:
    """Return the result of each signature of a message."""
    message = Message(io.BytesIO(octets).read)
    bodies = BodyHashes(large=False)
    verifier = Verifier(message, bodies)
    for chunk in message.body():
        bodies.update(chunk)
    bodies.finish()
    return verifier.verify(resolver, int(time.time()))


def _no_lines(options: argparse.Namespace, postconf: Postconf) -> str:
    """Return what to do if the log has nothing about a message that was sent."""
    hints = [sending.IS_RUNNING] if options.via == "sendmail" else []
    if named := postconf.value("maillog_file"):
        missing = f"{named} does not exist: does master.cf have the service postlog? postconf -M"
        return "\n".join(hints or ["--wait with more SECONDS" if Path(named).exists() else missing])
    directory = shlex.quote(str(postconf.directory))
    log = f"postconf -c {directory} -e maillog_file={_LOG_FILE} && postfix -c {directory} reload"
    return "\n".join([*hints, f"if no syslog daemon takes Postfix's log: {log}"])


def _log(postconf: Postconf) -> Path | None:
    named = postconf.value("maillog_file")
    return Path(named) if named else logfiles.usual(time.time() - _RECENT)


def _message(options: argparse.Namespace, postconf: Postconf) -> EmailMessage:
    sender = options.sender or origin.author(postconf)
    message = EmailMessage()
    try:
        message["From"] = sender
        message["To"] = options.recipient
    except ValueError:
        raise ConfigError("an address with a line break") from None
    message["Subject"] = "dkimpipe test"
    message["Date"] = formatdate(localtime=True)
    message["Message-ID"] = make_msgid("dkimpipe-test", origin.domain_of(postconf))
    message.set_content("This message shows whether mail from this server is signed with DKIM.\n")
    return message
