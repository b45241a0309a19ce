"""Entries whose key files depend on the sender, also by domain: one for each domain that has a key file."""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterator, Sequence

from dkimpipe import choose
from dkimpipe.address import Mailbox
from dkimpipe.admin.maps import domains
from dkimpipe.admin.maps.entries import BY_SENDER, Line, canonical
from dkimpipe.admin.maps.samples import samples
from dkimpipe.config import Settings
from dkimpipe.errors import ConfigError, NotSigned
from dkimpipe.options import complete, macros
from dkimpipe.senders import Signature
from dkimpipe.templates import Template, is_host_name


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
