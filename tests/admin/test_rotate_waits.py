"""``dkimpipe rotate`` with BIND: a key signs once its record is exactly right, and not before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dns.query
import dns.rcode
import dns.update
import pytest
from bind import Bind, needs_bind, serving
from conftest import Keys
from dns.rdataclass import IN
from dns.rdatatype import TXT as TXT_TYPE
from dns.rdtypes.ANY.TXT import TXT
from records import PRIVATE, SAMPLES, same, warnings
from rolling import BEGIN, DAY, HOUR, NEW, ONE, House, Order, orders

from dkimpipe import publickey
from dkimpipe.admin.dns.update import read_tsig_key

pytestmark = needs_bind
OWNER = f"{NEW}._domainkey.dynamic.example"
BROKEN = (
    # From public reports.
    *("----- DKIM key", "p twice same", "v last", "ed spki", "pem in p", "dot after p", "paren"),
    *("“ round p", "smart quotes", "lines, literal \\n", "lines, n", "+ to blank", "base64url"),
    *("split in two records", "backslash ;", "split quotes"),
    # More of the kind.
    *("<br> after ;", "p twice, other last", "v middle", "ed 64", "pem end in p", "p cut 255", "l for I"),
    *("zwsp in p", "%2B", "missing one pad", "two keys", "\\059", "quotes round", "other key", "spf before"),
    *("k=RSA", "n to 1025", "bare", "p empty", "512 bits", "g=alice", "h=sha1", "s=tlsrpt", "utf16"),
    # Accepted by all verifiers.
    *("t=y", "lf between", "h=sha256:", "t=s,y", "quotes round p", "n qp bad", "cr at end"),
)


@pytest.fixture(scope="module")
def bind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bind]:
    with serving(tmp_path_factory.mktemp("bind")) as server:
        yield server


def put(bind: Bind, owner: str, texts: list[bytes]) -> None:
    """Have these TXT records at a name, and no others."""
    update = dns.update.Update("dynamic.example", keyring=read_tsig_key(f"{bind.directory}/good.key"))
    update.delete(f"{owner}.", "TXT")
    for text in texts:
        strings = [text[at : at + 255] for at in range(0, len(text), 255)] or [b""]
        update.add(f"{owner}.", 60, TXT(IN, TXT_TYPE, strings))
    assert dns.query.tcp(update, "127.0.0.1", 5, bind.port).rcode() == dns.rcode.NOERROR


@pytest.fixture
def house(keys: Keys, tmp_path: Path, bind: Bind, request: pytest.FixtureRequest) -> Iterator[House]:
    """A house whose key has its record; it is of the type that the sample is for."""
    kind = "ed25519" if getattr(request, "param", "").startswith("ed ") else "rsa1024"
    senders = ONE.replace("example.com", "dynamic.example").replace("rsa1024", kind)
    made = House(tmp_path, keys, senders, f"--look-at={bind.server}")
    old = "old._domainkey.dynamic.example"
    put(bind, old, [publickey.record_value(f"{tmp_path}/{kind}.pem").encode()])
    yield made
    put(bind, old, [])
    put(bind, OWNER, [])


def test_the_samples_are_there() -> None:
    assert [name for name in BROKEN if not (SAMPLES[name].error or warnings(name))] == []
    assert len(set(BROKEN)) == len(BROKEN)


@pytest.mark.parametrize(("house", "name"), [(name, name) for name in BROKEN], indirect=["house"], ids=BROKEN)
def test_no_signature_before_the_record_is_right(house: House, bind: Bind, name: str) -> None:
    (order,) = orders(house.said(BEGIN))
    value = order.value.encode()
    sample = SAMPLES[name] if SAMPLES[name].make(value) != [value] else SAMPLES["512 bits"]
    broken = [b"v=DKIM1; k=rsa; p=AAAA"] if sample.make is same else sample.make(value)
    before = house.senders.read_text()

    def is_held_back(now: int) -> None:
        """It says what is wrong, each time, and the old key goes on signing."""
        put(bind, OWNER, broken)
        for later in (0, HOUR, 3 * DAY, 30 * DAY):
            done = house.rotate(now + later)
            assert (done.status, done.stderr, house.states[NEW]) == (0, "", "generated")
            said = done.stdout.decode()
            assert said.startswith(f"{OWNER}: ")
            is_lost = PRIVATE in said
            assert orders(said) == ([] if is_lost else [Order(OWNER, order.value)])
            assert house.senders.read_text() == before
        put(bind, OWNER, [value])
        assert f"{OWNER}: published; " in house.said(now + 31 * DAY)

    is_held_back(BEGIN + DAY)
    is_held_back(BEGIN + 40 * DAY)  # the record was right, and is not when it counts
    assert "signs from now on" in house.said(BEGIN + 73 * DAY)
    assert house.states == {"old": "retiring", NEW: "active"}
    assert house.senders.read_text() != before


def publishing(house: House, bind: Bind) -> House:
    house.arguments = (
        *house.arguments,
        "--publish",
        f"--server={bind.server}",
        f"--tsig={bind.directory}/good.key",
    )
    return house


def test_a_record_with_a_warning_is_not_published_over(house: House, bind: Bind) -> None:
    publishing(house, bind).said(BEGIN)
    (value,) = bind.dig(OWNER)
    put(bind, OWNER, [value.replace("; p=", "; t=y; p=").encode()])
    said = house.said(BEGIN + 2 * DAY)
    assert said.startswith(f"{OWNER}: t=y is left on: verifiers treat the mail as unsigned, according to ")
    assert (len(bind.dig(OWNER)), house.states[NEW]) == (1, "generated")


def test_another_record_is_an_error_whose_hint_helps(house: House, bind: Bind) -> None:
    publishing(house, bind).said(BEGIN)
    (value,) = bind.dig(OWNER)
    put(bind, OWNER, [value.encode() + b"; <br>"])
    done = house.rotate(BEGIN + 2 * DAY)
    assert (done.status, done.stderr) == (
        78,
        f"dkimpipe: {OWNER} has another TXT record: '{value}; <br>'\n"
        "hint: # delete it from DNS; the next run publishes the right one\n",
    )
    put(bind, OWNER, [])
    assert house.said(BEGIN + 3 * DAY).startswith(f"{OWNER}: added\n{OWNER}: published; it will sign from ")
    assert "signs from now on" in house.said(BEGIN + 4 * DAY)


def test_a_record_that_was_lost_has_to_wait_again(house: House, bind: Bind) -> None:
    """Resolvers may cache its absence, though it is published again at once."""
    assert f"{OWNER}: published; " in publishing(house, bind).said(BEGIN)
    put(bind, OWNER, [])
    assert house.said(BEGIN + 2 * DAY).startswith(f"{OWNER}: added\n{OWNER}: published; it will sign from ")
    assert house.states == {"old": "active", NEW: "published"}


def test_an_active_key_with_a_warning_is_no_error(house: House, bind: Bind) -> None:
    """A domain may be testing DKIM for as long as it likes; ``check --dns`` warns of it."""
    old = "old._domainkey.dynamic.example"
    (value,) = bind.dig(old)
    put(bind, old, [value.replace("; p=", "; t=y; p=").encode()])
    assert house.said(BEGIN - DAY, "--age=100000d") == ""
