"""dkimpipe.api: messages signed without a process, in threads, and what it leaves behind: nothing."""

from __future__ import annotations

import gc
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import witness
from conftest import MESSAGE, PROJECT, Keys, run_filter

from dkimpipe import errors
from dkimpipe.api import Report, Signature, Signed, Signer

NOW = 1_700_000_000
LARGE = MESSAGE + b"A line of text.\r\n" * 40_000
ENTRY = "example.com dkim(s=rsa2048,key=KEYS/rsa2048.pem), dkim(s=ed25519,key=KEYS/ed25519.pem)\n"
BOTH = (
    Signature("dkim", "example.com", "rsa2048", "rsa-sha256"),
    Signature("dkim", "example.com", "ed25519", "ed25519-sha256"),
)
LINE = "signed d=example.com s=rsa2048 a=rsa-sha256, d=example.com s=ed25519 a=ed25519-sha256"
FROM = "from=Alice <alice@example.com>"


def clock() -> float:
    return NOW


@pytest.fixture
def senders(keys: Keys) -> Path:
    return keys.senders(ENTRY, "api")


@pytest.fixture
def signer(senders: Path) -> Signer:
    return Signer(sender_map=senders, clock=clock)


@pytest.mark.parametrize(
    "message", [MESSAGE, LARGE, MESSAGE.replace(b"\n", b"\r\n")], ids=["", "large", "CRLF"]
)
def test_it_signs_as_the_filter_does(keys: Keys, senders: Path, message: bytes) -> None:
    """Apart from the time: see t=no."""
    path = keys.senders(ENTRY.replace("dkim(", "dkim(t=no,"), "api-without-time")
    signed = Signer(sender_map=path).sign(message)
    assert signed.message == run_filter(f"--sender_map={path}", message=message).stdout
    assert signed.message.endswith(message)


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_other_kinds_of_bytes(signer: Signer, kind: Callable[[bytes], bytearray | memoryview]) -> None:
    target = io.BytesIO()
    signed = signer.sign(kind(MESSAGE))
    assert signed == signer.sign(MESSAGE)
    assert signer.sign_file(kind(MESSAGE), target) == signed.report
    assert target.getvalue() == signed.message


def test_the_report(signer: Signer) -> None:
    signed = signer.sign(MESSAGE)
    assert signed.report == Report(BOTH, (), "info", 0, f"{LINE}; {FROM}")
    assert signed.report.is_signed
    assert str(signed.report) == signed.report.text


def test_it_verifies(keys: Keys, signer: Signer) -> None:
    signed = signer.sign(MESSAGE).message
    assert witness.dkimpy_verdicts([signed], keys.records) == [["pass", "pass"]]
    assert f"t={NOW};".encode() in signed


def test_the_types_of_signatures(keys: Keys) -> None:
    signed = Signer(
        domain="example.com",
        selector="rsa1024",
        keyfile=keys.path("rsa1024"),
        signature=["domainkeys", "dkim"],
    ).sign(MESSAGE)
    assert signed.report.signatures == (
        Signature("domainkeys", "example.com", "rsa1024", "rsa-sha1"),
        Signature("dkim", "example.com", "rsa1024", "rsa-sha256"),
    )


LONG = MESSAGE + b"x" * 1500 + b"\n"
# Message, settings, arguments, and the report without the address.
REPORTS: dict[str, tuple[bytes, dict[str, Any], dict[str, str], Report]] = {
    "no entry": (
        MESSAGE.replace(b"example.com", b"example.net"),
        {},
        {},
        Report(
            (), ("no entry for alice@example.net",), "info", 0, "not signed: no entry for alice@example.net"
        ),
    ),
    "no From": (b"\n", {}, {}, Report((), ("no From field",), "warning", 0, "not signed: no From field")),
    "long lines": (LONG, {}, {}, Report(BOTH, (), "info", 1, f"{LINE}; lines over 998 octets broken: 1")),
    "long lines left": (LONG, {"normalize": False}, {}, Report(BOTH, (), "info", 0, LINE)),
    "by the envelope": (
        MESSAGE.replace(b"example.com", b"example.net"),
        {"match": ["from", "envelope"]},
        {"envelope_sender": "x@example.com"},
        Report(BOTH, (), "info", 0, LINE),
    ),
    "accepted": (
        MESSAGE,
        {"sender_map": "/none", "on_error": "accept"},
        {},
        Report(
            (),
            ("map /none: No such file or directory",),
            "warning",
            0,
            "not signed: map /none: No such file or directory",
        ),
    ),
}


