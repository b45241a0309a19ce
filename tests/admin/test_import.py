"""``dkimpipe import``: what it prints, writes, and refuses to write."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import struct
import subprocess
import sys
import threading
from importlib import import_module
from pathlib import Path

import opendkim
import pytest
from conftest import MAIN, Keys
from opendkim import CONF, OF_THIS_HOST, Shape, run_import

from dkimpipe import files
from dkimpipe.admin.migration.foreign import Foreign
from dkimpipe.admin.postfix.kinds import LOCAL, NETWORKS, SUBMISSION
from dkimpipe.admin.postfix.postconf import Postconf

SHAPE = Shape(
    {
        CONF: (
            "Mode s\nDomain example.com\n# a comment\nSelector mail\nKeyFile DIR/mail.private # its key\n"
            "Canonicalization relaxed/simple\nSyslog yes\nPeerList 192.0.2.1\n"
        )
    },
    {"mail.private": "rsa2048"},
)
LOSING = Shape({CONF: SHAPE.files[CONF] + "DontSignMailTo list@example.net\n"}, SHAPE.keys)
LOST = (
    "lost: FOREIGN/opendkim.conf, line 9: DontSignMailTo: recipients do not choose the signature;"
    " their mail is signed, too\n"
)
PRINTED = """\
### OURS/senders
# who    what to add
# FOREIGN/opendkim.conf, line 2
*@example.com  dkim(s=mail,key=OURS/keys/example.com.mail.pem)

### OURS/dkimpipe.conf
# FOREIGN/opendkim.conf, line 6
dkim_method relaxed/simple
# FOREIGN/opendkim.conf
match from
# FOREIGN/opendkim.conf
sign_clients authenticated,127.0.0.1

key: FOREIGN/mail.private becomes OURS/keys/example.com.mail.pem

same: FOREIGN/opendkim.conf, line 7: Syslog: each message has its line in the log of Postfix
changed: FOREIGN/opendkim.conf: h=: no SignHeaders: Message-ID, Sender, MIME-Version and Content-* are\
 signed from now on, too, and most fields are mentioned once more, which protects against a second one
changed: FOREIGN/opendkim.conf, line 8: PeerList: mail from there stays unsigned without a login; with a\
 login it is signed from now on
"""
WRITTEN = """
OURS/keys/example.com.mail.pem: written
OURS/dkimpipe.conf: written
OURS/senders: written
"""


class Place:
    """A configuration of OpenDKIM, and a directory for what becomes of it."""

    def __init__(self, directory: Path, keys: Keys, shape: Shape) -> None:
        self.foreign, self.ours = directory / "foreign", directory / "ours"
        self.conf = shape.write(self.foreign, keys)

    def run(self, *arguments: object) -> tuple[int, str, str]:
        """Run the verb; return status, output and errors, with short names for the directories."""
        done = run_import(self.conf, *arguments)
        return done.status, self.shortened(done.stdout.decode()), self.shortened(done.stderr)

    def shortened(self, text: str) -> str:
        """Return a text with short names for the directories, and without the host's own configuration."""
        lines = [line for line in text.splitlines(keepends=True) if f": {OF_THIS_HOST}" not in line]
        return "".join(lines).replace(str(self.foreign), "FOREIGN").replace(str(self.ours), "OURS")


@pytest.fixture
def place(tmp_path: Path, keys: Keys) -> Place:
    return Place(tmp_path, keys, SHAPE)


@pytest.fixture
def losing(tmp_path: Path, keys: Keys) -> Place:
    return Place(tmp_path, keys, LOSING)


def test_without_an_option_it_only_prints(place: Place) -> None:
    before = sorted(place.foreign.parent.rglob("*"))
    assert place.run() == (0, PRINTED.replace("OURS", "/etc/dkimpipe"), "")
    assert sorted(place.foreign.parent.rglob("*")) == before


def test_output_writes_it_to_a_directory(place: Place, keys: Keys) -> None:
    assert place.run("--output", place.ours) == (0, PRINTED + WRITTEN, "")
    printed = place.shortened((place.ours / "senders").read_text())
    assert PRINTED.startswith(f"### OURS/senders\n{printed}\n### OURS/dkimpipe.conf\n")
    key = place.ours / "keys/example.com.mail.pem"
    assert key.read_bytes() == keys.path("rsa2048").read_bytes()
    assert stat.S_IMODE(key.stat().st_mode) == 0o440
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700


