"""``dkimpipe check --postfix``: faults of the service that runs the filter, of its user and its settings."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from diagnosis import (
    GOOD,
    NEW_SERVICE,
    NO_CLIENT,
    PYTHON,
    SERVICE,
    Fault,
    check,
    checks_of,
    damage,
    edit,
    error,
    fill,
    fix,
    hints,
    run,
    warning,
)

from dkimpipe import __version__
from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import doctor
from dkimpipe.admin.postfix.postconf import Postconf

CHANGED_FIRST = "the message or its addresses are changed before they are signed"
NO_LIMIT = "postconf -c DIR -e smtp_line_length_limit=0"

FAULTS: dict[str, Fault] = {
    # The service.
    "there is no filter": (
        "-MX dkimpipe/unix\n-e default_destination_recipient_limit=1000",
        error(
            "dkimpipe/unix: there is no filter service",
            NEW_SERVICE.replace("USER", "dkimpipe").replace("COMMAND", "START TOLD"),
        )
        + error("submission/inet/content_filter: there is no service dkimpipe in master.cf"),
    ),
    "argv runs another program": (
        "argv=PROGRAM => argv=/opt/signer/sign",
        error(
            "dkimpipe/unix: argv does not run dkimpipe: nothing is signed",
            SERVICE.replace("PROGRAM", "START"),
        ),
        # and is not run: who knows what it does
    ),
    "the program went with the Python of before": (
        "SITE/dkimpipe/__main__.py => SITE/gone/dkimpipe/__main__.py",
        error(
            "dkimpipe/unix: argv: SITE/gone/dkimpipe/__main__.py does not exist: mail stays in the queue",
            SERVICE.replace("PROGRAM", "START --conf_file SITE/conf"),
        )
        + error(
            f"as user nobody: {PYTHON}: can't open file 'SITE/gone/dkimpipe/__main__.py':"
            " [Errno 2] No such file or directory"
        ),
    ),
    "the program is one of before": (
        "SITE/dkimpipe/__main__.py => SITE/old/dkimpipe/__main__.py",
        warning(
            f"dkimpipe/unix: argv runs dkimpipe 0.0.1, but this is {__version__}",
            SERVICE.replace("PROGRAM", "START --conf_file SITE/conf"),
        ),
    ),
    "the program is not compiled": (
        "SITE/dkimpipe/__main__.py => SITE/source/dkimpipe/__main__.py",
        warning(
            f"SITE/source/dkimpipe is not compiled for {PYTHON}: each message costs several times as much",
            f"{PYTHON} -Im compileall -q SITE/source/dkimpipe",
        ),
    ),
    "the program was compiled before it was changed": (
        "SITE/dkimpipe/__main__.py => SITE/changed/dkimpipe/__main__.py",
        warning(
            f"SITE/changed/dkimpipe is not compiled for {PYTHON}: each message costs several times as much",
            f"{PYTHON} -Im compileall -q SITE/changed/dkimpipe",
        ),
    ),
    "unprivileged": (
        "-F dkimpipe/unix/unprivileged=y",
        error("dkimpipe/unix: unprivileged: pipe(8) cannot switch to the filter's user", SERVICE),
    ),
    "unprivileged by default": (
        "-F dkimpipe/unix/unprivileged=-",
        error("dkimpipe/unix: unprivileged: pipe(8) cannot switch to the filter's user", SERVICE),
    ),
    "chroot": (
        "-F dkimpipe/unix/chroot=y",
        error("dkimpipe/unix: chroot: the filter cannot find its interpreter there", SERVICE),
    ),
    "chroot by default, as it was before compatibility levels": (
        "-F dkimpipe/unix/chroot=-\n-X compatibility_level\n-e smtpd_relay_restrictions=reject",
        error("dkimpipe/unix: chroot: the filter cannot find its interpreter there", SERVICE),
    ),
    "a chroot of the filter's own": (
        "flags=q => chroot=/var/empty flags=q",
        error("dkimpipe/unix: chroot=: the filter cannot find its interpreter there", SERVICE),
    ),
    "the flags of a mailbox": (
        "flags=q => flags=Rqu",
        error(f"dkimpipe/unix: flags with Ru: {CHANGED_FIRST}", SERVICE),
    ),
    "no flags": (
        "flags=q => ",
        error(
            'dkimpipe/unix: flags without q: mail to "a b"@example.com is misdelivered',
            SERVICE,
        ),
    ),
    "no null_sender": (
        "null_sender= => ",
        error(
            "dkimpipe/unix: null_sender is not empty: the filter gets an address instead of the null sender",
            SERVICE,
        ),
    ),
    "a null_sender with a name": (
        "null_sender= => null_sender=MAILER-DAEMON",
        error(
            "dkimpipe/unix: null_sender is not empty: the filter gets an address instead of the null sender",
            SERVICE,
        ),
    ),
    "a limit of size": (
        "flags=q => size=1000000 flags=q",
        error("dkimpipe/unix: size=: mail over that size bounces", SERVICE),
    ),
    "a directory that is missing": (
        "flags=q => directory=/var/spool/filter flags=q",
        error(
            "dkimpipe/unix: directory=/var/spool/filter: there is no such directory: mail stays in the queue",
            SERVICE,
        ),
    ),
    "a file in place of a directory": (
        "flags=q => directory=SITE/conf flags=q",
        error(
            "dkimpipe/unix: directory=SITE/conf: there is no such directory: mail stays in the queue",
            SERVICE,
        ),
    ),
    "a directory of another user": (
        "flags=q => directory=/root flags=q",
        error(
            "dkimpipe/unix: directory=/root: user nobody cannot enter it: mail stays in the queue", SERVICE
        ),
    ),
    "a directory in the queue of another user": (
        "flags=q => directory=deferred flags=q",
        error(
            "dkimpipe/unix: directory=deferred: user nobody cannot enter it: mail stays in the queue", SERVICE
        ),
    ),
    "other ends of lines": (
        r"flags=q => eol=\0 flags=q",
        error("dkimpipe/unix: eol=: lines end in another way before they are signed", SERVICE),
    ),
    "a macro that pipe(8) does not know": (
        "PROGRAM => PROGRAM --selector=${selector}",
        error(
            "dkimpipe/unix: argv: pipe(8) does not know the macro in --selector=${selector}: mail stays in"
            " the queue",
            SERVICE,
        ),
    ),
    "no status filter": (
        "-PX dkimpipe/unix/pipe_delivery_status_filter",
        error(
            "dkimpipe/unix: pipe_delivery_status_filter: errors that the filter cannot catch bounce", SERVICE
        ),
    ),
    "a status filter for something else": (
        "regexp:{{/^5(\\.3\\..*)/ 4$$1}} => inline:{5.7.1=4.7.1}",
        error(
            "dkimpipe/unix: pipe_delivery_status_filter: errors that the filter cannot catch bounce", SERVICE
        ),
    ),
    "recipients without --": (
        "-f ${sender} -- ${recipient} => -f ${sender} ${recipient}",
        error(
            "dkimpipe/unix: argv does not end in -f ${sender} -- ${recipient}:"
            " mail is rejected or misdelivered",
            SERVICE,
        ),
    ),
    "no recipients": (
        "-f ${sender} -- ${recipient} => ",
        error(
            "dkimpipe/unix: argv does not end in -f ${sender} -- ${recipient}:"
            " mail is rejected or misdelivered",
            SERVICE,
        ),
    ),
    "two slips in one service": (
        "-F dkimpipe/unix/chroot=y\nnull_sender= => ",
        error(
            "dkimpipe/unix: chroot: the filter cannot find its interpreter there;"
            " null_sender is not empty: the filter gets an address instead of the null sender",
            SERVICE,
        ),
    ),
    "not told who logged in": (
        "PROGRAM TOLD => PROGRAM --sender_map SITE/for-some",
        error(
            "dkimpipe/unix: argv does not pass the login, and SITE/for-some, line 3 has login=:"
            f" its mail is deferred; {NO_CLIENT}",
            SERVICE.replace("PROGRAM", "PROGRAM --sender_map SITE/for-some"),
        ),
    ),
    "a login that whoever sends can choose": (
        "PROGRAM --login=${sasl_username} => PROGRAM --login=$(sender) --verbose",
        error(
            "dkimpipe/unix: argv takes the login from ${sender}, which the sender can choose",
            SERVICE.replace("PROGRAM", "PROGRAM --verbose"),
        ),
    ),
    "a client address that the sender can choose": (
        "--client=${client_address} => --client=${client_helo}",
        error(
            "dkimpipe/unix: argv takes the client address from ${client_helo}, which the sender can choose",
            SERVICE,
        ),
    ),
    "the client address, and no login": (
        "--login=${sasl_username} => --verbose",
        error(
            "dkimpipe/unix: argv passes the client address and no login: mail to be signed is deferred",
            SERVICE.replace("PROGRAM", "PROGRAM --verbose"),
        )
        + error(
            "as user nobody: 4.3.5 dkimpipe: --client was given, but no --login",
            "# add --login=${sasl_username} to argv in master.cf",
        ),
    ),
    "no client address": (
        " --client=${client_address} => ",
        warning(f"dkimpipe/unix: {NO_CLIENT}", SERVICE),
    ),
    "neither client address nor login": (
        "PROGRAM TOLD => PROGRAM",
        warning(f"dkimpipe/unix: {NO_CLIENT}", SERVICE),
    ),
    "no client address, and a login by name": (
        "PROGRAM TOLD => PROGRAM --login=alice",
        warning(
            f"dkimpipe/unix: {NO_CLIENT}",
            SERVICE.replace("PROGRAM TOLD", "PROGRAM --login=alice --client=${client_address}"),
        ),
    ),
    # The user that it runs as.
    "a user that there is not": (
        "user=nobody => user=dkimpipe-none",
        error(
            "dkimpipe/unix: there is no user dkimpipe-none",
            "useradd --system --no-create-home --shell /usr/sbin/nologin dkimpipe-none",
        ),
    ),
    "root": (
        "user=nobody => user=root",
        error("dkimpipe/unix: pipe(8) refuses user=root: use a separate user"),
    ),
    "the user of Postfix": (
        "user=nobody => user=OWNER",
        error("dkimpipe/unix: pipe(8) refuses user=OWNER: use a separate user"),
    ),
    "the group of the maildrop": (
        "user=nobody => user=nobody:postdrop",
        error("dkimpipe/unix: pipe(8) refuses user=nobody:postdrop: use a separate user"),
    ),
    "a group that there is not": (
        "user=nobody => user=nobody:dkimpipe-none",
        error("dkimpipe/unix: there is no group dkimpipe-none", "groupadd --system dkimpipe-none"),
    ),
    # The settings of the filter.
    "an option that there is not": (
        "PROGRAM => PROGRAM --frobnicate",
        error("as user nobody: 4.3.5 dkimpipe: unknown option '--frobnicate'", "# see dkimpipe --help"),
    ),
    "another sendmail(1)": (
        "PROGRAM => PROGRAM --sendmail=/bin/true",
        error(
            "/bin/true is not this Postfix's sendmail(1)",
            "# use --sendmail=SENDMAIL, or sendmail in dkimpipe.conf",
        ),
    ),
    "another Postfix": (
        "-e sendmail_path=/opt/postfix/sbin/sendmail",
        error(
            "/usr/sbin/sendmail is not this Postfix's sendmail(1)",
            "# use --sendmail=/opt/postfix/sbin/sendmail, or sendmail in dkimpipe.conf",
        ),
    ),
    "long lines are left to Postfix": (
        "PROGRAM => PROGRAM --normalize no",
        error("command line: normalize no: lines over 998 bytes break after signing", NO_LIMIT),
    ),
    "long lines are left to Postfix, in the conf file": (
        "--conf_file SITE/conf => --conf_file SITE/long-lines.conf",
        error(
            "SITE/long-lines.conf, line 2: normalize no: lines over 998 bytes break after signing", NO_LIMIT
        ),
    ),
    "unsigned after an error": (
        "PROGRAM => PROGRAM --on_error accept",
        warning("command line: on_error accept: after an error, mail is sent unsigned"),
    ),
    "a senders file that there is not": (
        "PROGRAM => PROGRAM --sender_map SITE/none",
        error(
            "as user nobody: 4.3.5 dkimpipe: map SITE/none: No such file or directory",
            "# create it, or fix the path",
        ),
    ),
    # The interpreter.
    "an interpreter that there is not": (
        f"{PYTHON} => /usr/bin/python-none",
        error(
            "dkimpipe/unix: argv: /usr/bin/python-none does not exist: mail stays in the queue",
            SERVICE.replace("PROGRAM", "START --conf_file SITE/conf"),
        )
        + error("user nobody cannot run /usr/bin/python-none: No such file or directory"),
    ),
}


test_it_prints_this_and_nothing_else, test_its_commands_fix_the_fault = checks_of(FAULTS)


@pytest.mark.parametrize("name", ["there is no filter", "argv runs another program"])
def test_the_filter_that_it_makes_needs_nothing_more(
    name: str, directory: Path, words: dict[str, str]
) -> None:
    (line,) = hints(damage(directory, FAULTS[name], words))
    subprocess.run(["sh", "-c", line], check=True)
    assert run(directory, "postfix") == (0, "nothing to change\n")


@pytest.mark.skipif("os.geteuid() != 0", reason="needs root to become the filter's user")
def test_what_the_filters_user_may_not_read_is_found(
    directory: Path, site: Path, words: dict[str, str]
) -> None:
    senders = site / "senders-of-root"
    senders.write_text("")
    senders.chmod(0o600)
    edit(directory, f"PROGRAM => PROGRAM --sender_map {senders}", words)
    output = error(
        f"as user nobody: 4.3.5 dkimpipe: map {senders}: Permission denied",
        f"# namei -l {senders} shows what blocks user nobody",
    )
    assert check(directory) == (78, output)


def test_before_3_7_the_status_filter_needs_a_file(directory: Path, words: dict[str, str]) -> None:
    damage(directory, FAULTS["no status filter"], words)
    postconf = Postconf(directory)
    postconf.version = (3, 6)
    table = f"{directory}/dkimpipe-status.regexp"
    hint = SERVICE.replace(r"{{/^5(\.3\..*)/ 4$$1}}", table).replace("DIR", str(directory))
    assert [found for found in doctor.findings(postconf, "nobody") if found.level != "note"] == [
        Finding(
            "dkimpipe/unix: pipe_delivery_status_filter: errors that the filter cannot catch bounce",
            rf"printf '%s\n' '/^5(\.3\..*)/ 4$1' > {table}" + f" && {fill(hint, words)}",
        ),
    ]


WRITABLE = {
    "map": ("senders", 0o666),
    "conf file": ("conf", 0o646),
    "directory": ("", 0o757),
    "conf file of the filter that verifies": ("verify.conf", 0o666),
}


@pytest.mark.parametrize(("name", "mode"), WRITABLE.values(), ids=WRITABLE)
def test_files_that_others_can_change(both: Path, site: Path, name: str, mode: int) -> None:
    path = site / name if name else site
    before = path.stat().st_mode & 0o7777
    assert check(both) == GOOD
    path.chmod(mode)
    try:
        status, output = check(both)
        what = f"{path}: writable by others (mode {mode:04o})"
        assert (status, output) == (78, error(what, f"chmod o-w {path}"))
        subprocess.run(["sh", "-ec", *hints(output)], check=True)
        assert check(both) == GOOD
    finally:
        path.chmod(before)


@pytest.mark.parametrize("user", ["", "user="])
def test_a_service_without_a_user_gets_one(user: str, directory: Path, words: dict[str, str]) -> None:
    what = "dkimpipe/unix: there is no user=: pipe(8) does not start"
    output = damage(directory, (f"user=nobody => {user}", error(what, SERVICE)), words)
    assert run(directory, "check", "--postfix", "--user", "nobody") == (78, output)
    assert " user=dkimpipe argv=" in hints(check(directory)[1])[0]
    fix(directory, output)
    assert check(directory) == GOOD


def test_the_files_need_the_user_that_master_cf_names(directory: Path, words: dict[str, str]) -> None:
    edit(directory, "user=nobody => user=dkimpipe-none", words)
    hint = "useradd --system --no-create-home --shell /usr/sbin/nologin dkimpipe-none"
    output = error("dkimpipe/unix: there is no user dkimpipe-none", hint)
    assert run(directory, "check", "--files") == (78, output)
    assert run(directory, "check", "--files", "--postfix") == (78, output)


def test_the_files_need_the_group_that_master_cf_names(directory: Path, words: dict[str, str]) -> None:
    edit(directory, "user=nobody => user=nobody:dkimpipe-none", words)
    hint = "groupadd --system dkimpipe-none"
    output = error("dkimpipe/unix: there is no group dkimpipe-none", hint)
    assert run(directory, "check", "--files") == (78, output)
