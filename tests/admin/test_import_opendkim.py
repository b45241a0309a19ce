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
    signed = opendkim.signed(conf, corpus)
    for path, fields in signed.items():
        theirs = sorted((each["d"], each["s"], each["c"], names(each["h"])) for each in fields)
        ours = compare.by_dkimpipe(settings, path)
        assert [tuple(each[:3]) for each in ours] == [each[:3] for each in theirs], path.read_text()
        for their, our in zip(theirs, ours):
            assert not Counter(their[3]) - Counter(names(our.h))  # no field less
    assert sum(map(bool, signed.values())) >= shape.signed
    for path in corpus[::25]:
        assert len(compare.by_opendkim(conf, path) or []) == len(signed[path])


def names(tag: str) -> list[str]:
    """Return the names of fields in h=, sorted."""
    return sorted(tag.lower().split(":"))
