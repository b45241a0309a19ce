"""The options of a signature: what an entry leaves out, and every way to get one wrong."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from conftest import MESSAGE, Keys

from dkimpipe.address import Mailbox
from dkimpipe.body import BodyHashes
from dkimpipe.config import Settings, read_command_line
from dkimpipe.dkim import DkimSignature
from dkimpipe.domainkeys import DomainKeysSignature
from dkimpipe.errors import ConfigError
from dkimpipe.files import Place
from dkimpipe.keys import read_key
from dkimpipe.message import Message
from dkimpipe.options import ALWAYS, AS_IT_OCCURS, OVERSIGNED, RECOMMENDED, SignatureOptions, complete, macros
from dkimpipe.senders import parse

GIVEN = "s=mail,key=/key.pem"


def options(entry: str, *arguments: str) -> SignatureOptions:
    """Return the options of an entry's only signature, completed by a command line."""
    (signature,) = parse(entry, Place("HERE"))
    return SignatureOptions(signature, read_command_line(list(arguments)))


def completed(entry: str) -> SignatureOptions:
    """Return an entry with its domain, for a sender."""
    (signature,) = parse(entry, Place("HERE"))
    return complete(signature, Settings(), macros(Mailbox(b"a", b"example.com"), b"example.com"))


def cause(entry: str, *arguments: str) -> str:
    """Return what is wrong with an entry."""
    with pytest.raises(ConfigError) as raised:
        options(entry, *arguments)
    return str(raised.value)


# Of an entry that says no more than it must: the attribute, its value for dkim, for domainkeys.
DEFAULTS = {
    "keyfile": ("/key.pem", "/key.pem"),
    "selector": (b"mail", b"mail"),
    "algorithm": ("", ""),
    "header_canonicalization": ("relaxed", "nofws"),
    "body_canonicalization": ("simple", "nofws"),
    "headers": ((), ()),
    "timestamp": (True, True),
    "lifetime": (0, 0),
    "identity": (b"", b""),
}


@pytest.mark.parametrize(("name", "expected"), [(k, v[0]) for k, v in DEFAULTS.items()], ids=DEFAULTS)
def test_default_of_dkim(name: str, expected: object) -> None:
    assert getattr(options(f"dkim({GIVEN})"), name) == expected


@pytest.mark.parametrize(("name", "expected"), [(k, v[1]) for k, v in DEFAULTS.items()], ids=DEFAULTS)
def test_default_of_domainkeys(name: str, expected: object) -> None:
    assert getattr(options(f"domainkeys({GIVEN})"), name) == expected


# Entry, command line, the two halves of c=.
CANONICALIZATIONS = {
    "relaxed": ("dkim(c=relaxed,%s)", "", "relaxed/simple"),
    "simple": ("dkim(c=simple,%s)", "", "simple/simple"),
    "relaxed/relaxed": ("dkim(c=relaxed/relaxed,%s)", "", "relaxed/relaxed"),
    "relaxed/simple": ("dkim(c=relaxed/simple,%s)", "", "relaxed/simple"),
    "simple/relaxed": ("dkim(c=simple/relaxed,%s)", "", "simple/relaxed"),
    "simple/simple": ("dkim(c=simple/simple,%s)", "", "simple/simple"),
    "long-name": ("dkim(method=simple,%s)", "", "simple/simple"),
    "domainkeys-nofws": ("domainkeys(c=nofws,%s)", "", "nofws/nofws"),
    "domainkeys-simple": ("domainkeys(c=simple,%s)", "", "simple/simple"),
    "method": ("dkim(%s)", "--method=simple", "simple/simple"),
    "method-for-domainkeys": ("domainkeys(%s)", "--method=simple", "simple/simple"),
    "dkim-method": ("dkim(%s)", "--dkim_method=relaxed/relaxed", "relaxed/relaxed"),
    "dkim-method-is-not-for-domainkeys": ("domainkeys(%s)", "--dkim_method=relaxed", "nofws/nofws"),
    "domainkeys-method": ("domainkeys(%s)", "--domainkeys_method=simple", "simple/simple"),
    "domainkeys-method-is-not-for-dkim": ("dkim(%s)", "--domainkeys_method=nofws", "relaxed/simple"),
    "dkim-method-before-method": ("dkim(%s)", "--dkim_method=relaxed --method=foo", "relaxed/simple"),
    "domainkeys-method-before-method": (
        "domainkeys(%s)",
        "--domainkeys_method=simple --method=foo",
        "simple/simple",
    ),
    "entry-before-all": (
        "dkim(c=simple,%s)",
        "--dkim_method=relaxed --method=relaxed/relaxed",
        "simple/simple",
    ),
}


