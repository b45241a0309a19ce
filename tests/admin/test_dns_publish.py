"""``dkimpipe dns --publish``: a real name server, and what verifiers say of the records."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdataset
import dns.tsig
import dns.zone
import pytest
import witness
from bind import PROGRAMS, SOA, Bind, free_port, needs_bind, serving, tsig_key
from conftest import MESSAGE, PROJECT, Done, Keys, run_filter, write_key
from nameserver import NameServer
from recording import ED, KINDS, plain, run, value, with_tags

from dkimpipe.admin.dns import record
from dkimpipe.admin.dns import update as publish
from dkimpipe.errors import ConfigError
from dkimpipe.verify.nameserver import Server

# A real name server.


def update(bind: Bind, path: Path, *arguments: object, tsig: str = "good") -> Done:
    """Run ``dkimpipe dns --publish`` there, or what the arguments say instead."""
    action = () if "--delete" in arguments else ("--publish",)
    where = ("--server", bind.server, "--tsig", bind.directory / f"{tsig}.key")
    return run("--sender_map", path, *action, *where, *arguments)


NOTES = 'say "x"; \\o/'


@pytest.fixture(scope="module")
def bind(keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bind]:
    signatures = ", ".join(f"dkim(s={kind},key=KEYS/{kind}.pem)" for kind in KINDS)
    path = keys.senders(f"static.example {signatures}\n", "static")
    lines = run("--sender_map", path, "--relative", "static.example", "--notes", NOTES).stdout.decode()
    directory = tmp_path_factory.mktemp("bind")
    tsig_key(directory, "wrong", "good", b"Secret")
    tsig_key(directory, "unknown", "unknown")
    with serving(directory, SOA + lines) as served:
        yield served


@needs_bind
@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
def test_bind_serves_what_the_zone_file_says(keys: Keys, bind: Bind, transport: str) -> None:
    for kind in KINDS:
        expected = with_tags(keys, kind, f"n={record.notes(NOTES)}")
        assert bind.dig(f"{kind}._domainkey.static.example", transport) == [expected]


@needs_bind
def test_named_checkzone_takes_absolute_names_too(keys: Keys, tmp_path: Path) -> None:
    path = keys.senders(f"static.example dkim({ED}), dkim(s=r,key=KEYS/rsa4096.pem)\n")
    arguments = ("--notes", NOTES, "--policy", "~", "--dmarc")
    lines = run("--sender_map", path, *arguments).stdout.decode()
    (tmp_path / "zone").write_text(SOA + lines)
    command = [PROGRAMS["named-checkzone"], "-D", "static.example", str(tmp_path / "zone")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.count(" IN TXT\t") == 5
    parsed = dns.zone.from_text(SOA + lines, "static.example")
    for name, expected in plain(path, *arguments).items():
        (rdata,) = parsed.find_rdataset(dns.name.from_text(name), "TXT")
        assert b"".join(rdata.strings).decode() == expected


@needs_bind
def test_nsupdate_takes_its_format(keys: Keys, bind: Bind) -> None:
    signatures = ", ".join(f"dkim(s=n-{kind},key=KEYS/{kind}.pem)" for kind in KINDS)
    path = keys.senders(f"dynamic.example {signatures}\n")
    for notes in ("first", NOTES):
        commands = run("--sender_map", path, "--format", "nsupdate", "--notes", notes).stdout.decode()
        subprocess.run(
            [PROGRAMS["nsupdate"], "-k", str(bind.directory / "good.key")],
            input=f"server 127.0.0.1 {bind.port}\n{commands}",
            text=True,
            check=True,
        )
        for name, expected in plain(path, "--notes", notes).items():
            assert bind.dig(name) == [expected]


@needs_bind
def test_publish_and_delete(keys: Keys, bind: Bind) -> None:
    signatures = ", ".join(f"dkim(s=p-{kind},key=KEYS/{kind}.pem)" for kind in KINDS)
    path = keys.senders(f"dynamic.example {signatures}\n")
    records = plain(path)
    for arguments, word in (
        ([], "added"),
        ([], "already there"),
        (["--ttl", "61"], "replaced"),
        (["--ttl", "61", "--zone", "dynamic.example"], "already there"),
    ):
        done = update(bind, path, *arguments)
        assert done == (0, "".join(f"{name}: {word}\n" for name in records).encode(), "")
        assert [bind.dig(name) for name in records] == [[text] for text in records.values()]
    for word in ("deleted", "not there"):
        done = update(bind, path, "--delete", "dynamic.example")
        assert done == (0, "".join(f"{name}: {word}\n" for name in records).encode(), "")
        assert [bind.dig(name) for name in records] == [[]] * len(records)


@needs_bind
def test_a_record_that_another_entry_needs_is_not_deleted(keys: Keys, bind: Bind) -> None:
    path = keys.senders(f"dynamic.example dkim({ED})\na@dynamic.example dkim({ED})\n")
    update(bind, path)
    name = "ed25519._domainkey.dynamic.example"
    assert update(bind, path, "--delete", "a@dynamic.example") == (
        78,
        b"",
        f"dkimpipe: {name}: {path}, line 1 also needs this record\nhint: name that entry as well\n",
    )
    assert bind.dig(name) != []
    assert update(bind, path, "--delete", "a@dynamic.example", "dynamic.example").status == 0
    assert bind.dig(name) == []


@needs_bind
def test_a_record_that_is_too_long_for_dns(keys: Keys, bind: Bind) -> None:
    path = keys.senders(f"dynamic.example dkim({ED})\n")
    done = update(bind, path, "--notes", "x" * 70000)
    assert (done.status, done.stdout) == (78, b"")
    assert re.fullmatch(
        r"dkimpipe: \S+: key record is too large\n"
        r"dkimpipe: a record of 70\d\d\d bytes is too long for DNS\nhint: shorten --notes\n",
        done.stderr,
    )


@needs_bind
def test_another_record_is_replaced_only_if_told_so(keys: Keys, bind: Bind) -> None:
    path = keys.senders(
        "dynamic.example dkim(s=first,key=KEYS/ed25519.pem), dkim(s=other,key=KEYS/ed25519.pem)\n"
    )
    first, other = plain(path)
    commands = f'update add {other}. 60 TXT "a \\"b\\""\nupdate add {other}. 60 TXT "c"\nsend\n'
    subprocess.run(
        [PROGRAMS["nsupdate"], "-k", str(bind.directory / "good.key")],
        input=f"server 127.0.0.1 {bind.port}\n{commands}",
        text=True,
        check=True,
    )
    refusal = f"dkimpipe: {other} has another TXT record: 'a \"b\"' and 'c'\nhint: --replace overwrites it\n"
    assert update(bind, path) == (78, b"", refusal)
    assert update(bind, path, "--delete", "dynamic.example") == (78, b"", refusal)
    assert (bind.dig(first), sorted(bind.dig(other))) == ([], ['a "b"', "c"])
    assert update(bind, path, "--replace").stdout.decode() == f"{first}: added\n{other}: replaced\n"
    assert bind.dig(other) == [value(keys, "ed25519")]
    assert update(bind, path, "--delete", "dynamic.example", "--replace", "--notes", "x").status == 0
    assert bind.dig(other) == []


@needs_bind
def test_the_record_of_a_public_half_is_not_published(keys: Keys, bind: Bind, tmp_path: Path) -> None:
    """The key file contains p= of the record that is there: anyone could sign."""
    right = keys.senders("dynamic.example dkim(s=half,key=KEYS/ed25519.pem)\n")
    (name,) = plain(right)
    assert update(bind, right).status == 0
    write_key(tmp_path / "swapped", value(keys, "ed25519").rpartition("p=")[2].encode())
    swapped = keys.senders(f"dynamic.example dkim(s=half,key={tmp_path}/swapped)\n")
    for arguments in ((), ("--replace",)):
        done = update(bind, swapped, *arguments)
        assert (done.status, done.stdout) == (78, b"")
        assert done.stderr.startswith(f"dkimpipe: {name}: the key file contains the public half: p= is")
    assert bind.dig(name) == [value(keys, "ed25519")]
    assert update(bind, swapped, "--delete", "--replace", "dynamic.example").status == 0


@needs_bind
def test_nothing_else_at_the_name_is_touched(keys: Keys, bind: Bind) -> None:
    path = keys.senders(f"dynamic.example dkim(s=alias,{ED.partition(',')[2]})\n")
    name = "alias._domainkey.dynamic.example"
    words = f"dkimpipe: {name} is an alias (CNAME) of ns.dynamic.example\nhint: publish the record there\n"
    assert update(bind, path) == (78, b"", words)


@needs_bind
@pytest.mark.parametrize("domain", ["text.dynamic.example", "alias.dynamic.example"])
def test_a_wildcard_is_not_at_the_name(keys: Keys, bind: Bind, domain: str) -> None:
    path = keys.senders(f"{domain} dkim({ED})\n")
    ((name, text),) = plain(path).items()
    before = bind.dig(name)
    assert update(bind, path).stdout.decode() == f"{name}: added\n"
    assert bind.dig(name) == [text]
    assert update(bind, path, "--delete", domain).stdout.decode() == f"{name}: deleted\n"
    assert bind.dig(name) == before


@needs_bind
def test_an_update_is_refused_if_somebody_was_faster(bind: Bind) -> None:
    key = publish.read_tsig_key(str(bind.directory / "good.key"))
    primary = publish.Primary(Server("127.0.0.1", bind.port), key)
    name, origin = dns.name.from_text("race.dynamic.example"), dns.name.from_text("dynamic.example")
    publish.publish(primary, [record.Record("race.dynamic.example", "x")], 60, "", False)
    with pytest.raises(ConfigError, match="YXRRSET"):
        primary.make(publish.Change(name, origin, None, None))


REFUSED = {
    "powerless": ("refused the request (REFUSED)", "permit it for this key: update-policy or allow-update"),
    "wrong": ("has a different secret for this key (BADSIG)", "copy the secret from the server"),
    "unknown": ("does not know this key (BADKEY)", "name and algorithm must match the server's"),
}


@needs_bind
@pytest.mark.parametrize(("tsig", "words"), REFUSED.items(), ids=REFUSED)
def test_refused(keys: Keys, bind: Bind, tsig: str, words: tuple[str, str]) -> None:
    path = keys.senders(f"dynamic.example dkim({ED})\n")
    name = "ed25519._domainkey.dynamic.example"
    cause, hint = words
    expected = f"dkimpipe: {name}: {bind.server} {cause}\nhint: {hint}\n"
    assert update(bind, path, tsig=tsig) == (78, b"", expected)


@needs_bind
def test_clocks_that_differ(keys: Keys, bind: Bind, monkeypatch: pytest.MonkeyPatch) -> None:
    path = keys.senders(f"dynamic.example dkim({ED})\n")
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 3600)
    done = update(bind, path)
    monkeypatch.undo()
    assert (done.status, done.stdout) == (78, b"")
    assert done.stderr.endswith(
        "has a different time (BADTIME)\nhint: set both clocks: the limit is five minutes\n"
    )


ELSEWHERE = {
    "another-zone": ([], "example.com", "refused the request (REFUSED)"),
    "not-its-zone": (["--zone", "example.com"], "example.com", "refused the request (REFUSED)"),
    "no-update-of-this-zone": ([], "static.example", "refused the request (REFUSED)"),
    "not-in-the-zone": (["--zone", "static.example"], "dynamic.example", "is not in the zone static.example"),
}


@needs_bind
@pytest.mark.parametrize(("arguments", "domain", "words"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_wrong_zone(keys: Keys, bind: Bind, arguments: list[str], domain: str, words: str) -> None:
    path = keys.senders(f"{domain} dkim(s=x,{ED.partition(',')[2]})\n")
    done = update(bind, path, *arguments)
    assert (done.status, done.stdout) == (78, b"")
    assert words in done.stderr.splitlines()[0]


def test_nothing_is_published_if_an_entry_is_wrong(keys: Keys, tmp_path: Path) -> None:
    path = keys.senders(f"example.com dkim({ED})\nexample.org dkim(\n")
    tsig = tsig_key(tmp_path, "good", "good")
    with NameServer() as server:
        done = run("--sender_map", path, "--publish", "--server", f"127.0.0.1#{server.port}", "--tsig", tsig)
        assert not server.asked
    assert done.status == 78
    assert done.stderr.endswith(
        "nothing was changed in DNS\nhint: fix this, or name only the entries without errors\n"
    )


TSIG = dns.tsig.Key("good", b"secret")
Answer = Callable[[bytes], bytes]


@contextlib.contextmanager
def answering(*answers: Answer) -> Iterator[str]:
    """Answer so many questions by UDP; yield IP#PORT."""
    with socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.settimeout(5)

        def answer() -> None:
            for one in answers:
                question, there = udp.recvfrom(65536)
                udp.sendto(one(question), there)

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"127.0.0.1#{udp.getsockname()[1]}"
        thread.join()


