"""The witnesses say yes to signatures that foreign programs made, and no once an octet of the message has
changed."""

from __future__ import annotations

import base64
import pathlib
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

import dkim  # type: ignore[import-untyped,unused-ignore]
import pytest
import witness
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from nameserver import NameServer

MESSAGE = (
    b"From: Joe\r\n <joe@example.com>\r\nTo: jane@example.org\r\nSubject:  two  blanks \r\n"
    b"Date: Fri, 11 Jul 2003 21:00:37 -0700\r\n\r\nHi.\r\n\r\nIs dinner  ready? \r\n\r\n\r\n"
)
SIGNED_FIELDS = [b"from", b"to", b"subject", b"date", b"from"]

PERL_SIGNER = r"""
use Mail::DKIM::Signer; use Mail::DKIM::DkSignature;
my ($kind, $algorithm, $method, $keyfile) = @ARGV;
my %how = (Algorithm => $algorithm, Method => $method, Domain => 'example.com', Selector => 'rsa2048');
my $domainkeys = sub {
    $_[0]->add_signature(Mail::DKIM::DkSignature->new(%how, Headers => $_[0]->headers, Query => 'dns'));
    return;
};
my $signer = Mail::DKIM::Signer->new(
    %how, KeyFile => $keyfile, $kind eq 'domainkeys' ? (Policy => $domainkeys) : ());
binmode STDIN; local $/; $signer->PRINT(<STDIN>); $signer->CLOSE;
print map { $_->as_string . "\r\n" } $signer->signatures;
"""


class Signed(NamedTuple):
    kind: str
    algorithm: str
    message: bytes


class Keys(NamedTuple):
    pems: dict[str, bytes]
    rsa2048_file: str
    records: witness.Records


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    pems = {}
    for selector, key in (
        ("rsa1024", rsa.generate_private_key(65537, 1024)),
        ("rsa2048", rsa.generate_private_key(65537, 2048)),
        ("ed", ed25519.Ed25519PrivateKey.generate()),
    ):
        pems[selector] = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    path = tmp_path_factory.mktemp("keys") / "rsa2048.pem"
    path.write_bytes(pems["rsa2048"])
    records = {f"{selector}._domainkey.example.com": [witness.record(pem)] for selector, pem in pems.items()}
    return Keys(pems, str(path), records)


@pytest.fixture(scope="module")
def nameserver(keys: Keys) -> Iterator[NameServer]:
    with NameServer(dict(keys.records)) as server:
        yield server


def by_dkimpy(keys: Keys, algorithm: str, method: str, selector: str) -> bytes:
    key = keys.pems[selector]
    if selector == "ed":
        pytest.importorskip("nacl")
        private = serialization.load_pem_private_key(key, None)
        assert isinstance(private, ed25519.Ed25519PrivateKey)
        raw, seed = serialization.Encoding.Raw, serialization.PrivateFormat.Raw
        key = base64.b64encode(private.private_bytes(raw, seed, serialization.NoEncryption()))
    field: bytes = dkim.sign(
        MESSAGE,
        selector.encode(),
        b"example.com",
        key,
        canonicalize=tuple(method.encode().split(b"/")),
        signature_algorithm=algorithm.encode(),
        include_headers=SIGNED_FIELDS,
    )
    return field + MESSAGE


def by_mail_dkim(keys: Keys, algorithm: str, method: str, kind: str) -> bytes:
    command = ("perl", "-e", PERL_SIGNER, kind, algorithm, method, keys.rsa2048_file)
    return subprocess.run(command, input=MESSAGE, stdout=subprocess.PIPE, check=True).stdout + MESSAGE


def by_opendkim(keys: Keys) -> bytes:
    command = ("opendkim-testmsg", "-C", "-d", "example.com", "-s", "rsa2048", "-k", keys.rsa2048_file)
    return subprocess.run(command, input=MESSAGE, stdout=subprocess.PIPE, check=True).stdout


