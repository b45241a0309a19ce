"""``dkimpipe import --apply`` on a whole server: which milter and which mail the next steps name.

Each server is a throwaway copy of this machine, with the files of OpenDKIM as a how-to has them.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Keys, write_key
from installing import dkimpipe
from opendkim import NEEDED
from throwaway import Done, Machine

CONF = "Mode s\nDomain example.com\nSelector mail\nKeyFile /etc/mail.private\n"
POSTFIX = "dkimpipe postfix -c /etc/postfix --apply --sign"
TAKEN_OUT = "# let Postfix pass mail to dkimpipe, and take the other signer out of smtpd_milters"
ALL = f"{POSTFIX} submission,networks,local --replace-milter"
TO_SUBMISSION = (
    "postconf -P submission/inet/smtpd_milters=inet:localhost:8891"
    " submission/inet/milter_macro_daemon_name=ORIGINATING"
    " submission/inet/smtpd_client_restrictions=permit_mynetworks,permit_sasl_authenticated,reject"
    " submission/inet/smtpd_relay_restrictions="
)
# opendkim.conf, commands, the milter in both lists of main.cf, and the steps that follow the check of DNS.
SERVERS = {
    "the socket in /etc/default": (
        CONF,
        "echo 'SOCKET=\"inet:12301@localhost\"' >/etc/default/opendkim",
        "inet:localhost:12301",
        [TAKEN_OUT, f"{ALL} inet:localhost:12301"],
    ),
    "another socket in its conf file": (
        f"{CONF}Socket local:/run/opendkim/opendkim.sock\n",
        "echo 'SOCKET=\"inet:12301@localhost\"' >/etc/default/opendkim",
        "inet:127.0.0.1:12301",
        [TAKEN_OUT, f"{ALL} inet:127.0.0.1:12301"],
    ),
    "the socket in a drop-in": (
        CONF,
        "mkdir -p /etc/systemd/system/opendkim.service.d; rm -f /etc/default/opendkim; printf"
        " '[Service]\\nExecStart=\\nExecStart=/usr/sbin/opendkim -p inet:8892@localhost\\n'"
        " >/etc/systemd/system/opendkim.service.d/override.conf",
        "inet:localhost:8892",
        [TAKEN_OUT, f"{ALL} inet:localhost:8892"],
    ),
    "a name in /etc/hosts": (
        f"{CONF}Socket inet:8891\n",
        "echo '127.0.1.1 mail.example.com mail' >>/etc/hosts",
        "inet:mail.example.com:8891",
        [TAKEN_OUT, f"{ALL} inet:mail.example.com:8891"],
    ),
    "Postfix's own notices": (
        f"{CONF}Socket inet:8891@localhost\n",
        "postconf -e internal_mail_filter_classes=bounce",
        "inet:localhost:8891",
        [TAKEN_OUT, f"{POSTFIX} submission,networks,bounces,local --replace-milter inet:localhost:8891"],
    ),
    "unknown": (
        f"{CONF}Socket inet:8891\n",
        "rm -f /etc/default/opendkim",
        "inet:localhost:1",
        [
            "# inet:localhost:1 in smtpd_milters, non_smtpd_milters may be the other signer: see which"
            " program it is",
            "ss -ltnp 'sport = :1'",
            "# if it is, add --replace-milter inet:localhost:1 to the next command: otherwise mail is signed"
            " twice",
            "# let Postfix pass mail to dkimpipe",
            f"{POSTFIX} submission,networks,local",
        ],
    ),
    "submission alone, whoever the client is": (
        f"{CONF}Socket inet:8891@localhost\nMTA ORIGINATING\n",
        f"{TO_SUBMISSION}; postconf -e 'mynetworks = 127.0.0.1 10.9.0.0/16'",
        "",
        [
            "# submission/inet: all mail is signed today, because of milter_macro_daemon_name=ORIGINATING;"
            " from now on mail from 10.9.0.0/16 is signed only with a login: let these clients log in, or"
            " add their"
            " addresses, or mynetworks, to sign_clients in /etc/dkimpipe/dkimpipe.conf",
            "# let Postfix pass mail to dkimpipe, and take the other signer out of"
            " submission/inet/smtpd_milters",
            f"{POSTFIX} submission --replace-milter inet:localhost:8891",
        ],
    ),
}


OVERRIDE = "/etc/systemd/system/opendkim.service.d/override.conf"
STALE = "Socket local:/run/opendkim/opendkim.sock\nUMask 007\n"
OF_PACKAGE = STALE + "Domain example.org\nSelector old\nKeyFile /etc/mail.private\n"
KEY = "key=/etc/dkimpipe/keys/example.com.mail.pem)"
# opendkim.conf, which is not all that OpenDKIM is started with; the arguments in a unit; and where the entry
# comes from.
STARTED = {
    "another file": (OF_PACKAGE, "-f -x /etc/mail2.conf", "/etc/mail2.conf, line 2"),
    "another file, and nothing in this one": (STALE, "-x /etc/mail2.conf", "/etc/mail2.conf, line 2"),
    "options": (STALE, "-d example.com -s mail -k /etc/mail.private -b s", f"{OVERRIDE}, line 3"),
    "options that replace lines": (
        OF_PACKAGE,
        "-d example.com -s mail -p inet:8892@localhost",
        f"{OVERRIDE}, line 3",
    ),
    "options alone": ("", "-d example.com -s mail -k /etc/mail.private", f"{OVERRIDE}, line 3"),
}


@pytest.mark.parametrize(("conf", "options", "place"), STARTED.values(), ids=STARTED)
def test_what_opendkim_is_started_with_is_imported(
    fresh: Path, keys: Keys, conf: str, options: str, place: str
) -> None:
    with Machine(fresh) as machine:
        override = machine.root / OVERRIDE.lstrip("/")
        override.parent.mkdir(parents=True)
        override.write_text(f"[Service]\nExecStart=\nExecStart=/usr/sbin/opendkim {options}\n")
        (machine.root / "etc/mail2.conf").write_text(CONF)
        remove = "true" if conf else "rm /etc/opendkim.conf"
        done = imported(machine, keys, conf, remove, "")
        assert (done.status, "signs nothing" in done.stdout) == (0, False)
        senders = (machine.root / "etc/dkimpipe/senders").read_text()
        assert senders.splitlines()[1:] == [f"# {place}", f"*@example.com  dkim(s=mail,{KEY}"]


def test_a_key_beside_a_key_table_is_refused(fresh: Path, keys: Keys) -> None:
    with Machine(fresh) as machine:
        override = machine.root / OVERRIDE.lstrip("/")
        override.parent.mkdir(parents=True)
        override.write_text("[Service]\nExecStart=\nExecStart=/usr/sbin/opendkim -k /etc/mail.private\n")
        done = imported(machine, keys, "KeyTable csl:a=b\nSigningTable csl:a=b\n", "true", "")
        assert (done.status, done.stderr) == (
            78,
            "dkimpipe: /etc/opendkim.conf, line 1: KeyTable, and -k on the command line: OpenDKIM does not"
            " start\n",
        )


@NEEDED
def test_the_comparison_is_with_what_opendkim_is_started_with(fresh: Path, keys: Keys) -> None:
    with Machine(fresh) as machine:
        override = machine.root / OVERRIDE.lstrip("/")
        override.parent.mkdir(parents=True)
        options = "-f -c relaxed -d example.com -s mail -k /etc/mail.private -u nobody -P /run/x.pid"
        override.write_text(f"[Service]\nExecStart=\nExecStart=/usr/sbin/opendkim {options}\n")
        (machine.root / "etc/opendkim.conf").write_text(STALE)
        write_key(machine.root / "etc/mail.private", keys.path("rsa2048").read_bytes())
        (machine.root / "etc/message").write_text("From: a@example.com\nSubject: x\n\nhello\n")
        done = dkimpipe(machine, "import", "opendkim", "--compare", "/etc/message")
        same = "/etc/message: same: d=example.com s=mail c=relaxed/simple; "
        assert (done.status, done.stdout.startswith(same)) == (0, True)


def imported(machine: Machine, keys: Keys, conf: str, commands: str, milter: str, *options: str) -> Done:
    """Set a server up, and run the import."""
    (machine.root / "etc/opendkim.conf").write_text(conf)
    write_key(machine.root / "etc/mail.private", keys.path("rsa2048").read_bytes())
    machine.shell(f"postconf -e 'smtpd_milters = {milter}' 'non_smtpd_milters = $smtpd_milters'")
    machine.shell(commands)
    return dkimpipe(machine, "import", "opendkim", "--apply", *options)


@pytest.mark.parametrize(("conf", "commands", "milter", "steps"), SERVERS.values(), ids=SERVERS)
def test_the_steps_name_the_milter_and_its_mail(
    fresh: Path, keys: Keys, conf: str, commands: str, milter: str, steps: list[str]
) -> None:
    with Machine(fresh) as machine:
        done = imported(machine, keys, conf, commands, milter)
        found = done.stdout.partition("dkimpipe check --dns\n")[2].splitlines()
        assert (done.status, found) == (0, [*steps[:-1], f"{steps[-1]} --reload", "dkimpipe check --postfix"])


INET, DMARC = "inet:localhost:8891", "inet:localhost:54322"
# Commands that set the socket of OpenDMARC, beside that of the package in its conf file.
OPENDMARC = {
    "a drop-in": "mkdir -p /etc/systemd/system/opendmarc.service.d; printf"
    " '[Service]\\nExecStart=\\nExecStart=/usr/sbin/opendmarc -p inet:54322@localhost -u opendmarc\\n'"
    " >/etc/systemd/system/opendmarc.service.d/override.conf",
    "a directory of its own": "mkdir -p /etc/opendmarc; echo 'Socket inet:54322@localhost'"
    " >/etc/opendmarc/opendmarc.conf",
}


@pytest.mark.parametrize("commands", OPENDMARC.values(), ids=OPENDMARC)
def test_a_signer_before_opendmarc_stays(fresh: Path, keys: Keys, commands: str) -> None:
    package = "echo 'Socket local:/run/opendmarc/opendmarc.sock' >/etc/opendmarc.conf"
    conf = CONF.replace("Mode s", "Mode sv") + "Socket inet:8891@localhost\n"
    with Machine(fresh) as machine:
        done = imported(machine, keys, conf, f"{package}; {commands}", f"{INET}, {DMARC}")
        found = done.stdout.partition("dkimpipe check --dns\n")[2].splitlines()
        assert (done.status, found) == (
            0,
            [
                "# let Postfix pass mail to dkimpipe; the other signer stays in smtpd_milters, since"
                f" OpenDMARC ({DMARC}) needs its results",
                f"{POSTFIX} submission,networks,local --reload",
                "# then let the other signer only verify: Mode v in its conf file; restart it",
                "dkimpipe check --postfix",
            ],
        )
        refused = dkimpipe(machine, "postfix", "--apply", "--replace-milter", INET)
        assert (refused.status, refused.stderr.startswith(f"dkimpipe: {DMARC} is OpenDMARC: ")) == (78, True)
        machine.shell(f"postconf -e smtpd_milters={DMARC}")
        blind = f"smtp/inet/smtpd_milters: no milter before OpenDMARC ({DMARC}) verifies DKIM\n"
        assert blind in dkimpipe(machine, "check", "--postfix").stdout


BEHIND_AMAVIS = (
    "postconf -M 'smtp-amavis/unix=smtp-amavis unix - - n - 2 smtp'"
    " '127.0.0.1:10025/inet=127.0.0.1:10025 inet n - n - - smtpd'"
    "; postconf -P 127.0.0.1:10025/inet/content_filter="
    " 127.0.0.1:10025/inet/smtpd_milters=inet:localhost:8891"
    "; postconf -e 'content_filter=smtp-amavis:[127.0.0.1]:10024'"
)
ONE_FILTER = "smtp-amavis:[127.0.0.1]:10024 gets this mail, and a message can have only one filter"
LOST = (
    f"dkimpipe: mail that is signed today would no longer be: networks: smtp/inet: {ONE_FILTER};"
    f" local: pickup/unix: {ONE_FILTER}\n"
    "hint: the files are written; run the commands above only if that is right: --partial accepts it\n"
)


@pytest.mark.parametrize(("options", "expected"), [((), (78, LOST)), (("--partial",), (0, ""))])
def test_kinds_of_mail_that_are_lost_are_an_error(
    fresh: Path, keys: Keys, options: tuple[str, ...], expected: tuple[int, str]
) -> None:
    with Machine(fresh) as machine:
        conf = f"{CONF}Socket inet:8891@localhost\n"
        done = imported(machine, keys, conf, BEHIND_AMAVIS, "", *options)
        assert (done.status, done.stderr) == expected
        assert (machine.root / "etc/dkimpipe/senders").exists()
        assert done.stdout.endswith("--reload\ndkimpipe check --postfix\n")


def test_where_nothing_is_written_nothing_is_created(fresh: Path, keys: Keys) -> None:
    with Machine(fresh) as machine:
        (machine.root / "etc/dkimpipe").mkdir()
        (machine.root / "etc/dkimpipe/senders").write_text("# mine\n")
        done = imported(machine, keys, CONF, "true", "")
        assert done.status == 78
        assert "/etc/dkimpipe/senders exists and is not the same: nothing was written\n" in done.stderr
        assert [path.name for path in (machine.root / "etc/dkimpipe").rglob("*")] == ["senders"]
        assert "dkimpipe:" not in (machine.root / "etc/passwd").read_text()
