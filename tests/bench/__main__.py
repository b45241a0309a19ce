"""``make bench``: what a message costs with dkimpipe and with what users would take instead.

All is measured side by side, in rounds in which each has its turn, so that ratios hold on a machine that is
busy, too. It prints tables, and whether the bars are kept; it writes result.json, result.md and result.svg
beside this file. Root is needed for the private Postfix.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "lab"), str(HERE.parent.parent)]

import mailflow  # noqa: E402
import picture  # noqa: E402
import processes  # noqa: E402
from figures import Bar, Figures, Table, as_json  # noqa: E402

PARTS = ("message", "sizes", "maps", "postfix")


def main() -> int:
    """Measure, and return 1 if a bar is not kept."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--parts", default=",".join(PARTS), help="of %(default)s")
    parser.add_argument("--dkimproxy", type=Path, help="the source of DKIMproxy 1.4.1")
    parser.add_argument("--output", type=Path, default=HERE)
    options = parser.parse_args()
    parts = options.parts.split(",")
    with tempfile.TemporaryDirectory(prefix="dkimpipe-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        place = processes.Place(directory)
        figures: Figures = {}
        if "message" in parts:
            figures |= processes.one_message(place, options.rounds)
        if "sizes" in parts:
            figures |= processes.sizes(place, max(1, options.rounds // 3))
        if "maps" in parts:
            figures |= processes.maps(place, options.rounds)
        if "postfix" in parts:
            figures |= mailflow.through_postfix(place, max(1, options.rounds // 3), options.dkimproxy)
    tables = [table for table in TABLES if table.part in figures]
    bars = [bar for bar in BARS if bar.part in figures]
    text = "\n".join(
        [_machine(), "", *(table.text(figures) for table in tables), *(bar.text(figures) for bar in bars)]
    )
    print(text)
    (options.output / "result.md").write_text(text + "\n")
    (options.output / "result.json").write_text(as_json(figures))
    (options.output / "result.svg").write_text(picture.of(figures))
    return int(any(bar.is_kept(figures) is False for bar in bars))


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores, {model.strip() or platform.machine()}, Linux, Python {platform.python_version()}"


TABLES = [
    Table(
        "message",
        "One small message, whole process",
        ("cpu", "wall", "memory", "instructions"),
        "python3 -I -c pass",
    ),
    Table("sizes", "Messages of text", ("cpu", "memory"), "dkimpipe, 4 KB"),
    Table("maps", "Lines in the senders file", ("cpu", "memory"), "1 line"),
    Table(
        "postfix",
        "Through Postfix, 4 KB messages, 4 sessions",
        ("rate", "cpu", "latency", "others"),
        "copy and exec",
    ),
]

# The figure of one, divided by that of another, is at most (or, below 0, at least) so much.
BARS = [
    Bar("message", "cpu", "dkimpipe, RSA-2048", "python3 -I -c pass", at_most=2.0),
    Bar("message", "cpu", "dkimpy's dkimsign", "dkimpipe, RSA-2048", at_least=6.0),
    Bar("message", "cpu", "Mail::DKIM", "dkimpipe, RSA-2048", at_least=4.0),
    Bar("sizes", "cpu", "dkimpipe, 25 MB", "openssl dgst and cat, 25 MB", at_most=4.0),
    Bar("sizes", "memory", "dkimpipe, 25 MB", "dkimpipe, 4 KB", within=3072),
    Bar("maps", "cpu", "1,000,000 lines, index", "1 line", at_most=1.5),
    Bar("postfix", "rate", "dkimpipe", "DKIMproxy, no XFORWARD", at_least=1.0),
    Bar("postfix", "rate", "dkimpipe", "dkimpy in the filter", at_least=3.0),
    Bar("postfix", "rate", "dkimpipe", "copy and exec", at_least=0.75),
    Bar("postfix", "latency", "dkimpipe", "DKIMproxy, no XFORWARD", at_most=1.0),
    Bar("postfix", "latency", "dkimpipe", "OpenDKIM, milter", at_most=1.0),
    Bar("postfix", "rate", "dkimpipe, relay", "dkimpipe", at_least=1.35),
    Bar("postfix", "rate", "dkimpipe, relay", "DKIMproxy", at_least=1.0),
    Bar("postfix", "rate", "dkimpipe, relay", "DKIMproxy, no XFORWARD", at_least=1.0),
    Bar("postfix", "rate", "dkimpipe, relay", "DKIMproxy, 20 processes", at_least=1.0),
    Bar("postfix", "latency", "dkimpipe, relay", "DKIMproxy", at_most=1.0),
    Bar("postfix", "latency", "dkimpipe, relay", "DKIMproxy, no XFORWARD", at_most=1.0),
    Bar("postfix", "latency", "dkimpipe, relay", "OpenDKIM, milter", at_most=1.0),
]


if __name__ == "__main__":
    raise SystemExit(main())
