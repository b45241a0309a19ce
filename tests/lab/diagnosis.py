"""Configurations of Postfix to be damaged, and what ``dkimpipe check --postfix`` prints of them.

PROGRAM is the command that runs the filter, VERIFIER the one that verifies, SITE the directory where they
are, and DIR the configuration directory.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from conftest import INTERPRETER, copy_program, settled
from conftest import MAIN as MAIN_FILE
from dovecot import Dovecot, certificate

from dkimpipe.admin import newkey
from dkimpipe.admin.cli import run_verb
from postfix import shared_directory

PYTHON = "/usr/bin/python3"
NEEDS = {"Debian's package postfix": shutil.which("postconf"), PYTHON: Path(PYTHON).exists()}
if not all(NEEDS.values()):
    missing = ", ".join(need for need, there in NEEDS.items() if not there)
    pytest.skip(f"the tests of the doctor need {missing}", allow_module_level=True)

PROGRAM = f"{PYTHON} -IS SITE/dkimpipe/__main__.py --conf_file SITE/conf"
INSTALLED = f"""#!{PYTHON} -IS
import sys
sys.path.append("SITE")
from dkimpipe.__main__ import main
sys.exit(main())
"""
VERIFIER = f"{INTERPRETER} -I SITE/dkimpipe/__main__.py verify --conf_file SITE/verify.conf"
GOOD = (0, "dkimpipe: Postfix is set up\n")

# What every master.cf has besides: nothing of it is for the filter, though maildrop is a pipe as well.
REST = """
cleanup   unix  n       -       y       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
rewrite   unix  -       -       y       -       -       trivial-rewrite
bounce    unix  -       -       y       -       0       bounce
proxymap  unix  -       -       n       -       -       proxymap
smtp      unix  -       -       y       -       -       smtp
relay     unix  -       -       y       -       -       smtp
        -o syslog_name=postfix/$service_name
local     unix  -       n       n       -       -       local
virtual   unix  -       n       n       -       -       virtual
lmtp      unix  -       -       y       -       -       lmtp
maildrop  unix  -       n       n       -       -       pipe
  flags=DRXhu user=vmail argv=/usr/bin/maildrop -d ${recipient}
"""
PORT_25 = "smtp      inet  n       -       y       -       -       smtpd\n"
OPTIONS = """\
  -o smtpd_relay_restrictions=permit_mynetworks,permit_sasl_authenticated,reject
  -o content_filter=dkimpipe:dummy
  -o receive_override_options=no_address_mappings
  -o cleanup_service_name=dkimpipe-cleanup
  -o smtpd_discard_ehlo_keywords=dsn,smtputf8,silent-discard
  -o message_size_limit=10223616
"""
SIZE_LIMIT = "  -o message_size_limit=10223616\n"
BEHIND = OPTIONS.replace(SIZE_LIMIT, "")  # where mail returns from another filter
OWN_CLEANUP = "  -o cleanup_service_name=dkimpipe-cleanup\n"
SUBMISSION = f"""\
submission inet n       -       y       -       -       smtpd
  -o syslog_name=postfix/submission
  -o smtpd_tls_security_level=encrypt
  -o smtpd_sasl_auth_enable=yes
{OPTIONS}"""
PICKUP = """\
pickup    unix  n       -       y       60      1       pickup
  -o receive_override_options=no_header_body_checks,no_milters
  -o smtputf8_autodetect_classes=verify
"""
TOLD = "--login=${sasl_username} --client=${client_address}"
FILTER = r"""
dkimpipe-cleanup unix n -       y       -       0       cleanup
  -o always_add_missing_headers=yes
dkimpipe  unix  -       n       n       -       4       pipe
  -o {pipe_delivery_status_filter=regexp:{{/^5(\.3\..*)/ 4$$1}}}
  flags=q null_sender= user=nobody argv=PROGRAM TOLD -f ${sender} -- ${recipient}
"""
LOGINS = """\
smtpd_sasl_type = dovecot
smtpd_sasl_path = DOVECOT
smtpd_tls_cert_file = SITE/tls/server.pem
"""
MAIN = f"""
compatibility_level = 3.6
{LOGINS}\
myhostname = mx.example.com
dkimpipe_destination_recipient_limit = 1000
disable_mime_output_conversion = yes
header_size_limit = 1048576
"""
MASTER = PORT_25 + PICKUP + SUBMISSION + FILTER

# With the service that verifies.
INBOUND = """\
  -o content_filter=dkimpipe-verify:dummy
  -o receive_override_options=no_address_mappings
  -o smtpd_discard_ehlo_keywords=dsn,silent-discard
  -o message_size_limit=10223616
