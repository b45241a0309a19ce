"""With ``relay``: what a listener gets, octet for octet, and what becomes of mail whatever it replies."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from commandline import (
    BY_PATH,
    LOG_LINE,
    PYTHON,
    TEMPORARY_FAILURE,
    TIMEOUT,
    TO_BOB,
    UNSIGNED,
    Place,
    Word,
    in_process,
    is_signed,
    run,
    with_senders,
)
from conftest import MAIN, MESSAGE, Done
from listener import ALL, CLOSE, NOTHING, QUEUED, RESET, Listener, Reply, Then, keywords

from dkimpipe.config import read_command_line
from dkimpipe.errors import (
    ConfigError,
    HandoverError,
    RecipientError,
    SpoolError,
    Trouble,
    UsageError,
    one_line,
)
from dkimpipe.relay import address, send
from dkimpipe.spool import SpoolMemory

HOST = os.uname().nodename
HINT = "hint: dkimpipe check --postfix tests whether Postfix has this listener\n"
FROM_PIPE = ("--login=alice", "--client=192.0.2.1", "--client_name=client.example", "--queue_id=4AbcdE")
UNSIGNED_LINE = "dkimpipe: not signed: no entry for alice@example.org; queued as 4FxyzQ\n"
SIGNED_LINE = LOG_LINE.replace("; from=Alice <alice@example.com>", "; queued as 4FxyzQ")


WITH_PACKAGES = (PYTHON, "-I", str(MAIN))  # the verifier needs some


def no_copy(recipients: list[str], seconds: float) -> str:
    """Stand for a copy by sendmail(1) where there must be none."""
    raise AssertionError(recipients)


def relayed(
    place: Place,
    listener: Listener,
    *options: Word,
    message: bytes = MESSAGE,
    command: Sequence[Word] = BY_PATH,
    to: Sequence[Word] = TO_BOB,
) -> Done:
    """Run the filter with this listener as its relay."""
    arguments = ("--sender_map", str(place.senders), "--syslog=no", f"--relay={listener.address}")
    done = run(*arguments, *options, *to, message=message, command=command)
    listener.finish()
    return done


def sent(
    listener: Listener,
    *pieces: bytes,
    options: Sequence[str] = (),
    sender: bytes = b"alice@example.com",
    recipients: Sequence[bytes] = (b"bob@example.net",),
    spool: SpoolMemory | None = None,
    copy: Callable[[list[str], float], str] = no_copy,
) -> str:
    """Send pieces of a message in this process, and return what the log says of it."""
    addresses = [os.fsdecode(each) for each in (sender, b"--", *recipients)]
    settings = read_command_line([f"--relay={listener.address}", *options, "-f", *addresses])
    spool = spool or SpoolMemory()
    for piece in pieces or [UNSIGNED]:
        spool.write(piece)
    try:
        said = send(spool, settings, copy)
    except Trouble as trouble:
        error = trouble.with_traceback(None)  # which would hold the connection
        error.__context__ = None
    else:
        listener.finish()
        return said
    listener.finish()
    raise error


# The dialog

DIALOG = f"""\
EHLO {HOST}
XFORWARD NAME=client.example ADDR=192.0.2.1 IDENT=4AbcdE
MAIL FROM:<alice@example.org> BODY=8BITMIME SIZE={len(UNSIGNED)}
RCPT TO:<bob@example.net>
RCPT TO:<carol@example.net>
DATA
From: Alice <alice@example.org>
To: bob@example.net
Subject: hello