def signed(code: str) -> Answer:
    """Return what answers with this code and no records, signed."""

    def answer(question: bytes) -> bytes:
        response = dns.message.make_response(dns.message.from_wire(question, keyring=TSIG))
        response.set_rcode(dns.rcode.from_text(code))
        return response.to_wire()

    return answer


def _changed(octets: bytes) -> bytes:
    """Return a message as if its server were not responsible, or were."""
    return octets[:2] + bytes([octets[2] ^ 4]) + octets[3:]


def unsigned(question: bytes) -> bytes:
    """Answer without a TSIG."""
    return question[:2] + b"\x84\0\0\1" + b"\0" * 6 + question[12 : question.index(b"\0", 12) + 5]


ANSWERS = {
    "unsigned": (
        [unsigned],
        "sent an answer that is damaged or not signed\nhint: check that it supports TSIG",
    ),
    "damaged": (
        [lambda question: question[:2] + b"\x84\0\0\1" + b"\0" * 6],
        "sent an answer that is damaged",
    ),
    "wrong-signature": (
        [lambda question: _changed(signed("NOERROR")(question))],
        "sent an invalid answer: The TSIG signature fails to verify.\n",
    ),
    "notauth": (
        [signed("NOTAUTH")],
        "is not authoritative for the zone (NOTAUTH)\nhint: name its primary server: --server\n",
    ),
    "notzone": (
        [signed("NOTZONE")],
        "reports that the name is not in the zone (NOTZONE)\nhint: name its zone: --zone\n",
    ),
    "notimp": (
        [signed("NOTIMP")],
        "does not accept updates (NOTIMP)\nhint: name the zone's primary server: --server\n",
    ),
    "servfail": ([signed("SERVFAIL")], "failed (SERVFAIL)\nhint: see its log\n"),
    "nxrrset": ([signed("NXRRSET")], "has different records from a moment ago (NXRRSET)\nhint: try again\n"),
    "formerr": ([signed("FORMERR")], "answered FORMERR\n"),
    "no-zone": (
        [signed("NXDOMAIN")],
        "is not authoritative for its zone\nhint: name its primary server: --server\n",
    ),
}


