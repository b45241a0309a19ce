"""A small authoritative DNS server on 127.0.0.1 for tests: TXT and CNAME over UDP and TCP (RFC 1035).

It answers from dictionaries that a test may change while it runs. It is not recursive, knows no zones and no
negative caching: a name it does not hold is NXDOMAIN, a name held with another type is an empty answer.
"""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TXT

IN, TXT, CNAME = dns.rdataclass.IN, dns.rdatatype.TXT, dns.rdatatype.CNAME


class NameServer:
    """A context manager: the server answers from entry to exit, on `address` and `port` (UDP and TCP alike).

    `records`: a name in lower case without the last dot, to its TXT records; each is one value of any
    length, sent as strings of 255 octets at most, several in the order of the list. `aliases`: a name to
    the name its CNAME points at. `outside`: the end of names in another zone: it does not follow aliases to
    them, and refuses queries for them. `broken`: names that get SERVFAIL. `faults`: names to what is done to
    their answers: it gets the response in wire form and 'udp' or 'tcp', and returns what is sent, nothing for
    silence. `edns_fault`: the same, for the answers to all queries with EDNS.
    `asked`: what was asked so far, as ('udp' or 'tcp', name). An answer too long for UDP (512 octets, or what
    the query's EDNS allows) goes out empty with TC set, so that the asker comes again by TCP.
    """

    def __init__(self, records: dict[str, list[bytes]] | None = None) -> None:
        self.records: dict[str, list[bytes]] = {} if records is None else records
        self.aliases: dict[str, str] = {}
        self.outside = ""
        self.broken: set[str] = set()
        self.faults: dict[str, Callable[[bytes, str], bytes]] = {}
        self.edns_fault: Callable[[bytes, str], bytes] | None = None
        self.asked: list[tuple[str, str]] = []
        self.address = "127.0.0.1"
        self.port = 0
        self._servers: list[socketserver.BaseServer] = []

    def __enter__(self) -> NameServer:
        handlers = [type("Handler", (base,), {"answer": self.answer}) for base in (_Udp, _Tcp)]
        while not self._servers:
            udp = socketserver.ThreadingUDPServer((self.address, 0), handlers[0])
            self.port = udp.server_address[1]
            try:
                tcp = socketserver.ThreadingTCPServer((self.address, self.port), handlers[1])
            except OSError:  # another program holds the TCP port of this number
                udp.server_close()
            else:
                tcp.daemon_threads = True
                self._servers = [udp, tcp]
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
        self._servers = []

    def answer(self, wire: bytes, transport: str) -> bytes:
        """The response, in wire form, to the query `wire` that came by `transport`, 'udp' or 'tcp'."""
        query = dns.message.from_wire(wire)
        response = dns.message.make_response(query)
        response.flags |= dns.flags.AA
        question = query.question[0]
        name = question.name
        self.asked.append((transport, _text(name)))
        for _ in range(8):
            target = self.aliases.get(_text(name))
            if target is None:
                break
            name_there = dns.name.from_text(target)
            self._add(response, name, dns.rdata.from_text(IN, CNAME, name_there.to_text()))
            name = name_there
        if self.outside and _text(name).endswith(self.outside):
            response.set_rcode(dns.rcode.NOERROR if response.answer else dns.rcode.REFUSED)
        elif _text(name) in self.broken:
            response.set_rcode(dns.rcode.SERVFAIL)
        elif _text(name) not in self.records:
            response.set_rcode(dns.rcode.NXDOMAIN)
        elif question.rdtype == TXT:
            for value in self.records[_text(name)]:
                strings = [value[i : i + 255] for i in range(0, len(value), 255)] or [b""]
                self._add(response, name, dns.rdtypes.ANY.TXT.TXT(IN, TXT, strings))
        fault = self.faults.get(_text(question.name))
        if self.edns_fault and query.edns >= 0:
            fault = self.edns_fault
        wire = self._wire(response, query, transport)
        return fault(wire, transport) if fault else wire

    def _wire(self, response: dns.message.Message, query: dns.message.Message, transport: str) -> bytes:
        try:
            size = 65535 if transport == "tcp" else max(512, query.payload)
            return response.to_wire(max_size=size, want_shuffle=False)
        except dns.exception.TooBig:
            response.answer.clear()
            response.flags |= dns.flags.TC
            return response.to_wire()

    def _add(self, response: dns.message.Message, name: dns.name.Name, rdata: dns.rdata.Rdata) -> None:
        response.find_rrset(response.answer, name, IN, rdata.rdtype, create=True).add(rdata, 1)


def silent(wire: bytes, transport: str) -> bytes:
    """Give no answer."""
    return b""


def with_code(code: int) -> Callable[[bytes, str], bytes]:
    """Return a fault: the answer with another code."""
    return lambda wire, transport: wire[:3] + bytes([wire[3] & 0xF0 | code]) + wire[4:]


def header_only(code: int) -> Callable[[bytes, str], bytes]:
    """Return a fault: this code, and not even the question, as servers without EDNS answer."""
    return lambda wire, transport: wire[:3] + bytes([wire[3] & 0xF0 | code]) + bytes(8)


# What servers and firewalls that know no EDNS do with it (RFC 6891 section 7).
NO_EDNS: dict[str, Callable[[bytes, str], bytes]] = {
    "FORMERR": header_only(1),
    "FORMERR, with the question": with_code(1),
    "NOTIMP": header_only(4),
    "NOTIMP, with the question": with_code(4),
    "SERVFAIL": header_only(2),
    "REFUSED": header_only(5),
    "REFUSED, with the question": with_code(5),
    "silent": silent,
}


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()


class _Udp(socketserver.BaseRequestHandler):
    answer: Callable[[bytes, str], bytes]

    def handle(self) -> None:
        wire, sock = self.request
        answer = self.answer(wire, "udp")
        if answer:
            sock.sendto(answer, self.client_address)


class _Tcp(socketserver.StreamRequestHandler):
    answer: Callable[[bytes, str], bytes]
    timeout = 5

    def handle(self) -> None:
        try:
            while len(head := self.rfile.read(2)) == 2:
                wire = self.answer(self.rfile.read(int.from_bytes(head, "big")), "tcp")
                if not wire:
                    return
                self.wfile.write(len(wire).to_bytes(2, "big") + wire)
        except OSError:  # a time-out or a lost connection: the asker has what it wanted
            return
