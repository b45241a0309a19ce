"""What is wrong in the conf file, the maps and the keys: all of it, each with file and line.

Errors are those of the filter's own code, which is given each signature of each entry, with an address that
the entry is for. Warnings are about what works, but hardly as meant.
"""

from __future__ import annotations

import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

from dkimpipe import config, senders
from dkimpipe.address import Mailbox, is_at_or_below, is_domain, to_a_labels, to_lower
from dkimpipe.admin import record
from dkimpipe.admin.findings import Finding
from dkimpipe.admin.mapfile import entries
from dkimpipe.body import BodyHashes
from dkimpipe.choose import Choice
from dkimpipe.config import CONF_FILE, OPTIONS, SENDER_MAP, Settings
from dkimpipe.dkim import DkimSignature
from dkimpipe.domainkeys import DomainKeysSignature
from dkimpipe.errors import NotSigned, Trouble
from dkimpipe.files import exists
from dkimpipe.keys import PrivateKey, read_key
from dkimpipe.message import Message
from dkimpipe.options import SignatureOptions

GOOD_BITS = 2048  # RFC 8301 section 3.2


class Lint:
    """The findings about one set of options of the filter.

    ``settings``    what is right in the command line and the conf file
    ``findings``    what is wrong, in the order of the files
    ``signatures``  every signature that can be made
    ``files``       the files that the filter reads
    """

    def __init__(self, arguments: list[str]) -> None:
        """Look at everything. ``arguments`` are options of the filter."""
        self.settings = Settings()
        self.findings: list[Finding] = []
        self.signatures: list[SignatureOptions] = []
        self.files: list[str] = []
        try:
            self.settings = config.read_command_line(arguments)
            self._conf()
        except Trouble as trouble:
            self._error(trouble)
        self._maps()
        self._selectors()

    def _error(self, trouble: Trouble) -> None:
        self.findings.append(Finding(str(trouble), trouble.mend))

    def _warn(self, what: str, mend: str = "") -> None:
        self.findings.append(Finding(what, mend, "warning"))

    def _conf(self) -> None:
        path = self.settings.get("conf_file") or (CONF_FILE if exists(CONF_FILE) else "")
        if not path:
            return
        self.files.append(path)
        seen: dict[str, str] = {}
        for name, value, where, line in config.conf_lines(path):
            if name in config.IGNORED:
                self._warn(f"{where}: {name} is for a server; it has no effect here")
            elif name not in OPTIONS or name == "conf_file":
                self._error(config.unknown_directive(where, line))
            else:
                if name in seen and name != "signature":
                    self._warn(
                        f"{where}: {name} stands in {seen[name].rpartition(', ')[2]} already; this one counts"
                    )
                seen[name] = where
                self._set(name, value, where)

    def _set(self, name: str, value: str, where: str) -> None:
        try:
            if self.settings.where.get(name) != "command line":
                self.settings.set(name, value, where)
        except Trouble as trouble:
            self._error(trouble)

    def _maps(self) -> None:
        sender_map, listid_map = self.settings.get("sender_map"), self.settings.get("listid_map")
        if not (sender_map or listid_map or self.settings.get("domain") or self.settings.signatures):
            sender_map = SENDER_MAP
        for path in filter(None, (sender_map, listid_map)):
            self.files.append(path)
            try:
                self._map(path, is_listid_map=path == listid_map)
            except Trouble as trouble:
                self._error(trouble)
        for domain in filter(None, self.settings.get("domain").split(",")):
            for text, where in self.settings.signatures or [("dkim", self.settings.place("domain"))]:
                self._entry(_a_labels(domain.strip().encode()), text, where())

    def _map(self, path: str, is_listid_map: bool) -> None:
        seen: dict[bytes, int] = {}
        for line in entries(path):
            where = f"{path}, line {line.number}"
            key = to_lower(line.key.encode("utf-8", "surrogateescape"))
            local_part, at, domain = key.rpartition(b"@")
            key = local_part + at + _a_labels(domain)
            if not self._can_match(where, line.key, key, is_listid_map):
                continue
            if key in seen:
                self._warn(f"{where}: {line.key} stands in line {seen[key]} already; only this line counts")
            seen[key] = line.number
            self._entry(key, line.text, where)

    def _can_match(self, where: str, written: str, key: bytes, is_listid_map: bool) -> bool:
        """Tell whether anything can match a key, and warn if not."""
        local_part, at, domain = key.rpartition(b"@")
        if key == b"." or (is_domain(domain) and not at):
            return True
        if at and is_listid_map:
            self._warn(f"{where}: no List-Id matches {written}, which is an address")
        elif is_domain(domain) and local_part:
            return True
        else:
            meant = domain.strip(b".*").decode("utf-8", "replace")
            mend = f"{meant} matches all of it" if is_domain(meant.encode()) else ""
            self._warn(f"{where}: no address matches {written}", mend)
        return False

    def _entry(self, key: bytes, text: str, where: str) -> None:
        for item in senders.split(text) or [""]:
            try:
                for signature in senders.parse(item, where.__str__):
                    self._signature(key, signature)
            except Trouble as trouble:
                self._error(trouble)

    def _signature(self, key: bytes, signature: senders.Signature) -> None:
        """Let the filter make this signature for an address that the key matches."""
        local_part, _, domain = key.rpartition(b"@")
        author = Mailbox(local_part or b"postmaster", domain if domain != b"." else b"example.com")
        options = None
        try:
            choice = Choice(author, key, author.domain, [signature], self.settings)
            (options,) = choice.signatures
            private_key = read_key(options.keyfile)
            bodies = BodyHashes(large=False)
            if options.type == "dkim":
                DkimSignature(options, private_key, bodies)
            else:
                DomainKeysSignature(options, private_key, _message(author), bodies)
            self.signatures.append(options)
        except NotSigned as reason:
            self._warn(f"{signature.where()}: never signed: {reason}")
        except Trouble as trouble:
            where = f"{options.keyfile_where()}: " if options else ""
            known = str(trouble).startswith(where)
            self.findings.append(Finding(f"{'' if known else where}{trouble}", trouble.mend))
            return
        if options:
            self._weak(options, private_key, b"" if key == b"." else author.domain)

    def _weak(self, options: SignatureOptions, key: PrivateKey, author_domain: bytes) -> None:
        """Look for what verifies badly, or counts for nothing."""
        where = options.where()
        if options.type == "dkim" and options.algorithm == "rsa-sha1":
            self._warn(f"{where}: a=rsa-sha1: verifiers refuse it (RFC 8301)", "leave a= out")
        if key.type == "rsa" and key.bits < GOOD_BITS:
            self._warn(
                f"{where}: key file {key.path} has {key.bits} bits; {GOOD_BITS} are the least (RFC 8301)",
                "dkimpipe genkey makes one",
            )
        aligned = is_at_or_below(options.domain, author_domain) or is_at_or_below(
            author_domain, options.domain
        )
        if options.type == "dkim" and author_domain and not aligned:
            d, domain = options.domain.decode(), author_domain.decode()
            self._warn(f"{where}: d={d} is not aligned with {domain}: it does not count for DMARC (RFC 7489)")

    def _selectors(self) -> None:
        """Look for one name in DNS that would have to hold two keys."""
        seen: dict[tuple[bytes, bytes], SignatureOptions] = {}
        for options in self.signatures:
            name = (options.selector, options.domain)
            first = seen.setdefault(name, options)
            if record.value(first.keyfile) != record.value(options.keyfile):
                owner = b"._domainkey.".join(name).decode()
                self.findings.append(
                    Finding(
                        f"{options.where()}: {owner} is the name of another key already, {first.keyfile}",
                        "give each key a selector of its own",
                    )
                )


