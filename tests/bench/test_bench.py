"""``make bench``: that it runs, and what it writes; what it measures is for people to judge."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from conftest import PROJECT
from load import Group


@pytest.mark.alone
def test_one_part_in_one_round(tmp_path: Path) -> None:
    command = [sys.executable, str(PROJECT / "tests/bench"), "--rounds=1", "--parts=message"]
    done = subprocess.run([*command, f"--output={tmp_path}"], capture_output=True, text=True, check=False)
    assert (done.returncode in (0, 1), done.stderr) == (True, "")  # 1: a bar is not kept, on a busy machine
    assert (tmp_path / "result.md").read_text() == done.stdout
    figures = json.loads((tmp_path / "result.json").read_text())["message"]
    assert figures["python3 -I -c pass"]["cpu"][0] < figures["dkimpy's dkimsign"]["cpu"][0]
    assert done.stdout.count("at most 2: ") == 1
    texts = [each.text for each in ElementTree.parse(tmp_path / "result.svg").iter() if each.text]
    assert set(figures) < set(texts)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes control groups")
def test_the_cpu_time_of_a_process_and_of_no_other() -> None:
    loop = ["sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"]
    with Group() as group:
        clock, before = group.clock(), sum(os.times()[:4])
        subprocess.run(loop, check=True)
        ours, used = clock.load().ours, sum(os.times()[:4]) - before
    assert ours == pytest.approx(used, abs=0.05)