@pytest.mark.parametrize(("answers", "words"), ANSWERS.values(), ids=ANSWERS)
def test_answer_that_does_not_help(keys: Keys, tmp_path: Path, answers: list[Answer], words: str) -> None:
    path, tsig = keys.senders(f"example.com dkim({ED})\n"), tsig_key(tmp_path, "good", "good")
    with answering(*answers) as server:
        done = run("--sender_map", path, "--publish", "--server", server, "--tsig", tsig)
    assert (done.status, done.stdout) == (78, b"")
    assert f"{server} {words}" in done.stderr


def test_update_that_is_taken_but_not_made(keys: Keys, tmp_path: Path) -> None:
    path, tsig = keys.senders(f"example.com dkim({ED})\n"), tsig_key(tmp_path, "good", "good")
    with answering(*[signed("NOERROR")] * 3) as server:
        where = ("--publish", "--server", server, "--tsig", tsig, "--zone", "example.com.")
        done = run("--sender_map", path, *where)
    words = f"{server} accepted the update, but does not serve it\nhint: see its log\n"
    assert done == (78, b"", f"dkimpipe: ed25519._domainkey.example.com: {words}")


def test_server_that_cannot_be_reached() -> None:
    primary = publish.Primary(Server("127.0.0.1", free_port()), TSIG)
    large = dns.rdataset.from_text("IN", "TXT", 60, " ".join(["x" * 250] * 3))  # it goes by TCP
    name, origin = dns.name.from_text("a.example.com"), dns.name.from_text("example.com")
    with pytest.raises(ConfigError, match="cannot be queried: Connection refused"):
        primary.make(publish.Change(name, origin, None, large))


