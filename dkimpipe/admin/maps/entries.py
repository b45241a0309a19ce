"""Every signature that the settings can make, from all lines of the maps and from the conf file itself.

The filter itself looks up a single entry (``senders.lookup``); both read lines by ``senders.physical_lines``.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import BinaryIO, Callable, NamedTuple

from dkimpipe import choose, senders
from dkimpipe.address import Mailbox, to_a_labels, to_lower
from dkimpipe.admin.maps import domains
from dkimpipe.config import CONF_FILE, Settings
from dkimpipe.errors import ConfigError, NoKey, NotSigned, one_line
from dkimpipe.files import Place, exists, open_file, why
from dkimpipe.options import DEFER, SignatureOptions, complete, macros
from dkimpipe.senders import PhysicalLine, Signature
from dkimpipe.templates import Template, is_host_name

BY_SENDER, BY_LIST, BY_NOTHING = "sender", "list", "nothing"  # what chooses an entry


class Line(NamedTuple):
    """An entry as written in a map, or its equivalent from the conf file or the command line.

    ``place``  of its first line
    ``key``    as written: in any case, in either spelling of a domain; empty where all mail is signed
    ``parts``  the lines after the key, without comments: offset in the file, and text
    ``by``     what chooses it: the address of the sender, the List-Id, or nothing
    ``only``   limits it to one sender's domain, with the value of ``$keydomain``: see ``expanded``

    Bytes that are not valid UTF-8 are lone surrogates.
    """

    place: Place
    key: str
    parts: tuple[tuple[int, str], ...]
    by: str = BY_SENDER
    only: tuple[bytes, bytes] | None = None

    @property
    def text(self) -> str:
        """The text after the key, with continuation lines joined by a space."""
        return " ".join([text for _, text in self.parts])

    @property
    def is_for_all(self) -> bool:
        """Whether it can sign for a sender of any domain."""
        return self.by != BY_SENDER or self.key == "."

    def items(self) -> list[str]:
        """Return its signatures as text, one at least. Raises ConfigError."""
        senders.refuse_long(self.text, self.place)
        return [item or "," for item in senders.split(self.text)] or [""]  # "," fails as an empty one does

    def signatures(self) -> list[Signature]:
        """Return the signatures that it lists. Raises ConfigError."""
        return [each for item in self.items() for each in senders.parse(item, self.place)]


def maps(settings: Settings) -> dict[str, str]:
    """Return the maps that the filter reads, in order, each with what chooses an entry in it.

    Raises ConfigError if the directory of the senders file cannot be read.
    """
    found = {}
    for path, by in named_maps(settings).items():
        found[path] = by
        found.update(dict.fromkeys(senders.more_maps(path) if by == BY_SENDER else (), by))
    return found


def named_maps(settings: Settings) -> dict[str, str]:
    """Return the same without those in the directory of the senders file."""
    paths = {choose.sender_map(settings): BY_SENDER, settings.get("listid_map"): BY_LIST}
    return {path: by for path, by in paths.items() if path}


def files(settings: Settings) -> str:
    """Return the names of the maps, or that of the conf file, to begin an error with."""
    names = []
    for path, by in named_maps(settings).items():
        directory = senders.directory_of(path)
        names += [path, *([directory] if by == BY_SENDER and exists(directory) else [])]
    return ", ".join(names) or settings.get("conf_file", CONF_FILE)


def entries(path: str, by: str = BY_SENDER) -> Iterator[Line]:
    """Yield all entries of a map in their order, those too whose key comes again. Raises ConfigError.

    A line that continues nothing belongs to no entry.
    """
    with _opened(path) as file:
        yield from entries_of(file, path, by)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    descriptor, _ = open_file(path, "map")
    try:
        with open(descriptor, "rb") as file:
            yield file
    except OSError as error:
        raise ConfigError(f"map {path}: {why(error)}") from None


def entries_of(lines: Iterable[bytes], path: str, by: str = BY_SENDER) -> Iterator[Line]:
    """Yield the entries of lines that are, or will be, in this file."""
    first: PhysicalLine | None = None
    parts: list[tuple[int, str]] = []
    for line in senders.physical_lines(lines):
        if not line.continues:
            if first and first.key:
                yield Line(Place(path, first.number), first.key, tuple(parts), by)
            first, parts = line, []
        if line.value:
            parts.append((_offset_of_value(line), line.value))
    if first and first.key:
        yield Line(Place(path, first.number), first.key, tuple(parts), by)


def _offset_of_value(line: PhysicalLine) -> int:
    before = len(line.text) - len(line.text[len(line.key) :].lstrip())
    return line.offset + len(line.text[:before].encode("utf-8", "surrogateescape"))


def orphans(path: str) -> list[Place]:
    """Return the places of the lines that would continue an entry, but precede the first one.

    Raises ConfigError.
    """
    with _opened(path) as file:
        before = itertools.takewhile(lambda line: line.continues, senders.physical_lines(file))
        return [Place(path, line.number) for line in before]


def canonical(key: str) -> bytes:
    """Return a key in lower case and its domain in A-labels: so keys that match the same are the same."""
    local_part, at, domain = _lower(key).rpartition(b"@")
    try:
        return local_part + at + to_a_labels(domain)
    except ValueError:  # no UTF-8, and no domain
        return local_part + at + domain


def without_map(settings: Settings) -> Iterator[Line]:
    """Yield the entries of ``domain`` and ``signature``, which apply to mail without an entry in a map.

    Raises ConfigError.
    """
    names = choose.domains(settings)
    for domain in dict.fromkeys(names):
        for text, place in choose.signatures_without_map(settings):
            by = BY_SENDER if len(names) > 1 else BY_NOTHING
            if domain or by == BY_NOTHING:
                key = domain.decode("utf-8", "surrogateescape")
                yield Line(place, key, ((0, text),), by)


def effective(path: str, by: str = BY_SENDER) -> list[Line]:
    """Return the entries of a map that apply: of several with one key the last. Raises ConfigError."""
    return list({canonical(line.key): line for line in entries(path, by)}.values())


def lines(settings: Settings) -> list[Line]:
    """Return all that can choose signatures: the entries of the maps, and their equivalents.

    Raises ConfigError.
    """
    found: dict[tuple[str, bytes], Line] = {}
    for path, by in maps(settings).items():
        for line in effective(path, by):
            found.setdefault((by, canonical(line.key)), line)
    return [*found.values(), *without_map(settings)]


def requested(settings: Settings, keys: Sequence[str]) -> dict[Line, bool]:
    """Return all that can choose signatures, and whether it is one of these keys.

    No keys mean all of them; a domain also means its patterns, and its part of an entry with macros in key=.
    Raises ConfigError for an unknown key.
    """
    found = expanded(lines(settings), settings)
    known = {name for line in found for name in _names(line)}
    wanted = {canonical(key): key for key in keys}
    for key, written in wanted.items():
        if key not in known:
            raise ConfigError(
                f"{files(settings)}: no entry for {one_line(written)}", _what_signs(settings, key)
            )
    return {line: not keys or not wanted.keys().isdisjoint(_names(line)) for line in found}


def _names(line: Line) -> set[bytes]:
    """Return what an entry can be asked for by: its key, for a pattern also its domain."""
    key = canonical(line.key)
    if line.only:
        return {key, line.only[0]}
    return {key, choose.domain_of_key(key)} if key.startswith(senders.AT_ANY) else {key}


def _what_signs(settings: Settings, key: bytes) -> str:
    local_part, _, domain = key.rpartition(b"@")
    path = choose.sender_map(settings)
    keys = choose.lookup_keys(Mailbox(local_part, domain))
    entry = senders.lookup_in_all(path, keys) if path else None
    return f"the entry that signs for it: {entry.key.decode('utf-8', 'replace')}" if entry else ""


def expanded(found: Sequence[Line], settings: Settings) -> list[Line]:
    """Return these entries, which must be all, and those whose key files depend on the sender also by domain.

    There is one for each domain that has a key file and no more specific entry; the entry itself then stands
    for its other signatures. Raises ConfigError.
    """
    keys = {canonical(line.key) for line in found if line.by == BY_SENDER}
    return [*found, *(each for line in found for each in _for_domains(line, keys, settings))]


def _for_domains(line: Line, keys: Container[bytes], settings: Settings) -> Iterator[Line]:
    only: set[tuple[bytes, bytes]] = set()
    for template in templates(line, settings):
        for file in key_files(line, template):
            only.update(_senders_of(line, file))
    own = canonical(line.key)
    for domain, keydomain in sorted(only):
        # An asterisk as local part: the entry of a single address is not that of the domain.
        looked_up = choose.lookup_keys(Mailbox(b"*", domain))
        if line.by != BY_SENDER or next((key for key in looked_up if key in keys), b"") == own:
            yield line._replace(only=(domain, keydomain))


def _senders_of(line: Line, file: domains.KeyFile) -> Iterator[tuple[bytes, bytes]]:
    """Yield the domains of the senders for whom an entry may use a file, with the value of ``$keydomain``."""
    domain = file.domains.get("senderdomain", file.domains.get("keydomain", "")).encode(
        "utf-8", "surrogateescape"
    )
    if is_host_name(domain):
        for keydomain in {domain if line.key == "." else each for _, each in samples(line)}:
            yield domain, keydomain


def key_files(line: Line, template: Template) -> list[domains.KeyFile]:
    """Return the files that fit a template of an entry. Raises ConfigError with its place."""
    try:
        return domains.key_files(template)
    except ConfigError as error:
        raise error.at(line.place) from None


def templates(line: Line, settings: Settings) -> list[Template]:
    """Return the templates of an entry's signatures whose key files depend on the sender."""
    found = []
    with contextlib.suppress(ConfigError):  # reported with the entry
        for signature in line.signatures():
            template = template_of(line, signature, settings)
            if template:
                found.append(template)
    return found


