"""UCL, the language of rspamd's configuration, as libucl reads it.

Read are both notations, JSON and that of nginx, with named blocks, repeated keys, comments, quoted and
unquoted strings, here-documents, numbers with units, variables, and the macros ``.include``,
``.try_include`` and ``.priority``. Other macros are refused, and so are the options ``prefix``, ``key`` and
``path`` of ``.include``.
"""

from __future__ import annotations

import glob
import os.path
import re
from collections.abc import Mapping
from typing import Union

from dkimpipe.errors import ConfigError, shown
from dkimpipe.files import Place, exists, read_file

APPEND, MERGE, REWRITE, ERROR = "append", "merge", "rewrite", "error"  # what to do with a repeated key

_MAX_DEPTH = 64  # of objects and arrays
_MAX_DIGITS = 300  # of a number
_MAX_INCLUDES = 16  # of files in files, as in libucl

_SPACE_AND_LINES = re.compile(r"[ \t\r\n\v\f]+")
_KEY = re.compile(r"[A-Za-z0-9/_\x80-\U0010ffff][A-Za-z0-9/_.\x80-\U0010ffff-]*(?=[\s=:{\[]|\Z)")
_SEPARATOR = re.compile(r"[ \t]*([=:]?)[ \t]*")
_MACRO = re.compile(r"\.([^\s(]+)[ \t]*")
_HEREDOC = re.compile(r"<<([A-Z]*)\n")
_IN_QUOTES = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
_IN_SINGLE_QUOTES = re.compile(r"'((?:[^'\\]|\\.)*)'", re.DOTALL)
_END = "\0\n\r#,;]}"  # of an unquoted string
_MORE_KEYS = re.compile(r"[^,;\n\r{\[]*[{\[]")
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "b": "\b", "t": "\t", "f": "\f"}
_NUMBER = re.compile(
    r"(-?)(?:0[xX]([0-9A-Fa-f]+)|(\d+)(\.\d*)?([eE][+-]?\d+)?)([A-Za-z]+|[ \t]*)(?=[\0\n\r#,;\]}]|\Z)"
)
_START = re.compile(r"[^\s=:\"'{\[]{1,16}")  # of a line, for errors
_UNITS = {"k": 1000, "m": 1000**2, "g": 1000**3, "kb": 1024, "mb": 1024**2, "gb": 1024**3}
_TIMES = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000, "ms": 0.001}
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}

Scalar = Union[str, bool, int, float, None]


class Object(dict[str, "list[Node]"]):
    """The values of each key: more than one if the key is repeated, which makes an implicit array."""


class Array(list["Node"]):
    """An array as written."""


class Node:
    """A value, the place of its key or of the value itself, and the priority of the file that has it."""

    __slots__ = ("place", "priority", "value")

    def __init__(self, place: Place, priority: int = 0) -> None:
        self.value: Scalar | Object | Array = None
        self.place = place
        self.priority = priority


def parse(text: str, path: str, variables: Mapping[str, str]) -> Object:
    """Return the object that a text describes, with all files that it includes. Raises ConfigError.

    ``path`` is where the text comes from; CURDIR and FILENAME in ``variables`` follow from it.
    """
    top = Object()
    _Reader(text, path, variables).read_into(top)
    return top


def plain(value: Scalar | Object | Array) -> object:
    """Return a value in Python's own types: an implicit array is a list, too."""
    if isinstance(value, Object):
        lists = {key: [plain(node.value) for node in nodes] for key, nodes in value.items()}
        return {key: items[0] if len(items) == 1 else items for key, items in lists.items()}
    return [plain(node.value) for node in value] if isinstance(value, Array) else value


