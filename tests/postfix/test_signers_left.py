"""``dkimpipe postfix --revert``: what signs mail from now on, and mail that waits for the filter."""

from __future__ import annotations

import socketserver
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from applying import edit, said, verb
from applying import write as write_named
from diagnosis import MAIN, PORT_25, write

from dkimpipe.admin.postfix import signers_left
from dkimpipe.admin.postfix.milter_programs import Files
from dkimpipe.admin.postfix.postconf import Postconf

MASTER = (
    f"{PORT_25}pickup unix n - y 60 1 pickup\nsubmission inet n - y - - smtpd\nscan unix - - n - 2 smtp\n"
)
ALL = "submission/inet, smtp/inet, pickup/unix"
NONE = "# no milter in main.cf or master.cf signs mail now"
OD = "inet:localhost:PORT"
SIGNS = f"# OpenDKIM ({OD}) gets mail from WHERE, and signs that of the domains in its configuration"
VERIFIES = f"# OpenDKIM ({OD}) only verifies: set "
AGAIN = ", and restart it, or mail is not signed"
LISTS = f"smtpd_milters = {OD}\nnon_smtpd_milters = $smtpd_milters\n"
SOCKET = "Socket inet:PORT@localhost\n"
DKIM = {"etc/opendkim.conf": SOCKET}
UNIT = "lib/systemd/system/opendkim.service"
# Settings of main.cf, overrides in master.cf, files, and what is said. ROOT is where the files are.
STATES: dict[str, tuple[str, list[str], dict[str, str], list[str]]] = {
    "no milter": ("", [], {}, [NONE]),
    "another milter": ("smtpd_milters = unix:/clamav/x\n", [], DKIM, [NONE]),
    "it signs": (LISTS, [], DKIM, [SIGNS.replace("WHERE", ALL)]),
    "it signs by the last line": (
        LISTS,
        [],
        {"etc/opendkim.conf": f"Mode v\n{SOCKET}Mode sv\n"},
        [SIGNS.replace("WHERE", ALL)],
    ),
    "it only verifies": (
        LISTS,
        [],
        {"etc/opendkim.conf": f"{SOCKET}Mode v\n"},
        [f"{VERIFIES}Mode sv in ROOT/etc/opendkim.conf, line 2{AGAIN}", NONE],
    ),
    "it only verifies, by a file that its unit names": (
        LISTS,
        [],
        {
            "etc/opendkim.conf": f"{SOCKET}Mode sv\n",
            "srv/dkim.conf": f"{SOCKET}Mode v\n",
            UNIT: "[Service]\nExecStart=/usr/sbin/opendkim -x /srv/dkim.conf\n",
        },
        [f"{VERIFIES}Mode sv in ROOT/srv/dkim.conf, line 2{AGAIN}", NONE],
    ),
    "it only verifies, by its command line": (
        LISTS,
        [],
        {**DKIM, UNIT: "[Service]\nExecStart=/usr/sbin/opendkim -b v\n"},
        [f"{VERIFIES}-b sv in ROOT/{UNIT}, line 2{AGAIN}", NONE],
    ),
    "not for local mail": (
        f"smtpd_milters = {OD}\n",
        [],
        DKIM,
        [SIGNS.replace("WHERE", "submission/inet, smtp/inet"), "# no milter signs mail from pickup/unix"],
    ),
    "not for mail from users": (
        LISTS,
        ["submission/inet/smtpd_milters=unix:/clamav/x"],
        DKIM,
        [
            SIGNS.replace("WHERE", "smtp/inet, pickup/unix"),
            "# no milter signs mail from submission/inet",
        ],
    ),
    "switched off for local mail": (
        LISTS,
        ["pickup/unix/receive_override_options=no_milters"],
        DKIM,
        [SIGNS.replace("WHERE", "submission/inet, smtp/inet"), "# no milter signs mail from pickup/unix"],
    ),
    "replaced by another milter": (
        "smtpd_milters = unix:/clamav/x\nnon_smtpd_milters = $smtpd_milters\n",
        [],
        DKIM,
        [NONE],
    ),
    "a content filter": (
        "",
        ["submission/inet/content_filter=scan:[127.0.0.1]:10024"],
        {},
        [
            "# mail from submission/inet passes the content filter scan:[127.0.0.1]:10024: see whether that"
            " signs",
            NONE,
        ],
    ),
    "rspamd": (
        "smtpd_milters = inet:localhost:11332\nnon_smtpd_milters = $smtpd_milters\n",
        [],
        {"rspamd/override.d/dkim_signing.conf": "sign_local = true;\nenabled = false;\n"},
        [
            "# rspamd (inet:localhost:11332): signing is off in ROOT/rspamd/override.d/dkim_signing.conf,"
            " line 2: undo that and reload it, or mail is not signed",
            NONE,
        ],
    ),
}


class Milter(socketserver.StreamRequestHandler):
    """A milter that may add header fields."""

    def handle(self) -> None:
        self.rfile.read(17)
        self.wfile.write(struct.pack("!IcIII", 13, b"O", 6, 1, 0))


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port where a milter answers."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Milter) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server.server_address[1]
        server.shutdown()


