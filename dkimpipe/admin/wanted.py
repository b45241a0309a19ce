"""What Postfix must be told, and why: one table, from which a given configuration's missing edits follow."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import dkimpipe
from dkimpipe.admin.postconf import Change, Postconf

SERVICE = "dkimpipe/unix"
ENVELOPE = "-f ${sender} -- ${recipient}"
SIZE_MARGIN = 16384
SUBMISSION = ("submission/inet", "submissions/inet", "smtps/inet", "587/inet", "465/inet")

# Name, value, why. A value that begins with + is a list of words that must be among those that stand there.
FOR_SUBMISSION = (
    ("content_filter", "dkimpipe:dummy", "nothing is signed"),
    ("receive_override_options", "+no_address_mappings", "aliases and always_bcc apply twice: doubled mail"),
    ("local_header_rewrite_clients", "static:all", "missing Date and Message-ID stay missing, and unsigned"),
    (
        "smtpd_discard_ehlo_keywords",
        "+dsn,smtputf8,silent-discard",
        "senders ask for notices that get lost, and for SMTPUTF8 that few hosts take",
    ),
)
FOR_PICKUP = (
    (
        "receive_override_options",
        "+no_header_body_checks,no_milters",
        "signed mail is checked, changed or signed again",
    ),
    (
        "smtputf8_autodetect_classes",
        "verify",
        "an 8-bit Subject makes signed mail SMTPUTF8, which hosts bounce",
    ),
)
FOR_MAIN = (
    ("dkimpipe_time_limit", "300s", "the filter gives up after 280 s; past the limit mail bounces"),
    ("dkimpipe_destination_recipient_limit", "1000", "one message to many is signed once per 50 recipients"),
    ("disable_mime_output_conversion", "yes", "8-bit text is converted after signing for old next hops"),
    ("header_size_limit", "1048576", "a field near the limit grows past it and is cut after signing"),
)
STATUS_FILTER = r"regexp:{{/^5(\.3\..*)/ 4$$1}}"  # Postfix 3.7: tables in line


def missing(postconf: Postconf, user: str) -> list[Change]:
    """Return the edits that this configuration needs; none if all stands there already."""
    services = postconf.services()
    changes = []
    if not _is_good(services.get(SERVICE, "")):
        changes.append(Change("-M", f"{SERVICE}={service_line(user)}", "there is no filter to give mail to"))
    for service in SUBMISSION:
        if service in services:
            size = (
                "message_size_limit",
                _size_limit(postconf),
                "mail grows past the limit by its signatures",
            )
            changes += _for_service(postconf, service, (*FOR_SUBMISSION, size))
    changes += _for_service(postconf, "pickup/unix", FOR_PICKUP)
    standing = postconf.explicit()
    for name, value, why in FOR_MAIN:
        if standing.get(name) != value:
            changes.append(Change("-e", f"{name}={value}", why))
    return changes


def service_line(user: str) -> str:
    """Return the line of master.cf for the filter, by the start that costs least."""
    interpreter = os.path.realpath(sys.executable)
    program = Path(dkimpipe.__file__).resolve().with_name("__main__.py")
    return (
        f"dkimpipe unix - n n - {2 * (os.cpu_count() or 1)} pipe"
        f" -o {{pipe_delivery_status_filter={STATUS_FILTER}}}"
        f" flags=q null_sender= user={user} argv={interpreter} -IS {program} {ENVELOPE}"
    )


def _is_good(line: str) -> bool:
    """Tell whether a service dkimpipe that stands has what it must have; the rest of it is its owner's."""
    return (
        " flags=q" in line
        and " null_sender= " in line
        and f"pipe_delivery_status_filter={STATUS_FILTER}" in line
        and line.endswith(ENVELOPE)
    )


def _for_service(
    postconf: Postconf, service: str, settings: tuple[tuple[str, str, str], ...]
) -> list[Change]:
    standing = postconf.overrides(service)
    changes = []
    for name, value, why in settings:
        wanted = value
        if value.startswith("+"):
            words = [word for word in standing.get(name, "").replace(",", " ").split() if word]
            wanted = ",".join([*words, *(word for word in value[1:].split(",") if word not in words)])
            standing[name] = ",".join(words)
        if standing.get(name) != wanted:
            changes.append(Change("-P", f"{service}/{name}={wanted}", why))
    return changes


def _size_limit(postconf: Postconf) -> str:
    """Return the limit for submission: that of main.cf less a margin; 0 is no limit in both."""
    limit = int(postconf.parameter("message_size_limit"))
    return str(max(1, limit - SIZE_MARGIN)) if limit else "0"
