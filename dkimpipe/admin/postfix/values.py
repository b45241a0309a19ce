"""Values that Postfix does not accept, and what was meant: numbers, times, words, yes or no."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_COMMENT = re.compile(r"(?:^|\s)(?:#|//).*", re.DOTALL)
_AROUND = " \t=:;,.\"'`\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb"
_TIME = re.compile(r"(\d+)\s*(s(ec|econd)?|m(in|inute)?|h(r|our)?|d(ay)?|w(eek)?|)s?", re.IGNORECASE)
_NUMBER = re.compile(r"(\d+)\s*(?:([kmg])i?)?(?:b|bytes?)?", re.IGNORECASE)
_THOUSANDS = re.compile(r"(?<=\d)[ ,._'](?=\d{3}(?!\d))")
_BYTES = re.compile("size|minfree|length_limit")  # in the names of numbers of bytes
_BOOLEANS = {"yes": ("true", "on", "1", "enable", "enabled", "y"), "no": ("false", "off", "0", "none", "n")}
_ANSWERS = {word: right for right, words in _BOOLEANS.items() for word in (right, *words)}


def corrected(parameter: str, value: str, message: str) -> str:
    """Return a value in the form that Postfix accepts; empty if it is not known what was meant.

    ``message``  Postfix's error, which shows of what kind the value should be
    """
    value = plain(value)
    if "time" in message:
        found = _TIME.fullmatch(value)
        return f"{int(found[1])}{found[2][:1].lower()}" if found else ""
    if "numerical" in message:
        found = _NUMBER.fullmatch(_THOUSANDS.sub("", value))
        base = 1024 if _BYTES.search(parameter) else 1000
        return str(int(found[1]) * base ** " kmg".index((found[2] or " ").lower())) if found else ""
    return _ANSWERS.get(meant(value, _ANSWERS), "") if "boolean" in message else ""


def plain(value: str) -> str:
    """Return a value without what does not belong to it: a comment, quotes, or one brace of a pair."""
    value = _COMMENT.sub("", value).strip(_AROUND)
    for brace in "{}" if value.count("{") != value.count("}") else "":
        value = value.strip(brace).strip(_AROUND)
    return value


def meant(word: str, known: Iterable[str]) -> str:
    """Return the known word that a word is or resembles; empty if none is, or several are alike."""
    word = word.lower()
    known = list(known)
    if word in known:
        return word
    close = difflib.get_close_matches(word, known, 2, 0.75)
    ratios = [difflib.SequenceMatcher(None, each, word).ratio() for each in close]
    return close[0] if close and ratios[1:] != ratios[:1] else ""
