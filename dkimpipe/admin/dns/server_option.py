"""Name servers on the command line: ``--server`` and ``--look-at``."""

from __future__ import annotations

import argparse

from dkimpipe.errors import one_line
from dkimpipe.verify.nameserver import Server

FORM = "IP[#PORT]"


def server(text: str) -> Server:
    """Return the server that an option names. Raises ArgumentTypeError: wrong usage."""
    try:
        return Server.parse(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"'{one_line(text)}' is not a valid server address: such as 192.0.2.1 or 192.0.2.1#5353"
        ) from None