@pytest.mark.parametrize(
    ("entry", "arguments", "expected"), CANONICALIZATIONS.values(), ids=CANONICALIZATIONS
)
def test_canonicalization(entry: str, arguments: str, expected: str) -> None:
    made = options(entry % GIVEN, *arguments.split())
    assert f"{made.header_canonicalization}/{made.body_canonicalization}" == expected


def without(*names: bytes) -> dict[bytes, int]:
    """Return the default fields without these."""
    return {name: how for name, how in RECOMMENDED.items() if name not in names}


# The rest of an entry, attribute, value.
VALUES: dict[str, tuple[str, str, object]] = {
    "a-rsa-sha256": ("a=rsa-sha256", "algorithm", "rsa-sha256"),
    "a-rsa-sha1": ("a=rsa-sha1", "algorithm", "rsa-sha1"),
    "a-ed25519-sha256": ("a=ed25519-sha256", "algorithm", "ed25519-sha256"),
    "x-days": ("x=30d", "lifetime", 2592000),
    "x-hours": ("x=12h", "lifetime", 43200),
    "x-minutes": ("x=90m", "lifetime", 5400),
    "x-weeks": ("x=2w", "lifetime", 1209600),
    "x-seconds": ("x=3600s", "lifetime", 3600),
    "x-bare-seconds": ("x=3600", "lifetime", 3600),
    "x-none": ("x=0", "lifetime", 0),
    "x-long-name": ("lifetime=1d", "lifetime", 86400),
    "t-yes": ("t=yes", "timestamp", True),
    "t-no": ("t=no", "timestamp", False),
    "t-long-name": ("timestamp=no", "timestamp", False),
    "h-one": ("h=from", "headers", (b"from",)),
    "h-in-order": ("h=to:from:subject", "headers", (b"to", b"from", b"subject")),
    "h-in-lower-case": ("h=From:TO:Message-ID", "headers", (b"from", b"to", b"message-id")),
    "h-blanks": ("h= from : to ", "headers", (b"from", b"to")),
    "h-empty-names": ("h=:from::to:", "headers", (b"from", b"to")),
    "h-oversigned": ("h=from:from:to:to", "headers", (b"from", b"from", b"to", b"to")),
    "h-long-name": ("headers=from", "headers", (b"from",)),
    "h-none": ("t=yes", "fields", RECOMMENDED),
    "h-relative": ("h=-date:+x-foo", "headers", ()),
    "h-without": ("h=-date:-Message-ID", "fields", without(b"date", b"message-id")),
    "h-with": ("h=+X-Foo", "fields", {**RECOMMENDED, b"x-foo": AS_IT_OCCURS}),
    "h-with-oversigned": ("h=++x-foo", "fields", {**RECOMMENDED, b"x-foo": ALWAYS}),
    "h-both": (
        "h= +list-foo : -date : ++cc ",
        "fields",
        {**without(b"date"), b"list-foo": AS_IT_OCCURS, b"cc": ALWAYS},
    ),
    "h-with-what-is-there": ("h=+date:+sender", "fields", RECOMMENDED),
    "h-oversigned-list-field": ("h=++list-id", "fields", {**RECOMMENDED, b"list-id": ALWAYS}),
    "h-none-but": (
        "h=-*:+from:+x-foo:+Sender:++x-bar",
        "fields",
        {b"from": OVERSIGNED, b"x-foo": AS_IT_OCCURS, b"sender": AS_IT_OCCURS, b"x-bar": ALWAYS},
    ),
    "h-none-but-from": ("h=-*:++from", "fields", {b"from": ALWAYS}),
    "h-relative-empty-names": ("h=:-date::", "fields", without(b"date")),
    "h-name-with-a-sign-within": ("h=+x-a+b", "fields", {**RECOMMENDED, b"x-a+b": AS_IT_OCCURS}),
}


@pytest.mark.parametrize(("option", "name", "expected"), VALUES.values(), ids=VALUES)
def test_value(option: str, name: str, expected: object) -> None:
    assert getattr(options(f"dkim({GIVEN},{option})"), name) == expected


