"""Lines of Postfix's log about DISCARD and REDIRECT: whose mail, and why."""

from __future__ import annotations

import pytest

from dkimpipe.admin.audit import actions
from dkimpipe.admin.audit.actions import Action, Parties

OURS = Parties(b"a@example.com", b"b@example.net")
HEAD = "Nov 27 20:57:04 mx postfix"
WHO = "from=<a@example.com> to=<B@example.net> proto=ESMTP"
# What smtpd(8) and cleanup(8) log, and what it says.
LINES: dict[str, tuple[str, Action]] = {
    "a header": (
        f"cleanup[1]: 58221592: discard: header Subject: Hi from unknown[127.0.0.1]; {WHO} helo=<mx>",
        Action(b"header Subject: Hi", b"", b"header"),
    ),
    "a header, from sendmail(1)": (
        "cleanup[1]: 58221592: discard: header Subject: Hi from local; "
        "from=<a@example.com> to=<b@example.net>: spam",
        Action(b"header Subject: Hi", b"spam", b"header"),
    ),
    "a body": (
        f"cleanup[1]: 58221592: redirect: body Hello from mx[::1]; {WHO} helo=<mx>: z@example.org",
        Action(b"body Hello", b"z@example.org", b"body"),
    ),
    "a login": (
        f"submission/smtpd[1]: NOQUEUE: redirect: RCPT from mx[127.0.0.1]: <a@example.com>: Sender address "
        f"triggers REDIRECT z@example.org; {WHO} sasl_username=<a b> helo=<mx>",
        Action(b"<a@example.com>: Sender address triggers REDIRECT z@example.org"),
    ),
    "a login behind helo": (
        "cleanup[1]: 58221592: redirect: header X: y from mx[::1]; "
        f"{WHO} helo=<mx> sasl_username=<a>: z@x.test",
        Action(b"header X: y", b"z@x.test", b"header"),
    ),
    "at the end of the message": (
        f"smtpd[1]: 58221592: discard: END-OF-MESSAGE from mx[::1]: <mx[::1]>: Client host triggers DISCARD"
        f" action; {WHO} helo=<mx>",
        Action(b"<mx[::1]>: Client host triggers DISCARD action"),
    ),
    "addresses in the reason": (
        f"cleanup[1]: 58221592: discard: header X: y from mx[::1]; {WHO} helo=<mx>: no; from=<x> to=<y>",
        Action(b"header X: y", b"no; from=<x> to=<y>", b"header"),
    ),
}


@pytest.mark.parametrize(("line", "action"), LINES.values(), ids=LINES)
def test_what_a_line_says(line: str, action: Action) -> None:
    (event,) = actions.read(f"{HEAD}/{line}\n".encode(), OURS)
    assert actions.parse(event.text) == action


OTHERS = {
    "another sender": LINES["a header"][0].replace("a@example.com", "c@example.com"),
    "another recipient": LINES["a header"][0].replace("B@example.net", "c@example.net"),
    "another action": LINES["a header"][0].replace("discard:", "filter:"),
    "another program": LINES["a header"][0].replace("cleanup", "pipe"),
}


@pytest.mark.parametrize("line", OTHERS.values(), ids=OTHERS)
def test_what_is_not_about_this_message(line: str) -> None:
    assert list(actions.read(f"{HEAD}/{line}\n".encode(), OURS)) == []
