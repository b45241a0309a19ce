"""Take the filter out of a running Postfix in two steps, so that no mail stays behind.

When a service is removed from master.cf, its processes are ended, and mail that waits for it stays in the
queue. A process that began before the reload still passes mail to it, and needs its cleanup(8) service and
its tables. So first no new process passes mail to the filter, while its services stay until it has come back.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from dkimpipe.admin import atomic
from dkimpipe.admin.postfix import backup, queue, running
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.errors import ConfigError

_LONGEST = 20.0  # seconds; clients can keep a session open for longer
_UNDER_WAY = ("maildrop", "incoming", "active")


def drain(postconf: Postconf, undone: Sequence[Path], reload: Callable[[], None]) -> None:
    """Let Postfix pass no more mail to the services that these backups will remove, and wait for theirs.

    The files are as before afterwards, for the edits to be undone. Raises ConfigError and OSError.
    """
    directory = postconf.directory
    now = {name: (directory / name).read_bytes() for name in backup.MAIN_FILES}
    with tempfile.TemporaryDirectory(prefix="dkimpipe-") as temporary:
        copy = Path(temporary)
        for name in filter(lambda each: (directory / each).exists(), backup.FILES):
            shutil.copy2(directory / name, copy)
        for each in undone:
            shutil.copytree(each, copy / each.name)
            list(backup.undo(copy, copy / each.name))
        left = Postconf(copy)
        gone = [each for each in postconf.services.values() if each.id not in left.services]
        left.edit([Change("-M", f"{each.id}={each.line}", "") for each in gone])
        first = {name: (copy / name).read_bytes() for name in backup.MAIN_FILES}
    _write(directory, first)
    try:
        reload()
    except ConfigError:
        _write(directory, now)
        raise
    # If this is interrupted, the files are as Postfix has read them: with the old main.cf, new processes
    # would pass mail to no signer.
    names = [each.name for each in gone if each.command == "pipe"]
    for number in _waiting_for(postconf, names):
        queue.retry(postconf, number)
    _wait(postconf)
    _write(directory, now)


def _write(directory: Path, contents: dict[str, bytes]) -> None:
    for name, octets in contents.items():
        atomic.write_like(directory / name, octets, directory / name)


def _wait(postconf: Postconf) -> None:
    """Wait until no client is served as before the reload, and all that came until then has gone on."""
    deadline, last = time.monotonic() + _LONGEST, time.time()
    while time.monotonic() < deadline:
        if running.has_older(postconf, "smtpd"):
            last = time.time()
        elif not any(
            each["queue_name"] in _UNDER_WAY and each["arrival_time"] <= last
            for each in queue.messages(postconf)
        ):
            return
        time.sleep(0.2)


def _waiting_for(postconf: Postconf, names: Sequence[str]) -> list[str]:
    """Return the queue IDs of deferred mail that waits for these services, as its reason tells."""
    return [
        each["queue_id"]
        for each in queue.messages(postconf)
        if each["queue_name"] == "deferred"
        and any(name in one.get("delay_reason", "") for one in each["recipients"] for name in names)
    ]
