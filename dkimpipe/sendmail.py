"""The command line of sendmail(1), for filters that end in it: they run dkimpipe-sendmail in its place.

One path replaces the other, and the arguments stay as they are. An option that does not change where a
message goes is accepted, as far as Postfix's sendmail(1) ignores it, too. All others are refused: the mail is
deferred, rather than handled in another way than the filter asked for.
"""

import posix

from dkimpipe.errors import UsageError

_FLAGS = "GUacimnx"  # -n, -m and the like mean nothing to Postfix either
_WITH_VALUE = "ABFLOXehop"  # -F: cleanup(8) has added a missing From field before the filter
_SENDER = "fr"
_NAME = "dkimpipe-sendmail"


def of_filter(arguments: "list[str]") -> "list[str]":
    """Return the arguments of sendmail(1) as those of the filter. Raises UsageError.

    ``--name=value`` before the recipients is an option of the filter.
    """
    options: list[str] = []
    recipients: list[str] = []
    sender = None
    left = arguments[::-1]
    while left:
        word = left.pop()
        if word == "--":
            recipients += left[::-1]
            break
        if word.startswith("--") and "=" in word and not recipients:
            options.append(word)
        elif word.startswith("-") and word != "-":
            given = _sender_in(word, left)
            sender = sender if given is None else given
        else:
            recipients.append(word)
    if not recipients:
        raise UsageError(f"{_NAME}: no recipients", "give them as arguments; it has no -t")
    return [*options, "-f", _user() if sender is None else sender, "--", *recipients]


def _sender_in(word: str, left: "list[str]") -> "str | None":
    """Return the sender in a word of short options, whose value may be the next word; None if it has none."""
    letters = word[1:]
    for at, letter in enumerate(letters, 1):
        if letter in _FLAGS:
            continue
        value = letters[at:]
        if letter in _WITH_VALUE + _SENDER + "b" and not value:
            if not left:
                raise UsageError(f"{_NAME}: -{letter} needs a value")
            value = left.pop()
        if letter in _SENDER:
            return value
        if letter in _WITH_VALUE or (letter, value) == ("b", "m"):
            return None
        raise UsageError(
            f"{_NAME} has no option -{letter}", "it only passes a message on: -f SENDER RECIPIENT..."
        )
    return None


def _user() -> str:
    """Return the sender without -f, which is the user, as for sendmail(1)."""
    import pwd

    try:
        return pwd.getpwuid(posix.getuid()).pw_name
    except KeyError:
        raise UsageError(f"{_NAME}: no -f SENDER, and the user has no name") from None
