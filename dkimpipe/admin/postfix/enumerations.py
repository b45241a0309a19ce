"""Parameters with a fixed set of words: with another word the program that reads it does not start.

Unlike numbers and times, a program reads these words only once it opens its files, so it cannot be asked. The
words are those of postconf(5) up to Postfix 3.11.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.admin.postfix.syntax import split

_LATEST = (3, 11)
_ENVELOPE, _HEADER = ("envelope_sender", "envelope_recipient"), ("header_sender", "header_recipient")
_DELIVERED = ("alias", "forward", "include")
_LEVELS = ("none", "may", "encrypt", "dane", "dane-only", "fingerprint", "verify", "secure")
_PREFERENCE, _DNS = ("ipv4", "ipv6", "any"), ("disabled", "enabled", "dnssec")
_SMTP, _SMTPD, _CLEANUP = "smtp(8)", "smtpd(8)", "cleanup(8)"
# The parameters with a list of words: those words, and the program.
_LISTS: dict[str, tuple[Sequence[str], str]] = {
    "allow_mail_to_commands": (_DELIVERED, "local(8)"),
    "allow_mail_to_files": (_DELIVERED, "local(8)"),
    "canonical_classes": ((*_ENVELOPE, *_HEADER), _CLEANUP),
    "sender_canonical_classes": ((*_ENVELOPE, *_HEADER), _CLEANUP),
    "recipient_canonical_classes": ((*_ENVELOPE, *_HEADER), _CLEANUP),
    "masquerade_classes": ((*_ENVELOPE, *_HEADER), _CLEANUP),
    "propagate_unmatched_extensions": (
        ("canonical", "virtual", "alias", "forward", "include", "generic"),
        _CLEANUP,
    ),
    "receive_override_options": (
        ("no_unknown_recipient_checks", "no_address_mappings", "no_header_body_checks", "no_milters"),
        "smtpd(8)",
    ),
    "smtp_host_lookup": (("dns", "native"), _SMTP),
}
# The same for parameters with one word.
_SINGLE: dict[str, tuple[Sequence[str], str]] = {
    "smtp_address_preference": (_PREFERENCE, _SMTP),
    "smtp_dns_support_level": (_DNS, _SMTP),
    "smtp_tls_security_level": (_LEVELS, _SMTP),
    "smtpd_tls_security_level": (_LEVELS, _SMTPD),
    **{
        f"postscreen_{test}_action": (("ignore", "enforce", "drop"), "postscreen(8)")
        for test in ("denylist", "dnsbl", "greet", "pipelining", "non_smtp_command", "bare_newline")
    },
}
_ANYWHERE = {**_LISTS, **_SINGLE}


def findings(postconf: Postconf) -> Iterator[Finding]:
    """Yield the words that Postfix does not know."""
    for service, settings in {"": postconf.explicit, **postconf.overrides}.items():
        for parameter in (each for each in settings if each in _ANYWHERE and postconf.version <= _LATEST):
            known, program = _ANYWHERE[parameter]
            words = postconf.words(parameter, service)
            unknown = [word for word in words if word.lower() not in known]
            if unknown:
                place = f"{service}/{parameter}" if service else parameter
                program = f"{postconf.services[service].command}(8)" if service else program
                why = f"{', '.join(unknown)} is not one of {', '.join(known)}"
                what = f"{place}: {program} does not start: {why}"
                yield Finding(what, _hint(postconf, place, settings[parameter], known))


def _hint(postconf: Postconf, place: str, value: str, known: Sequence[str]) -> str:
    """Return the command that corrects the words that are similar to others, and leaves out the rest."""
    words = [word for word in split(value, ",") if word.startswith("$") or _meant(word, known)]
    new = [word if word.startswith("$") else _meant(word, known) for word in words]
    is_own = "/" in place
    if new:
        return postconf.command(Change("-P" if is_own else "-e", f"{place}={','.join(new)}", ""))
    return postconf.command(Change("-PX" if is_own else "-X", place, ""))


def _meant(word: str, known: Sequence[str]) -> str:
    return next(iter(difflib.get_close_matches(word.lower(), known, 1, 0.75)), "")
