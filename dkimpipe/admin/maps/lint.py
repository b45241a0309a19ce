"""All problems in the conf file, the maps and the keys, each with file and line."""

from __future__ import annotations

import functools
import os
import re
import shlex

from dkimpipe import clients, config, mapindex, publickey, relay, senders
from dkimpipe.admin.findings import Finding
from dkimpipe.admin.maps import configured, dkimproxy, entries, index, matching
from dkimpipe.admin.maps.entries import BY_SENDER, Line
from dkimpipe.admin.maps.entrylint import EntryLint, as_finding
from dkimpipe.admin.maps.expansion import expanded
from dkimpipe.admin.maps.outcomes import Use
from dkimpipe.config import COMMAND_LINE_ONLY, CONF_FILE, OPTIONS, Settings
from dkimpipe.errors import ConfigError, Trouble
from dkimpipe.files import COMMAND_LINE, Place, exists

# Hidden files, and copies that editors and package managers leave behind.
_BACKUP = re.compile(r"^[.#]|~$|\.(bak|old|orig|rej|save|sw[a-z]|tmp|dpkg-\w+|ucf-\w+|rpm\w+)$")


class Lint:
    """The findings about one set of options of the filter.

    ``settings``    the valid settings of the command line and the conf file
    ``findings``    the problems, in the order of the files
    ``good``        the number of valid signatures
    ``uses``        those of them that apply and whose record has a fixed name
    ``named``       the conf file, the maps, and the directory of the senders file
    ``files``       these, and what is in the directory
    ``keyfiles``    the key files, each with the place that names it first
    """

    def __init__(self, arguments: list[str]) -> None:
        """Check everything. ``arguments`` are options of the filter."""
        self.settings = Settings()
        self.findings: list[Finding] = []
        self.uses: list[Use] = []
        self.named: list[str] = []
        self.files: list[str] = []
        self._is_of_dkimproxy = False
        self._lines: list[Line] = []  # that apply
        try:
            self.settings = config.read_command_line(arguments)
            self._conf()
            clients.networks(self.settings)
            if self.settings.get("relay"):
                relay.address(self.settings.get("relay"), self.settings.places["relay"])
        except Trouble as trouble:
            self._error(trouble)
        if self._is_of_dkimproxy:
            self.findings += dkimproxy.directives(self.settings)
        self._entries = EntryLint(self.settings, self.findings, self._is_of_dkimproxy)
        self._maps()
        self.good, self.keyfiles = self._entries.good, self._entries.keyfiles
        self._selectors()
        self.findings = list(dict.fromkeys(self.findings))  # one signature may apply to several domains

    def _error(self, trouble: Trouble) -> None:
        self.findings.append(as_finding(trouble))

    def _warn(self, what: str, hint: str = "") -> None:
        self.findings.append(Finding(what, hint, "warning"))

    def _conf(self) -> None:
        path = self.settings.get("conf_file") or (CONF_FILE if exists(CONF_FILE) else "")
        if not path:
            return
        self.named.append(path)
        self.files.append(path)
        seen: dict[str, Place] = {}
        for name, value, place, line in config.conf_lines(path):
            if name in config.IGNORED:
                self._is_of_dkimproxy = True
                self._warn(f"{place}: {name} is a server directive; it has no effect here")
            elif name not in OPTIONS or name in COMMAND_LINE_ONLY:
                self._error(config.unknown_directive(place, line))
            else:
                if name in seen and name != "signature":
                    self._warn(f"{place}: {name} is already in line {seen[name].line}; this one applies")
                seen[name] = place
                self._set(name, value, place)

    def _set(self, name: str, value: str, place: Place) -> None:
        try:
            if self.settings.places.get(name) is not COMMAND_LINE:
                self.settings.set(name, value, place)
        except Trouble as trouble:
            self._error(trouble)

    def _maps(self) -> None:
        for path, by in configured.named_maps(self.settings).items():
            self.named.append(path)
            seen: dict[bytes, Place] = {}
            for each in [path, *(self._directory(path) if by == BY_SENDER else ())]:
                self.files.append(each)
                try:
                    self._map(each, by, seen)
                except Trouble as trouble:
                    self.findings.append(
                        Finding(str(trouble), (each != path and _replacing(each)) or trouble.hint)
                    )
        try:
            for line in configured.without_map(self.settings):
                self._lines.append(line)
                self.uses += self._entries.check(line)
            for line in expanded(self._lines, self.settings)[len(self._lines) :]:
                self.uses += self._entries.check(line)
        except Trouble as trouble:
            self._error(trouble)

    def _directory(self, path: str) -> list[str]:
        """Return the maps in the directory of a senders file; warn of files that are ignored."""
        directory = senders.directory_of(path)
        if not exists(directory):
            return []
        self.named.append(directory)
        self.files.append(directory)
        try:
            found = senders.more_maps(path)
        except Trouble as trouble:
            self._error(trouble)
            return []
        for name in sorted(os.listdir(directory)):
            if not (name.endswith((".conf", ".index")) or _BACKUP.search(name)):
                self._warn(f"{directory}/{name} is ignored: its name does not end in .conf")
        return found

    def _map(self, path: str, by: str, seen: dict[bytes, Place]) -> None:
        """Check a map; ``seen`` are the keys of the maps before it, and after it also its own."""
        uses: dict[bytes, list[Use]] = {}
        lines: dict[bytes, Line] = {}
        for place in entries.orphans(path):
            self._warn(f"{place}: it begins with white space, but there is no entry to continue")
        empty = True
        for line in entries.entries(path, by):
            empty = False
            if no_match := matching.fault(line):
                self._error(no_match)
                continue
            key = entries.canonical(line.key)
            made = self._entries.check(line)
            if key in seen and seen[key].path != path:
                what = f"{line.place}: {line.key} is already in {seen[key]}, which applies"
                self._error(ConfigError(what, "remove one of the two"))
                continue
            if key in seen:
                what = f"{line.key} is already in line {seen[key].line}; only this line applies"
                self._warn(f"{line.place}: {what}")
            seen[key] = line.place
            lines[key], uses[key] = line, made
        self._lines += lines.values()
        self.uses += [use for each in uses.values() for use in each]
        if exists(mapindex.path_of(path)) and not index.is_fresh(path, os.stat(path)):
            self._warn(f"{mapindex.path_of(path)} is out of date: the map is scanned", "dkimpipe index")
        senders.refuse_empty(path, os.stat(path))
        if empty:
            self._warn(f"{path}: it contains no entries")

    def _selectors(self) -> None:
        """Check for names in DNS that would need two keys."""
        value = functools.cache(publickey.record_value)
        seen: dict[str, Use] = {}
        for use in self.uses:
            first = seen.setdefault(use.name, use).options.keyfile
            if value(first) != value(use.options.keyfile):
                what = f"{use.line.place}: {use.name} already belongs to another key, {first}"
                self._error(ConfigError(what, "use a separate selector for each key"))


def _replacing(path: str) -> str:
    """Return what to do about what is not a file in a directory of maps, where no line names it."""
    quoted = shlex.quote(path)
    if os.path.isdir(path):
        return f"# only files are read:\nmv {quoted} {shlex.quote(path.removesuffix('.conf'))}"
    if os.path.islink(path) and not os.path.exists(path):
        return f"# the link leads to nothing:\nrm {quoted}"
    if not (os.path.islink(path) and os.path.isfile(path)):
        return ""
    target = shlex.quote(os.path.realpath(path))
    return f"# replace the link by the file:\ncp --remove-destination {target} {quoted}"