# Entry, command line, keyfile, selector.
COMPLETED = {
    "entry": ("dkim(s=a,key=/a)", "", "/a", b"a"),
    "conf": ("dkim", "--selector=b --keyfile=/b", "/b", b"b"),
    "entry-before-conf": ("dkim(s=a,key=/a)", "--selector=b --keyfile=/b", "/a", b"a"),
    "one-each": ("dkim(key=/a)", "--selector=b --keyfile=/b", "/a", b"b"),
    "domainkeys": ("domainkeys", "--selector=b --keyfile=/b", "/b", b"b"),
    "selector-of-two-labels": ("dkim(s=Mail.2026,key=/a)", "", "/a", b"mail.2026"),
    "selector-in-u-labels": ("dkim(s=bücher,key=/a)", "", "/a", b"xn--bcher-kva"),
}


@pytest.mark.parametrize(("entry", "arguments", "keyfile", "selector"), COMPLETED.values(), ids=COMPLETED)
def test_completed_by_the_conf_file(entry: str, arguments: str, keyfile: str, selector: bytes) -> None:
    made = options(entry, *arguments.split())
    assert (made.keyfile, made.selector) == (keyfile, selector)


DKIM_METHODS = "simple, relaxed, simple/simple, simple/relaxed, relaxed/simple, relaxed/relaxed"
NO_FROM = "h= does not include from (RFC 6376 section 5.4)"

# Entry, what is wrong.
WRONG = {
    "no-key": ("dkim(s=a)", "dkim without key="),
    "no-selector": ("dkim(key=/a)", "dkim without s="),
    "nothing": ("dkim", "dkim without s="),
    "domainkeys-no-key": ("domainkeys(s=a)", "domainkeys without key="),
    "domainkeys-no-selector": ("domainkeys(key=/a)", "domainkeys without s="),
    "selector-blank": ("dkim(s=a b,key=/a)", "s=a b is not a valid selector"),
    "selector-empty-label": ("dkim(s=a..b,key=/a)", "s=a..b is not a valid selector"),
    "selector-dot": ("dkim(s=mail.,key=/a)", "s=mail. is not a valid selector"),
    "selector-semicolon": ("dkim(s=a;d=b,key=/a)", "s=a;d=b is not a valid selector"),
    "selector-too-long": (f"dkim(s={'a' * 64},key=/a)", f"s={'a' * 16}... is not a valid selector"),
    "key-pasted": (
        "dkim(s=a,key=MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIB)",
        "key= contains a key, not the path of a key file",
    ),
    "h-own-field": (
        f"dkim({GIVEN},h=from:DKIM-Signature)",
        "h= must not include dkim-signature (RFC 6376 section 3.5)",
    ),
    "selector-no-utf-8": ("dkim(s=a\udcff,key=/a)", "s=a\udcff is not a valid selector"),
    "algorithm": (
        f"dkim({GIVEN},a=rsa-md5)",
        "dkim supports a=rsa-sha256 and ed25519-sha256 and rsa-sha1, not rsa-md5",
    ),
    "algorithm-upper-case": (
        f"dkim({GIVEN},a=RSA-SHA256)",
        "dkim supports a=rsa-sha256 and ed25519-sha256 and rsa-sha1, not RSA-SHA256",
    ),
    "domainkeys-rsa-sha256": (
        f"domainkeys({GIVEN},a=rsa-sha256)",
        "domainkeys supports a=rsa-sha1, not rsa-sha256",
    ),
    "method": (f"dkim({GIVEN},c=foo)", f"dkim supports c={DKIM_METHODS}; not foo"),
    "method-nofws": (f"dkim({GIVEN},c=nofws)", f"dkim supports c={DKIM_METHODS}; not nofws"),
    "method-half": (f"dkim({GIVEN},c=relaxed/)", f"dkim supports c={DKIM_METHODS}; not relaxed/"),
    "method-thirds": (
        f"dkim({GIVEN},c=simple/simple/simple)",
        f"dkim supports c={DKIM_METHODS}; not simple/simple/simple",
    ),
    "domainkeys-method": (
        f"domainkeys({GIVEN},c=relaxed)",
        "domainkeys supports c=simple, nofws; not relaxed",
    ),
    "domainkeys-method-of-two": (
        f"domainkeys({GIVEN},c=simple/simple)",
        "domainkeys supports c=simple, nofws; not simple/simple",
    ),
    "h-without-from": (f"dkim({GIVEN},h=to:subject)", NO_FROM),
    "h-from-alike": (f"dkim({GIVEN},h=resent-from:x-from)", NO_FROM),
    "h-blank": (f"dkim({GIVEN},h=from:a b)", "h= includes 'a b', which is not a valid field name"),
    "h-semicolon": (
        f"dkim({GIVEN},h=from;b=x:from)",
        "h= includes 'from;b=x', which is not a valid field name",
    ),
    "h-no-ascii": (f"dkim({GIVEN},h=from:é)", "h= includes 'é', which is not a valid field name"),
    "h-no-utf-8": (f"dkim({GIVEN},h=from:\udcff)", "h= includes '\\xff', which is not a valid field name"),
    "h-control": (f"dkim({GIVEN},h=from:a\x01)", "h= includes 'a\\x01', which is not a valid field name"),
    "h-delete": (f"dkim({GIVEN},h=from:a\x7f)", "h= includes 'a\\x7f', which is not a valid field name"),
    "h-too-long": (
        f"dkim({GIVEN},h=from:{'a' * 77})",
        f"h= includes '{'a' * 77}', which is not a valid field name",
    ),
    "t": (f"dkim({GIVEN},t=maybe)", "t must be yes or no, not 'maybe'"),
    "t-number": (f"dkim({GIVEN},t=1700000000)", "t must be yes or no, not '1700000000'"),
    "x-word": (f"dkim({GIVEN},x=soon)", "x=: invalid duration soon (use 30d, 12h or seconds)"),
    "x-unit": (f"dkim({GIVEN},x=1y)", "x=: invalid duration 1y (use 30d, 12h or seconds)"),
    "x-unit-upper-case": (f"dkim({GIVEN},x=1D)", "x=: invalid duration 1D (use 30d, 12h or seconds)"),
    "x-unit-only": (f"dkim({GIVEN},x=d)", "x=: invalid duration d (use 30d, 12h or seconds)"),
    "x-negative": (f"dkim({GIVEN},x=-1)", "x=: invalid duration -1 (use 30d, 12h or seconds)"),
    "x-fraction": (f"dkim({GIVEN},x=1.5h)", "x=: invalid duration 1.5h (use 30d, 12h or seconds)"),
    "x-blank": (f"dkim({GIVEN},x=30 d)", "x=: invalid duration 30 d (use 30d, 12h or seconds)"),
    "x-other-digits": (
        f"dkim({GIVEN},x=\u0663\u0660d)",
        "x=: invalid duration \u0663\u0660d (use 30d, 12h or seconds)",
    ),
    "x-superscript": (f"dkim({GIVEN},x=\u00b2)", "x=: invalid duration \u00b2 (use 30d, 12h or seconds)"),
}


