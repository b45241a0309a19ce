"""Postfix's queue, by postqueue(1)."""

from __future__ import annotations

import json
import subprocess

from dkimpipe.admin.postfix.postconf import Postconf


def names(postconf: Postconf) -> dict[str, str]:
    """Return the queue of each message that is in one, such as ``deferred`` or ``hold``, by queue ID.

    Nothing if postqueue(1) fails, or does not let this user look.
    """
    command = ["postqueue", "-c", str(postconf.directory), "-j"]
    try:
        done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - no shell
        messages = [json.loads(line) for line in done.stdout.splitlines()]
        return {each["queue_id"]: each["queue_name"] for each in messages}
    except (OSError, ValueError, KeyError):
        return {}
