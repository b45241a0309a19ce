"""``dkimpipe check`` with files of DKIMproxy 1.4.1: each line that does otherwise here is named.

What it did is what DKIMproxy's own code does (dkimproxy.out, LookupMap.pm) and Perl's Mail::DKIM.
"""

from __future__ import annotations

import re

import pytest
from checking import KEY, findings, verb
from conftest import Keys

SERVER = "listen 127.0.0.1:10027"
ACCEPT = "on_error accept"
A = "a=rsa-sha256,"
IGNORED = "warning: CONF, line 1: listen is a server directive; it has no effect here"


def checked(keys: Keys, conf: str, senders: str = "", lists: str = "") -> tuple[int, str]:
    """Check a conf file with maps; return status and what is said, with short names for the paths."""
    paths = {"SENDERS": keys.senders(senders), "LISTS": keys.senders(lists, "listids")}
    for name, path in paths.items():
        conf = conf.replace(name, str(path))
    paths["CONF"] = keys.senders(conf, "dkimproxy_out.conf")
    done = verb(f"--conf_file={paths['CONF']}")
    assert done.stderr == ""
    said = done.stdout.decode()
    for name, path in {**paths, "KEYS": keys.directory}.items():
        said = said.replace(str(path), name)
    return done.status, said


SENDER_MAP = "match sender,from\nsender_map SENDERS\n"
PLUS = (
    "warning: CONF, line 4: for a+b@example.com DKIMproxy looked up neither a@example.com nor example.com; "
    "here both match"
)
NO_A = (
    "warning: {}: dkim without a= was rsa-sha1 in DKIMproxy; "
    "here it follows from the key, with sha256"
)  # fmt: skip

