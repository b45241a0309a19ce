"""All problems in the conf file, the maps and the keys, each with file and line.

Errors come from the filter's own code, which gets each signature of each entry with an address that the entry
matches. Warnings report settings that work, but probably not as intended.
"""

from __future__ import annotations

import functools
import os
import re
import shlex

from dkimpipe import choose, clients, config, mapindex, publickey, relay, senders
from dkimpipe.address import Mailbox, domain_in, first_mailbox, is_domain, spellings, to_lower
from dkimpipe.admin.findings import Finding
from dkimpipe.admin.maps import configured, dkimproxy, domains, entries, headerfields, index
from dkimpipe.admin.maps.entries import BY_LIST, BY_SENDER, Line
from dkimpipe.admin.maps.expansion import expanded, key_files, templates
from dkimpipe.admin.maps.outcomes import Use, outcomes
from dkimpipe.admin.maps.samples import samples
from dkimpipe.body import BodyHashes
from dkimpipe.config import COMMAND_LINE_ONLY, CONF_FILE, OPTIONS, Settings
from dkimpipe.dkim import DkimSignature
from dkimpipe.domainkeys import DomainKeysSignature
from dkimpipe.errors import ConfigError, MissingFileError, NoKey, NotSigned, Trouble
from dkimpipe.files import COMMAND_LINE, Place, exists
from dkimpipe.keys import PrivateKey
from dkimpipe.message import Message
from dkimpipe.options import SignatureOptions, complete, macros
from dkimpipe.senders import Signature
from dkimpipe.signatures import key_of
from dkimpipe.templates import IN_PATH, is_host_name
from dkimpipe.verify.alignment import have_common_parent, is_aligned

# Hidden files, and copies that editors and package managers leave behind.
_BACKUP = re.compile(r"^[.#]|~$|\.(bak|old|orig|rej|save|sw[a-z]|tmp|dpkg-\w+|ucf-\w+|rpm\w+)$")
GOOD_BITS = 2048  # RFC 8301 section 3.2
_PERCENT = re.compile("%[a-z{]")  # a macro of another program
NEVER_SIGNED = "never signed: "


