#!/usr/bin/python3 -I
"""Change TXT records by the HTTP API of PowerDNS or Cloudflare, as a program for --publish-command.

    install -m 755 dns_panel.py /usr/local/sbin/dkimpipe-dns-panel
    dkimpipe rotate --publish-command dkimpipe-dns-panel

The settings are in /etc/dkimpipe/dns-panel.conf, which only its owner may read (chmod 600): for PowerDNS

    api powerdns
    url http://127.0.0.1:8081/api/v1/servers/localhost
    key VALUE OF api-key IN pdns.conf

and for Cloudflare, with a token that may edit the DNS of the zone,

    api cloudflare
    url https://api.cloudflare.com/client/v4
    key TOKEN

For the API of another provider, write a function like ``powerdns`` or ``cloudflare`` and add it to ``APIS``.
dkimpipe-dns(1) describes how the program is called.
"""

from __future__ import annotations

import json
import os
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

CONF = "/etc/dkimpipe/dns-panel.conf"
TIME_LIMIT = 20  # seconds for one request
SHOWN = 300  # bytes of an answer in an error


class Wanted(NamedTuple):
    """A change: ``action`` is add or delete, ``name`` has no trailing dot, ``ttl`` is in seconds."""

    action: str
    name: str
    ttl: int
    value: str
    strings: list[str]

    @property
    def content(self) -> str:
        """The value as in a zone file: quoted strings."""
        escaped = [each.replace("\\", "\\\\").replace('"', '\\"') for each in self.strings]
        return " ".join([f'"{each}"' for each in escaped])

    def is_in(self, content: str) -> bool:
        """Return whether a record of the panel has this value, however it is split into strings."""
        strings = re.findall(r'"((?:[^"\\]|\\.)*)"', content)
        return self.value == (re.sub(r"\\(.)", r"\1", "".join(strings)) if strings else content)

    def zones(self) -> Iterator[str]:
        """Yield the names of the zones that can hold the name, the longest first."""
        labels = self.name.split(".")
        yield from (".".join(labels[at:]) for at in range(1, len(labels)))


class Api:
    """An API that takes and returns JSON; ``headers`` are sent with each request."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self._url = url.rstrip("/")
        self._headers = {**headers, "Content-Type": "application/json", "User-Agent": "dkimpipe"}
        self._opener = urllib.request.build_opener(_NoRedirect)

    def call(self, method: str, path: str, data: object = None, **query: str) -> Any:
        """Return the answer to a request. Exit with a message if it is an error."""
        url = f"{self._url}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(url, body, self._headers, method=method)  # noqa: S310 - as configured
        try:
            with self._opener.open(request, timeout=TIME_LIMIT) as answer:
                found = json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            text = error.read(SHOWN).decode("utf-8", "replace").strip()
            fail(f"{method} {path}: HTTP status {error.code}: {text}")
        except (OSError, ValueError) as error:
            fail(f"{method} {path}: {error}")
        if isinstance(found, dict) and found.get("success") is False:
            fail(f"{method} {path}: {json.dumps(found.get('errors'))[:SHOWN]}")
        if found is None and method == "GET":
            fail(f"{method} {path}: the answer is empty")
        return found


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: the key would go with it."""

    def redirect_request(self, *_: object) -> None:
        return None


def powerdns(url: str, key: str, wanted: Wanted) -> None:
    """https://doc.powerdns.com/authoritative/http-api/zone.html: all records of a name change at once."""
    api = Api(url, {"X-API-Key": key})
    found = (each for zone in wanted.zones() for each in api.call("GET", "/zones", zone=f"{zone}."))
    zone = next(found, None) or fail(f"{wanted.name}: there is no zone for it")
    path = f"/zones/{urllib.parse.quote(zone['id'])}"
    name = f"{wanted.name}."
    sets = api.call("GET", path, rrset_name=name, rrset_type="TXT")["rrsets"]
    before = [
        {"content": record["content"], "disabled": bool(record.get("disabled"))}
        for each in sets
        if (each["name"].lower(), each["type"]) == (name, "TXT")
        for record in each["records"]
    ]
    same = [record for record in before if wanted.is_in(record["content"])]
    after = [record for record in before if record not in same]
    if wanted.action == "add":
        after.append({"content": wanted.content, "disabled": False})
        is_done = any(not record["disabled"] for record in same)
    else:
        is_done = not same
    if not is_done:
        changed = {
            "name": name,
            "type": "TXT",
            "ttl": wanted.ttl,
            "changetype": "REPLACE" if after else "DELETE",
            "records": after,
        }
        api.call("PATCH", path, {"rrsets": [changed]})


def cloudflare(url: str, key: str, wanted: Wanted) -> None:
    """https://developers.cloudflare.com/api/resources/dns/: each record has an identifier."""
    api = Api(url, {"Authorization": f"Bearer {key}"})
    found = (each for zone in wanted.zones() for each in api.call("GET", "/zones", name=zone)["result"])
    zone = next(found, None) or fail(f"{wanted.name}: there is no zone for it that this token may read")
    path = f"/zones/{zone['id']}/dns_records"
    there = api.call("GET", path, type="TXT", name=wanted.name)["result"]
    same = [each["id"] for each in there if wanted.is_in(each["content"])]
    if wanted.action == "delete":
        for identifier in same:
            api.call("DELETE", f"{path}/{identifier}")
    elif not same:
        ttl = max(60, wanted.ttl)  # the least that it takes
        record = {"type": "TXT", "name": wanted.name, "content": wanted.content, "ttl": ttl}
        api.call("POST", path, record)


APIS = {"powerdns": powerdns, "cloudflare": cloudflare}


def settings(path: str) -> dict[str, str]:
    """Return the settings of a file that only its owner may read: one name and value a line."""
    try:
        with open(path, encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                fail(f"{path} is accessible to others: chmod 600 {path}")
            lines = [line.split(None, 1) for line in file if line.strip() and not line.startswith("#")]
    except (OSError, ValueError) as error:
        fail(str(error))
    found = {name: "".join(value).strip() for name, *value in lines}
    for name in ("api", "url", "key"):
        if not found.get(name):
            fail(f"{path}: no {name}")
    return found


def main() -> None:
    """Make the change that is described by the arguments and standard input."""
    if len(sys.argv) != 4:
        fail("usage: dkimpipe-dns-panel add|delete NAME TTL, with the record on standard input")
    action, name, ttl = sys.argv[1:]
    value = sys.stdin.readline().rstrip("\n")
    strings = json.loads(sys.stdin.readline())["strings"]
    conf = settings(CONF)
    change = APIS.get(conf["api"]) or fail(f"{CONF}: unknown api {conf['api']}; known: {', '.join(APIS)}")
    try:
        change(conf["url"], conf["key"], Wanted(action, name, int(ttl), value, strings))
    except (AttributeError, KeyError, TypeError) as error:
        fail(f"{conf['url']}: an answer is not one of {conf['api']}: {error}")


def fail(message: str) -> NoReturn:
    """Exit with a message on standard error, and status 1."""
    raise SystemExit(message)


if __name__ == "__main__":
    main()
