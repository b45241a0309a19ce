"""The outcome of each signature of an entry: complete with its settings, or the reason why it is not made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from dkimpipe import senders
from dkimpipe.admin.maps import domains
from dkimpipe.admin.maps.entries import BY_LIST, Line
from dkimpipe.admin.maps.expansion import key_files, template_of
from dkimpipe.admin.maps.samples import samples
from dkimpipe.config import Settings
from dkimpipe.errors import ConfigError, NoKey, NotSigned, one_line
from dkimpipe.files import exists
from dkimpipe.options import DEFER, SignatureOptions, complete, macros
from dkimpipe.senders import Signature


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
        from dkimpipe import publickey  # only here: it needs the cryptography package

        return publickey.record_name(self.options.selector.decode(), self.options.domain.decode())


class Outcome(NamedTuple):
    """One signature of an entry, and its outcome.

    ``signature``  as written; None if it cannot be parsed
    ``use``        the signature complete, or why not: each error begins with its place
    """

    line: Line
    signature: Signature | None
    use: Use | ConfigError | NotSigned


def outcomes(found: Iterable[Line], settings: Settings) -> Iterator[Outcome]:
    """Yield all signatures of these entries: all that the settings can make, of ``configured.lines``."""
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
                yield Outcome(line, signature, _completed(line, signature, settings))
        except (ConfigError, NotSigned) as reason:
            yield Outcome(line, signature, reason)


def _has_key(line: Line, signature: Signature, settings: Settings) -> bool:
    """Return whether there is a key file for the one domain of an entry, or has to be."""
    ((sender, domain),) = samples(line)
    options = complete(signature, settings, macros(sender, domain))
    return options.missing == DEFER or exists(options.keyfile)


def _completed(line: Line, signature: Signature, settings: Settings) -> Use:
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
