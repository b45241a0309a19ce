"""Networks and addresses as patterns in Postfix's lists, such as mynetworks: cidr_table(5)."""

from __future__ import annotations

import functools
import ipaddress
import re

_NETWORK = re.compile(r"\[?([\da-fA-F.:]+)\]?/(\S*)")


@functools.lru_cache(maxsize=4096)  # each session is compared with the same ones
def network(pattern: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """Return a list pattern as a network or address; None if it is another kind of pattern."""
    try:
        return ipaddress.ip_network(pattern.replace("[", "").replace("]", ""), strict=False)
    except ValueError:
        return None


def fault_of_network(word: str) -> str:
    """Return what is wrong with a pattern that is meant as a network; empty if it is good, or another kind.

    Unlike ipaddress, Postfix wants brackets around an IPv6 address, and no host bits. A fault that ends with
    a network can be corrected by that.
    """
    if not (found := _NETWORK.fullmatch(word)):
        return ""
    try:
        address = ipaddress.ip_address(found[1])
        right = ipaddress.ip_network(f"{found[1]}/{found[2]}", strict=False)
    except ValueError:
        return "not an address and a prefix length"
    written = str(right) if right.version == 4 else f"[{right.network_address}]/{right.prefixlen}"
    if not found[2].isdigit():
        return f"no prefix length; the network is {written}"
    if right.network_address != address:
        return f"it has host bits set; the network is {written}"
    if right.version == 6 and not word.startswith("["):
        return f"an IPv6 address needs brackets: {written}"
    return ""
