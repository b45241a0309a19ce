"""The problems of an entry: of its text, and of each signature that the filter makes with it.

Errors come from the filter's own code, which makes each signature for an address that the entry matches.
Warnings report settings that work, but probably not as intended.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from dkimpipe import publickey, senders
from dkimpipe.address import Mailbox, is_domain
from dkimpipe.admin.findings import Finding
from dkimpipe.admin.maps import alignment, configured, dkimproxy, domains, headerfields, matching
from dkimpipe.admin.maps.entries import Line, canonical
from dkimpipe.admin.maps.expansion import key_files, templates
from dkimpipe.admin.maps.outcomes import Use, outcomes
from dkimpipe.admin.maps.samples import samples
from dkimpipe.body import BodyHashes
from dkimpipe.config import Settings
from dkimpipe.dkim import DkimSignature
from dkimpipe.domainkeys import DomainKeysSignature
from dkimpipe.errors import ConfigError, MissingFileError, NoKey, NotSigned, Trouble
from dkimpipe.files import Place
from dkimpipe.keys import PrivateKey
from dkimpipe.message import Message
from dkimpipe.options import SignatureOptions, complete, macros
from dkimpipe.senders import Signature
from dkimpipe.signatures import key_of
from dkimpipe.templates import IN_PATH, is_host_name

_GOOD_BITS = 2048  # RFC 8301 section 3.2
# Macros of other programs.
_FOREIGN = re.compile(r"%[a-z{]|\{+ *[a-z_.]+ *\}+|<[a-z_]+>|\[[a-z_]+\]|@[A-Z_]+@|\bDOMAIN\b|\*")


class Verdict(NamedTuple):
    """What one entry is good for.

    ``uses``          its valid signatures whose record has a fixed name
    ``errors``        with any of them, no mail is signed by this entry
    ``never_signed``  the reasons why some of its signatures are never made
    """

    uses: list[Use]
    errors: list[ConfigError]
    never_signed: list[str]


def verdict(line: Line, settings: Settings) -> Verdict:
    """Check one entry, and nothing else. The problems are those that ``check`` reports of it."""
    findings: list[Finding] = []
    is_in_map = line.place.path in configured.maps(settings)
    if is_in_map and (error := matching.fault(line)):
        return Verdict([], [error], [])
    lint = EntryLint(settings, findings)
    uses = lint.check(line)
    errors = [finding for finding in dict.fromkeys(findings) if finding.level == "error"]
    return Verdict(uses, [ConfigError(each.what, each.hint) for each in errors], lint.never_signed)


class EntryLint:
    """Checks entries, one after the other.

    ``good``          the number of valid signatures
    ``never_signed``  the reasons why others are never made
    ``keyfiles``      the key files, each with the place that names it first
    """

    def __init__(self, settings: Settings, findings: list[Finding], is_of_dkimproxy: bool = False) -> None:
        """``findings`` get the problems. ``is_of_dkimproxy``: the files were written for DKIMproxy."""
        self.good = 0
        self.never_signed: list[str] = []
        self.keyfiles: dict[str, Place] = {}
        self._settings = settings
        self._findings = findings
        self._is_of_dkimproxy = is_of_dkimproxy

    def check(self, line: Line) -> list[Use]:
        """Check an entry; return its valid signatures whose record has a fixed name."""
        uses = []
        made: list[tuple[Signature, SignatureOptions]] = []
        if not line.only:
            self._findings += dkimproxy.entry(line) if self._is_of_dkimproxy else ()
            self._findings += _odd_key_files(line, self._settings)
        for _, signature, use in outcomes([line], self._settings):
            if signature:
                self._findings += _permissions(signature)
                is_reported = isinstance(use, (NoKey, MissingFileError))  # of no domain, or of all
                options = None if is_reported else self._signature(line, signature)
                if options:
                    made.append((signature, options))
                    if isinstance(use, Use) and self._is_in_dns(use):
                        uses.append(use)
            elif isinstance(use, Trouble):
                self._error(use)
        if not (line.is_for_all or line.only):
            self._findings += alignment.findings(samples(line)[0][0].domain, made)
        return uses

    def _error(self, trouble: Trouble) -> None:
        self._findings.append(as_finding(trouble))

    def _warn(self, what: str, hint: str = "") -> None:
        self._findings.append(Finding(what, hint, "warning"))

    def _is_in_dns(self, use: Use) -> bool:
        """Return whether DNS allows the name of a record; it is an error if not."""
        if is_domain(use.name.encode()):
            return True
        what = f"{use.line.place}: {use.name} is too long for DNS"
        self._error(ConfigError(what, "choose a shorter selector"))
        return False

    def _signature(self, line: Line, signature: Signature) -> SignatureOptions | None:
        """Make this signature, with the filter's code, for a sender of the entry; return None if it fails."""
        sender, domain = samples(line)[0]
        try:
            options = complete(signature, self._settings, macros(sender, domain))
            if line.is_for_all:
                sender = Mailbox(b"postmaster", options.domain)
            self._keyfile(options)
            private_key = _private_key(options)
            _make(options, private_key, sender)
        except NotSigned as reason:
            self.never_signed.append(f"{signature.place}: never signed: {reason}")
            self._warn(self.never_signed[-1])
        except Trouble as trouble:
            self._error(trouble)
        else:
            self.good += 1
            self._findings += _weaknesses(options, private_key)
            self._findings += headerfields.findings(options)
            return options
        return None

    def _keyfile(self, options: SignatureOptions) -> None:
        path, place = options.keyfile, options.keyfile_place
        if path not in self.keyfiles and not os.path.isabs(path):
            what = f"{place}: key file {path} is relative to Postfix's queue directory"
            self._warn(what, f"if you mean this one: {os.path.abspath(path)}")
        self.keyfiles.setdefault(path, place)


