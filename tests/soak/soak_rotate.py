"""The months of rotation with a run each day, and a kill at each place: tests of ``make test`` at length."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from rolling import DAY

sys.path.append(str(Path(__file__).parent.parent / "admin"))

import test_rotate
import test_rotate_fixed
import test_rotate_killed

test_half_a_year = test_rotate.test_half_a_year
test_eight_months = test_rotate_fixed.test_eight_months
test_a_killed_run = test_rotate_killed.test_a_killed_run_is_gone_on_with
test_a_killed_run_of_fixed_selectors = test_rotate_fixed.test_a_killed_run_is_gone_on_with


@pytest.fixture(autouse=True)
def at_length(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (test_rotate, test_rotate_fixed):
        monkeypatch.setattr(module, "STEP", DAY)
    for module in (test_rotate_fixed, test_rotate_killed):
        monkeypatch.setattr(module, "PACE", 1)