def template_of(line: Line, signature: Signature, settings: Settings) -> Template | None:
    """Return the macros of a signature's key file if they depend on the sender. Raises ConfigError."""
    given = (signature.options.get(name, settings.get(name)) for name in ("selector", "keyfile"))
    if not any("$" in text for text in given):
        return None
    paths = {}
    for sender, domain in samples(line._replace(only=None)):
        with contextlib.suppress(NotSigned):
            options = complete(signature, settings, macros(sender, domain))
            paths[options.keyfile] = options.template
    return next(iter(paths.values())) if len(paths) > 1 else None


class Use(NamedTuple):
    """A signature of an entry, complete, with a fixed domain.

    ``below``  whether its i= can be in a subdomain of d=
    """

    line: Line
    options: SignatureOptions
    below: bool

    @property
    def name(self) -> str:
        """The name of its record, without the last dot (RFC 6376 section 3.6.2.1)."""
        from dkimpipe import publickey

        return publickey.record_name(self.options.selector.decode(), self.options.domain.decode())


class Outcome(NamedTuple):
    """One signature of an entry, and what comes of it.

    ``signature``  as written; None if it cannot be parsed
    ``use``        the signature complete, or why not: each error begins with its place
    """

    line: Line
    signature: Signature | None
    use: Use | ConfigError | NotSigned


