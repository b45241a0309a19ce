"""What a milter may do to messages: it is asked as Postfix asks it, and then left alone.

The first packet of the milter protocol (libmilter/mfdef.h of Sendmail) negotiates: the milter answers with
the actions that it may take. One that signs must be able to add header fields.
"""

from __future__ import annotations

import os
import socket
import struct

_TIME_LIMIT = 2.0  # seconds for each step
_NEGOTIATE, _QUIT = b"O", b"Q"
_VERSION, _ALL_ACTIONS, _ALL_STEPS = 6, 0x1FF, 0x1FFFFF
_ADD_FIELDS = 0x01  # SMFIF_ADDHDRS, also to insert them
_LONGEST = 1024  # octets; an answer is much shorter


def may_add_fields(address: str, queue_directory: str) -> bool:
    """Return whether a milter, ``inet:HOST:PORT`` or ``unix:PATH``, may add header fields.

    A path is relative to the queue directory, as smtpd(8) sees it. Raises OSError if it cannot be asked.
    """
    kind, _, rest = address.partition(":")
    if kind in ("unix", "local"):
        inside = os.path.join(queue_directory, rest.lstrip("/"))  # of a service that is chrooted
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as milter:
            milter.settimeout(_TIME_LIMIT)
            milter.connect(inside if os.path.exists(inside) else rest)
            return _negotiate(milter)
    host, _, port = rest.rpartition(":")
    number = int(port) if port.isdigit() else socket.getservbyname(port)
    with socket.create_connection((host.strip("[]") or "localhost", number), _TIME_LIMIT) as milter:
        return _negotiate(milter)


def _negotiate(milter: socket.socket) -> bool:
    milter.sendall(_packet(_NEGOTIATE, struct.pack("!III", _VERSION, _ALL_ACTIONS, _ALL_STEPS)))
    with milter.makefile("rb") as answers:
        (length,) = struct.unpack("!I", answers.read(4).ljust(4, b"\0"))
        answer = answers.read(min(length, _LONGEST))
    milter.sendall(_packet(_QUIT))
    if answer[:1] != _NEGOTIATE or len(answer) < 13:
        raise OSError("it does not answer like a milter")
    _, actions, _ = struct.unpack("!III", answer[1:13])
    return bool(actions & _ADD_FIELDS)


def _packet(command: bytes, data: bytes = b"") -> bytes:
    return struct.pack("!I", len(command + data)) + command + data
