"""Stand-ins for the HTTP APIs of PowerDNS and Cloudflare: as much of them as postfix/dns_panel.py uses."""

from __future__ import annotations

import itertools
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from conftest import PROJECT
from nameserver import NameServer

KEY = "s3cret"
ZONE = "hoster.example"


class Api(NameServer):
    """A context manager: the API and a name server with one zone, and the program that calls the API.

    ``contents``  TXT records by name, as the API has them: identifier and quoted strings
    ``disabled``  identifiers of records that PowerDNS does not publish
    ``ttls``      the last time to live by name
    ``requests``  method and path of each request
    ``answers``   what some requests are answered with instead
    """

    kind = ""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory
        self.contents: dict[str, dict[str, str]] = {}
        self.disabled: set[str] = set()
        self.ttls: dict[str, int] = {}
        self.answers: dict[str, object] = {}
        self.requests: list[str] = []
        self.redirect = ""
        self._numbers = itertools.count(1)

    def __enter__(self) -> Api:
        super().__enter__()
        handler = type("Handler", (_Handler,), {"api": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        self.conf(f"api {self.kind}\n# a comment\nurl {self.url}\nkey  {KEY}\n")
        self.program = self.directory / "dns-panel"
        conf = str(self.directory / "panel.conf")
        source = (PROJECT / "postfix" / "dns_panel.py").read_text()
        self.program.write_text(source.replace("/etc/dkimpipe/dns-panel.conf", conf))
        self.program.chmod(0o755)
        return self

    def __exit__(self, *error: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        super().__exit__(*error)

    def conf(self, text: str, mode: int = 0o600) -> None:
        """Write the settings of the program."""
        path = self.directory / "panel.conf"
        path.write_text(text)
        path.chmod(mode)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/api"

    @property
    def look_at(self) -> str:
        return f"--look-at=127.0.0.1#{self.port}"

    def add(self, name: str, content: str) -> str:
        """Add a record and return its identifier."""
        identifier = f"r{next(self._numbers)}"
        self.contents.setdefault(name, {})[identifier] = content
        return identifier

    def values(self, name: str) -> list[str]:
        """Return the values of a name that are published."""
        records = self.contents.get(name, {})
        contents = [content for key, content in records.items() if key not in self.disabled]
        return [re.sub(r"\\(.)", r"\1", re.sub(r'^"|"$|(?<!\\)" "', "", each)) for each in contents]

    def _of(self, name: str) -> list[str]:
        return list(self.contents.get(name, {}).values())

    def answer(self, wire: bytes, transport: str) -> bytes:
        names = {name: [each.encode() for each in self.values(name)] for name in self.contents}
        self.records = {name: values for name, values in names.items() if values}
        return super().answer(wire, transport)

    def is_allowed(self, headers: Any) -> bool:
        """Return whether a request has the key."""
        raise NotImplementedError

    def respond(self, method: str, path: str, query: dict[str, str], data: Any) -> tuple[int, object]:
        """Return status and answer."""
        raise NotImplementedError


class PowerDns(Api):
    """doc.powerdns.com/authoritative/http-api: zones, and sets of records that are replaced at once."""

    kind = "powerdns"

    def is_allowed(self, headers: Any) -> bool:
        return bool(headers["X-API-Key"] == KEY)

    def respond(self, method: str, path: str, query: dict[str, str], data: Any) -> tuple[int, object]:
        if (method, path) == ("GET", "/zones"):
            return 200, [{"id": f"{ZONE}."}] if query["zone"] == f"{ZONE}." else []
        assert path == f"/zones/{ZONE}."
        if method == "GET":
            other = {"name": f"other.{ZONE}.", "type": "TXT", "records": [{"content": '"x"'}]}
            sets = [
                {
                    "name": f"{name}.",
                    "type": "TXT",
                    "records": [
                        {"content": content, "disabled": key in self.disabled}
                        for key, content in records.items()
                    ],
                }
                for name, records in self.contents.items()
            ]
            return 200, {"rrsets": [other, *sets]}
        assert method == "PATCH"
        for each in data["rrsets"]:
            name = each["name"][:-1]
            self.contents[name] = {}
            self.ttls[name] = each["ttl"]
            assert each["changetype"] == ("REPLACE" if each["records"] else "DELETE")
            for record in each["records"]:
                identifier = self.add(name, record["content"])
                if record["disabled"]:
                    self.disabled.add(identifier)
        return 204, None


class Cloudflare(Api):
    """developers.cloudflare.com/api: zones, and records with an identifier each."""

    kind = "cloudflare"

    def is_allowed(self, headers: Any) -> bool:
        return bool(headers["Authorization"] == f"Bearer {KEY}")

    def respond(self, method: str, path: str, query: dict[str, str], data: Any) -> tuple[int, object]:
        if (method, path) == ("GET", "/zones"):
            return 200, {"success": True, "result": [{"id": "z1"}] if query["name"] == ZONE else []}
        _, zones, zone, records, *identifier = path.split("/")
        assert (zones, zone, records) == ("zones", "z1", "dns_records")
        if method == "GET":
            found = self.contents.get(query["name"], {})
            return 200, {"result": [{"id": key, "content": content} for key, content in found.items()]}
        if method == "DELETE":
            for values in self.contents.values():
                values.pop(identifier[0], None)
            return 200, {"success": True, "result": {"id": identifier[0]}}
        assert method == "POST" and data["type"] == "TXT"
        if data["content"] in self._of(data["name"]):
            return 400, {"success": False, "errors": [{"code": 81058, "message": "already exists"}]}
        self.ttls[data["name"]] = data["ttl"]
        return 200, {"success": True, "result": {"id": self.add(data["name"], data["content"])}}


class _Handler(BaseHTTPRequestHandler):
    api: Api

    def _do(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path).removeprefix("/api")
        self.api.requests.append(f"{self.command} {path}")
        data = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or b"null")
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if self.api.redirect:
            self._send(302, {}, self.api.redirect)
        elif not self.api.is_allowed(self.headers):
            self._send(403, {"error": "Forbidden"})
        elif self.api.requests[-1] in self.api.answers:
            self._send(200, self.api.answers[self.api.requests[-1]])
        else:
            self._send(*self.api.respond(self.command, path, query, data))

    do_GET = do_POST = do_PATCH = do_DELETE = _do

    def _send(self, status: int, answer: object, location: str = "") -> None:
        octets = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Length", str(len(octets)))
        self.end_headers()
        self.wfile.write(octets)

    def log_message(self, *_: object) -> None:
        """Print nothing."""
