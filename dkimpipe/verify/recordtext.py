"""The DKIM record within a text of any other form: a table, a web page, the JSON of another tool.

Only a record that says that it is one is found (``v=DKIM1``), and only its text, not its name.
"""

from __future__ import annotations

import json
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = re.compile(rb"(?i)(?<![\w.-])[\w-]+(?:\.[\w-]+)*\._domainkey(?:\.[\w-]+)*\.?")
_IS_RECORD = re.compile(r'(?i)[\s"]*v\s*=\s*DKIM1\b')
_STARTS = re.compile(r"(?i)(?<![\w-])v\s*=\s*DKIM1\b")
_QUOTES = str.maketrans(dict.fromkeys("\u2018\u2019\u201a\u201c\u201d\u201e`'", '"'))
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"(?:[\s()]*"(?:[^"\\]|\\.)*")*', re.DOTALL)
_BARE = re.compile(r"[^\t\r\n|<]*")  # the cell of a table, or a line


def names(octets: bytes) -> list[bytes]:
    """Return the names of DKIM records in a text."""
    return _NAME.findall(octets)


def values(octets: bytes) -> set[bytes]:
    """Return the texts of the DKIM records in a file."""
    text = octets.decode("utf-8", "replace")
    try:
        found = _in_json(json.loads(text))
    except (ValueError, RecursionError):
        found = _in_text(text.translate(_QUOTES))
    return {value.encode() for value in found}


def _in_text(text: str) -> Iterator[str]:
    end = 0
    for start in _STARTS.finditer(text):
        at = start.start()
        if at < end:
            continue
        quoted = _STRINGS.match(text, at - 1) if at else None
        found = quoted or _BARE.match(text, at)
        if found:
            end = found.end()
            yield _joined(found[0]) if quoted else found[0].strip().replace("\\;", ";")


def _in_json(found: object) -> Iterator[str]:
    if isinstance(found, str):
        found = [found]
    if isinstance(found, dict):
        found = list(found.values())
    elif isinstance(found, list) and all(isinstance(each, str) for each in found):
        yield from _of_strings(found)
        return
    for each in found if isinstance(found, list) else ():
        yield from _in_json(each)


def _of_strings(strings: list[str]) -> Iterator[str]:
    """Yield the records in a list; a string that is not the beginning of one continues the one before."""
    records: list[str] = []
    for each in strings:
        if _IS_RECORD.match(each):
            records.append(each)
        elif records:
            records[-1] += each
    for record in records:
        yield _joined(record) if record.startswith('"') else record


def _joined(quoted: str) -> str:
    """Return the text of strings, which may be in other strings: within those, quotes separate them."""
    text = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', quoted, re.DOTALL))
    return re.sub(r'"\s*"', "", re.sub(r"\\(.)", r"\1", text)).strip('"')
