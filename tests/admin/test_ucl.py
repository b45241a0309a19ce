"""UCL as libucl's README describes it. With rspamd at hand, libucl reads each row, too."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from rspamd import NEEDS_RSPAMD, RSPAMADM

from dkimpipe.admin.rspamd import ucl
from dkimpipe.errors import ConfigError

READ = {
    "nginx": (
        'param = value;\nsection {\n  flag = true;\n  number = 10k;\n  string = "something";\n'
        '  subsection {\n    host = {\n      host = "hostname";\n      port = 900;\n    }\n'
        "    host = { host = hostname; port = 901; }\n  }\n}\n",
        {
            "param": "value",
            "section": {
                "flag": True,
                "number": 10000,
                "string": "something",
                "subsection": {
                    "host": [{"host": "hostname", "port": 900}, {"host": "hostname", "port": 901}]
                },
            },
        },
    ),
    "json": (
        '{"param": "value", "list": [{"a": null}, 1, "x"],}',
        {"param": "value", "list": [{"a": None}, 1, "x"]},
    ),
    "json without braces": ('"key": "value"', {"key": "value"}),
    "what follows the braces": ("{ a = 1 }\nb = 2", {"a": 1}),
    "equals sign, colon or nothing": ('a = 1; b: 2; c 3; d "4"', {"a": 1, "b": 2, "c": 3, "d": "4"}),
    "line ends separate": ("a = 1\nb = 2\r\nc = [1\n2\n]", {"a": 1, "b": 2, "c": [1, 2]}),
    "commas separate": ("a = 1, b = 2,", {"a": 1, "b": 2}),
    "nothing after a brace": ("a { b = 1 } c = 2", {"a": {"b": 1}, "c": 2}),
    "key with dots and dashes": ("mail-1.example.com { a = 1 }", {"mail-1.example.com": {"a": 1}}),
    "key in quotes": ('"a b" = 1; "c\\"d" { e = 1 }', {"a b": 1, 'c"d': {"e": 1}}),
    "repeated key": ("a = 1\na = x\na = 1", {"a": [1, "x", 1]}),
    "repeated block": (
        "a { b { x = 1 } }\na { c { x = 2 } }",
        {"a": [{"b": {"x": 1}}, {"c": {"x": 2}}]},
    ),
    "named block": ('section "blah" { key = value }', {"section": {"blah": {"key": "value"}}}),
    "block with two names": ("a b c { d = 1 }\ne = 2", {"a": {"b": {"c": {"d": 1}}}, "e": 2}),
    "named array": ("a b [ 1, 2 ]", {"a": {"b": [1, 2]}}),
    "numbers": (
        "a = -3; b = 1.5e3; c = 0x1f; d = 2kb; e = 10min; f = 5ms; g = 1.5k; h = 2d",
        {"a": -3, "b": 1500.0, "c": 31, "d": 2048, "e": 600.0, "f": 0.005, "g": 1500.0, "h": 172800.0},
    ),
    "not numbers": (
        "a = 127.0.0.1; b = 10.0.0.0/8; c = 5 apples; d = 20240101a; e = -x; f = 2d # two",
        {"a": "127.0.0.1", "b": "10.0.0.0/8", "c": "5 apples", "d": "20240101a", "e": "-x", "f": "2d"},
    ),
    "booleans": (
        'a = yes; b = Off; c = TRUE; d = "yes"; e = null; f = no way',
        {"a": True, "b": False, "c": True, "d": "yes", "e": None, "f": "no way"},
    ),
    "unquoted string": (
        'a = /x/$y.key # z\nb = x{y}z; c = a"b; d = b\\;c; e = [x y, "z"]',
        {"a": "/x/$y.key", "b": "x{y}z", "c": 'a"b', "d": "b;c", "e": ["x y", "z"]},
    ),
    "number sign ends a string": ("a = http://x/y#z", {"a": "http://x/y"}),
    "escapes": ('a = "\\r\\n\\b\\t\\f\\\\\\"\\u00e9\\q"', {"a": '\r\n\b\t\f\\"\u00e9q'}),
    "single quotes": (
        "a = 'value\\n'; b = 'it\\'s'; c = 'one \\\nline'; d = '$CURDIR'",
        {"a": "value\\n", "b": "it's", "c": "one line", "d": "$CURDIR"},
    ),
    "here-document": ("a = <<EOD\nsome\ntext\nEOD\nb = 1", {"a": "some\ntext", "b": 1}),
    "here-document, then a semicolon": ("a = <<X\n EOD\n{ }\nX;\nb = 1", {"a": " EOD\n{ }", "b": 1}),
    "comments": (
        '# one\na = 1 # two\n/* b = 2\n/* "*/" nested */ c = 3 */ d = /* four */ 4',
        {"a": 1, "d": 4},
    ),
    "two slashes begin a key": ("// word", {"//": "word"}),
    "variables": (
        'a = $HERE/x; b = "${HERE}y $$HERE"; c = $domain.$$x; d = [${HERE}]',
        {"a": "/there/x", "b": "/therey $HERE", "c": "$domain.$$x", "d": ["/there"]},
    ),
    "only a comment": ("# nothing", {}),
    "nothing": ("", {}),
}

REFUSED = {
    "password": ('redis_pw "SECRETPW" "x"', "line 1: text after the value: 'redis_pw'"),
    "long number": ("\na = " + "9" * 5000, "line 2: too long a number: 'a'"),
    "no value": ("a = 1\nb = ;", "line 2: no value: 'b'"),
    "key alone": ("a = 1;\nb;", "line 2: not a key: 'b;'"),
    "not a key": ("*.example.com { a = 1 }", "line 1: not a key: '*.example.com'"),
    "open quote": ('\na = "x\n', "line 2: no closing quote on the line: 'a'"),
    "open single quote": ("a = 'x", "line 1: no closing quote: 'a'"),
    "open block": ("a {\nb = 1\n", "line 3: no closing brace at the end of the file: ''"),
    "open array": ("a = [ 1", "line 1: no closing bracket at the end of the file: 'a'"),
    "closed twice": ("a { b = 1 }\n}", "line 2: '}' without '{': '}'"),
    "open comment": ("a = 1\n/* b", "line 2: the comment is not closed: '/*'"),
    "open here-document": ("a = <<EOD\nx\n", "line 1: no line EOD at the end of the text: 'a'"),
    "text after a value": ('a = "x" y', "line 1: text after the value: 'a'"),
    "object and array": ('a { b = [] }\n.include(duplicate=merge) "INC"', "line 1: an object cannot"),
    "unknown macro": ('.foo "x"', "line 1: this macro is not supported: '.foo'"),
}  # fmt: skip

INCLUDED = {
    "append": (
        "", {"number": [1, 2], "block": [{"a": 1}, {"a": 2, "b": 3}], "list": [[1], [2]], "new": True},
    ),
    "append, higher priority": (
        "priority=1", {"number": 2, "block": {"a": 2, "b": 3}, "list": [2], "new": True},
    ),
    "merge": (
        "duplicate=merge",
        {"number": [1, 2], "block": {"a": [1, 2], "b": 3}, "list": [1, 2], "new": True},
    ),
    "merge, higher priority": (
        "priority=1; duplicate=merge",
        {"number": 2, "block": {"a": 2, "b": 3}, "list": [1, 2], "new": True},
    ),
    "rewrite": (
        "duplicate=rewrite", {"number": 2, "block": {"a": 2, "b": 3}, "list": [2], "new": True},
    ),
}  # fmt: skip
INCLUDING = 'number = 1; block { a = 1 }; list = [1]\n.include(try=true{}) "$CURDIR/included.conf"\n'
INCLUDED_FILE = "number = 2; block { a = 2; b = 3 }; list = [2]; new = yes\n"


def read(path: Path) -> object:
    """Return what a file contains, in Python's types."""
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    return ucl.plain(ucl.parse(text, str(path), {"HERE": "/there"}))