@pytest.mark.parametrize(("entry", "expected"), WRONG.values(), ids=WRONG)
def test_wrong(entry: str, expected: str) -> None:
    assert cause(entry) == f"HERE: {expected}"


MIXED = "h= mixes names with and without a sign:"
# Relative h=, what is wrong, and the hint.
RELATIVE_WRONG = {
    "-from": (NO_FROM, "leave out -from"),
    "-date:-From": (NO_FROM, "leave out -from"),
    "-*": (NO_FROM, "-*:+from:..."),
    "-*:+to": (NO_FROM, "-*:+from:..."),
    "-date:subject": (
        "h= mixes names with and without a sign: 'subject'",
        "+subject, or no sign before any name",
    ),
    "from:+x-foo": ("h= mixes names with and without a sign: 'from'", "+from, or no sign before any name"),
    "-x-foo": (
        "h= takes out a field that would not be signed: '-x-foo'",
        "h= in dkimpipe-senders(5) lists the default",
    ),
    "-*:+from:-date": (
        "h= takes out a field that would not be signed: '-date'",
        "h= in dkimpipe-senders(5) lists the default",
    ),
    "-date:-Date": ("h= has this name twice: '-date'", ""),
    "-date:+date": ("h= has this name twice: '+date'", ""),
    "+x-foo:++x-foo": ("h= has this name twice: '++x-foo'", ""),
    "-*:-*": ("h= has this name twice: '-*'", ""),
    "+from:-*": ("h= has names before -*: '-*'", "put -* first"),
    "+*": ("h= adds *, which is not a field: '+*'", "h= lists each field"),
    "+": ("h= has a sign without a name: '+'", "-name, +name or ++name"),
    "-date:-": ("h= has a sign without a name: '-'", "-name, +name or ++name"),
    "--date": ("h= has an unknown sign: '--date'", "-date, +date or ++date"),
    "+++date": ("h= has an unknown sign: '+++date'", "-date, +date or ++date"),
    "+-date": ("h= has an unknown sign: '+-date'", "-date, +date or ++date"),
    "+dkim-signature": ("h= must not include dkim-signature (RFC 6376 section 3.5)", ""),
    "+a b": ("h= includes 'a b', which is not a valid field name", ""),
    "+\u00e9": ("h= includes '\u00e9', which is not a valid field name", ""),
    f"+{'a' * 77}": (f"h= includes '{'a' * 77}', which is not a valid field name", ""),
}