def exposed(files: list[str]) -> Iterator[Finding]:
    """Yield the files, and their directories, that others can write: they can say who signs, and how."""
    paths = [path for name in files for path in (Path(name), Path(name).parent)]
    for path in dict.fromkeys(paths):
        try:
            mode = path.stat().st_mode & 0o7777
        except OSError:  # the filter's own code tells why
            continue
        if mode & 0o002 and not mode & 0o1000:  # the sticky bit of /tmp keeps files from others
            yield Finding(f"{path}: others can write it (mode {mode:04o})", f"chmod o-w {path}")


def unreadable(files: list[str], user: str) -> Iterator[Finding]:
    """Yield the files that a user cannot read."""
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        return  # the doctor names it
    for path in dict.fromkeys(files):
        command = ["test", "-r", path]
        done = subprocess.run(  # noqa: S603 - no shell
            command, check=False, user=account.pw_uid, group=account.pw_gid, extra_groups=[]
        )
        if done.returncode and exists(path):
            yield Finding(
                f"{path}: user {user} cannot read it", f"namei -l {path} shows what stands in the way"
            )


def _message(author: Mailbox) -> Message:
    parts = iter([b"From: " + author.address + b"\n\n"])
    return Message(lambda size: next(parts, b""))


def _a_labels(domain: bytes) -> bytes:
    try:
        return to_a_labels(domain)
    except ValueError:
        return domain
