"""``dkimpipe import opendkim``: each shape of configuration signs as the real OpenDKIM does."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import opendkim
import pytest
from conftest import Keys

from dkimpipe.admin.migration import compare
from dkimpipe.config import read_settings

pytestmark = opendkim.NEEDED
MESSAGES = 200


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    directory = tmp_path_factory.mktemp("corpus")
    paths = []
    for number, octets in enumerate(opendkim.generate(MESSAGES)):
        paths.append(directory / f"{number}.eml")
        paths[-1].write_bytes(octets)
    return paths


@pytest.mark.parametrize("name", opendkim.SHAPES)
def test_signs_as_opendkim_does(keys: Keys, tmp_path: Path, corpus: list[Path], name: str) -> None:
    shape = opendkim.SHAPES[name]
    conf = shape.write(tmp_path / "foreign", keys)
    output = tmp_path / "ours"
    done = opendkim.run_import(conf, "--output", output)
    assert done.stderr == ""
    assert done.status == 0, done.stdout.decode()
    settings = read_settings([f"--conf_file={output}/dkimpipe.conf", f"--sender_map={output}/senders"])
    signed = 0
    for path in corpus:
        theirs = compare.by_opendkim(conf, path) or []
        ours = compare.by_dkimpipe(settings, path)
        assert list(map(str, ours)) == list(map(str, theirs)), path.read_text()
        for their, our in zip(theirs, ours):
            assert not Counter(their.h.split(":")) - Counter(our.h.split(":"))  # no field less
        signed += bool(theirs)
    assert signed >= shape.signed
