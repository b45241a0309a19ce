"""DKIMproxy in Postfix's configuration, as it is documented and as people have it: replaced, and restored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import dkimproxy_master
import pytest
from applying import LOGINS, content
from diagnosis import MAIN, PORT_25, check, run, write
from dkimproxy_master import DKSIGN, LISTENER

from dkimpipe.admin.postfix import dkimproxy, doctor, planning
from dkimpipe.admin.postfix.filter_service import SIGN, VERIFY, Job
from dkimpipe.admin.postfix.postconf import Postconf

LOGIN = "    -o smtpd_tls_security_level=encrypt\n    -o smtpd_sasl_auth_enable=yes\n"
SUBMISSION = dkimproxy_master.SUBMISSION.replace("    -o content_filter", f"{LOGIN}    -o content_filter")
RELAYING = "mynetworks = 127.0.0.1\nsmtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination\n"
PICKUP = "pickup unix n - n 60 1 pickup\n"
BY_DKSIGN = "    -o content_filter=dksign:[127.0.0.1]:10027\n"
OUT = SUBMISSION + DKSIGN + LISTENER
# What DKIMproxy has in main.cf and in master.cf, and the kinds that it signs. The first is its documentation.
SIGNED: Mapping[str, tuple[str, str, str]] = {
    "as documented": ("", PORT_25 + PICKUP + OUT, "submission"),
    "dkfilter, without starttls": ("", PORT_25 + PICKUP + OUT.replace(",starttls", ""), "submission"),
    "without brackets": ("", PORT_25 + PICKUP + OUT.replace("[127.0.0.1]", "127.0.0.1"), "submission"),
    "localhost": ("", PORT_25 + PICKUP + OUT.replace("[127.0.0.1]", "localhost"), "submission"),
    "by IPv6": ("", PORT_25 + PICKUP + OUT.replace("[127.0.0.1]", "[::1]"), "submission"),
    "another name": ("", PORT_25 + PICKUP + OUT.replace("dksign", "dkimproxy-out"), "submission"),
    "another port": ("", PORT_25 + PICKUP + OUT.replace(":10027", ":10030"), "submission"),
    "no listener": ("", PORT_25 + PICKUP + SUBMISSION + DKSIGN, "submission"),
    "lmtp(8)": ("", PORT_25 + PICKUP + OUT.replace("4 smtp\n", "4 lmtp\n"), "submission"),
    "two ports for users": (
        "",
        PORT_25
        + PICKUP
        + OUT
        + SUBMISSION.replace("submission inet", "submissions inet")
        + "    -o smtpd_tls_wrappermode=yes\n",
        "submission",
    ),
    "local mail, too": ("", PORT_25 + PICKUP + BY_DKSIGN + OUT, "submission local"),
    "port 25, too": ("", PORT_25 + BY_DKSIGN + PICKUP + OUT, "submission networks"),
    "all mail, by main.cf": (
        "content_filter = dksign:[127.0.0.1]:10027\n",
        PORT_25 + PICKUP + OUT.replace(BY_DKSIGN, ""),
        "submission networks local",
    ),
}
PROXY = "    -o smtpd_proxy_filter=127.0.0.1:10025\n    -o smtpd_client_connection_count_limit=10\n"
LISTENER_IN = LISTENER.replace(":10028", ":10026").replace(",no_header_body_checks", "")
SCAN = "scan unix - - n - 10 smtp\n    -o smtp_send_xforward_command=yes\n"
BY_SCAN = "    -o content_filter=scan:[127.0.0.1]:10025\n"
SUBMISSION_ALONE = "submission inet n - n - - smtpd\n"
# Where only its conf file tells DKIMproxy from a virus scanner.
VERIFIED: Mapping[str, tuple[str, str]] = {
    "before the queue, as documented": ("", PORT_25 + PROXY + PICKUP + SUBMISSION_ALONE + LISTENER_IN),
    "before the queue, by main.cf": (
        "smtpd_proxy_filter = 127.0.0.1:10025\n",
        PORT_25
        + PICKUP
        + SUBMISSION_ALONE
        + "    -o smtpd_proxy_filter=\n"
        + LISTENER_IN
        + "    -o smtpd_proxy_filter=\n",
    ),
    "after the queue": ("", PORT_25 + BY_SCAN + PICKUP + SUBMISSION_ALONE + SCAN + LISTENER_IN),
    "behind postscreen": (
        "",
        "smtp inet n - n - 1 postscreen\nsmtpd pass - - n - - smtpd\n"
        + BY_SCAN
        + PICKUP
        + SUBMISSION_ALONE
        + SCAN
        + LISTENER_IN,
    ),
}
# content_filter, the service that it names, and what it is.
FILTERS: Mapping[str, tuple[str, str, Job | None]] = {
    "dksign": ("dksign:[127.0.0.1]:10027", "smtp", SIGN),
    "dkimsign": ("dkimsign:[127.0.0.1]:10027", "smtp", SIGN),
    "dkim-sign on a port of its own": ("dkim-sign:localhost:20000", "smtp", SIGN),
    "dkimproxy, to sign": ("dkimproxy:[127.0.0.1]:10027", "smtp", SIGN),
    "dkimproxy, to verify": ("dkimproxy:[127.0.0.1]:10025", "smtp", VERIFY),
    "dkimproxy_in": ("dkimproxy_in:[127.0.0.1]:20000", "smtp", VERIFY),
    "dkimproxy_out on another's port": ("dkimproxy_out:[127.0.0.1]:10025", "smtp", SIGN),
    "dkverify": ("dkverify:[::1]:10025", "smtp", VERIFY),
    "scan: ClamSMTP is documented like this": ("scan:[127.0.0.1]:10025", "smtp", None),
    "amavis": ("smtp-amavis:[127.0.0.1]:10024", "smtp", None),
    "amavis, that signs": ("amavisfeed:[127.0.0.1]:10026", "lmtp", None),
    "another host": ("dksign:[192.0.2.1]:10027", "smtp", None),
    "a host name": ("dksign:mail.example.net:10027", "smtp", None),
    "a program": ("dksign:dummy", "pipe", None),
    "no destination": ("dksign:", "smtp", None),
    "the conf file has its port": ("scan:[127.0.0.1]:20025", "smtp", VERIFY),
    "the other conf file has its port": ("x:127.0.0.1:20027", "smtp", SIGN),
    "a proxy filter": ("127.0.0.1:20025", "", VERIFY),
    "a proxy filter, spelled inet": ("inet:127.0.0.1:20025", "", VERIFY),
    "another proxy filter": ("127.0.0.1:10024", "", None),
    "none": ("", "", None),
}


@pytest.fixture
def conf_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[Job, Path]:
    """The conf files of DKIMproxy, for both jobs; the one that signs is missing at first."""
    found = {SIGN: tmp_path / "dkimproxy_out.conf", VERIFY: tmp_path / "dkimproxy_in.conf"}
    monkeypatch.setattr(dkimproxy, "CONF_FILES", {job: (str(path),) for job, path in found.items()})
    return found


@pytest.mark.parametrize("name", FILTERS)
def test_a_content_filter_is_dkimproxy_by_name_or_conf_file(
    name: str, tmp_path: Path, words: dict[str, str], conf_files: dict[Job, Path]
) -> None:
    content_filter, command, job = FILTERS[name]
    conf_files[SIGN].write_text("# DKIMproxy\nlisten    127.0.0.1:20027\nrelay     127.0.0.1:20028\n")
    conf_files[VERIFY].write_text("listen 127.0.0.1:20025\n")
    transport = content_filter.partition(":")[0]
    service = f"{transport} unix - n n - 2 {command}\n" if command else ""
    if command == "pipe":
        service = service.replace("pipe\n", "pipe user=nobody argv=/bin/true\n")
    directory = write(tmp_path / "postfix", MAIN, PORT_25 + service, words)
    assert dkimproxy.job_of(Postconf(directory), content_filter) is job


def _apply(directory: Path, *options: str) -> str:
    status, output = run(directory, "postfix", "--apply", *options)
    assert status == 0
    return output


@pytest.mark.parametrize("name", SIGNED)
def test_what_signs_is_replaced_and_comes_back_byte_for_byte(
    name: str, tmp_path: Path, words: dict[str, str], conf_files: dict[Job, Path]
) -> None:
    main, master, signed = SIGNED[name]
    directory = write(tmp_path / "postfix", f"{RELAYING}{main}", master, words)
    before = content(directory)
    assert "DKIMproxy gets this mail, and dkimpipe replaces it" in check(directory)[1]
    assert "# DKIMproxy gets no more mail: stop it when " in _apply(directory, "--user", "nobody")
    postconf = Postconf(directory)
    errors = [each.what for each in doctor.findings(postconf, "nobody") if each.level == "error"]
    assert [what for what in errors if not any(each in what for each in LOGINS)] == []
    filters = [postconf.value("content_filter", each.id) for each in postconf.services.values()]
    assert not [each for each in filters if "1002" in each or "1003" in each]
    assert {*signed.split()} <= {*planning.kinds_in_use(postconf)}
    assert run(directory, "postfix", "--revert")[0] == 0
    assert content(directory) == before


@pytest.mark.parametrize("name", VERIFIED)
def test_what_verifies_is_replaced_and_comes_back_byte_for_byte(
    name: str, tmp_path: Path, words: dict[str, str], conf_files: dict[Job, Path]
) -> None:
    main, master = VERIFIED[name]
    conf_files[VERIFY].write_text("listen    127.0.0.1:10025\nrelay     127.0.0.1:10026\n")
    directory = write(tmp_path / "postfix", f"compatibility_level = 3.6\n{main}", master, words)
    before = content(directory)
    _apply(directory, "--verify", "--user", "daemon")
    status, checked = run(directory, "postfix", "--verify", "--check")
    assert (status, "DKIMproxy" in checked) == (0, False), checked
    postconf = Postconf(directory)
    (service,) = [each for each in postconf.running("smtpd") if each.port in ("smtp", "smtpd")]
    assert postconf.value("content_filter", service.id) == "dkimpipe-verify:dummy"
    assert postconf.value("smtpd_proxy_filter", service.id) == ""
    assert run(directory, "postfix", "--verify", "--revert")[0] == 0
    assert content(directory) == before


@pytest.mark.parametrize("name", VERIFIED)
def test_without_its_conf_file_it_may_be_a_virus_scanner_and_stays(
    name: str,
    tmp_path: Path,
    words: dict[str, str],
    conf_files: dict[Job, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    main, master = VERIFIED[name]
    directory = write(tmp_path / "postfix", f"compatibility_level = 3.6\n{main}", master, words)
    before = content(directory)
    assert run(directory, "postfix", "--verify", "--apply", "--user", "daemon") == (78, "")
    assert f"if it is DKIMproxy, name its port in {conf_files[VERIFY]}: listen 127.0.0.1:10025" in (
        capsys.readouterr().err
    )
    assert content(directory) == before


def test_where_another_filter_follows_it_is_not_replaced(
    tmp_path: Path, words: dict[str, str], conf_files: dict[Job, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """What scans the mail after DKIMproxy would get it no more."""
    chained = OUT.replace("    -o content_filter=\n", "    -o content_filter=smtp-amavis:[127.0.0.1]:10024\n")
    master = f"{PORT_25}{PICKUP}{chained}smtp-amavis unix - - n - 2 smtp\n"
    directory = write(tmp_path / "postfix", "compatibility_level = 3.6\n", master, words)
    before = content(directory)
    assert run(directory, "postfix", "--apply", "--user", "nobody") == (78, "")
    assert "a service can have only one filter" in capsys.readouterr().err
    assert content(directory) == before
