"""``check --postfix``: tables, networks and restrictions that Postfix cannot read; unknown milters."""

from __future__ import annotations

import os
import socketserver
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import settled
from diagnosis import MAIN, MASTER, check, error, fix, write

from dkimpipe.admin.findings import NOTE, Finding
from dkimpipe.admin.postfix import milters, remedies, restriction_names, tables
from dkimpipe.admin.postfix.filter_service import SIGN
from dkimpipe.admin.postfix.network_patterns import fault_of_network
from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.errors import ConfigError

NO_FILE = "No such file or directory"
# A setting; what is wrong with it, and the commands. MAPS is a directory that all may read.
TABLES = {
    "transport_maps = hash:/nowhere": (
        f"hash:/nowhere: Postfix cannot read it: open database /nowhere.db: {NO_FILE}",
        "# restore /nowhere, or leave it out (then transport_maps is empty):\n"
        "postconf -c DIR -X transport_maps",
    ),
    "body_checks = regexp:{{/^X:/ IGNORE}}, regexp:/nowhere": (
        f"regexp:/nowhere: Postfix cannot read it: open /nowhere: {NO_FILE}",
        "# restore /nowhere, or leave it out:\npostconf -c DIR -e 'body_checks=regexp:{{/^X:/ IGNORE}}'",
    ),
    "sender_canonical_maps = hash:MAPS/source": (
        f"hash:MAPS/source: Postfix cannot read it: open database MAPS/source.db: {NO_FILE}",
        "postmap hash:MAPS/source",
    ),
    "alias_maps = hash:MAPS/aliases": (
        f"hash:MAPS/aliases: Postfix cannot read it: open database MAPS/aliases.db: {NO_FILE}",
        "postalias hash:MAPS/aliases",
    ),
    "virtual_alias_maps = MAPS/virtual": (
        "MAPS/virtual: Postfix cannot read it: it has no type, TYPE:NAME",
        "postmap hash:MAPS/virtual && postconf -c DIR -e virtual_alias_maps=hash:MAPS/virtual",
    ),
    "smtpd_sender_login_maps = texthsh:MAPS/source": (
        "texthsh:MAPS/source: Postfix cannot read it: unsupported dictionary type: texthsh",
        "postconf -c DIR -e smtpd_sender_login_maps=texthash:MAPS/source",
    ),
    "own = hash:/nowhere/b\nrecipient_bcc_maps = $own, static:x@example.com": (
        f"hash:/nowhere/b: Postfix cannot read it: open database /nowhere/b.db: {NO_FILE}",
        "# restore /nowhere/b, or leave it out:\npostconf -c DIR -e recipient_bcc_maps=static:x@example.com",
    ),
    "smtpd_helo_restrictions = permit, check_helo_access hash:/nowhere/h, reject_invalid_hostname": (
        f"hash:/nowhere/h: Postfix cannot read it: open database /nowhere/h.db: {NO_FILE}",
        "# restore /nowhere/h, or leave it out:\npostconf -c DIR -e"
        " 'smtpd_helo_restrictions=permit, reject_invalid_hostname'",
    ),
    "authorized_submit_users = root, nobody, texthash:MAPS/secret": (
        "texthash:MAPS/secret: user nobody cannot read it: open database MAPS/secret: Permission denied",
        "chmod a+r MAPS/secret\n# what else prevents access: namei -l MAPS/secret",
    ),
    "relay_domains = example.org, /nowhere/domains": (
        "/nowhere/domains: No such file",
        "# restore /nowhere/domains, or leave it out:\npostconf -c DIR -e relay_domains=example.org",
    ),
    "mynetworks = 127.0.0.0/8, !10.1.2.3/8": (
        "10.1.2.3/8: it has host bits set; the network is 10.0.0.0/8",
        "postconf -c DIR -e 'mynetworks=127.0.0.0/8, !10.0.0.0/8'",
    ),
    "smtpd_sasl_exceptions_networks = 127.0.0.0/33": (
        "127.0.0.0/33: not an address and a prefix length",
        "# correct 127.0.0.0/33, or leave it out (then smtpd_sasl_exceptions_networks is empty):\n"
        "postconf -c DIR -X smtpd_sasl_exceptions_networks",
    ),
}
GOOD_TABLES = """
smtp_tls_session_cache_database = btree:/nowhere/cache
address_verify_map = btree:/nowhere/verify
alias_database = hash:/nowhere/aliases
local_recipient_maps = proxy:unix:passwd.byname, static:x
smtpd_milters = unix:/nowhere/clamav
smtpd_sender_restrictions = check_policy_service unix:private/policy, check_sender_access texthash:MAPS/source
mydestination = $myhostname, texthash:MAPS/source, MAPS/names
mynetworks = 127.0.0.0/8 [::1]/128 [::ffff:127.0.0.0]/104 !192.0.2.1
virtual_transport = lmtp:unix:private/dovecot
sender_dependent_relayhost_maps = pipemap:{texthash:MAPS/source, static:x}
smtpd_restriction_classes = trusted
trusted = PERMIT, check_client_access static:OK
smtpd_etrn_restrictions = permit_mynetworks, trusted, reject_rbl_client rbl.example, Reject_Unauth_Pipelining
"""


