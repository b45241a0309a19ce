"""Postfix's queue, by postqueue(1)."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from dkimpipe.admin.postfix.postconf import Postconf


def messages(postconf: Postconf) -> list[dict[str, Any]]:
    """Return the messages in the queue as ``postqueue -j`` describes them.

    None if postqueue(1) fails, is too old (before Postfix 3.1), or does not let this user look.
    """
    try:
        done = subprocess.run([*_command(postconf), "-j"], capture_output=True, check=False)  # noqa: S603
        return [json.loads(line) for line in done.stdout.splitlines()]
    except (OSError, ValueError):
        return []


def names(postconf: Postconf) -> dict[str, str]:
    """Return the queue of each message that is in one, such as ``deferred`` or ``hold``, by queue ID."""
    return {each["queue_id"]: each["queue_name"] for each in messages(postconf)}


def retry(postconf: Postconf, number: str) -> None:
    """Let Postfix try a deferred message again."""
    subprocess.run([*_command(postconf), "-i", number], capture_output=True, check=False)  # noqa: S603


def _command(postconf: Postconf) -> list[str]:
    return ["postqueue", "-c", str(postconf.directory)]
