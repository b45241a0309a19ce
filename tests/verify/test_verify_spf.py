"""SPF results that our own host recorded, for the DMARC policy."""

from __future__ import annotations

import io
import os
import random
import re
import shutil
import sys

import pytest
from policies import DMARC, FROM, RECEIVED, REJECT, Zone, dmarc, verdict

from dkimpipe.config import read_command_line
from dkimpipe.message import Message
from dkimpipe.verify import ownresults, policy, spf
from dkimpipe.verify.settings import VerifySettings
from postfix import Postfix, Sink, shared_directory

PASSED = {
    "by policyd-spf": b"Received-SPF: Pass (mailfrom) identity=mailfrom; client-ip=192.0.2.1; "
    b"helo=x.example; envelope-from=a@mail.example.com; receiver=<UNKNOWN> ",
    "by Mail::SPF": b"Received-SPF: pass (mail.example.com: Sender is authorized (a)) "
    b'receiver=mx.example.net; identity=mailfrom; envelope-from="a@mail.example.com"; '
    b"helo=x.example; client-ip=192.0.2.1",
    "folded": b"Received-SPF:\n pass\n\tenvelope-from=\n a@mail.example.com",
    "no spaces around a comment": b"Received-SPF: pass(authorized)envelope-from=a@mail.example.com",
    "of a host below": b"Received-SPF: pass envelope-from=a@bounce.mail.example.com",
    "of the parent": b"Received-SPF: pass envelope-from=a@example.com",
    "a sender by SRS": b"Received-SPF: Pass (mailfrom) identity=mailfrom; client-ip=2001:db8::1; "
    b"helo=[192.0.2.1]; envelope-from=SRS0=a/b=c=example.org=o'neil+x@mail.example.com; receiver=",
    "U-labels in the local part": "Received-SPF: pass envelope-from=\u00fc@mail.example.com".encode(),
    "HELO, null sender": b"Received-SPF: Pass (helo) identity=helo; client-ip=192.0.2.1; "
    b"helo=mail.example.com; envelope-from=<>; receiver=b@example.net",
    "HELO, by Mail::SPF": b"Received-SPF: pass (mail.example.com: Sender is authorized (a)) "
    b"receiver=mx.example.net; identity=helo; helo=mail.example.com; client-ip=192.0.2.1",
    "HELO, no sender recorded": b"Received-SPF: Pass (helo) identity=helo; helo=mail.example.com",
    "by postfix-policyd-spf-perl": b"Received-SPF: pass (mail.example.com: 192.0.2.1 is authorized to use "
    b"'a@mail.example.com' in 'mfrom' identity (mechanism 'ip4:192.0.2.1' matched)) receiver=mx.example.net; "
    b'identity=mailfrom; envelope-from="a@mail.example.com"; helo=x.example; client-ip=192.0.2.1',
    "results field by policyd-spf, HELO": b"Authentication-Results: mx.example.net; spf=pass (sender SPF "
    b"authorized) smtp.helo=mail.example.com (client-ip=192.0.2.1; helo=mail.example.com; envelope-from=<>; "
    b"receiver=b@example.net)",
    "results field": b"Authentication-Results: mx.example.net; spf=pass (authorized) "
    b"smtp.mailfrom=mail.example.com (client-ip=192.0.2.1; helo=x.example; envelope-from=a@mail.example.com; "
    b"receiver=b@example.net)",
    "results field, one key in the comment": b"Authentication-Results: mx.example.net; spf=pass "
    b"smtp.mailfrom=mail.example.com (client-ip=192.0.2.1)",
    "results field, address": b"Authentication-Results: mx.example.net;\n"
    b" spf=pass smtp.mailfrom=a@example.com",
    "results field, HELO": b"Authentication-Results: MX.example.net 1; spf=pass smtp.helo=mail.example.com",
    "results field, quoted name, comment behind it": b'Authentication-Results: "mx.example.net"(us) 1; '
    b"spf=pass smtp.mailfrom=example.com",
    "above other fields": b"Received-SPF: pass envelope-from=a@example.com\nX-Spam: no",
    "below other fields": b"X-Spam: no\nReceived-SPF: pass envelope-from=a@example.com",
}