def as_finding(trouble: Trouble) -> Finding:
    """Return an error of the filter as a finding; a hint names the macros if it is about those of others."""
    if isinstance(trouble, MissingFileError) and _FOREIGN.search(str(trouble)):
        return Finding(str(trouble), f"macros begin with a dollar sign: ${' $'.join(IN_PATH)}")
    return Finding(str(trouble), trouble.hint)


def _odd_key_files(line: Line, settings: Settings) -> Iterator[Finding]:
    """Yield the files that fit the macros of key=, but never match, and macros that no file fits."""
    for template in templates(line, settings):
        try:
            files = key_files(line, template)
        except ConfigError as error:
            yield as_finding(error)
            continue
        if not files:
            what = f"{line.place}: there is no key file {domains.pattern(template)}"
            yield Finding(what, "create one for each domain: dkimpipe genkey", "warning")
        for path, found in files:
            for name in found.values():
                if not is_host_name(name.encode("utf-8", "surrogateescape")):
                    meant = canonical(name)
                    hint = f"write {meant.decode()} in its name" if is_host_name(meant) else ""
                    yield Finding(f"{line.place}: no domain has the key file {path}", hint, "warning")


def _permissions(signature: Signature) -> Iterator[Finding]:
    """Yield the values of login= and envelope= that match no login or no envelope sender."""
    for option in signature.options.keys() & set(senders.PERMISSIONS):
        for item in map(str.strip, signature.options[option].split(":")):
            domain = canonical(item).rpartition(b"@")[2]
            what = f"{signature.place}: {option}={item}"
            if "*" in item and item != "*":
                is_login = option == "login"
                hint = "* alone matches every login" if is_login else "example.com matches a whole domain"
                yield Finding(f"{what}: patterns are not supported", hint, "warning")
            elif option == "envelope" and item != "*" and not is_domain(domain):
                yield Finding(f"{what} is neither an address nor a domain", level="warning")


def _make(options: SignatureOptions, private_key: PrivateKey, author: Mailbox) -> None:
    """Make a signature of an empty message, with the filter's code. Raises Trouble, NotSigned."""
    bodies = BodyHashes(large=False)
    if options.type == "dkim":
        DkimSignature(options, private_key, bodies)
    else:
        DomainKeysSignature(options, private_key, _message(author), bodies)


def _weaknesses(options: SignatureOptions, key: PrivateKey) -> Iterator[Finding]:
    """Yield why verifiers may refuse a signature."""
    place = options.place
    if options.type == "dkim" and options.algorithm == "rsa-sha1":
        yield Finding(f"{place}: a=rsa-sha1: verifiers refuse it (RFC 8301)", "omit a=", "warning")
    if key.type == "rsa" and key.bits < _GOOD_BITS:
        what = f"{key.bits} bits; at least {_GOOD_BITS} are recommended (RFC 8301)"
        hint = "create one with dkimpipe genkey"
        yield Finding(f"{place}: key file {key.path} has {what}", hint, "warning")


def _private_key(options: SignatureOptions) -> PrivateKey:
    """Return the key of a signature, if its public half belongs to it.

    Raises Trouble with its place, and NoKey.
    """
    private_key = key_of(options)
    try:
        publickey.public(options.keyfile)
        publickey.sound(options.keyfile)
    except Trouble as trouble:
        raise trouble.at(options.keyfile_place) from None
    return private_key


def _message(author: Mailbox) -> Message:
    parts = iter([b"From: " + author.address + b"\n\n"])
    return Message(lambda size: next(parts, b""))
