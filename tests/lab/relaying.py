"""A message on its way through a real Postfix, and what is on top of it then.

Where there is no Postfix, the tests that import this are left out, and say so.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from postfix import Message

PYTHON = "/usr/bin/python3"
NEEDS = {
    "Linux": sys.platform == "linux",
    "root: master(8) runs as nobody else": os.geteuid() == 0,
    "Postfix": shutil.which("postconf") is not None,
    PYTHON: Path(PYTHON).exists(),
}
if not all(NEEDS.values()):
    missing = ", ".join(need for need, there in NEEDS.items() if not there)
    pytest.skip(f"the tests through Postfix need {missing}", allow_module_level=True)
_T = TypeVar("_T")
HEADER = (
    b"From: Alice <alice@example.com>\r\nTo: bob@example.net\r\nSubject: hello\r\n"
    b"Date: Fri, 11 Jul 2003 21:00:37 -0700\r\nMessage-ID: <1@example.com>\r\n"
)
MESSAGE = HEADER + b"\r\nHello, Bob.\r\n"
SENDER, RECIPIENT = "alice@example.com", "bob@example.net"


def wait(probe: Callable[[], _T], timeout: float = 20) -> _T:
    """Return what `probe()` returns as soon as that is true, or its last value after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (result := probe()) and time.monotonic() < deadline:
        time.sleep(0.002)
    return result


def new_fields(message: Message, original: bytes = MESSAGE) -> list[str]:
    """Return the names of the fields on top of the original, which follows them octet for octet."""
    assert message.data.endswith(original)
    top = message.data[: -len(original)]
    assert re.fullmatch(rb"([A-Za-z-]+:.*\r\n([ \t].*\r\n)*)*", top)
    return re.findall(r"^([^\s:]+):", top.decode(), re.MULTILINE)
