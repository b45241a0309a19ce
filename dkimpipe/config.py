"""Settings: the command line, and the conf file with the same names, one ``name value`` per line.

The names are DKIMproxy's and a few of our own; ``-`` and ``_`` are equivalent. The command line takes
precedence.
"""

from dkimpipe.errors import ConfigError, UsageError, shown
from dkimpipe.files import COMMAND_LINE, Place, exists, read_file
from dkimpipe.files import SENDER_MAP as SENDER_MAP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import ClassVar

CONF_FILE = "/etc/dkimpipe/dkimpipe.conf"
VERIFY_CONF_FILE = "/etc/dkimpipe/verify.conf"
SENDMAIL = "/usr/sbin/sendmail"
ARGV = "in master.cf: argv=... -f ${sender} -- ${recipient}"

_NAME_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
_YES_OR_NO = ("yes", "no")
# Name and allowed values: any value if none are listed.
OPTIONS: "dict[str, tuple[str, ...]]" = {
    "conf_file": (),
    "sender_map": (),
    "listid_map": (),
    "keyfile": (),
    "selector": (),
    "domain": (),
    "identity": (),
    "signature": (),
    "method": (),
    "dkim_method": (),
    "domainkeys_method": (),
    "reject_error": _YES_OR_NO,
    "match": (),
    "on_error": ("defer", "accept"),
    "normalize": _YES_OR_NO,
    "relay": (),
    "sendmail": (),
    "syslog": _YES_OR_NO,
    "verbose": _YES_OR_NO,
    "sign_clients": (),
    "login": (),
    "client": (),
    "client_name": (),
    "queue_id": (),
}
COMMAND_LINE_ONLY = ("conf_file", "login", "client", "client_name", "queue_id")
MATCHES = ("from", "sender", "envelope")
# The empty values of pipe(8)'s macros: the client did not log in, or there is no client.
_MAY_BE_EMPTY = ("login", "client", "client_name", "queue_id")

# The keywords of sign_clients; addresses and networks are allowed, too.
AUTHENTICATED, MYNETWORKS, ANY = "authenticated", "mynetworks", "any"

# Directives for servers only (DKIMproxy and the Perl module Net::Server): accepted and ignored.
IGNORED = frozenset(
    [
        "background",
        "backlog",
        "check_for_dead",
        "check_for_waiting",
        "chroot",
        "commandline",
        "daemonize",
        "debugtrace",
        "group",
        "host",
        "ipv",
        "leave_children_open_on_hup",
        "listen",
        "lock_file",
        "log_file",
        "log_level",
        "max_dequeue",
        "max_requests",
        "max_servers",
        "max_spare_servers",
        "min_servers",
        "min_spare_servers",
        "no_client_stdout",
        "no_close_by_child",
        "pid_file",
        "pidfile",
        "port",
        "proto",
        "relay_host",
        "relay_port",
        "reverse_lookups",
        "serialize",
        "server_type",
        "setsid",
        "sig_passthrough",
        "syslog_facility",
        "syslog_ident",
        "syslog_logopt",
        "syslog_logsock",
        "tie_client_stdout",
        "user",
    ]
)

_SPELLINGS = {"1": "yes", "true": "yes", "on": "yes", "0": "no", "false": "no", "off": "no", "": "yes"}
_WORDS = (*_YES_OR_NO, *_SPELLINGS)


class Settings:
    """The settings from the command line and the conf file. A command with other options uses a subclass.

    ``options``     name and allowed values, as in OPTIONS
    ``conf_file``   the default, read if it exists and no other is given
    ``command``     the command as users type it

    ``values``      value by name, for the names that were given
    ``places``      the place of each of these values
    ``signatures``  the values of ``signature``, in order, each with its place
    ``sender``      the envelope sender of ``-f``, None if it was not given, '' for the null sender
    ``recipients``  the envelope recipients
    """

    __slots__ = ("places", "recipients", "sender", "signatures", "values")

    options: "ClassVar[dict[str, tuple[str, ...]]]" = OPTIONS
    conf_file = CONF_FILE
    command = "dkimpipe"

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.places: dict[str, Place] = {}
        self.signatures: list[tuple[str, Place]] = []
        self.sender: str | None = None
        self.recipients: list[str] = []

    def get(self, name: str, default: str = "") -> str:
        """Return a value, or the default."""
        return self.values.get(name, default)

    def yes(self, name: str, default: bool = False) -> bool:
        """Return a yes-or-no value."""
        return self.values[name] == "yes" if name in self.values else default

    @property
    def match(self) -> "list[str]":
        """The addresses that choose the entry, in order."""
        return self.get("match", "from,sender").split(",")

    @property
    def sign_clients(self) -> "list[str]":
        """The SMTP clients whose mail is signed: keywords, addresses and networks."""
        return self.get("sign_clients", f"{AUTHENTICATED},{MYNETWORKS}").replace(",", " ").split()

    def set(self, name: str, value: str, place: Place) -> None:
        """Set one option; raise ConfigError if its value is invalid."""
        allowed = self.options[name]
        if allowed == _YES_OR_NO:
            value = _SPELLINGS.get(value.lower(), value.lower())
        if allowed and value not in allowed:
            raise ConfigError(f"{place}: {name} must be {' or '.join(allowed)}, not '{value}'")
        if not value and allowed != _YES_OR_NO and name not in _MAY_BE_EMPTY:
            raise ConfigError(f"{place}: {name} has no value")
        if name == "match":
            value = value.replace(" ", "").lower()
            for word in value.split(","):
                if word not in MATCHES:
                    raise ConfigError(f"{place}: match accepts {', '.join(MATCHES)}; not '{word}'")
        if name == "signature":
            self.signatures.append((value, place))
        self.values[name] = value
        self.places[name] = place