class _Reader:
    """Reads one file into an object."""

    def __init__(
        self, text: str, path: str, variables: Mapping[str, str], priority: int = 0, depth: int = 0
    ) -> None:
        self.text = text
        self.path = path
        self.variables = {**variables, "CURDIR": os.path.dirname(path) or ".", "FILENAME": path}
        self.priority = priority
        self.strategy = APPEND
        self.depth = depth
        self.at = 0
        self.nesting = 0
        self._line, self._counted = 1, 0  # the number of the line at an offset

    def read_into(self, top: Object) -> None:
        """Read the whole file: the braces around it are optional, and what follows them is ignored."""
        self._skip()
        if self._next("{"):
            self._object(top, closed=True)
        else:
            self._object(top, closed=False)

    def _object(self, target: Object, closed: bool) -> None:
        """Read keys and values up to the closing brace, which is missing at the end of a file."""
        while self._skip(",;"):
            if self._next("}"):
                if closed:
                    return
                raise self._error("'}' without '{'", self.at - 1)
            if self.text[self.at] == ".":
                self._macro(target)
            else:
                self._pair(target)
        if closed:
            raise self._error("no closing brace at the end of the file")

    def _pair(self, target: Object) -> None:
        """Read ``key value``; several keys in front of a block are blocks within each other."""
        node = self._slot(target, *self._key())
        match = _SEPARATOR.match(self.text, self.at)
        separator = match[1] if match else ""
        self.at = match.end() if match else self.at
        if not separator and self.text[self.at : self.at + 1] not in ("{", "["):
            if _MORE_KEYS.match(self.text, self.at):
                with _Nesting(self):
                    self._pair(self._container(node, Object))
                return
            if self.text[self.at : self.at + 1] in ("", *_END):
                raise self._error("a key without a value")
        self._value(node)

    def _key(self) -> tuple[str, Place]:
        start, place = self.at, self._place()
        if self.text[self.at] == '"':
            return self._quoted(), place
        match = _KEY.match(self.text, self.at)
        if not match:
            raise self._error("not a key", start)
        self.at = match.end()
        return match[0], place

    def _slot(self, target: Object, key: str, place: Place) -> Node:
        """Return the node to read a value into: a new one, or one to merge with.

        As in libucl, the value of higher priority wins, and of the same priority both stay.
        """
        node = Node(place, self.priority)
        nodes = target.setdefault(key, [])
        if not nodes:
            nodes.append(node)
        elif self.strategy == ERROR:
            raise ConfigError(f"{place}: '{shown(key)}' is repeated")
        elif self.strategy == MERGE and isinstance(nodes[0].value, (Object, Array)):
            return nodes[0]
        elif self.strategy == REWRITE or nodes[0].priority < self.priority:
            nodes[:] = [node]
        elif nodes[0].priority == self.priority:
            nodes.append(node)
        return node

    def _container(self, node: Node, kind: type[Object]) -> Object:
        """Return the object in a node, made if there is none."""
        if isinstance(node.value, Array):
            raise self._error("an object cannot be merged with an array")
        if not isinstance(node.value, kind):
            node.value = kind()
        return node.value

    def _value(self, node: Node) -> None:
        self._skip()
        if self._next("{"):
            with _Nesting(self):
                self._object(self._container(node, Object), closed=True)
        elif self._next("["):
            with _Nesting(self):
                self._array(node)
        else:
            node.value = self._scalar()
            self._after_value()

    def _scalar(self) -> Scalar:
        letter = self.text[self.at : self.at + 1]
        if letter == '"':
            return self._expanded(self._quoted())
        if letter == "'":
            return self._single_quoted()
        if match := _HEREDOC.match(self.text, self.at):
            return self._expanded(self._heredoc(match))
        return self._atom()

    def _array(self, node: Node) -> None:
        if isinstance(node.value, Object):
            raise self._error("an object cannot be merged with an array")
        if not isinstance(node.value, Array):
            node.value = Array()
        while self._skip(",;"):
            if self._next("]"):
                return
            element = Node(self._place(), self.priority)
            node.value.append(element)
            self._value(element)
        raise self._error("no closing bracket at the end of the file")

    def _quoted(self) -> str:
        match = _IN_QUOTES.match(self.text, self.at)
        if not match:
            raise self._error("no closing quote on the line")
        self.at = match.end()
        return _unescaped(match[1])

    def _single_quoted(self) -> str:
        match = _IN_SINGLE_QUOTES.match(self.text, self.at)
        if not match:
            raise self._error("no closing quote")
        self.at = match.end()
        return match[1].replace("\\\n", "").replace("\\'", "'")

    def _heredoc(self, match: re.Match[str]) -> str:
        end = re.compile(rf"\n{match[1]}(?=[\n;,]|\Z)").search(self.text, match.end() - 1)
        if not end:
            raise self._error(f"no line {match[1]} at the end of the text")
        self.at = end.end()
        return self.text[match.end() : end.start()] if end.start() > match.end() else ""

    def _atom(self) -> Scalar:
        """Return an unquoted value: a number, a word with a meaning, or a string to the end of the line."""
        if (match := _NUMBER.match(self.text, self.at)) and (number := self._number(match)) is not None:
            self.at = match.end()
            return number
        start = self.at
        open_braces = {"}": 0, "]": 0}
        while self.at < len(self.text):
            letter = self.text[self.at]
            if letter == "\\":
                self.at += 2
                continue
            if letter in "{[":
                open_braces["}" if letter == "{" else "]"] += 1
            elif open_braces.get(letter, 0) > 0:
                open_braces[letter] -= 1
            elif letter in _END or self.text.startswith("/*", self.at):
                break
            self.at += 1
        text = self.text[start : self.at].rstrip(" \t")
        if not text:
            raise self._error("no value")
        if text == "null":
            return None
        word = _WORDS.get(text.lower())
        return word if word is not None else self._expanded(_unescaped(text))

    def _number(self, match: re.Match[str]) -> int | float | None:
        if len(match[0]) > _MAX_DIGITS:
            raise self._error("too long a number")
        try:
            return _number(match)
        except OverflowError:
            raise self._error("too large a number") from None

    def _expanded(self, text: str) -> str:
        """Return a string with its variables. Without a known one it stays as it is, ``$$`` included."""
        names = "|".join(re.escape(name) for name in sorted(self.variables, key=len, reverse=True))
        variable = re.compile(rf"\$(?:\$|\{{({names})\}}|({names}))")
        if not any(match[1] or match[2] for match in variable.finditer(text)):
            return text
        return variable.sub(lambda match: self.variables.get(match[1] or match[2], "$"), text)

    def _after_value(self) -> None:
        """Require a separator, a line end or a comment after a value, unless something ends there."""
        rest = self.text[self.at :].lstrip(" \t")
        if rest and rest[0] not in _END and not rest.startswith("/*"):
            raise self._error("text after the value")

    def _macro(self, target: Object) -> None:
        match = _MACRO.match(self.text, self.at)
        name = match[1] if match else ""
        start, self.at = self.at, match.end() if match else self.at
        options = self._macro_options()
        self._skip()
        value = self._quoted() if self.text[self.at : self.at + 1] == '"' else self._atom()
        if name == "priority" and isinstance(value, int):
            self.priority = value
        elif name in ("include", "try_include") and not options.keys() & {"prefix", "key", "path"}:
            options.setdefault("try", name == "try_include")
            self._include(target, self._expanded(str(value)), options, self._place(start))
        else:
            raise self._error("this macro is not supported", start)

    def _macro_options(self) -> dict[str, Scalar]:
        """Return the options in parentheses."""
        if not self._next("("):
            return {}
        end = self.text.find(")", self.at)
        if end < 0:
            raise self._error("no closing parenthesis")
        text, self.at = self.text[self.at : end], end + 1
        options = plain(parse(text, self.path, {}))
        return options if isinstance(options, dict) else {}

    def _include(self, target: Object, path: str, options: Mapping[str, Scalar], place: Place) -> None:
        if "\0" in path:
            raise ConfigError(f"{place}: a path with a zero")
        if self.depth == _MAX_INCLUDES:
            raise ConfigError(f"{place}: more than {_MAX_INCLUDES} files include each other")
        paths = sorted(glob.glob(path)) if options.get("glob") is True else [path]
        for included in paths:
            if options.get("try") is True and not exists(included):
                continue
            try:
                octets = read_file(os.path.realpath(included), "file")
            except ConfigError as error:
                raise error.at(place) from None
            text = octets.decode("utf-8", "surrogateescape")
            priority = options.get("priority", 0)
            reader = _Reader(
                text, included, self.variables, priority if isinstance(priority, int) else 0, self.depth + 1
            )
            reader.strategy = str(options.get("duplicate", APPEND))
            reader.read_into(target)

    def _next(self, letter: str) -> bool:
        """Take a letter if it is the next one."""
        found = self.text.startswith(letter, self.at)
        self.at += len(letter) if found else 0
        return found

    def _skip(self, separators: str = "") -> bool:
        """Skip white space, comments and these letters. Return whether something follows."""
        while self.at < len(self.text):
            if match := _SPACE_AND_LINES.match(self.text, self.at):
                self.at = match.end()
            elif self.text[self.at] in separators:
                self.at += 1
            elif self.text[self.at] == "#":
                end = self.text.find("\n", self.at)
                self.at = end if end >= 0 else len(self.text)
            elif self.text.startswith("/*", self.at):
                self._skip_comment()
            else:
                return True
        return False

    def _skip_comment(self) -> None:
        """Skip a comment with the comments in it; ``*/`` within quotes does not end it."""
        start, depth = self.at, 0
        for match in re.compile(r'"(?:[^"\\]|\\.)*"|/\*|\*/', re.DOTALL).finditer(self.text, self.at):
            depth += {"/*": 1, "*/": -1}.get(match[0], 0)
            if depth == 0:
                self.at = match.end()
                return
        raise self._error("the comment is not closed", start)

    def _place(self, at: int | None = None) -> Place:
        at = self.at if at is None else at
        if at < self._counted:
            return Place(self.path, self.text.count("\n", 0, at) + 1)
        self._line += self.text.count("\n", self._counted, at)
        self._counted = at
        return Place(self.path, self._line)

    def _error(self, fault: str, at: int | None = None) -> ConfigError:
        at = self.at if at is None else at
        line = self.text[self.text.rfind("\n", 0, at) + 1 :].strip(" \t")
        match = _START.match(line)  # no value, since that may be a password
        return ConfigError(f"{self._place(at)}: {fault}: '{match[0] if match else ''}'")