def read_by_libucl(path: Path) -> object:
    """Return what libucl reads in a file; None if it refuses it."""
    script = path.with_suffix(".lua")
    script.write_text(
        'local ucl = require "ucl"; local parser = ucl.parser()\n'
        'parser:register_variable("HERE", "/there")\n'
        'if parser:parse_file(os.getenv("FILE")) then\n'
        '  print(ucl.to_format(parser:get_object(), "json-compact"))\n'
        "end\n"
    )
    done = subprocess.run(
        [RSPAMADM, "lua", script],
        env={**os.environ, "FILE": str(path)},
        capture_output=True,
        check=True,
    )
    return json.loads(done.stdout) if done.stdout.strip() else None


@pytest.mark.parametrize(("text", "expected"), READ.values(), ids=READ)
def test_reads(tmp_path: Path, text: str, expected: object) -> None:
    path = tmp_path / "a.conf"
    path.write_bytes(text.encode())
    assert read(path) == expected


@NEEDS_RSPAMD
@pytest.mark.parametrize(("text", "expected"), READ.values(), ids=READ)
def test_libucl_reads_the_same(tmp_path: Path, text: str, expected: object) -> None:
    path = tmp_path / "a.conf"
    path.write_bytes(text.encode())
    assert read_by_libucl(path) == expected


