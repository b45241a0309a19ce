"""A server laid out as RHEL's: its paths, its links, nothing in a chroot, and the names of its packages.

Everything else is Debian's, in a throwaway copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from installing import NO_WAIT, dkimpipe, setup
from throwaway import Done, Machine

from dkimpipe.admin.postfix.doctor import alternative
from postfix import Message, Sink

# What RHEL 9's packages postfix and almalinux-release have in other places, or with other contents.
LAYOUT = r"""
mv /usr/lib/postfix/sbin /usr/libexec/postfix
mv /usr/sbin/sendmail /usr/sbin/sendmail.postfix
ln -s /usr/sbin/sendmail.postfix /etc/alternatives/mta
ln -s /etc/alternatives/mta /usr/sbin/sendmail
postconf -e daemon_directory=/usr/libexec/postfix sendmail_path=/usr/sbin/sendmail.postfix
postconf -e maillog_file=/var/log/maillog
postconf -F '*/*/chroot=n'
printf 'ID="almalinux"\nID_LIKE="rhel centos fedora"\n' >/etc/os-release.new
mv /etc/os-release.new /etc/os-release
"""
EXIM = "install -m 755 /bin/true /usr/sbin/exim; ln -sfn /usr/sbin/exim /etc/alternatives/mta"


class Served(NamedTuple):
    """What setup, the check and the audit said on such a server, and a message that it sent between them."""

    setup: Done
    check: Done
    message: Message
    audit: Done
    services: list[str]


@pytest.fixture(scope="module")
def laid_out(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of such a server, before setup."""
    with Machine(fresh) as machine:
        machine.shell(f"{LAYOUT}\n{NO_WAIT}")
        return machine.keep(tmp_path_factory.mktemp("rhel"))


@pytest.fixture
def rhel(laid_out: Path) -> Iterator[Machine]:
    """A copy of that server."""
    with Machine(laid_out) as machine:
        yield machine


@pytest.fixture(scope="module")
def served(laid_out: Path) -> Iterator[Served]:
    with Machine(laid_out, network=True) as machine:
        with machine.network():
            sink = Sink()
        with sink:
            machine.shell(f"postconf -e 'relayhost=[127.0.0.1]:{sink.port}'\n{NO_WAIT}")
            done = setup(machine, "example.com")
            check = dkimpipe(machine, "check", "--postfix")
            machine.shell("postfix start")
            machine.shell(
                "swaks --server 127.0.0.1 --port 587 --silent 2 --from alice@example.com --to bob@example.net"
            )
            (message,) = sink.wait()
            machine.shell("until grep -q 'relay=127.0.0.1.*status=sent' /var/log/maillog; do sleep 0.1; done")
            audit = dkimpipe(machine, "audit")
            services = machine.shell("postconf -M").splitlines()
            machine.shell("postfix stop")
            yield Served(done, check, message, audit, services)


def test_setup_and_check_find_nothing_wrong(served: Served) -> None:
    assert (served.setup.status, served.setup.stderr) == (0, "")
    assert served.check.stdout.startswith("dkimpipe: Postfix is set up\n")


def test_the_message_is_signed(served: Served) -> None:
    assert b"\r\nDKIM-Signature: " in served.message.data


def test_audit_finds_it_in_the_log(served: Served) -> None:
    assert served.audit.status == 0
    assert "signed" in served.audit.stdout


def test_nothing_is_in_a_chroot(served: Served) -> None:
    assert {line.split()[4] for line in served.services} == {"n"}


def test_the_filter_uses_the_link(served: Served) -> None:
    """It leads to this Postfix, so that its target need not be named."""
    assert not [line for line in served.services if "--sendmail" in line]


def test_a_new_service_for_mail_from_outside_is_not_in_a_chroot(rhel: Machine) -> None:
    rhel.shell("useradd --system dkimpipe-verify")
    assert dkimpipe(rhel, "postfix", "--verify", "--apply").status == 0
    rhel.shell(f"postconf -MX smtp/inet\n{NO_WAIT}")
    said = dkimpipe(rhel, "check", "--postfix").stdout
    assert "postconf -c /etc/postfix -M 'smtp/inet=smtp inet n - n - - smtpd' && " in said


def test_another_mail_server_behind_the_link_is_named(rhel: Machine) -> None:
    assert setup(rhel, "example.com").status == 0
    rhel.shell(EXIM)
    done = dkimpipe(rhel, "check", "--postfix")
    assert done.status == 78
    assert (
        "dkimpipe: error: /usr/sbin/sendmail is /usr/sbin/exim, not this Postfix's sendmail(1)\n"
        "hint: update-alternatives --set mta /usr/sbin/sendmail.postfix\n"
        "hint: # or use --sendmail=/usr/sbin/sendmail.postfix, or sendmail in dkimpipe.conf\n"
    ) in done.stdout


def test_with_another_mail_server_behind_the_link_the_filter_uses_its_target(rhel: Machine) -> None:
    rhel.shell(EXIM)
    assert setup(rhel, "example.com").status == 0
    assert "--sendmail=/usr/sbin/sendmail.postfix" in rhel.shell("postconf -M dkimpipe/unix")
    done = dkimpipe(rhel, "check", "--postfix")
    assert done.status == 0
    what = "/usr/sbin/sendmail is /usr/sbin/exim: local programs do not send by this Postfix"
    hint = "update-alternatives --set mta /usr/sbin/sendmail.postfix"
    assert f"dkimpipe: warning: {what}\nhint: {hint}\n" in done.stdout


def test_hints_name_its_packages(rhel: Machine) -> None:
    assert setup(rhel, "example.com").status == 0
    rhel.shell("rm -rf /usr/sbin/dovecot /etc/dovecot /etc/postfix/sasl /etc/sasldb2 /usr/lib/*/sasl2/*.conf")
    rhel.shell("postconf -P submission/inet/smtpd_sasl_auth_enable=yes")
    assert "hint: dnf install dovecot && " in dkimpipe(rhel, "check", "--postfix").stdout
    rhel.shell("rm /usr/sbin/postconf")
    assert setup(rhel, "example.com").stderr.endswith("\nhint: dnf install postfix\n")


LINKS = {
    "to this Postfix": ("alternatives/mta", "sendmail.postfix", ""),
    "to another": ("alternatives/mta", "exim", "--set mta DIRECTORY/sendmail.postfix"),
    "to another, of one's own making": ("links/mta", "exim", ""),
}


@pytest.mark.parametrize("name", LINKS)
def test_only_a_link_of_alternatives_is_changed_by_it(name: str, tmp_path: Path) -> None:
    link, target, words = LINKS[name]
    (tmp_path / link).parent.mkdir()
    (tmp_path / link).symlink_to(tmp_path / target)
    (tmp_path / "sendmail").symlink_to(tmp_path / link)
    command = alternative(str(tmp_path / "sendmail"), str(tmp_path / "sendmail.postfix"))
    assert command.partition(" ")[2].replace(str(tmp_path), "DIRECTORY") == words
    assert alternative(str(tmp_path / target), str(tmp_path / "sendmail.postfix")) == ""