"""
INBOUND_BEHIND = INBOUND.replace(SIZE_LIMIT, "")
VERIFY = r"""
dkimpipe-verify unix - n n - 4 pipe
  -o {pipe_delivery_status_filter=regexp:{{/^5(\.3\..*)/ 4$$1}}}
  flags=q null_sender= user=daemon argv=VERIFIER -f ${sender} -- ${recipient}
"""
MAIN_BOTH = f"{MAIN}dkimpipe-verify_destination_recipient_limit = 1000\n"
MASTER_BOTH = PORT_25 + INBOUND + PICKUP + SUBMISSION + FILTER + VERIFY
NOTHING_SIGNED = (
    "compatibility_level = 3.6\ndkimpipe-verify_destination_recipient_limit = 0\n",
    f"{PORT_25}{INBOUND}{PICKUP}{VERIFY}\nsubmission inet n - y - - smtpd\n",
)
AMAVIS_IN_MAIN = (
    f"{MAIN_BOTH}content_filter = smtp-amavis:[127.0.0.1]:10024\n",
    f"""
{PORT_25}{SIZE_LIMIT}smtp-amavis unix - - n - 2 smtp
127.0.0.1:10025 inet n - n - - smtpd
{INBOUND_BEHIND}{PICKUP}  -o content_filter=
{SUBMISSION}{FILTER}{VERIFY}
""",
)


# What the check prints.

NOTE = re.compile(
    r"^dkimpipe: note: (not signed|\S+: users on other hosts cannot connect): .*\n(hint: .*\n)+", re.MULTILINE
)


def error(what: str, hint: str = "") -> str:
    """What the check prints for an error."""
    return "".join([f"dkimpipe: error: {what}\n", *(f"hint: {line}\n" for line in hint.splitlines())])


def warning(what: str, hint: str = "") -> str:
    """What the check prints for a warning."""
    return error(what, hint).replace("error", "warning", 1)


def removed(parameter: str, value: str = "", service: str = "") -> str:
    """The hint to remove a setting, of a service (with a slash) or from main.cf, and what then applies."""
    option = "-PX" if service else "-X"
    then = f"{parameter} is {value}" if value else "its default applies"
    return f"# correct it, or remove it (then {then}):\npostconf -c DIR {option} {service}{parameter}"


NEW_SERVICE = (
    r"postconf -c DIR -M 'dkimpipe/unix=dkimpipe unix - n n - PROCESSES pipe"
    r" -o {pipe_delivery_status_filter=regexp:{{/^5(\.3\..*)/ 4$$1}}} flags=q null_sender= user=USER"
    " argv=COMMAND -f ${sender} -- ${recipient}'"
)
SERVICE = NEW_SERVICE.replace("PROCESSES", "4").replace("USER", "nobody").replace("COMMAND", "PROGRAM TOLD")
NO_CLIENT = "argv does not pass the client address: mail from strangers is signed if Postfix lets it in"
SIGNED = "clients that do not log in may send here, and their mail is signed"
AMAVIS = "-M 'smtp-amavis/unix=smtp-amavis unix - - n - 2 smtp'"
TOO_LATE = "Postfix kills the filter before the filter's own time limit of 280 s"
NOT_BY_PICKUP = (
    "dkimpipe postfix -c DIR --apply --relay\n"
    "# or, which switches smtp-amavis:[127.0.0.1]:10024 off for mail from local programs, too:"
    " postconf -c DIR -P pickup/unix/content_filter="
)
AGAIN = "signed mail is checked, changed or signed again"


# The commands of hints. All other lines are comments: prose must not run.
_WAY = r"'?[/$].*"
_COMMANDS = (
    r"postconf -c \S+ '?-(e|P|M|F|X|PX|MX|M#|h)'? .+",
    r"postfix (-c \S+ )?(reload|start|stop)",
    r"(postmap|postalias) [a-z]+:/.+",
    r"sed -i .+ /.+",
    rf"ch(mod|own|grp) (-h )?\S+ {_WAY}",
    rf"(rm|setfacl -[bkxm]( \S+)?|install -\S+ .+|cp -\S+ .+|printf .+) {_WAY}",
    r"(useradd|groupadd) --system .+",
    r"(apt|dnf|zypper) install .+",
    r"(update-)?alternatives --set \S+ /\S+",
    r"/\S+ -Im compileall -q /.+",
    r"ss -ltnp sport = :\d+",
    r"(sudo )?(/\S+/)?dkimpipe [a-z]+( .*--?[a-z].*)?",
    r"\S*python\S* -I \S+ [a-z]+( .*--?[a-z].*)?",
)
_COMMAND = re.compile(f"({'|'.join(_COMMANDS)})")


def refuse_prose(output: str) -> None:
    """Fail if a hint is neither a command nor a comment."""
    for line in hints(output):
        first = re.split(r" && (?=[a-z])", line)[0]
        assert line.startswith("# ") or _COMMAND.fullmatch(first), f"prose in a hint: {line}"
        subprocess.run(["sh", "-n", "-c", line], check=True)


# The edits that make a fault, and all that the check then prints. A line of the edits is the end of a
# `postconf -c DIR` command, or OLD => NEW in the text of master.cf.
Fault = tuple[str, str]


def hints(output: str) -> list[str]:
    """Return what is to be done."""
    return [line.removeprefix("hint: ") for line in output.splitlines() if line.startswith("hint: ")]


def with_commands(faults: Mapping[str, Fault]) -> list[str]:
    """Return the faults that commands fix, but for those that then read /etc/dkimpipe."""
    return [
        name
        for name, (_, output) in faults.items()
        if hints(output)
        and all(line.startswith(("postconf ", "# ")) for line in hints(output))
        and not any(map(_is_by_hand, output.split("dkimpipe: ")))
        and not re.search("START|JUDGE", output)
    ]


def _is_by_hand(finding: str) -> bool:
    """Return whether the hints of a finding are comments only."""
    return "hint: # " in finding and "hint: postconf " not in finding


def fix(directory: Path, output: str) -> None:
    """Do what the hints say."""
    for line in hints(output):
        subprocess.run(["sh", "-c", line], check=True)
        settled(directory / "main.cf")


def fill(text: str, words: dict[str, str]) -> str:
    for word, meaning in words.items():
        text = text.replace(word, meaning)
    return text


def own_address() -> str:
    """Return an IPv4 address of this host, not one of loopback if it has another."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # no packet is sent
        return str(probe.getsockname()[0])
    return "127.0.0.3"


