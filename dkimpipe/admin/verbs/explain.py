"""``dkimpipe explain``: show how a message is signed, and why.

The message is processed by the filter's own code, and the result of each step is printed.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from typing import Callable

from dkimpipe import publickey
from dkimpipe.address import Mailbox, first_mailbox, is_at_or_below
from dkimpipe.admin.dns.server_option import FORM, server
from dkimpipe.admin.maps import exposure, inventory
from dkimpipe.admin.postfix import coverage, planning
from dkimpipe.admin.postfix.filter_service import SIGN
from dkimpipe.admin.postfix.kinds import KINDS, MEANING
from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.admin.verbs import filter_files
from dkimpipe.body import BodyHashes
from dkimpipe.choose import Choice, author_of, candidates_of, choose, lookup_keys
from dkimpipe.config import OPTIONS, Settings, read_settings
from dkimpipe.errors import ConfigError, NoKey, NotAllowed, NotSigned, Trouble, one_line, printable, shown
from dkimpipe.keys import PrivateKey
from dkimpipe.message import Message, read_standard_input
from dkimpipe.options import SignatureOptions
from dkimpipe.signatures import Signatures, key_of
from dkimpipe.verify.alignment import have_common_parent, is_aligned
from dkimpipe.verify.nameserver import Server

State = Callable[[SignatureOptions, Mailbox], Iterator[str]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options: an address, and the options of the filter."""
    text = "explain a message from this address (default: the message on standard input)"
    parser.add_argument("address", nargs="?", metavar="ADDRESS", help=text)
    parser.add_argument("-f", dest="sender", metavar="SENDER", help="the envelope sender")
    parser.add_argument("--login", metavar="LOGIN", help="the SASL login, '' for none")
    parser.add_argument("--client", metavar="ADDRESS", help="the address of the SMTP client")
    text = "configuration directory of Postfix, for another instance"
    parser.add_argument(
        "-c", dest="directory", metavar="DIR", default=os.environ.get("MAIL_CONFIG"), help=text
    )
    parser.add_argument("--dns", action="store_true", help="also check the records in DNS")
    text = "query only this name server, not all of the domain's"
    parser.add_argument("--server", type=server, metavar=FORM, help=text)
    filter_files.add_arguments(parser)
    for name in OPTIONS.keys() - {"login", "client", *filter_files.NAMES}:
        spellings = dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}"])
        parser.add_argument(*spellings, metavar="VALUE", help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    """Print what the filter does with the message, and why; return 0. Raises Trouble on a deferral."""
    if options.client and options.login is None:
        options.login = ""
    given = vars(options).items()
    named = [f"--{name}={value}" for name, value in given if name in OPTIONS and value is not None]
    settings = read_settings([*named, *(["-f", options.sender] if options.sender is not None else [])])
    state = _state(options.server) if options.dns else None
    message = Message(_reader(options.address) if options.address else read_standard_input)
    for line in explain(message, settings, int(time.time()), state, lambda: kinds(options.directory)):
        print(one_line(line))
    return 0


def kinds(directory: str | None) -> Iterator[str]:
    """Yield which kinds of mail pass to the filter in this instance of Postfix."""
    try:
        postconf = Postconf(directory)
        signed = planning.kinds_in_use(postconf)
    except ConfigError as error:
        yield f"that depends on the kind of mail, {', '.join(KINDS)}; Postfix was not read: {error}"
        return
    if not signed:
        yield f"but {postconf.directory / 'master.cf'} passes no mail to the filter: dkimpipe check --postfix"
        return
    yield f"if it is sent by: {', '.join(signed)}"
    for kind in coverage.left_out(postconf, signed):
        yield f"not signed: {kind}: {MEANING[kind]}"


def _state(only: Server | None) -> State:
    """Return a function that yields the state of a signature's record, in lines. It imports cryptography."""
    from dkimpipe.admin.dns import compare, lookup

    servers = lookup.NameServers([only] if only else ())

    def state(options: SignatureOptions, sender: Mailbox) -> Iterator[str]:
        name = publickey.record_name(options.selector.decode(), options.domain.decode())
        host = options.identity.rpartition(b"@")[2] or options.domain
        local_part = sender.local_part.decode("utf-8", "replace")
        value = publickey.record_value(options.keyfile)
        needs = [compare.need(options, host != options.domain, local_part, value)]
        found = [finding.what for finding in servers.findings(name, needs)]
        yield from found or [f"{name}: the record is correct"]

    return state


def _reader(address: str) -> Callable[[int], bytes]:
    parts = iter([f"From: {address}\n\n".encode("utf-8", "surrogateescape")])
    return lambda size: next(parts, b"")


def _entry(choice: Choice, author_domain: bytes, state: State | None) -> Iterator[str]:
    """Yield the entry, and each of its signatures."""
    yield f"{'entry:':<10} {printable(choice.match.key)}, {choice.signatures[0].place}"
    for options in choice.signatures:
        try:
            key = key_of(options)
        except NoKey as reason:
            yield f"{options.type + ':':<10} {reason}, which would be {options.keyfile}"
            continue
        yield from _signature(options, key, author_domain)
        for text in state(options, choice.match.mailbox) if state else ():
            yield f"{'':<10} DNS: {text}"
    for refusal in choice.refused:
        yield _refused(refusal)


def explain(
    message: Message,
    settings: Settings,
    now: int,
    state: State | None = None,
    condition: Callable[[], Iterator[str]] | None = None,
) -> Iterator[str]:
    """Yield the result of each step, one line each; ``now`` is the time in seconds since 1970.

    ``state`` yields the state of a signature's record in DNS, and ``condition`` which mail the filter gets.
    Raises Trouble as the filter does.
    """
    for name in (b"from", b"sender", b"list-id"):
        for field in message.by_name.get(name, []):
            yield f"{name.decode() + ':':<10} {printable(field.value)}"
    keyfiles: list[str] = []
    try:
        author = author_of(message)
        if not _is_readable(message.by_name[b"from"][0].value):
            yield f"{'':<10} syntax error in From: some receivers refuse such mail"
        for mailbox in candidates_of(message, settings, author):
            keys = ", ".join(printable(key) for key in lookup_keys(mailbox))
            yield f"{'address:':<10} {printable(mailbox.address)}; looked up as {keys}"
        choice = choose(message, settings)
        keyfiles += [options.keyfile for options in choice.signatures]
        yield from _entry(choice, author.domain, state)
    except NotAllowed as refusal:
        yield _refused(refusal)
    except (NotSigned, Trouble):
        pass  # reported below, according to on_error
    for finding in exposure.exposed(inventory.files(settings, keyfiles), SIGN.name):
        yield f"{'exposed:':<10} {finding.what}"
        yield f"{'':<10} hint: {finding.hint}"
    bodies = BodyHashes(large=False)
    signatures = Signatures(message, settings, bodies)
    for chunk in message.body():
        bodies.update(chunk)
    bodies.finish()
    for text in signatures.fields(now).decode("ascii", "replace").splitlines():
        yield f"{'field:':<10} {text}"
    yield f"{'result:':<10} {signatures.report.result}{signatures.report.origin}"
    for text in condition() if condition and signatures.report.result.startswith("signed ") else ():
        yield f"{'':<10} {text}"


def _is_readable(value: bytes) -> bool:
    """Return whether an address is found in a field value without leniency."""
    try:
        return bool(first_mailbox(value))
    except NotSigned:
        return False


def _refused(reason: NotSigned) -> str:
    rule = f", which has {shown(reason.rule)}" if isinstance(reason, NotAllowed) else ""
    return f"{'refused:':<10} {reason}{rule}"


def _signature(options: SignatureOptions, key: PrivateKey, author_domain: bytes) -> Iterator[str]:
    method = options.header_canonicalization
    if options.type == "dkim":
        method += f"/{options.body_canonicalization}"
    yield (
        f"{options.type + ':':<10} d={options.domain.decode()} s={options.selector.decode()}"
        f" a={options.algorithm or f'{key.type}-sha256'} c={method}"
    )
    yield f"{'':<10} key file {options.keyfile}: {key.type}, {key.bits} bits"
    if options.type == "dkim":
        yield f"{'':<10} {_alignment(options.domain, author_domain)}"


def _alignment(domain: bytes, author_domain: bytes) -> str:
    """Return the alignment of a signature's d= for DMARC."""
    if is_aligned(domain, author_domain, strict=True):
        return "DMARC: aligned with From"
    if is_aligned(domain, author_domain):
        unless = f"unless the policy of {author_domain.decode()} has adkim=s"
        if is_at_or_below(author_domain, domain):  # the organizational domain is the widest with a record
            unless += f", or {domain.decode()} has no DMARC record (RFC 9989)"
        return f"DMARC: aligned with From {unless}"
    if have_common_parent(domain, author_domain):
        return "DMARC: aligned with From only if both are in one organizational domain, without adkim=s"
    return f"DMARC: not aligned with From: no pass for {author_domain.decode()}"
