"""What a message costs as something grows: its size, its header, its recipients, its signatures, the map."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from figures import Dimension, Figures
from listener import Listener
from processes import LINE, MESSAGE, OPENSSL, PROJECT, RSA, Command, Place, dkimsign, in_turn
from progress import Progress

SIGN, VERIFY = "dkimpipe", "dkimpipe verify"
SIZES = Dimension(
    "sizes",
    "Size of the message",
    "cpu",
    {
        1_000: "1 KB",
        10_000: "10 KB",
        100_000: "100 KB",
        10**6: "1 MB",
        10**7: "10 MB",
        25 * 10**6: "25 MB",
        10**8: "100 MB",
    },
    (SIGN, VERIFY, "openssl dgst and cat", "dkimsign"),
)
MAPS = Dimension(
    "maps",
    "Lines in the senders file",
    "cpu",
    {each: f"{each:,} lines" if each > 1 else "1 line" for each in (1, 100, 10_000, 100_000, 1_000_000)},
    ("one signature", "two signatures", "with an index"),
)
SIGNATURES = Dimension(
    "signatures",
    "Signatures",
    "cpu",
    {each: f"{each} signature{'s'[: each > 1]}" for each in (1, 2, 5, 10)},
    (SIGN, VERIFY),
)
RECIPIENTS = Dimension(
    "recipients",
    "Recipients",
    "cpu",
    {each: f"{each:,} recipient{'s'[: each > 1]}" for each in (1, 10, 100, 500, 1_000)},
    ("sendmail(1)", "relay"),
)
FIELDS = Dimension(
    "fields",
    "Header fields",
    "cpu",
    {each: f"{each:,} fields" for each in (10, 100, 1_000, 2_500, 5_000)},
    (SIGN, VERIFY),
)


def sizes(place: Place, rounds: int, progress: Progress) -> Figures:
    """Measure messages of text of all sizes, to sign and, signed, to verify."""
    commands: dict[str, Command] = {}
    messages: dict[str, Path] = {}
    signer = place.dkimpipe("sizes", RSA)
    for size, label in SIZES.points.items():
        path = place.write(f"text{size}", MESSAGE + LINE * ((size - len(MESSAGE)) // len(LINE)))
        signed = place.signed(f"text{size}", path, RSA)
        for name, command, message in (
            (SIGN, signer, path),
            (VERIFY, place.verifier(), signed),
            ("openssl dgst", [OPENSSL, "dgst", "-sha256"], path),
            ("cat", ["/bin/cat"], path),
            ("dkimsign", dkimsign(place), path),
        ):
            commands[f"{name}, {label}"] = command
            messages[f"{name}, {label}"] = message
    measured = in_turn(commands, messages, rounds, progress)
    for label in SIZES.points.values():
        openssl, cat = (measured.pop(f"{name}, {label}") for name in ("openssl dgst", "cat"))
        measured[f"openssl dgst and cat, {label}"] = {
            "cpu": [one + other for one, other in zip(openssl["cpu"], cat["cpu"])],
            "memory": list(map(max, openssl["memory"], cat["memory"])),
        }
    for path in messages.values():
        path.unlink(missing_ok=True)
    return {"sizes": measured}


_ITEM = "dkim(s={0},key=/etc/dkimpipe/keys/d{1}.example.{0}.pem)"


def maps(place: Place, rounds: int, progress: Progress) -> Figures:
    """Measure senders files of one line to a million, scanned and with an index; the last line applies."""
    message = place.write("message", MESSAGE + LINE)
    commands: dict[str, Command] = {}
    for lines in MAPS.points:
        for series, selectors in (("one signature", ("mail",)), ("two signatures", ("202611", "202611e"))):
            items = ", ".join(_ITEM.format(selector, "{0}") for selector in selectors)
            before = "".join(f"d{n}.example {items.format(n)}\n" for n in range(lines - 1))
            if series == "one signature" or lines <= 100_000:
                name = MAPS.name(series, lines)
                commands[name] = place.dkimpipe(f"{lines}.{len(selectors)}", RSA, before=before)
            if series == "one signature" and lines >= 100_000:
                indexed = place.dkimpipe(f"{lines}.indexed", RSA, before=before)
                command = [sys.executable, "-m", "dkimpipe", "index", indexed[-1]]
                subprocess.run(command, check=True, cwd=PROJECT, stdout=subprocess.DEVNULL)
                commands[MAPS.name("with an index", lines)] = indexed
    return {"maps": in_turn(commands, dict.fromkeys(commands, message), rounds, progress)}


def signatures(place: Place, rounds: int, progress: Progress) -> Figures:
    """Measure several signatures of one key on a message."""
    message = place.write("message", MESSAGE + LINE)
    commands: dict[str, Command] = {}
    messages: dict[str, Path] = {}
    for count in SIGNATURES.points:
        items = [RSA] * count
        for name, command, each in (
            (SIGN, place.dkimpipe(f"times{count}", *items), message),
            (VERIFY, place.verifier(), place.signed(f"times{count}", message, *items)),
        ):
            commands[SIGNATURES.name(name, count)] = command
            messages[SIGNATURES.name(name, count)] = each
    return {"signatures": in_turn(commands, messages, rounds, progress)}


def fields(place: Place, rounds: int, progress: Progress) -> Figures:
    """Measure headers of many fields, short ones: header_size_limit of Postfix is 102400 octets."""
    commands: dict[str, Command] = {}
    messages: dict[str, Path] = {}
    for count in FIELDS.points:
        text = b"".join(
            b"X-%d: a field\n" % number if number % 2 else b"Received: by a\n" for number in range(count - 5)
        )
        plain = place.write(f"fields{count}", text + MESSAGE + LINE)
        for name, command, message in (
            (SIGN, place.dkimpipe("fields", RSA), plain),
            (VERIFY, place.verifier(), place.signed(f"fields{count}", plain, RSA)),
        ):
            commands[FIELDS.name(name, count)] = command
            messages[FIELDS.name(name, count)] = message
    return {"fields": in_turn(commands, messages, rounds, progress)}


def recipients(place: Place, rounds: int, progress: Progress) -> Figures:
    """Measure one message for many, given to a sendmail(1) that only reads, and by SMTP."""
    message = place.write("message", MESSAGE + LINE)
    reads = place.write("sendmail", b"#!/bin/sh\nexec cat >/dev/null\n")
    reads.chmod(0o755)
    with Listener() as listener:
        back = {"sendmail(1)": f"--sendmail={reads}", "relay": f"--relay={listener.address}"}
        commands = {
            RECIPIENTS.name(series, count): [
                *place.dkimpipe("recipients", RSA),
                *(option, "--syslog=no", "-f", "alice@example.com", "--"),
                *(f"bob{number}@example.net" for number in range(count)),
            ]
            for count in RECIPIENTS.points
            for series, option in back.items()
        }
        return {"recipients": in_turn(commands, dict.fromkeys(commands, message), rounds, progress)}
