"""What DKIMproxy 1.4.1 does with its options, conf file and maps, and where this filter departs from it.

The rules are those of DKIMproxy's manual; the departures are the list in the documentation.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from conftest import Keys, run_filter

from dkimpipe.choose import Choice, choose
from dkimpipe.config import read_settings
from dkimpipe.errors import ConfigError, NotSigned
from dkimpipe.message import Message

GIVEN = ["--keyfile=/key.pem", "--selector=mail"]


def message(author: str, *fields: str) -> bytes:
    """Return a small message with this From and more fields."""
    lines = [
        f"From: {author}",
        "To: reader@example.net",
        "Subject: greetings",
        *fields,
        "",
        "Dear reader.",
        "",
    ]
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def chosen(octets: bytes, *arguments: str) -> Choice:
    """Return what the settings of a command line choose for a message."""
    return choose(Message(io.BytesIO(octets).read), read_settings([*GIVEN, *arguments]))


def signed_for(octets: bytes, *arguments: str) -> list[str]:
    """Return type and d= of each signature, none if the message passes as it is."""
    try:
        choice = chosen(octets, *arguments)
    except NotSigned:
        return []
    return [f"{one.type} {one.domain.decode()}" for one in choice.signatures]


def write(directory: Path, text: str, name: str = "map") -> str:
    """Write a map or a conf file and return its path."""
    path = directory / name
    path.write_text(text)
    return str(path)


# One domain, or several, and no map.

# Value of domain, author, d=.
DOMAINS = {
    "one": ("shop.example", "anna@shop.example", "shop.example"),
    "one-signs-subdomains": ("shop.example", "anna@mail.shop.example", "shop.example"),
    "one-signs-everything": ("shop.example", "otto@elsewhere.example", "shop.example"),
    "several-first": ("shop.example,farm.example", "anna@shop.example", "shop.example"),
    "several-last": ("shop.example,farm.example", "bert@farm.example", "farm.example"),
    "several-none": ("shop.example,farm.example", "otto@elsewhere.example", None),
    "several-parent": ("shop.example,farm.example", "bert@mail.farm.example", "farm.example"),
    "several-parent-of-parent": ("shop.example,farm.example", "bert@a.b.farm.example", "farm.example"),
    "several-nearest": ("example,farm.example", "bert@mail.farm.example", "farm.example"),
    "several-nearest-in-any-order": ("farm.example,example", "bert@mail.farm.example", "farm.example"),
    "several-not-ends-alike": ("shop.example,farm.example", "bert@wormfarm.example", None),
    "several-not-children": ("a.shop.example,b.shop.example", "anna@shop.example", None),
    "several-any-case": ("Shop.Example,FARM.example", "bert@farm.EXAMPLE", "farm.example"),
    "several-blanks": ("shop.example, farm.example", "bert@farm.example", "farm.example"),
}


@pytest.mark.parametrize(("domains", "author", "expected"), DOMAINS.values(), ids=DOMAINS)
def test_domain(domains: str, author: str, expected: str | None) -> None:
    signed = signed_for(message(author), f"--domain={domains}")
    assert signed == ([f"dkim {expected}"] if expected else [])


# Arguments, signatures.
SIGNATURES: dict[str, tuple[list[str], list[str]]] = {
    "default": ([], ["dkim"]),
    "dkim": (["--signature=dkim"], ["dkim"]),
    "domainkeys": (["--signature=domainkeys"], ["domainkeys"]),
    "both-in-order": (["--signature=domainkeys", "--signature=dkim"], ["domainkeys", "dkim"]),
    "same-type-twice": (["--signature=dkim", "--signature=dkim(s=b)"], ["dkim", "dkim"]),
}


@pytest.mark.parametrize(("arguments", "types"), SIGNATURES.values(), ids=SIGNATURES)
def test_signature(arguments: list[str], types: list[str]) -> None:
    signed = signed_for(message("anna@shop.example"), "--domain=shop.example", *arguments)
    assert signed == [f"{type} shop.example" for type in types]


def test_domain_of_a_signature_overrides_the_domain_option() -> None:
    signature = "--signature=dkim(d=shop.example)"
    assert signed_for(message("a@farm.example"), "--domain=farm.example", signature) == ["dkim shop.example"]


def test_wrong_signature_holds_up_only_mail_that_it_is_for() -> None:
    arguments = ["--domain=a.example,b.example", "--signature=arc"]
    assert signed_for(message("me@c.example"), *arguments) == []
    with pytest.raises(ConfigError, match=r"^command line: unknown signature type: 'arc'$"):
        chosen(message("me@a.example"), *arguments)


def test_domain_of_the_signature_alone_signs_everything() -> None:
    signed = signed_for(message("otto@elsewhere.example"), "--signature=dkim(d=shop.example)")
    assert signed == ["dkim shop.example"]


def test_identity_of_the_options_is_for_dkim_alone() -> None:
    arguments = ["--domain=shop.example", "--identity=$sender", "--signature=dkim", "--signature=domainkeys"]
    choice = chosen(message("anna@shop.example"), *arguments)
    assert [one.identity for one in choice.signatures] == [b"anna@shop.example", b""]


def test_selector_and_keyfile_of_a_signature_override_the_options() -> None:
    choice = chosen(message("a@shop.example"), "--signature=dkim(d=shop.example,s=b,key=/b.pem)")
    assert [(one.selector, one.keyfile) for one in choice.signatures] == [(b"b", "/b.pem")]


# Arguments, canonicalizations of dkim and of domainkeys.
METHODS = {
    "default": ("", "relaxed/simple", "nofws/nofws"),
    "simple": ("--method=simple", "simple/simple", "simple/simple"),
    "dkim": ("--dkim_method=simple", "simple/simple", "nofws/nofws"),
    "domainkeys": ("--domainkeys_method=simple", "relaxed/simple", "simple/simple"),
    "both-hide-the-general-one": (
        "--dkim_method=relaxed/relaxed --domainkeys_method=nofws --method=bar",
        "relaxed/relaxed",
        "nofws/nofws",
    ),
}


@pytest.mark.parametrize(("arguments", "dkim", "domainkeys"), METHODS.values(), ids=METHODS)
def test_method(arguments: str, dkim: str, domainkeys: str) -> None:
    types = ["--domain=shop.example", "--signature=dkim", "--signature=domainkeys"]
    choice = chosen(message("anna@shop.example"), *types, *arguments.split())
    made = [f"{one.header_canonicalization}/{one.body_canonicalization}" for one in choice.signatures]
    assert made == [dkim, domainkeys]


# Macros.

# Options of the signature, d=, i=; the author is Anna.Smith+x@mail.shop.example, the domain is shop.example.
MACROS = {
    "none": ("", "shop.example", ""),
    "senderdomain": ("d=$senderdomain", "mail.shop.example", ""),
    "sender": ("i=$sender", "shop.example", "Anna.Smith+x@mail.shop.example"),
    "both": ("d=$senderdomain,i=$sender", "mail.shop.example", "Anna.Smith+x@mail.shop.example"),
    "key": ("d=$key", "shop.example", ""),
    "keydomain": ("d=$keydomain", "shop.example", ""),
    "inside-text": ("d=a.$keydomain", "a.shop.example", ""),
    "text-behind": ("d=$key-.shop.example", "shop.example-.shop.example", ""),
    "every-macro": ("i=bounce@$senderdomain", "shop.example", "bounce@mail.shop.example"),
    "two-macros": ("d=$key,i=$senderdomain@$key", "shop.example", "mail.shop.example@shop.example"),
    "dollar": ("i=a$$b@shop.example", "shop.example", "a$b@shop.example"),
    "dollar-before-name": ("i=$$sender@shop.example", "shop.example", "$sender@shop.example"),
    "dollar-twice": ("i=$$a$$@$key", "shop.example", "$a$@shop.example"),
    "identity-without-local-part": ("i=@$senderdomain", "shop.example", "@mail.shop.example"),
    "identity-plain": ("i=list@shop.example", "shop.example", "list@shop.example"),
    "identity-any-case": ("i=List@Shop.Example", "shop.example", "List@shop.example"),
}


@pytest.mark.parametrize(("options", "domain", "identity"), MACROS.values(), ids=MACROS)
def test_macro(options: str, domain: str, identity: str) -> None:
    author = "Anna <Anna.Smith+x@mail.shop.example>"
    choice = chosen(message(author), "--domain=shop.example", f"--signature=dkim({options})")
    assert [(one.domain.decode(), one.identity.decode()) for one in choice.signatures] == [(domain, identity)]


KNOWN = "known macros: $sender $senderdomain $key $keydomain"
IDENTITY = "command line: i={} is not at or below d=shop.example"

# Options of the signature, what is wrong, the hint.
WRONG = {
    "unknown-macro": ("d=$recipient", "command line: unknown macro '$recipient'", KNOWN),
    "unknown-macro-in-identity": ("i=$list@shop.example", "command line: unknown macro '$list'", KNOWN),
    "longer-than-a-macro": ("d=$senders", "command line: unknown macro '$senders'", KNOWN),
    "macro-in-upper-case": ("d=$Sender", "command line: unknown macro '$Sender'", KNOWN),
    "dollar-alone": ("d=$.example", "command line: unknown macro '$'", KNOWN),
    "no-domain": ("d=shop..example", "command line: d=shop..example is not a valid domain", ""),
    "domain-with-blank": ("d=shop example", "command line: d=shop example is not a valid domain", ""),
    "domain-no-utf-8": ("d=\udcff.example", "command line: d=\udcff.example is not a valid domain", ""),
    "identity-elsewhere": ("i=a@farm.example", IDENTITY.format("a@farm.example"), ""),
    "identity-ends-alike": ("i=a@workshop.example", IDENTITY.format("a@workshop.example"), ""),
    "identity-above": ("i=a@example", IDENTITY.format("a@example"), ""),
    "identity-no-at": ("i=shop.example", IDENTITY.format("shop.example"), ""),
    "identity-with-blank": ("i=a@b c.shop.example", IDENTITY.format("a@b c.shop.example"), ""),
    "identity-empty-label": ("i=a@b..shop.example", IDENTITY.format("a@b..shop.example"), ""),
    "identity-no-utf-8": ("i=a@\udcff.shop.example", IDENTITY.format("a@\udcff.shop.example"), ""),
}


@pytest.mark.parametrize(("options", "cause", "hint"), WRONG.values(), ids=WRONG)
def test_wrong_signature(options: str, cause: str, hint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        chosen(message("anna@shop.example"), "--domain=shop.example", f"--signature=dkim({options})")
    assert (str(raised.value), raised.value.hint) == (cause, hint)


def test_macro_that_makes_no_domain_of_the_message() -> None:
    with pytest.raises(NotSigned) as raised:
        chosen(message("anna@[192.0.2.1]"), "--signature=dkim(d=$senderdomain)")
    assert str(raised.value) == "'[192.0.2.1]' is not a valid signing domain"


def test_identity_of_a_message_from_elsewhere_is_left_out() -> None:
    choice = chosen(message("otto@elsewhere.example"), "--domain=shop.example", "--identity=$sender")
    assert [(one.domain, one.identity) for one in choice.signatures] == [(b"shop.example", b"")]


def test_identity_with_too_long_a_local_part_is_left_out() -> None:
    choice = chosen(message(f"{'a' * 65}@shop.example"), "--domain=shop.example", "--identity=$sender")
    assert [one.identity for one in choice.signatures] == [b""]


# DKIMproxy refuses to start with these; a filter keeps the mail back.
@pytest.mark.parametrize(
    "arguments",
    [
        ["--signature=dkim"],
        ["--domain=shop..example"],
        ["--domain=shop..example", "--signature=dkim"],
        ["--domain=shop example"],
        ["--domain=\udcff.example"],
    ],
    ids=["none", "no-name", "no-name-with-signature", "blank", "no-utf-8"],
)
def test_domain_that_can_never_sign_is_an_error(arguments: list[str]) -> None:
    with pytest.raises(ConfigError):
        chosen(message("anna@shop.example"), *arguments)


# Sender maps.

SENDERS = """\
# who            what to add
anna@shop.example     dkim(c=relaxed/relaxed,s=anna)
shop.example          dkim(s=shop), domainkeys(s=shop)
; the farm
farm.example          domainkeys
bert@farm.example     dkim(d=farm.example,s=bert)
carl@farm.example     dkim(s=carl)
mail.farm.example     dkim(s=mail)
Upper.Example         dkim(s=upper)
UPPER@upper.example   dkim(s=one)
"""

# Author, type, d= and s= of each signature.
MAPPED: dict[str, tuple[str, list[str]]] = {
    "address": ("anna@shop.example", ["dkim shop.example anna"]),
    "address-with-d": ("bert@farm.example", ["dkim farm.example bert"]),
    "address-below": ("anna@a.shop.example", ["dkim shop.example shop", "domainkeys shop.example shop"]),
    "domain": ("otto@shop.example", ["dkim shop.example shop", "domainkeys shop.example shop"]),
    "domain-of-another": ("otto@farm.example", ["domainkeys farm.example mail"]),
    "nearest-parent": ("otto@mail.farm.example", ["dkim mail.farm.example mail"]),
    "parent": ("otto@a.b.mail.farm.example", ["dkim mail.farm.example mail"]),
    "parent-of-parent": ("otto@x.y.farm.example", ["domainkeys farm.example mail"]),
    "none": ("otto@elsewhere.example", []),
    "ends-alike": ("otto@workshop.example", []),
    "begins-alike": ("otto@shop.example.org", []),
    "top-level": ("otto@example", []),
    "extension": ("carl+list@farm.example", ["dkim farm.example carl"]),
    "extension-of-two": ("carl+a+b@farm.example", ["dkim farm.example carl"]),
    "extension-of-nobody": ("+carl@farm.example", ["domainkeys farm.example mail"]),
    "extension-of-domain": ("otto+x@farm.example", ["domainkeys farm.example mail"]),
    "author-in-upper-case": ("ANNA@SHOP.Example", ["dkim shop.example anna"]),
    "map-in-upper-case": ("otto@upper.example", ["dkim upper.example upper"]),
    "both-in-upper-case": ("Upper@UPPER.example", ["dkim upper.example one"]),
    "no-other-map": ("; the farm@elsewhere.example", []),
}


def mapped(octets: bytes, *arguments: str) -> list[str]:
    """Return type, d= and s= of each signature, none if the message passes as it is."""
    try:
        choice = chosen(octets, *arguments)
    except NotSigned:
        return []
    return [f"{one.type} {one.domain.decode()} {one.selector.decode()}" for one in choice.signatures]


@pytest.mark.parametrize(("author", "expected"), MAPPED.values(), ids=MAPPED)
def test_sender_map(tmp_path: Path, author: str, expected: list[str]) -> None:
    assert mapped(message(author), f"--sender_map={write(tmp_path, SENDERS)}") == expected


# Map, author, type, d= and s= of each signature.
MORE_MAPS: dict[str, tuple[str, str, list[str]]] = {
    "full-address-before-the-one-without-extension": (
        "carl@shop.example dkim(s=a)\ncarl+list@shop.example dkim(s=b)\n",
        "carl+list@shop.example",
        ["dkim shop.example b"],
    ),
    "dot": (". dkim(d=shop.example)\n", "otto@elsewhere.example", ["dkim shop.example mail"]),
    "dot-is-last": (". dkim(s=a)\nexample dkim(s=b)\n", "otto@elsewhere.example", ["dkim example b"]),
    "dot-without-d": (". dkim\n", "otto@a.elsewhere.example", ["dkim a.elsewhere.example mail"]),
    "dot-with-macro": (". dkim(d=$keydomain)\n", "otto@elsewhere.example", ["dkim elsewhere.example mail"]),
    "key-of-an-address": (
        "anna@shop.example dkim(d=$key)\n",
        "anna@shop.example",
        ["dkim shop.example mail"],
    ),
    "keydomain-of-a-parent": (
        "shop.example dkim(d=$keydomain)\n",
        "a@b.shop.example",
        ["dkim shop.example mail"],
    ),
    "senderdomain-of-a-parent": (
        "shop.example dkim(d=$senderdomain)\n",
        "a@b.shop.example",
        ["dkim b.shop.example mail"],
    ),
    "u-label-in-map": (
        "bücher.example dkim\n",
        "a@xn--bcher-kva.example",
        ["dkim xn--bcher-kva.example mail"],
    ),
    "a-label-in-map": (
        "xn--bcher-kva.example dkim\n",
        "a@bücher.example",
        ["dkim xn--bcher-kva.example mail"],
    ),
    "u-label-in-both": ("bücher.example dkim\n", "a@bücher.example", ["dkim xn--bcher-kva.example mail"]),
    "u-label-of-a-parent": (
        "bücher.example dkim\n",
        "a@b.xn--bcher-kva.example",
        ["dkim xn--bcher-kva.example mail"],
    ),
    "address-in-u-labels": (
        "a@bücher.example dkim\n",
        "a@xn--bcher-kva.example",
        ["dkim xn--bcher-kva.example mail"],
    ),
    "local-part-in-utf-8": ("jörg@shop.example dkim\n", "jörg@shop.example", ["dkim shop.example mail"]),
    "local-part-in-utf-8-upper-case": (
        "Örg@shop.example dkim\n",
        "Örg@shop.example",
        ["dkim shop.example mail"],
    ),
    "a-label-of-plain-letters": ("shop.example dkim\n", "mallory@xn--shop-.example", []),
    "empty-label": ("shop.example dkim,\n\tdkim(d=shop.example)\n\n", "mallory@elsewhere。", []),
    "entry-that-is-a-comment": (
        "#shop.example dkim(d=shop.example)\n#otto@farm.example dkim\n",
        "mallory@#shop.example",
        [],
    ),
    "address-that-is-a-comment": ("#otto@farm.example dkim\n", "#otto@farm.example", []),
    "no-slip-elsewhere-matters": (
        "farm.example dkim(\nshop.example dkim\n",
        "anna@shop.example",
        ["dkim shop.example mail"],
    ),
}


@pytest.mark.parametrize(("text", "author", "expected"), MORE_MAPS.values(), ids=MORE_MAPS)
def test_more_sender_maps(tmp_path: Path, text: str, author: str, expected: list[str]) -> None:
    assert mapped(message(author), f"--sender_map={write(tmp_path, text)}") == expected


def test_sender_map_before_the_domain(tmp_path: Path) -> None:
    path = write(tmp_path, "shop.example dkim(s=a)\n")
    arguments = [f"--sender_map={path}", "--domain=farm.example", "--signature=domainkeys"]
    assert mapped(message("anna@shop.example"), *arguments) == ["dkim shop.example a"]


def test_domain_where_the_sender_map_has_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, "shop.example dkim(s=a)\n")
    arguments = [f"--sender_map={path}", "--domain=farm.example", "--signature=domainkeys"]
    assert mapped(message("otto@elsewhere.example"), *arguments) == ["domainkeys farm.example mail"]


def test_no_default_signature_beside_a_map(tmp_path: Path) -> None:
    arguments = [f"--sender_map={write(tmp_path, '')}", "--domain=farm.example"]
    assert mapped(message("otto@farm.example"), *arguments) == []


# Fields, value of match, s=; the map has one entry each for author, sender and envelope sender.
MATCHES = {
    "from-first": (["Sender: s@sender.example"], "from,sender", "author"),
    "sender-first": (["Sender: s@sender.example"], "sender,from", "sender"),
    "sender-absent": ([], "sender,from", "author"),
    "sender-unusable": (["Sender: <>"], "sender,from", "author"),
    "sender-twice": (["Sender: s@sender.example", "Sender: a@author.example"], "sender,from", "author"),
    "envelope": ([], "envelope", "envelope"),
    "envelope-last": ([], "from,envelope", "author"),
}


@pytest.mark.parametrize(("fields", "match", "expected"), MATCHES.values(), ids=MATCHES)
def test_match(tmp_path: Path, fields: list[str], match: str, expected: str) -> None:
    text = "".join(f"{name}.example dkim(s={name})\n" for name in ("author", "sender", "envelope"))
    arguments = [f"--sender_map={write(tmp_path, text)}", f"--match={match}", "-f", "e@envelope.example"]
    choice = chosen(message("a@author.example", *fields), *arguments)
    assert [one.selector.decode() for one in choice.signatures] == [expected]


def test_from_before_sender_by_default(tmp_path: Path) -> None:
    path = write(tmp_path, "author.example dkim(s=author)\nsender.example dkim(s=sender)\n")
    octets = message("a@author.example", "Sender: s@sender.example")
    assert mapped(octets, f"--sender_map={path}") == ["dkim author.example author"]


def test_sender_where_the_map_does_not_know_from(tmp_path: Path) -> None:
    path = write(tmp_path, "sender.example dkim(s=sender)\n")
    octets = message("a@author.example", "Sender: s@sender.example")
    assert mapped(octets, f"--sender_map={path}") == ["dkim sender.example sender"]


def test_sender_where_no_domain_is_that_of_from() -> None:
    """As with a map: DKIMproxy signs what its own lists send, whoever wrote it."""
    octets = message("otto@elsewhere.example", "Sender: list-bounces@farm.example")
    assert signed_for(octets, "--domain=shop.example,farm.example") == ["dkim farm.example"]


def test_sender_stands_for_the_macro_where_it_chose(tmp_path: Path) -> None:
    path = write(tmp_path, "sender.example dkim(i=$sender)\n")
    octets = message("a@author.example", "Sender: s@sender.example")
    choice = chosen(octets, f"--sender_map={path}")
    assert [one.identity for one in choice.signatures] == [b"s@sender.example"]


# List-Id maps.

LISTS = """\
news.shop.example       dkim(s=news)
lists.farm.example      dkim(d=farm.example), domainkeys(d=farm.example)
club.example            dkim(s=club)
Upper.Example           dkim
solo                    dkim
"""

# List-Id, type, d= and s= of each signature; the author is otto@elsewhere.example.
LISTED: dict[str, tuple[str, list[str]]] = {
    "full": ("<news.shop.example>", ["dkim shop.example news"]),
    "full-in-other-case": ("<NEWS.Shop.Example>", ["dkim shop.example news"]),
    "suffix": ("<chess.club.example>", ["dkim club.example club"]),
    "longer-suffix": ("<a.b.club.example>", ["dkim club.example club"]),
    "with-d": ("<eggs.lists.farm.example>", ["dkim farm.example mail", "domainkeys farm.example mail"]),
    "phrase": ("Chess players <chess.club.example>", ["dkim club.example club"]),
    "phrase-quoted": ('"Chess, and more" <chess.club.example>', ["dkim club.example club"]),
    "no-angles": ("chess.club.example", ["dkim club.example club"]),
    "folded": ("Chess\n <chess.club.example>", ["dkim club.example club"]),
    "blanks-inside": ("< chess.club.example >", ["dkim club.example club"]),
    "map-in-upper-case": ("<a.upper.example>", ["dkim upper.example mail"]),
    "one-label": ("<solo>", ["dkim elsewhere.example mail"]),
    "two-labels": ("<club.example>", ["dkim club.example club"]),
    "text-of-an-entry": ("<club.example dkim(>", []),
    "angles-in-the-phrase": ('"<a.upper.example>" <chess.club.example>', ["dkim club.example club"]),
    "none": ("<chess.example>", []),
    "ends-alike": ("<chessclub.example>", []),
    "parent-of-an-entry": ("<shop.example>", []),
    "empty": ("", []),
    "empty-angles": ("Chess <>", []),
    "trailing-dot": ("<chess.>", []),
    "comment-sign": ("<#>", []),
}


@pytest.mark.parametrize(("value", "expected"), LISTED.values(), ids=LISTED)
def test_list_id_map(tmp_path: Path, value: str, expected: list[str]) -> None:
    path = write(tmp_path, "# lists\n\n" + LISTS + "\n")
    octets = message("otto@elsewhere.example", f"List-Id: {value}")
    assert mapped(octets, f"--listid_map={path}") == expected


# List-Id field, the signature of a message from anna@shop.example.
FALLS_THROUGH = {
    "match": (["List-Id: <a.club.example>"], "dkim club.example club"),
    "no-list-id": ([], "dkim shop.example anna"),
    "no-match": (["List-Id: <a.chess.example>"], "dkim shop.example anna"),
    "empty": (["List-Id: <>"], "dkim shop.example anna"),
}


@pytest.mark.parametrize(("fields", "expected"), FALLS_THROUGH.values(), ids=FALLS_THROUGH)
def test_list_id_map_before_sender_map(tmp_path: Path, fields: list[str], expected: str) -> None:
    maps = [
        f"--listid_map={write(tmp_path, '# lists' + chr(10) * 2 + LISTS, 'lists')}",
        f"--sender_map={write(tmp_path, SENDERS, 'senders')}",
    ]
    assert mapped(message("anna@shop.example", *fields), *maps) == [expected]


@pytest.mark.parametrize("fields", [[], ["List-Id: <a.chess.example>"]], ids=["no-list-id", "no-match"])
def test_signature_where_the_list_id_map_has_nothing(tmp_path: Path, fields: list[str]) -> None:
    arguments = [f"--listid_map={write(tmp_path, LISTS)}", "--domain=shop.example", "--signature=dkim(s=d)"]
    assert mapped(message("anna@shop.example", *fields), *arguments) == ["dkim shop.example d"]


def test_dot_in_a_list_id_map_means_the_domain_of_the_author(tmp_path: Path) -> None:
    octets = message("anna@shop.example", "List-Id: <a.chess.example>")
    path = write(tmp_path, ". dkim\n")
    assert mapped(octets, f"--listid_map={path}") == ["dkim shop.example mail"]


# Conf files, by the command itself.

CONF = """\
# where this server listens
listen    127.0.0.1:10027

