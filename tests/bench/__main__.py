"""``make bench``: what a message costs with dkimpipe and with what users would take instead.

All is measured side by side, in rounds in which each has its turn, so that ratios hold on a machine that is
busy, too. It prints tables, and whether the bars are kept. If all parts are measured, and DKIMproxy, it
writes result.json, result.md and result.svg, and the figures in README.md and tests/README.md. Root is needed
for the name server and the private Postfix.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "lab"), str(HERE.parent.parent)]

import documents  # noqa: E402
import names  # noqa: E402
import picture  # noqa: E402
import processes  # noqa: E402
import scale  # noqa: E402
from bars import BARS, DIMENSIONS, TABLES  # noqa: E402
from figures import Figures, as_json, rounded  # noqa: E402
from processes import Place  # noqa: E402
from progress import Progress  # noqa: E402
from ways import Server  # noqa: E402

# Each part, and of how many rounds one is measured: those that take long have fewer.
PROCESSES: dict[str, tuple[Callable[[Place, int, Progress], Figures], int]] = {
    "message": (processes.signing, 1),
    "verify": (processes.verifying, 1),
    "sizes": (scale.sizes, 3),
    "maps": (scale.maps, 1),
    "signatures": (scale.signatures, 1),
    "fields": (scale.fields, 1),
    "recipients": (scale.recipients, 1),
}
THROUGH_POSTFIX: dict[str, tuple[Callable[[Server, int], Figures], int]] = {
    "postfix": (Server.postfix, 3),
    "inbound": (Server.inbound, 3),
    "concurrency": (Server.concurrency, 5),
    "lists": (Server.lists, 5),
}
PARTS = (*PROCESSES, *THROUGH_POSTFIX)
# Those that ask the name server.
ASKING = {"verify", "sizes", "signatures", "fields", "inbound", "concurrency"}


def main() -> int:
    """Measure, and return 1 if a bar is not kept."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--parts", default=",".join(PARTS), help="of %(default)s")
    parser.add_argument("--dkimproxy", type=Path, help="the source of DKIMproxy 1.4.1")
    parser.add_argument("--output", type=Path, help="a directory for the results of any parts")
    options = parser.parse_args()
    parts = options.parts.split(",")
    if fault := _fault(parts, options.dkimproxy):
        parser.error(fault)
    progress = Progress()
    figures = rounded(_measured(parts, options.rounds, options.dkimproxy, progress))
    measured = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": _machine(),
        "rounds": {part: _rounds(options.rounds, part) for part in figures},
        "seconds": progress.took,
    }
    text = _text(figures, str(measured["machine"]))
    print(text)
    if options.output:
        _write(options.output, text, figures, measured)
    elif set(PARTS) == set(figures) and options.dkimproxy:
        _write(HERE, text, figures, measured)
        documents.update(figures, measured)
    else:
        print("bench: nothing written: that takes all parts and --dkimproxy, or --output", file=sys.stderr)
    return int(any(bar.is_kept(figures) is False for bar in BARS if bar.part in figures))


def _fault(parts: list[str], dkimproxy: Path | None) -> str:
    """Return what would end the run after a while, empty if nothing is known to."""
    if unknown := set(parts) - set(PARTS):
        return f"no such part: {', '.join(sorted(unknown))}"
    if os.geteuid() and (needing := [part for part in parts if part in {*ASKING, *THROUGH_POSTFIX}]):
        return f"only root can measure {', '.join(needing)}"
    if dkimproxy:
        command = ["/usr/bin/perl", f"-I{dkimproxy}/lib", "-c", str(dkimproxy / "scripts/dkimproxy.out")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"DKIMproxy cannot be run: {done.stderr.splitlines()[0]}"
    return ""


def _write(directory: Path, text: str, figures: Figures, measured: Mapping[str, object]) -> None:
    (directory / "result.md").write_text(text + "\n")
    (directory / "result.json").write_text(as_json(figures, measured))
    (directory / "result.svg").write_text(picture.of(figures, DIMENSIONS))


def _rounds(rounds: int, part: str) -> int:
    return max(1, rounds // {**PROCESSES, **THROUGH_POSTFIX}[part][1])


def _measured(parts: list[str], rounds: int, dkimproxy: Path | None, progress: Progress) -> Figures:
    figures: Figures = {}
    with tempfile.TemporaryDirectory(prefix="dkimpipe-bench-") as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        directory.chmod(0o755)
        place = Place(directory)
        if not ASKING.isdisjoint(parts):
            stack.enter_context(names.answering(directory / "names", place.records))
        server = Server(place, dkimproxy, progress)
        for part in filter(parts.__contains__, PARTS):
            progress.part(part)
            if part in PROCESSES:
                figures |= PROCESSES[part][0](place, _rounds(rounds, part), progress)
            else:
                figures |= THROUGH_POSTFIX[part][0](server, _rounds(rounds, part))
        progress.part("")
    return figures


def _text(figures: Figures, machine: str) -> str:
    tables = [table.text(figures) for table in TABLES if table.part in figures]
    dimensions = [each.text(figures) for each in DIMENSIONS if each.part in figures]
    bars = [bar.text(figures) for bar in BARS if bar.part in figures]
    return "\n".join([machine, "", *tables, *dimensions, *bars])


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores, {model.strip() or platform.machine()}, Linux, Python {platform.python_version()}"


if __name__ == "__main__":
    raise SystemExit(main())
