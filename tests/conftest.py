"""What all tests share: throwaway keys, and the filter run as its users run it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
import witness
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

PROJECT = Path(__file__).resolve().parent.parent
MAIN = PROJECT / "dkimpipe" / "__main__.py"
INTERPRETER = os.path.realpath(sys.executable)  # the venv may be where the filter's user cannot go
FIGURE = "measured"
MESSAGE = b"From: Alice <alice@example.com>\nTo: bob@example.net\nSubject: hello\n\nHello, Bob.\n"


# Fixtures of the lab.
pytest_plugins = ["auditing", "commandline", "diagnosis", "installing", "rolling", "starts"]

# What tests rely on, whoever started them: nohup(1), cron and shells in the background ignore signals.
os.umask(0o022)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
# Printed commands are short: PATH has this installation, behind all else, so that it hides no program.
os.environ["PATH"] += f":{Path(sys.executable).parent}"


# With several workers, each takes a file after the other: those that take longest begin, in this order.
# Half of them wait more than they compute, which is why there are more workers than processors.
SLOWEST = (
    *("test_rotate_records", "test_audit_files", "test_apply_kinds", "test_running"),
    *("test_doctor_fatal", "test_doctor_submission", "test_faults_mail", "test_exposure"),
    *("test_submission", "test_foreign_keys", "test_doctor_daemons", "test_setup"),
    *("test_verify_hostile", "test_check_dns", "test_matrix", "test_postfix", "test_reports_month"),
    *("test_doctor_filter", "test_kinds_others", "test_selinux", "test_check_everything"),
    *("test_rotate_waits", "test_test_outcome", "test_man", "test_apply_header_fields", "test_transit"),
    *("test_doctor_kinds", "test_check", "test_doctor_other_signers", "test_import"),
    *("test_import_mail", "test_rotate_fixed", "test_genkey", "test_test", "test_doctor_arguments"),
    *("test_apply_verifier", "test_doctor_way_out", "test_import_rspamd_witness", "test_apply_both"),
    *("test_other_filters_mail", "test_apply_dkimproxy", "test_keys", "test_doctor_good"),
    *("test_explain", "test_doctor_access", "test_doctor_endpoints", "test_doctor_redirected"),
    *("test_lenient", "test_apply", "test_octets", "test_relay_postfix", "test_template_domains"),
    *("test_apply_networks", "test_relay", "test_ucl", "test_inbound", "test_setup_refused"),
    *("test_publish_command", "test_reports_unpacked", "test_rotate_reports"),
)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "alone: measures time, and is not run beside other tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(SLOWEST)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what was measured. Say loudly what was left out: in CI that is a failure."""
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for figure in [value for name, value in report.user_properties if name == FIGURE]:
            terminalreporter.write_line(f"{report.nodeid.partition('::')[0]}: {figure}")
    left_out = terminalreporter.getreports("skipped")
    for report in left_out:
        terminalreporter.write_line(f"LEFT OUT: {report.nodeid}: {report.longreprtext}", red=True)
    if left_out and os.environ.get("CI"):
        pytest.exit(f"{len(left_out)} tests left out; CI must run them all", returncode=1)


class Keys(NamedTuple):
    """Key files by a name such as ``rsa2048``, each with its record for ``NAME._domainkey.example.com``."""

    directory: Path
    records: dict[str, list[bytes]]

    def path(self, name: str) -> Path:
        """Return the file of a key."""
        return self.directory / f"{name}.pem"

    def senders(self, text: str, name: str = "senders") -> Path:
        """Return a new senders file beside the keys; ``KEYS`` in its text is their directory."""
        path = self.directory / name
        path.write_text(text.replace("KEYS", str(self.directory)))
        return settled(path)


def settled(path: Path) -> Path:
    """Make a file old: the filter waits for a map, and Postfix for main.cf, that was changed just now."""
    os.utime(path, (0, 0))
    return path


def write_key(path: Path, octets: bytes) -> Path:
    """Write a key file that only its owner can read."""
    path.write_bytes(octets)
    path.chmod(0o600)
    return path


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """Keys of each kind, in PKCS#8 and, for RSA, in PKCS#1 (``rsa2048-pkcs1``)."""
    directory = tmp_path_factory.mktemp("keys")
    records = {}
    made: dict[str, rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey] = {
        f"rsa{bits}": rsa.generate_private_key(65537, bits) for bits in (1024, 2048, 4096)
    }
    made["ed25519"] = ed25519.Ed25519PrivateKey.generate()
    for name, key in made.items():
        forms = {name: PrivateFormat.PKCS8}
        if name != "ed25519":
            forms[f"{name}-pkcs1"] = PrivateFormat.TraditionalOpenSSL
        for form_name, form in forms.items():
            pem = key.private_bytes(Encoding.PEM, form, NoEncryption())
            write_key(directory / f"{form_name}.pem", pem)
            records[f"{form_name}._domainkey.example.com"] = [witness.record(pem)]
    return Keys(directory, records)


def copy_program(directory: Path) -> Path:
    """Copy the package, with what it needs beside it; return the path by which the filter is started."""
    shutil.copytree(PROJECT / "dkimpipe", directory / "dkimpipe")
    for name in ("dns", "cryptography", "_cffi_backend"):
        found = Path((find_spec(name) or pytest.fail(name)).origin or "")
        if found.name == "__init__.py":
            shutil.copytree(found.parent, directory / name)
        else:
            shutil.copy(found, directory)
    subprocess.run([INTERPRETER, "-m", "compileall", "-q", directory / "dkimpipe"], check=True)
    return directory / "dkimpipe" / "__main__.py"


Report = Callable[[str], None]


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Report:
    """Keep a measured figure for the end of the run, whether the test passes or not."""
    return lambda figure: record_property(FIGURE, figure)


class Done(NamedTuple):
    """How a run of the filter ended."""

    status: int
    stdout: bytes
    stderr: str


def run_filter(*arguments: str, message: bytes = MESSAGE, env: dict[str, str] | None = None) -> Done:
    """Run ``dkimpipe ARGUMENTS < message`` in a process of its own, by the fastest start."""
    done = subprocess.run(
        [sys.executable, "-IS", str(MAIN), *arguments],
        input=message,
        capture_output=True,
        env={**os.environ, **(env or {})},
        timeout=60,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr.decode())