# (signer, algorithm, canonicalization, selector or, for Mail::DKIM, kind of signature)
SIGNERS = [
    ("dkimpy", "rsa-sha256", "simple/simple", "rsa2048"),
    ("dkimpy", "rsa-sha256", "simple/relaxed", "rsa2048"),
    ("dkimpy", "rsa-sha256", "relaxed/simple", "rsa2048"),
    ("dkimpy", "rsa-sha256", "relaxed/relaxed", "rsa1024"),
    ("dkimpy", "rsa-sha1", "relaxed/relaxed", "rsa2048"),
    ("dkimpy", "ed25519-sha256", "simple/relaxed", "ed"),
    ("dkimpy", "ed25519-sha256", "relaxed/simple", "ed"),
    ("Mail::DKIM", "rsa-sha256", "relaxed/relaxed", "dkim"),
    ("Mail::DKIM", "rsa-sha1", "simple", "dkim"),
    ("Mail::DKIM", "rsa-sha1", "simple", "domainkeys"),
    ("Mail::DKIM", "rsa-sha1", "nofws", "domainkeys"),
    ("OpenDKIM", "rsa-sha256", "relaxed/simple", "rsa2048"),
]


@pytest.fixture(scope="module", params=SIGNERS, ids=["-".join(row).replace("/", "+") for row in SIGNERS])
def signed(keys: Keys, request: pytest.FixtureRequest) -> Signed:
    signer, algorithm, method, last = request.param
    if signer == "dkimpy":
        message = by_dkimpy(keys, algorithm, method, last)
    elif signer == "OpenDKIM":
        message = by_opendkim(keys)
    else:
        message = by_mail_dkim(keys, algorithm, method, last)
    return Signed("domainkeys" if last == "domainkeys" else "dkim", algorithm, message)


def verdicts(
    messages: list[bytes], keys: Keys, nameserver: NameServer, kind: str
) -> list[tuple[list[str], ...]]:
    """For each message the verdicts of those witnesses that know the kind of signature."""
    mail_dkim = witness.mail_dkim_verdicts(messages, nameserver.port)
    if kind == "domainkeys":
        return [(found,) for found in mail_dkim]
    return list(
        zip(
            witness.dkimpy_verdicts(messages, keys.records),
            witness.opendkim_verdicts(messages, keys.records),
            mail_dkim,
        )
    )


ED25519_BY_MAIL_DKIM = witness.mail_dkim_on_ed25519()


def expected(signed: Signed) -> tuple[list[str], ...]:
    if signed.kind == "domainkeys":
        return (["domainkeys:pass"],)
    if signed.algorithm == "ed25519-sha256":
        return (["pass"], ["pass"], [ED25519_BY_MAIL_DKIM])
    return (["pass"], ["pass"], ["dkim:pass"])


CHANGES = {
    "line-ends": (b"\r\n", b"\n"),
    "body": (b"dinner", b"dinneR"),
    "header": (b"two", b"twO"),
    "other-header": (b"\r\nTo: j", b"\r\nTo: J"),
    "folded-header": (b"Joe\r\n", b"Jo\r\n"),
    "line-added": (b"\r\nHi", b"\r\n\r\nHi"),
}


@pytest.fixture(scope="module")
def judged(signed: Signed, keys: Keys, nameserver: NameServer) -> dict[str, tuple[list[str], ...]]:
    """The verdicts on the signed message ('untouched') and on each changed one, in one call of each
    witness."""
    messages = {"untouched": signed.message}
    for change, (before, after) in CHANGES.items():
        assert before in signed.message
        messages[change] = signed.message.replace(before, after)
    return dict(zip(messages, verdicts(list(messages.values()), keys, nameserver, signed.kind)))


@pytest.mark.parametrize("message", ["untouched", "line-ends"])
def test_a_good_signature_passes(
    signed: Signed, judged: dict[str, tuple[list[str], ...]], message: str
) -> None:
    assert judged[message] == expected(signed)


@pytest.mark.parametrize("change", [change for change in CHANGES if change != "line-ends"])
def test_a_changed_message_passes_nowhere(judged: dict[str, tuple[list[str], ...]], change: str) -> None:
    assert [len(each) for each in judged[change]] == [1] * len(judged[change])
    assert not [each for each in judged[change] if each[0].endswith("pass")]


