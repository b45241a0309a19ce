"""What helps against a fatal error of Postfix, as far as its message tells."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from dkimpipe.admin.postfix import values
from dkimpipe.admin.postfix.syntax import parameters

# The settings and values that keep users out, or let in more than was meant, if a setting is removed.
_EFFECTS = {
    ("compatibility_level", "0"): "the defaults of old versions apply",
    ("inet_interfaces", "all"): "Postfix listens on all interfaces",
    ("smtp_tls_security_level", ""): "mail is sent without TLS",
    ("smtpd_sasl_auth_enable", "no"): "nobody can log in",
    ("smtpd_tls_auth_only", "no"): "passwords may come without TLS",
    ("smtpd_tls_security_level", ""): "there is no TLS",
    ("smtpd_tls_security_level", "may"): "clients may do without TLS",
    ("smtpd_tls_security_level", "none"): "there is no TLS",
    ("smtpd_tls_wrappermode", "no"): "clients that begin with TLS cannot connect",
}
# The words of settings that stop postconf(1), too.
_WORDS = {
    "inet_protocols": ("all", "ipv4", "ipv6"),
    "mynetworks_style": ("class", "host", "subnet"),
}
_SHORT = 3  # characters; a value of so few may be a word of any message


def without(parameter: str, value: str | None) -> str:
    """Return what then applies, in brackets, for the comment before a command that removes a setting.

    ``value``  of main.cf, or the default; None if it is not known
    """
    if value is None or "${" in value:
        return "(then its default applies)"
    effect = _EFFECTS.get((parameter, value), "")
    return f"(then {parameter} is {value or 'empty'}{effect and f', and {effect}'})"


def for_fatal_error(
    directory: Path, message: str, defaults: Mapping[str, str], settings: Mapping[str, str] | None = None
) -> str:
    """Return the command that removes the cause of a fatal error in main.cf; empty if it is not known.

    It is a setting that the message names, or one whose value it shows, or the line that it names.

    ``settings``  those of main.cf, with macros expanded; without them, they are read as written
    """
    if "Permission denied" in message and os.geteuid() != 0:
        return "# run it as root"
    if found := re.search(r"(main|master)\.cf[,:] line (\d+): (missing|bad field)", message):
        return _without_line(directory / f"{found[1]}.cf", int(found[2]))
    if settings is None:
        settings = parameters("\n".join(line for line in _lines(directory / "main.cf") if line[:1].isalpha()))
    text = re.sub(r"^\w+: (fatal|warning): ", "", message)
    words = [word.rstrip(":.") for word in re.findall(r"[\w./:-]+", text)]
    quoted = re.findall(r'"([^"]+)"', text)
    named = [name for name in settings if name in words]
    shown = [name for name, value in settings.items() if _is_shown(value, words, quoted)]
    if not named and not shown:
        return ""
    name = (named or shown)[0]
    command = ["postconf", "-c", str(directory)]
    value = values.corrected(name, settings[name], message)
    value = value or values.meant(values.plain(settings[name]), _WORDS.get(name, ()))
    if value and value != settings[name]:
        return shlex.join([*command, "-e", f"{name}={value}"])
    removal = shlex.join([*command, "-X", name])
    return f"# correct it, or remove it {without(name, defaults.get(name))}:\n{removal}"


def _is_shown(value: str, words: list[str], quoted: list[str]) -> bool:
    """Return whether a message has a value: as a word, if it is no short one, or in quotes; or its macro."""
    if value in quoted or (value in words and len(value) > _SHORT):
        return True
    return any("$" in each and each in value for each in quoted)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _without_line(path: Path, number: int) -> str:
    """Return the command that turns a line into a comment, if no other line continues it."""
    lines = _lines(path)
    following = lines[number] if number < len(lines) else ""
    if following[:1].isspace():
        return f"# correct line {number} of {path}"
    return f"sed -i '{number}s/^/# /' {shlex.quote(str(path))}"