def test_what_is_written_signs(place: Place, keys: Keys) -> None:
    place.run("--output", place.ours)
    command = [sys.executable, str(MAIN), f"--sender_map={place.ours}/senders"]
    command.append(f"--conf_file={place.ours}/dkimpipe.conf")
    done = subprocess.run(command, input=b"From: a@example.com\n\n", capture_output=True, check=True)
    assert b"d=example.com; s=mail" in done.stdout.replace(b"\n ", b" ")


def test_a_second_time_nothing_changes(place: Place) -> None:
    place.run("--output", place.ours)
    before = {path: path.stat().st_mtime_ns for path in place.ours.rglob("*")}
    assert place.run("--output", place.ours) == (0, PRINTED + WRITTEN.replace("written", "unchanged"), "")
    assert {path: path.stat().st_mtime_ns for path in place.ours.rglob("*")} == before


@pytest.mark.parametrize("name", ["senders", "dkimpipe.conf", "keys/example.com.mail.pem"])
def test_what_is_there_and_not_the_same_is_kept(place: Place, name: str) -> None:
    path = place.ours / name
    path.parent.mkdir(parents=True)
    path.write_text("# mine\n")
    status, _, errors = place.run("--output", place.ours)
    assert status == 78
    assert errors.startswith(f"dkimpipe: OURS/{name} exists and is not the same: nothing was written\nhint: ")
    assert path.read_text() == "# mine\n"
    assert list(place.ours.rglob("*")) == [*({path.parent} - {place.ours}), path]


@pytest.mark.parametrize("arguments", [[], ["--overwrite"]])
def test_a_key_has_the_age_of_its_source(place: Place, arguments: list[str]) -> None:
    key = place.ours / "keys/example.com.mail.pem"
    if arguments:
        key.parent.mkdir(parents=True)
        key.write_text("# mine\n")
    os.utime(place.foreign / "mail.private", (1_500_000_000, 1_500_000_000))
    assert place.run("--output", place.ours, *arguments)[0] == 0
    assert key.stat().st_mtime == 1_500_000_000
    assert (place.ours / "senders").stat().st_mtime > 1_500_000_000


def test_overwrite_replaces_it_and_keeps_a_copy(place: Place) -> None:
    place.ours.mkdir()
    (place.ours / "senders").write_text("# mine\n")
    status, output, errors = place.run("--output", place.ours, "--overwrite")
    assert (status, errors) == (0, "")
    assert output.endswith("OURS/senders: replaced; the old one is OURS/senders.old\n")
    assert (place.ours / "senders.old").read_text() == "# mine\n"
    assert "*@example.com" in (place.ours / "senders").read_text()


def test_what_is_lost_is_listed_last_and_the_status_says_so(losing: Place) -> None:
    status, output, errors = losing.run()
    assert (status, errors) == (78, "")
    assert output.endswith(LOST)


def test_with_a_loss_nothing_is_applied(losing: Place) -> None:
    status, output, errors = losing.run("--apply")
    assert status == 78
    assert output.endswith(LOST)
    assert errors == (
        "dkimpipe: nothing was written, since some settings are lost\nhint: --partial goes on without them\n"
    )


def test_partial_accepts_the_loss(losing: Place) -> None:
    status, output, errors = losing.run("--partial", "--output", losing.ours)
    assert (status, errors) == (0, "")
    assert output.endswith(LOST + WRITTEN)


def test_what_the_filter_would_not_accept_is_lost(tmp_path: Path, keys: Keys) -> None:
    text = SHAPE.files[CONF].replace("Selector mail", "Selector mail._domainkey")
    place = Place(tmp_path, keys, Shape({CONF: text}, SHAPE.keys))
    status, output, _ = place.run("--output", place.ours)
    assert status == 78
    why = "s=mail._domainkey is the name of a record, not a selector"
    assert f"lost: FOREIGN/opendkim.conf, line 2: *@example.com: {why}: there is no entry\n" in output


def test_a_configuration_that_signs_nothing(tmp_path: Path, keys: Keys) -> None:
    place = Place(tmp_path, keys, opendkim.SHAPES["RHEL's default"])
    status, output, errors = place.run("--apply")
    assert (status, errors) == (0, "")
    assert "line 2: Mode: OpenDKIM only verifies: it signs nothing\n" in output
    assert output.endswith("\n\nnothing to write\n")