# An entry of the sender map, and what is found beside what is found for each such file.
ENTRIES = {
    "no a=": (f"example.com dkim(s=a,{KEY})", [NO_A.format("SENDERS, line 1")]),
    "a= of each": (
        f"# x\nexample.com dkim(s=a,{KEY}), domainkeys(s=a,{KEY}), dkim(s=a,{KEY})",
        [NO_A.format("SENDERS, line 2")],
    ),
    "a=": (f"example.com dkim({A}s=a,{KEY}), domainkeys(s=a,{KEY})", []),
    "h=": (
        f"example.com dkim({A}h=from:to,s=a,{KEY})",
        ["warning: SENDERS, line 1: h= had no effect in DKIMproxy; here it names the fields that are signed"],
    ),
    "headers=": (
        f"example.com domainkeys(headers=from,s=a,{KEY})",
        ["warning: SENDERS, line 1: h= had no effect in DKIMproxy; here it names the fields that are signed"],
    ),
    "x=": (
        f"example.com dkim({A}x=30d,s=a,{KEY})",
        ["warning: SENDERS, line 1: x= had no effect in DKIMproxy; here the signature expires"],
    ),
    "t=": (
        f"example.com dkim({A}t=no,s=a,{KEY})",
        [
            "warning: SENDERS, line 1: t= had no effect in DKIMproxy; "
            "here it says whether to add the signing time"
        ],
    ),
    "two macros": (
        f"example.com dkim({A}i=$key@$key,s=a,{KEY})",
        [
            "warning: SENDERS, line 1: i=$key@$key: DKIMproxy expanded only the first macro; "
            "here all are expanded"
        ],
    ),
    "a dollar before letters": (
        f"example.com dkim({A}i=$$key@example.com,s=a,{KEY})",
        [
            "warning: SENDERS, line 1: i=$$key@example.com: DKIMproxy took the second dollar as a"
            " macro; here $$ is one dollar"
        ],
    ),
    "one macro each": (f"example.com dkim({A}d=$key,i=a$$@$keydomain,s=a,{KEY})", []),
    "everybody": (
        f". dkim({A}s=a,{KEY})",
        ["warning: SENDERS, line 1: d= of the key . was a dot in DKIMproxy; here it is the sender's domain"],
    ),
    "everybody by macro": (
        f". dkim({A}d=$keydomain,s=a,{KEY})",
        ["warning: SENDERS, line 1: d= of the key . was a dot in DKIMproxy; here it is the sender's domain"],
    ),
    "everybody with d=": (f". dkim({A}d=example.com,s=a,{KEY})", []),
    "pattern": (
        f"*@example.com dkim({A}s=a,{KEY})",
        ["warning: SENDERS, line 1: DKIMproxy matched nothing with *@example.com; here it is a pattern"],
    ),
    "upper case": (
        f"Bob@example.com dkim({A}s=a,{KEY})",
        [
            "warning: SENDERS, line 1: DKIMproxy matched nothing with Bob@example.com, which has upper case; "
            "here it matches"
        ],
    ),
    "IDN": (
        f"b\u00fccher.example dkim({A}s=a,{KEY})",
        [
            "warning: SENDERS, line 1: DKIMproxy did not know b\u00fccher.example as xn--bcher-kva.example; "
            "here they are the same"
        ],
    ),
    "continued": (
        f"example.com dkim({A}s=a,{KEY}),\n  domainkeys(s=a,{KEY})",
        [
            "warning: SENDERS, line 1: DKIMproxy ignored the continuation lines of this entry; here"
            " they apply"
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), ENTRIES.values(), ids=ENTRIES)
def test_each_entry_that_does_otherwise_is_named(keys: Keys, text: str, expected: list[str]) -> None:
    status, said = checked(keys, f"{SERVER}\n{ACCEPT}\n{SENDER_MAP}", text + "\n")
    assert (status, findings(said)) == (0, [IGNORED, PLUS, *expected])


@pytest.mark.parametrize(("text", "_"), ENTRIES.values(), ids=ENTRIES)
def test_nothing_is_found_where_no_directive_is_dkimproxys(keys: Keys, text: str, _: object) -> None:
    status, said = checked(keys, SENDER_MAP, text + "\n")
    assert (status, re.sub("[0-9]+ signatures? (is|are)", "N", said)) == (
        0,
        "dkimpipe: CONF, SENDERS and N good; DNS was not checked\n",
    )


# Entries of a List-Id map.
LISTS = {
    "two labels": (
        f"example.com dkim({A}s=a,{KEY})",
        [
            "warning: LISTS, line 1: for the List-Id example.com itself DKIMproxy signed d=com; "
            "here it is d=example.com"
        ],
    ),
    "one label": (
        f"news dkim({A}s=a,{KEY})",
        [
            "warning: LISTS, line 1: for the List-Id news itself DKIMproxy signed d=news; "
            "here it is d=the sender's domain"
        ],
    ),
    "$sender": (
        f"a.example.com dkim({A}d=example.com,i=$sender,s=a,{KEY})",
        ["warning: LISTS, line 1: $sender was the address of Sender in DKIMproxy; here it is that of From"],
    ),
    "three labels": (f"news.example.com dkim({A}s=a,{KEY})", []),
    "d=": (f"example.com dkim({A}d=example.com,s=a,{KEY})", []),
}


@pytest.mark.parametrize(("text", "expected"), LISTS.values(), ids=LISTS)
def test_each_entry_of_a_listid_map_that_does_otherwise(keys: Keys, text: str, expected: list[str]) -> None:
    status, said = checked(
        keys, f"{SERVER}\n{ACCEPT}\nlistid_map LISTS\ndomain example.org\n", "", text + "\n"
    )
    assert (status, findings(said)) == (0, [IGNORED, *expected])


GIVEN = "selector a\nkeyfile KEYS/rsa2048.pem\n"
SENDER_FIRST = "warning: CONF, line {}: DKIMproxy preferred Sender to From; here From comes before Sender"

# The conf file behind the server's directive, and what is found beside that.
CONFS = {
    "one domain": (f"{ACCEPT}\ndomain example.com\n{GIVEN}", [NO_A.format("CONF, line 3")]),
    "signature": (
        f"{ACCEPT}\ndomain example.com\n"
        f"signature dkim\nsignature domainkeys\nsignature dkim({A}h=from)\n{GIVEN}",
        [
            NO_A.format("CONF, line 4"),
            "warning: CONF, line 6: h= had no effect in DKIMproxy; here it names the fields that are signed",
        ],
    ),
    "several domains": (
        f"{ACCEPT}\ndomain example.com,Example.org\nsignature dkim({A}s=b)\n{GIVEN}",
        [SENDER_FIRST.format(3)],
    ),
    "blank between domains": (
        f"{ACCEPT}\nmatch from\ndomain example.com, example.org\nsignature dkim({A}s=b)\n{GIVEN}",
        [
            "warning: CONF, line 4: DKIMproxy took the space before example.org as part of it, "
            "and never signed; here it signs"
        ],
    ),
    "$sender": (
        f"{ACCEPT}\ndomain example.com\nsignature dkim({A}i=$sender)\n{GIVEN}",
        [SENDER_FIRST.format(4)],
    ),
    "identity": (
        f"{ACCEPT}\ndomain example.com\nidentity @example.com\nsignature dkim({A}s=a)\n{GIVEN}",
        [
            "warning: CONF, line 4: identity had no effect in DKIMproxy; "
            "here it is i= of each dkim signature that has none"
        ],
    ),
    "errors": (
        f"domain example.com\nsignature dkim({A}s=a)\n{GIVEN}",
        ["warning: CONF: after an error DKIMproxy passed mail on unsigned; here it is deferred"],
    ),
    "errors in words": (
        f"reject_error 0\ndomain example.com\nsignature dkim({A}s=a)\n{GIVEN}",
        ["warning: CONF, line 2: after an error DKIMproxy passed mail on unsigned; here it is deferred"],
    ),
    "errors deferred": (f"reject_error 1\ndomain example.com\nsignature dkim({A}s=a)\n{GIVEN}", []),
}


@pytest.mark.parametrize(("conf", "expected"), CONFS.values(), ids=CONFS)
def test_each_directive_that_does_otherwise_is_named(keys: Keys, conf: str, expected: list[str]) -> None:
    status, said = checked(keys, f"{SERVER}\n{conf}")
    assert (status, findings(said)) == (0, [IGNORED, *expected])


def test_sender_and_errors_can_be_as_they_were(keys: Keys) -> None:
    _, said = checked(keys, f"{SERVER}\nsender_map SENDERS\n", f"example.com dkim({A}s=a,{KEY})\n")
    assert [line for line in said.splitlines() if line.startswith("hint: ")] == [
        "hint: # match sender,from restores DKIMproxy's behaviour",
        "hint: # on_error accept restores DKIMproxy's behaviour",
    ]
