"""Whether programs of Postfix start is asked once for the same settings: a check asks two dozen of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from unittest import mock

import pytest

from dkimpipe.admin.postfix import daemons
from dkimpipe.admin.postfix.daemons import Start
from dkimpipe.admin.postfix.postconf import Postconf


@pytest.fixture(scope="session", autouse=True)
def remembered_starts() -> Iterator[None]:
    """The answer depends on main.cf and the arguments, not on the directory, unless the answer names it."""
    ask, known = daemons._messages, dict[tuple[str, str], str]()

    def messages(postconf: Postconf, starts: Sequence[Start]) -> dict[Start, str]:
        directory = str(postconf.directory)
        settings = (postconf.directory / "main.cf").read_text(errors="surrogateescape")
        places = {
            each: (settings.replace(directory, "DIR"), repr(each).replace(directory, "DIR"))
            for each in starts
        }
        asked = ask(postconf, [each for each in starts if places[each] not in known])
        known.update({places[each]: text for each, text in asked.items() if directory not in text})
        remembered = {each: known[places[each]] for each in starts if places[each] in known}
        return {**remembered, **asked}

    with mock.patch.object(daemons, "_messages", messages):
        yield
