"""rspamd's configuration as rspamd merges it: its own files, then local.d, then override.d.

Only the sections that matter for signatures are read, from the files in which they are by rspamd's own
``rspamd.conf``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dkimpipe.admin.rspamd import ucl
from dkimpipe.errors import ConfigError
from dkimpipe.files import Place

_MODULES = ("dkim", "dkim_signing", "arc")
_OWN_FILE = '.include "$CONFDIR/modules.d/NAME.conf"\n'
_LOCAL_FILES = (
    '.include(try=true,priority=1,duplicate=merge) "$CONFDIR/local.d/NAME"\n'
    '.include(try=true,priority=10) "$CONFDIR/override.d/NAME"\n'
)
_WHOLE_FILES = """
.include(try=true) "$CONFDIR/rspamd.conf.local"
.include(try=true,priority=10) "$CONFDIR/rspamd.conf.local.override"
.include(try=true,priority=10) "$CONFDIR/rspamd.conf.override"
.include(try=true,duplicate=merge) "$CONFDIR/cgp.inc"
.include(try=true,priority=1,duplicate=merge) "$CONFDIR/local.d/cgp.inc"
"""
_BLOCKS = (
    ("options", "options", "", "options.inc"),
    ('worker "rspamd_proxy"', "worker-proxy", 'bind_socket = "localhost:11332"\n', "worker-proxy.inc"),
)
_DATABASES = {"/usr/local/": "/var/db/rspamd"}  # FreeBSD
_DATABASE = "/var/lib/rspamd"
_TEMPLATE = re.compile(r"\{[=%]")  # of lupa, the dialect of Jinja that rspamd has


class Setting(NamedTuple):
    """A setting: its values become an array if it is repeated."""

    name: str
    value: ucl.Scalar | ucl.Object | ucl.Array
    place: Place

    @property
    def yes(self) -> bool:
        """Whether Lua takes the value as true: everything but false and null."""
        return self.value is not False and self.value is not None

    @property
    def text(self) -> str:
        """The value as text; empty if it is not a string or a number."""
        return text_of(self.value)


class Conf:
    """The sections of a configuration."""

    def __init__(self, directory: Path) -> None:
        """Read the configuration in a directory such as /etc/rspamd. Raises ConfigError."""
        if not any((directory / name).is_dir() for name in ("modules.d", "local.d", "override.d")):
            raise ConfigError(
                f"{directory}: not rspamd's configuration: it has none of modules.d, local.d and override.d",
                "give the directory, such as /etc/rspamd",
            )
        self.directory = directory
        self.place = Place(str(directory))
        prefixes = (database for prefix, database in _DATABASES.items() if str(directory).startswith(prefix))
        self.database = next(prefixes, _DATABASE)
        self.top = ucl.parse(_text(directory), str(directory / "rspamd.conf"), self._variables())

    def _variables(self) -> dict[str, str]:
        names = ("CONFDIR", "LOCAL_CONFDIR")
        return {**dict.fromkeys(names, str(self.directory)), "DBDIR": self.database}

    def section(self, name: str) -> dict[str, Setting]:
        """Return a section. If it is repeated, the last value of each setting applies."""
        settings = {}
        for block in objects(self.top.get(name, [])):
            for key, nodes in block.items():
                value = nodes[0].value if len(nodes) == 1 else ucl.Array(nodes)
                settings[key] = Setting(key, value, nodes[-1].place)
        return settings

    def is_own(self, place: Place) -> bool:
        """Return whether a setting is in a file of the package, not in one for the administrator."""
        parent = Path(place.path).parent
        return parent == self.directory / "modules.d" or Path(place.path) == self.directory / "cgp.inc"

    def proxies(self) -> Iterator[dict[str, Setting]]:
        """Yield the settings of each worker that speaks the milter protocol."""
        for worker in objects(self.top.get("worker", [])):
            for block in objects(worker.get("rspamd_proxy", [])):
                yield {key: Setting(key, nodes[-1].value, nodes[-1].place) for key, nodes in block.items()}


def _text(directory: Path) -> str:
    """Return what rspamd.conf amounts to: the files for these sections, in its order."""
    modules = []
    for name in _MODULES:
        if (directory / "modules.d" / f"{name}.conf").exists():
            modules.append(_OWN_FILE.replace("NAME", name))
        else:
            modules.append(f"{name} {{\n{_LOCAL_FILES.replace('NAME', f'{name}.conf')}}}\n")
    blocks = [
        f'{block} {{\n{default}.include(try=true) "$CONFDIR/{file}"\n{_LOCAL_FILES.replace("NAME", file)}}}\n'
        for block, _, default, file in _BLOCKS
    ]
    return "".join([*modules, _WHOLE_FILES, *blocks])


def objects(nodes: list[ucl.Node]) -> Iterator[ucl.Object]:
    """Yield the objects among values, and those in arrays among them."""
    for node in nodes:
        if isinstance(node.value, ucl.Object):
            yield node.value
        elif isinstance(node.value, ucl.Array):
            yield from objects(node.value)


def text_of(value: ucl.Scalar | ucl.Object | ucl.Array) -> str:
    """Return a string, or a number as Lua writes it; otherwise nothing."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value:.14g}"
    return value if isinstance(value, str) else ""


def has_template(setting: Setting) -> bool:
    """Return whether a value, or one in it, is for rspamd's template engine."""
    if isinstance(setting.value, (ucl.Object, ucl.Array)):
        return bool(_TEMPLATE.search(str(ucl.plain(setting.value))))
    return bool(_TEMPLATE.search(setting.text))
