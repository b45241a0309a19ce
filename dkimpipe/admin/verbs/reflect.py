"""``dkimpipe reflect``: answer a message with what ``verify --explain`` finds. For an alias."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from dkimpipe import guard, log
from dkimpipe.admin import responder
from dkimpipe.body import BodyHashes
from dkimpipe.config import SENDMAIL, read_settings
from dkimpipe.errors import HandoverError, HeaderError, Trouble, one_line
from dkimpipe.handover import find
from dkimpipe.message import Message, read_standard_input
from dkimpipe.verify.explain import explain
from dkimpipe.verify.settings import VerifySettings
from dkimpipe.verify.verifier import Verifier

DIRECTORY = Path("/var/lib/dkimpipe/reflect")
_LARGEST = 10 << 20  # octets of a message; it is kept in memory
_TRY_AGAIN = 75  # sysexits(3)
_SENDMAIL_SECONDS = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    add = parser.add_argument
    add("--from", dest="recipient", metavar="ADDRESS", help="From of replies (the address of the alias)")
    add("--directory", type=Path, default=DIRECTORY, help="remembers who had a reply (%(default)s)")
    add("--conf-file", "--conf_file", metavar="FILE", help="as for dkimpipe verify")
    add("--dns-server", "--dns_server", metavar="IP[#PORT]", help="use this resolver")
    add("--sendmail", metavar="FILE", default=SENDMAIL, help="(%(default)s)")


def run(options: argparse.Namespace) -> int:
    """Answer the message on standard input. Return 0, or 75 if local(8) is to try again."""
    guard.limit_time()
    try:
        log.to_syslog(f"reflect: {_answer(options)}", "info")
    except (Trouble, OSError, subprocess.SubprocessError) as error:
        log.to_syslog(f"reflect: {error}", "error")
        hint = getattr(error, "hint", "")
        lines = [f"4.3.0 dkimpipe: {error}", *([f"hint: {hint}"] if hint else [])]
        print(*map(one_line, lines), sep="\n", file=sys.stderr)
        return _TRY_AGAIN
    return 0


def _answer(options: argparse.Namespace) -> str:
    """Answer the message, unless it should not be, and return what was done. Raises Trouble."""
    try:
        message = Message(read_standard_input)
    except HeaderError as error:
        return f"no reply: {error}"
    sender, body = _sender(message), _body(message)
    if why_not := responder.refusal(sender, message.by_name):
        return f"no reply: {why_not}"
    if body is None:
        return f"no reply: larger than {_LARGEST >> 20} MiB"
    recipient = responder.from_address(
        options.recipient or os.environ.get("ORIGINAL_RECIPIENT") or os.environ.get("RECIPIENT", "")
    )
    replies = responder.Replies(options.directory)
    if why_not := replies.refusal(sender, time.time()):
        return f"no reply: {why_not}"
    try:
        reply = responder.reply(sender, recipient, message.by_name, _findings(options, message, body))
        _send(options.sendmail, sender, reply)
    except BaseException:
        replies.forget(sender)
        raise
    return f"reply to {one_line(sender.decode('utf-8', 'replace'))}"


def _sender(message: Message) -> bytes:
    """Return the envelope sender: local(8) has it in the environment, other programs in Return-Path."""
    given = os.environb.get(b"SENDER")
    if given is not None:
        return b"" if given == b"MAILER-DAEMON" else given
    fields = message.by_name.get(b"return-path", [])
    return fields[0].value.strip(b"<> ") if fields else b""


def _body(message: Message) -> bytes | None:
    """Return the whole body, read to its end; None if it is too large."""
    chunks: list[bytes] = []
    size = 0
    for chunk in message.body():
        size += len(chunk)
        if size <= _LARGEST:
            chunks.append(chunk)
    return b"".join(chunks) if size <= _LARGEST else None


def _findings(options: argparse.Namespace, message: Message, body: bytes) -> list[str]:
    settings = VerifySettings()
    names = {"conf_file": options.conf_file, "dns_server": options.dns_server}
    read_settings([f"--{name}={value}" for name, value in names.items() if value], settings)
    resolver = settings.resolver()
    bodies = BodyHashes(large=not message.small)
    verifier = Verifier(message, bodies)
    bodies.update(body)
    bodies.finish()
    results = verifier.verify(resolver, int(time.time()))
    return [one_line(line) for line in explain(message, body, verifier, results, resolver)]


def _send(program: str, sender: bytes, reply: bytes) -> None:
    """Send a reply with the null sender, so that nothing answers it (RFC 3834 section 3.3)."""
    command = [find(program), "-i", "-f", "", "--", os.fsdecode(sender)]
    done = subprocess.run(  # noqa: S603 - no shell
        command, input=reply, capture_output=True, timeout=_SENDMAIL_SECONDS, check=False
    )
    if done.returncode:
        raise HandoverError(f"{program} ended with exit status {done.returncode}")