class Lint:
    """The findings about one set of options of the filter.

    ``settings``    the valid settings of the command line and the conf file
    ``findings``    the problems, in the order of the files
    ``good``        the number of valid signatures
    ``uses``        those of them that apply and whose record has a fixed name
    ``named``       the conf file, the maps, and the directory of the senders file
    ``files``       these, and what is in the directory
    ``keyfiles``    the key files, each with the place that names it first
    """

    def __init__(self, arguments: list[str]) -> None:
        """Check everything. ``arguments`` are options of the filter."""
        self.settings = Settings()
        self.findings: list[Finding] = []
        self.good = 0
        self.uses: list[Use] = []
        self.named: list[str] = []
        self.files: list[str] = []
        self.keyfiles: dict[str, Place] = {}
        self._is_of_dkimproxy = False
        self._lines: list[Line] = []  # that apply
        try:
            self.settings = config.read_command_line(arguments)
            self._conf()
            clients.networks(self.settings)
            if self.settings.get("relay"):
                relay.address(self.settings.get("relay"), self.settings.places["relay"])
        except Trouble as trouble:
            self._error(trouble)
        if self._is_of_dkimproxy:
            self.findings += dkimproxy.directives(self.settings)
        self._maps()
        self._selectors()
        self.findings = list(dict.fromkeys(self.findings))  # one signature may apply to several domains

    def _error(self, trouble: Trouble) -> None:
        hint = trouble.hint
        if isinstance(trouble, MissingFileError) and _PERCENT.search(str(trouble)):
            hint = f"macros begin with a dollar sign: ${' $'.join(IN_PATH)}"
        self.findings.append(Finding(str(trouble), hint))

    def _warn(self, what: str, hint: str = "") -> None:
        self.findings.append(Finding(what, hint, "warning"))

    def _conf(self) -> None:
        path = self.settings.get("conf_file") or (CONF_FILE if exists(CONF_FILE) else "")
        if not path:
            return
        self.named.append(path)
        self.files.append(path)
        seen: dict[str, Place] = {}
        for name, value, place, line in config.conf_lines(path):
            if name in config.IGNORED:
                self._is_of_dkimproxy = True
                self._warn(f"{place}: {name} is a server directive; it has no effect here")
            elif name not in OPTIONS or name in COMMAND_LINE_ONLY:
                self._error(config.unknown_directive(place, line))
            else:
                if name in seen and name != "signature":
                    self._warn(f"{place}: {name} is already in line {seen[name].line}; this one applies")
                seen[name] = place
                self._set(name, value, place)

    def _set(self, name: str, value: str, place: Place) -> None:
        try:
            if self.settings.places.get(name) is not COMMAND_LINE:
                self.settings.set(name, value, place)
        except Trouble as trouble:
            self._error(trouble)

    def _maps(self) -> None:
        for path, by in configured.named_maps(self.settings).items():
            self.named.append(path)
            seen: dict[bytes, Place] = {}
            for each in [path, *(self._directory(path) if by == BY_SENDER else ())]:
                self.files.append(each)
                try:
                    self._map(each, by, seen)
                except Trouble as trouble:
                    self.findings.append(
                        Finding(str(trouble), (each != path and _copy(each)) or trouble.hint)
                    )
        try:
            for line in configured.without_map(self.settings):
                self._lines.append(line)
                self.uses += self._entry(line)
            for line in expanded(self._lines, self.settings)[len(self._lines) :]:
                self.uses += self._entry(line)
        except Trouble as trouble:
            self._error(trouble)

    def _directory(self, path: str) -> list[str]:
        """Return the maps in the directory of a senders file; warn of files that are ignored."""
        directory = senders.directory_of(path)
        if not exists(directory):
            return []
        self.named.append(directory)
        self.files.append(directory)
        try:
            found = senders.more_maps(path)
        except Trouble as trouble:
            self._error(trouble)
            return []
        for name in sorted(os.listdir(directory)):
            if not (name.endswith((".conf", ".index")) or _BACKUP.search(name)):
                self._warn(f"{directory}/{name} is ignored: its name does not end in .conf")
        return found

    def _map(self, path: str, by: str, seen: dict[bytes, Place]) -> None:
        """Check a map; ``seen`` are the keys of the maps before it, and after it also its own."""
        uses: dict[bytes, list[Use]] = {}
        lines: dict[bytes, Line] = {}
        for place in entries.orphans(path):
            self._warn(f"{place}: it begins with white space, but there is no entry to continue")
        empty = True
        for line in entries.entries(path, by):
            empty = False
            key = entries.canonical(line.key)
            if not self._can_match(line, key):
                continue
            made = self._entry(line)
            if key in seen and seen[key].path != path:
                what = f"{line.place}: {line.key} is already in {seen[key]}, which applies"
                self._error(ConfigError(what, "remove one of the two"))
                continue
            if key in seen:
                what = f"{line.key} is already in line {seen[key].line}; only this line applies"
                self._warn(f"{line.place}: {what}")
            seen[key] = line.place
            lines[key], uses[key] = line, made
        self._lines += lines.values()
        self.uses += [use for each in uses.values() for use in each]
        if exists(mapindex.path_of(path)) and not index.is_fresh(path, os.stat(path)):
            self._warn(f"{mapindex.path_of(path)} is out of date: the map is scanned", "dkimpipe index")
        senders.refuse_empty(path, os.stat(path))
        if empty:
            self._warn(f"{path}: it contains no entries")

    def _can_match(self, line: Line, key: bytes) -> bool:
        """Return whether anything can match a key; it is an error if not."""
        meant = domain_in(key.rpartition(b"@")[2])
        if b"_domainkey" in key and meant != key.rpartition(b"@")[2]:
            hint = f"{meant.decode()} matches the domain of the record" if meant else ""
            self._error(ConfigError(f"{line.place}: {line.key} is the name of a record, not a domain", hint))
            return False
        if key == b"." or (b"@" not in key and is_domain(key) and _lower(line.key) in spellings(key)):
            return True
        if b"@" in key and line.by == BY_LIST:
            self._error(ConfigError(f"{line.place}: no List-Id matches {line.key}, which is an address"))
        elif b"@" in key and _is_looked_up(line):
            return True
        else:
            self._error(ConfigError(f"{line.place}: no address matches {line.key}", _key_meant(key)))
        return False

    def _entry(self, line: Line) -> list[Use]:
        """Check an entry; return its valid signatures whose record has a fixed name."""
        uses = []
        made: list[tuple[Signature, SignatureOptions]] = []
        if self._is_of_dkimproxy and not line.only:
            self.findings += dkimproxy.entry(line)
        if not line.only:
            self._odd_key_files(line)
        for _, signature, use in outcomes([line], self.settings):
            if signature:
                self._permissions(signature)
                is_reported = isinstance(use, (NoKey, MissingFileError))  # of no domain, or of all
                options = None if is_reported else self._signature(line, signature)
                if options:
                    made.append((signature, options))
                    if isinstance(use, Use) and self._is_in_dns(use):
                        uses.append(use)
            elif isinstance(use, Trouble):
                self._error(use)
        if not (line.is_for_all or line.only):
            self._alignment(samples(line)[0][0].domain, made)
        return uses

    def _is_in_dns(self, use: Use) -> bool:
        """Return whether DNS allows the name of a record; it is an error if not."""
        if is_domain(use.name.encode()):
            return True
        what = f"{use.line.place}: {use.name} is too long for DNS"
        self._error(ConfigError(what, "choose a shorter selector"))
        return False

    def _odd_key_files(self, line: Line) -> None:
        """Check for files that fit the macros of key=, but never match, and for no files at all."""
        for template in templates(line, self.settings):
            try:
                files = key_files(line, template)
            except ConfigError as error:
                self._error(error)
                continue
            if not files:
                what = f"{line.place}: there is no key file {domains.pattern(template)}"
                self._warn(what, "create one for each domain: dkimpipe genkey")
            for path, found in files:
                for name in found.values():
                    if not is_host_name(name.encode("utf-8", "surrogateescape")):
                        meant = entries.canonical(name)
                        hint = f"write {meant.decode()} in its name" if is_host_name(meant) else ""
                        self._warn(f"{line.place}: no domain has the key file {path}", hint)

    def _permissions(self, signature: Signature) -> None:
        """Check for values that match no login or no envelope sender."""
        for option in signature.options.keys() & set(senders.PERMISSIONS):
            for item in map(str.strip, signature.options[option].split(":")):
                domain = entries.canonical(item).rpartition(b"@")[2]
                if "*" in item and item != "*":
                    hint = (
                        "* alone matches every login"
                        if option == "login"
                        else "example.com matches a whole domain"
                    )
                    self._warn(f"{signature.place}: {option}={item}: patterns are not supported", hint)
                elif option == "envelope" and item != "*" and not is_domain(domain):
                    self._warn(f"{signature.place}: {option}={item} is neither an address nor a domain")

    def _signature(self, line: Line, signature: Signature) -> SignatureOptions | None:
        """Make this signature, with the filter's code, for a sender of the entry; return None if it fails."""
        sender, domain = samples(line)[0]
        try:
            options = complete(signature, self.settings, macros(sender, domain))
            if line.is_for_all:
                sender = Mailbox(b"postmaster", options.domain)
            self._keyfile(options)
            private_key = _private_key(options)
            bodies = BodyHashes(large=False)
            if options.type == "dkim":
                DkimSignature(options, private_key, bodies)
            else:
                DomainKeysSignature(options, private_key, _message(sender), bodies)
        except NotSigned as reason:
            self._warn(f"{signature.place}: {NEVER_SIGNED}{reason}")
        except Trouble as trouble:
            self._error(trouble)
        else:
            self.good += 1
            self._weak(options, private_key)
            self.findings += headerfields.findings(options)
            return options
        return None

    def _keyfile(self, options: SignatureOptions) -> None:
        path, place = options.keyfile, options.keyfile_place
        if path not in self.keyfiles and not os.path.isabs(path):
            what = f"{place}: key file {path} is relative to Postfix's queue directory"
            self._warn(what, f"if you mean this one: {os.path.abspath(path)}")
        self.keyfiles.setdefault(path, place)

    def _weak(self, options: SignatureOptions, key: PrivateKey) -> None:
        """Check for signatures that verifiers refuse."""
        place = options.place
        if options.type == "dkim" and options.algorithm == "rsa-sha1":
            self._warn(f"{place}: a=rsa-sha1: verifiers refuse it (RFC 8301)", "omit a=")
        if key.type == "rsa" and key.bits < GOOD_BITS:
            self._warn(
                f"{place}: key file {key.path} has {key.bits} bits;"
                f" at least {GOOD_BITS} are recommended (RFC 8301)",
                "create one with dkimpipe genkey",
            )

    def _alignment(self, author_domain: bytes, made: list[tuple[Signature, SignatureOptions]]) -> None:
        """Check for mail without an aligned signature: one of a provider may be beside it."""
        dkim = [(signature, options) for signature, options in made if options.type == "dkim"]
        aligned = [
            _who_may(signature)
            for signature, options in dkim
            if is_aligned(options.domain, author_domain) and options.algorithm != "rsa-sha1"
        ]
        for signature, options in dkim:
            if is_aligned(options.domain, author_domain) or {} in aligned or _who_may(signature) in aligned:
                continue
            place, d, domain = options.place, options.domain.decode(), author_domain.decode()
            if have_common_parent(options.domain, author_domain):
                only_if = "only if both are in one organizational domain"
                self._warn(f"{place}: d={d} is aligned with {domain} {only_if} (DMARC, RFC 9989)")
            else:
                self._warn(f"{place}: d={d} is not aligned with {domain}: no pass for DMARC (RFC 9989)")

    def _selectors(self) -> None:
        """Check for names in DNS that would need two keys."""
        value = functools.cache(publickey.record_value)
        seen: dict[str, Use] = {}
        for use in self.uses:
            first = seen.setdefault(use.name, use).options.keyfile
            if value(first) != value(use.options.keyfile):
                self.findings.append(
                    Finding(
                        f"{use.line.place}: {use.name} already belongs to another key, {first}",
                        "use a separate selector for each key",
                    )
                )


