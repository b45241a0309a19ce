"""``reports --html``: one self-contained page, whatever the reports contain; and the terminal and JSON."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from conftest import MAIN
from reporting import DAY, Flow, report

TODAY = int(time.time()) // DAY * DAY
HOSTILE = "</title><script>alert(1)</script><img src=//evil.test onerror=x>&\"'\u202e"
EMPTY = {"meta"}  # elements without an end


class Page(HTMLParser):
    """Checks that elements are closed in order, and collects what a browser would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.open += [] if tag in EMPTY else [tag]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A directory with reports on four weeks, with every text that a stranger controls full of markup."""
    text = HOSTILE.replace("&", "&amp;").replace("<", "&lt;")
    for week in range(4):
        flows = [
            Flow("192.0.2.1", 100, text, ((text, text, "permerror"),), (text, "pass"), True),
            Flow("198.51.100.1", 20, text, (), ("service.test", "pass")),
            Flow("198.51.100.2", 20, text, (), ("", "none")),
        ]
        octets = report(flows, text, text, TODAY - (7 * week + 1) * DAY, policy=text)
        (tmp_path / f"{week}.xml").write_bytes(octets)
    (tmp_path / "<b>.xml").write_bytes(b"<rss/>")
    return tmp_path


def run(*arguments: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, str(MAIN), "reports", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False)


def page_of(place: Path) -> str:
    run("--html", place / "page.html", place)
    return (place / "page.html").read_text(encoding="utf-8")


def test_the_page_is_well_formed_and_loads_nothing(hostile: Path) -> None:
    text = page_of(hostile)
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    assert page.names == set(
        "html head meta title style body h1 h2 h3 p ul li div table tr th td figure figcaption svg g rect"
        " text".split()
    )
    assert page.attributes == set(
        "lang charset name content http-equiv class viewbox role aria-label x y width height".split()
    )
    assert not re.search(r"url\(|@import|https?:|javascript:", text)
    assert "default-src 'none'" in text
    assert HOSTILE.lower().replace("\u202e", "\\u202e") in page.text
    assert text.isascii()


def test_its_charts_are_xml(hostile: Path) -> None:
    """SVG in HTML is more lenient; what is also XML is drawn alike by every browser."""
    charts = re.findall(r"<svg.*?</svg>", page_of(hostile))
    assert len(charts) == 1
    bars = list(ElementTree.fromstring(charts[0]).iter("rect"))
    assert {bar.get("class") for bar in bars} == {"bad"}
    assert [float(bar.get("x", "")) + float(bar.get("width", "")) <= 640 for bar in bars] == [True] * len(
        bars
    )


def test_no_reports(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run("--html", tmp_path / "page.html", tmp_path / "empty")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert "No reports since" in (tmp_path / "page.html").read_text()
    assert run(tmp_path / "empty").stdout.startswith(b"no reports since ")


def test_a_page_that_cannot_be_written(hostile: Path) -> None:
    done = run("--html", hostile / "none" / "page.html", hostile)
    assert (done.returncode, done.stdout) == (78, b"")
    assert done.stderr.decode() == f"dkimpipe: {hostile}/none/.page.html.new: No such file or directory\n"


def test_the_terminal_gets_nothing_unprintable(hostile: Path) -> None:
    done = run(hostile)
    assert (done.returncode, done.stderr) == (78, b"")
    assert all(line.isprintable() for line in done.stdout.decode().splitlines())
    assert "\\u202e" in done.stdout.decode()


def test_the_chart_of_a_terminal(tmp_path: Path) -> None:
    for number, messages in enumerate([200, 100, 0, 1]):
        flow = Flow("192.0.2.1", messages, "example.com", (("example.com", "s1", "pass"),), ("", "none"))
        flows = [flow] if messages else []
        (tmp_path / f"{number}.xml").write_bytes(report(flows, begin=1_793_577_600 - 7 * number * DAY))
    lines = run(tmp_path).stdout.decode().splitlines()
    assert lines[lines.index("  week of") + 1 :] == [
        "  2026-10-12 ▏                                      1   100 %",
        "  2026-10-19                                        0    none",
        "  2026-10-26 ███████████████                      100   100 %",
        "  2026-11-02 ██████████████████████████████       200   100 %",
    ]


def test_json(hostile: Path) -> None:
    found = json.loads(run("--json", hostile).stdout)
    (domain,) = found["domains"].values()
    assert (domain["messages"], domain["passed"], len(domain["weeks"])) == (560, 0, 4)
    assert {(each["kind"], each["messages"]) for each in domain["sources"]} == {
        ("failed", 400),
        ("service", 80),
        ("forged", 80),
    }
    assert [each["level"] for each in found["concerns"]] == ["error", "warning", "warning"]
    assert found["unreadable"][0]["cause"] == "XML, but not a report: <rss>"