def test_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    done = run_import(tmp_path / "x")
    assert (done.status, done.stderr) == (
        78,
        f"dkimpipe: {tmp_path}/x: No such file or directory\n"
        "hint: dkimpipe import opendkim PATH, if it is not /etc/opendkim.conf\n",
    )


@pytest.mark.parametrize(
    "arguments", [["sendmail"], ["rspamd", "--compare", "x"], ["opendkim", "--apply", "--output=x"], []]
)
def test_wrong_usage(arguments: list[str]) -> None:
    command = [sys.executable, str(MAIN), "import", *arguments]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 64


LISTS = "smtpd_milters = inet:localhost:8891, inet:localhost:11332\nnon_smtpd_milters = $smtpd_milters\n"
DMARC = f"{LISTS}smtpd_milters = inet:localhost:8891, inet:localhost:8893\n"
SPAM = "smtp inet n - n - - smtpd -o content_filter=spam:dummy\nspam unix - n n - - pipe argv=/x\n"
USERS = "submission inet n - n - - smtpd -o content_filter=spam:dummy -o smtpd_sasl_auth_enable=yes\n"
AMAVIS = "content_filter = smtp-amavis:[127.0.0.1]:10024\ninternal_mail_filter_classes = bounce\n"
RETURN = (
    "smtp inet n - n - - smtpd\nsubmission inet n - n - - smtpd -o smtpd_sasl_auth_enable=yes\n"
    "smtp-amavis unix - - n - 2 smtp\npickup unix n - n 60 1 pickup\n"
    "127.0.0.1:10025 inet n - n - - smtpd -o content_filter= -o smtpd_milters=inet:localhost:8891"
    " -o receive_override_options=no_unknown_recipient_checks"
)
NOTICES, SOCKET = "internal_mail_filter_classes = ", "inet:localhost:8891"
BOUNCE, CLEANUP = "bounce unix - - n - 0 bounce", "\ncleanup unix n - n - 0 cleanup"
SIGNER = Foreign(kinds=[SUBMISSION, LOCAL], milters=[SOCKET])
# Of the files of Postfix, and of a signer: the lines of what remains to be done, but the first two.
NEXT = {
    "a signer that is replaced": (
        LISTS,
        "",
        Foreign(kinds=[SUBMISSION, LOCAL], milters=["inet:127.0.0.1:8891"]),
        """\
# let Postfix pass mail to dkimpipe, and take the other signer out of smtpd_milters
POSTFIX --sign submission,local --replace-milter inet:localhost:8891 --reload
dkimpipe check --postfix
""",
    ),
    "a program that also filters spam": (
        LISTS,
        "",
        Foreign(kinds=[SUBMISSION, LOCAL], milters=["inet:localhost:11332"], stays=True),
        """\
# let Postfix pass mail to dkimpipe; the other program stays in smtpd_milters, and must no longer\
 sign: see above
POSTFIX --sign submission,local --reload
dkimpipe check --postfix
""",
    ),
    "a milter that Postfix does not have": (
        "smtpd_milters = inet:localhost:8893, unix:/run/clamav.sock\n",
        "",
        Foreign(kinds=[SUBMISSION, LOCAL], milters=["inet:localhost:9"]),
        """\
# let Postfix pass mail to dkimpipe; no list of milters has the other signer
POSTFIX --sign submission --reload
dkimpipe check --postfix
""",
    ),
    "a signer whose results OpenDMARC needs": (
        DMARC,
        "",
        Foreign(kinds=[SUBMISSION, LOCAL], milters=["inet:localhost:8891"]),
        """\
# let Postfix pass mail to dkimpipe; the other signer stays in smtpd_milters, since OpenDMARC\
 (inet:localhost:8893) needs its results
POSTFIX --sign submission,local --reload
# then let the other signer only verify: Mode v in its conf file; restart it
dkimpipe check --postfix
""",
    ),
    "mail of a kind that has another filter": (
        LISTS,
        SPAM,
        Foreign(kinds=[SUBMISSION, NETWORKS], milters=["inet:localhost:8891"]),
        """\
# not signed any more: networks: smtp/inet: spam:dummy gets this mail, and a message can have only one\
 filter
# sign it where it comes back from there, on a port only for mail of your own
# let Postfix pass mail to dkimpipe, and take the other signer out of smtpd_milters
POSTFIX --sign submission --replace-milter inet:localhost:8891 --reload
dkimpipe check --postfix
""",
    ),
    "mail from users that has another filter": (
        LISTS,
        SPAM + USERS,
        Foreign(kinds=[SUBMISSION], milters=["inet:localhost:8891"]),
        """\
# first: submission/inet/content_filter: spam:dummy gets this mail, and a service can have only one filter
# let spam return its mail by SMTP to a listener of Postfix with -o content_filter=dkimpipe:dummy
# let Postfix pass mail to dkimpipe, and take the other signer out of smtpd_milters
POSTFIX --sign submission --replace-milter inet:localhost:8891 --reload
dkimpipe check --postfix
""",
    ),
    "a signer behind another filter": (
        AMAVIS,
        f"{RETURN}\n",
        Foreign(kinds=[SUBMISSION, NETWORKS, LOCAL], milters=["inet:localhost:8891"]),
        """\
# not signed any more: networks: smtp/inet: smtp-amavis:[127.0.0.1]:10024 gets this mail, and a message can\
 have only one filter
# sign it where it comes back from there, on a port only for mail of your own
# not signed any more: local: pickup/unix: smtp-amavis:[127.0.0.1]:10024 gets this mail, and a message can\
 have only one filter
# let Postfix pass mail to dkimpipe, and take the other signer out of 127.0.0.1:10025/inet/smtpd_milters
POSTFIX --sign submission --replace-milter inet:localhost:8891 --reload
dkimpipe check --postfix
""",
    ),
    "a signer behind another filter, that does not sign for this host": (
        AMAVIS,
        f"{RETURN}\n",
        Foreign(kinds=[SUBMISSION], milters=["inet:localhost:8891"]),
        """\
# let Postfix pass mail to dkimpipe, and take the other signer out of 127.0.0.1:10025/inet/smtpd_milters
POSTFIX --sign submission --replace-milter inet:localhost:8891 --reload
dkimpipe check --postfix
""",
    ),
    "another filter, behind which nobody signs": (
        f"{LISTS}{AMAVIS}",
        f"{RETURN},no_milters\n",
        Foreign(kinds=[SUBMISSION, NETWORKS, LOCAL], milters=["inet:localhost:11332"], stays=True),
        """\
# not signed any more: networks: smtp/inet: smtp-amavis:[127.0.0.1]:10024 gets this mail, and a message can\
 have only one filter
# sign it where it comes back from there, on a port only for mail of your own
# not signed any more: local: pickup/unix: smtp-amavis:[127.0.0.1]:10024 gets this mail, and a message can\
 have only one filter
# let Postfix pass mail to dkimpipe; the other program stays in smtpd_milters, and must no longer\
 sign: see above
POSTFIX --sign submission --reload
dkimpipe check --postfix
""",
    ),
    "Postfix's own notices": (
        f"{LISTS}{NOTICES}bounce\n",
        f"{BOUNCE}{CLEANUP}\n",
        SIGNER,
        "# let Postfix pass mail to dkimpipe, and take the other signer out of smtpd_milters\n"
        f"POSTFIX --sign submission,bounces,local --replace-milter {SOCKET} --reload\n"
        "dkimpipe check --postfix\n",
    ),
    "notices that a milter gets which may be the signer": (
        f"non_smtpd_milters = inet:localhost:1\n{NOTICES}bounce\n",
        f"{BOUNCE}{CLEANUP}\n",
        SIGNER,
        "# inet:localhost:1 in non_smtpd_milters may be the other signer: see which program it is\n"
        "ss -ltnp 'sport = :1'\n"
        "# if it is, add --replace-milter inet:localhost:1 to the next command: otherwise mail is signed"
        " twice\n"
        "# let Postfix pass mail to dkimpipe\n"
        "POSTFIX --sign submission,bounces,local --reload\n"
        "dkimpipe check --postfix\n",
    ),
    "notices that no milter gets": (
        LISTS,
        f"{BOUNCE}{CLEANUP}\n",
        SIGNER,
        "# let Postfix pass mail to dkimpipe, and take the other signer out of smtpd_milters\n"
        f"POSTFIX --sign submission,local --replace-milter {SOCKET} --reload\n"
        "dkimpipe check --postfix\n",
    ),
    "notices that a milter gets from one service": (
        LISTS,
        f"{BOUNCE} -o {NOTICES.replace(' ', '')}notify,Bounce\n{CLEANUP}\n",
        SIGNER,
        "# let Postfix pass mail to dkimpipe, and take the other signer out of smtpd_milters\n"
        f"POSTFIX --sign submission,bounces,local --replace-milter {SOCKET} --reload\n"
        "dkimpipe check --postfix\n",
    ),
    "notices that the other signer does not sign": (
        f"{LISTS}{NOTICES}bounce\n",
        f"{BOUNCE}{CLEANUP}\n",
        Foreign(kinds=[SUBMISSION], milters=[SOCKET]),
        "# let Postfix pass mail to dkimpipe, and take the other signer out of smtpd_milters\n"
        f"POSTFIX --sign submission --replace-milter {SOCKET} --reload\n"
        "dkimpipe check --postfix\n",
    ),
    "notices by a cleanup(8) without milters": (
        f"{LISTS}{NOTICES}bounce\n",
        f"{BOUNCE}{CLEANUP} -o non_smtpd_milters=\n",
        SIGNER,
        "# let Postfix pass mail to dkimpipe, and take the other signer out of smtpd_milters\n"
        f"POSTFIX --sign submission,local --replace-milter {SOCKET} --reload\n"
        "dkimpipe check --postfix\n",
    ),
    "notices of other programs, which stay here": (
        f"{LISTS}{NOTICES}notify\nnotify_classes = policy\n",
        f"{BOUNCE}{CLEANUP}\nsmtp inet n - n - - smtpd\n",
        SIGNER,
        "# let Postfix pass mail to dkimpipe, and take the other signer out of smtpd_milters\n"
        f"POSTFIX --sign submission,local --replace-milter {SOCKET} --reload\n"
        "dkimpipe check --postfix\n",
    ),
    "notices of other programs": (
        f"{LISTS}{NOTICES}notify\nnotify_classes = policy, bounce\nerror_notice_recipient = a@example.org\n",
        f"{BOUNCE}{CLEANUP}\nsmtp inet n - n - - smtpd\n",
        SIGNER,
        "# not signed any more: notices of smtpd(8) and smtp(8) to a@example.org: notify_classes has policy\n"
        "# set error_notice_recipient to an address of this host, or do without these notices:\n"
        "# postconf -c DIRECTORY -e notify_classes=bounce\n"
        "# let Postfix pass mail to dkimpipe, and take the other signer out of smtpd_milters\n"
        f"POSTFIX --sign submission,local --replace-milter {SOCKET} --reload\n"
        "dkimpipe check --postfix\n",
    ),
    "users on another port": (
        LISTS,
        "2525 inet n - n - - smtpd -o smtpd_sasl_auth_enable=yes\n"
        "26 inet n - n - - smtpd\n"
        "10025 inet n - n - - smtpd -o smtpd_sasl_auth_enable=yes -o smtpd_milters=\n",
        Foreign(kinds=[SUBMISSION, LOCAL], milters=["inet:localhost:8891"]),
        """\
# not signed any more: 2525/inet: users can log in there, and it has neither port 587 nor 465
# then pass it to the filter: postconf -c DIRECTORY -P 2525/inet/content_filter=dkimpipe:dummy
# let Postfix pass mail to dkimpipe, and take the other signer out of smtpd_milters
POSTFIX --sign submission,local --replace-milter inet:localhost:8891 --reload
dkimpipe check --postfix
""",
    ),
    "other names of this host": (
        "smtpd_milters = inet:127.0.1.1:8891, inet:[::1]:8891, inet:localhost:8892\n",
        "",
        Foreign(kinds=[SUBMISSION], milters=["inet:localhost:8891"]),
        """\
# let Postfix pass mail to dkimpipe, and take the other signer out of smtpd_milters
POSTFIX --sign submission --replace-milter 'inet:127.0.1.1:8891,inet:[::1]:8891' --reload
dkimpipe check --postfix
""",
    ),
}