def with_logins(master: str) -> str:
    """Return the lines of master.cf, with logins at each submission service that has no settings for them."""
    found = re.compile(
        r"^(\S+:)?((submissions?|smtps|465|587)\s+inet\s.*\bsmtpd)\b(.*(\n([ \t].*|#.*)?)*)", re.MULTILINE
    )
    return found.sub(_with_login, master)


def _with_login(service: re.Match[str]) -> str:
    if re.search("smtpd_(sasl_auth_enable|tls_)", service[4]):
        return service[0]
    tls = (
        "smtpd_tls_wrappermode=yes"
        if service[3] in ("submissions", "smtps", "465")
        else "smtpd_tls_security_level=encrypt"
    )
    return f"{service[1] or ''}{service[2]} -o {tls} -o smtpd_sasl_auth_enable=yes{service[4]}"


def write(directory: Path, main: str, master: str, words: dict[str, str]) -> Path:
    directory.mkdir()
    (directory / "main.cf").write_text(fill(main, words), errors="surrogateescape")
    (directory / "master.cf").write_text(fill(REST + with_logins(master), words))
    settled(directory / "main.cf")
    return directory


def edit(directory: Path, edits: str, words: dict[str, str]) -> None:
    master = directory / "master.cf"
    for line in edits.split("\n"):
        if " => " in line:
            old, new = fill(line, words).split(" => ")
            assert old in master.read_text()
            master.write_text(master.read_text().replace(old, new))
        else:
            subprocess.run(["postconf", "-c", str(directory), *shlex.split(fill(line, words))], check=True)
            settled(directory / "main.cf")


def damage(directory: Path, fault: Fault, words: dict[str, str]) -> str:
    """Make a fault, and return what the check should print."""
    edits, output = fault
    edit(directory, edits, words)
    return fill(output, {**words, "DIR": str(directory)})