# where it forwards to
relay     127.0.0.1:10028

# the domains, with commas between
domain    shop.example

# the signatures to add
signature dkim(c=relaxed)
signature domainkeys(c=nofws)

# the private key
keyfile   KEYS/rsa1024.pem

# its name in DNS
selector  selector1

# processes
#min_servers 5
min_spare_servers 2
"""


def tags(octets: bytes) -> list[dict[str, str]]:
    """Return name and tags of each signature on top of a message."""
    found = []
    fields = re.findall(
        rb"^(DKIM-Signature|DomainKey-Signature):((?:.*\n(?:[ \t].*\n)*))", octets, re.MULTILINE
    )
    for name, value in fields:
        pairs = (pair.partition("=") for pair in re.sub(r"\s+", "", value.decode()).split(";"))
        found.append({"name": name.decode(), **{tag: text for tag, _, text in pairs}})
    return found


def run(keys: Keys, octets: bytes, conf: str, *arguments: str) -> list[dict[str, str]]:
    """Return the tags of all signatures that the command adds with this conf file."""
    path = keys.senders(conf, "dkimproxy_out.conf")
    done = run_filter(f"--conf_file={path}", *arguments, message=octets)
    assert done.status == 0, done.stderr
    assert done.stdout.endswith(octets)
    return tags(done.stdout)


def test_conf_file_of_dkimproxy(keys: Keys) -> None:
    made = run(keys, message("Anna <anna@shop.example>"), CONF)
    assert [(one["name"], one["d"], one["s"], one["c"], one["a"]) for one in made] == [
        ("DKIM-Signature", "shop.example", "selector1", "relaxed/simple", "rsa-sha256"),
        ("DomainKey-Signature", "shop.example", "selector1", "nofws", "rsa-sha1"),
    ]


def test_one_domain_signs_all_but_domainkeys_cannot(keys: Keys) -> None:
    """RFC 4870 asks that d= covers the sending address; DKIM does not."""
    made = run(keys, message("Otto <otto@elsewhere.example>"), CONF)
    assert [(one["name"], one["d"]) for one in made] == [("DKIM-Signature", "shop.example")]


def test_conf_file_of_several_domains(keys: Keys) -> None:
    conf = CONF.replace("shop.example", "shop.example,farm.example")
    made = run(keys, message("bert@farm.example"), conf)
    assert [one["d"] for one in made] == ["farm.example", "farm.example"]


def test_conf_file_of_several_domains_and_a_stranger(keys: Keys) -> None:
    conf = CONF.replace("shop.example", "shop.example,farm.example")
    assert run(keys, message("otto@elsewhere.example"), conf) == []


def test_stranger_is_told_in_the_log(keys: Keys) -> None:
    path = keys.senders(CONF.replace("shop.example", "shop.example,farm.example"), "several.conf")
    done = run_filter(f"--conf_file={path}", message=message("otto@elsewhere.example"))
    assert done.stderr == (
        "dkimpipe: not signed: no entry for otto@elsewhere.example; from=otto@elsewhere.example\n"
    )


def test_command_line_overrides_the_conf_file(keys: Keys) -> None:
    made = run(keys, message("anna@shop.example"), CONF, "--selector=mine", "--signature=dkim(c=simple)")
    assert [(one["name"], one["s"], one["c"]) for one in made] == [
        ("DKIM-Signature", "mine", "simple/simple")
    ]


def test_macros_in_a_conf_file(keys: Keys) -> None:
    conf = "signature dkim(d=$senderdomain,i=$sender)\nselector s1\nkeyfile KEYS/rsa1024.pem\n"
    (made,) = run(keys, message("Bert <bert@mail.farm.example>"), conf)
    assert (made["d"], made["i"]) == ("mail.farm.example", "bert@mail.farm.example")


# Departures.


def test_algorithm_is_not_rsa_sha1_unless_written(keys: Keys) -> None:
    conf = CONF.replace("signature domainkeys(c=nofws)", "signature dkim(a=rsa-sha1)")
    assert [one["a"] for one in run(keys, message("anna@shop.example"), conf)] == ["rsa-sha256", "rsa-sha1"]


def test_h_is_honoured(keys: Keys) -> None:
    conf = CONF.replace("signature dkim(c=relaxed)", "signature dkim(h=From:From:Subject)")
    assert run(keys, message("anna@shop.example"), conf)[0]["h"] == "from:from:subject"


# Conf file with a fault, what the command says; a message never passes unsigned for it.
FAULTS = {
    "no-keyfile": (
        "domain shop.example\nselector a\n",
        "4.3.5 dkimpipe: CONF, line 1: dkim without key=\n",
    ),
    "no-selector": (
        "keyfile KEYS/rsa1024.pem\ndomain shop.example\n",
        "4.3.5 dkimpipe: CONF, line 2: dkim without s=\n",
    ),
    "key-missing": (
        "domain shop.example\nselector a\nkeyfile /nowhere/key.pem\n",
        "4.3.5 dkimpipe: CONF, line 3: key file /nowhere/key.pem: No such file or directory\n"
        "hint: create it, or fix the path\n",
    ),
    "unknown-type": (
        "domain shop.example\nsignature adsp\n",
        "4.3.5 dkimpipe: CONF, line 2: unknown signature type: 'adsp'\nhint: known types: dkim, domainkeys\n",
    ),
    "first-signature": (
        "domain shop.example\nselector a\nkeyfile KEYS/rsa1024.pem\n"
        "signature dkim(q=dns)\n\nsignature domainkeys\n",
        "4.3.5 dkimpipe: CONF, line 4: unknown option: 'q=dns'\n"
        "hint: known options: a c d envelope h i key login missing s t x\n",
    ),
    "map-missing": (
        "sender_map /nowhere/senders\n",
        "4.3.5 dkimpipe: map /nowhere/senders: No such file or directory\nhint: create it, or fix the path\n",
    ),
    "unknown-directive": (
        "domains shop.example\n",
        "4.3.5 dkimpipe: CONF, line 1: unknown directive: 'domains shop.example'\n",
    ),
}


@pytest.mark.parametrize(("conf", "said"), FAULTS.values(), ids=FAULTS)
def test_error_defers(keys: Keys, conf: str, said: str) -> None:
    path = keys.senders(conf, "faulty.conf")
    done = run_filter(f"--conf_file={path}", message=message("anna@shop.example"))
    assert done == (75, b"", said.replace("CONF", str(path)))


def test_on_error_accept_passes_the_message_as_dkimproxy_does(keys: Keys) -> None:
    octets = message("anna@shop.example")
    path = keys.senders("domain shop.example\nselector a\non_error accept\n", "accept.conf")
    done = run_filter(f"--conf_file={path}", message=octets)
    assert done == (
        0,
        octets,
        f"dkimpipe: not signed: {path}, line 1: dkim without key=; from=anna@shop.example\n",
    )


def test_reject_error_defers_again(keys: Keys) -> None:
    path = keys.senders("domain shop.example\nselector a\non_error accept\nreject_error 1\n", "reject.conf")
    done = run_filter(f"--conf_file={path}", message=message("anna@shop.example"))
    assert done == (75, b"", f"4.3.5 dkimpipe: {path}, line 1: dkim without key=\n")