@pytest.mark.skipif(not shutil.which("postconf"), reason="no postconf")
@pytest.mark.parametrize(("main", "master", "foreign", "steps"), NEXT.values(), ids=NEXT)
def test_the_next_steps(tmp_path: Path, main: str, master: str, foreign: Foreign, steps: str) -> None:
    first, second, *found = _next_steps(tmp_path, main, foreign, master)
    assert (first, second) == ("# all records are still right", "dkimpipe check --dns")
    steps = steps.replace("POSTFIX", "dkimpipe postfix -c DIRECTORY --apply")
    assert found == steps.replace("DIRECTORY", str(tmp_path)).splitlines()


def _next_steps(directory: Path, main: str, foreign: Foreign, master: str = "") -> list[str]:
    (directory / "main.cf").write_text(main)
    (directory / "master.cf").write_text(master)
    verb, postconf = import_module("dkimpipe.admin.verbs.import"), Postconf(str(directory))
    steps: list[str] = verb.next_steps(postconf, foreign, verb.Today.read(postconf, foreign))
    return steps


def _answering(actions: int, listener: socket.socket) -> None:
    """Answer one negotiation as a milter that may take these actions."""
    with listener.accept()[0] as client:
        client.recv(1024)
        client.sendall(struct.pack("!IcIII", 13, b"O", 6, actions, 0))
        client.recv(1024)


