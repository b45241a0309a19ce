"""SignHeaders, OmitHeaders and OversignHeaders as h=, relative to our default."""

from __future__ import annotations

import re

from dkimpipe.admin.migration.foreign import CHANGED, LOST, SAME, Foreign
from dkimpipe.admin.migration.opendkim.conf import Conf
from dkimpipe.admin.migration.opendkim.datasets import NotReadError, dataset

# dkim_should_signhdrs in libopendkim/dkim.c
_DEFAULT = (
    *("from", "reply-to", "subject", "date", "to", "cc", "resent-date", "resent-from", "resent-sender"),
    *("resent-to", "resent-cc", "in-reply-to", "references", "list-id", "list-help", "list-unsubscribe"),
    *("list-subscribe", "list-post", "list-owner", "list-archive"),
)
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
    if not (signed or omitted):
        foreign.remark(conf.place, CHANGED, _MORE)
        return ":".join(f"++{name}" for name in oversigned if name != "from")  # from is, in our default
    foreign.remark(conf.place, CHANGED, _ONCE_MORE)
    if "from" in omitted:
        setting = conf.get("OmitHeaders")
        text = "OmitHeaders: without From, OpenDKIM signs nothing; here From is signed, too"
        foreign.remark(setting.place if setting else conf.place, CHANGED, text)
    left_out = [name.removeprefix("+") for name in omitted]
    wanted = [name for name in _changed(signed) if name not in left_out or name == "from"]
    signs = {**dict.fromkeys(["from", *wanted], "+"), **dict.fromkeys(oversigned, "++")}
    return ":".join(["-*", *(f"{sign}{name}" for name, sign in signs.items())])


def _changed(names: list[str]) -> list[str]:
    """Return the names of SignHeaders, or the default with its changes: dkimf_db_mkarray_base."""
    if names and _DELTA not in names:
        return names
    kept = [name for name in _DEFAULT if f"-{name}" not in names]
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