def run(directory: Path, *verb: str) -> tuple[int, str]:
    """Run a verb on a configuration; return exit status, and output but for the note of what is unsigned."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        status = run_verb([*verb, "-c", str(directory)])
    refuse_prose(output.getvalue())
    return status, NOTE.sub("", output.getvalue())


def check(directory: Path) -> tuple[int, str]:
    return run(directory, "check", "--postfix")


@pytest.fixture(scope="session")
def site() -> Iterator[Path]:
    """A directory that all may read, with the filter and its files."""
    with shared_directory() as directory:
        copy_program(directory)
        files = {
            "senders": "example.com dkim(s=a,key=SITE/key.pem)\n",
            "for-some": "example.com dkim(s=a,key=SITE/login)\nexample.net dkim(s=a,key=SITE/key.pem)\n"
            "example.org dkim(s=a,key=SITE/key.pem),\n dkim(s=b,key=SITE/key.pem,login=alice)\n",
            "conf": "sender_map SITE/senders\n",
            "any.conf": "sender_map SITE/senders\nsign_clients any\n",
            "filter.cidr": "0.0.0.0/0 FILTER dkimpipe:dummy\n::/0 FILTER dkimpipe:dummy\n",
            "some.cidr": "192.0.2.0/28 OK\n",
            "none.cidr": "192.0.2.0/28 REJECT\n",
            "long-lines.conf": "sender_map SITE/senders\nnormalize no\n",
            "nothing": "# nothing\n",
            "networks": "10.0.0.0/8\n",
            "submitters": "root\nnobody, cron\n",
            "status.regexp": "# status codes\n/^5(\\.3\\..*)/ 4$1\n",
            "bin/dkimpipe": INSTALLED,
            "verify.conf": "hostname mx.example.com\n",
        }
        (directory / "bin").mkdir()
        (directory / "tls").mkdir()
        for file, issuer in (("server", "ca.example"), ("self", "mx.example.com")):
            (directory / f"tls/{file}.pem").write_bytes(certificate("mx.example.com", issuer))
        for name, text in files.items():
            (directory / name).write_text(text.replace("SITE", str(directory)))
        (directory / "bin" / "dkimpipe").chmod(0o755)
        for name in ("key.pem", "login"):
            newkey.create(directory / name, "ed25519", newkey.BITS, "nogroup")
        for name in ("old", "source", "changed"):
            left_out = shutil.ignore_patterns("__pycache__" if name == "source" else "")
            shutil.copytree(directory / "dkimpipe", directory / name / "dkimpipe", ignore=left_out)
        (directory / "old" / "dkimpipe" / "__init__.py").write_text('__version__ = "0.0.1"\n')
        with (directory / "changed" / "dkimpipe" / "pipe.py").open("a") as module:
            module.write("# changed\n")
        yield directory


@pytest.fixture(scope="session")
def words(site: Path) -> Iterator[dict[str, str]]:
    """What stands for what in configurations and outputs."""
    asked = ["postconf", "-dh", "mail_owner", "sendmail_path"]
    owner, sendmail = subprocess.check_output(asked, text=True).split()
    interpreter = os.path.realpath(sys.executable)
    if interpreter == os.path.realpath(PYTHON):
        interpreter = PYTHON
    with Dovecot() as dovecot, socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # it is not listening: no other Postfix can answer there
        yield {
            "DOVECOT": dovecot.path,
            "INSIDE": own_address(),
            "RETURN_PORT": str(reserved.getsockname()[1]),
            "TOLD": TOLD,
            "PROGRAM": PROGRAM,
            "START": f"{interpreter} -IS {MAIN_FILE}",
            "JUDGE": f"{sys.executable} -I {MAIN_FILE} verify --hostname=mx.example.com",
            "VERIFIER": VERIFIER,
            "SITE": str(site),
            "OWNER": owner,
            "SENDMAIL": sendmail,
            "PROCESSES": str(2 * (os.cpu_count() or 1)),
            "MANY": str(2 * (os.cpu_count() or 1) + 8),
        }


@pytest.fixture
def directory(tmp_path: Path, words: dict[str, str]) -> Path:
    """A good configuration, to be damaged."""
    return write(tmp_path / "postfix", MAIN, MASTER, words)


@pytest.fixture
def both(tmp_path: Path, words: dict[str, str]) -> Path:
    """A good configuration that signs and verifies, to be damaged."""
    return write(tmp_path / "postfix", MAIN_BOTH, MASTER_BOTH, words)


def checks_of(faults: Mapping[str, Fault]) -> tuple[Callable[..., None], Callable[..., None]]:
    """Return the tests of a table of faults: what the check prints, and that its commands fix them."""

    @pytest.mark.parametrize("name", faults)
    def prints_this_and_nothing_else(name: str, directory: Path, words: dict[str, str]) -> None:
        output = damage(directory, faults[name], words)
        assert check(directory)[1] == output

    @pytest.mark.parametrize("name", with_commands(faults))
    def commands_fix_the_fault(name: str, directory: Path, words: dict[str, str]) -> None:
        fix(directory, damage(directory, faults[name], words))
        assert check(directory) == GOOD

    return prints_this_and_nothing_else, commands_fix_the_fault
