"""The keys that rspamd chooses by a domain: ``domain`` blocks, maps, and the path for all others."""

from __future__ import annotations

import binascii
import glob
import os
import re
from base64 import b64decode
from typing import NamedTuple

from dkimpipe.address import is_domain
from dkimpipe.admin.migration.foreign import CHANGED, LOST, SAME, Foreign, ForeignSignature, Remark, Rule
from dkimpipe.admin.migration.rspamd import maps
from dkimpipe.admin.rspamd import ucl
from dkimpipe.admin.rspamd.conf import Conf, Setting, objects, text_of
from dkimpipe.errors import ConfigError, shown
from dkimpipe.files import Place, why

ANYONE, SENDER_DOMAIN = ".", "$senderdomain"
_SELECTOR = "dkim"
_OF_MESSAGE = ("header", "envelope")
_VARIABLE = re.compile(r"\$(?:\{(domain|selector)\}|(domain|selector)(?![A-Za-z0-9_]))")
_ADD_ENTRIES = "here From chooses the entry"


class _Key(NamedTuple):
    """A key as configured: selector and path are empty where they come from elsewhere."""

    selector: str
    path: str
    place: Place


class _Defaults(NamedTuple):
    """What applies where a block leaves something out."""

    selector: Setting
    path: Setting


def add_rules(conf: Conf, foreign: Foreign) -> None:
    """Add the rules, the more particular first, and what they change."""
    signing = conf.section("dkim_signing")
    defaults = _Defaults(
        signing.get("selector") or Setting("selector", _SELECTOR, conf.place),
        signing.get("path") or Setting("path", f"{conf.database}/dkim/$domain.$selector.key", conf.place),
    )
    for setting in defaults:
        _remark_type(setting, foreign)
    found = _of_blocks(signing.get("domain"), foreign)
    found = _with_maps(signing, found, defaults, foreign)
    use_domain = signing.get("use_domain") or Setting("use_domain", _OF_MESSAGE[0], conf.place)
    chosen_by = use_domain.text.lower()
    if chosen_by in ("auth", "recipient"):
        text = f"use_domain: {chosen_by}: neither the login nor the recipient chooses the signature; "
        foreign.remarks.append(Remark(use_domain.place, LOST, text + _ADD_ENTRIES))
    foreign.directives["match"] = "envelope" if chosen_by == "envelope" else "from", use_domain.place
    if chosen_by not in (*_OF_MESSAGE, "auth", "recipient"):
        _add_fixed(chosen_by, found, defaults, foreign, use_domain.place)
        return
    esld = signing["use_esld"].yes if "use_esld" in signing else True
    template = _of_template(signing, found, defaults, esld, foreign)
    names = _registrable(found, foreign) if esld else list(found)
    for name in names:
        signatures = tuple(_signature(name, key, defaults) for key in found[name])
        foreign.rules.append(Rule(found[name][0].place, name if esld else f"*@{name}", signatures))
    foreign.rules += template


def _of_blocks(setting: Setting | None, foreign: Foreign) -> dict[str, list[_Key]]:
    """Return the keys in ``domain``, by domain."""
    found: dict[str, list[_Key]] = {}
    if not setting:
        return found
    if not isinstance(setting.value, ucl.Object):
        text = "domain: it is there twice, so that rspamd uses none of these blocks; here they all apply"
        foreign.remarks.append(Remark(setting.place, CHANGED, text))
    value = setting.value
    for block in [value] if isinstance(value, ucl.Object) else objects(_nodes(setting)):
        for name, nodes in block.items():
            place = nodes[0].place
            if name != name.lower():
                text = f"domain: {name}: rspamd looks for lower case only, so that it is unsigned today"
                foreign.remarks.append(Remark(place, CHANGED, text))
            if not is_domain(os.fsencode(name.lower())):
                text = f"domain: {shown(name)} is not a domain: rspamd does not use it"
                foreign.remarks.append(Remark(place, SAME, text))
                continue
            keys = found.setdefault(name.lower(), [])
            for entry in objects(nodes):
                keys += _of_block(name, entry, place, foreign)
    return found


def _nodes(setting: Setting) -> list[ucl.Node]:
    return setting.value if isinstance(setting.value, ucl.Array) else []


