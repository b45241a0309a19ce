"""A client of the milter protocol, as Postfix is one: which header fields a milter adds to a message.

The protocol is version 6 of that of libmilter (mfdef.h): packets of a length, a command and its data.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from pathlib import Path

_ACTIONS = 0x1FF
_ADDED = b"hi"  # SMFIR_ADDHEADER, SMFIR_INSHEADER
_MORE = b"hipm"  # and more replies follow
CLIENT = "203.0.113.9"


def added_fields(path: Path, macros: Mapping[str, str], sender: str, client: str = CLIENT) -> list[str]:
    """Return the names of the fields that the milter at a socket adds to a message of a client.

    ``macros``  by their names, as Postfix sends them when the client connects
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(path))
        _send(connection, b"O", struct.pack(">III", 6, _ACTIONS, 0))
        _reply(connection)
        words = [word for pair in macros.items() for word in pair]
        _send(connection, b"D", b"C" + _strings(*words))
        steps = [
            (b"C", _strings("client.example") + b"4" + struct.pack(">H", 2525) + _strings(client)),
            (b"H", _strings("client.example")),
            (b"M", _strings(f"<{sender}>")),
            (b"R", _strings("<b@example.net>")),
            *((b"L", _strings(*field)) for field in (("From", sender), ("Subject", "test"))),
            (b"N", b""),
            (b"B", b"hello\r\n"),
            (b"E", b""),
        ]
        found = []
        for command, data in steps:
            _send(connection, command, data)
            while (reply := _reply(connection))[:1] in _MORE:
                if reply[:1] in _ADDED:
                    found.append(reply[1 if reply[:1] == b"h" else 5 :].split(b"\0")[0].decode())
            if reply[:1] != b"c":
                break
        _send(connection, b"Q", b"")
    return found


def _strings(*words: str) -> bytes:
    return b"".join(word.encode() + b"\0" for word in words)


def _send(connection: socket.socket, command: bytes, data: bytes) -> None:
    connection.sendall(struct.pack(">I", len(data) + 1) + command + data)


def _reply(connection: socket.socket) -> bytes:
    (length,) = struct.unpack(">I", _exactly(connection, 4))
    return _exactly(connection, length)


def _exactly(connection: socket.socket, length: int) -> bytes:
    octets = b""
    while len(octets) < length:
        octets += connection.recv(length - len(octets)) or _closed()
    return octets


def _closed() -> bytes:
    raise ConnectionError("the milter closed the connection")
