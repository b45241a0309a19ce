"""The settings of all filters that this machine is known to run, and what they sign with.

A verb reads the files that its options name. What these do not use, another filter may.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from dkimpipe.admin.maps import configured
from dkimpipe.admin.maps.entries import Line
from dkimpipe.admin.maps.outcomes import Use, outcomes
from dkimpipe.admin.maps.samples import samples
from dkimpipe.admin.postfix import filter_service
from dkimpipe.admin.postfix.filter_service import SIGN
from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.config import Settings, read_settings
from dkimpipe.errors import ConfigError, NotSigned
from dkimpipe.files import exists
from dkimpipe.options import complete, macros
from dkimpipe.senders import Signature


class Needed(NamedTuple):
    """What filters sign with: the paths of key files, without links, and the names of records."""

    keyfiles: frozenset[str]
    records: frozenset[str]


def known_settings() -> Iterator[Settings]:
    """Yield the settings of the default files, if they are in use, and of each filter in master.cf.

    Raises Trouble if some cannot be read: what they use is unknown.
    """
    default = read_settings([])
    if all(map(exists, configured.named_maps(default))):
        yield default
    for postconf in _instances():
        for service in postconf.running("pipe"):
            if filter_service.options(service) is not None:
                yield filter_service.settings_of(service, SIGN)


def _instances() -> Iterator[Postconf]:
    """Yield all instances of Postfix on this machine. Raises ConfigError."""
    if not shutil.which("postconf"):
        return
    try:
        default = Postconf()
    except ConfigError as error:
        if "main.cf: No such file" in str(error):
            return
        raise
    yield default
    for directory in default.words("multi_instance_directories"):
        if Path(directory, "main.cf").exists():
            yield Postconf(directory)


def needed(apart_from: Collection[str] = ()) -> Needed:
    """Return what these settings sign with, apart from the entries in these files.

    Raises Trouble if it is unknown.
    """
    keyfiles: set[str] = set()
    records: set[str] = set()
    for settings in known_settings():
        lines = [
            line
            for line in configured.lines_by_domain(settings)
            if os.path.realpath(line.place.path) not in apart_from
        ]
        for line, signature, use in outcomes(lines, settings):
            if isinstance(use, ConfigError):
                raise use
            if isinstance(use, Use):
                records.add(use.name.lower())
            if signature:
                keyfiles.update(_keyfiles(line, signature, settings))
    return Needed(frozenset(keyfiles), frozenset(records))


def _keyfiles(line: Line, signature: Signature, settings: Settings) -> Iterator[str]:
    for sender, domain in samples(line):
        with contextlib.suppress(NotSigned):
            yield os.path.realpath(complete(signature, settings, macros(sender, domain)).keyfile)