def _of_block(domain: str, block: ucl.Object, place: Place, foreign: Foreign) -> list[_Key]:
    """Return the keys in one block: a selector and a path, and then a list of them."""
    keys = [_key(block, place, foreign)] if block.keys() & {"selector", "path"} else []
    nodes = block.get("selectors", [])
    if len(nodes) == 1 and isinstance(nodes[0].value, ucl.Object):
        text = f"domain: {domain}: selectors is not a list, so that rspamd does not use it; here it applies"
        foreign.remarks.append(Remark(nodes[0].place, CHANGED, text))
    for entry in objects(nodes):
        first = next(iter(entry.values()), nodes)[0]
        keys.append(_key(entry, first.place, foreign))
        _remark_unknown(f"domain: {domain}: selectors", entry, ("selector", "path"), foreign)
    _remark_unknown(f"domain: {domain}", block, ("selector", "path", "selectors"), foreign)
    return keys


def _key(block: ucl.Object, place: Place, foreign: Foreign) -> _Key:
    for name in block.keys() & {"selector", "path"}:
        node = block[name][-1]
        _remark_type(Setting(name, node.value, node.place), foreign)
    values = {name: text_of(block[name][-1].value) if name in block else "" for name in ("selector", "path")}
    return _Key(values["selector"], values["path"], place)


def _remark_type(setting: Setting, foreign: Foreign) -> None:
    """Remark a selector without quotes that UCL takes as a number: rspamd cannot use it."""
    if not isinstance(setting.value, str):
        text = f"{setting.name}: a number without quotes: rspamd does not sign with it; here it applies"
        foreign.remarks.append(Remark(setting.place, CHANGED, text))


def _remark_unknown(where: str, block: ucl.Object, known: tuple[str, ...], foreign: Foreign) -> None:
    for name, nodes in block.items():
        if name not in known:
            text = f"{where}: {shown(name)}: rspamd does not use it here"
            foreign.remarks.append(Remark(nodes[0].place, SAME, text))


def _with_maps(
    signing: dict[str, Setting], found: dict[str, list[_Key]], defaults: _Defaults, foreign: Foreign
) -> dict[str, list[_Key]]:
    """Return the keys with what the maps say about their domains, and those of the domains only in maps."""
    for line in _map(signing.get("selector_map"), foreign):
        keys = found.get(line.key) or [_Key("", "", line.place)]
        found[line.key] = [key._replace(selector=key.selector or line.value) for key in keys]
    for line in _map(signing.get("path_map"), foreign):
        keys = found.get(line.key) or [_Key("", "", line.place)]
        found[line.key] = [key._replace(path=key.path or line.value) for key in keys]
    if "try_fallback" in signing and not signing["try_fallback"].yes:
        for name in [name for name, keys in found.items() if not keys]:
            del found[name]
    return {name: keys or [_Key("", "", defaults.path.place)] for name, keys in found.items()}


def _map(setting: Setting | None, foreign: Foreign) -> list[maps.Line]:
    if not setting:
        return []
    try:
        lines = maps.read(setting)
    except maps.NotReadError as reason:
        text = f"{setting.name} {reason}; write it into a file, or add an entry for each domain"
        foreign.remarks.append(Remark(setting.place, LOST, text))
        return []
    if isinstance(setting.value, ucl.Array) and any(line.place.path == setting.place.path for line in lines):
        text = f"{setting.name}: rspamd takes no values from a list in the configuration; here they apply"
        foreign.remarks.append(Remark(setting.place, CHANGED, text))
    usable = []
    for line in lines:
        if is_domain(os.fsencode(line.key)) and line.value:
            usable.append(line)
        else:
            text = f"{setting.name}: {shown(line.key)}: not a domain with a value: without effect"
            foreign.remarks.append(Remark(line.place, SAME, text))
    return usable


def _add_fixed(
    domain: str, found: dict[str, list[_Key]], defaults: _Defaults, foreign: Foreign, place: Place
) -> None:
    """Add a rule for a domain that signs everybody's mail."""
    keys = found.pop(domain, None) or [_Key("", "", place)]
    signatures = tuple(_signature(domain, key, defaults) for key in keys)
    foreign.rules.append(Rule(place, ANYONE, signatures))
    for name, others in found.items():
        text = f"domain: {name}: use_domain is {domain}: without effect"
        foreign.remarks.append(Remark(others[0].place, SAME, text))