def test_server_that_does_not_answer(keys: Keys, tmp_path: Path) -> None:
    path, tsig = keys.senders(f"example.com dkim({ED})\n"), tsig_key(tmp_path, "good", "good")
    with socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        server = f"127.0.0.1#{udp.getsockname()[1]}"
        where = ("--publish", "--server", server, "--tsig", tsig, "--timeout", "0.2")
        done = run("--sender_map", path, *where)
    name = "ed25519._domainkey.example.com"
    words = f"{server} did not answer within 0.2 seconds\nhint: check that it is running and port 53 is open"
    assert done == (78, b"", f"dkimpipe: {name}: {words}\n")


KEY_FILES = {
    "empty": ("", "does not contain exactly one key"),
    "two": ('key "a" { algorithm hmac-sha256; secret "eA=="; };' * 2, "does not contain exactly one key"),
    "conf": ("options { };", "does not contain exactly one key"),
    "algorithm": ('key "a" { algorithm rsa; secret "eA=="; };', "unknown algorithm"),
    "no-secret": ('key "a" { algorithm hmac-sha256; };', "invalid name or secret"),
    "secret": ('key "a" { algorithm hmac-sha256; secret "?"; };', "invalid name or secret"),
    "name": ('key "a..b" { algorithm hmac-sha256; secret "eA=="; };', "invalid name or secret"),
}


