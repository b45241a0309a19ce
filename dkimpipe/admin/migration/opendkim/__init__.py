"""OpenDKIM: opendkim.conf(5) and what it names, expressed in dkimpipe's files.

The reference is OpenDKIM's own code, even where its manual differs. The options with which it is started are
read as lines of the conf file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dkimpipe.admin.migration.foreign import CHANGED, LOST, SAME, Foreign, Rule
from dkimpipe.admin.migration.opendkim import domains, host, others, tables
from dkimpipe.admin.migration.opendkim.clients import sign_clients
from dkimpipe.admin.migration.opendkim.datasets import NotReadError, Record, dataset
from dkimpipe.admin.migration.opendkim.headers import headers
from dkimpipe.admin.migration.opendkim.senders import Key
from dkimpipe.admin.opendkim.conf import Conf, Setting
from dkimpipe.admin.opendkim.programs import OPENDKIM
from dkimpipe.admin.opendkim.started import Started
from dkimpipe.admin.postfix.kinds import LOCAL, NETWORKS, SUBMISSION
from dkimpipe.errors import ConfigError
from dkimpipe.options import CANONICALIZATIONS

DEFAULT_PATH = Path("/etc/opendkim.conf")
_SIMPLE = "simple"  # the default of either part: DKIM_CANON_DEFAULT
_ALL_CLIENTS = (
    "OpenDKIM signs all mail of services with this milter_macro_daemon_name, from any client; dkimpipe signs"
    " the mail of clients that log in or are in sign_clients"
)
_NO_MACROS = (
    "macros of the milter protocol do not exist here; login= in an entry limits who may use a signature"
)
_DAEMON_NAME = "daemon_name"
_FIELDS = ("from", "sender")  # that can choose an entry


def default_path() -> Path | None:
    """Return the conf file with which OpenDKIM is started; None if that has options alone."""
    return Started(OPENDKIM).conf_file


def read(path: Path | None) -> Foreign:
    """Return what a configuration of OpenDKIM does. Raises ConfigError if it would not start with it."""
    started, foreign = Started(OPENDKIM), Foreign()
    conf = started.configuration(path)
    host.remark(started, conf, foreign)
    others.remark(conf, foreign)
    mode = conf.get("Mode")
    if mode and "s" not in mode.value:
        foreign.remark(mode.place, SAME, "Mode: OpenDKIM only verifies: it signs nothing")
        return foreign
    if not mode or "v" in mode.value:
        text = "Mode: mail from outside is verified, too: dkimpipe postfix --verify --apply"
        foreign.remark(mode.place if mode else conf.place, CHANGED, text)
    _read_rules(conf, foreign)
    foreign.milters = _milters(started, conf, foreign)
    foreign.daemon_names = _daemon_names(conf, foreign)
    if not foreign.rules:
        return foreign
    _exempt(conf, foreign)
    _add_options(conf, foreign)
    _read_directives(conf, foreign)
    return foreign


def _read_rules(conf: Conf, foreign: Foreign) -> None:
    signing_table, key_table, domain = (conf.get(name) for name in ("SigningTable", "KeyTable", "Domain"))
    if signing_table and not key_table:
        raise ConfigError(f"{signing_table.place}: SigningTable without KeyTable: OpenDKIM does not start")
    if key_table and any(each.name == "KeyFile" for each in conf.options):
        raise ConfigError(f"{key_table.place}: KeyTable, and -k on the command line: OpenDKIM does not start")
    unused = [conf.get(name) for name in ("Domain", "Selector", "KeyFile", "SubDomains")]
    try:
        if signing_table and key_table:
            setting = signing_table
            signing = dataset(conf, signing_table)
            setting = key_table
            tables.add_rules(conf, signing, dataset(conf, key_table), foreign)
        elif domain and not key_table:
            setting, unused = domain, []
            domains.add_rules(conf, domain, dataset(conf, domain), foreign)
        else:
            _remark_nothing(conf, foreign)
    except NotReadError as reason:
        text = f"{setting.name} {reason}; write what is in it into a file, or into the senders file"
        foreign.remark(setting.place, LOST, text)
    for each in filter(None, unused):
        why = "KeyTable comes before it" if key_table else "there is no Domain"
        foreign.remark(each.place, SAME, f"{each.name}: without effect: {why}")


def _remark_nothing(conf: Conf, foreign: Foreign) -> None:
    """Remark that neither Domain nor both tables choose who is signed for."""
    script = conf.get("SetupPolicyScript")
    if script and conf.get("KeyTable"):
        text = "SetupPolicyScript: it chooses the entries of KeyTable; write them into the senders file"
        foreign.remark(script.place, LOST, text)
    else:
        foreign.remark(conf.place, SAME, "no Domain, and not both tables: OpenDKIM signs nothing")


def _exempt(conf: Conf, foreign: Foreign) -> None:
    """Take the domains that are exempt out of the rules: only themselves, not their subdomains."""
    setting = conf.get("ExemptDomains")
    if not setting:
        return
    try:
        listed = dataset(conf, setting)
    except NotReadError as reason:
        foreign.remark(setting.place, LOST, f"{setting.name} {reason}")
        return
    exempt = {word.lower() for word in listed.keys}
    rules = []
    for rule in foreign.rules:
        domain = rule.key.rpartition("@")[2]
        if rule.key not in exempt:
            rules += [rule] if domain not in exempt else []
        elif all(other.key != f"*@*.{domain}" for other in foreign.rules):
            rules.append(rule._replace(key=f"*@*.{domain}"))
    foreign.rules = rules
    covered = {text for word in exempt for text in Key(f"*@{word}").wider}
    has_patterns = listed.patterns and "*" in "".join(exempt)
    if rules and (has_patterns or any(rule.key in covered for rule in rules)):
        text = "ExemptDomains: an entry for many domains cannot leave out one of them; list the others"
        foreign.remark(setting.place, LOST, text)


def _add_options(conf: Conf, foreign: Foreign) -> None:
    """Add to each signature what the settings say about all of them."""
    options = [("h", headers(conf, foreign))]
    lifetime, algorithm = conf.get("SignatureTTL"), conf.get("SignatureAlgorithm")
    if lifetime:
        options.append(("x", lifetime.value))
    if algorithm and algorithm.value.lower() == "rsa-sha1":
        text = "SignatureAlgorithm: verifiers refuse rsa-sha1 (RFC 8301); here rsa-sha256, with the same key"
        foreign.remark(algorithm.place, CHANGED, text)
    elif algorithm:
        foreign.remark(algorithm.place, SAME, "SignatureAlgorithm: a= follows from the key")
    added = tuple((name, value) for name, value in options if value and value != "0")
    foreign.rules = [
        Rule(
            rule.place,
            rule.key,
            tuple(each._replace(options=each.options + added) for each in rule.signatures),
        )
        for rule in foreign.rules
    ]


def _read_directives(conf: Conf, foreign: Foreign) -> None:
    setting = conf.get("Canonicalization")
    header, _, body = (setting.value if setting else "").partition("/")
    method = f"{header or _SIMPLE}/{body or _SIMPLE}".lower()
    if setting and method not in CANONICALIZATIONS["dkim"]:
        raise ConfigError(f"{setting.place}: unknown Canonicalization: OpenDKIM does not start")
    foreign.directives["dkim_method"] = method, setting.place if setting else conf.place
    _read_sender_headers(conf, foreign)
    foreign.kinds = [SUBMISSION, NETWORKS, *([LOCAL] if sign_clients(conf, foreign) else [])]


def _read_sender_headers(conf: Conf, foreign: Foreign) -> None:
    setting = conf.get("SenderHeaders")
    if not setting:
        foreign.directives["match"] = "from", conf.place
        return
    try:
        words = [word.lower() for word in dataset(conf, setting).keys]
    except NotReadError as reason:
        foreign.remark(setting.place, LOST, f"{setting.name} {reason}")
        words = []
    for word in words:
        if word not in _FIELDS:
            text = f"SenderHeaders: {word} cannot choose an entry; From and Sender can"
            foreign.remark(setting.place, LOST, text)
    known = list(dict.fromkeys([*(word for word in words if word in _FIELDS), "from"]))
    if len(known) > 1:
        text = "SenderHeaders: the first field that exists decides; here, the first with an entry"
        foreign.remark(setting.place, CHANGED, text)
    foreign.directives["match"] = ",".join(known), setting.place


def _milters(started: Started, conf: Conf, foreign: Foreign) -> list[str]:
    """Return the sockets as Postfix names them: that of the conf file, and those with which it is started."""
    setting = conf.get("Socket")
    found = [_milter(setting.value)] if setting else []
    is_used = not conf.path or conf.path.absolute() in started.conf_files
    for socket in started.sockets if is_used else ():
        milter = _milter(socket.value)
        if milter not in found:
            foreign.remark(socket.place, SAME, f"socket: the milter may be {milter}")
            found.append(milter)
    return found


def _milter(socket: str) -> str:
    """Return a socket as Postfix names it: OpenDKIM has the port before the host."""
    kind, colon, rest = socket.partition(":")
    if kind in ("inet", "inet6"):
        port, _, host = rest.partition("@")
        return f"inet:{host or 'localhost'}:{port}"
    return f"unix:{rest if colon else kind}"


def _daemon_names(conf: Conf, foreign: Foreign) -> list[str]:
    """Return the services that sign all mail, by their milter_macro_daemon_name.

    Postfix always sends that, so that MacroList, which OpenDKIM looks at last, decides if it has it.
    """
    names = _in_macro_list(conf, foreign)
    setting = conf.get("MTA")
    if not setting:
        return names or []
    try:
        records = _without_patterns(conf, setting)
    except NotReadError as reason:
        foreign.remark(setting.place, LOST, f"{setting.name} {reason}")
        return names or []
    if names is not None:
        text = "MTA: without effect: MacroList has daemon_name, and comes after it"
        foreign.remark(setting.place, SAME, text)
        return names
    foreign.remark(setting.place, CHANGED, f"MTA: {_ALL_CLIENTS}")
    return [record.key for record in records]


def _in_macro_list(conf: Conf, foreign: Foreign) -> list[str] | None:
    """Return the values that daemon_name may have; None if MacroList does not have it."""
    setting = conf.get("MacroList")
    names: list[str] | None = None
    try:
        records = _without_patterns(conf, setting) if setting else ()
    except NotReadError as reason:
        foreign.remark(setting.place if setting else conf.place, LOST, f"MacroList {reason}")
        return None
    for record in records:
        if record.key.startswith("{"):  # OpenDKIM adds braces
            text = f"MacroList: {record.key}: without effect: with braces it is not the name of a macro"
            foreign.remark(record.place, SAME, text)
        elif record.key == _DAEMON_NAME and record.value:
            names = [*(names or []), *(word.strip() for word in record.value.split("|"))]
            foreign.remark(record.place, CHANGED, f"MacroList: {record.key}: {_ALL_CLIENTS}")
        else:
            any_value = "" if record.value else "without a value, any is enough; "
            foreign.remark(record.place, LOST, f"MacroList: {record.key}: {any_value}{_NO_MACROS}")
    return names


def _without_patterns(conf: Conf, setting: Setting) -> Sequence[Record]:
    found = dataset(conf, setting)
    if found.patterns:
        raise ConfigError(f"{setting.place}: {setting.name} with refile: OpenDKIM does not start")
    return found.records
