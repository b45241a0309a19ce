"""dkimpy-milter: its configuration, which looks like OpenDKIM's, expressed in dkimpipe's files.

The reference is the code of dkimpy-milter 1.2, which differs from its manual: the case of names matters, a
line of a table has two words, patterns do not need ``refile:``, and mail of its domains is signed wherever it
comes from.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dkimpipe.address import is_domain
from dkimpipe.admin.foreignfiles import lines
from dkimpipe.admin.migration import harmful
from dkimpipe.admin.migration.foreign import CHANGED, LOST, SAME, Foreign, ForeignSignature, Remark, Rule
from dkimpipe.admin.postfix.kinds import LOCAL, NETWORKS, SUBMISSION
from dkimpipe.errors import shown
from dkimpipe.files import Place

DEFAULT_PATH = Path("/etc/dkimpy-milter/dkimpy-milter.conf")
ANYONE, SENDER_DOMAIN = ".", "$senderdomain"
_SOCKET = "local:/var/run/dkimpy-milter/dkimpy-milter.sock"
_SUFFIXES = ("", "Ed25519")  # of the settings for each type of key
_UNKNOWN = "unknown to dkimpipe; dkimpy-milter 1.2 ignores it"
_DAEMON = "dkimpipe is not a daemon"
_VERIFIER = "for verification; dkimpipe verify has settings of its own"
_LOG = "dkimpipe logs one line per message to the facility mail"
_READ = """
    Canonicalization Domain KeyFile KeyFileEd25519 KeyTable KeyTableEd25519 Mode Selector SelectorEd25519
    SignHeaders SigningTable Socket SubDomains