class EntryLint(Lint):
    """The findings about one entry, which are also those of ``Lint`` with the same settings."""

    def __init__(self, line: Line, settings: Settings) -> None:
        """Check the entry, and nothing else."""
        self.settings = settings
        self.findings = []
        self.good = 0
        self.keyfiles = {}
        self._is_of_dkimproxy = False
        is_in_map = line.place.path in configured.maps(settings)
        can_match = not is_in_map or self._can_match(line, entries.canonical(line.key))
        self.uses = self._entry(line) if can_match else []

    @property
    def errors(self) -> list[ConfigError]:
        """The errors: with any of them, no mail is signed by this entry."""
        found = [finding for finding in self.findings if finding.level == "error"]
        return [ConfigError(finding.what, finding.hint) for finding in dict.fromkeys(found)]

    @property
    def never_signed(self) -> list[str]:
        """The reasons why some of its signatures are never made."""
        return [finding.what for finding in self.findings if NEVER_SIGNED in finding.what]


def _who_may(signature: Signature) -> dict[str, str]:
    """Return the options that limit who may use a signature, empty for everyone."""
    return {name: value for name, value in signature.options.items() if name in senders.PERMISSIONS}


def _is_looked_up(line: Line) -> bool:
    """Return whether the filter looks for a key, as written, when it reads an address that the key is for."""
    local_part, _, domain = entries.canonical(line.key).rpartition(b"@")
    if local_part == b"*":
        local_part = b"x"
        domain = b"x" + domain[1:] if domain.startswith(b"*.") else domain
    try:
        mailbox = first_mailbox(local_part + b"@" + domain)
    except NotSigned:
        return False
    return b"*" not in local_part and _lower(line.key) in choose.lookup_keys(mailbox)