@pytest.fixture
def maps() -> Iterator[Path]:
    from postfix import shared_directory

    with shared_directory() as directory:
        for name in ("source", "virtual", "names", "secret"):
            (directory / name).write_text("a@example.com b@example.com\n")
        (directory / "aliases").write_text("a: b\n")
        (directory / "secret").chmod(0o600)
        yield directory


def filled(text: str, directory: Path, maps: Path) -> str:
    return text.replace("DIR", str(directory)).replace("MAPS", str(maps))


def test_each_table_that_cannot_be_read_is_named_and_the_commands_help(
    maps: Path, words: dict[str, str]
) -> None:
    """In a directory that all may read: some tables are opened by others than root."""
    main = MAIN + "\n".join(TABLES).replace("MAPS", str(maps)) + "\n"
    directory = write(maps / "postfix", main, MASTER, words)
    expected = {
        Finding(
            filled(f"{setting.splitlines()[-1].partition(' = ')[0]}: {what}", directory, maps),
            filled(hint, directory, maps),
        )
        for setting, (what, hint) in TABLES.items()
    }
    found = set(tables.findings(Postconf(directory)))
    assert found == expected
    for finding in found:
        for line in finding.hint.splitlines():
            subprocess.run(["sh", "-c", line], check=True)
            settled(directory / "main.cf")
    assert list(tables.findings(Postconf(directory))) == []


def test_good_lists_and_files_that_postfix_writes_are_not_named(maps: Path, words: dict[str, str]) -> None:
    main = MAIN + GOOD_TABLES.replace("MAPS", str(maps))
    postconf = Postconf(write(maps / "postfix", main, MASTER, words))
    assert list(tables.findings(postconf)) == []
    assert list(restriction_names.findings(postconf)) == []


def test_a_table_that_is_older_than_its_source_is_a_warning(maps: Path, words: dict[str, str]) -> None:
    table = f"hash:{maps}/source"
    subprocess.run(["postmap", table], check=True)
    os.utime(maps / "source.db", (0, 0))
    os.utime(maps / "source", (1000, 1000))
    directory = write(maps / "postfix", f"{MAIN}transport_maps = {table}\n", MASTER, words)
    (finding,) = tables.findings(Postconf(directory))
    assert (finding.level, finding.hint) == ("warning", f"postmap {table}")
    subprocess.run(["sh", "-c", finding.hint], check=True)
    assert list(tables.findings(Postconf(directory))) == []


def test_a_table_that_proxymap_refuses_is_named(maps: Path, words: dict[str, str]) -> None:
    directory = write(maps / "postfix", MAIN, MASTER, words)
    table = f"proxy:texthash:{maps}/source"
    subprocess.run(
        ["postconf", "-c", directory, "-P", f"submission/inet/smtpd_sender_login_maps={table}"], check=True
    )
    settled(directory / "main.cf")
    (finding,) = tables.findings(Postconf(directory))
    what = f"submission/inet/smtpd_sender_login_maps: proxymap(8) refuses {table}"
    assert finding.what == f"{what}: it is not in proxy_read_maps"
    fix(directory, f"hint: {finding.hint}\n")
    assert list(tables.findings(Postconf(directory))) == []