@pytest.mark.parametrize("field", PASSED.values(), ids=PASSED)
def test_a_pass_that_our_host_recorded_is_trusted(field: bytes) -> None:
    assert verdict(dmarc(REJECT), field + b"\n" + RECEIVED + FROM) == ""


# Local parts that a client may send in quotes, and smtpd(8) passes on to a policy server without; recipients.
LOCAL_PARTS = (
    ("x", b"b@example.net"),
    ("mail.example.com x", b"b@example.net"),
    ("mail.example.com;x=", b"b@example.net"),
    ("a@mail.example.com x", b"b@example.net"),
    ("a@mail.example.com x=", b"b@example.net"),
    ("a@mail.example.com;x", b"b@example.net"),
    ("a@mail.example.com;x=", b"b@example.net"),
    ("a@mail.example.com;x=y z=", b"b@example.net"),
    ("a@mail.example.com; mechanism=", b"b@example.net"),
    ("<>;x=", b"b@example.net"),
    ("<>", b"b@example.net"),
    ("", b"b@example.net"),
    ('"a@mail.example.com"', b"b@example.net"),
    ('a@mail.example.com;x="', b'b+"@example.net'),
    ("a@mail.example.com (", b"b+) y=@example.net"),
    ("a@mail.example.com(x", b"b+)@example.net"),
    ("<>(", b"b+)y=@example.net"),
    ("a@mail.example.com (", b"b+); receiver=@example.net"),
    ("a@mail.example.com(x)x", b"b@example.net"),
    ("a@mail.example.com (x)x", b"b@example.net"),
    ("a@mail.example.com (x) y=", b"b@example.net"),
    ("x) smtp.mailfrom=mail.example.com (", b"b@example.net"),
    ("x) smtp.helo=mail.example.com (", b"b@example.net"),
    ("x) envelope-from=a@mail.example.com (", b"b@example.net"),
    ("x); spf=pass smtp.mailfrom=mail.example.com (", b"b@example.net"),
    ("x); spf=pass smtp.helo=mail.example.com (", b"b@example.net"),
    ("x); spf=pass smtp.helo=mail.example.com; x=y (", b"b@example.net"),
    ("x@mail.example.com reason=a.", b"b@example.net"),
    ("x@mail.example.com reason=", b"b@example.net"),
    ('x@mail.example.com reason="', b'b+"@example.net'),
    ('x@mail.example.com" (', b"b@example.net"),
    ('x@mail.example.com\\" (', b"b@example.net"),
    ("a@mail.example.com; receiver=b", b"b@example.net"),
    ("a@mail.example.com; client-ip=192.0.2.1; receiver=b", b"b@example.net"),
    ("a@mail.example.com\t", b"b@example.net"),
    ("a@mail.example.com", b"b@example.net"),
    ("<a@mail.example.com>", b"b@example.net"),
    ("a@mail.example.com,", b"b@example.net"),
    ("a@mail.example.com:", b"b@example.net"),
    # Domains with such characters in a label; whether a server resolves them is its own affair.
    ("a@mail.example.com; receiver=x.", b"b@example.net"),
    ("a@mail.example.com (x=", b"b@example.net"),
    ("a@mail.example.com reason=x.", b"b@example.net"),
)

