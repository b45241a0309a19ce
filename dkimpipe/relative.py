"""h= relative to the default fields: ``-date:-message-id`` without these, ``+x-foo`` with this one, too.

``-*`` takes out all: ``-*:+from:+subject`` signs these two, if they are there. ``++`` oversigns a field even
if it is absent: nobody can add it. This module is loaded only for an entry with such an h=.
"""

from dkimpipe.errors import ConfigError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dkimpipe.files import Place

_ALL = b"*"


def changed(
    default: "Mapping[bytes, int]", items: "Sequence[bytes]", signs: "Mapping[bytes, int]", place: "Place"
) -> "dict[bytes, int]":
    """Return the default fields as changed by these items, in lower case.

    ``signs`` maps each sign that adds a field to how it is signed; ``+`` does not weaken the default. Raises
    ConfigError, with the correction as its hint.
    """
    fields = dict(default)
    seen: set[bytes] = set()
    for item in items:
        name = item.lstrip(b"+-")
        sign = item[: len(item) - len(name)]
        fault, hint = _fault(sign, name, fields, seen, signs)
        if fault:
            raise ConfigError(f"{place}: h= {fault}: '{printable(item)}'", hint)
        seen.add(name)
        if sign != b"-":
            fields[name] = max(signs[sign], default.get(name, 0))
        elif name == _ALL:
            fields.clear()
        else:
            del fields[name]
    if b"from" not in fields:
        hint = "-*:+from:..." if _ALL in seen else "leave out -from"
        raise ConfigError(f"{place}: h= does not include from (RFC 6376 section 5.4)", hint)
    return fields


def _fault(
    sign: bytes, name: bytes, fields: "Mapping[bytes, int]", seen: "set[bytes]", signs: "Mapping[bytes, int]"
) -> "tuple[str, str]":
    """Return what is wrong with an item, and the correction; both empty if nothing is."""
    shown = printable(name)
    if not sign:
        return "mixes names with and without a sign", f"+{shown}, or no sign before any name"
    if not name:
        return "has a sign without a name", "-name, +name or ++name"
    if name in seen:
        return "has this name twice", ""
    if sign == b"-":
        if name == _ALL:
            return ("has names before -*", "put -* first") if seen else ("", "")
        known = "h= in dkimpipe-senders(5) lists the default"
        return ("", "") if name in fields else ("takes out a field that would not be signed", known)
    if sign not in signs:
        if sign == b"++":
            return "oversigns a field, which DomainKeys cannot do", f"+{shown}"
        return "has an unknown sign", f"-{shown}, +{shown} or ++{shown}"
    return ("adds *, which is not a field", "h= lists each field") if name == _ALL else ("", "")