@pytest.mark.parametrize(
    ("record", "reasons"),
    [
        pytest.param(
            "none",
            (
                "fail: missing public key: b'rsa2048._domainkey.example.com.'",
                "fail: key not found in DNS",
                "dkim:invalid (public key: not available)",
            ),
            id="no-record",
        ),
        pytest.param(
            "another",
            (
                "fail: signature does not verify",
                "fail: signature verification failed",
                "dkim:fail (bad RSA signature)",
            ),
            id="another-key",
        ),
    ],
)
def test_without_the_right_key_all_refuse(keys: Keys, record: str, reasons: tuple[str, ...]) -> None:
    message = by_dkimpy(keys, "rsa-sha256", "relaxed/relaxed", "rsa2048")
    records = {"rsa2048._domainkey.example.com": [another_key(keys)]} if record == "another" else {}
    with NameServer(records) as server:
        [found] = verdicts([message], keys._replace(records=records), server, "dkim")
    assert found == tuple([reason] for reason in reasons)


def another_key(keys: Keys) -> bytes:
    """Return the record of another key than rsa2048, with a greater modulus.

    With a smaller one the signature may be too large for it, and Mail::DKIM has other words for that.
    """
    ours = serialization.load_pem_private_key(keys.pems["rsa2048"], None)
    assert isinstance(ours, rsa.RSAPrivateKey)
    while True:
        other = rsa.generate_private_key(65537, 2048).public_key()
        if other.public_numbers().n > ours.public_key().public_numbers().n:
            return witness.record(
                other.public_bytes(
                    serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
                )
            )


def test_each_signature_has_its_own_verdict_in_order(keys: Keys, nameserver: NameServer) -> None:
    good = by_mail_dkim(keys, "rsa-sha256", "relaxed/relaxed", "dkim")
    bad = good[: good.index(b"From:")].replace(b"s=rsa2048", b"s=rsa2048; n=1")
    message = b"DKIM-Signature: rubbish\r\n" + bad + good
    assert witness.opendkim_verdicts([message, MESSAGE], keys.records) == [
        ["fail: domain tag missing", "fail: signature verification failed", "pass"],
        [],
    ]
    assert witness.dkimpy_verdicts([message, MESSAGE], keys.records) == [
        ["unreadable: b'rubbish'", "fail: signature does not verify", "pass"],
        [],
    ]
    assert witness.mail_dkim_verdicts([message, MESSAGE], nameserver.port) == [
        ["dkim:unparsable (syntax error)", "dkim:fail (message has been altered)", "dkim:pass"],
        [],
    ]


@pytest.mark.parametrize(
    ("message", "octets"),
    [
        (b"", b""),
        (b"a: b\n\nc", b"a: b\r\n\r\nc\r\n"),
        (b"a: b\r\n\r\nc\rd\r\r\n", b"a: b\r\n\r\nc\rd\r\r\n"),
        (b"a: b\r\n\nc\n", b"a: b\r\n\r\nc\r\n"),
    ],
)
def test_as_smtp_carries(message: bytes, octets: bytes) -> None:
    assert witness.as_smtp_carries(message) == octets


def test_dkimpy_with_the_name_server(keys: Keys, nameserver: NameServer) -> None:
    message = by_opendkim(keys)
    assert witness.dkimpy_verdicts([message], {}, witness.nameserver_dnsfunc(nameserver.port)) == [["pass"]]


def test_a_dead_verifier_is_an_error_not_a_verdict(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witness, "PERL_SCRIPT", tmp_path / "absent.pl")
    with pytest.raises(witness.WitnessError, match="perl: exit status 2, 0 answers for 1 messages"):
        witness.mail_dkim_verdicts([MESSAGE], 53)


def test_name_server_answers() -> None:
    with NameServer() as server:
        look_up = witness.nameserver_dnsfunc(server.port)
        assert look_up(b"a.example.com.") is None
        server.records["a.example.com"] = [b"x" * 400]
        server.aliases["b.example.com"] = "a.example.com"
        server.records["long.example.com"] = [b"y" * 5000]
        server.broken.add("broken.example.com")
        assert look_up(b"A.example.com.") == b"x" * 400
        assert look_up(b"b.example.com.") == b"x" * 400
        assert look_up("long.example.com") == b"y" * 5000
        with pytest.raises(witness.WitnessError, match="DNS answer SERVFAIL"):
            look_up("broken.example.com")
        assert server.asked == [
            ("udp", "a.example.com"),
            ("udp", "a.example.com"),
            ("udp", "b.example.com"),
            ("udp", "long.example.com"),
            ("tcp", "long.example.com"),
            ("udp", "broken.example.com"),
        ]