def outcomes(found: Iterable[Line], settings: Settings) -> Iterator[Outcome]:
    """Yield all signatures of these entries, such as all that the settings can make: ``lines(settings)``."""
    for line in found:
        try:
            for item in line.items():
                yield from _item_outcomes(line, item, settings)
        except ConfigError as error:
            yield Outcome(line, None, error)


def _item_outcomes(line: Line, item: str, settings: Settings) -> Iterator[Outcome]:
    try:
        signatures = senders.parse(item, line.place)
    except ConfigError as error:
        yield Outcome(line, None, error)
        return
    for signature in signatures:
        try:
            template = template_of(line, signature, settings)
            if template and not line.only:
                if not key_files(line, template):
                    raise NoKey(f"{line.place}: there is no key file {domains.pattern(template)}")
            elif not line.only or (template and _has_key(line, signature, settings)):
                yield Outcome(line, signature, use(line, signature, settings))
        except (ConfigError, NotSigned) as reason:
            yield Outcome(line, signature, reason)


def _has_key(line: Line, signature: Signature, settings: Settings) -> bool:
    """Return whether there is a key file for the one domain of an entry, or has to be."""
    ((sender, domain),) = samples(line)
    options = complete(signature, settings, macros(sender, domain))
    return options.missing == DEFER or exists(options.keyfile)


