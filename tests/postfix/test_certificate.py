"""``dkimpipe check --postfix`` on certificates that clients refuse."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from certificates import Authority
from diagnosis import GOOD, check

from dkimpipe.admin.postfix import certificate
from dkimpipe.admin.postfix.postconf import Postconf

HOST = "mx.example.com"


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """An authority that this system trusts."""
    made = Authority(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(made.path))
    monkeypatch.setenv("SSL_CERT_DIR", "/nowhere")
    return made


def use(directory: Path, octets: bytes, *settings: str) -> Path:
    """Have all services present this certificate."""
    path = directory / "server.pem"
    path.write_bytes(octets)
    subprocess.run(["postconf", "-c", directory, "-e", f"smtpd_tls_cert_file={path}", *settings], check=True)
    return path


def finding(directory: Path) -> tuple[int, str, str]:
    """Return exit status, finding and hint."""
    status, output = check(directory)
    what, _, hint = output.removeprefix("dkimpipe: ").partition("\nhint: ")
    return status, what.replace(f"{directory}/", ""), hint


def test_one_that_clients_accept(directory: Path, authority: Authority) -> None:
    use(directory, authority.issue(HOST))
    assert check(directory) == GOOD


def test_in_a_chain_file(directory: Path, authority: Authority) -> None:
    path = use(directory, authority.issue("a.example"))
    subprocess.run(["postconf", "-c", directory, "-e", f"smtpd_tls_chain_files={path}"], check=True)
    assert "server.pem is for a.example, not for mx.example.com" in finding(directory)[1]


def test_key_and_chain_in_files_of_their_own(directory: Path, authority: Authority) -> None:
    key, label, chain = (
        use(directory, authority.issue("a.example")).read_bytes().partition(b"-----BEGIN CERT")
    )
    (directory / "key.pem").write_bytes(key)
    (directory / "chain.pem").write_bytes(label + chain)
    files = f"smtpd_tls_chain_files={directory}/key.pem,{directory}/chain.pem"
    subprocess.run(["postconf", "-c", directory, "-e", files], check=True)
    assert "chain.pem is for a.example, not for mx.example.com" in finding(directory)[1]


def test_expired(directory: Path, authority: Authority) -> None:
    use(directory, authority.issue(HOST, (-9, -2)))
    status, what, hint = finding(directory)
    assert status == 78
    assert re.fullmatch(
        r"error: submission/inet: server\.pem expired on \d{4}-\d\d-\d\d: clients refuse it", what
    )
    assert "certbot certonly" in hint


def test_not_yet_valid(directory: Path, authority: Authority) -> None:
    use(directory, authority.issue(HOST, (2, 9)))
    status, what, _ = finding(directory)
    assert status == 78
    assert re.fullmatch(
        r"error: submission/inet: server\.pem is not valid before \d{4}-\d\d-\d\d: clients refuse it", what
    )


def test_of_another_name(directory: Path, authority: Authority) -> None:
    use(directory, authority.issue("a.example"))
    status, what, hint = finding(directory)
    assert (status, what) == (
        0,
        "warning: submission/inet: server.pem is for a.example, not for mx.example.com (myhostname):"
        " clients that connect to that refuse it",
    )
    assert "certbot certonly --standalone -d mx.example.com && " in hint


def test_of_another_name_beside_those_for_each_name(directory: Path, authority: Authority) -> None:
    use(directory, authority.issue("a.example"), "tls_server_sni_maps=inline:{mx.example.com=/x.pem}")
    assert " is for " not in finding(directory)[1]


def test_of_an_authority_that_nobody_knows(directory: Path, authority: Authority, tmp_path: Path) -> None:
    use(directory, Authority(tmp_path / "other.pem").issue(HOST))
    status, what, hint = finding(directory)
    assert (status, what) == (
        0,
        "warning: submission/inet: server.pem is not trusted: unable to get local issuer certificate:"
        " clients refuse it, or warn their users",
    )
    assert "certbot certonly" in hint


def test_without_its_chain_beside_a_file_with_the_chain(
    directory: Path, authority: Authority, tmp_path: Path
) -> None:
    path = use(directory, Authority(tmp_path / "other.pem").issue(HOST)).rename(directory / "cert.pem")
    (directory / "fullchain.pem").write_bytes(authority.issue(HOST))
    subprocess.run(["postconf", "-c", directory, "-e", f"smtpd_tls_cert_file={path}"], check=True)
    hint = finding(directory)[2]
    assert hint == f"postconf -c {directory} -e smtpd_tls_cert_file={directory}/fullchain.pem\n"
    subprocess.run(["sh", "-c", hint], check=True)
    assert check(directory) == GOOD


def test_a_system_without_authorities(
    directory: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(directory, authority.issue("a.example"))
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere")
    assert check(directory) == GOOD


def test_a_renewal(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/etc/letsencrypt/live/mx/fullchain.pem"
    said = f"{path} expired on 2026-01-01: clients refuse it", "error"
    monkeypatch.setattr(certificate, "fault", lambda *_: said)
    assert certificate.command(Postconf(directory)) == "certbot renew && postfix reload"
