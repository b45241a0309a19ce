"""``check --postfix``: whether what ``relay`` names answers, and is a way back."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import settled
from diagnosis import GOOD, MAIN, MASTER, check, edit, fill, fix, run, write

from dkimpipe.admin.postfix import answering, incoming, listener
from dkimpipe.admin.postfix.filter_service import SIGN
from dkimpipe.admin.postfix.postconf import Postconf


@contextmanager
def server(*replies: bytes) -> Iterator[str]:
    """A server on loopback that sends a greeting, and a reply to each command, and closes then."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            client, _ = listening.accept()
            with client:
                for at, reply in enumerate(replies):
                    if at:
                        client.recv(1000)
                    client.sendall(reply)
                if not replies:
                    client.recv(1000)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        thread.join(5)


# Replies of a server, and what is wrong with it.
SERVERS = {
    "an SMTP server": ((b"220 mx ESMTP\r\n", b"250-mx\r\n250 XFORWARD\r\n", b"221 bye\r\n"), ""),
    "a server that refuses": ((b"554 no\r\n",), "it replies 554"),
    "a server that is too busy": ((b"421 busy\r\n",), "it replies 421"),
    "a server without EHLO": (
        (b"220 mx SMTP\r\n", b"502 what?\r\n", b"221 bye\r\n"),
        "it replies 502 what? to EHLO",
    ),
    "a server that closes": ((b"",), "it closes the connection"),
    "a server that greets and closes": ((b"220 mx ESMTP\r\n",), "it closes the connection"),
    "a silent server": ((), "no reply within 0.5 s"),
    "a server of something else": ((b"SSH-2.0-OpenSSH\r\n",), "it replies -1"),
}


@pytest.mark.parametrize("name", SERVERS)
def test_an_smtp_server_greets_and_takes_ehlo(name: str) -> None:
    replies, fault = SERVERS[name]
    with server(*replies) as address:
        assert answering.fault(address, 0.5) == fault


def test_a_port_where_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    assert answering.fault(address, 0.5) == "connection refused"


def test_a_listener_elsewhere_that_answers_is_not_created_again(
    tmp_path: Path, words: dict[str, str]
) -> None:
    """Two listeners on one port: Postfix would not start."""
    replies = (b"220 mx ESMTP\r\n", b"250 mx\r\n", b"221 bye\r\n")
    postconf = Postconf(write(tmp_path / "postfix", MAIN, MASTER, words))
    with server(*replies) as address:
        assert list(listener.missing(postconf, address, False)) == []
    assert [each.option for each in listener.missing(postconf, address, False)][-1:] == ["-M"]


RELAY = "PROGRAM => PROGRAM --relay="
BY_NUMBER = "submission inet n => 587 inet n"
POSTSCREEN = (
    "smtp      inet  n       -       y       -       -       smtpd =>"
    " smtp inet n - y - 1 postscreen{}\n-M 'smtpd/pass=smtpd pass - - y - - smtpd'"
)
# Edits by which a relay leads to where mail comes in, the relay, and that service.
INCOMING = {
    "for users": (f"{RELAY}127.0.0.1:587", "127.0.0.1:587", "submission/inet"),
    "for users, by number": (f"{RELAY}127.0.0.1:587\n{BY_NUMBER}", "127.0.0.1:587", "587/inet"),
    "for users, by the name of the host": (f"{RELAY}localhost:587", "localhost:587", "submission/inet"),
    "for users, by IPv6": (f"{RELAY}[::1]:587", "[::1]:587", "submission/inet"),
    "for users, by an address of this host": (f"{RELAY}INSIDE:587", "INSIDE:587", "submission/inet"),
    "for users, at an address": (
        f"{RELAY}127.0.0.1:587\nsubmission inet n => 127.0.0.1:submission inet n",
        "127.0.0.1:587",
        "127.0.0.1:submission/inet",
    ),
    "for other hosts": (f"{RELAY}127.0.0.1:25", "127.0.0.1:25", "smtp/inet"),
    "postscreen(8)": (f"{RELAY}127.0.0.1:25\n{POSTSCREEN.format('')}", "127.0.0.1:25", "smtp/inet"),
    "in two words": ("PROGRAM => PROGRAM --relay 127.0.0.1:587", "127.0.0.1:587", "submission/inet"),
    "in the conf file": ("SITE/conf => SITE/loop.conf", "127.0.0.1:587", "submission/inet"),
    "another port for users": (
        f"{RELAY}127.0.0.1:2587\nsubmission inet n => 2587 inet n",
        "127.0.0.1:2587",
        "2587/inet",
    ),
    "behind another filter": (
        f"{RELAY}127.0.0.1:2526\n-M 'spam/unix=spam unix - - n - - smtp'"
        "\n-P submission/inet/content_filter=spam:x"
        "\n-M '127.0.0.1:2526/inet=127.0.0.1:2526 inet n - n - - smtpd"
        " -o content_filter=dkimpipe:dummy -o smtpd_relay_restrictions=permit_mynetworks,reject'",
        "127.0.0.1:2526",
        "127.0.0.1:2526/inet",
    ),
}
NOT_INCOMING = {
    "the same port of another host": "192.0.2.99:587",
    "a port of its own": "127.0.0.1:10028",
}


