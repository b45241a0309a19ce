"""Policy records in DNS: TXT records that are tag lists, for DomainKeys, ADSP and DMARC."""

from __future__ import annotations

from dkimpipe.verify import taglist

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from dkimpipe.verify.resolver import Resolver

    Tags = dict[bytes, bytes]


def one(name: str, is_policy: Callable[[Tags], bool], resolver: Resolver) -> Tags:
    """Return the tags of the policy at a name; none if there is none, or more than one."""
    found = all_of(name, is_policy, resolver)
    return found[0] if len(found) == 1 else {}


def all_of(name: str, is_policy: Callable[[Tags], bool], resolver: Resolver) -> list[Tags]:
    """Return the tags of each TXT record of a name that is such a policy. Raises TemporaryError."""
    found = []
    for text in resolver.texts(name).texts:
        try:
            tags = taglist.parse(text)
        except ValueError:
            continue
        if is_policy(tags):
            found.append(tags)
    return found
