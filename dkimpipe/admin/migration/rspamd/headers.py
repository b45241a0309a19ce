"""sign_headers as h=: rspamd signs a field as often as it is there, and once more where that is asked for."""

from __future__ import annotations

from dkimpipe.admin.migration import harmful
from dkimpipe.admin.migration.foreign import CHANGED, Foreign, Remark
from dkimpipe.admin.rspamd.conf import Conf
from dkimpipe.errors import shown
from dkimpipe.files import Place

_DEFAULT = (
    "sign_headers: not set: rspamd's own list of fields is signed today, with Openpgp and Autocrypt in it;"
    " here dkimpipe's"
)
# In front of a name: one more than there are; one more if there is one.
_ALWAYS, _IF_PRESENT = "(o)", "(x)"
# The names that + oversigns if they are present: SIGNED HEADER FIELDS in dkimpipe-senders(5).
OVERSIGNED = {
    *("from", "reply-to", "subject", "date", "to", "cc", "message-id", "mime-version", "content-type"),
    "content-transfer-encoding",
}


def headers(conf: Conf, foreign: Foreign) -> str:
    """Return h= for each signature; empty for dkimpipe's own list."""
    setting = conf.section("dkim_signing").get("sign_headers") or conf.section("dkim").get("sign_headers")
    if not setting or not isinstance(setting.value, str):
        place = setting.place if setting else conf.place
        foreign.remarks.append(Remark(place, CHANGED, _DEFAULT))
        return ""
    signs = _signs(setting.value)
    if signs.pop("dkim-signature", None) is not None:
        text = "sign_headers: DKIM signatures are not signed (RFC 6376 section 3.5)"
        foreign.remarks.append(Remark(setting.place, CHANGED, text))
    if "from" not in signs:
        signs = {"from": _ALWAYS, **signs}
        text = "sign_headers: without From, rspamd signs nothing; here From is signed, too"
        foreign.remarks.append(Remark(setting.place, CHANGED, text))
    always = [name for name, sign in signs.items() if sign == _ALWAYS]
    kept = harmful.without_broken(always, "sign_headers", setting.place, foreign)
    signs = {name: "" if name in always and name not in kept else sign for name, sign in signs.items()}
    harmful.remark_unstable(list(signs), "sign_headers", setting.place, foreign)
    _remark_differences(signs, setting.place, foreign)
    return ":".join(["-*", *(f"{'++' if sign == _ALWAYS else '+'}{name}" for name, sign in signs.items())])


def _signs(text: str) -> dict[str, str]:
    """Return the names in lower case, each with what is in front of it."""
    signs = {}
    for word in filter(None, (word.strip().lower() for word in text.split(":"))):
        sign = word[:3] if word[:3] in (_ALWAYS, _IF_PRESENT) else ""
        signs[word[len(sign) :].strip()] = sign
    return signs


def _remark_differences(signs: dict[str, str], place: Place, foreign: Foreign) -> None:
    """Add a remark on each name whose sign has no equivalent."""
    weaker = [name for name, sign in signs.items() if sign == _IF_PRESENT and name not in OVERSIGNED]
    stronger = [name for name, sign in signs.items() if not sign and name in OVERSIGNED]
    for names, what in ((weaker, "no longer"), (stronger, "from now on")):
        if names:
            listed = shown(", ".join(names))
            text = f"sign_headers: {listed}: if there is one, {what} protected from a second one"
            foreign.remarks.append(Remark(place, CHANGED, text))