def put(tmp_path: Path, files: dict[str, str], port: int) -> Files:
    """Write files, and return where they are."""
    root, missing = tmp_path / "root", (tmp_path / "missing",)
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("PORT", str(port)))
    return Files(root, missing, missing, (root / "rspamd",))


@pytest.mark.parametrize("name", STATES)
def test_what_signs_from_now_on(tmp_path: Path, words: dict[str, str], port: int, name: str) -> None:
    main, overrides, files, expected = STATES[name]
    directory = write(tmp_path / "postfix", MAIN + main.replace("PORT", str(port)), MASTER, words)
    edit(directory, *(["-P", each] for each in overrides))
    found = list(signers_left.lines(Postconf(directory), put(tmp_path, files, port)))
    assert found == [
        line.replace("PORT", str(port)).replace("ROOT", str(tmp_path / "root")) for line in expected
    ]


def test_a_signer_that_does_not_answer(tmp_path: Path, words: dict[str, str]) -> None:
    milter = "unix:/nowhere/opendkim.sock"
    main = f"{MAIN}smtpd_milters = {milter}\nnon_smtpd_milters = {milter}\n"
    postconf = Postconf(write(tmp_path / "postfix", main, MASTER, words))
    found = list(signers_left.lines(postconf, put(tmp_path, {}, 0)))
    assert found == [
        SIGNS.replace(OD, milter).replace("WHERE", ALL),
        f"# OpenDKIM ({milter}) does not answer: No such file or directory: start it, or mail is not signed",
    ]


def test_a_milter_that_is_unknown_may_sign(tmp_path: Path, words: dict[str, str], port: int) -> None:
    milter = f"inet:localhost:{port}"
    main = f"{MAIN}smtpd_milters = {milter}\nnon_smtpd_milters = {milter}\n"
    postconf = Postconf(write(tmp_path / "postfix", main, MASTER, words))
    assert list(signers_left.lines(postconf, put(tmp_path, {}, port))) == [
        f"# the milter {milter} is unknown here, and may sign (it can add header fields):"
        f" ss -ltnp 'sport = :{port}'"
    ]


_BOTH = f"smtpd_milters = {OD}, unix:/spamass/x\nnon_smtpd_milters = $smtpd_milters\n"
_GONE = f"# OpenDKIM ({OD}) was in WHERE before, and is not back, since that was changed meanwhile"
# What main.cf had before, has now, and what is said of that.
NOT_BACK = {
    "it is": (LISTS, LISTS, []),
    "in another list": (LISTS, f"non_smtpd_milters = {OD}\n", []),
    "another milter in its place": (
        LISTS,
        "smtpd_milters = unix:/clamav/x\nnon_smtpd_milters = $smtpd_milters\n",
        [_GONE.replace("WHERE", "smtpd_milters, non_smtpd_milters")],
    ),
    "not beside others": (
        f"smtpd_milters = unix:/spamass/x {{ {OD}, default_action=accept }}\n",
        "smtpd_milters = unix:/spamass/x\n",
        [_GONE.replace("WHERE", "smtpd_milters")],
    ),
    "a milter that does not sign": (_BOTH, LISTS, []),
}


@pytest.mark.parametrize(("before", "now", "expected"), NOT_BACK.values(), ids=NOT_BACK)
def test_a_signer_that_is_not_back(
    tmp_path: Path, words: dict[str, str], before: str, now: str, expected: list[str]
) -> None:
    texts = [MAIN + text.replace("PORT", "8891") for text in (before, now)]
    first, second = (
        Postconf(write(tmp_path / str(number), text, MASTER, words)) for number, text in enumerate(texts)
    )
    found = list(signers_left.not_back(first, second, put(tmp_path, {}, 8891)))
    assert found == [line.replace("PORT", "8891") for line in expected]


def test_revert_names_a_signer_that_is_not_back(tmp_path: Path) -> None:
    directory = write_named(tmp_path / "postfix", "submission")
    milter = "inet:localhost:8891"
    edit(directory, ["-e", f"smtpd_milters={milter}"])
    assert verb(directory, "--apply", "--replace-milter", milter).status == 0
    edit(directory, ["-e", "smtpd_milters=unix:/clamav/x"])
    gone = _GONE.replace(OD, milter).replace("WHERE", "smtpd_milters")
    assert said(directory, "--revert")[1].splitlines()[-2:] == [gone, NONE]


# What is applied and undone, and whether it is said what signs.
JOBS: dict[str, tuple[list[str], bool]] = {
    "sign": ([], True),
    "verify": (["--verify", "--user", "daemon"], False),
}


@pytest.mark.parametrize("name", JOBS)
def test_it_is_said_once_signing_is_undone(tmp_path: Path, name: str) -> None:
    options, is_said = JOBS[name]
    directory = write_named(tmp_path / "postfix", "submission")
    assert verb(directory, "--apply", *options).status == 0
    status, output, errors = said(directory, "--revert", *options)
    assert (status, errors) == (0, "")
    assert output.splitlines().count(NONE) == is_said