class _Nesting:
    """Counts the objects and arrays within each other."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader

    def __enter__(self) -> None:
        self._reader.nesting += 1
        if self._reader.nesting > _MAX_DEPTH:
            raise self._reader._error(f"more than {_MAX_DEPTH} blocks within each other")

    def __exit__(self, *_: object) -> None:
        self._reader.nesting -= 1


def _number(match: re.Match[str]) -> int | float | None:
    """Return a number with its unit; None if the unit is unknown, which makes it a string."""
    sign, hexadecimal, digits, fraction, exponent, unit = match.groups("")
    unit = unit.strip().lower()
    if hexadecimal:
        return int(sign + hexadecimal, 16) if not unit else None
    number = float(sign + digits + fraction + exponent) if fraction or exponent else int(sign + digits)
    if unit in _TIMES:
        return float(number * _TIMES[unit])
    return number * _UNITS[unit] if unit in _UNITS else None if unit else number


def _unescaped(text: str) -> str:
    """Return a string without its backslashes."""
    return _ESCAPE.sub(lambda match: _escaped(match[1]), text)


def _escaped(letters: str) -> str:
    if len(letters) == 1:
        return _ESCAPES.get(letters, letters)
    code = int(letters[1:], 16)
    return "\ufffd" if 0xD800 <= code < 0xE000 else chr(code)