Hello, Bob.
.
QUIT
"""
TO_BOTH = ("-f", "alice@example.org", "--", "bob@example.net", "carol@example.net")


def test_the_whole_session(place: Place) -> None:
    with Listener() as listener:
        done = relayed(place, listener, *FROM_PIPE, message=UNSIGNED, to=TO_BOTH)
    assert done == (0, b"", UNSIGNED_LINE)
    assert [octets.decode() for octets in listener.sessions] == [DIALOG.replace("\n", "\r\n")]


def test_a_listener_without_extensions(place: Place) -> None:
    with Listener({"EHLO": keywords()}) as listener:
        done = relayed(place, listener, *FROM_PIPE, message=UNSIGNED, to=TO_BOTH)
    assert done == (0, b"", UNSIGNED_LINE)
    plain = re.sub(r"XFORWARD .*\n| BODY=.*", "", DIALOG).replace("\n", "\r\n")
    assert [octets.decode() for octets in listener.sessions] == [plain]


def test_a_signed_message_is_signed_once_and_whole(place: Place) -> None:
    with Listener() as listener:
        assert relayed(place, listener) == (0, b"", SIGNED_LINE)
    (mail,) = listener.mails
    assert is_signed(mail.text.replace(b"\r\n", b"\n"))
    assert mail.commands == [
        b"MAIL FROM:<alice@example.com> BODY=8BITMIME SIZE=%d" % len(mail.text.replace(b"\r\n", b"\n")),
        b"RCPT TO:<bob@example.net>",
    ]


def test_the_verifier_has_a_relay_too(place: Place) -> None:
    options = ["verify", "--hostname=mx.example.com", "--syslog=no", "--client_name=unknown"]
    with Listener() as listener:
        options += ["--client=2001:db8::1", f"--relay={listener.address}"]
        done = run(*options, *TO_BOB, message=UNSIGNED, command=WITH_PACKAGES)
    assert done == (0, b"", "dkimpipe: verified: dkim=none; queued as 4FxyzQ\n")
    (mail,) = listener.mails
    assert mail.text.startswith(b"Authentication-Results: mx.example.com;\r\n dkim=none\r\n")
    assert mail.text.endswith(UNSIGNED.replace(b"\n", b"\r\n"))
    assert b"\r\nXFORWARD NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::1\r\nMAIL" in listener.sessions[0]


@pytest.mark.parametrize("verb", [(), ("verify", "--hostname=mx.example.com")], ids=["sign", "verify"])
def test_without_recipients_a_relay_has_no_effect(place: Place, verb: tuple[str, ...]) -> None:
    options = verb or (f"--sender_map={place.senders}",)
    with Listener() as listener:
        done = run(*options, f"--relay={listener.address}", message=UNSIGNED, command=WITH_PACKAGES)
        assert run(*options, "--relay=nonsense", message=UNSIGNED, command=WITH_PACKAGES).status == 0
    assert done.status == 0
    assert done.stdout.endswith(UNSIGNED)
    assert listener.sessions == []


def test_with_a_relay_sendmail_never_runs(place: Place) -> None:
    with Listener({"dot": b"451 no\r\n"}) as listener:
        assert relayed(place, listener, "--sendmail=/no/such").status == TEMPORARY_FAILURE
    with Listener() as listener:
        assert relayed(place, listener, "--sendmail=/no/such").status == 0


# What may go wrong, at each step

REQUESTS = {
    "CONNECT": "CONNECT",
    "EHLO": f"EHLO {HOST}",
    "XFORWARD": "XFORWARD NAME=client.example ADDR=192.0.2.1 IDENT=4AbcdE",
    "MAIL": f"MAIL FROM:<alice@example.org> BODY=8BITMIME SIZE={len(UNSIGNED)}",
    "RCPT 1": "RCPT TO:<bob@example.net>",
    "RCPT 2": "RCPT TO:<carol@example.net>",
    "DATA": "DATA",
    "dot": "end of DATA",
}
REFUSED = "4.3.0 dkimpipe: relay ADDRESS said: {} (in reply to REQUEST)\n"
NO_SMTP = "4.3.0 dkimpipe: relay ADDRESS does not speak SMTP: {}\n"
LOST = f"4.4.2 dkimpipe: relay ADDRESS: {{}} after REQUEST\n{HINT}"
TOO_LONG = "4.3.0 dkimpipe: relay ADDRESS: reply to REQUEST too long\n"

FAULTS: dict[str, tuple[Reply, str]] = {
    "4xx": (b"451 4.3.0 later\r\n", REFUSED.format("451 4.3.0 later")),
    "5xx": (b"554-5.7.1 no\r\n554 5.7.1 never\r\n", REFUSED.format("554 5.7.1 no 5.7.1 never")),
    "1xx": (b"150 wait\r\n", REFUSED.format("150 wait")),
    "other 3xx": (b"334 \r\n", REFUSED.format("334 ")),
    "421 and gone": ((b"421 4.3.2 bye\r\n", CLOSE), REFUSED.format("421 4.3.2 bye")),
    "close": ((CLOSE,), LOST.format("connection closed")),
    "close in a reply": ((b"250-2.0.0 Ok\r\n250 Ok", CLOSE), LOST.format("connection closed")),
    "reset": ((0.05, RESET), LOST.format("Connection reset by peer")),
    "no digits": (b"OK\r\n", NO_SMTP.format("OK")),
    "HTTP": (b"HTTP/1.1 400 Bad Request\r\n\r\n", NO_SMTP.format("HTTP/1.1 400 Bad Request")),
    "empty line": (b"\r\n", NO_SMTP.format("")),
    "controls": (b"25\0\x1b\xff\xe2\x80\xae\r\n", NO_SMTP.format(r"25\x00\x1b\xff\u202e")),
    "no mark": (b"2500 Ok\r\n", NO_SMTP.format("2500 Ok")),
    "two codes": (b"451-no\r\n250 Ok\r\n", NO_SMTP.format("250 Ok")),
    "one long line": (b"250 " + b"x" * 80000 + b"\r\n", TOO_LONG),
    "many lines": (b"250-Ok\r\n" * 10000 + b"250 Ok\r\n", TOO_LONG),
    "line without end": ((b"250 " + b"x" * 80000, NOTHING), TOO_LONG),
}
HARMLESS = ("4xx", "5xx", "1xx", "other 3xx")  # to XFORWARD


@pytest.mark.parametrize("step", REQUESTS)
def test_a_fault_defers_the_mail_and_nothing_is_accepted(place: Place, step: str) -> None:
    outcomes: dict[str, tuple[object, ...]] = {}
    expected: dict[str, tuple[object, ...]] = {}
    for fault, (reply, said) in FAULTS.items():
        with Listener({step: reply}) as listener:
            done = relayed(place, listener, *FROM_PIPE, message=UNSIGNED, to=TO_BOTH)
        outcomes[fault] = (*done, [mail for mail in listener.mails if step != "dot" or mail.accepted])
        if step == "XFORWARD" and fault == "421 and gone":
            said = LOST.format("connection closed").replace("REQUEST", REQUESTS["MAIL"])
        said = said.replace("ADDRESS", listener.address).replace("REQUEST", REQUESTS[step])
        expected[fault] = (TEMPORARY_FAILURE, b"", said, [])
        if step == "XFORWARD" and fault in HARMLESS:
            expected[fault] = (0, b"", UNSIGNED_LINE, listener.mails)
        elif step == "dot" and fault in (
            "one long line",
            "many lines",
            "line without end",
            "close in a reply",
        ):
            outcomes[fault] = (*done, [])  # accepted perhaps: it may arrive twice
        if step == "dot":
            assert len(listener.mails) == 1, fault
    assert outcomes == expected


def test_the_listener_may_answer_quit_as_it_likes(place: Place) -> None:
    for reply, _ in FAULTS.values():
        with Listener({"QUIT": reply}) as listener:
            assert relayed(place, listener, message=UNSIGNED) == (0, b"", UNSIGNED_LINE)
        assert len(listener.mails) == 1


def test_a_listener_that_is_gone_after_the_final_reply(place: Place) -> None:
    for end in (CLOSE, RESET):
        with Listener({"dot": (QUEUED, end)}) as listener:
            assert relayed(place, listener, message=UNSIGNED) == (0, b"", UNSIGNED_LINE)


@pytest.mark.parametrize("step", ["CONNECT", "EHLO", "MAIL", "RCPT 1", "RCPT 2"])
@pytest.mark.parametrize("pause", [0.0, 0.05])
def test_a_reply_too_many_is_not_taken_for_a_later_one(step: str, pause: float) -> None:
    """Every later reply is one off, and DATA has none that begins with 354."""
    reply = b"220 Ok\r\n" if step == "CONNECT" else keywords(*ALL) if step == "EHLO" else b"250 Ok\r\n"
    with (
        Listener({step: (reply, pause, b"250 one more\r\n")}) as listener,
        pytest.raises(HandoverError, match=r" said: 250 .* \(in reply to DATA\)"),
    ):
        sent(listener, options=FROM_PIPE, recipients=[b"bob@example.net", b"carol@example.net"])
    assert listener.mails == []


LARGE = b"From: alice@example.org\n\n" + b"0123456789abcde\n" * 500_000


@pytest.mark.parametrize("early", [b"250 2.0.0 Ok: queued as early\r\n", b"354 on\r\n", b"452 full\r\n"])
def test_a_reply_before_the_final_dot_is_not_the_final_one(early: bytes) -> None:
    said = rf" said: {early[:5].decode()}.* \(in reply to DATA\)"
    with Listener({"DATA": b"354 go on\r\n" + early}) as listener, pytest.raises(HandoverError, match=said):
        sent(listener)
    assert listener.mails == []
    with Listener({"text": early}) as listener, pytest.raises(HandoverError, match=said):
        sent(listener, LARGE, *[LARGE] * 3)
    assert listener.mails == []


@pytest.mark.parametrize("end", [CLOSE, RESET])
def test_a_connection_lost_in_the_message(end: Then) -> None:
    pattern = ": (connection closed|Broken pipe|Connection reset by peer) after DATA"
    with Listener({"text": (end,)}) as listener, pytest.raises(Trouble, match=pattern):
        sent(listener, *[LARGE] * 4)
    assert listener.mails == []


def test_replies_in_pieces() -> None:
    def slowly(reply: bytes) -> Reply:
        return tuple(part for at in range(len(reply)) for part in (reply[at : at + 1], 0.001))

    replies = {"CONNECT": b"220-a\r\n220 b\r\n", "EHLO": keywords(b"SIZE", b"PIPELINING")}
    replies |= {"MAIL": b"250 Ok\n", "RCPT": b"251\r\n", "DATA": b"354\n", "dot": QUEUED}
    with Listener({step: slowly(reply) for step, reply in replies.items()}) as listener:
        assert sent(listener) == "queued as 4FxyzQ"
    assert listener.mails[0].commands[0].endswith(b" SIZE=%d" % len(UNSIGNED))


# Time

SHORT = in_process("from dkimpipe import guard; guard.TIME_LIMIT = 1")


def test_a_listener_that_never_answers(place: Place) -> None:
    def outcome(step: str) -> tuple[Done, int]:
        script: dict[str, Reply] = {step: (NOTHING,)}
        if step == "text":
            script = {step: (1.5, NOTHING)}  # does not even read, so the buffers of the kernel fill up
        if step == "dribble":
            script = {"MAIL": tuple(part for _ in range(100) for part in (b"250-x\r\n", 0.02))}
        with Listener(script) as listener:
            message = UNSIGNED if step != "text" else LARGE * 4
            done = relayed(place, listener, *FROM_PIPE, message=message, command=SHORT, to=TO_BOTH)
        return done._replace(stderr=done.stderr.replace(listener.address, "ADDRESS")), len(listener.mails)

    requests = {**REQUESTS, "text": "DATA", "dribble": REQUESTS["MAIL"]}
    with ThreadPoolExecutor(4) as pool:
        outcomes = dict(zip(requests, pool.map(outcome, requests)))
    said = {step: LOST.format("timed out").replace("REQUEST", request) for step, request in requests.items()}
    assert outcomes == {
        step: (Done(TEMPORARY_FAILURE, b"", line), int(step == "dot")) for step, line in said.items()
    }


def test_the_last_reply_has_a_part_of_the_time_for_itself(place: Place) -> None:
    """It is what must not be overlooked: the final dot is not sent if there is no time left to wait."""
    late = {"DATA": (0.6, b"354 go on\r\n"), "dot": (0.3, QUEUED)}
    with Listener(late) as listener:
        assert relayed(place, listener, message=UNSIGNED, command=SHORT) == (0, b"", UNSIGNED_LINE)
    with Listener({"DATA": (0.87, b"354 go on\r\n")}) as listener:
        done = relayed(place, listener, message=UNSIGNED, command=SHORT)
    assert (done.status, listener.mails) == (TEMPORARY_FAILURE, [])
    assert " timed out after DATA\n" in done.stderr
    too_late = in_process(
        "from dkimpipe import guard, relay; guard.TIME_LIMIT = 1; import time\n"
        "sooner = relay._transparent\n"
        "def later(pieces): time.sleep(0.8); return sooner(pieces)\n"
        "relay._transparent = later"
    )
    with Listener() as listener:
        done = relayed(place, listener, message=UNSIGNED, command=too_late)
    assert done.stderr == LOST.format("timed out").replace("ADDRESS", listener.address).replace(
        "REQUEST", "DATA"
    )
    assert (done.status, listener.mails) == (TEMPORARY_FAILURE, [])


@pytest.mark.parametrize("step", ["CONNECT", "RCPT 1", "DATA", "dot"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda n: n.name)
def test_a_signal_in_the_session(place: Place, step: str, number: signal.Signals) -> None:
    with Listener({step: (b"", NOTHING)}) as listener:
        arguments = with_senders(place, "--syslog=no", f"--relay={listener.address}", *TO_BOB)
        with subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdin
            process.stdin.write(MESSAGE)
            process.stdin.close()
            process.stdin = None
            assert listener.waits(TIMEOUT)
            process.send_signal(number)
            output, said = process.communicate(timeout=TIMEOUT)
    if number is signal.SIGINT:
        expected = (TEMPORARY_FAILURE, b"", b"4.3.0 dkimpipe: interrupted\n")
    else:
        expected = (-number, b"", b"")  # pipe(8) defers the mail
    assert (process.returncode, output, said) == expected
    assert len(listener.mails) == (step == "dot")


# The form of a message

FORMS: dict[str, tuple[list[bytes], bytes]] = {
    "LF": ([b"A: b\n\nc\n"], b"A: b\r\n\r\nc\r\n"),
    "CRLF": ([b"A: b\r\n\r\nc\r\n"], b"A: b\r\n\r\nc\r\n"),
    "mixed": ([b"A: b\r\n\nc\r\nd\n"], b"A: b\r\n\r\nc\r\nd\r\n"),
    "CRLF in two pieces": ([b"A: b\r", b"\n\r", b"\n", b"c\r", b"\n"], b"A: b\r\n\r\nc\r\n"),
    "bare CR": ([b"A: b\n\na\rb\r\rc\n\r\n\rd\n"], b"A: b\r\n\r\na\rb\r\rc\r\n\r\n\rd\r\n"),
    "bare CR at a piece's end": ([b"A: b\n\na\r", b"b\r", b"\r", b"c\n"], b"A: b\r\n\r\na\rb\r\rc\r\n"),
    "CR before CRLF": ([b"A: b\n\na\r", b"\r\n.\r\n"], b"A: b\r\n\r\na\r\r\n..\r\n"),
    "CR at the end": ([b"A: b\n\nc\r"], b"A: b\r\n\r\nc\r\r\n"),
    "CR alone at the end": ([b"A: b\n\nc\n", b"\r"], b"A: b\r\n\r\nc\r\n\r\r\n"),
    "dots": ([b".\n..\n\n.a\nb.\n.\n"], b"..\r\n...\r\n\r\n..a\r\nb.\r\n..\r\n"),
    "dots at pieces": (
        [b".", b"a\n", b".", b"\n", b"\n", b"..b", b".\n", b"."],
        b"..a\r\n..\r\n\r\n...b.\r\n..\r\n",
    ),
    "dot between CRs": ([b"a\n\r.\r\n\r\n.\r\n"], b"a\r\n\r.\r\n\r\n..\r\n"),
    "LF dot CRLF": ([b"a\r\n\n.\r\n\n.\n"], b"a\r\n\r\n..\r\n\r\n..\r\n"),
    "a session in a message": ([b"a\n.\r", b"\nMAIL FROM:<>\r\n"], b"a\r\n..\r\nMAIL FROM:<>\r\n"),
    "no newline at the end": ([b"A: b\n\nc"], b"A: b\r\n\r\nc\r\n"),
    "header only": ([b"A: b\n"], b"A: b\r\n"),
    "header only, no newline": ([b"A: b"], b"A: b\r\n"),
    "empty lines": ([b"\n\n"], b"\r\n\r\n"),
    "empty": ([b""], b""),
    "From line": ([b"A: b\n\nFrom c\n"], b"A: b\r\n\r\nFrom c\r\n"),
    "NUL, 8-bit": ([b"A: \xff\n\n\0\x80\xc3\xa9\n"], b"A: \xff\r\n\r\n\0\x80\xc3\xa9\r\n"),
    "long line": ([b"A: b\n\n" + b"x" * 5000 + b"\n.\n"], b"A: b\r\n\r\n" + b"x" * 5000 + b"\r\n..\r\n"),
}


@pytest.mark.parametrize(("pieces", "wire"), FORMS.values(), ids=FORMS)
def test_the_octets_of_a_message(pieces: list[bytes], wire: bytes) -> None:
    with Listener({"EHLO": keywords()}) as listener:
        assert sent(listener, *pieces) == "queued as 4FxyzQ"
    assert listener.sessions[0].partition(b"\r\nDATA\r\n")[2] == wire + b".\r\nQUIT\r\n"


def test_every_way_to_cut_a_message() -> None:
    octets, wire = b".a\r\n.\r\r\n..\n.b\r.\n", b"..a\r\n..\r\r\n...\r\n..b\r.\r\n"
    with Listener({"EHLO": keywords()}) as listener:
        for cuts in range(1 << (len(octets) - 1), 1 << len(octets), 499):
            pieces = [bytearray()]
            for at, octet in enumerate(octets):
                pieces[-1].append(octet)
                if cuts >> at & 1:
                    pieces.append(bytearray())
            sent(listener, *map(bytes, pieces))
    texts = {session.partition(b"\r\nDATA\r\n")[2] for session in listener.sessions}
    assert texts == {wire + b".\r\nQUIT\r\n"}
    assert len(listener.sessions) > 50


@pytest.mark.parametrize("size", [65535, 65536, 65537, 262143, 262144, 262145, 3_000_000])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_the_size_of_a_message(place: Place, size: int, line_end: bytes) -> None:
    """Over 256 KiB it comes from a file."""
    start = UNSIGNED.replace(b"\n", line_end)
    message = start + (b"." * 13 + line_end + b"x" * 70 + line_end) * (size // 60)
    message = message[: size - 1].rstrip(b"\r") + b"\n"
    with Listener() as listener:
        assert relayed(place, listener, message=message) == (0, b"", UNSIGNED_LINE)
    assert listener.mails[0].text == re.sub(rb"\r?\n", b"\r\n", message)


MEASURED = "import resource, sys; sys.stderr.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))"


def test_memory_does_not_grow_with_the_message(place: Place) -> None:
    program = (
        f"import dkimpipe.log as log; real = log.to_stderr\n"
        f"def to_stderr(text): {MEASURED}\nlog.to_stderr = to_stderr"
    )
    memory = []
    for message in (UNSIGNED, UNSIGNED + b"x" * 60 + b"\n.\n" * 8_000_000 + b"y\n" * 3_000_000):
        with Listener() as listener:
            done = relayed(place, listener, message=message, command=in_process(program))
        assert done.status == 0
        assert len(listener.mails) == 1
        memory.append(int(done.stderr))
    assert memory[1] < memory[0] + 4096  # KiB


class FailingSpool(SpoolMemory):
    """A spool that cannot be read to its end."""

    def pieces(self) -> list[bytes]:
        def fail(pieces: Iterator[bytes]) -> Iterator[bytes]:
            yield from pieces
            raise SpoolError("no more")

        return fail(iter(super().pieces()))  # type: ignore[return-value]


def test_a_spool_that_fails_sends_no_final_dot() -> None:
    with Listener() as listener, pytest.raises(SpoolError):
        sent(listener, *[LARGE] * 2, b"rest\n", spool=FailingSpool())
    assert (len(listener.sessions), listener.mails) == (1, [])


def test_the_envelope_line_of_an_mbox_is_left_out(place: Place) -> None:
    with Listener() as listener:
        relayed(place, listener, message=b"From alice Thu Jan  1 00:00:00 2026\n" + UNSIGNED)
    assert listener.mails[0].text == UNSIGNED.replace(b"\n", b"\r\n")


# Addresses

PATHS: dict[str, tuple[bytes, bytes]] = {
    "plain": (b"bob@example.net", b"<bob@example.net>"),
    "null": (b"", b"<>"),
    "null in angle brackets": (b"<>", b"<>"),
    "in angle brackets": (b"<bob@example.net>", b"<bob@example.net>"),
    "hyphen": (b"-oQ/tmp@example.net", b"<-oQ/tmp@example.net>"),
    "no domain": (b"bob", b"<bob>"),
    "quoted blank": (b'"a b"@example.net', b'<"a b"@example.net>'),
    "quoted angle brackets": (b'"a> SIZE=1 <b"@example.net', b'<"a> SIZE=1 <b"@example.net>'),
    "quoted quotes": (b'"a\\"> \\\\"@example.net', b'<"a\\"> \\\\"@example.net>'),
    "two quoted strings": (b'"a b"."c d"@example.net', b'<"a b"."c d"@example.net>'),
    "address literal": (b"bob@[192.0.2.1]", b"<bob@[192.0.2.1]>"),
    "comma, quote": (b"a,b'c@example.net", b"<a,b'c@example.net>"),
    "UTF-8": ("bøb@exämple.net".encode(), "<bøb@exämple.net>".encode()),
    "not UTF-8": (b"b\xf8b@example.net", b"<b\xf8b@example.net>"),
    "long": (b"b" * 900 + b"@example.net", b"<" + b"b" * 900 + b"@example.net>"),
}


@pytest.mark.parametrize(("mailbox", "path"), PATHS.values(), ids=PATHS)
def test_addresses_as_they_are(mailbox: bytes, path: bytes) -> None:
    with Listener({"EHLO": keywords(b"SMTPUTF8")}) as listener:
        sent(listener, sender=mailbox, recipients=[mailbox, b"carol@example.net"])
    parameter = b"" if path.isascii() else b" SMTPUTF8"
    assert listener.mails[0].commands == [
        b"MAIL FROM:%b%b" % (path, parameter),
        b"RCPT TO:%b" % path,
        b"RCPT TO:<carol@example.net>",
    ]


def test_smtputf8_for_a_recipient_and_only_if_offered() -> None:
    for offered, parameter in ((keywords(b"SMTPUTF8"), b" SMTPUTF8"), (keywords(), b"")):
        with Listener({"EHLO": offered}) as listener:
            sent(listener, recipients=["bøb@example.net".encode()])
        assert listener.mails[0].commands[0] == b"MAIL FROM:<alice@example.com>" + parameter


REFUSED_PATHS = {
    "CRLF": b"bob@example.net>\r\nRCPT TO:<eve@example.net",
    "LF": b"bob\n@example.net",
    "CR": b"bob\r@example.net",
    "quoted LF": b'"bob\n"@example.net',
    "NUL, but for the command line": b"bob\x01@example.net",
    "tab": b"bob\t@example.net",
    "DEL": b"bob\x7f@example.net",
    "parameter": b"bob@example.net> NOTIFY=NEVER",
    "parameter after quotes": b'"b"ob@example.net> NOTIFY=NEVER ORCPT="',
    "parameter after a quoted quote": b'"b\\\\"ob@example.net> NOTIFY="NEVER"',
    "angle brackets twice": b"<<bob@example.net>>",
    "angle bracket": b"bob@example.net>",
    "blank": b"a b@example.net",
    "blank alone": b" ",
    "display name": b"Bob <bob@example.net>",
    "quote that does not end": b'"bob@example.net',
    "escaped quote outside quotes": b'\\"a b\\"@example.net',
    "backslash at the end": b"bob@example.net\\",
}


@pytest.mark.parametrize("mailbox", REFUSED_PATHS.values(), ids=REFUSED_PATHS)
def test_addresses_that_could_end_the_path(mailbox: bytes) -> None:
    with Listener() as listener:
        with pytest.raises((UsageError, RecipientError), match=r"^'.*' cannot be an address in SMTP$"):
            sent(listener, recipients=[mailbox])
        assert listener.sessions == []
        with contextlib.suppress(UsageError):
            sent(listener, sender=mailbox)
    assert all(mail.commands[0].startswith(b"MAIL FROM:<> ") for mail in listener.mails)


UNQUOTED_PATHS = (
    "CRLF",
    "LF",
    "CR",
    "angle brackets twice",
    "blank",
    "display name",
    "quote that does not end",
)


@pytest.mark.parametrize("name", UNQUOTED_PATHS)
def test_without_quotes_sendmail_would_take_them_for_others(name: str) -> None:
    with Listener() as listener, pytest.raises(UsageError):
        sent(listener, recipients=[b"carol@example.net", REFUSED_PATHS[name]])
    assert listener.sessions == []


def test_the_longest_address() -> None:
    at_limit, longer = (b"b" * length + b"@example.net" for length in (1988, 1989))
    with Listener() as listener:
        sent(listener, recipients=[at_limit])
        with pytest.raises(RecipientError, match=r"^'b{120}\.\.\.' is too long for SMTP$"):
            sent(listener, recipients=[longer])
    assert listener.mails[0].commands[1:] == [b"RCPT TO:<%b>" % at_limit]
    assert len(listener.sessions) == 1


def test_the_same_recipient_twice() -> None:
    with Listener() as listener:
        sent(listener, recipients=[b"bob@example.net", b"bob@example.net"])
    assert listener.mails[0].commands[1:] == [b"RCPT TO:<bob@example.net>"]


BY_Q = "hint: in master.cf the pipe(8) service needs flags=q, which puts quotes where they are needed\n"
# The sender, the recipient, and what is printed.
NOT_IN_SMTP = {
    "a space": (
        "",
        "a b@example.net",
        f"4.3.5 dkimpipe: 'a b@example.net' cannot be an address in SMTP\n{BY_Q}",
    ),
    "controls": ("", '"a\r\nDATA"@x', "5.1.3 dkimpipe: '\"a\\r\\nDATA\"@x' cannot be an address in SMTP\n"),
}


@pytest.mark.parametrize(("sender", "recipient", "said"), NOT_IN_SMTP.values(), ids=NOT_IN_SMTP)
def test_an_address_that_smtp_cannot_have(sender: str, recipient: str, said: str, place: Place) -> None:
    with Listener() as listener:
        done = relayed(place, listener, to=("-f", sender, "--", recipient))
    assert (done.status, done.stdout, done.stderr) == (TEMPORARY_FAILURE, b"", said)
    assert listener.sessions == []


MANY = [b"r%d@example.net" % number for number in range(1000)]


@pytest.mark.parametrize("words", [(b"PIPELINING",), ()], ids=["pipelined", "one by one"])
def test_1000_recipients(words: tuple[bytes, ...]) -> None:
    with Listener({"EHLO": keywords(*words)}) as listener:
        sent(listener, recipients=MANY)
    (mail,) = listener.mails
    assert mail.commands[1:] == [b"RCPT TO:<%b>" % recipient for recipient in MANY]


@pytest.mark.parametrize("words", [(b"PIPELINING",), ()], ids=["pipelined", "one by one"])
@pytest.mark.parametrize("number", [1, 49, 50, 500, 1000])
def test_one_of_1000_recipients_refused(words: tuple[bytes, ...], number: int) -> None:
    script: Mapping[str, Reply] = {"EHLO": keywords(*words), f"RCPT {number}": b"550 5.1.1 no\r\n"}
    said = rf" said: 550 5\.1\.1 no \(in reply to RCPT TO:<r{number - 1}@example\.net>\)$"
    with Listener(script) as listener, pytest.raises(HandoverError, match=said):
        sent(listener, recipients=MANY)
    assert listener.mails == []


# A recipient whose address is not valid

NOT_VALID = {
    "no label": b"501 5.1.3 Bad recipient address syntax\r\n",
    "not UTF-8": b"500 5.5.2 Error: bad UTF-8 syntax\r\n",
    "lines": b"501-5.1.3 no\r\n501 5.1.3 at all\r\n",
}
# Others may concern the mail or the listener: it waits for all recipients.
OTHERS = [
    b"550 5.1.1 no",
    b"554 5.7.1 Relay access denied",
    b"450 4.1.3 no",
    b"501 Syntax",
    b"452 5.1.3 x",
]
BAD, THREE = b"a@x..example", [b"bob@example.net", b"a@x..example", b"carol@example.net"]


@pytest.mark.parametrize("words", [ALL, ()], ids=["pipelined", "one by one"])
@pytest.mark.parametrize("name", NOT_VALID)
def test_it_gets_a_copy_once_the_others_have_the_message(name: str, words: tuple[bytes, ...]) -> None:
    with Listener({"EHLO": keywords(*words), "RCPT TO:<a@x..example>": NOT_VALID[name]}) as listener:

        def copy(recipients: list[str], seconds: float) -> str:
            assert len(listener.mails) == 1
            assert 200 < seconds <= 280
            return f"; {recipients}"

        assert sent(listener, recipients=THREE, copy=copy) == "queued as 4FxyzQ; ['a@x..example']"
    (mail,) = listener.mails
    assert mail.commands[1:] == [b"RCPT TO:<%b>" % each for each in THREE]
    assert len(listener.sessions) == 1


def test_several_get_one_copy() -> None:
    many = [b"%d@x..example" % number for number in range(500)]
    script = {f"RCPT TO:<{each.decode()}>": NOT_VALID["no label"] for each in many}
    recipients = [*many[:250], b"bob@example.net", *many[250:]]
    with Listener(script) as listener:
        said = sent(listener, recipients=recipients, copy=lambda those, _: f"; {those}")
    assert said == f"queued as 4FxyzQ; {[each.decode() for each in many]}"
    assert len(listener.mails) == 1


# Recipients that SMTP cannot have, and as what sendmail(1) gets them: always one address, and nobody's.
WITHOUT_A_PATH = {
    "controls": (b'"a\x0bb"@example.net', '"a\x0bb"@example.net'),
    "controls in the domain": (b"a@exa\x01mple.net", "a@exa?mple.net"),
    "two words": (b"a@b c", "a@b?c"),
    "brackets": (b"a@b<c>", "a@b?c?"),
    "a backslash": (b"a@exa\\mple.net", "a@exa?mple.net"),
    "a quote": (b'a@exa"mple.net', "a@exa?mple.net"),
    "no domain": (b'"a b"', "?a?b?"),
    "too long": (b"a@%b.net" % (b"x" * 2000), f"a@{'x' * 2000}.net"),
}


@pytest.mark.parametrize("name", WITHOUT_A_PATH)
def test_a_recipient_that_smtp_cannot_have_holds_up_no_other(name: str) -> None:
    recipient, safe = WITHOUT_A_PATH[name]
    with Listener({"RCPT TO:<a@x,y>": NOT_VALID["no label"]}) as listener:
        recipients = [recipient, b"bob@example.net", b"a@x,y", b"b@[127.0.0.1]"]
        said = sent(listener, recipients=recipients, copy=lambda those, _: f"; {those}")
    assert said == f"queued as 4FxyzQ; {[safe, 'a@x?y']}"
    (mail,) = listener.mails
    assert mail.commands[1:] == [b"RCPT TO:<%b>" % each for each in recipients[1:]]


def test_where_no_recipient_is_valid_it_bounces() -> None:
    with Listener({"RCPT": NOT_VALID["no label"]}) as listener, pytest.raises(RecipientError):
        sent(listener, recipients=[b"a@b c", BAD, b"a@y..example"])
    assert listener.mails == []


def test_the_only_recipient_bounces() -> None:
    said = r" said: 501 5\.1\.3 Bad recipient address syntax \(in reply to RCPT TO:<a@x\.\.example>\)$"
    with Listener({"RCPT": NOT_VALID["no label"]}) as listener, pytest.raises(RecipientError, match=said):
        sent(listener, recipients=[BAD])
    assert listener.mails == []


def test_the_process_bounces_it_by_its_code(place: Place) -> None:
    with Listener({"RCPT": NOT_VALID["no label"]}) as listener:
        done = relayed(place, listener)
    said = f"5.1.3 dkimpipe: relay {listener.address} said: 501 5.1.3 Bad recipient address syntax"
    assert (done.status, done.stdout) == (75, b"")
    assert done.stderr.startswith(said)


# What sendmail(1) does with the copy, and what is logged of it.
COPIES = {
    "accepts it": ("cat >{0}", "not valid, bounced: a@x..example"),
    "refuses it": (
        "cat; exit 75",
        "not valid, not bounced: a@x..example: sendmail(1) ended with exit status 75",
    ),
    "leaves it": ("exit 0", "not valid, not bounced: a@x..example: {1} did not read the whole message: "),
    "is killed": ("kill -9 $$", "not valid, not bounced: a@x..example: {1} was killed by signal 9"),
    "is missing": ("", "not valid, not bounced: a@x..example: cannot run {1}"),
}


@pytest.mark.parametrize("name", COPIES)
def test_the_others_get_the_message_once_whatever_becomes_of_the_copy(
    name: str, place: Place, tmp_path: Path
) -> None:
    script, said = COPIES[name]
    program, copy = tmp_path / "sendmail", tmp_path / "copy"
    if script:
        program.write_text(
            f'#!/bin/sh\n[ "$5 $6 $7" = "-- a@x..example " ] || exit 1\n{script.format(copy)}\n'
        )
        program.chmod(0o755)
    with Listener({"RCPT 2": NOT_VALID["no label"]}) as listener:
        to = ("-f", "alice@example.org", "--", "bob@example.net", "a@x..example", "carol@example.net")
        done = relayed(place, listener, f"--sendmail={program}", to=to)
    assert (done.status, len(listener.mails)) == (0, 1)
    assert f"; queued as 4FxyzQ; {said.format(copy, program)}" in done.stderr
    if name == "accepts it":
        assert copy.read_bytes().replace(b"\n", b"\r\n") == listener.mails[0].text


@pytest.mark.parametrize("reply", OTHERS)
def test_after_any_other_refusal_all_wait(reply: bytes) -> None:
    with Listener({"RCPT 2": reply + b"\r\n"}) as listener, pytest.raises(HandoverError) as raised:
        sent(listener, recipients=THREE)
    assert (raised.type, raised.value.code) == (HandoverError, "4.3.0")
    assert listener.mails == []


def test_the_sender_is_no_recipient() -> None:
    with Listener({"MAIL": b"501 5.1.3 no\r\n"}) as listener, pytest.raises(HandoverError) as raised:
        sent(listener, recipients=THREE)
    assert (raised.type, raised.value.code) == (HandoverError, "4.3.0")


# Senders that could get no notice, and the reply to MAIL FROM; without one they have no path.
SENDERS: dict[str, tuple[bytes, bytes]] = {
    "no label": (b"www-data@web..lan", b"501 5.1.7 Bad sender address syntax\r\n"),
    "no text": (b"a@", b"501 5.1.7\r\n"),
    "not UTF-8": (b"j\xf6rg@example.com", b"500 5.5.2 Error: bad UTF-8 syntax\r\n"),
    "controls": (b'"a\x0b"@example.com', b""),
    "two words": (b"a@b c", b""),
    "too long": (b"a@%b.net" % (b"x" * 2000), b""),
}


@pytest.mark.parametrize("words", [ALL, ()], ids=["pipelined", "one by one"])
@pytest.mark.parametrize("name", SENDERS)
def test_a_sender_that_is_not_valid_is_left_out(name: str, words: tuple[bytes, ...]) -> None:
    sender, reply = SENDERS[name]
    parameters = f" BODY=8BITMIME SIZE={len(UNSIGNED)}" if words else ""
    command = f"MAIL FROM:<{sender.decode('ascii', 'replace')}>{parameters}"
    with Listener({"EHLO": keywords(*words), **({command: reply} if reply else {})}) as listener:
        said = sent(listener, sender=sender, recipients=THREE)
    shown = one_line(os.fsdecode(sender))
    assert said == f"queued as 4FxyzQ; sender not valid, sent from <>: {shown}"
    (mail,) = listener.mails
    assert mail.commands[0].startswith(b"MAIL FROM:<>")
    assert mail.commands[1:] == [b"RCPT TO:<%b>" % each for each in THREE]
    assert len(listener.sessions) == 1 + bool(reply)


@pytest.mark.parametrize("reply", [b"450 5.1.7 x", b"550 5.1.8 unknown", b"501 x 5.1.7", b"501"])
def test_a_sender_who_is_refused_for_another_reason_defers(reply: bytes) -> None:
    with Listener({"MAIL": reply + b"\r\n"}) as listener, pytest.raises(HandoverError):
        sent(listener)
    assert (len(listener.sessions), listener.mails) == (1, [])


def test_the_null_sender_who_is_refused_defers() -> None:
    with Listener({"MAIL": b"501 5.1.7 no\r\n"}) as listener, pytest.raises(HandoverError):
        sent(listener)
    assert (len(listener.sessions), listener.mails) == (2, [])


# XFORWARD

CLIENT = ("--client_name={}", "--client={}", "--queue_id={}")
ORIGINS: dict[str, tuple[tuple[str, str, str], str]] = {
    "IPv4": (("mail.example", "192.0.2.1", "4AbcdE"), "NAME=mail.example ADDR=192.0.2.1 IDENT=4AbcdE"),
    "IPv6": (("a.example", "2001:db8::1", "A1"), "NAME=a.example ADDR=IPV6:2001:db8::1 IDENT=A1"),
    "IPv6 from pipe(8)": (("a.example", "IPv6:2001:db8::1", ""), "NAME=a.example ADDR=IPV6:2001:db8::1"),
    "IPv4 in IPv6": (("", "::ffff:192.0.2.1", ""), "ADDR=IPV6:::ffff:192.0.2.1"),
    "unknown": (("unknown", "unknown", "A1"), "NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE] IDENT=A1"),
    "local": (("", "", "A1"), "IDENT=A1"),
    "nothing": (("", "", ""), ""),
    "hostile": (("a b\r\nMAIL+=é\x7f", "", ""), "NAME=a+20b+0D+0AMAIL+2B+3D+C3+A9+7F"),
    "long": (("=" * 9999, "1" * 999, "x" * 999), f"NAME={'+3D' * 150} ADDR={'1' * 150} IDENT={'x' * 150}"),
}


@pytest.mark.parametrize(("values", "words"), ORIGINS.values(), ids=ORIGINS)
def test_xforward(values: tuple[str, str, str], words: str) -> None:
    with Listener() as listener:
        sent(listener, options=[word.format(value) for word, value in zip(CLIENT, values)])
    command = re.search(rb"\r\nXFORWARD ?(.*)\r\nMAIL ", listener.sessions[0], re.DOTALL)
    assert (command[1].decode() if command else "") == words
    assert len(words) < 2000


def test_xforward_only_with_what_is_offered() -> None:
    for offered in (b"xforward addr ident", b"XFORWARD  IDENT\tADDR HELO"):
        with Listener({"EHLO": keywords(offered)}) as listener:
            sent(listener, options=FROM_PIPE)
        assert b"\r\nXFORWARD ADDR=192.0.2.1 IDENT=4AbcdE\r\n" in listener.sessions[0]


# The relay's own address

VALID = {
    "127.0.0.1:10028": (b"127.0.0.1", 10028),
    "[::1]:10028": (b"::1", 10028),
    "[fe80::1%eth0]:25": (b"fe80::1%eth0", 25),
    "[127.0.0.1]:1": (b"127.0.0.1", 1),
    "localhost:65535": (b"localhost", 65535),
    "mx_1.example.com.:00025": (b"mx_1.example.com.", 25),
}
INVALID = ["", ":", "10028", "127.0.0.1", "127.0.0.1:", ":10028", "127.0.0.1:0", "127.0.0.1:65536", "a:+25"]
INVALID += ["127.0.0.1:10028 ", " a:25", "a:2 5", "a:25x", "::1:25", "[::1]", "[]:25", "[::1:25", "::1]:25"]
INVALID += ["[a]b:25", "smtp:127.0.0.1:25", "inet:a:25", "a/b:25", "a,b:25", "bücher.example:25"]
INVALID += ["a:000025", "\udcff:25", "a\0b:25", "unix:/run/x"]


@pytest.mark.parametrize("text", VALID)
def test_valid_addresses_of_a_relay(text: str) -> None:
    assert address(text, "command line") == VALID[text]


@pytest.mark.parametrize("text", INVALID)
def test_invalid_addresses_of_a_relay(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        address(text, "FILE, line 3")
    assert str(caught.value) == f"FILE, line 3: relay '{text}' is not an address with a port"
    assert caught.value.hint == "for example 127.0.0.1:10028 or [::1]:10028"


def test_an_invalid_address_in_the_conf_file_defers(place: Place) -> None:
    conf = place.file("conf", b"# ours\nrelay 127.0.0.1\n")
    done = run("--conf_file", str(conf), "--sender_map", str(place.senders), "--syslog=no", *TO_BOB)
    assert (done.status, done.stdout, done.stderr) == (
        TEMPORARY_FAILURE,
        b"",
        f"4.3.5 dkimpipe: {conf}, line 2: relay '127.0.0.1' is not an address with a port\n"
        "hint: for example 127.0.0.1:10028 or [::1]:10028\n",
    )


def test_a_relay_from_the_conf_file(place: Place) -> None:
    with Listener() as listener:
        conf = place.file("conf", f"relay {listener.address}\n".encode())
        done = run("--conf_file", str(conf), "--sender_map", str(place.senders), "--syslog=no", *TO_BOB)
    assert (done.status, done.stderr, len(listener.mails)) == (0, SIGNED_LINE, 1)


def test_nobody_listens(place: Place) -> None:
    with Listener() as listener:
        pass
    done = relayed(place, listener)
    assert (done.status, done.stdout, done.stderr) == (
        TEMPORARY_FAILURE,
        b"",
        f"4.4.2 dkimpipe: cannot connect to relay {listener.address}: Connection refused\n{HINT}",
    )


def test_a_host_that_has_no_address(place: Place) -> None:
    options = (f"--sender_map={place.senders}", "--syslog=no", "--relay=no-such-host.invalid:25", *TO_BOB)
    done = run(*options)
    assert (done.status, done.stdout) == (TEMPORARY_FAILURE, b"")
    assert re.fullmatch(
        r"4\.4\.2 dkimpipe: cannot connect to relay no-such-host\.invalid:25: [^\n]+\n" + re.escape(HINT),
        done.stderr,
    )


def test_a_label_too_long_for_dns(place: Place) -> None:
    done = run(f"--sender_map={place.senders}", "--syslog=no", f"--relay={'a' * 300}:25", *TO_BOB)
    assert done.status == TEMPORARY_FAILURE
    assert done.stderr.startswith("4.4.2 dkimpipe: cannot connect to relay aaa")


def test_a_relay_with_an_ipv6_address(place: Place) -> None:
    with Listener(host="::1") as listener:
        assert relayed(place, listener) == (0, b"", SIGNED_LINE)
    assert len(listener.mails) == 1


SEVERAL = (
    "import _socket; real = _socket.getaddrinfo\n"
    "def several(host, *rest):\n"
    " found = real(b'::1', *rest) + real(b'127.0.0.2', *rest) + real(b'127.0.0.1', *rest)\n"
    " return found if host == b'several.test' else real(host, *rest)\n"
    "_socket.getaddrinfo = several"
)


def test_a_host_name_with_several_addresses(place: Place) -> None:
    """The first that accepts a connection is the relay, whatever it then replies."""
    for script, status in (({}, 0), ({"CONNECT": b"554 no\r\n"}, TEMPORARY_FAILURE)):
        with Listener(script) as listener:
            options = ("--syslog=no", f"--relay=several.test:{listener.port}", *TO_BOB)
            done = run(f"--sender_map={place.senders}", *options, command=in_process(SEVERAL))
            assert done.status == status
        assert len(listener.mails) == (status == 0)
    done = run(f"--sender_map={place.senders}", *options, command=in_process(SEVERAL))
    assert done.stderr.startswith("4.4.2 dkimpipe: cannot connect to relay several.test:")


@pytest.mark.parametrize("name", ["", "(none)", "a b", "bücher"])
def test_a_host_name_that_ehlo_cannot_have(place: Place, name: str) -> None:
    program = f"import posix, types; posix.uname = lambda: types.SimpleNamespace(nodename={name!r})"
    with Listener() as listener:
        assert relayed(place, listener, command=in_process(program)).status == 0
    assert listener.sessions[0].startswith(b"EHLO localhost\r\n")


# The log

FINAL: dict[str, tuple[bytes, str]] = {
    "queued as": (QUEUED, "queued as 4FxyzQ"),
    "another text": (b"250 2.6.0 Message accepted\r\n", "relay said: 2.6.0 Message accepted"),
    "no text": (b"250\r\n", "relay said: "),
    "lines": (b"250-2.0.0 Ok\r\n250 queued as A1\r\n", "queued as A1"),
    "controls": (b"250 \x1b[1m\xff queued as A\0\r1\r\n", r"queued as A\x00\r1"),
    "long": (b"250 " + b"x" * 5000 + b"\r\n", "relay said: " + "x" * 188 + "..."),
}


@pytest.mark.parametrize(("reply", "said"), FINAL.values(), ids=FINAL)
def test_what_the_log_says_of_the_final_reply(reply: bytes, said: str) -> None:
    with Listener({"dot": reply}) as listener:
        assert sent(listener) == said


# $1 is an empty directory that becomes /dev; what comes to its log follows the output of the command.
SYSLOG = """
import os, socket, subprocess, sys
directory, *arguments = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "none", directory], check=True)
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.bind(directory + "/log")
for name in "null", "urandom":
    open(f"{directory}/{name}", "w").close()
    subprocess.run(["mount", "--bind", f"/dev/{name}", f"{directory}/{name}"], check=True)
