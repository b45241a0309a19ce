"""``make demo``: what a newcomer runs first."""

from __future__ import annotations

import subprocess
import sys

from conftest import PROJECT


def test_the_demonstration_signs_and_verifies() -> None:
    done = subprocess.run(
        [sys.executable, PROJECT / "tests" / "demo.py"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.count("DKIM-Signature: ")) == (0, 1), done.stdout