# Fields above our Received, where our host quotes the client, that are not an aligned pass.
NOT_PASSED = {
    "HELO that ends a comment": b"Authentication-Results: mx.example.net; spf=none (helo=x);"
    b" spf=pass smtp.mailfrom=mail.example.com (y) smtp.mailfrom=evil.example",
    "HELO that ends a comment, two results": b"Authentication-Results: mx.example.net; spf=pass (helo=x);"
    b" spf=pass smtp.mailfrom=mail.example.com (y); spf=none smtp.mailfrom=evil.example",
    "HELO that ends a comment, another name": b"Authentication-Results: mx.example.net; spf=pass (helo=x)"
    b" envelope-from=a@mail.example.com (y) smtp.mailfrom=evil.example",
    **{
        f"policyd-spf, Received-SPF, local part {local}": b"Received-SPF: Pass (mailfrom) identity=mailfrom; "
        b"client-ip=192.0.2.1; helo=mail.example.com; envelope-from=%b@b.evil.example; receiver=%b"
        % (local.encode(), receiver)
        for local, receiver in LOCAL_PARTS
    },
    **{
        f"policyd-spf, results field, local part {local}": b"Authentication-Results: mx.example.net; "
        b"spf=pass (sender SPF authorized) smtp.mailfrom=%b (client-ip=192.0.2.1; helo=mail.example.com; "
        b"envelope-from=%b@b.evil.example; receiver=%b)"
        % (f"{local}@b.evil.example".partition("@")[2].encode(), local.encode(), receiver)
        for local, receiver in LOCAL_PARTS
    },
    **{
        f"policyd-spf, results field, HELO, local part {local}": b"Authentication-Results: mx.example.net; "
        b"spf=pass (sender SPF authorized) smtp.helo=evil.example (client-ip=192.0.2.1; helo=evil.example; "
        b"envelope-from=%b@none.example; receiver=%b)" % (local.encode(), receiver)
        for local, receiver in LOCAL_PARTS
    },
    **{
        f"Mail::SPF, local part {local}": b"Received-SPF: pass (evil.example: 192.0.2.1 is authorized to use "
        b"'%b@b.evil.example' in 'mfrom' identity (mechanism 'ip4:192.0.2.1' matched)) receiver=mx; "
        b'identity=mailfrom; envelope-from="%b@b.evil.example"; helo="%b"; client-ip=192.0.2.1'
        % (local.encode(), re.sub(rb'(["\\])', rb"\\\1", local.encode()), local.encode())
        for local, _ in LOCAL_PARTS
    },
    **{
        f"policyd-spf, HELO {local}": b"Received-SPF: Pass (helo) identity=helo; client-ip=192.0.2.1; "
        b"helo=%b.evil.example; envelope-from=<>; receiver=<UNKNOWN> " % local.encode()
        for local, _ in LOCAL_PARTS
    },
    **{
        f"policyd-spf, a domain {local}": b"Received-SPF: Pass (mailfrom) identity=mailfrom; "
        b"client-ip=192.0.2.1; helo=mail.example.com; envelope-from=%b.evil.example; receiver=<UNKNOWN> "
        % local.encode()
        for local, _ in LOCAL_PARTS
    },
    **{
        f"results field without comments, {method}, local part {local}": b"Authentication-Results: "
        b"mx.example.net; %b smtp.mailfrom=%b@b.evil.example" % (method.encode(), local.encode())
        for local, _ in LOCAL_PARTS
        for method in ("spf=pass", "spf=none", "iprev=pass")
    },
    "a quoted local part": b'Received-SPF: pass envelope-from="\\"a; b\\"@mail.example.com"',
    "a key of no known server": b"Received-SPF: pass envelope-from=a@mail.example.com; x=y",
    "keys in another order": b"Received-SPF: pass envelope-from=a@mail.example.com; identity=mailfrom",
    "a key in capitals": b"Received-SPF: pass Envelope-From=a@mail.example.com",
    "a key twice": b"Received-SPF: pass envelope-from=a@mail.example.com; envelope-from=a@mail.example.com",
    "U-labels in the domain": "Received-SPF: pass envelope-from=a@m\u0430il.example.com".encode(),
    "a full-width at sign": "Received-SPF: pass envelope-from=a@evil.example\uff20mail.example.com".encode(),
    "results field, another sender in the comment": b"Authentication-Results: mx.example.net; spf=pass "
    b"(authorized) smtp.mailfrom=mail.example.com (client-ip=192.0.2.1; helo=x.example; "
    b"envelope-from=a@x.example; receiver=b@example.net)",
    "results field, HELO beside a sender": b"Authentication-Results: mx.example.net; spf=pass "
    b"(authorized) smtp.helo=mail.example.com (client-ip=192.0.2.1; helo=mail.example.com; "
    b"envelope-from=a@x.example; receiver=b@example.net)",
    "results field, other keys in the comment": b"Authentication-Results: mx.example.net; spf=pass "
    b"smtp.mailfrom=mail.example.com (client-ip=192.0.2.1; envelope-from=a@mail.example.com)",
    "results field, a reason": b"Authentication-Results: mx.example.net; spf=pass reason=x "
    b"smtp.mailfrom=mail.example.com",
    "results field, another result": b"Authentication-Results: mx.example.net; iprev=pass; spf=pass "
    b"smtp.mailfrom=mail.example.com",
    "results field, null sender and HELO": b"Authentication-Results: mx.example.net; spf=pass "
    b"smtp.mailfrom=<> smtp.helo=mail.example.com",
    "an address without quotes": b"Received-SPF: pass envelope-from=a@mail.example.com x@evil.example",
    "an address without quotes, semicolon": b"Received-SPF: pass "
    b"envelope-from=a@mail.example.com;x@evil.example",
    "an address that begins like the null sender": b"Received-SPF: pass "
    b'envelope-from="";x@evil.example; helo=mail.example.com',
    "results field, address without quotes": b"Authentication-Results: mx.example.net; spf=pass "
    b"smtp.mailfrom=a@mail.example.com x@evil.example",
    "results field, comment in an address": b"Authentication-Results: mx.example.net; spf=pass "
    b"smtp.mailfrom=a@mail.example.com(x)x@evil.example",
    "results field, semicolon in an address": b"Authentication-Results: mx.example.net; spf=pass "
    b"smtp.mailfrom=a@mail.example.com;x@evil.example",
    "a comment at the end": b"Received-SPF: pass identity=mailfrom; "
    b"envelope-from=a@mail.example.com (@evil.example; receiver=b)",
    "a sender without an at sign": b"Received-SPF: pass identity=mailfrom; "
    b"envelope-from=mail.example.com; receiver=@evil.example",
    "HELO beside a sender": b"Received-SPF: Pass (helo) identity=helo; helo=mail.example.com; "
    b"envelope-from=a@x.example",
    "a domain that is too long": b"Received-SPF: pass envelope-from=a@" + b"\xc3\xbc" * 9000,
    "another identity": b"Received-SPF: pass identity=pra; envelope-from=a@mail.example.com",
    "no domain recorded": b"Received-SPF: pass",
    "no domain recorded, null sender": b"Received-SPF: pass identity=mailfrom; envelope-from=<>",
    "no domain recorded, empty HELO": b'Received-SPF: pass envelope-from="<>"; helo=.',
    "results field, no domain recorded": b"Authentication-Results: mx.example.net; spf=pass",
    "results field, empty sender": b"Authentication-Results: mx.example.net; spf=pass smtp.mailfrom=; x=y",
    "results field, sender without a domain": b"Authentication-Results: mx.example.net; spf=pass "
    b"smtp.mailfrom=a@ smtp.helo=mail.example.com",
    "nothing": b"X: y",
    "fail": b"Received-SPF: Fail (mailfrom) identity=mailfrom; envelope-from=a@mail.example.com",
    "softfail": b"Received-SPF: softfail envelope-from=a@mail.example.com",
    "a word that begins like it": b"Received-SPF: passed envelope-from=a@mail.example.com",
    "pass in a comment": b"Received-SPF: (pass) fail envelope-from=a@mail.example.com",
    "of another domain": b"Received-SPF: pass identity=mailfrom; envelope-from=a@evil.example",
    "of a name that ends alike": b"Received-SPF: pass envelope-from=a@email.example.com",
    "HELO of another domain": b"Received-SPF: Pass (helo) identity=helo; helo=evil.example; "
    b"envelope-from=a@mail.example.com",
    "a pair in a local part": b"Received-SPF: pass envelope-from="
    b'"\\"x; envelope-from=a@mail.example.com; \\"@evil.example"',
    "a pair in a local part without quotes": b"Received-SPF: pass envelope-from="
    b"x; envelope-from=a@mail.example.com; y@evil.example",
    "a pair in HELO": b"Received-SPF: pass helo=x; "
    b"envelope-from=a@mail.example.com; envelope-from=a@evil.example",
    "an at sign in a local part": b'Received-SPF: pass envelope-from="a@mail.example.com"@evil.example',
    "a comment without an end": b"Received-SPF: pass (x envelope-from=a@mail.example.com",
    "a result in a local part": b"Authentication-Results: mx.example.net; spf=fail "
    b'smtp.mailfrom="x; spf=pass smtp.mailfrom=mail.example.com"@evil.example',
    "a result in a comment": b"Authentication-Results: mx.example.net; spf=fail (; spf=pass "
    b"smtp.mailfrom=mail.example.com) smtp.mailfrom=evil.example",
    "a result of another domain": b"Authentication-Results: mx.example.net; "
    b"spf=pass smtp.mailfrom=evil.example",
    "two results in one": b"Authentication-Results: mx.example.net; spf=pass smtp.mailfrom=evil.example "
    b"smtp.mailfrom=mail.example.com",
    "a pass of another method": b"Authentication-Results: mx.example.net; dkim=pass header.d=x",
    "another host's field": b"Authentication-Results: mx.example.org; "
    b"spf=pass smtp.mailfrom=mail.example.com",
}