def use(line: Line, signature: Signature, settings: Settings) -> Use:
    """Return what the filter makes of a signature.

    Raises ConfigError, and NotSigned if it never signs, or if d= depends on the sender: then its record has
    no fixed name.
    """
    found: list[SignatureOptions] = []
    for sender, domain in samples(line):
        try:
            found.append(complete(signature, settings, macros(sender, domain)))
        except NotSigned as reason:
            if not found:
                raise NotSigned(f"{line.place}: {reason}") from None
            found = []
    if len({options.domain for options in found}) != 1:
        d = f"d={signature.options.get('domain', '$keydomain')}" + (
            f" of {one_line(line.key)}" if line.key else ""
        )
        on = "List-Id or sender" if line.by == BY_LIST else "the sender"
        raise NotSigned(f"{line.place}: {d} depends on {on}: its records have no fixed name")
    hosts = {options.identity.rpartition(b"@")[2] or options.domain for options in found}
    return Use(line, found[0], hosts != {found[0].domain})


def samples(line: Line) -> list[tuple[Mailbox, bytes]]:
    """Return senders that an entry is for, each with the domain that stands for ``$keydomain``.

    It is the only one, or two that differ in all that macros can stand for; the first is one that the
    domain of the key covers.
    """
    if line.only:
        return [(_sender(line.only[0]), line.only[1])]
    return _SAMPLES[line.by](canonical(line.key))


def _by_sender(key: bytes) -> list[tuple[Mailbox, bytes]]:
    if key == b".":
        return [(_sender(domain), domain) for domain in _TWO_DOMAINS]
    local_part, at, _ = key.rpartition(b"@")
    domain = choose.domain_of_key(key)
    if key.startswith(senders.AT_SUBDOMAINS):
        return [(_sender(below + b"." + domain), domain) for below in (b"a", b"b")]
    if key.startswith(senders.AT_ANY):
        return [(_sender(domain), domain)]
    if at:
        return [(Mailbox(local_part, domain), domain)]
    return [(_sender(domain), domain), (_sender(b"sub." + domain), domain)]


def _by_list(key: bytes) -> list[tuple[Mailbox, bytes]]:
    """Return a List-Id below the key, and one that is the key."""
    cases = ((b"x." + key, _TWO_DOMAINS[0] if key == b"." else key), (key, _TWO_DOMAINS[1]))
    return [
        (_sender(domain), choose.domain_of_list(key, list_id, _sender(domain))) for list_id, domain in cases
    ]


def _by_nothing(key: bytes) -> list[tuple[Mailbox, bytes]]:
    return [(_sender(domain), key) for domain in (key or _TWO_DOMAINS[0], _TWO_DOMAINS[1])]


_TWO_DOMAINS = (b"a.example", b"b.example")
_SAMPLES: dict[str, Callable[[bytes], list[tuple[Mailbox, bytes]]]] = {
    BY_SENDER: _by_sender,
    BY_LIST: _by_list,
    BY_NOTHING: _by_nothing,
}


def _sender(domain: bytes) -> Mailbox:
    return Mailbox(b"postmaster", domain)


def _lower(text: str) -> bytes:
    return to_lower(text.encode("utf-8", "surrogateescape"))