def _lower(text: str) -> bytes:
    return to_lower(text.encode("utf-8", "surrogateescape"))


def _key_meant(key: bytes) -> str:
    """Return what to write in place of a key that matches nothing, as a hint."""
    if b"\0" in key:
        return "save the file as UTF-8, not as UTF-16"
    if not key.strip(b"*@."):
        return ". matches every sender"
    local_part, at, domain = key.rpartition(b"@")
    name = domain.strip(b".*")
    if not is_domain(name):
        return "" if name else "an address matches only itself; . matches every sender"
    meant = name.decode()
    below = domain.startswith((b".", b"*"))
    if local_part.strip(b"*"):
        what = f"*@*.{meant} every address in subdomains" if below else f"*@{meant} every address in it"
        return f"an address matches only itself, {what}"
    if below:
        return f"*@*.{meant} matches its subdomains alone; {meant} matches the whole domain"
    if at:
        return f"*@{meant} matches this domain alone; {meant} matches its subdomains, too"
    return f"{meant} matches the whole domain"


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


def _copy(path: str) -> str:
    """Return what to do about a link in a directory of maps, where no line names the file."""
    if not (os.path.islink(path) and os.path.isfile(path)):
        return ""
    target = shlex.quote(os.path.realpath(path))
    return f"replace the link by the file: cp --remove-destination {target} {shlex.quote(path)}"


def _message(author: Mailbox) -> Message:
    parts = iter([b"From: " + author.address + b"\n\n"])
    return Message(lambda size: next(parts, b""))
