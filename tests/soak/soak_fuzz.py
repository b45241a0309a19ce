"""Coverage-guided fuzzing of each target for an hour (``FUZZ_SECONDS``), by atheris."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import targets

SECONDS = int(os.environ.get("FUZZ_SECONDS", "3600"))


@pytest.mark.parametrize("name", targets.TARGETS)
def test_no_finding(name: str, tmp_path: Path) -> None:
    program = Path(__file__).with_name("fuzz_one.py")
    command = [sys.executable, str(program), name, str(SECONDS), str(tmp_path / "corpus")]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    runs = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    coverage = re.findall(r"cov: (\d+)", done.stderr)
    print(f"\n{name}: {runs[1] if runs else 0} runs in {SECONDS} s, coverage {coverage[-1:]}")
    assert (done.returncode, runs is not None) == (0, True), done.stderr[-5000:]
