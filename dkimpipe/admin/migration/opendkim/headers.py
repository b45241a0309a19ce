"""SignHeaders, OmitHeaders and OversignHeaders as h=, relative to our default."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dkimpipe.admin.migration import harmful
from dkimpipe.admin.migration.foreign import CHANGED, LOST, SAME, Foreign
from dkimpipe.admin.migration.opendkim.datasets import NotReadError, dataset
from dkimpipe.admin.opendkim.conf import Conf

# dkim_should_signhdrs in libopendkim/dkim.c
_DEFAULT = (
    *("from", "reply-to", "subject", "date", "to", "cc", "resent-date", "resent-from", "resent-sender"),
    *("resent-to", "resent-cc", "in-reply-to", "references", "list-id", "list-help", "list-unsubscribe"),
    *("list-subscribe", "list-post", "list-owner", "list-archive"),
)
_NOT_SIGNED = ("return-path", "received", "comments", "keywords")  # dkim_should_not_signhdrs, there
_MORE = (
    "h=: no SignHeaders: Message-ID, Sender, MIME-Version and Content-* are signed from now on, too, and most"
    " fields are mentioned once more, which protects against a second one"
)
_ONCE_MORE = "h=: most fields that occur are mentioned once more, which protects against a second one"
_NAME = re.compile(r"[!-9;-~]{1,76}")
_DELTA = "*"  # the other names are changes to the default


def headers(conf: Conf, foreign: Foreign) -> str:
    """Return h= for each signature; empty for our default."""
    signed, omitted, oversigned = (
        _names(conf, name, foreign) for name in ("SignHeaders", "OmitHeaders", "OversignHeaders")
    )
    setting = conf.get("OversignHeaders")
    if setting:
        oversigned = harmful.without_broken(oversigned, "OversignHeaders", setting.place, foreign)
    if not (signed or omitted):
        foreign.remark(conf.place, CHANGED, _MORE)
        return ":".join(f"++{name}" for name in oversigned if name != "from")  # from is, in our default
    foreign.remark(conf.place, CHANGED, _ONCE_MORE)
    if "from" in omitted:
        setting = conf.get("OmitHeaders")
        text = "OmitHeaders: without From, OpenDKIM signs nothing; here From is signed, too"
        foreign.remark(setting.place if setting else conf.place, CHANGED, text)
    wanted = _wanted(conf, signed, omitted, foreign)
    signs = {**dict.fromkeys(["from", *wanted], "+"), **dict.fromkeys(oversigned, "++")}
    return ":".join(["-*", *(f"{sign}{name}" for name, sign in signs.items())])


def _wanted(conf: Conf, signed: list[str], omitted: list[str], foreign: Foreign) -> list[str]:
    """Return the names of the fields that are signed; without OmitHeaders its default applies."""
    left_out = "|".join(map(_expression, _changed(omitted, _NOT_SIGNED)))
    wanted = [name for name in _changed(signed, _DEFAULT) if not re.fullmatch(left_out, name)]
    setting = conf.get("SignHeaders") or conf.get("OmitHeaders")
    place = setting.place if setting else conf.place
    for name in wanted:
        if _DELTA in name:
            text = f"SignHeaders: {name}: a pattern is not the name of a field; list the fields in h="
            foreign.remark(place, LOST, text)
    names = [name for name in wanted if _DELTA not in name]
    harmful.remark_unstable(names, setting.name if setting else "", place, foreign)
    return names


def _expression(name: str) -> str:
    """Return the regular expression for a name, in which an asterisk is a pattern: dkim_hdrlist."""
    return re.escape(name).replace(r"\*", ".*")


def _changed(names: Sequence[str], default: Sequence[str]) -> list[str]:
    """Return the names in a setting, or the default with its changes: dkimf_db_mkarray_base."""
    if names and _DELTA not in names:
        return list(names)
    kept = [name for name in default if f"-{name}" not in names]
    return kept + [name[1:] for name in names if name.startswith("+")]


def _names(conf: Conf, setting_name: str, foreign: Foreign) -> list[str]:
    """Return the names in a setting, in lower case and each once; none if it is not set, or not read."""
    setting = conf.get(setting_name)
    if not setting:
        return []
    try:
        words = dataset(conf, setting)
    except NotReadError as reason:
        foreign.remark(setting.place, LOST, f"{setting.name} {reason}; list the names in h= of an entry")
        return []
    found = []
    for name in dict.fromkeys(word.lower() for word in words.keys):
        if not _NAME.fullmatch(name):
            foreign.remark(setting.place, SAME, f"{setting.name}: {name} is not the name of a header field")
        elif name.lstrip("+-") != "dkim-signature":
            found.append(name)
    return found
