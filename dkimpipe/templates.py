"""Macros in s= and key=: one entry for many domains, each with a key file of its own.

Only domains go into the path, and only host names in A-labels: letters, digits, hyphens, and dots between the
labels (RFC 5890 section 2.3.1). None of them contains a slash, and none is ``.`` or ``..``, so each is a part
of one component, below a directory that the entry itself names. This module is loaded only for such an entry.
"""

import posix

from dkimpipe.address import as_a_labels, is_domain
from dkimpipe.errors import ConfigError, MissingFileError, NoKey, printable
from dkimpipe.files import open_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dkimpipe.files import Place
    from dkimpipe.options import SignatureOptions

    Pieces = list[tuple[str, str]]

IN_SELECTOR = ("key", "keydomain", "senderdomain")  # the macros of s=, and those of key=
IN_PATH = (*IN_SELECTOR, "selector")
_CODEC = ("utf-8", "surrogateescape")
_HINT = "such as key=/etc/dkimpipe/keys/$keydomain.$selector.pem"


class Template:
    """The text of s= and key=, at least one of which has macros.

    ``path``            the macros of the path, each with the text after it; ``$selector`` is resolved
    ``domains``         the names of these macros, in order; empty if the path is fixed
    ``directory``       the directory that does not depend on them, and has all key files below it
    ``selector_place``  where s= is set
    ``domain``          the value of the first of ``domains``, once the macros are expanded
    """

    __slots__ = ("_place", "_selector", "directory", "domain", "domains", "path", "selector_place")

    def __init__(
        self, selector: "Pieces", selector_place: "Place", path: "Pieces", path_place: "Place"
    ) -> None:
        """Raises ConfigError if the directory depends on a macro."""
        self._place = path_place
        self.selector_place = selector_place
        self._selector = [(name, as_a_labels(_octets(text)).decode(*_CODEC)) for name, text in selector]
        self.path = self._resolved(path)
        self.domains = [name for name, _ in self.path[1:]]
        self.domain = b""
        self.directory = self.path[0][1].rpartition("/")[0]
        below = "".join([f"${name}{text}" for name, text in self.path])[len(self.directory) :]
        if self.domains and (self.directory[:1] != "/" or "/../" in below):
            cause = "key= with macros must lead down from a fixed directory"
            raise ConfigError(f"{path_place}: {cause}", _HINT)

    def _resolved(self, path: "Pieces") -> "Pieces":
        """Return the pieces of the path with those of the selector in place of ``$selector``."""
        resolved = path[:1]
        for name, text in path[1:]:
            more = self._selector if name == "selector" else [("", ""), (name, "")]
            last, before = resolved[-1]
            resolved[-1] = (last, before + more[0][1])
            resolved += more[1:]
            last, before = resolved[-1]
            resolved[-1] = (last, before + text)
        return resolved

    def expand(self, values: "dict[str, bytes]", defer: bool) -> "tuple[str, str]":
        """Return selector and path for these values of the macros.

        Raises NoKey for values that allow for no key, or ConfigError to ``defer`` such a message.
        """
        self.domain = values[self.domains[0]] if self.domains else b""
        selector = _joined(self._selector, values)
        macros = [*self.domains, *(name for name, _ in self._selector[1:])]
        for value in [values[name] for name in macros]:
            if not is_host_name(value) or (self._selector[1:] and not is_domain(_octets(selector))):
                reason = f"no key for {printable(value)}"
                raise ConfigError(f"{self._place}: {reason}") if defer else NoKey(reason)
        return selector, _joined(self.path, values)

    def refuse_links(self, keyfile: str) -> None:
        """Raise ConfigError if a directory that the macros select is a symbolic link to another place."""
        directory = self.directory
        for name in keyfile[len(directory) + 1 :].split("/")[:-1]:
            directory += f"/{name}"
            descriptor, _ = open_directory(directory, "key directory")
            posix.close(descriptor)


def settle(options: "SignatureOptions", wait: bool) -> None:
    """Make sure that a missing key is neither on its way nor on a file system that is not mounted.

    Raises ConfigError if there is no directory for keys. ``wait`` until it has not changed for a second: a
    program may replace a key by deleting it first.
    """
    parent = options.keyfile.rpartition("/")[0]
    fixed = options.template.directory if options.template else parent
    for directory in dict.fromkeys((fixed, parent)):
        try:
            descriptor, _ = open_directory(f"{directory}/", "key directory", wait)
            posix.close(descriptor)
        except ConfigError as error:
            if directory == fixed or not isinstance(error, MissingFileError):
                raise error.at(options.keyfile_place) from None


def is_host_name(domain: bytes) -> bool:
    """Return whether all labels are letters, digits and hyphens, with no hyphen at an end."""
    dotted = b"." + domain + b"."
    return is_domain(domain) and not any(each in dotted for each in (b"_", b".-", b"-."))


def _octets(text: str) -> bytes:
    return text.encode(*_CODEC)


def _joined(found: "Pieces", values: "dict[str, bytes]") -> str:
    return "".join([values.get(name, b"").decode(*_CODEC) + text for name, text in found])
