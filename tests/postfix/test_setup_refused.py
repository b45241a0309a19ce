"""What ``dkimpipe setup`` refuses, before it changes anything."""

from __future__ import annotations

import shlex

import pytest
from installing import AS_NOBODY, DKIMPIPE, setup
from throwaway import Done, Machine

NO_DOMAIN = "dkimpipe: '{0}' is not a valid domain\nhint: such as example.com\n"
NOT_ROOT = (
    "dkimpipe: setup must be run as root\n"
    "hint: --dry-run prints the steps, before the first setup as any user\n"
)
ALL_OPTIONS = (
    "-c /etc/postfix --user signer --selector s1 --ed25519 --now --dry-run --sign networks,bounces --relay"
    " --open --submission --reload"
)
REFUSED = {
    "not root": (AS_NOBODY, ["example.com"], NOT_ROOT),
    "not root, to remove it": (AS_NOBODY, ["--remove"], NOT_ROOT),
    "no Postfix": (
        ["env", "PATH=/nonexistent"],
        ["example.com"],
        "dkimpipe: cannot run postconf: No such file or directory\n"
        "hint: PATH=/usr/sbin:/usr/local/sbin:$PATH\n",
    ),
    "no domain, with options": (
        [],
        ["--submission", "--ed25519"],
        "dkimpipe: no domain given\n"
        "hint: /opt/dkimpipe/bin/dkimpipe setup --ed25519 --submission example.com\n",
    ),
    "no domain, with all options": (
        [],
        shlex.split(ALL_OPTIONS),
        f"dkimpipe: no domain given\nhint: /opt/dkimpipe/bin/dkimpipe setup {ALL_OPTIONS} example.com\n",
    ),
    "no domain, with the default user": (
        [],
        ["--user", "dkimpipe", "--dry-run"],
        "dkimpipe: no domain given\nhint: /opt/dkimpipe/bin/dkimpipe setup --dry-run example.com\n",
    ),
    "no domain, and another instance by its variable": (
        ["env", "MAIL_CONFIG=/etc/postfix"],
        ["--now"],
        "dkimpipe: no domain given\nhint: /opt/dkimpipe/bin/dkimpipe setup --now example.com\n",
    ),
    "no domain": ([], [], "dkimpipe: no domain given\nhint: /opt/dkimpipe/bin/dkimpipe setup example.com\n"),
    **{
        f"domain {text!r}": ([], ["example.com", text], NO_DOMAIN.format(text))
        for text in ("", ".", "com", "a@example.com", "*.example.com", "../x.example", "a b.example", "a..b")
    },
}


@pytest.mark.parametrize(("prefix", "arguments", "stderr"), REFUSED.values(), ids=REFUSED)
def test_it_refuses_and_changes_nothing(
    untouched: Machine, prefix: list[str], arguments: list[str], stderr: str
) -> None:
    before = untouched.changes()
    assert untouched.run(*prefix, DKIMPIPE, "setup", *arguments) == Done(78, "", stderr)
    assert untouched.changes() == before


def test_it_does_not_take_the_place_of_another_filter(machine: Machine) -> None:
    machine.shell("postconf -M 'scan/unix=scan unix - - n - 2 smtp'")
    machine.shell("postconf -P 'submission/inet/content_filter=scan:[::1]:9'")
    before = machine.changes()
    assert setup(machine, "example.com") == Done(
        78,
        "",
        "dkimpipe: submission/inet/content_filter: "
        "scan:[::1]:9 gets this mail, and a service can have only one filter\n"
        "hint: put dkimpipe behind it: -o content_filter=dkimpipe:dummy where mail returns from it\n",
    )
    assert machine.changes() == before


