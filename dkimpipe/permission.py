"""Who may use a signature: the options login= and envelope= of an entry.

This module is loaded only for an entry that has one of them.
"""

from dkimpipe.address import as_a_labels, holds_one_address, spellings
from dkimpipe.config import ARGV
from dkimpipe.errors import ConfigError, NotAllowed, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Optional

    from dkimpipe.config import Settings
    from dkimpipe.message import Message
    from dkimpipe.senders import Signature

    Rule = tuple[str, str, Callable[[Settings], Optional[str]], Callable[[bytes, bytes], bool], str]

_MAX_SHOWN = 64  # octets of a login or an envelope sender in the log: the place after it stays visible


def refusal(message: "Message", settings: "Settings", signature: "Signature") -> "NotAllowed | None":
    """Return why the sending user may not use a signature. Raises ConfigError if the user is not known.

    Permission for one address must not extend to another address beside it in From.
    """
    for option, (what, flag, value_of, matches, hint) in _SENDING_USER.items():
        if option not in signature.options:
            continue
        value, rule = value_of(settings), signature.options[option]
        if value is None:
            raise ConfigError(f"{signature.place}: {option}= is set, but no {flag} was given", hint)
        octets = value.encode("utf-8", "surrogateescape")
        items = [item.strip().encode("utf-8", "surrogateescape") for item in rule.split(":")]
        if not octets or not (b"*" in items or any(matches(octets, item) for item in items)):
            reason = f"{what} '{printable(octets, _MAX_SHOWN)}' may not use {signature.place}"
            return NotAllowed(reason, f"{option}={rule}")
        author = message.by_name[b"from"][0].value
        if not holds_one_address(author):
            fault = "more than one address in From" if author.count(b"@") > 1 else "syntax error in From"
            return NotAllowed(f"{fault}: cannot use {signature.place}", f"{option}={rule}")
    return None


def _is_sender(sender: bytes, item: bytes) -> bool:
    """Return whether an envelope sender is this address, or in this domain.

    Only the case of the domain is ignored. Other equivalences, such as full-width letters, could match a
    different account to the program that authorized the sender.
    """
    local_part, at, domain = sender.rpartition(b"@")
    only, _, item_domain = item.rpartition(b"@")
    return bool(at) and domain.lower() in spellings(as_a_labels(item_domain)) and only in (b"", local_part)


# For each option that limits who may use a signature: the name of its subject, the option of the command line
# that gives it, its value, a test of the value against an item, and the hint if it was not given.
_SENDING_USER: "dict[str, Rule]" = {
    "login": (
        "login",
        "--login",
        lambda settings: settings.values.get("login"),
        lambda login, item: login == item,
        "add --login=${sasl_username} to argv in master.cf",
    ),
    "envelope": ("envelope sender", "-f SENDER", lambda settings: settings.sender, _is_sender, ARGV),
}
