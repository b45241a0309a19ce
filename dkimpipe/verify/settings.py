"""The options of ``dkimpipe verify``, also in a conf file, including dkimproxy.in's directives."""

from __future__ import annotations

import posix

from dkimpipe.address import is_domain, to_a_labels
from dkimpipe.config import OPTIONS, VERIFY_CONF_FILE, Settings
from dkimpipe.errors import ConfigError, printable
from dkimpipe.files import read_file
from dkimpipe.verify.resolver import Resolver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from dkimpipe.files import Place

_YES_OR_NO = OPTIONS["verbose"]


class VerifySettings(Settings):
    """The settings from the command line and the conf file of ``dkimpipe verify``."""

    options: ClassVar[dict[str, tuple[str, ...]]] = {
        "conf_file": (),
        "hostname": (),
        "reject_fail": _YES_OR_NO,
        "reject_error": _YES_OR_NO,
        "dmarc": _YES_OR_NO,
        "dns_server": (),
        "key_file": (),
        "explain": _YES_OR_NO,
        "relay": (),
        "sendmail": (),
        "syslog": _YES_OR_NO,
        "client": (),
        "client_name": (),
        "queue_id": (),
    }
    conf_file = VERIFY_CONF_FILE
    command = "dkimpipe verify"

    def __init__(self) -> None:
        super().__init__()
        self.key_files: dict[str, tuple[str, Place]] = {}

    def set(self, name: str, value: str, place: Place) -> None:
        """Set one option; raise ConfigError if its value is invalid."""
        super().set(name, value, place)
        if name == "key_file":
            owner, equals, path = value.partition("=")
            if not equals:
                raise ConfigError(
                    f"{place}: key_file must be NAME=FILE, not '{value}'",
                    "for example mail._domainkey.example.com=key.pem",
                )
            self.key_files[owner.lower().rstrip(".")] = path, place

    @property
    def authserv_id(self) -> str:
        """The authserv-id of the field (RFC 8601 section 2.5): hostname, by default the system's."""
        name = self.get("hostname") or posix.uname().nodename
        try:
            domain = to_a_labels(name.encode()).rstrip(b".")
        except ValueError:
            domain = b""
        if not is_domain(domain):
            place = self.places.get("hostname", "system")
            raise ConfigError(
                f"{place}: hostname '{printable(name.encode())}' is not a valid domain",
                "set one: --hostname=mx.example.com",
            )
        return domain.decode()

    def resolver(self) -> Resolver:
        """Return the resolver for DNS. Raises ConfigError."""
        known = {name: _record(name, path, place) for name, (path, place) in self.key_files.items()}
        text = self.get("dns_server")
        if not text:
            return Resolver(None, known)
        from dkimpipe.verify.nameserver import Server

        try:
            return Resolver(Server.parse(text), known)
        except ValueError:
            place = self.places["dns_server"]
            raise ConfigError(
                f"{place}: dns_server '{text}' is not a valid address",
                "for example 192.0.2.1 or 192.0.2.1#5353",
            ) from None


def _record(name: str, path: str, place: Place) -> bytes:
    """Return the record of a name in a file, or made from the key in it. Raises ConfigError."""
    try:
        octets = read_file(path, "key file")
        if b"-----BEGIN " not in octets:
            from dkimpipe.verify import recordfile

            return recordfile.text(octets, name, path)
        from dkimpipe import publickey

        read = publickey.public if b"PRIVATE KEY-----" in octets else publickey.public_key_file
        return publickey.key_record(*read(path), {}).encode()
    except ConfigError as error:
        raise error.at(place) from None