@pytest.mark.parametrize(("text", "fault"), REFUSED.values(), ids=REFUSED)
def test_refuses(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "a.conf"
    (tmp_path / "INC").write_text("a { b { c = 1 } }")
    path.write_text(text.replace("INC", str(tmp_path / "INC")))
    with pytest.raises(ConfigError) as refused:
        read(path)
    assert f"{refused.value}".startswith((f"{path}, {fault}", f"{tmp_path}/INC, {fault}"))


@NEEDS_RSPAMD
@pytest.mark.parametrize(("text", "fault"), REFUSED.values(), ids=REFUSED)
def test_libucl_refuses_it_too(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "a.conf"
    (tmp_path / "INC").write_text("a { b { c = 1 } }")
    path.write_text(text.replace("INC", str(tmp_path / "INC")))
    assert read_by_libucl(path) is None


@pytest.mark.parametrize(("options", "expected"), INCLUDED.values(), ids=INCLUDED)
def test_include(tmp_path: Path, options: str, expected: object) -> None:
    path = including(tmp_path, options)
    assert read(path) == expected


def including(directory: Path, options: str) -> Path:
    """Return a file that includes another one with these options."""
    (directory / "included.conf").write_text(INCLUDED_FILE)
    path = directory / "a.conf"
    path.write_text(INCLUDING.replace("{}", f"; {options}" if options else "", 1))
    return path


@NEEDS_RSPAMD
@pytest.mark.parametrize(("options", "expected"), INCLUDED.values(), ids=INCLUDED)
def test_libucl_includes_the_same(tmp_path: Path, options: str, expected: dict[str, object]) -> None:
    found = read_by_libucl(including(tmp_path, options))
    assert isinstance(found, dict)
    if not options:  # libucl writes out an implicit array of arrays as one array
        expected = {**expected, "list": [1, 2]}
    assert found == expected


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text('a = 1\n.include "$CURDIR/missing.conf"\n')
    with pytest.raises(ConfigError) as refused:
        read(path)
    missing = tmp_path / "missing.conf"
    assert str(refused.value) == f"{path}, line 2: file {missing}: No such file or directory"


def test_a_file_that_need_not_be_there(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text('.include(try=true) "$CURDIR/missing.conf"\n.try_include "/missing"\na = 1\n')
    assert read(path) == {"a": 1}


def test_a_pattern_of_files(tmp_path: Path) -> None:
    for number in (2, 1):
        (tmp_path / f"{number}.inc").write_text(f"a = {number}")
    path = tmp_path / "a.conf"
    path.write_text('.include(glob=true) "$CURDIR/*.inc"\n')
    assert read(path) == {"a": [1, 2]}


def test_a_file_that_includes_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text('.include "$FILENAME"\n')
    with pytest.raises(ConfigError, match="line 1: more than 16 files include each other"):
        read(path)


@pytest.mark.parametrize("text", ["a {" * 65, "a = " + "[" * 65, "a " * 65 + "{}"], ids=["{", "[", "keys"])
def test_depth_is_limited(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.conf"
    path.write_text(text)
    with pytest.raises(ConfigError, match="line 1: more than 64 blocks within each other"):
        read(path)


def test_places(tmp_path: Path) -> None:
    (tmp_path / "b.conf").write_text("\n\nb = 1\n")
    path = tmp_path / "a.conf"
    path.write_text('a {\n  c = <<EOD\n\nEOD\n  list = [1,\n 2]\n.include "$CURDIR/b.conf"\n}\n')
    top = ucl.parse(path.read_text(), str(path), {})
    block = top["a"][0].value
    assert isinstance(block, ucl.Object)
    assert {name: str(nodes[0].place) for name, nodes in block.items()} == {
        "c": f"{path}, line 2",
        "list": f"{path}, line 5",
        "b": f"{tmp_path}/b.conf, line 3",
    }
    elements = block["list"][0].value
    assert isinstance(elements, ucl.Array)
    assert [element.place.line for element in elements] == [5, 6]
