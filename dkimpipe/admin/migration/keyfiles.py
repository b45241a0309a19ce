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
from dkimpipe.admin.foreignfiles import read
from dkimpipe.admin.migration.foreign import CHANGED, LOST, SAME, Foreign, ForeignSignature
from dkimpipe.admin.migration.pkcs8 import pkcs8
from dkimpipe.errors import ConfigError, PrivateKeyError, Trouble, shown
from dkimpipe.keys import PrivateKey

_MACRO = re.compile(r"\$[a-z]+")
_BEGIN = b"-----BEGIN "


class KeyFile(NamedTuple):
    """A key to be written.

    ``name``      in the directory of keys
    ``source``    where it is from
    ``modified``  when the file that has it was last changed, in ns since 1970: the key is at least as old
    """

    name: str
    octets: bytes
    source: str
    modified: int = 0


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
        if _MACRO.search(path):
            self._add_all(signature, name)
            return name
        if macro:  # one key for all
            name = f"{signature.selector}.pem"
        octets = signature.key or read(Path(path))
        file = path or signature.place.path
        source = path or str(signature.place)
        self._keep(KeyFile(name, pem(path or "in the table", octets), source, _modified(Path(file))))
        return name

    def _add_all(self, signature: ForeignSignature, name: str) -> None:
        """Add the key of each domain that has one. Raises ConfigError if none of them can be used."""
        found = list(_matching(signature.keyfile))
        if not found:
            raise ConfigError(f"there is no key {signature.keyfile}")
        faults = [(domain, self._add_one(signature, path, domain, name)) for path, domain in found]
        unusable = [(domain, trouble) for domain, trouble in faults if trouble]
        if len(unusable) == len(found):
            raise unusable[0][1]
        for domain, trouble in unusable:
            text = (
                f"key: {trouble}: mail from {domain} is not signed until {_MACRO.sub(domain, name)} is there"
            )
            self._foreign.remark(
                signature.place, CHANGED, text + (f"; {trouble.hint}" if trouble.hint else "")
            )
        text = f"key: {signature.keyfile}: copied once; a key that is added there later has to be copied"
        self._foreign.remark(signature.place, CHANGED, f"{text} as {name}")

    def _add_one(
        self, signature: ForeignSignature, path: Path, domain: str, name: str
    ) -> PrivateKeyError | ConfigError | None:
        """Add the key of one domain. Return why it cannot be used; None if it can, or is there already."""
        try:
            octets = pem(str(path), read(path))
        except (PrivateKeyError, ConfigError) as trouble:
            return trouble
        try:
            self._keep(KeyFile(_MACRO.sub(domain, name), octets, str(path), _modified(path)))
        except ConfigError as error:
            self._foreign.remark(signature.place, LOST, f"key: {error}; {error.hint}")
        return None

    def _keep(self, file: KeyFile) -> None:
        known = self.files.setdefault(file.name, file)
        if known.octets != file.octets:
            raise ConfigError(
                f"{file.source} is another key than {known.source}, with the same domain and selector",
                "keep the one whose record is in DNS",
            )


def _modified(path: Path) -> int:
    """Return when a file was last changed, in ns since 1970; 0 if that is not known."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


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
