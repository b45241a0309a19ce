"""A local message just below message_size_limit, of lines that are broken before they are signed."""

from __future__ import annotations

from pathlib import Path

import witness
from arriving import serving
from installing import NO_WAIT, printed_records, setup

COMMANDS = f"""\
postconf -e myhostname=mail.example.com myorigin=example.com mydestination= inet_protocols=ipv4 \\
    'relayhost=[127.0.0.1]:SINK' mynetworks=127.0.0.1
{NO_WAIT}; postfix start; sleep 1
"""
# 10,219,000 bytes, of 10,240,000; broken lines add 3 bytes for each 997.
SEND = """\
import subprocess, sys
text = b"From: cron@example.com\\n\\n" + (b"x" * 2000 + b"\\n") * 5107
command = ["sendmail", "-f", "cron@example.com", "z@example.net"]
raise SystemExit(subprocess.run(command, input=text).returncode)
"""


def test_it_comes_back_with_its_lines_broken_and_signatures_added(fresh: Path) -> None:
    with serving(fresh, COMMANDS) as server:
        done = setup(server.machine, "example.com", "--sign", "local")
        assert done.status == 0
        server.machine.shell(f"{NO_WAIT}; postfix reload; sleep 1")
        assert server.machine.run("python3", "-", stdin=SEND).status == 0
        (message,) = server.sink.wait(1, timeout=30)
        verdicts = witness.dkimpy_verdicts([message.data], printed_records(done))
        assert (len(message.data) > 10219000, verdicts) == (True, [["pass"]])
