"""signing_table and key_table: OpenDKIM's tables, as patterns. With them, most other settings do nothing."""

from __future__ import annotations

import os
from itertools import combinations

from dkimpipe.address import is_domain
from dkimpipe.admin.migration.foreign import CHANGED, LOST, SAME, Foreign, ForeignSignature, Remark, Rule
from dkimpipe.admin.migration.rspamd import maps
from dkimpipe.admin.migration.rspamd.domains import ANYONE, SENDER_DOMAIN
from dkimpipe.admin.rspamd.conf import Conf, Setting
from dkimpipe.errors import shown

_NAMES = ("signing_table", "key_table")
_WITHOUT_EFFECT = (
    *("domain", "path", "selector_map", "path_map", "use_domain", "use_domain_sign_local"),
    *("use_domain_sign_networks", "use_esld", "try_fallback"),
)


def are_used(signing: dict[str, Setting]) -> bool:
    """Return whether there are both tables."""
    return all(name in signing and signing[name].yes for name in _NAMES)


def add_rules(conf: Conf, foreign: Foreign) -> None:
    """Add the rules of both tables, and what they change."""
    signing = conf.section("dkim_signing")
    for name in _WITHOUT_EFFECT:
        if name in signing and not conf.is_own(signing[name].place):
            text = f"{name}: without effect beside signing_table"
            foreign.remarks.append(Remark(signing[name].place, SAME, text))
    foreign.directives["match"] = "from", signing["signing_table"].place
    tables = [_read(signing[name], foreign) for name in _NAMES]
    keys = {line.key: line for line in reversed(tables[1])}
    rules: dict[str, Rule] = {}
    for line in tables[0]:
        key, reason = _sender(line.key.lower())
        if reason:
            effect = LOST if key == "" else SAME
            text = f"signing_table: {shown(line.key)}: {reason}"
            foreign.remarks.append(Remark(line.place, effect, text))
        elif key not in rules:
            signature = _signature(line, key, keys, signing, foreign)
            if signature:
                rules[key] = Rule(line.place, key, (signature,))
    ranked = sorted(rules.values(), key=lambda rule: _rank(rule.key))
    if any(_includes(first, other) for first, other in combinations(rules, 2)):
        text = (
            "signing_table: of several patterns that fit, the first applies today; here the most particular"
        )
        foreign.remarks.append(Remark(signing["signing_table"].place, CHANGED, text))
    foreign.rules += ranked


def _read(setting: Setting, foreign: Foreign) -> list[maps.Line]:
    try:
        return maps.read(setting)
    except maps.NotReadError as reason:
        text = f"{setting.name} {reason}; write it into a file, or add an entry for each domain"
        foreign.remarks.append(Remark(setting.place, LOST, text))
        return []


def _rank(key: str) -> tuple[int, int]:
    """Return how particular a key is: addresses, domains, subdomains of the longest domains, anyone."""
    if key == ANYONE:
        return 3, 0
    return (2, -key.count(".")) if key.startswith("*@*.") else (int(key.startswith("*@")), 0)


def _includes(key: str, other: str) -> bool:
    """Return whether a key fits all addresses that another, more particular one fits."""
    domain, of_other = (each.rpartition("@")[2] for each in (key, other))
    if key == ANYONE:
        return True
    if key.startswith("*@*."):
        return of_other.removeprefix("*.").endswith(domain[1:])
    return key == f"*@{of_other}"


def _sender(pattern: str) -> tuple[str, str]:
    """Return the key for a pattern; or why there is none, after some key if the pattern fits nothing."""
    local_part, at, domain = pattern.rpartition("@")
    if pattern in ("*", "*@*"):
        return ANYONE, ""
    if not at and "*" not in pattern:
        return ANYONE, f"it fits no address: *@{pattern} would"
    subdomains = domain.startswith("*.")
    plain = domain[2:] if subdomains else domain
    if not at or not is_domain(os.fsencode(plain)):
        return "", "there is no equivalent; add an entry for each domain"
    if local_part == "*":
        return pattern, ""
    if subdomains or any(letter in local_part for letter in "*?[{"):
        return "", "part of an address cannot choose an entry; add an entry for each address"
    return pattern, ""


def _signature(
    line: maps.Line, key: str, keys: dict[str, maps.Line], signing: dict[str, Setting], foreign: Foreign
) -> ForeignSignature | None:
    """Return the signature that a line of signing_table names, or remark why there is none."""
    domain = key.rpartition("@")[2]
    sender = SENDER_DOMAIN if key == ANYONE or domain.startswith("*.") else domain
    name = line.value.split()[0] if line.value else ""
    found = keys.get(sender if name == "%" else name)
    parts = found.value.split(":") if found else []
    if not found or len(parts) not in (2, 3):
        fault = "has not 2 or 3 parts" if found else "is not there"
        effect, why = SAME, "such mail is unsigned today"
        if name == "%" and sender == SENDER_DOMAIN:
            effect, why = LOST, "add an entry for each domain"
        text = f"signing_table: {shown(line.key)}: {shown(name)} in key_table {fault}: {why}"
        foreign.remarks.append(Remark(line.place, effect, text))
        return None
    selector = (
        parts[1] if len(parts) == 3 else (signing["selector"].text if "selector" in signing else "dkim")
    )
    signing_domain, private = (part.replace("%", sender) for part in (parts[0], parts[-1]))
    is_path = private.startswith(("/", "./", "../"))
    path, octets = (private, b"") if is_path else ("", parts[-1].encode("utf-8", "surrogateescape"))
    return ForeignSignature(found.place, signing_domain, selector, path, octets)
