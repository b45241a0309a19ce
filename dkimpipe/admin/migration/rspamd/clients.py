"""sign_authenticated, sign_local and sign_networks as kinds of mail and ``sign_clients``."""

from __future__ import annotations

import ipaddress
from typing import Union

from dkimpipe.admin.migration.foreign import LOST, Foreign, Remark
from dkimpipe.admin.migration.rspamd import maps
from dkimpipe.admin.postfix.kinds import LOCAL, NETWORKS, SUBMISSION
from dkimpipe.admin.rspamd.conf import Conf, Setting
from dkimpipe.config import AUTHENTICATED, MYNETWORKS
from dkimpipe.errors import shown

_Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
_LOOPBACK = ("127.0.0.0/8", "::1/128")
# local_addrs in rspamd's own options.inc.
_LOCAL = ("192.168.0.0/16", "10.0.0.0/8", "172.16.0.0/12", "fd00::/8", "169.254.0.0/16", "fe80::/10")


def read(conf: Conf, foreign: Foreign) -> None:
    """Set the kinds of mail that are signed, and from which addresses."""
    signing = conf.section("dkim_signing")
    authenticated, local = (_is_on(signing, name) for name in ("sign_authenticated", "sign_local"))
    authenticated = authenticated or ("auth_only" in signing and signing["auth_only"].yes)  # its former name
    networks = signing.get("sign_networks")
    words = [AUTHENTICATED] if authenticated else []
    found: list[_Network] = []
    if local:
        addresses = conf.section("options").get("local_addrs")
        found += [ipaddress.ip_network(text) for text in _LOOPBACK]
        found += _networks(addresses, words, foreign) if addresses else map(ipaddress.ip_network, _LOCAL)
    if networks and networks.yes:
        found += _networks(networks, words, foreign)
    words += [_shortest(network) for network in _collapsed(found)]
    place = (networks or signing.get("sign_local") or signing.get("sign_authenticated") or conf).place
    foreign.directives["sign_clients"] = ",".join(words), place
    kinds = {SUBMISSION: authenticated, NETWORKS: bool(found) or MYNETWORKS in words, LOCAL: local}
    foreign.kinds = [kind for kind, signed in kinds.items() if signed]


def _is_on(signing: dict[str, Setting], name: str) -> bool:
    return signing[name].yes if name in signing else True


def _networks(setting: Setting, words: list[str], foreign: Foreign) -> list[_Network]:
    """Return the networks in a map; if it is not read, add ``mynetworks`` to the words instead."""
    try:
        lines = maps.read(setting)
    except maps.NotReadError as reason:
        text = f"{setting.name} {reason}: mail from mynetworks is signed instead"
        foreign.remarks.append(Remark(setting.place, LOST, text))
        words.append(MYNETWORKS)
        return []
    networks = []
    for line in lines:
        try:
            networks.append(ipaddress.ip_network(line.key.strip("[]"), strict=False))
        except ValueError:
            text = f"{setting.name}: {shown(line.key)} is not an address or network; list its addresses"
            foreign.remarks.append(Remark(line.place, LOST, text))
    return networks


def _collapsed(networks: list[_Network]) -> list[_Network]:
    fours = [each for each in networks if isinstance(each, ipaddress.IPv4Network)]
    sixes = [each for each in networks if isinstance(each, ipaddress.IPv6Network)]
    return [*ipaddress.collapse_addresses(fours), *ipaddress.collapse_addresses(sixes)]


def _shortest(network: _Network) -> str:
    return str(network.network_address if network.num_addresses == 1 else network)