@pytest.mark.parametrize("field", NOT_PASSED.values(), ids=NOT_PASSED)
def test_no_pass_for_another_domain_is_trusted(field: bytes) -> None:
    assert verdict(dmarc(REJECT), field + b"\n" + RECEIVED + FROM) == DMARC


@pytest.mark.parametrize("field", PASSED.values(), ids=PASSED)
def test_nothing_that_a_client_sends_is_trusted(field: bytes) -> None:
    for header in (
        RECEIVED + field + b"\n" + FROM,
        RECEIVED + FROM + field + b"\n" + RECEIVED,
        field + b"\n" + FROM,  # nothing tells where the client's fields begin
    ):
        assert verdict(dmarc(REJECT), header) == DMARC


# Policy servers, each as it writes a sender and a HELO name; postfix-policyd-spf-perl quotes and escapes.


def escaped(text: str) -> str:
    """Return a value as Mail::SPF writes it."""
    plain = re.fullmatch(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+", text)
    return text if plain else '"' + re.sub(r'(["\\\\])', r"\\\1", text) + '"'


CLIENT = "client-ip=192.0.2.1; helo={helo}; envelope-from={sender}; receiver={to}"
SERVERS = {
    "policyd-spf": "Received-SPF: Pass (mailfrom) identity=mailfrom; " + CLIENT + " ",
    "policyd-spf, HELO": "Received-SPF: Pass (helo) identity=helo; " + CLIENT + " ",
    "policyd-spf, results": "Authentication-Results: mx.example.net; spf=pass (sender SPF authorized) "
    f"smtp.mailfrom={{domain}} ({CLIENT})",
    "policyd-spf, results, none": "Authentication-Results: mx.example.net; spf=none (no SPF record) "
    f"smtp.mailfrom={{domain}} ({CLIENT})",
    "policyd-spf, results, HELO": "Authentication-Results: mx.example.net; spf=pass (sender SPF authorized) "
    f"smtp.helo={{helo}} ({CLIENT})",
    "policyd-spf, results, skipped": "Authentication-Results: mx.example.net; none (SPF skipped for "
    f"whitelisted relay - {CLIENT})",
    "postfix-policyd-spf-perl": "Received-SPF: pass (b.evil.example: 192.0.2.1 is authorized to use "
    "'{sender}' in 'mfrom' identity (mechanism 'ip4:192.0.2.1' matched)) receiver=mx.example.net; "
    "identity=mailfrom; envelope-from={escaped}; helo={escaped_helo}; client-ip=192.0.2.1",
    "pyspf": "Received-SPF: Pass (mx.example.net: domain of {sender} designates 192.0.2.1 as permitted "
    'sender) client-ip=192.0.2.1; envelope-from="{sender}"; helo={helo}; receiver=mx.example.net; '
    'mechanism="ip4:192.0.2.1"; identity=mailfrom',
    "OpenDMARC, OpenDKIM": "Authentication-Results: mx.example.net; spf=pass smtp.mailfrom={sender}",
    "a milter": "Authentication-Results: mx.example.net; spf=pass (mx.example.net: domain of {sender} "
    "designates 192.0.2.1 as permitted sender) smtp.mailfrom={sender} smtp.helo={helo}",
    "least": "Received-SPF: pass envelope-from={sender}",
}
PIECES = [
    *"()\"\\;= <>@,.x\t'",
    *(
        "mail.example.com",
        "a@mail.example.com",
        "smtp.mailfrom=a@mail.example.com",
        "spf=pass",
        "; ",
        " (",
        ") ",
    ),
    *("smtp.mailfrom=mail.example.com", "smtp.helo=mail.example.com", "envelope-from=a@mail.example.com"),
    *(
        "; envelope-from=",
        "helo=mail.example.com",
        "identity=mailfrom",
        "identity=helo",
        "client-ip=192.0.2.1",
    ),
    *(
        "envelope-from=<>",
        "<>",
        "receiver=",
        "; receiver=x",
        "reason=",
        'reason="',
        "mx.example.net; ",
        "pass",
    ),
]


def hostile(chosen: random.Random, most: int) -> str:
    """Return text that a client could send in an address or as its name."""
    return "".join(chosen.choices(PIECES, k=chosen.randint(0, most)))


@pytest.mark.parametrize("server", SERVERS)
def test_no_sender_can_bend_what_a_server_records(server: str) -> None:
    chosen = random.Random(server)
    counts = {"b.evil.example": 0, "others": 0}
    for _ in range(int(os.environ.get("DKIMPIPE_SPF_CASES", "1500"))):
        local = chosen.choice((hostile(chosen, 8), "x"))
        domain = chosen.choice(("b.evil.example", f"{hostile(chosen, 4)}.b.evil.example"))
        helo = chosen.choice(("b.evil.example", f"{hostile(chosen, 5)}.b.evil.example"))
        sender = chosen.choice((f"{local}@{domain}", "<>" if "HELO" in server else f"{local}@b.evil.example"))
        to = chosen.choice(("<UNKNOWN>", "b@example.net", f"b+{hostile(chosen, 5)}@example.net"))
        field = SERVERS[server].format(
            sender=sender,
            domain=sender.partition("@")[2],
            helo=helo,
            to=to,
            escaped=escaped(sender),
            escaped_helo=escaped(helo),
        )
        message = Message(io.BytesIO(f"{field}\n".encode() + RECEIVED + FROM + b"\nHello\n").read)
        for passed in spf.passed(message, "mx.example.net")[0]:
            assert f".{passed.decode()}".endswith(".b.evil.example"), field
            counts["b.evil.example"] += 1
        for each in ownresults.carried_over(message, "mx.example.net", ()):
            words = [each.reason, *(value for _, value in each.properties)]
            assert each.result != "pass" or all(word.endswith("b.evil.example") for word in words if word), (
                field
            )
            counts["others"] += 1
    believes = server not in (
        "policyd-spf, results, none",
        "policyd-spf, results, skipped",
        "pyspf",
        "a milter",
    )
    assert (counts["b.evil.example"] > 0) == believes, counts


OWN = b"Authentication-Results: mx.example.net; "
BY_NAME = OWN + b"spf=pass smtp.helo=mail.example.com\n"
BY_ADDRESS = OWN + b"spf=pass smtp.mailfrom=mail.example.com\n"
FAILED = b"Received-SPF: Fail (mailfrom) identity=mailfrom; envelope-from=a@mail.example.com\n"
# Our host's fields, the options, and whether SPF passes; in doubt it does not, and nothing is rejected.
MIXED = {
    "HELO, sender unknown": (BY_NAME, "", "pass"),
    "HELO, null sender": (BY_NAME, "-f=", "pass"),
    "HELO beside a sender": (BY_NAME, "-f=a@mail.example.com", "fail"),
    "HELO and mailfrom beside a sender": (BY_NAME + BY_ADDRESS, "-f=a@mail.example.com", "pass"),
    "the sender": (BY_ADDRESS, "-f=a@mail.example.com", "pass"),
    "a sender changed by SRS": (BY_ADDRESS, "-f=SRS0=x=y=mail.example.com=a@example.net", "pass"),
    "fail first": (OWN + b"spf=fail smtp.mailfrom=mail.example.com\n" + BY_ADDRESS, "", "fail"),
    "fail behind": (BY_ADDRESS + OWN + b"spf=fail smtp.mailfrom=a@mail.example.com\n", "", "fail"),
    "fail in the other field": (FAILED + BY_ADDRESS, "", "fail"),
    "fail by Received-SPF, pass too": (FAILED + FAILED.replace(b"Fail", b"Pass"), "", "fail"),
    "fail of HELO": (OWN + b"spf=fail smtp.helo=mail.example.com\n" + BY_ADDRESS, "", "pass"),
    "fail of another domain": (OWN + b"spf=fail smtp.mailfrom=example.org\n" + BY_ADDRESS, "", "pass"),
    "softfail": (OWN + b"spf=softfail smtp.mailfrom=mail.example.com\n" + BY_ADDRESS, "", "pass"),
    "fail without a domain": (OWN + b"spf=fail\n" + BY_ADDRESS, "", "pass"),
    "fail of another host": (
        b"Authentication-Results: x.example; spf=fail smtp.mailfrom=mail.example.com\n" + BY_ADDRESS,
        "",
        "pass",
    ),
}


@pytest.mark.parametrize(("fields", "options", "expected"), MIXED.values(), ids=MIXED)
def test_a_pass_in_doubt_is_none_and_rejects_nothing(fields: bytes, options: str, expected: str) -> None:
    settings = VerifySettings()
    arguments = ["--hostname=mx.example.net", "--dmarc", "--reject_fail"]
    if options:
        arguments += ["-f", options.removeprefix("-f=")]
    read_command_line(arguments, settings)
    message = Message(io.BytesIO(fields + RECEIVED + FROM + b"\nHello\n").read)
    (found,) = policy.apply(message, [], Zone(dmarc(REJECT)), settings)
    assert found.result == expected


def test_strict_alignment_of_spf() -> None:
    strict = dmarc(REJECT + b"; aspf=s")
    assert verdict(strict, b"Received-SPF: pass envelope-from=a@example.com\n" + RECEIVED + FROM) == DMARC
    assert verdict(strict, b"Received-SPF: pass envelope-from=a@mail.example.com\n" + RECEIVED + FROM) == ""


# Through a real Postfix: where PREPEND puts a field, and that a client cannot get above it.

SENDMAIL = "/usr/sbin/sendmail"
CAN_RUN_POSTFIX = (
    sys.platform == "linux" and os.geteuid() == 0 and shutil.which("postconf") and os.path.exists(SENDMAIL)
)
SAYS = {
    "pass": (b"Received-SPF: Pass (mailfrom) identity=mailfrom; envelope-from=a@mail.example.com", ""),
    "fail": (b"Received-SPF: Fail (mailfrom) identity=mailfrom; envelope-from=a@mail.example.com", DMARC),
    "nothing": (b"", DMARC),
}


@pytest.mark.skipif(not CAN_RUN_POSTFIX, reason="needs Postfix, and root, without whom it does not start")
@pytest.mark.parametrize(("field", "expected"), SAYS.values(), ids=SAYS)
def test_postfix_puts_a_policy_servers_field_above_all_that_a_client_sends(
    field: bytes, expected: str
) -> None:
    action = f"check_sender_access static:{{PREPEND {field.decode()}}}" if field else "permit"
    forged = b"\n".join([PASSED["by policyd-spf"], PASSED["results field"]]) + b"\n" + RECEIVED
    message = forged + PASSED["by Mail::SPF"] + b"\n" + FROM + b"\nHello\n"
    with shared_directory() as directory, Sink() as sink:
        extra = {"smtpd_sender_restrictions": action}
        with Postfix(directory, [SENDMAIL, "-G", "-i"], sink.port, extra_main=extra) as postfix:
            postfix.submit("a@mail.example.com", ["b@example.net"], message.replace(b"\n", b"\r\n"))
            (arrived,) = sink.wait()
    fields = Message(io.BytesIO(arrived.data).read).fields
    first = [field.name for field in fields].index(b"received")  # that of sendmail(1), behind the filter
    seen = b"".join(field.text + b"\n" for field in fields[first + 1 :])
    assert seen.startswith(field or b"Received: from")
    assert verdict(dmarc(REJECT), seen) == expected
