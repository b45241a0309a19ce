"""A log of 1 GB, a million messages: ``dkimpipe audit`` takes no more memory than for 60 MB."""

from __future__ import annotations

import os
from pathlib import Path

from auditing import configuration, measured

MEGABYTES = int(os.environ.get("AUDIT_MEGABYTES", "1000"))


def test_memory_is_flat(tmp_path: Path) -> None:
    etc = configuration(tmp_path / "etc")
    small, large = measured(etc, tmp_path, 60), measured(etc, tmp_path, MEGABYTES)
    print(f"\n{small}\n{large}")
    assert large.cost.memory < 1.1 * small.cost.memory
