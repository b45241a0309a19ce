"""Domain, Selector and KeyFile as rules: one key for all domains, d= of the sender."""

from __future__ import annotations

from dkimpipe.admin.migration.foreign import LOST, Foreign, ForeignSignature, Rule
from dkimpipe.admin.migration.opendkim.datasets import Dataset, absolute
from dkimpipe.admin.migration.opendkim.senders import (
    ANYONE,
    SENDER_DOMAIN,
    Key,
    from_domain_pattern,
    from_domain_word,
)
from dkimpipe.admin.opendkim.conf import Conf, Setting


def add_rules(conf: Conf, setting: Setting, domains: Dataset, foreign: Foreign) -> None:
    """Add the rules for the domains in ``setting``, and what cannot be expressed."""
    selector, keyfile = conf.get("Selector"), conf.get("KeyFile")
    for name, value in (("Selector", selector), ("KeyFile", keyfile)):
        if not value:
            foreign.remark(setting.place, LOST, f"Domain without {name}: its mail is deferred today")
    if not (selector and keyfile):
        return
    path = str(absolute(conf, keyfile.value))
    done: list[Key] = []
    for record in domains.records:
        key = _key(record.key, conf.yes("SubDomains"), domains)
        if key.reason:
            foreign.remark(record.place, key.effect, f"Domain: {record.key}: {key.reason}")
        if not key.text or key in done:
            continue
        done.append(key)
        name = key.domain or (SENDER_DOMAIN if "*" in record.key else key.text)
        signature = ForeignSignature(keyfile.place, name, selector.value, path)
        foreign.rules.append(Rule(record.place, key.text, (signature,)))
    if any(key.text == ANYONE for key in done):  # it applies before SubDomains does
        foreign.rules[:] = [rule for rule in foreign.rules if "@" in rule.key or rule.key == ANYONE]


def _key(word: str, with_subdomains: bool, domains: Dataset) -> Key:
    if domains.patterns:
        key = from_domain_pattern(word)
        return Key(key.domain) if key.domain and with_subdomains else key
    return from_domain_word(word, with_subdomains)
