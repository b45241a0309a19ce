"""A senders file edited in place: selector and key change, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from dkimpipe.admin.maps import edit
from dkimpipe.admin.maps.edit import Pair
from dkimpipe.errors import ConfigError

OLD, NEW = Pair("a", "/k/a.pem"), Pair("202612", "/k/new.pem")

# Before and after.
EDITS = {
    "one": (b"example.com dkim(s=a,key=/k/a.pem)\n", b"example.com dkim(s=202612,key=/k/new.pem)\n"),
    "no line end": (b"x.example dkim(key=/k/a.pem,s=a)", b"x.example dkim(key=/k/new.pem,s=202612)"),
    "long names, blanks": (
        b"example.com\tdkim( selector = a ,\tkeyfile=/k/a.pem , c=simple )\n",
        b"example.com\tdkim( selector = 202612 ,\tkeyfile=/k/new.pem , c=simple )\n",
    ),
    "all that have it, no others": (
        b"a.example dkim(s=a,key=/k/a.pem), dkim(s=b,key=/k/b.pem), domainkeys(c=nofws,s=a,key=/k/a.pem)\n"
        b"b.example dkim(s=a,key=/k/b.pem), dkim(s=b,key=/k/a.pem), dkim(s=aa,key=/k/a.pem)\n"
        b". dkim(d=a.example,s=a,key=/k/a.pem)\n",
        b"a.example dkim(s=202612,key=/k/new.pem), dkim(s=b,key=/k/b.pem), "
        b"domainkeys(c=nofws,s=202612,key=/k/new.pem)\n"
        b"b.example dkim(s=a,key=/k/b.pem), dkim(s=b,key=/k/a.pem), dkim(s=aa,key=/k/a.pem)\n"
        b". dkim(d=a.example,s=202612,key=/k/new.pem)\n",
    ),
    "who may have it": (
        b"a.example dkim(login=s=a:b c,s=a,key=/k/a.pem,envelope=*), dkim(s=a,key=/k/a.pem,login=d)\n",
        b"a.example dkim(login=s=a:b c,s=202612,key=/k/new.pem,envelope=*),"
        b" dkim(s=202612,key=/k/new.pem,login=d)\n",
    ),
    "relative h": (
        b"a.example dkim(h=-*:+from:++x-s,s=a,key=/k/a.pem), dkim(s=a,h=-date,key=/k/a.pem,x=1d)\n",
        b"a.example dkim(h=-*:+from:++x-s,s=202612,key=/k/new.pem),"
        b" dkim(s=202612,h=-date,key=/k/new.pem,x=1d)\n",
    ),
    "comments, continuation lines, CRLF": (
        b"\xef\xbb\xbfb\xc3\xbccher.example # dkim(s=a,key=/k/a.pem)\r\n"
        b"# dkim(s=a,key=/k/a.pem)\r\n\r\n \t dkim(s=a, ; s=a\r\n\tkey=/k/a.pem) # key=/k/a.pem\r\n",
        b"\xef\xbb\xbfb\xc3\xbccher.example # dkim(s=a,key=/k/a.pem)\r\n"
        b"# dkim(s=a,key=/k/a.pem)\r\n\r\n \t dkim(s=202612, ; s=a\r\n\tkey=/k/new.pem) # key=/k/a.pem\r\n",
    ),
    "an entry that is wrong, and no UTF-8": (
        b"\xff.example dkim(s=a,key=/k/a.pem\nexample.com dkim(i=\xe9@example.com,s=a,key=/k/a.pem)\n",
        b"\xff.example dkim(s=a,key=/k/a.pem\nexample.com dkim(i=\xe9@example.com,s=202612,key=/k/new.pem)\n",
    ),
    "nothing": (b"example.com dkim(s=b,key=/k/a.pem)\n", b"example.com dkim(s=b,key=/k/a.pem)\n"),
}


@pytest.mark.parametrize(("before", "after"), EDITS.values(), ids=EDITS)
def test_only_selector_and_key_change(tmp_path: Path, before: bytes, after: bytes) -> None:
    path = tmp_path / "senders"
    path.write_bytes(before)
    path.chmod(0o640)
    edit.replace(str(path), before, OLD, NEW)
    assert path.read_bytes() == after
    assert path.stat().st_mode & 0o777 == 0o640


def test_who_reads_meanwhile_reads_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "senders"
    path.write_bytes(EDITS["one"][0])
    with path.open("rb") as reader:
        edit.replace(str(path), EDITS["one"][0], OLD, NEW)
        assert reader.read() == EDITS["one"][0]


@pytest.mark.parametrize(
    "text",
    [
        "example.com dkim(s=a,key=/k/(a).pem)\n",  # parentheses in a value
        "example.com dkim(s=a,key=/k/(a).pem), dkim(s=a,key=/k/(a).pem)\n",
    ],
)
def test_what_cannot_be_found_stays_and_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "senders"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        edit.replace(str(path), text.encode(), Pair("a", "/k/(a).pem"), NEW)
    assert (str(caught.value), caught.value.hint) == (
        f"{path}: cannot find s=a and key=/k/(a).pem",
        "replace them with s=202612 and key=/k/new.pem",
    )
    assert path.read_text() == text


def test_an_edit_meanwhile_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "senders"
    before = EDITS["one"][0]
    path.write_bytes(before + b"example.net dkim(s=b,key=/k/b.pem)\n")
    with pytest.raises(ConfigError) as caught:
        edit.replace(str(path), before, OLD, NEW)
    assert (str(caught.value), caught.value.hint) == (
        f"{path} was changed in the meantime and is left unchanged",
        "try again",
    )
    assert path.read_bytes() == before + b"example.net dkim(s=b,key=/k/b.pem)\n"
    assert [each.name for each in tmp_path.iterdir()] == ["senders"]
