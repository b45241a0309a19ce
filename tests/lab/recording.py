"""dkimpipe dns, and what its records are."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from conftest import Done, Keys

from dkimpipe.command import main

KINDS = ("rsa1024", "rsa2048", "rsa4096", "ed25519")


def run(*arguments: object) -> Done:
    """Run ``dkimpipe dns ARGUMENTS`` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(["dns", *map(str, arguments)])
        except SystemExit as end:
            status = int(str(end.code))
    return Done(status, out.getvalue().encode(), err.getvalue())


def plain(path: Path, *arguments: str) -> dict[str, str]:
    """Return the values by name that ``dkimpipe dns`` shows for a senders file."""
    done = run("--sender_map", path, "--format", "plain", *arguments)
    assert (done.status, done.stderr) == (0, "")
    pairs = [part.splitlines() for part in done.stdout.decode().split("\n\n")]
    return dict(pairs)


def value(keys: Keys, kind: str) -> str:
    """Return what the record of a key says, by the witness."""
    return keys.records[f"{kind}._domainkey.example.com"][0].decode()


def with_tags(keys: Keys, kind: str, before: str) -> str:
    """Return the same with tags before p=."""
    return value(keys, kind).replace("; p=", f"; {before}; p=")


# Which records a senders file needs.

ED = "s=ed25519,key=KEYS/ed25519.pem"