def read_settings(arguments: "list[str]", settings: "Settings | None" = None) -> Settings:
    """Return the settings of a command line (without the program's name) and of its conf file.

    Raises UsageError for the command line, ConfigError with file and line for the conf file.
    """
    settings = read_command_line(arguments, settings)
    path = settings.get("conf_file")
    if path or exists(settings.conf_file):
        wait = bool(settings.recipients)
        for name, value, place in read_conf(path or settings.conf_file, settings.options, wait):
            if settings.places.get(name) is not COMMAND_LINE:
                settings.set(name, value, place)
    return settings


def read_command_line(arguments: "list[str]", settings: "Settings | None" = None) -> Settings:
    """Return settings from ``--name value``, ``--name=value``, ``-f SENDER`` and recipients."""
    settings = settings or Settings()
    left = arguments[::-1]
    while left:
        word = left.pop()
        if word == "--":
            settings.recipients, left = left[::-1], []
            if not settings.recipients:
                raise UsageError("no recipients after --", ARGV)
        elif word == "-f":
            settings.sender = _next(left, word)
        elif word.startswith("--"):
            _take_option(settings, word, left)
        else:
            raise UsageError(f"unknown argument '{word}'", "recipients follow --; see dkimpipe --help")
    if settings.recipients and settings.sender is None:
        raise UsageError("recipients without -f SENDER", ARGV)
    return settings


def _take_option(settings: Settings, word: str, left: "list[str]") -> None:
    """Set ``--name=value``, or ``--name`` with its value from the end of ``left``; the default is yes."""
    option, equals, value = word[2:].partition("=")
    name = option.replace("-", "_")
    if name in IGNORED:
        if not equals and left and not left[-1].startswith("-"):
            left.pop()
        return
    if name not in settings.options:
        raise UsageError(f"unknown option '--{option}'", f"see {settings.command} --help")
    if not equals:
        yes = settings.options[name] == _YES_OR_NO and not (left and left[-1] and left[-1].lower() in _WORDS)
        value = "yes" if yes else _next(left, word)
    settings.set(name, value, COMMAND_LINE)


def read_conf(
    path: str, options: "dict[str, tuple[str, ...]]" = OPTIONS, wait: bool = False
) -> "list[tuple[str, str, Place]]":
    """Return name, value and place of each directive in a conf file. Raises ConfigError.

    ``wait`` until it is no longer being written to.
    """
    directives = []
    for name, value, place, line in conf_lines(path, wait):
        if name in options and name not in COMMAND_LINE_ONLY:
            directives.append((name, value, place))
        elif name not in IGNORED:
            raise unknown_directive(place, line)
    return directives


def conf_lines(path: str, wait: bool = False) -> "Iterator[tuple[str, str, Place, str]]":
    """Yield name, value, place and text of each line that is not a comment, known or not."""
    text = read_file(path, "conf file", wait).decode("utf-8", "surrogateescape")
    for number, line in enumerate(text.split("\n"), 1):
        line = line.replace("\t", " ").strip()
        if not line or line[0] in "#;":
            continue
        rest = line.lstrip(_NAME_LETTERS)
        name = line[: len(line) - len(rest)].lstrip("-").replace("-", "_")
        if rest and rest[0] not in " =:":
            name = ""
        rest = rest.lstrip()
        value = (rest[1:] if rest[:1] in ("=", ":") else rest).partition(" #")[0].strip()
        yield name, value, Place(path, number), line


def unknown_directive(place: Place, line: str) -> ConfigError:
    """Return the error for a line that does not begin with the name of an option."""
    return ConfigError(f"{place}: unknown directive: '{shown(line)}'")


def _next(left: "list[str]", option: str) -> str:
    if left:
        return left.pop()
    raise UsageError(f"{option} needs a value", ARGV if option == "-f" else "")