# A network as written, and what is wrong with it.
NETWORKS = {
    "127.0.0.0/8": "",
    "[::1]/128": "",
    "192.0.2.1": "",
    "[::1]": "",
    "/etc/networks": "",
    "hash:/etc/networks": "",
    ".example.com": "",
    "0.0.0.0/0": "",
    "127.0.0.0/33": "not an address and a prefix length",
    "127.0.0/24": "not an address and a prefix length",
    "[::1]/129": "not an address and a prefix length",
    "10.0.0.0/": "not an address and a prefix length",
    "10.0.0.0/255.0.0.0": "no prefix length; the network is 10.0.0.0/8",
    "::1/128": "an IPv6 address needs brackets: [::1]/128",
    "[2001:db8::1]/32": "it has host bits set; the network is [2001:db8::]/32",
}


@pytest.mark.parametrize("word", NETWORKS)
def test_a_network_is_judged_as_postfix_does(word: str, tmp_path: Path) -> None:
    assert fault_of_network(word) == NETWORKS[word]
    if "/" not in word or word.startswith(("/", "hash:")):
        return
    table = tmp_path / "networks"
    table.write_text(f"{word} yes\n")
    said = subprocess.run(
        ["postmap", "-q", "x", f"cidr:{table}"], capture_output=True, text=True, check=False
    )
    needs_brackets = "brackets" in NETWORKS[word]  # not in a table
    assert bool(said.stderr) == bool(NETWORKS[word]) or needs_brackets


# A list of restrictions; what is wrong with it; and the list that the command sets.
RESTRICTIONS = {
    "permit_mynetwork, reject": ("permit_mynetwork is not a restriction", "permit_mynetworks, reject"),
    "permit_sasl_authentificated, reject": (
        "permit_sasl_authentificated is not a restriction",
        "permit_sasl_authenticated, reject",
    ),
    "reject_unauth_destinations": ("reject_unauth_destinations is not a", "reject_unauth_destination"),
    "warn_if_reject, reject_rbl_clients rbl.example": (
        "reject_rbl_clients is not a restriction",
        "warn_if_reject, reject_rbl_client, rbl.example",
    ),
    "permit_mynetworks, trustd": ("trustd is not a restriction", "permit_mynetworks, trusted"),
    "permit_mynetworks, mynetworks": ("mynetworks is not a restriction", ""),
    "permit_mynetworks, check_client_access": ("check_client_access lacks its argument", "permit_mynetworks"),
    "permit, reject, defer, sleep 1": ("", ""),
    "permit_mynetwork, permit_tls_clientcert, trusted": (
        "permit_",
        "permit_mynetworks, permit_tls_clientcerts, trusted",
    ),
    "static:ok, trusted, PERMIT_MYNETWORKS": ("", ""),
}


@pytest.mark.parametrize("value", RESTRICTIONS)
def test_a_word_that_smtpd_does_not_know_is_named(value: str, tmp_path: Path, words: dict[str, str]) -> None:
    what, right = RESTRICTIONS[value]
    classes = "smtpd_restriction_classes = trusted\ntrusted = permit\n"
    main = f"{MAIN}{classes}smtpd_relay_restrictions = {value}\n"
    directory = write(tmp_path / "postfix", main, MASTER, words)
    found = list(restriction_names.findings(Postconf(directory)))
    assert bool(found) == bool(what)
    assert all(each.what.startswith(f"smtpd_relay_restrictions: {what}") for each in found)
    for finding in found if right else ():
        fix(directory, "".join(f"hint: {line}\n" for line in finding.hint.splitlines()))
        postconf = Postconf(directory)
        assert postconf.value("smtpd_relay_restrictions").replace("warn_if_reject, ", "") in right
        names = [each for each in restriction_names.findings(postconf) if "is not a" in each.what]
        assert names == []


class Milter(socketserver.StreamRequestHandler):
    """Answers to the negotiation with the actions of the server."""

    def handle(self) -> None:
        self.rfile.read(4 + 13)
        actions = self.server.actions  # type: ignore[attr-defined]
        self.wfile.write(struct.pack("!IcIII", 13, b"O", 6, actions, 0))
        self.rfile.read(5)


