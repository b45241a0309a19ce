"""Parameters with a fixed set of words: with another word the program that reads it does not start.

Unlike numbers and times, a program reads these words only once it opens its files, so it cannot be asked. The
words are those of postconf(5) up to Postfix 3.11.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import sources, values
from dkimpipe.admin.postfix.postconf import Postconf
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
# Other words for the levels of TLS.
_OTHER_WORDS = {
    **dict.fromkeys(("on", "yes", "true", "enable", "enabled", "optional", "opportunistic"), "may"),
    **dict.fromkeys(("must", "require", "required", "mandatory", "force", "enforce", "always"), "encrypt"),
    **dict.fromkeys(("off", "no", "false", "disable", "disabled", "never"), "none"),
}


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
                written = split(_plain(settings[parameter]), ",")
                new = ",".join(filter(None, (_meant(postconf, service, word, known) for word in written)))
                yield Finding(what, postconf.setting_or_removal(parameter, service, new))


def _plain(value: str) -> str:
    return values.plain(value) if "$" not in value else value


def _meant(postconf: Postconf, service: str, word: str, known: Sequence[str]) -> str:
    """Return the word that was meant; empty if that is not known."""
    if word.startswith("$"):
        return word
    found = values.meant(word.strip("\"'"), known)
    if found or known is not _LEVELS:
        return found
    level = _OTHER_WORDS.get(word.lower(), "")
    port = postconf.services[service].port if service else ""
    return "encrypt" if level == "may" and port in sources.SUBMISSION_PORTS else level