"""
_EFFECTS = {
    "AuthservID": (SAME, _VERIFIER),
    "DiagnosticDirectory": (SAME, _VERIFIER),
    "DNSOverride": (SAME, _VERIFIER),
    "DNSTimeout": (SAME, _VERIFIER),
    "IntHosts": (SAME, _VERIFIER),
    "InternalHosts": (SAME, "it prevents verification only: see Domain for what is signed"),
    "MacroList": (SAME, "it prevents verification only: see Domain for what is signed"),
    "MacroListVerify": (CHANGED, "which services sign is a setting of Postfix: dkimpipe postfix --sign"),
    "MinimumKeyBits": (SAME, _VERIFIER),
    "OmitHeaders": (SAME, "dkimpy-milter does not implement it"),
    "PeerList": (SAME, "dkimpy-milter does not implement it"),
    "PidFile": (SAME, _DAEMON),
    "Syslog": (SAME, _LOG),
    "SyslogFacility": (SAME, _LOG),
    "SyslogSuccess": (SAME, _LOG),
    "UMask": (SAME, _DAEMON),
    "UserID": (SAME, "dkimpipe postfix runs the filter as a user of its own"),
    "debugLevel": (SAME, _LOG),
}
_FROM_ANYWHERE = (
    "Domain: mail with such a From is signed today wherever it comes from, even from strangers; here if the"
    " client logged in or is in mynetworks"
)
_DEFAULT_HEADERS = (
    "SignHeaders: not set: dkimpy's list of fields is signed today, of which it oversigns From; here"
    " dkimpipe's, of which most are oversigned"
)


class _Setting(NamedTuple):
    """A name, the rest of its line, and its place."""

    name: str
    value: str
    place: Place

    @property
    def yes(self) -> bool:
        """The value of a Boolean: only its first letter is looked at."""
        return self.value[:1] in "TtYy1"


class _Line(NamedTuple):
    """A line of a table: its key, the values between colons, and its place."""

    key: str
    values: list[str]
    place: Place


class _Sender(NamedTuple):
    """A key of the senders file, and the domain of its senders, which may be a macro."""

    key: str
    domain: str


class _Conf:
    """The settings by name: the last line applies. One without a value is ignored."""

    def __init__(self, path: Path, foreign: Foreign) -> None:
        self.place = Place(str(path))
        self.settings: dict[str, _Setting] = {}
        for number, line in lines(path):
            name, *value = line.partition("#")[0].split(None, 1)[:2] or [""]
            setting = _Setting(name, "".join(value).strip(), Place(str(path), number))
            if name and not setting.value:
                foreign.remarks.append(Remark(setting.place, SAME, f"{shown(name)}: no value: it is ignored"))
            elif name:
                self.settings[name] = setting

    def get(self, name: str) -> _Setting | None:
        """Return a setting; None if it is not set."""
        return self.settings.get(name)


def default_path() -> Path:
    """Return where the configuration usually is."""
    return DEFAULT_PATH


def read(path: Path) -> Foreign:
    """Return what a configuration signs. Raises ConfigError."""
    foreign = Foreign()
    conf = _Conf(path, foreign)
    _remark_others(conf, foreign)
    mode = conf.get("Mode")
    if mode and mode.value == "v":
        foreign.remarks.append(
            Remark(mode.place, SAME, "Mode: dkimpy-milter only verifies: it signs nothing")
        )
        return foreign
    if not mode or mode.value == "sv":
        text = "Mode: mail from outside is verified, too: dkimpipe postfix --verify --apply"
        foreign.remarks.append(Remark(mode.place if mode else conf.place, CHANGED, text))
    foreign.milters = _milters(conf)
    (_add_by_tables if conf.get("SigningTable") else _add_by_domains)(conf, foreign)
    if foreign.rules:
        _add_options(conf, foreign)
        foreign.kinds = [SUBMISSION, NETWORKS, LOCAL]
        foreign.directives["match"] = "from", conf.place
        place = (conf.get("Domain") or conf.get("SigningTable") or conf).place
        foreign.remarks.append(Remark(place, CHANGED, _FROM_ANYWHERE))
    return foreign


def _remark_others(conf: _Conf, foreign: Foreign) -> None:
    for name, setting in conf.settings.items():
        if name not in _READ.split():
            effect, text = _EFFECTS.get(name, (LOST, _UNKNOWN))
            foreign.remarks.append(Remark(setting.place, effect, f"{shown(name)}: {text}"))


def _milters(conf: _Conf) -> list[str]:
    """Return the socket as Postfix names it; the setting has the port before the host."""
    setting = conf.get("Socket")
    kind, _, rest = (setting.value if setting else _SOCKET).partition(":")
    if kind in ("inet", "inet6"):
        port, _, host = rest.partition("@")
        return [f"inet:{host or 'localhost'}:{port}"]
    return [f"unix:{rest or kind}"]


def _add_by_domains(conf: _Conf, foreign: Foreign) -> None:
    """Add the rules for Domain: one key of each type for all."""
    setting, subdomains = conf.get("Domain"), conf.get("SubDomains")
    if not setting:
        text = "neither Domain nor SigningTable: dkimpy-milter signs nothing"
        foreign.remarks.append(Remark(conf.place, SAME, text))
        return
    with_subdomains = bool(subdomains and subdomains.yes)
    domains = dict(_words(setting))
    for domain, place in domains.items():
        if not is_domain(domain.encode("utf-8", "surrogateescape")) or domain != domain.lower():
            text = f"Domain: {shown(domain)} is not a domain in lower case: it fits no sender"
            foreign.remarks.append(Remark(place, SAME, text))
            continue
        if with_subdomains and any(domain.endswith(f".{other}") for other in domains):
            text = f"Domain: mail from {domain} is signed as its parent domain today; here as itself"
            foreign.remarks.append(Remark(place, CHANGED, text))
        signatures = _own_keys(conf, domain)
        if signatures:
            foreign.rules.append(Rule(place, domain if with_subdomains else f"*@{domain}", signatures))
    foreign.rules.sort(key=lambda rule: -rule.key.count("."))
    if not foreign.rules:
        text = "Domain: no KeyFile with a Selector for it: dkimpy-milter signs nothing"
        foreign.remarks.append(Remark(setting.place, SAME, text))


def _own_keys(conf: _Conf, domain: str) -> tuple[ForeignSignature, ...]:
    """Return the signatures of KeyFile and KeyFileEd25519; a table in place of either comes first."""
    signatures = []
    for suffix in _SUFFIXES:
        keyfile, selector = conf.get(f"KeyFile{suffix}"), conf.get(f"Selector{suffix}")
        if keyfile and selector and not conf.get(f"KeyTable{suffix}"):
            signatures.append(ForeignSignature(keyfile.place, domain, selector.value, keyfile.value))
    return tuple(signatures)


def _add_by_tables(conf: _Conf, foreign: Foreign) -> None:
    """Add the rules for SigningTable: the first line that fits applies."""
    table = conf.get("SigningTable")
    keys = [
        {line.key: line for line in _table(setting, foreign)} if setting else {}
        for setting in (conf.get(f"KeyTable{suffix}") for suffix in _SUFFIXES)
    ]
    found: dict[str, Rule] = {}
    for line in _table(table, foreign) if table else ():
        sender, reason = _sender(line.key)
        if not sender:
            text = f"SigningTable: {shown(line.key)}: {reason}"
            effect = SAME if reason.startswith("it fits") else LOST
            foreign.remarks.append(Remark(line.place, effect, text))
        elif sender.key not in found:
            signatures = _signatures(conf, line, sender.domain, keys, foreign)
            if signatures:
                found[sender.key] = Rule(line.place, sender.key, signatures)
    if ANYONE in list(found)[:-1]:
        text = (
            "SigningTable: % fits everybody, and comes before other lines; here the most particular applies"
        )
        foreign.remarks.append(Remark(found[ANYONE].place, CHANGED, text))
    foreign.rules += sorted(found.values(), key=lambda rule: (rule.key == ANYONE, "*" in rule.key))


def _sender(key: str) -> tuple[_Sender | None, str]:
    """Return whom a key of SigningTable fits, or why there is no equivalent."""
    if key == "%":
        return _Sender(ANYONE, SENDER_DOMAIN), ""
    if key.startswith("*."):  # the end of the address is compared
        key = f"*@{key}"
    elif key.count("*") > 1:
        return None, "it fits no address: only one asterisk is a pattern"
    local_part, at, domain = key.lower().rpartition("@")
    if "*" not in key and not at:
        return None, f"it fits no address: *@{key} would"
    if not is_domain(domain.removeprefix("*.").encode("utf-8", "surrogateescape")) or not at:
        return None, "there is no equivalent; add an entry for each domain"
    if "*" in local_part and local_part != "*":
        return None, "part of an address cannot choose an entry; add an entry for each address"
    return _Sender(key.lower(), SENDER_DOMAIN if domain.startswith("*.") else domain), ""


def _signatures(
    conf: _Conf, line: _Line, sender: str, keys: list[dict[str, _Line]], foreign: Foreign
) -> tuple[ForeignSignature, ...]:
    """Return the signatures for a line of SigningTable, both types of keys."""
    name = line.values[-1]
    signatures = [*_own_keys(conf, sender)]
    for table in filter(None, keys):
        found = table.get(name)
        if not found or len(found.values) != 3:
            fault = "has not three values" if found else "is not there"
            text = (
                f"SigningTable: {shown(name)} in KeyTable {fault}: dkimpy-milter fails with such mail today"
            )
            foreign.remarks.append(Remark(line.place, SAME, text))
            continue
        domain, selector, path = found.values
        if not path.startswith(("/", "./", "../")):
            text = f"KeyTable: {shown(found.key)}: a key in the table is not read; write it into a file"
            foreign.remarks.append(Remark(found.place, LOST, text))
            continue
        identity = _identity(line, sender)
        options = (("i", identity),) if identity else ()
        own = sender if domain == "%" else domain
        signatures.append(ForeignSignature(found.place, own, selector, path, options=options))
    return tuple(signatures)


def _identity(line: _Line, sender: str) -> str:
    """Return i=, the first of two values in SigningTable; ``%`` is the sender's domain."""
    if len(line.values) != 2:
        return ""
    value = line.values[0]
    return f"@{sender}" if value == "%" else value if value.rpartition("@")[2] == sender else ""