@pytest.mark.parametrize(("text", "expected"), RELATIVE_WRONG.items(), ids=RELATIVE_WRONG)
def test_relative_h_that_is_wrong(text: str, expected: tuple[str, str]) -> None:
    with pytest.raises(ConfigError) as raised:
        options(f"dkim({GIVEN},h={text})")
    assert (str(raised.value), raised.value.hint) == (f"HERE: {expected[0]}", expected[1])


def test_relative_h_of_domainkeys() -> None:
    assert options(f"domainkeys({GIVEN},h=-date:+x-foo)").fields == {
        **without(b"date"),
        b"x-foo": AS_IT_OCCURS,
    }
    with pytest.raises(ConfigError) as raised:
        options(f"domainkeys({GIVEN},h=++x-foo)")
    assert (str(raised.value), raised.value.hint) == (
        "HERE: h= oversigns a field, which DomainKeys cannot do: '++x-foo'",
        "+x-foo",
    )


def test_time_of_more_digits_than_python_reads() -> None:
    assert cause(f"dkim({GIVEN},x={'9' * 5000})").startswith("HERE: x=: invalid duration 999")


# Conf file, what is wrong; the entry is without fault.
# A record's name in place of a selector, and the hint.
RECORD_NAMES = {
    "mail._domainkey": "s=mail",
    "mail._domainkey.example.com": "s=mail",
    "Mail._DomainKey.Example.com": "s=mail",
    "mail._domainkey.example.com.": "s=mail",
    "mail._domainkey.": "s=mail",
    "2026.mail._domainkey": "s=2026.mail",
    "mail._domainkey._domainkey": "s=mail",
    "_domainkey": "s= is what comes before ._domainkey",
    "_domainkey.example.com": "s= is what comes before ._domainkey",
}


