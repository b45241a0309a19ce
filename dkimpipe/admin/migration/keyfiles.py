"""The private keys of another signer: which files they become here, and in which form.

Each signing domain and selector has a file of its own, DOMAIN.SELECTOR.pem. If the other signer finds a key
by the sender's domain, all keys that are there now are copied, and the entry names them by a macro.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dkimpipe.address import is_domain
from dkimpipe.admin.migration.foreign import LOST, SAME, Foreign, ForeignSignature
from dkimpipe.admin.migration.pkcs8 import pkcs8
from dkimpipe.admin.migration.sources import read
from dkimpipe.errors import ConfigError, Trouble, shown
from dkimpipe.keys import PrivateKey

_MACRO = re.compile(r"\$[a-z]+")
_BEGIN = b"-----BEGIN "


class KeyFile(NamedTuple):
    """A key to be written: its name in the directory of keys, its octets, and where it is from."""

    name: str
    octets: bytes
    source: str


class KeyFiles:
    """The keys of all signatures, each read once. What cannot be used is remarked."""

    def __init__(self, foreign: Foreign) -> None:
        self.files: dict[str, KeyFile] = {}
        self._foreign = foreign
        self._seen: dict[tuple[str, str, str, bytes], str] = {}

    def name_of(self, signature: ForeignSignature) -> str:
        """Return the name of a signature's key file, with its macros; empty if there is no usable key."""
        wanted = (signature.domain, signature.selector, signature.keyfile, signature.key)
        if wanted not in self._seen:
            try:
                self._seen[wanted] = self._add(signature)
            except Trouble as trouble:
                text = f"{trouble}" + (f"; {trouble.hint}" if trouble.hint else "")
                self._foreign.remark(signature.place, LOST, f"key: {text}")
                self._seen[wanted] = ""
        return self._seen[wanted]

    def _add(self, signature: ForeignSignature) -> str:
        macro, path = _MACRO.search(signature.domain), signature.keyfile
        for word in (signature.selector, *(() if macro else (signature.domain,))):
            if not is_domain(word.lower().encode("utf-8", "surrogateescape")):
                raise ConfigError(f"'{shown(word)}' cannot be part of a name in DNS")
        if signature.selector != signature.selector.lower():
            text = f"s={shown(signature.selector)}: in lower case from now on, which is the same in DNS"
            self._foreign.remark(signature.place, SAME, text)
        name = f"{signature.domain}.{signature.selector}.pem"
        if macro and not _MACRO.search(path):  # one key for all
            name = f"{signature.selector}.pem"
        if not _MACRO.search(path):
            octets = signature.key or read(Path(path))
            self._keep(KeyFile(name, pem(path or "in the table", octets), path or str(signature.place)))
            return name
        found = list(_matching(path))
        if not found:
            raise ConfigError(f"there is no key {path}")
        for each, domain in found:
            own = _MACRO.sub(domain, name)
            self._keep(KeyFile(own, pem(str(each), read(each)), str(each)))
        return name

    def _keep(self, file: KeyFile) -> None:
        known = self.files.setdefault(file.name, file)
        if known.octets != file.octets:
            raise ConfigError(
                f"{file.source} is another key than {known.source}, with the same domain and selector",
                "keep the one whose record is in DNS",
            )


def _matching(template: str) -> Iterator[tuple[Path, str]]:
    """Yield the files that a path with macros can mean, each with the domain."""
    parts = [re.escape(part) for part in _MACRO.split(template)]
    pattern = re.compile(r"([^/]+)".join([parts[0], parts[1]]) + "".join(rf"\1{part}" for part in parts[2:]))
    for name in sorted(glob.glob("*".join(map(glob.escape, _MACRO.split(template))))):
        found = pattern.fullmatch(name)
        if found and is_domain(found[1].encode()):
            yield Path(name), found[1]


def pem(path: str, octets: bytes) -> bytes:
    """Return a private key as PEM: as it is, or converted. Raises PrivateKeyError."""
    if _BEGIN not in octets:
        return pkcs8(path, octets)
    PrivateKey(path, octets)
    return octets