def _add_options(conf: _Conf, foreign: Foreign) -> None:
    canonicalization, names = conf.get("Canonicalization"), conf.get("SignHeaders")
    header, _, body = (canonicalization.value if canonicalization else "relaxed/simple").partition("/")
    place = canonicalization.place if canonicalization else conf.place
    foreign.directives["dkim_method"] = f"{header}/{body or header}".replace(" ", "").lower(), place
    if not names:
        foreign.remarks.append(Remark(conf.place, CHANGED, _DEFAULT_HEADERS))
        return
    words = [word.lower() for word, _ in _words(names)]
    if "from" not in words:
        text = "SignHeaders: without From, dkimpy-milter signs nothing; here From is signed, too"
        foreign.remarks.append(Remark(names.place, CHANGED, text))
        words.insert(0, "from")
    added_later = [word for word in words if word != "received"]
    kept = harmful.without_broken(added_later, "SignHeaders", names.place, foreign)
    words = [word for word in words if word in kept or word == "received"]
    harmful.remark_unstable(words, "SignHeaders", names.place, foreign)
    options = (("h", ":".join(words)),)
    foreign.rules = [
        Rule(
            rule.place,
            rule.key,
            tuple(each._replace(options=each.options + options) for each in rule.signatures),
        )
        for rule in foreign.rules
    ]


def _words(setting: _Setting) -> Iterator[tuple[str, Place]]:
    """Yield the items of a list, in the configuration or in a file, each with its place."""
    path = _path(setting.value)
    if path:
        for number, line in lines(Path(path)):
            if len(line.split()) == 1 and not line.startswith("#"):
                yield from ((word.strip(), Place(path, number)) for word in line.split(":"))
        return
    text = setting.value.removeprefix("csl:").replace(",", " ")
    yield from ((word, setting.place) for word in text.split())


def _table(setting: _Setting, foreign: Foreign) -> Iterator[_Line]:
    """Yield the lines of a file with keys and values. A line that has not two words is ignored."""
    path = _path(setting.value)
    if not path:
        text = f"{setting.name}: only tables in files are read; write it into one"
        foreign.remarks.append(Remark(setting.place, LOST, text))
        return
    for number, line in lines(Path(path)):
        words = line.split()
        place = Place(path, number)
        if len(words) == 2 and not line.startswith("#"):
            yield _Line(words[0], words[1].split(":"), place)
        elif words and not line.startswith("#"):
            text = f"{setting.name}: {shown(words[0])}: its line has not two words: dkimpy-milter ignores it"
            foreign.remarks.append(Remark(place, SAME, text))


def _path(value: str) -> str:
    """Return the file that a data set is in; empty if it is none."""
    path = value.removeprefix("refile:").removeprefix("file:")
    return path if path != value or path.startswith("/") else ""
