"""Files written for DKIMproxy 1.4.1 that have a different effect here, for administrators who migrate.

The reference is DKIMproxy's own code, with the signatures of Mail::DKIM, even where its manual differs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from dkimpipe import senders
from dkimpipe.admin.findings import Finding
from dkimpipe.admin.maps.entries import BY_LIST, Line, canonical
from dkimpipe.config import CONF_FILE, Settings
from dkimpipe.errors import ConfigError
from dkimpipe.files import Place
from dkimpipe.senders import Signature

_MACRO = re.compile(r"\$(\w+)")
_DOLLAR = re.compile(r"\$\$\w")
# Options that DKIMproxy ignores, and their effect here.
_OPTIONS = {
    "headers": "h= had no effect in DKIMproxy; here it names the fields that are signed",
    "lifetime": "x= had no effect in DKIMproxy; here the signature expires",
    "timestamp": "t= had no effect in DKIMproxy; here it says whether to add the signing time",
}
_NO_ALGORITHM = "dkim without a= was rsa-sha1 in DKIMproxy; here it follows from the key, with sha256"


def directives(settings: Settings) -> Iterator[Finding]:
    """Yield the differences for the conf file, in no particular order."""
    place = _place_of_sender_choice(settings)
    if place and "match" not in settings.values:
        yield _warning(
            f"{place}: DKIMproxy preferred Sender to From; here From comes before Sender",
            "match sender,from restores DKIMproxy's behaviour",
        )
    if "sender_map" in settings.values:
        yield _warning(
            f"{settings.places['sender_map']}: for a+b@example.com DKIMproxy looked up neither a@example.com "
            "nor example.com; here both match"
        )
    if "identity" in settings.values:
        yield _warning(
            f"{settings.places['identity']}: identity had no effect in DKIMproxy; here it is i= of each dkim "
            "signature that has none"
        )
    for domain in settings.get("domain").split(","):
        if domain.strip() != domain:
            yield _warning(
                f"{settings.places['domain']}: DKIMproxy took the space before {domain.strip()} as part of "
                "it, and never signed; here it signs"
            )
    if "on_error" not in settings.values and not settings.yes("reject_error"):
        where = settings.places.get("reject_error") or settings.get("conf_file", CONF_FILE)
        yield _warning(
            f"{where}: after an error DKIMproxy passed mail on unsigned; here it is deferred",
            "on_error accept restores DKIMproxy's behaviour",
        )


def _place_of_sender_choice(settings: Settings) -> Place | None:
    """Return the place of a setting that depends on the chosen address, if there is any."""
    if "sender_map" in settings.values:
        return settings.places["sender_map"]
    if "," in settings.get("domain"):
        return settings.places["domain"]
    return next((place for text, place in settings.signatures if "$sender" in text), None)


def entry(line: Line) -> Iterator[Finding]:
    """Yield the differences for a map entry, or of a signature in the conf file."""
    place = line.place
    if line.key != line.key.lower():
        yield _warning(
            f"{place}: DKIMproxy matched nothing with {line.key}, which has upper case; here it matches"
        )
    if line.key.startswith("*@"):
        yield _warning(f"{place}: DKIMproxy matched nothing with {line.key}; here it is a pattern")
    if not line.key.isascii():
        a_labels = canonical(line.key).decode("utf-8", "replace")
        yield _warning(f"{place}: DKIMproxy did not know {line.key} as {a_labels}; here they are the same")
    if len(line.parts) > 1:
        yield _warning(f"{place}: DKIMproxy ignored the continuation lines of this entry; here they apply")
    try:
        signatures = line.signatures()
    except ConfigError:  # it is reported as an error
        return
    for signature in signatures:
        for what in (*_options(signature), *_keydomain(line, signature)):
            yield _warning(f"{place}: {what}")
        if line.by == BY_LIST and "$sender" in _domain_and_identity(signature):
            yield _warning(
                f"{place}: $sender was the address of Sender in DKIMproxy; here it is that of From"
            )


def _options(signature: Signature) -> Iterator[str]:
    if signature.type == "dkim" and "algorithm" not in signature.options:
        yield _NO_ALGORITHM
    for name, what in _OPTIONS.items():
        if name in signature.options:
            yield what
    for letter in ("d", "i"):
        value = signature.options.get(senders.LONG_NAMES[letter], "")
        if _DOLLAR.search(value):
            yield f"{letter}={value}: DKIMproxy took the second dollar as a macro; here $$ is one dollar"
        elif len(_MACRO.findall(value)) > 1:
            yield f"{letter}={value}: DKIMproxy expanded only the first macro; here all are expanded"


def _keydomain(line: Line, signature: Signature) -> Iterator[str]:
    """Yield the differences for d= or i= taken from the key."""
    if "domain" in signature.options and "$key" not in _domain_and_identity(signature):
        return
    key = canonical(line.key).decode("utf-8", "replace")
    parent = key.partition(".")[2]
    if key == ".":
        yield "d= of the key . was a dot in DKIMproxy; here it is the sender's domain"
    elif line.by == BY_LIST and "." not in parent:
        here = key if parent else "the sender's domain"
        yield f"for the List-Id {key} itself DKIMproxy signed d={parent or key}; here it is d={here}"


def _domain_and_identity(signature: Signature) -> str:
    return " ".join([signature.options.get("domain", ""), signature.options.get("identity", "")])


def _warning(what: str, hint: str = "") -> Finding:
    return Finding(what, hint, "warning")