# The actions of the milter, none if nothing listens; whether the import is of a program that stays; and the
# lines, with the port as PORT.
_SEE = [
    "# inet:127.0.0.1:PORT in smtpd_milters, non_smtpd_milters may be the other signer: see which program it"
    " is",
    "ss -ltnp 'sport = :PORT'",
]
_REPLACE = (
    "# if it is, add --replace-milter inet:127.0.0.1:PORT to the next command: otherwise mail is signed twice"
)
_PASS = "# let Postfix pass mail to dkimpipe"
UNKNOWN = {
    "it adds fields": (1, False, [*_SEE, _REPLACE, _PASS]),
    "it adds no fields": (2, False, [f"{_PASS}; no list of milters has the other signer"]),
    "nothing listens": (None, False, [*_SEE, _REPLACE, _PASS]),
    "the other signer stays": (
        1,
        True,
        [*_SEE, "# if it is, it stays there, and must no longer sign: see above", _PASS],
    ),
}


@pytest.mark.skipif(not shutil.which("postconf"), reason="no postconf")
@pytest.mark.parametrize(("actions", "stays", "expected"), UNKNOWN.values(), ids=UNKNOWN)
def test_a_milter_that_may_be_the_other_signer_is_named(
    tmp_path: Path, actions: int | None, stays: bool, expected: list[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if actions is None:
            listener.close()
        else:
            threading.Thread(target=_answering, args=(actions, listener), daemon=True).start()
        lists = (
            f"smtpd_milters = inet:127.0.0.1:{port}, inet:localhost:8893\nnon_smtpd_milters=$smtpd_milters\n"
        )
        foreign = Foreign(kinds=[SUBMISSION, LOCAL], milters=["inet:localhost:9"], stays=stays)
        found = [line.replace(str(port), "PORT") for line in _next_steps(tmp_path, lists, foreign)]
    kinds = "submission" if "; no" in expected[-1] else "submission,local"
    command = f"dkimpipe postfix -c {tmp_path} --apply --sign {kinds} --reload"
    assert found[2:] == [*expected, command, "dkimpipe check --postfix"]


_SMTP = "smtp inet n - n - - smtpd\n"
_SUBMISSION = (
    "submission inet n - n - - smtpd -o"
    " smtpd_client_restrictions=permit_mynetworks,permit_sasl_authenticated,reject\n"
)
_HERE = "inet:localhost:8891"
_ALL = "submission,networks,local"
# main.cf, master.cf, and the kinds of mail.
SERVED = {
    "all": (
        f"smtpd_milters = {_HERE}\nnon_smtpd_milters = {_HERE}\n",
        _SMTP + _SUBMISSION,
        "submission,networks,local",
    ),
    "submission": ("", f"{_SMTP}{_SUBMISSION}  -o smtpd_milters={_HERE}\n", "submission"),
    "port 25": (
        f"smtpd_milters = {_HERE}\n",
        f"{_SMTP}{_SUBMISSION}  -o smtpd_milters=\n",
        "networks",
    ),
    "not submission, by an option": (
        f"smtpd_milters = {_HERE}\n",
        f"{_SMTP}{_SUBMISSION}  -o receive_override_options=no_milters\n",
        "networks",
    ),
    "local mail": (
        f"smtpd_milters =\nnon_smtpd_milters = {_HERE}\n",
        _SMTP + _SUBMISSION,
        "submission,networks,local",
    ),
    "no service for submission": (f"smtpd_milters = {_HERE}\n", _SMTP, "submission,networks"),
}


@pytest.mark.skipif(not shutil.which("postconf"), reason="no postconf")
@pytest.mark.parametrize(("main", "master", "kinds"), SERVED.values(), ids=SERVED)
def test_the_kinds_are_those_that_pass_the_milter(tmp_path: Path, main: str, master: str, kinds: str) -> None:
    foreign = Foreign(kinds=[SUBMISSION, NETWORKS, LOCAL], milters=["inet:localhost:8891"])
    (command,) = (line for line in _next_steps(tmp_path, main, foreign, master) if " --apply" in line)
    assert command.startswith(f"dkimpipe postfix -c {tmp_path} --apply --sign {kinds} --replace-milter ")


_TODAY = (
    "# submission/inet: all mail is signed today, because of milter_macro_daemon_name=ORIGINATING; from"
    " now on"
)
_LOGIN = (
    " is signed only with a login: let these clients log in, or add their addresses, or mynetworks, to"
    " sign_clients in"
    " /etc/dkimpipe/dkimpipe.conf"
)
_NAMED = f"{_SMTP}{_SUBMISSION}  -o milter_macro_daemon_name=ORIGINATING\n"
# mynetworks, sign_clients, master.cf, and the lines on mail that will be unsigned.
UNSIGNED = {
    "mynetworks": (
        "127.0.0.0/8 10.9.0.0/16",
        "authenticated,127.0.0.1",
        _NAMED,
        [f"{_TODAY} mail from 10.9.0.0/16{_LOGIN}"],
    ),
    "some of mynetworks": (
        "10.8.0.0/16 [2001:db8::]/64 10.9.0.0/16",
        "authenticated,10.0.0.0/9",
        _NAMED,
        [f"{_TODAY} mail from [2001:db8::]/64{_LOGIN}"],
    ),
    "clients of this host": (
        "127.0.0.0/8",
        "authenticated",
        _NAMED,
        [f"{_TODAY} mail from 127.0.0.0/8{_LOGIN}"],
    ),
    "all are signed": ("127.0.0.0/8 10.9.0.0/16", "authenticated,mynetworks", _NAMED, []),
    "only with a login": (
        "10.9.0.0/16",
        "authenticated",
        _NAMED.replace("permit_mynetworks,", ""),
        [],
    ),
    "another name": ("10.9.0.0/16", "authenticated", _NAMED.replace("ORIGINATING", "OTHER"), []),
    "without the milter": ("10.9.0.0/16", "authenticated", f"{_NAMED}  -o smtpd_milters=\n", []),
    "strangers": (
        "127.0.0.1",
        "authenticated,127.0.0.1",
        _NAMED.replace(",reject", ""),
        [f"{_TODAY} mail from strangers is not"],
    ),
}


@pytest.mark.skipif(not shutil.which("postconf"), reason="no postconf")
@pytest.mark.parametrize(("networks", "clients", "master", "expected"), UNSIGNED.values(), ids=UNSIGNED)
def test_clients_whose_mail_will_be_unsigned_are_named(
    tmp_path: Path, networks: str, clients: str, master: str, expected: list[str]
) -> None:
    main = f"smtpd_milters = inet:localhost:8891\nmynetworks = {networks}\nmydestination = example.com\n"
    foreign = Foreign(kinds=[SUBMISSION], milters=["inet:localhost:8891"], daemon_names=["ORIGINATING"])
    foreign.directives["sign_clients"] = clients, files.Place("")
    found = _next_steps(tmp_path, main, foreign, master)
    assert [line for line in found if ": all mail is signed today" in line] == expected


def _key_text(keys: Keys, form: str) -> str:
    pem = keys.path("rsa2048").read_text()
    base64 = "".join(pem.splitlines()[1:-1])
    return {"PEM": pem.rstrip(), "base64": base64, "cut off": base64[:-1], "as a path": f"/k/{base64}"}[form]


_TABLE = "Mode s\nKeyTable DIR/keytable\nSigningTable example.com=k\n"
# The signer, the form of the key, and the files, with the key at KEY.
PASTED = {
    "KeyFile": ("opendkim", "base64", {CONF: "Domain example.com\nSelector s\nKeyFile KEY\n"}),
    "KeyFile, as a path": ("opendkim", "as a path", {CONF: "Domain example.com\nSelector s\nKeyFile KEY\n"}),
    "KeyFile, several lines": ("opendkim", "PEM", {CONF: "Domain example.com\nKeyFile KEY\n"}),
    "KeyTable": ("opendkim", "as a path", {CONF: _TABLE, "keytable": "k example.com:s:KEY\n"}),
    "dkimpy-milter": ("dkimpy-milter", "base64", {CONF: "Domain example.com\nSelector s\nKeyFile KEY\n"}),
    "path": ("rspamd", "cut off", {"local.d/dkim_signing.conf": 'path = "KEY";\n'}),
    "path, several lines": ("rspamd", "PEM", {"local.d/dkim_signing.conf": "path = <<EOD\nKEY\nEOD\n"}),
    "path of a domain": (
        "rspamd",
        "PEM",
        {"local.d/dkim_signing.conf": "domain { example.com { path = <<EOD\nKEY\nEOD\n} }\n"},
    ),
    "a key without a name": ("rspamd", "PEM", {"local.d/dkim_signing.conf": "KEY\n"}),
}


@pytest.mark.parametrize(("signer", "form", "texts"), PASTED.values(), ids=PASTED)
def test_a_private_key_is_not_printed(
    tmp_path: Path, keys: Keys, signer: str, form: str, texts: dict[str, str]
) -> None:
    key = _key_text(keys, form)
    for name, text in texts.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.replace("DIR", str(tmp_path)).replace("KEY", key))
    path = tmp_path if signer == "rspamd" else tmp_path / CONF
    done = subprocess.run([sys.executable, MAIN, "import", signer, path], capture_output=True, check=False)
    printed = (done.stdout + done.stderr).decode()
    body = "".join(line for line in key.splitlines() if "-----" not in line).removeprefix("/k/")
    assert done.returncode in (0, 78), printed
    assert [body[at : at + 17] for at in range(len(body) - 16) if body[at : at + 17] in printed] == []


def test_a_fifo_as_a_key_is_lost(tmp_path: Path, keys: Keys) -> None:
    place = Place(tmp_path, keys, SHAPE)
    (place.foreign / "mail.private").unlink()
    os.mkfifo(place.foreign / "mail.private")
    status, output, _ = place.run()
    assert status == 78
    assert "lost: FOREIGN/opendkim.conf, line 5: key: FOREIGN/mail.private: not a regular file\n" in output


# A setting that the filter does not accept, and what the entry is left with.
UNACCEPTABLE = {
    "OversignHeaders +From,+To": "h",
    "OversignHeaders csl:From,*": "h",
    "SignatureTTL -1": "x",
}


@pytest.mark.parametrize("setting", UNACCEPTABLE)
def test_partial_writes_nothing_that_the_filter_would_not_accept(
    tmp_path: Path, keys: Keys, setting: str
) -> None:
    text = SHAPE.files[CONF] + f"{setting}\n"
    place = Place(tmp_path, keys, Shape({CONF: text}, SHAPE.keys))
    status, output, _ = place.run("--output", place.ours, "--partial")
    assert status == 0
    assert f": the entry has no {UNACCEPTABLE[setting]}=\n" in output
    assert "lost: FOREIGN/opendkim.conf, line 2: *@example.com: " in output
    (entry,) = (place.ours / "senders").read_text().splitlines()[2:]
    assert place.shortened(entry) == "*@example.com  dkim(s=mail,key=OURS/keys/example.com.mail.pem)"


def test_overwrite_keeps_older_copies(place: Place) -> None:
    place.ours.mkdir()
    for text in ("# mine\n", "# also mine\n", "# mine, too\n"):
        (place.ours / "senders").write_text(text)
        assert place.run("--output", place.ours, "--overwrite")[0] == 0
    copies = ["senders.old", "senders.old.1", "senders.old.2"]
    kept = [(place.ours / name).read_text() for name in copies]
    assert kept == ["# mine\n", "# also mine\n", "# mine, too\n"]