@pytest.mark.parametrize("options", [[], ["--dry-run"]], ids=["taken", "dry run"])
def test_a_service_that_is_open_to_strangers_is_refused(machine: Machine, options: list[str]) -> None:
    machine.shell("postconf -PX submission/inet/smtpd_relay_restrictions")
    before = machine.changes()
    assert setup(machine, "example.com", *options) == Done(
        78,
        "",
        "dkimpipe: submission/inet: clients that do not log in may send here, and their mail is signed\n"
        "hint: postconf -c /etc/postfix -P submission/inet/smtpd_relay_restrictions="
        "permit_mynetworks,permit_sasl_authenticated,reject\n"
        "hint: use --open to connect it anyway\n",
    )
    assert machine.changes() == before


def test_told_to_it_connects_an_open_service_and_reports_it(machine: Machine) -> None:
    machine.shell("postconf -PX submission/inet/smtpd_relay_restrictions")
    done = setup(machine, "example.com", "--open")
    assert (done.status, done.stderr) == (78, "")
    assert machine.shell("postconf -Ph submission/inet/content_filter") == "dkimpipe:dummy\n"
    assert "dkimpipe: error: submission/inet: clients that do not log in may send here" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--user", "root"],
        ["--user", "postfix"],
        *(["--selector", text] for text in ("a b", "a,b", "../x")),
    ],
    ids=" ".join,
)
def test_what_cannot_work_is_refused_and_nothing_changed(machine: Machine, arguments: list[str]) -> None:
    before = machine.changes()
    assert setup(machine, "example.com", *arguments).status == 78
    assert machine.changes() == before


# What it finds in /etc/dkimpipe.


ODD = {
    "senders is a FIFO": (
        "rm /etc/dkimpipe/senders; mkfifo -m 640 /etc/dkimpipe/senders",
        "/etc/dkimpipe/senders is not a regular file\nsee what it is: ls -ld /etc/dkimpipe/senders",
    ),
    "senders is a directory": (
        "rm /etc/dkimpipe/senders; mkdir /etc/dkimpipe/senders",
        "/etc/dkimpipe/senders is not a regular file\nsee what it is: ls -ld /etc/dkimpipe/senders",
    ),
    "senders leads nowhere": (
        "rm /etc/dkimpipe/senders; ln -s /nowhere /etc/dkimpipe/senders",
        "/etc/dkimpipe/senders is not a regular file\nsee what it is: ls -ld /etc/dkimpipe/senders",
    ),
    "a key leads away": (
        "install -m 640 /dev/null /srv/k; ln -s /srv/k /etc/dkimpipe/keys/example.org.s1.pem",
        "/etc/dkimpipe/keys/example.org.s1.pem is not a regular file\n"
        "see what it is: ls -ld /etc/dkimpipe/keys/example.org.s1.pem",
    ),
    "others can write the senders file": (
        "chmod 666 /etc/dkimpipe/senders",
        "others can write /etc/dkimpipe/senders\n"
        "chown root /etc/dkimpipe/senders; chmod 0644 /etc/dkimpipe/senders",
    ),
    "others can write the keys": (
        "chmod 777 /etc/dkimpipe/keys",
        "others can write /etc/dkimpipe/keys\nchown root /etc/dkimpipe/keys; chmod 0755 /etc/dkimpipe/keys",
    ),
    "the keys are the filter's": (
        "chown dkimpipe /etc/dkimpipe/keys",
        "others can write /etc/dkimpipe/keys\nchown root /etc/dkimpipe/keys; chmod 0750 /etc/dkimpipe/keys",
    ),
}


@pytest.mark.parametrize(
    "arguments", [["example.org", "--selector", "s1"], ["--remove"]], ids=["add", "remove"]
)
@pytest.mark.parametrize(("script", "message"), ODD.values(), ids=ODD)
def test_no_step_is_taken_on_what_is_not_as_it_should_be(
    signing: Machine, script: str, message: str, arguments: list[str]
) -> None:
    signing.shell(script)
    before = signing.changes()
    done = setup(signing, *arguments)
    assert (done.status, done.stderr) == (78, f"dkimpipe: {message}\n".replace("\n", "\nhint: ", 1))
    assert signing.changes() == before