@pytest.fixture
def with_relay(words: dict[str, str], directory: Path) -> Path:
    text = fill("sender_map SITE/senders\nrelay 127.0.0.1:587\n", words)
    (Path(words["SITE"]) / "loop.conf").write_text(text)
    return directory


@pytest.mark.parametrize("how", ["hints", "apply"])
@pytest.mark.parametrize("name", INCOMING)
def test_where_mail_comes_in_is_no_way_back(
    name: str, how: str, with_relay: Path, words: dict[str, str]
) -> None:
    """It loops until it has too many hops. What comes in there keeps its settings."""
    edits, relay, service = INCOMING[name]
    edit(with_relay, edits, words)
    before = Postconf(with_relay).overrides[service]
    status, output = check(with_relay)
    what = f"dkimpipe/unix: mail comes back by {fill(relay, words)}, which is {service}, where mail comes in"
    assert status == 78
    assert f"dkimpipe: error: {what}: it loops\n" in output
    if how == "hints":
        fix(with_relay, output)
    else:
        assert run(with_relay, "postfix", "--apply")[0] == 0
        settled(with_relay / "main.cf")
    assert "it loops" not in check(with_relay)[1]
    after = Postconf(with_relay)
    assert incoming.find(after, listener.relay_of(after, SIGN)) is None
    (back,) = listener.all_of(after)
    assert back.id != service
    changed = {*before.items()} - {*after.overrides[service].items()}
    assert {parameter for parameter, _ in changed} <= {"smtpd_discard_ehlo_keywords"}


@pytest.mark.parametrize("name", NOT_INCOMING)
def test_no_mail_comes_in_there(name: str, with_relay: Path, words: dict[str, str]) -> None:
    edit(with_relay, f"{RELAY}{NOT_INCOMING[name]}", words)
    assert incoming.find(Postconf(with_relay), NOT_INCOMING[name]) is None


def test_the_filter_that_verifies_does_not_return_mail_to_where_it_came_in(
    both: Path, words: dict[str, str]
) -> None:
    edit(both, "VERIFIER => VERIFIER --relay=127.0.0.1:25", words)
    what = "dkimpipe-verify/unix: mail comes back by 127.0.0.1:25, which is smtp/inet, where mail comes in"
    output = check(both)[1]
    assert f"dkimpipe: error: {what}: it loops\n" in output
    fix(both, output)
    assert "it loops" not in check(both)[1]


@pytest.mark.parametrize(
    "setting", ["smtpd_upstream_proxy_protocol = haproxy", "smtpd_command_filter = regexp:{{/x/ y}}"]
)
def test_what_main_cf_sets_for_clients_does_not_apply_to_the_listener(
    setting: str, tmp_path: Path, words: dict[str, str]
) -> None:
    own = "10100 inet n - n - - smtpd\n".replace("10100", "127.0.0.1:10100")
    master = MASTER.replace("PROGRAM", "PROGRAM --relay=127.0.0.1:10100") + own
    main = f"{MAIN}{setting}\n"
    directory = write(tmp_path / "postfix", main, master, words)
    name = setting.partition(" ")[0]
    hint = f"postconf -c {directory} -P 127.0.0.1:10100/inet/{name}="
    assert f"hint: {hint}\n" in check(directory)[1]
    assert run(directory, "postfix", "--apply")[0] == 0
    assert name not in check(directory)[1]
    (service,) = [each for each in Postconf(directory).running("smtpd") if each.port == "10100"]
    assert Postconf(directory).value(name, service.id) == ""


# What main.cf says of the name of an instance, and its syslog_name.
INSTANCES = {
    "the only one": ("", "postfix"),
    "one of several": ("multi_instance_name = postfix-two\n", "postfix-two"),
    "a name of its own": ("syslog_name = out\n", "out"),
    "by the queue": ("queue_directory = /var/spool/postfix\nsyslog_name = ${queue_directory}-x\n", "*"),
}


@pytest.mark.parametrize("name", INSTANCES)
def test_the_log_of_the_listener_has_the_name_of_the_instance(
    name: str, tmp_path: Path, words: dict[str, str]
) -> None:
    line, prefix = INSTANCES[name]
    prefix = prefix.replace("*", "/var/spool/postfix-x")
    directory = write(tmp_path / "postfix", MAIN + line, MASTER, words)
    assert run(directory, "postfix", "--apply", "--relay")[0] == 0
    settled(directory / "main.cf")
    assert f"syslog_name={prefix}/dkimpipe" in (directory / "master.cf").read_text()
    assert run(directory, "postfix", "--apply", "--relay")[1] == "nothing to change\n"


def test_a_listener_with_the_name_of_another_instance(directory: Path, words: dict[str, str]) -> None:
    assert run(directory, "postfix", "--apply", "--relay")[0] == 0
    settled(directory / "main.cf")
    edit(directory, "-e multi_instance_name=postfix-two", words)
    status, output = check(directory)
    assert status == 0
    what = (
        "/inet/syslog_name: audit does not find the log of the listener: it has the name of another instance"
    )
    assert what in output
    fix(directory, output)
    assert check(directory) == GOOD
    assert listener.unused_address(Postconf(directory)).startswith("127.0.0.1:")