def _of_template(
    signing: dict[str, Setting],
    found: dict[str, list[_Key]],
    defaults: _Defaults,
    esld: bool,
    foreign: Foreign,
) -> list[Rule]:
    """Add to ``found`` the domains that have a key under the default path. Return the rule for all others."""
    if "try_fallback" in signing and not signing["try_fallback"].yes:
        text = "try_fallback: only the domains that are listed are signed"
        foreign.remarks.append(Remark(signing["try_fallback"].place, SAME, text))
        return []
    setting, selector = defaults.path, defaults.selector.text
    path = _expanded(setting.text, "$domain", selector)
    signature = _signature(SENDER_DOMAIN, _Key("", "", setting.place), defaults)
    if not _VARIABLE.search(path):
        if esld:
            text = "use_esld: d= of mail from a subdomain is the subdomain, not the registrable domain"
            foreign.remarks.append(Remark(setting.place, CHANGED, text))
        return [Rule(setting.place, ANYONE, (signature,))]
    domains = _domains_of_files(path)
    if not domains:
        text = f"path: there is no key {path}: mail of domains that are not listed is not signed"
        foreign.remarks.append(Remark(setting.place, SAME, text))
        return []
    if esld:
        for name in domains:
            found.setdefault(name, [_Key("", "", setting.place)])
        text = "use_esld: a key added later signs for its domain, but for subdomains only with an entry"
        foreign.remarks.append(Remark(setting.place, CHANGED, text))
    return [Rule(setting.place, ANYONE, (signature,))]


def _domains_of_files(path: str) -> list[str]:
    """Return the domains that have a file. Raises ConfigError if their directory cannot be listed."""
    parts = _VARIABLE.split(path)[::3]
    directory = os.path.dirname(parts[0])
    try:
        os.listdir(directory or ".")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ConfigError(f"{directory}: {why(error)}") from None
    again = "".join(rf"\1{re.escape(part)}" for part in parts[2:])
    pattern = re.compile(f"{re.escape(parts[0])}([^/]+){re.escape(parts[1])}{again}")
    found = [pattern.fullmatch(name) for name in sorted(glob.glob("*".join(map(glob.escape, parts))))]
    domains = [match[1] for match in found if match]
    return [name for name in domains if name == name.lower() and is_domain(os.fsencode(name))]


def _registrable(found: dict[str, list[_Key]], foreign: Foreign) -> list[str]:
    """Return the domains that rspamd uses with ``use_esld``, as far as that can be known.

    It looks up the registrable domain, which depends on the list of public suffixes. A domain below
    another one of the list is not registrable; of others with three labels or more it is not known.
    """
    names = []
    for name, keys in found.items():
        parents = [".".join(name.split(".")[at:]) for at in range(1, name.count("."))]
        parent = next((each for each in parents if each in found), "")
        if parent:
            text = f"use_esld: mail from {name} is signed as {parent}: the key of {name} is not used"
            foreign.remarks.append(Remark(keys[0].place, SAME, text))
            continue
        if parents:
            text = f"use_esld: {name} signs from now on; today it does so if {parents[0]} is a public suffix"
            foreign.remarks.append(Remark(keys[0].place, CHANGED, text))
        names.append(name)
    return names


def _signature(domain: str, key: _Key, defaults: _Defaults) -> ForeignSignature:
    selector = key.selector or defaults.selector.text
    path = _expanded(key.path or defaults.path.text, domain, selector)
    if _is_key(path):
        return ForeignSignature(key.place, domain, selector, "", path.encode())
    return ForeignSignature(key.place, domain, selector, path)


def _expanded(path: str, domain: str, selector: str) -> str:
    """Return a path with its variables; ``$domain`` as domain keeps that variable."""
    values = {"domain": domain, "selector": selector}
    return _VARIABLE.sub(lambda match: values[match[1] or match[2]], path)


def _is_key(path: str) -> bool:
    """Return whether rspamd takes a path as the key itself, in base64."""
    if path.startswith((".", "/", "$")):
        return False
    try:
        return bool(b64decode(path, validate=True))
    except (binascii.Error, ValueError):
        return False
