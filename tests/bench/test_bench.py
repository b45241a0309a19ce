"""``make bench``: that it runs, what it writes, and that the documents have its figures."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import documents
import pytest
from conftest import PROJECT
from figures import Dimension, Growth
from load import Group

BENCH = PROJECT / "tests/bench"
RESULT: dict[str, Any] = json.loads((BENCH / "result.json").read_text())
NEEDED = ("named", "ip", "mount", "smtp-source", "opendkim")
missing = [name for name in NEEDED if not shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")]
needs_server = pytest.mark.skipif(
    os.geteuid() != 0 or bool(missing), reason=f"needs root and {', '.join(missing) or 'nothing else'}"
)


def bench(parts: str, output: Path) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Run some parts once, and return what was printed and the figures."""
    command = [sys.executable, str(BENCH), "--rounds=1", f"--parts={parts}", f"--output={output}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr  # 1: a bar is not kept, on a busy machine
    assert all(line.startswith("bench: ") for line in done.stderr.splitlines()), done.stderr
    assert (output / "result.md").read_text() == done.stdout
    return done, json.loads((output / "result.json").read_text())["figures"]


@pytest.mark.alone
def test_one_part_in_one_round(tmp_path: Path) -> None:
    done, figures = bench("message", tmp_path)
    costs = figures["message"]
    assert costs["python3 -I -c pass"]["cpu"][0] < costs["dkimpy's dkimsign"]["cpu"][0]
    assert done.stdout.count("at most 2: ") == 1
    texts = [each.text for each in ElementTree.parse(tmp_path / "result.svg").iter() if each.text]
    assert set(costs) < set(texts)


@pytest.mark.alone
@needs_server
def test_verifiers_and_a_line_in_one_round(tmp_path: Path) -> None:
    """The verifiers find the keys in the name server; a verdict other than pass ends it."""
    done, figures = bench("verify,signatures", tmp_path)
    costs = figures["verify"]
    assert costs["dkimpipe verify, unsigned"]["cpu"][0] < costs["dkimpy's dkimverify"]["cpu"][0]
    assert "| Signatures: CPU ms | 1 signature | 2 signatures |" in done.stdout
    picture = ElementTree.parse(tmp_path / "result.svg")
    lines = [each for each in picture.iter() if each.tag.endswith("polyline")]
    assert len(lines) == 2  # to sign and to verify
    assert all(len(line.attrib["points"].split()) == 4 for line in lines)


# Options, and the error that ends the run at once.
FAULTS = {
    "part": ("--parts=message,masage", "no such part: masage"),
    "DKIMproxy": (
        "--dkimproxy=/nonexistent",
        "DKIMproxy cannot be run: Can't open perl script "
        '"/nonexistent/scripts/dkimproxy.out": No such file or directory',
    ),
}


@pytest.mark.parametrize(("option", "error"), FAULTS.values(), ids=FAULTS)
def test_a_run_that_would_fail_does_not_begin(option: str, error: str) -> None:
    command = [sys.executable, str(BENCH), "--parts=message", option]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, f"make bench: error: {error}")


@pytest.mark.parametrize("name", documents.DOCUMENTS)
def test_a_document_has_the_figures_of_the_last_result(name: str) -> None:
    text = (PROJECT / name).read_text()
    assert documents.with_figures(name, text, RESULT["figures"], RESULT["measured"]) == text


def test_other_figures_are_another_text() -> None:
    figures = json.loads(json.dumps(RESULT["figures"]))
    figures["postfix"]["OpenDKIM, milter"]["rate"] = [1234.5]
    text = (PROJECT / "README.md").read_text()
    changed = documents.with_figures("README.md", text, figures, RESULT["measured"])
    (line,) = set(changed.splitlines()) - set(text.splitlines())
    assert "| 1234 |" in line


STEPS = Dimension("steps", "Steps", "cpu", {1: "1 step", 10: "10 steps", 100: "100 steps"}, ("ours",))
# The CPU time of 1, 10 and 100, and whether the bar is kept.
GROWTH: dict[str, tuple[tuple[float, float, float], bool]] = {
    "level": ((10.0, 10.0, 10.0), True),
    "as the work": ((10.0, 19.0, 109.0), True),
    "quadratic": ((10.0, 20.0, 1000.0), False),
    "level, then a jump": ((10.0, 9.9, 1000.0), False),
}


@pytest.mark.parametrize(("costs", "kept"), GROWTH.values(), ids=GROWTH)
def test_growth(costs: tuple[float, float, float], kept: bool) -> None:
    series = {STEPS.name("ours", point): {"cpu": [cost]} for point, cost in zip(STEPS.points, costs)}
    assert Growth(STEPS, "ours", (1, 10, 100), 1.5).is_kept({"steps": series}) is kept


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes control groups")
def test_the_cpu_time_of_a_process_and_of_no_other() -> None:
    loop = ["sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"]
    with Group() as group:
        clock, before = group.clock(), sum(os.times()[:4])
        subprocess.run(loop, check=True)
        ours, used = clock.load().ours, sum(os.times()[:4]) - before
    assert ours == pytest.approx(used, abs=0.05)