@pytest.mark.parametrize(("actions", "is_noted"), [(0x01, True), (0x11, True), (0x10, False), (0, False)])
def test_an_unknown_milter_is_asked_whether_it_adds_fields(
    actions: int, is_noted: bool, directory: Path
) -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Milter) as server:
        server.actions = actions  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        address = f"inet:127.0.0.1:{server.server_address[1]}"
        with (directory / "main.cf").open("a") as main:
            main.write(f"scanner = {address}\nsmtpd_milters = ${{scanner}}\n")
        settled(directory / "main.cf")
        found = list(milters.findings(Postconf(directory), SIGN))
        server.shutdown()
    what = (
        f"submission/inet/smtpd_milters: the milter {address} is unknown here, and may sign as well: it can"
    )
    assert [(each.level, each.what.startswith(what)) for each in found] == [(NOTE, True)] * is_noted


def test_a_milter_that_does_not_answer_is_noted(directory: Path) -> None:
    with (directory / "main.cf").open("a") as main:
        main.write("smtpd_milters = unix:/nowhere/socket\n")
    settled(directory / "main.cf")
    (finding,) = milters.findings(Postconf(directory), SIGN)
    assert "asked, it does not answer: No such file or directory" in finding.what
    assert check(directory)[0] == 0


@pytest.mark.parametrize(
    ("table", "level"),
    [
        ("inline:{{127.0.0.1=inet:localhost:8891}}", "warning"),
        ("inline:{{127.0.0.1=DISABLE}}", NOTE),
        ("cidr:MAPS/milters", "warning"),
    ],
)
def test_milters_of_some_clients_are_named(table: str, level: str, maps: Path, words: dict[str, str]) -> None:
    (maps / "milters").write_text("127.0.0.1 unix:/run/opendkim/opendkim.sock\n")
    main = f"{MAIN}smtpd_milter_maps = {table.replace('MAPS', str(maps))}\n"
    (finding,) = milters.findings(Postconf(write(maps / "postfix", main, MASTER, words)), SIGN)
    assert (finding.level, finding.what.partition(":")[0]) == (level, "submission/inet/smtpd_milter_maps")


def as_nobody(code: str, words: dict[str, str]) -> str:
    """Return what Python code prints as user nobody."""
    become = "import os\nos.setgroups([]), os.setresgid(*[65534] * 3), os.setresuid(*[65534] * 3)\n"
    imports = (
        "from dkimpipe.admin.postfix import tables\n"
        "from dkimpipe.admin.postfix.postconf import Postconf\nfrom dkimpipe.errors import ConfigError\n"
    )
    command = ["/usr/bin/python3", "-c", become + imports + code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=words["SITE"])
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("file", ["main.cf", "master.cf"])
def test_a_file_that_only_root_can_read_is_named(file: str, maps: Path, words: dict[str, str]) -> None:
    directory = write(maps / "postfix", MAIN, MASTER, words)
    (directory / file).chmod(0o600)
    code = (
        f"try: Postconf({str(directory)!r})\nexcept ConfigError as error: print(error, error.hint, sep='|')"
    )
    assert as_nobody(code, words).endswith(f"{directory}/{file}: Permission denied|# run it as root\n")


def test_a_table_that_only_root_can_read_is_no_error_for_others(maps: Path, words: dict[str, str]) -> None:
    main = f"{MAIN}smtp_sasl_password_maps = texthash:{maps}/secret\n"
    directory = write(maps / "postfix", main, MASTER, words)
    code = f"for each in tables.findings(Postconf({str(directory)!r})): print(each.level, each.hint, sep='|')"
    assert as_nobody(code, words) == "warning|# run it as root\n"
    assert list(tables.findings(Postconf(directory))) == []


BROKEN = {
    "a macro that names itself": "a = $b\nb = $a\nrelayhost = $a",
    "a macro that does not end": "relayhost = ${x?",
    "a line without an equals sign": "relayhost example.com",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_main_cf_that_postconf_cannot_read_is_fixed_by_the_hint(
    name: str, tmp_path: Path, words: dict[str, str]
) -> None:
    directory = write(tmp_path / "postfix", f"{MAIN}{BROKEN[name]}\n", MASTER, words)
    with pytest.raises(ConfigError) as raised:
        Postconf(directory)
    fix(directory, error("", raised.value.hint))
    Postconf(directory)


def test_a_line_that_others_continue_is_not_commented_out(tmp_path: Path) -> None:
    (tmp_path / "main.cf").write_text("garbage\n  more\n")
    message = f"postconf: fatal: {tmp_path}/main.cf, line 1: missing '=' after attribute name"
    assert remedies.for_fatal_error(tmp_path, message, {}) == f"# correct line 1 of {tmp_path}/main.cf"