@pytest.mark.parametrize(("text", "words"), KEY_FILES.values(), ids=KEY_FILES)
def test_bad_key_file(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError) as error:
        publish.read_tsig_key(str(path))
    assert str(error.value) == f"TSIG key file {path}: {words}".replace(": does", " does")


GOOD_KEY_FILES = {
    "as-written": 'key "a" {\n\talgorithm hmac-sha256;\n\tsecret "/+8=";\n};\n',
    "without-quotes": "key a { algorithm HMAC-SHA256; secret /+8=; }",
    "in-another-order": 'key "a" { secret "/+8="; algorithm "hmac-sha256"; };',
}


@pytest.mark.parametrize("text", GOOD_KEY_FILES.values(), ids=GOOD_KEY_FILES)
def test_key_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(0o640)
    key = publish.read_tsig_key(str(path))
    assert (key.name.to_text(), key.secret, key.algorithm.to_text()) == ("a.", b"\xff\xef", "hmac-sha256.")


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o620])
def test_exposed_key_file(tmp_path: Path, mode: int) -> None:
    path = tsig_key(tmp_path, "x", "x", mode=mode)
    with pytest.raises(ConfigError) as error:
        publish.read_tsig_key(str(path))
    assert str(error.value) == f"TSIG key file {path} is accessible to others (mode {mode:04o})"
    assert error.value.hint == f"chmod {mode & 0o640:04o} {path}"
    subprocess.run(["sh", "-ec", error.value.hint], check=True)
    assert publish.read_tsig_key(str(path)).secret == b"secret"


# What verifiers say.


@needs_bind
def test_signed_message_verifies_by_the_records(keys: Keys, bind: Bind) -> None:
    path = keys.senders(
        "dynamic.example "
        + ", ".join(f"dkim(s=v-{kind},key=KEYS/{kind}.pem)" for kind in KINDS)
        + ", domainkeys(s=v-rsa2048,key=KEYS/rsa2048.pem)\n"
    )
    done = update(bind, path, "--hash", "sha256", "--service", "email", "--strict", "--notes", NOTES)
    assert done.status == 0
    signed = run_filter(
        "--sender_map", str(path), message=MESSAGE.replace(b"example.com", b"dynamic.example")
    )
    dnsfunc = witness.nameserver_dnsfunc(bind.port)
    assert witness.dkimpy_verdicts([signed.stdout], {}, dnsfunc) == [["pass"] * len(KINDS)]
    (verdicts,) = witness.mail_dkim_verdicts([signed.stdout], bind.port)
    ed25519 = witness.mail_dkim_on_ed25519()
    assert sorted(verdicts) == sorted([ed25519, *["dkim:pass"] * 3, "domainkeys:pass"])


@needs_bind
def test_opendkim_finds_the_keys(keys: Keys, bind: Bind, tmp_path: Path) -> None:
    resolver = tmp_path / "unbound.conf"
    resolver.write_text(
        "server:\n  do-not-query-localhost: no\n  module-config: iterator\n"
        f"stub-zone:\n  name: static.example\n  stub-addr: 127.0.0.1@{bind.port}\n"
    )
    conf = tmp_path / "opendkim.conf"
    conf.write_text(f"ResolverConfiguration {resolver}\n")
    for kind in ("rsa1024", "rsa2048", "rsa4096"):
        where = ["-d", "static.example", "-s", kind, "-k", str(keys.path(kind))]
        command = [PROGRAMS["opendkim-testkey"], "-vvv", "-x", str(conf), *where]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "opendkim-testkey: key OK\n")


def test_as_a_command(keys: Keys) -> None:
    path = keys.senders(f"example.com dkim({ED})\n")
    command = [sys.executable, "-m", "dkimpipe", "dns", "--sender_map", str(path), "--ttl", "60"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT)
    line = f'ed25519._domainkey.example.com. 60 IN TXT ( "{value(keys, "ed25519")}" )\n'
    assert (done.returncode, done.stdout, done.stderr) == (0, line, "")
