"""sign_headers as h=: rspamd signs a field as often as it is there, and once more where that is asked for."""

from __future__ import annotations

from dkimpipe.admin.migration.foreign import CHANGED, Foreign, Remark
from dkimpipe.admin.migration.rspamd.conf import Conf
from dkimpipe.errors import shown

_DEFAULT = (
    "sign_headers: not set: rspamd's own list of fields is signed today, with Openpgp and Autocrypt in it;"
    " here dkimpipe's"
)
_IF_PRESENT = "sign_headers: (x): fields that are there are signed; to add more is not prevented"
# What is in front of a name, and what it becomes: (o) signs one more than there are, (x) if there is one.
_SIGNS = {"(o)": "++", "(x)": "+"}


def headers(conf: Conf, foreign: Foreign) -> str:
    """Return h= for each signature; empty for dkimpipe's own list."""
    setting = conf.section("dkim_signing").get("sign_headers") or conf.section("dkim").get("sign_headers")
    if not setting or not isinstance(setting.value, str):
        place = setting.place if setting else conf.place
        foreign.remarks.append(Remark(place, CHANGED, _DEFAULT))
        return ""
    items = []
    for word in filter(None, (word.strip().lower() for word in setting.value.split(":"))):
        sign = next((sign for sign in _SIGNS if word.startswith(sign)), "")
        name = word[len(sign) :].strip()
        if name == "dkim-signature" or not name:
            text = f"sign_headers: {shown(word)}: DKIM signatures are not signed (RFC 6376 section 3.5)"
            foreign.remarks.append(Remark(setting.place, CHANGED, text))
        else:
            items.append(f"{_SIGNS.get(sign, '+')}{name}")
    if not any(item.lstrip("+") == "from" for item in items):
        items.insert(0, "++from")
        text = "sign_headers: without From, rspamd signs nothing; here From is signed, too"
        foreign.remarks.append(Remark(setting.place, CHANGED, text))
    if "(x)" in setting.value.lower():
        foreign.remarks.append(Remark(setting.place, CHANGED, _IF_PRESENT))
    return ":".join(["-*", *dict.fromkeys(items)])
