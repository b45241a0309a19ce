"""InternalHosts and PeerList as ``sign_clients``: the addresses from which mail is signed without a login."""

from __future__ import annotations

import ipaddress
from typing import Union

from dkimpipe.admin.migration.foreign import CHANGED, LOST, SAME, Foreign
from dkimpipe.admin.migration.opendkim.datasets import Dataset, NotReadError, Record, dataset
from dkimpipe.admin.opendkim.conf import Conf
from dkimpipe.config import AUTHENTICATED, MYNETWORKS

_Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
_LOOPBACK = ipaddress.ip_address("127.0.0.1")
_LOCALHOST = {"localhost": ["127.0.0.1", "::1"]}


def sign_clients(conf: Conf, foreign: Foreign) -> bool:
    """Add the directive. Return whether mail from this host itself is signed."""
    setting, peer_list = conf.get("InternalHosts"), conf.get("PeerList")
    place = setting.place if setting else conf.place
    try:
        hosts = dataset(conf, setting) if setting else Dataset((Record("127.0.0.1", "", place),), False)
        peers = dataset(conf, peer_list) if peer_list else Dataset((), False)
    except NotReadError as reason:
        text = f"InternalHosts or PeerList {reason}; list the addresses in sign_clients"
        foreign.remark(place, LOST, text)
        return True
    words, networks = _read(hosts, "InternalHosts", foreign)
    if peer_list:
        text = (
            "PeerList: mail from there stays unsigned without a login; with a login it is signed from now on"
        )
        foreign.remark(peer_list.place, CHANGED, text)
        networks += [(network, False) for network, _ in _read(peers, "PeerList", foreign)[1]]
    if any(network.prefixlen == 0 and included for network, included in networks):
        text = "InternalHosts: mail from anywhere is signed today, also from strangers; here from mynetworks"
        foreign.remark(place, CHANGED, text)
        words, networks = [MYNETWORKS], []
    found = _combined(networks)
    if any(not each.is_loopback for each in found):
        text = "InternalHosts: without a login, only mail from clients that are also in mynetworks is signed"
        foreign.remark(place, CHANGED, text)
    words += [str(each if each.num_addresses > 1 else each.network_address) for each in found]
    foreign.directives["sign_clients"] = ",".join([AUTHENTICATED, *words]), place
    return MYNETWORKS in words or any(_LOOPBACK in each for each in found)


def _read(hosts: Dataset, name: str, foreign: Foreign) -> tuple[list[str], list[tuple[_Network, bool]]]:
    """Return keywords, and networks, each with whether it is included or, after ``!``, excluded."""
    words: list[str] = []
    networks = []
    for record in hosts.records:
        text = record.key.lower().removeprefix("!").replace("[", "").replace("]", "")
        included = not record.key.startswith("!")
        try:
            networks += [(ipaddress.ip_network(each), included) for each in _LOCALHOST.get(text, [text])]
        except ValueError:
            effect, why = _not_a_network(text, hosts.patterns)
            foreign.remark(record.place, effect, f"{name}: {record.key}: {why}")
            words = [MYNETWORKS] if effect == CHANGED and included else words
    return words, networks


def _not_a_network(text: str, patterns: bool) -> tuple[str, str]:
    """Return the effect of a word that is neither an address nor a network, and why."""
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        if "*" in text and not patterns:
            return SAME, "without refile: it fits no host"
        return CHANGED, "clients are not looked up by name: instead, mail from mynetworks is signed"
    return SAME, f"it fits no client, since it has bits after the prefix: {meant} would"


def _combined(networks: list[tuple[_Network, bool]]) -> list[_Network]:
    """Return the networks that remain: the longer prefix applies, and of equal ones what is excluded."""
    found: list[_Network] = []
    for network, included in sorted(networks, key=lambda each: (each[0].prefixlen, not each[1])):
        if not included:
            found = [part for each in found for part in _without(each, network)]
        elif not any(each.version == network.version and network.subnet_of(each) for each in found):  # type: ignore[arg-type]
            found.append(network)
    return sorted(found, key=lambda each: (each.version, int(each.network_address)))


def _without(network: _Network, excluded: _Network) -> list[_Network]:
    if network.version != excluded.version or not network.overlaps(excluded):
        return [network]
    if network.subnet_of(excluded):  # type: ignore[arg-type]
        return []
    return list(network.address_exclude(excluded))  # type: ignore[arg-type]