subprocess.run(["mount", "--bind", directory, "/dev"], check=True)
status = subprocess.run(arguments, stdout=subprocess.DEVNULL).returncode
log.setblocking(False)
try:
    while True:
        print(log.recv(65536).rstrip(b"\\0").decode().partition("]: ")[2], flush=True)
except BlockingIOError:
    sys.exit(status)
"""
needs_namespace = pytest.mark.skipif(
    os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False).returncode != 0,
    reason="needs root, to mount a /dev of its own",
)


@needs_namespace
@pytest.mark.parametrize("final", ["accepted", "refused"])
def test_syslog_gets_origin_and_queue_id(place: Place, tmp_path: Path, final: str) -> None:
    (tmp_path / "dev").mkdir()
    command = ("unshare", "-m", "/usr/bin/python3", "-c", SYSLOG, str(tmp_path / "dev"), *BY_PATH)
    with Listener({"dot": QUEUED if final == "accepted" else b"451 4.3.0 later\r\n"}) as listener:
        options = ("--sender_map", str(place.senders), f"--relay={listener.address}", *TO_BOB)
        done = run(*options, command=command)
    refusal = f"relay {listener.address} said: 451 4.3.0 later (in reply to end of DATA)\n"
    expected = {
        "accepted": (0, (LOG_LINE[10:-1] + "; queued as 4FxyzQ\n").encode(), SIGNED_LINE),
        "refused": (TEMPORARY_FAILURE, f"deferred: {refusal}".encode(), f"4.3.0 dkimpipe: {refusal}"),
    }
    assert done == expected[final]
