"""Values that Postfix does not accept, and what was meant: times, and answers to yes or no."""

from __future__ import annotations

import re

_TIME = re.compile(r"(\d+)\s*(s(ec|econd)?|m(in|inute)?|h(r|our)?|d(ay)?|w(eek)?)s?\.?", re.IGNORECASE)
_BOOLEANS = {"yes": ("true", "on", "1", "enable", "enabled", "y"), "no": ("false", "off", "0", "none", "n")}


def corrected(value: str, message: str = "time") -> str:
    """Return a value in the form that Postfix accepts; empty if it is not known what was meant.

    ``message``  Postfix's error, which shows of what kind the value should be
    """
    if "time" in message and (found := _TIME.fullmatch(value.strip())):
        return f"{int(found[1])}{found[2][0].lower()}"
    if "boolean" not in message:
        return ""
    lower = value.strip().lower()
    return next((right for right, wrong in _BOOLEANS.items() if lower in (right, *wrong)), "")
