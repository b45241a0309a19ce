"""Fuzz one target: ``fuzz_one.py TARGET SECONDS CORPUS``. A finding ends it, as ``crash-...`` in CORPUS."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["dkimpipe"]):
    import targets

if __name__ == "__main__":
    name, seconds, directory = sys.argv[1:]
    corpus = Path(directory)
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(targets.TARGETS[name].seeds):
        (corpus / f"seed{number}").write_bytes(seed)
    limits = [f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048", "-max_len=8192"]
    wanted = ["-print_final_stats=1", f"-artifact_prefix={corpus}/"]
    atheris.Setup(
        [sys.argv[0], *limits, *wanted, str(corpus)],
        lambda octets: targets.run(targets.TARGETS[name], octets),
    )
    atheris.Fuzz()