@pytest.mark.parametrize(("name", "hint"), RECORD_NAMES.items(), ids=RECORD_NAMES)
@pytest.mark.parametrize("kind", ["dkim", "domainkeys"])
def test_a_record_name_is_not_a_selector(kind: str, name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        options(f"{kind}(s={name},key=/a)")
    assert (str(raised.value), raised.value.hint) == (
        f"HERE: s={name} is the name of a record, not a selector",
        hint,
    )


# The same in place of a domain.
RECORD_NAMES_AS_DOMAINS = {
    "mail._domainkey.example.com": "d=example.com",
    "Mail._DomainKey.Example.com": "d=example.com",
    "_domainkey.example.com": "d=example.com",
    "2026.mail._domainkey.mail.example.com": "d=mail.example.com",
    "mail._domainkey._domainkey.example.com": "d=example.com",
    "mail._domainkey": "d= is what comes after ._domainkey",
}


@pytest.mark.parametrize(("name", "hint"), RECORD_NAMES_AS_DOMAINS.items(), ids=list(RECORD_NAMES_AS_DOMAINS))
@pytest.mark.parametrize("kind", ["dkim", "domainkeys"])
def test_a_record_name_is_not_a_domain(kind: str, name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        completed(f"{kind}(d={name},s=mail,key=/a)")
    assert (str(raised.value), raised.value.hint) == (
        f"HERE: d={name} is the name of a record, not a domain",
        hint,
    )
    if hint.startswith("d=e"):
        assert completed(f"{kind}({hint},s=mail,key=/a)").domain == hint[2:].encode()


@pytest.mark.parametrize(
    "domain", ["domainkey.example.com", "_domainkeys.example.com", "x_domainkey.example"]
)
def test_a_domain_that_resembles_a_record_name(domain: str) -> None:
    assert completed(f"dkim(d={domain},s=mail,key=/a)").domain == domain.encode()


@pytest.mark.parametrize("selector", ["domainkey", "_domainkeys", "x_domainkey", "mail.domainkey", "_dkim"])
def test_a_selector_that_resembles_a_record_name(selector: str) -> None:
    assert options(f"dkim(s={selector},key=/a)").selector == selector.encode()


WRONG_CONF = {
    "method": ("method foo", f"dkim supports c={DKIM_METHODS}; not foo"),
    "dkim-method": ("dkim_method nofws", f"dkim supports c={DKIM_METHODS}; not nofws"),
    "selector": ("selector a..b", "s=a..b is not a valid selector"),
}


@pytest.mark.parametrize(("line", "expected"), WRONG_CONF.values(), ids=WRONG_CONF)
def test_fault_of_the_conf_file_is_placed_there(tmp_path: Path, line: str, expected: str) -> None:
    """An administrator is sent to the line to fix, not to an entry that says nothing of the kind."""
    name, _, value = line.partition(" ")
    settings = read_command_line([])
    settings.set(name, value, Place("THERE"))
    (signature,) = parse("dkim(key=/a)" if name == "selector" else f"dkim({GIVEN})", Place("HERE"))
    with pytest.raises(ConfigError) as raised:
        SignatureOptions(signature, settings)
    assert str(raised.value) == f"THERE: {expected}"


# Entry, key, what is wrong.
MISMATCHES = {
    "rsa-sha256-ed25519": (
        "dkim(a=rsa-sha256,{})",
        "ed25519",
        "a=rsa-sha256, but key file {} contains an ed25519 key",
    ),
    "rsa-sha1-ed25519": (
        "dkim(a=rsa-sha1,{})",
        "ed25519",
        "a=rsa-sha1, but key file {} contains an ed25519 key",
    ),
    "ed25519-rsa": (
        "dkim(a=ed25519-sha256,{})",
        "rsa2048",
        "a=ed25519-sha256, but key file {} contains an rsa key",
    ),
    "domainkeys-ed25519": (
        "domainkeys({})",
        "ed25519",
        "domainkeys: key file {} contains an ed25519 key, not rsa",
    ),
}


def signature(keys: Keys, entry: str, key: str, message: bytes) -> DkimSignature | DomainKeysSignature:
    """Begin the signature of an entry for example.com with one of the keys."""
    made = options(entry.format(f"s=mail,key={keys.path(key)}"))
    made.domain = b"example.com"
    if made.type == "dkim":
        return DkimSignature(made, read_key(made.keyfile), BodyHashes(False))
    parsed = Message(io.BytesIO(message).read)
    return DomainKeysSignature(made, read_key(made.keyfile), parsed, BodyHashes(False))


@pytest.mark.parametrize(("entry", "key", "expected"), MISMATCHES.values(), ids=MISMATCHES)
def test_algorithm_and_key_do_not_match(keys: Keys, entry: str, key: str, expected: str) -> None:
    with pytest.raises(ConfigError) as raised:
        signature(keys, entry, key, MESSAGE)
    assert str(raised.value) == f"HERE: {expected.format(keys.path(key))}"


# Entry, key, what the log says of the signature.
ALGORITHMS = {
    "rsa": ("dkim({})", "rsa2048", "a=rsa-sha256"),
    "rsa-pkcs1": ("dkim({})", "rsa1024-pkcs1", "a=rsa-sha256"),
    "ed25519": ("dkim({})", "ed25519", "a=ed25519-sha256"),
    "rsa-sha1-in-words": ("dkim(a=rsa-sha1,{})", "rsa2048", "a=rsa-sha1"),
    "domainkeys": ("domainkeys({})", "rsa2048", "a=rsa-sha1 domainkeys"),
}


@pytest.mark.parametrize(("entry", "key", "expected"), ALGORITHMS.values(), ids=ALGORITHMS)
def test_algorithm_follows_from_the_key(keys: Keys, entry: str, key: str, expected: str) -> None:
    assert str(signature(keys, entry, key, MESSAGE)) == f"d=example.com s=mail {expected}"


# h= of domainkeys, message, what is wrong.
DOMAINKEYS_HEADERS = {
    "no-from": ("h=to", MESSAGE, "domainkeys h= does not include from"),
    "no-sender-relative": (
        "h=-sender",
        b"Sender: b@example.com\n" + MESSAGE,
        "domainkeys h= does not include sender",
    ),
    "no-sender": ("h=from", b"Sender: b@example.com\n" + MESSAGE, "domainkeys h= does not include sender"),
}


@pytest.mark.parametrize(
    ("names", "message", "expected"), DOMAINKEYS_HEADERS.values(), ids=DOMAINKEYS_HEADERS
)
def test_domainkeys_signs_the_sending_address(keys: Keys, names: str, message: bytes, expected: str) -> None:
    with pytest.raises(ConfigError) as raised:
        signature(keys, f"domainkeys({{}},{names})", "rsa2048", message)
    assert str(raised.value) == f"HERE: {expected}"
