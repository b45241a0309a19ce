"""The kinds of mail that can be signed, and the choice of them.

``submission``  mail from users: the services on ports 587 and 465
``networks``    mail to port 25 from clients in mynetworks
``bounces``     Postfix's own notices
``local``       mail that programs on this host give to sendmail(1)

Mail from outside is never signed.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dkimpipe.errors import ConfigError

KINDS = SUBMISSION, NETWORKS, BOUNCES, LOCAL = ("submission", "networks", "bounces", "local")
MEANING = {
    SUBMISSION: "mail from users who log in",
    NETWORKS: "mail to port 25 from mynetworks",
    BOUNCES: "notices from Postfix itself",
    LOCAL: "mail from programs on this host by sendmail(1): cron, PHP",
}
INITIAL = (SUBMISSION, NETWORKS, BOUNCES)  # in a new installation; local changes the way back


class Plan(NamedTuple):
    """How Postfix is to be set up for a job.

    ``kinds``  what is to be signed, in the order of KINDS; nothing for the job that verifies
    ``relay``  the listener through which mail comes back, as HOST:PORT; empty for sendmail(1)
    """

    kinds: tuple[str, ...] = ()
    relay: str = ""


def parse(text: str) -> tuple[str, ...]:
    """Return the kinds in a list separated by commas, or all of them for ``all``. Raises ConfigError."""
    words = [word.strip().lower() for word in text.split(",")]
    for word in words:
        if word not in (*KINDS, "all"):
            raise ConfigError(f"--sign: '{word}' is not a kind of mail", f"use {', '.join(KINDS)}, or all")
    return KINDS if "all" in words else ordered(words)


def command(directory: Path, words: Sequence[str]) -> str:
    """Return the command by which mail of these kinds is signed as well."""
    return shlex.join(["dkimpipe", "postfix", "-c", str(directory), "--apply", "--sign", ",".join(words)])


def ordered(words: Sequence[str]) -> tuple[str, ...]:
    """Return these kinds in the order of KINDS, each once."""
    return tuple(kind for kind in KINDS if kind in words)