@pytest.mark.parametrize("name", REPORTS)
def test_reports(senders: Path, name: str) -> None:
    message, settings, arguments, expected = REPORTS[name]
    signed = Signer(**{"sender_map": senders, **settings}).sign(message, **arguments)
    assert replace(signed.report, text=signed.report.text.partition("; from=")[0]) == expected
    assert signed.report.is_signed or signed.message == message


def test_who_may_have_a_signature(keys: Keys) -> None:
    path = keys.senders("example.com dkim(s=rsa2048,key=KEYS/rsa2048.pem,login=alice)\n", "api-login")
    signer = Signer(sender_map=path)
    assert signer.sign(MESSAGE, login="alice").report.is_signed
    refused = signer.sign(MESSAGE, login="bob")
    assert (refused.message, refused.report.reasons) == (
        MESSAGE,
        (f"login 'bob' may not use {path}, line 1",),
    )
    assert refused.report.level == "warning"
    with pytest.raises(errors.ConfigError, match="login= is set, but no --login was given"):
        signer.sign(MESSAGE)


# Settings


def test_a_conf_file(keys: Keys, senders: Path, tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    conf.write_text(
        f"domain example.com,example.org\nselector mail\nkeyfile {keys.path('ed25519')}\n"
        "signature dkim(c=simple)\nsignature dkim(s=b)\nlisten 127.0.0.1:1\nrelay 127.0.0.1:2\nnormalize no\n"
    )
    selectors = [each.selector for each in Signer(conf_file=conf).sign(MESSAGE).report.signatures]
    assert selectors == ["mail", "b"]
    by_keyword = Signer(conf_file=conf, signature="dkim(s=c)", selector="d", normalize=True).sign(LONG)
    assert [each.selector for each in by_keyword.report.signatures] == ["c"]
    assert by_keyword.report.long_lines == 1


def test_domains(keys: Keys) -> None:
    for domain in ("example.org, example.com", ["example.org", "example.com"]):
        signer = Signer(domain=domain, selector="s", keyfile=keys.path("ed25519"))
        assert [each.domain for each in signer.sign(MESSAGE).report.signatures] == ["example.com"]


SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "match": ({"match": "to"}, "match=: match accepts from, sender, envelope; not 'to'"),
    "on_error": ({"on_error": "bounce"}, "on_error=: on_error must be defer or accept, not 'bounce'"),
    "no conf file": ({"conf_file": "/none"}, "conf file /none: No such file or directory"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_wrong_settings(name: str) -> None:
    settings, cause = SETTINGS[name]
    with pytest.raises(errors.ConfigError) as raised:
        Signer(**settings)
    assert str(raised.value) == cause


def test_an_unknown_setting() -> None:
    with pytest.raises(TypeError):
        Signer(**cast("dict[str, Any]", {"senders": "/x"}))


# Settings, arguments, what is said.
WRONG_TYPES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "text": ({}, {"message": "From: a"}, "a message must be bytes or a binary file, not str"),
    "None": ({}, {"message": None}, "a message must be bytes or a binary file, not NoneType"),
    "login": ({}, {"login": b"bob"}, "login must be str, not bytes"),
    "envelope sender": ({}, {"envelope_sender": b"a"}, "envelope_sender must be str, not bytes"),
    "no envelope sender": (
        {"match": ("from", "envelope")},
        {},
        "envelope_sender is missing: match contains envelope",
    ),
    "normalize": ({"normalize": "no"}, {}, "normalize must be True, False or None, not 'no'"),
    "selector": ({"selector": b"a"}, {}, "selector must be str, not bytes"),
    "domain": ({"domain": b"a"}, {}, "domain must be str, not bytes"),
    "domains": ({"domain": [None]}, {}, "domain must be str, not NoneType"),
    "signature": ({"signature": None}, {}, "signature must be str, not NoneType"),
}


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_wrong_types(senders: Path, name: str) -> None:
    settings, arguments, said = WRONG_TYPES[name]
    with pytest.raises(TypeError) as raised:
        Signer(**{"sender_map": senders, **settings}).sign(**{"message": MESSAGE, **arguments})
    assert str(raised.value) == said


def test_a_target_that_is_no_file(signer: Signer) -> None:
    with pytest.raises(TypeError, match="target must be a binary file, not NoneType"):
        signer.sign_file(MESSAGE, cast("Any", None))


@pytest.mark.parametrize("text", ["\ud800", "\ud800\udcff@example.com", "\udcff@example.com"])
def test_lone_surrogates(keys: Keys, senders: Path, text: str) -> None:
    """They are handled like the octets that the filter would have been given."""
    octets = text.encode("utf-8", "surrogateescape" if "\ud800" not in text else "surrogatepass")
    words = (f"--sender_map={senders}", "--match=envelope", "-f", os.fsdecode(octets))
    is_signed = run_filter(*words, message=MESSAGE).stdout != MESSAGE
    signer = Signer(sender_map=senders, match="envelope")
    report = signer.sign(MESSAGE, envelope_sender=text).report
    assert report.is_signed == is_signed == ("@example.com" in text)
    path = keys.senders("example.com dkim(s=rsa2048,key=KEYS/rsa2048.pem,login=alice)\n", "api-surrogates")
    assert not Signer(sender_map=path).sign(MESSAGE, login=text).report.is_signed


# Errors of a message


class Failing(io.RawIOBase):
    """A file on a disk that fails after some bytes; None: it would block."""

    def __init__(self, octets: bytes, then: OSError | None) -> None:
        self._file = io.BytesIO(octets)
        self._then = then

    def read(self, size: int = -1) -> bytes | None:
        octets = self._file.read(size)
        if not octets and self._then:
            raise self._then
        return octets or None

    def write(self, octets: bytes) -> int | None:  # type: ignore[override]
        if not self._file.getbuffer().nbytes:
            return None if not self._then else self._raise(self._then)
        taken = octets[: self._file.getbuffer().nbytes]
        self._file = io.BytesIO()
        return len(taken)

    def _raise(self, error: OSError) -> int:
        raise error


class Negative(io.BytesIO):
    def write(self, octets: Any) -> int:
        return -1


def closed() -> io.BytesIO:
    file = io.BytesIO()
    file.close()
    return file


EIO, ENOSPC = OSError(5, "Input/output error"), OSError(28, "No space left on device")
SOURCES: dict[str, tuple[Callable[[], Any], str]] = {
    "error": (lambda: Failing(LARGE, EIO), "cannot read the message: Input/output error"),
    "error at once": (lambda: Failing(b"", EIO), "cannot read the message: Input/output error"),
    "would block": (lambda: Failing(LARGE, None), "cannot read the message: it would block"),
    "text": (lambda: io.StringIO("x"), "cannot read the message: the file is not binary"),
    "closed": (closed, "cannot read the message: I/O operation on closed file."),
}
TARGETS: dict[str, tuple[Callable[[], Any], str]] = {
    "full": (lambda: Failing(b"", ENOSPC), "No space left on device"),
    "full after a part": (lambda: Failing(b"x", ENOSPC), "No space left on device"),
    "would block": (lambda: Failing(b"", None), "the file accepts nothing"),
    "closed": (closed, "I/O operation on closed file."),
    "less than nothing": (Negative, "the file accepts nothing"),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_that_fails(signer: Signer, name: str) -> None:
    make, cause = SOURCES[name]
    target = io.BytesIO()
    for run in (signer.sign, lambda source: signer.sign_file(source, target)):
        with pytest.raises(errors.InputError) as raised:
            run(make())
        assert str(raised.value) == cause
    assert target.getvalue() == b""


@pytest.mark.parametrize("message", [MESSAGE, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("name", TARGETS)
def test_a_target_that_fails(signer: Signer, name: str, message: bytes) -> None:
    make, cause = TARGETS[name]
    with pytest.raises(errors.OutputError) as raised:
        signer.sign_file(message, make())
    assert str(raised.value) == f"cannot write the signed message: {cause}"


def test_a_target_of_text(signer: Signer) -> None:
    with pytest.raises(errors.OutputError, match="cannot write the signed message: "):
        signer.sign_file(MESSAGE, cast("Any", io.StringIO()))


def test_a_target_that_takes_little_at_a_time(signer: Signer) -> None:
    class Slow(io.BytesIO):
        def write(self, octets: Any) -> int:
            return super().write(octets[:1000])

    target = Slow()
    report = signer.sign_file(io.BytesIO(LARGE), target)
    assert Signed(target.getvalue(), report) == signer.sign(LARGE)


TROUBLE: dict[str, tuple[str, bytes, type[errors.Trouble]]] = {
    "entry": ("example.com dkim(s=a", MESSAGE, errors.ConfigError),
    "key": ("example.com dkim(s=a,key=/none)", MESSAGE, errors.ConfigError),
    "damaged key": ("example.com dkim(s=a,key=SENDERS)", MESSAGE, errors.PrivateKeyError),
    "header": (ENTRY, b"From: a@example.com\nX: " + b"x" * (1 << 21), errors.HeaderError),
}


@pytest.mark.parametrize("name", TROUBLE)
def test_what_the_filter_would_log_is_raised(keys: Keys, name: str) -> None:
    text, message, expected = TROUBLE[name]
    path = keys.senders(text + "\n", "api-trouble")
    path.write_text(path.read_text().replace("SENDERS", str(path)))
    path.chmod(0o600)
    logged = run_filter(f"--sender_map={path}", message=message).stderr.splitlines()[0]
    with pytest.raises(expected) as raised:
        Signer(sender_map=path).sign(message)
    assert logged == f"{raised.value.code} dkimpipe: {raised.value}"


def test_no_space(signer: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    def pwrite(descriptor: int, octets: bytes, offset: int) -> int:
        raise ENOSPC

    monkeypatch.setattr("dkimpipe.spoolfile.posix.pwrite", pwrite)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(errors.SpoolError, match="No space left on device"):
        signer.sign_file(LARGE, io.BytesIO())
    assert os.listdir("/proc/self/fd") == before


# In threads, and what is left


def messages() -> list[bytes]:
    """Two hundred different messages, small ones and, with another hash function, large ones."""
    bodies = [b"%d\n" % number * (90_000 if number % 40 == 7 else number) for number in range(200)]
    return [MESSAGE.replace(b"Alice", b"Alice %d" % len(body)) + body for body in bodies]


def test_threads_sign_as_one_after_another(signer: Signer) -> None:
    expected = [signer.sign(message) for message in messages()]
    assert {each.report.signatures for each in expected} == {BOTH}

    def work(start: int) -> list[Signed]:
        """Sign all, each thread in an order of its own, half of them to a file."""
        result: dict[int, Signed] = {}
        for number, message in [*enumerate(messages())][start * 25 :] + [*enumerate(messages())][
            : start * 25
        ]:
            if (number + start) % 2:
                result[number] = signer.sign(message)
            else:
                target = io.BytesIO()
                report = signer.sign_file(io.BytesIO(message), target)
                result[number] = Signed(target.getvalue(), report)
        return [result[number] for number in range(len(expected))]

    with ThreadPoolExecutor(8) as pool:
        for done in pool.map(work, range(8)):
            assert done == expected


FIRST = """
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from dkimpipe.api import Signer
barrier = Barrier(8)
def work(number):
    barrier.wait()
    return Signer(sender_map=sys.argv[1], clock=lambda: 0).sign(message).message
message = sys.stdin.buffer.read()
with ThreadPoolExecutor(8) as pool:
    assert len(set(pool.map(work, range(8)))) == 1
"""


def test_the_first_signatures_of_a_process_in_threads(senders: Path) -> None:
    for _ in range(10):
        subprocess.run(
            [sys.executable, "-c", FIRST, senders], cwd=PROJECT, input=LARGE, check=True, timeout=60
        )


def test_nothing_is_left(signer: Signer) -> None:
    signer.sign(LARGE)
    before = os.listdir("/proc/self/fd"), [signal.getsignal(each) for each in signal.valid_signals()]
    for message in (MESSAGE, LARGE, b"From: x@example.net\n\n" + b"x\n" * 300_000):
        signer.sign(message)
        signer.sign_file(io.BytesIO(message), io.BytesIO())
        for broken in (Failing(LARGE, EIO), Failing(message[:70_000], EIO)):
            with pytest.raises(errors.InputError):
                signer.sign_file(broken, io.BytesIO())
    assert (
        os.listdir("/proc/self/fd"),
        [signal.getsignal(each) for each in signal.valid_signals()],
    ) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert gc.isenabled()


ALONE = """
import os, resource, sys
from dkimpipe.api import Signer
signer = Signer(sender_map=sys.argv[1])
signer.sign_file(b"From: a@example.com\\n\\n", open(os.devnull, "wb"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with open(sys.argv[2], "rb") as source, open(sys.argv[3], "wb") as target:
    assert signer.sign_file(source, target).is_signed
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_a_file(senders: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        file.write(MESSAGE)
        for _ in range(50):
            file.write(b"Some text as people write it.\n" * 34_000)
    words = [sys.executable, "-c", ALONE, str(senders), str(source), str(target)]
    grown = int(subprocess.check_output(words, cwd=PROJECT, text=True))
    assert source.stat().st_size > 50_000_000
    assert target.stat().st_size > source.stat().st_size
    assert grown < 8 * 1024  # KiB


# OpenSSL

SETTINGS_OF_TLS = """
import sys
if sys.argv[1:]:
    from dkimpipe.api import Signer
    assert Signer(sender_map=sys.argv[1]).sign(b"From: a@example.com\\n\\n").report.is_signed
import ssl
print(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).minimum_version.name)
"""


def test_the_settings_of_openssl_stay(senders: Path, tmp_path: Path) -> None:
    """The filter itself tells the library not to read them."""
    conf = tmp_path / "openssl.cnf"
    conf.write_text(
        "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nMinProtocol = TLSv1.3\n"
    )
    env = {**os.environ, "OPENSSL_CONF": str(conf)}
    for arguments in ([], [senders]):
        words = [sys.executable, "-c", SETTINGS_OF_TLS, *map(str, arguments)]
        assert subprocess.check_output(words, cwd=PROJECT, env=env, text=True) == "TLSv1_3\n"


# Cost, and types


def test_the_filter_does_not_load_it() -> None:
    code = (
        "import sys, dkimpipe.command, dkimpipe.pipe; print([n for n in sys.modules if n == 'dkimpipe.api'])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], cwd=PROJECT, text=True) == "[]\n"


def test_the_package_itself_loads_nothing() -> None:
    code = "import sys; a = set(sys.modules); import dkimpipe; print(sorted(set(sys.modules) - a))"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=PROJECT, text=True) == "['dkimpipe']\n"


TYPED = """
from dkimpipe.api import Signer
reveal_type(Signer(sender_map="x").sign(b"").report.signatures[0].domain)
Signer(sendermap="x")
"""


def test_it_is_typed(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(TYPED)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path}", "program.py"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(PROJECT)},
        check=False,
    )
    assert 'note: Revealed type is "str"' in done.stdout.replace("builtins.", "")
    assert 'error: Unexpected keyword argument "sendermap" for "Signer"' in done.stdout


def test_an_installation_is_typed(tmp_path: Path) -> None:
    setup = [sys.executable, "-c", "import setuptools; setuptools.setup()", "-q"]
    commands = ["egg_info", f"--egg-base={tmp_path}", "build_py", f"--build-lib={tmp_path}"]
    subprocess.run([*setup, *commands], cwd=PROJECT, check=True)
    assert (tmp_path / "dkimpipe" / "py.typed").exists()
