"""Which services take mail from strangers: said by dkimpipe, and by a real smtpd(8), which is the judge.

In the tables DIR is the directory of the instance. Its clients have the addresses of strangers by XCLIENT.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import smtplib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from dkimpipe.admin.postfix import strangers
from dkimpipe.admin.postfix.postconf import Postconf
from postfix import Postfix, Sink, shared_directory

pytestmark = [
    pytest.mark.skipif(not shutil.which("postconf"), reason="needs Debian's package postfix"),
    pytest.mark.skipif("os.geteuid() != 0", reason="needs root to start a Postfix"),
]

OPEN, CLOSED = True, False
SHIPPED = "as postfix/master.cf has it"
LOGIN = "permit_sasl_authenticated,reject"
MAIN = {
    "mynetworks": "10.0.0.0/8",
    "mydestination": "local.test",
    "inet_protocols": "ipv4",
    "smtpd_sasl_auth_enable": "yes",
    "smtpd_authorized_xclient_hosts": "127.0.0.1",
    "smtpd_soft_error_limit": "1000",
    "smtpd_hard_error_limit": "1000",
    "smtpd_junk_command_limit": "1000",
    "smtpd_client_connection_count_limit": "0",  # there is no anvil(8)
}
FILES = {
    "nets.cidr": "10.0.0.0/8 OK\n0.0.0.0/0 REJECT not from here\n",
    "ours.cidr": "10.0.0.0/8 OK\n",
    "some.cidr": "203.0.113.0/24 OK\n",
    "prefixes": "198 REJECT\n93 DEFER\n",
    "pattern": "/^198$/ REJECT\n/^93$/ REJECT\n",
    "unknown": "unknown REJECT\n",
    "all": "unknown REJECT\nmail.example.net REJECT\n",
    "net": "unknown REJECT\nnet REJECT\n",
    "networks": "# ours\n10.0.0.0/8 192.168.0.0/16\n",
    "world": "!10.0.0.1, 0.0.0.0/0\n",
    "senders": "local.test REJECT\nexample.net REJECT\n<> REJECT\n",
    "few-senders": "local.test REJECT\nexample.net REJECT\n",
    "postmaster": "postmaster@ OK\n",
    "class": "198.41.0.4 login_only\n93.184.215.14 permit_sasl_authenticated, reject\n",
    "digits": "198.41.0.4 1234567890\n",
    "code": "unknown 554 go away\nmail.example.net 450 4.7.1 later\n",
    "if-permit": "unknown DEFER_IF_PERMIT\nmail.example.net DEFER_IF_PERMIT later\n",
    "if-reject": "unknown DEFER_IF_REJECT\nmail.example.net DEFER_IF_REJECT later\n",
}
# What a service says, an option a line, and whether strangers can send there.
SERVICES = {
    # As tutorials and distributions have it.
    "a login and nothing else": ("smtpd_sasl_auth_enable=yes", OPEN),
    "Debian, as uncommented without the macros that it needs": (
        "smtpd_sasl_auth_enable=yes\nsmtpd_client_restrictions=$mua_client_restrictions\n"
        "smtpd_helo_restrictions=$mua_helo_restrictions\nsmtpd_sender_restrictions=$mua_sender_restrictions\n"
        "smtpd_recipient_restrictions=",
        OPEN,
    ),
    "Debian, whole": (
        "smtpd_sasl_auth_enable=yes\nsmtpd_client_restrictions=$mua_client_restrictions\n"
        f"smtpd_recipient_restrictions=\nsmtpd_relay_restrictions={LOGIN}",
        CLOSED,
    ),
    "with its macro": (
        f"mua={LOGIN}\nsmtpd_client_restrictions=$mua",
        CLOSED,
    ),
    "Red Hat": (
        "smtpd_sasl_auth_enable=yes\n"
        "smtpd_recipient_restrictions=permit_mynetworks,permit_sasl_authenticated,reject\n"
        "milter_macro_daemon_name=ORIGINATING",
        CLOSED,
    ),
    "iRedMail": (
        "smtpd_sasl_auth_enable=yes\nsmtpd_client_restrictions=permit_mynetworks,permit_sasl_authenticated,reject",
        CLOSED,
    ),
    "Mailcow": (
        "smtpd_client_restrictions=permit_mynetworks,permit_sasl_authenticated,reject\n"
        "smtpd_relay_restrictions=permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination",
        CLOSED,
    ),
    "ISPmail": (
        "smtpd_sasl_auth_enable=yes\nsmtpd_relay_restrictions=permit_mynetworks,permit_sasl_authenticated,reject\n"
        "smtpd_sender_restrictions=reject_sender_login_mismatch,permit_sasl_authenticated,reject",
        CLOSED,
    ),
    "an old one": (f"smtpd_client_restrictions={LOGIN}", CLOSED),
    "by recipient": (f"smtpd_recipient_restrictions={LOGIN}", CLOSED),
    "by sender": (f"smtpd_sender_restrictions={LOGIN}", CLOSED),
    "by the usual list for port 25": (
        "smtpd_recipient_restrictions=permit_mynetworks,permit_sasl_authenticated,reject_unauth_destination",
        OPEN,
    ),
    "relay access only": (
        "smtpd_relay_restrictions=permit_mynetworks,permit_sasl_authenticated,defer_unauth_destination",
        OPEN,
    ),
    "senders must log in, if they have an address here": (
        "smtpd_sasl_auth_enable=yes\nsmtpd_sender_login_maps=static:alice\n"
        "smtpd_sender_restrictions=reject_sender_login_mismatch",
        OPEN,
    ),
    # What passes, and what closes.
    "at HELO, which may be left out": (f"smtpd_helo_restrictions={LOGIN}", OPEN),
    "at HELO, which must be said": (f"smtpd_helo_restrictions={LOGIN}\nsmtpd_helo_required=yes", CLOSED),
    "at DATA": (f"smtpd_data_restrictions={LOGIN}", CLOSED),
    "at the end of DATA": (f"smtpd_end_of_data_restrictions={LOGIN}", CLOSED),
    "deferred": ("smtpd_recipient_restrictions=permit_sasl_authenticated,defer", CLOSED),
    "deferred if permitted": (
        "smtpd_client_restrictions=permit_sasl_authenticated,defer_if_permit\n"
        "smtpd_recipient_restrictions=permit",
        CLOSED,
    ),
    "deferred if rejected": ("smtpd_client_restrictions=defer_if_reject", OPEN),
    "deferred if permitted, at DATA": ("smtpd_data_restrictions=defer_if_permit", CLOSED),
    "permit before it": ("smtpd_recipient_restrictions=permit_auth_destination,reject", OPEN),
    "permit for backups": ("smtpd_recipient_restrictions=permit_mx_backup,reject", OPEN),
    "permit all": ("smtpd_client_restrictions=permit\nsmtpd_recipient_restrictions=permit", OPEN),
    "closed by one of several lists": (
        f"smtpd_client_restrictions=permit\nsmtpd_sender_restrictions={LOGIN}\n"
        "smtpd_recipient_restrictions=permit",
        CLOSED,
    ),
    "only a warning": (
        "smtpd_client_restrictions=permit_sasl_authenticated,warn_if_reject,reject",
        OPEN,
    ),
    "a warning, and then a reject": (
        "smtpd_client_restrictions=warn_if_reject,reject_unknown_client_hostname,"
        "permit_sasl_authenticated,reject",
        CLOSED,
    ),
    "a warning for a class": (
        f"smtpd_restriction_classes=login_only\nlogin_only={LOGIN}\n"
        "smtpd_client_restrictions=warn_if_reject,login_only",
        OPEN,
    ),
    "a warning for a class that goes on behind the reject": (
        "smtpd_restriction_classes=both\nboth=permit_sasl_authenticated,reject,permit\n"
        "smtpd_client_restrictions=warn_if_reject,both,reject",
        OPEN,
    ),
    "case does not matter": ("smtpd_client_restrictions=Permit_SASL_Authenticated,Reject", CLOSED),
    "certificates, which strangers have not": (
        "smtpd_client_restrictions=permit_tls_clientcerts,permit_tls_all_clientcerts,reject",
        CLOSED,
    ),
    # mynetworks.
    "mynetworks of the whole world": (
        "mynetworks=0.0.0.0/0\nsmtpd_client_restrictions=permit_mynetworks,reject",
        OPEN,
    ),
    "mynetworks of half of it": (
        "mynetworks=127.0.0.0/8,0.0.0.0/1\nsmtpd_client_restrictions=permit_mynetworks,reject",
        OPEN,
    ),
    "mynetworks in a file": (
        "mynetworks=DIR/networks\nsmtpd_client_restrictions=permit_mynetworks,reject",
        CLOSED,
    ),
    "mynetworks of all but one, in a file": (
        "mynetworks=DIR/world\nsmtpd_client_restrictions=permit_mynetworks,reject",
        OPEN,
    ),
    "mynetworks in a table": (
        "mynetworks=cidr:DIR/ours.cidr\nsmtpd_client_restrictions=permit_mynetworks,reject",
        CLOSED,
    ),
    "mynetworks without them": (
        "mynetworks=!198.41.0.0/24,!93.0.0.0/8,0.0.0.0/0\nsmtpd_client_restrictions=permit_mynetworks,reject",
        CLOSED,
    ),
    "mynetworks by name": (
        "mynetworks=mail.example.net\nsmtpd_client_restrictions=permit_mynetworks,reject",
        OPEN,
    ),
    "mynetworks by domain": (
        "mynetworks=example.net\nsmtpd_client_restrictions=permit_mynetworks,reject",
        OPEN,
    ),
    "mynetworks by domain, with a dot": (
        "mynetworks=.example.net\nsmtpd_client_restrictions=permit_mynetworks,reject",
        CLOSED,
    ),
    "mynetworks by domain, with a dot as it must have if": (
        "mynetworks=.example.net\nparent_domain_matches_subdomains=\n"
        "smtpd_client_restrictions=permit_mynetworks,reject",
        OPEN,
    ),
    "a domain in a table, with a dot as it must have if": (
        "parent_domain_matches_subdomains=\n"
        "smtpd_client_restrictions=check_client_access,inline:{.net=ok},reject",
        OPEN,
    ),
    "a domain in a table, without a dot as it must have if": (
        "parent_domain_matches_subdomains=\n"
        "smtpd_client_restrictions=check_client_access,inline:{net=ok},reject",
        CLOSED,
    ),
    # Tables.
    "a table that rejects all": ("smtpd_client_restrictions=check_client_access,static:reject", CLOSED),
    "a table without a word before it": ("smtpd_client_restrictions=static:reject", CLOSED),
    "a table that means the recipient": ("smtpd_recipient_restrictions=static:reject", CLOSED),
    "a table where there is nothing to look up": ("smtpd_data_restrictions=static:OK", CLOSED),
    "networks, and then all": ("smtpd_client_restrictions=check_client_access,cidr:DIR/nets.cidr", CLOSED),
    "networks only": ("smtpd_client_restrictions=check_client_access,cidr:DIR/ours.cidr", OPEN),
    "a few let in, and then a reject": (
        "smtpd_client_restrictions=check_client_access,cidr:DIR/some.cidr,reject",
        CLOSED,
    ),
    "by the first octet": ("smtpd_client_restrictions=check_client_access,texthash:DIR/prefixes", CLOSED),
    "by the first octet, which patterns do not see": (
        "smtpd_client_restrictions=check_client_access,regexp:DIR/pattern",
        OPEN,
    ),
    "those without a name": ("smtpd_client_restrictions=check_client_access,texthash:DIR/unknown", OPEN),
    "those with a name, and those without": (
        "smtpd_client_restrictions=check_client_access,texthash:DIR/all",
        CLOSED,
    ),
    "by the last label": ("smtpd_client_restrictions=check_client_access,texthash:DIR/net", CLOSED),
    "reply codes": ("smtpd_client_restrictions=check_client_access,texthash:DIR/code", CLOSED),
    "digits, as POP before SMTP writes them": (
        "smtpd_client_restrictions=check_client_access,texthash:DIR/digits,reject",
        OPEN,
    ),
    "an action that defers if permitted": (
        "smtpd_client_restrictions=check_client_access,texthash:DIR/if-permit",
        CLOSED,
    ),
    "an action that defers if rejected": (
        "smtpd_client_restrictions=check_client_access,texthash:DIR/if-reject",
        OPEN,
    ),
    "an action behind a warning": (
        "smtpd_client_restrictions=warn_if_reject,check_client_access,static:reject",
        OPEN,
    ),
    "restrictions in a table": (
        f"smtpd_restriction_classes=login_only\nlogin_only={LOGIN}\n"
        "smtpd_client_restrictions=check_client_access,texthash:DIR/class",
        CLOSED,
    ),
    "HELO in a table, which may be left out": (
        "smtpd_client_restrictions=check_helo_access,static:reject",
        OPEN,
    ),
    "HELO in a table that lets in": ("smtpd_recipient_restrictions=check_helo_access,static:ok,reject", OPEN),
    "all senders": ("smtpd_sender_restrictions=check_sender_access,static:reject", CLOSED),
    "all senders that there may be": (
        "smtpd_sender_restrictions=check_sender_access,texthash:DIR/senders",
        CLOSED,
    ),
    "all senders but the null one": (
        "smtpd_sender_restrictions=check_sender_access,texthash:DIR/few-senders",
        OPEN,
    ),
    "some recipient": (
        f"smtpd_recipient_restrictions=check_recipient_access,texthash:DIR/postmaster,{LOGIN}",
        OPEN,
    ),
    "recipients at DATA, where several are none": (
        "smtpd_data_restrictions=check_recipient_access,static:reject",
        OPEN,
    ),
    "logins, which they have not": (
        "smtpd_sasl_auth_enable=yes\nsmtpd_client_restrictions=check_sasl_access,static:reject",
        OPEN,
    ),
    # Classes, braces, and what is known when.
    "a class": (
        f"smtpd_restriction_classes=login_only\nlogin_only={LOGIN}\nsmtpd_sender_restrictions=login_only",
        CLOSED,
    ),
    "a class in a class": (
        f"smtpd_restriction_classes=outer,inner\nouter=inner\ninner={LOGIN}\nsmtpd_client_restrictions=outer",
        CLOSED,
    ),
    "a class that ends without a word": (
        "smtpd_restriction_classes=login_only\nlogin_only=permit_sasl_authenticated\n"
        "smtpd_client_restrictions=login_only",
        OPEN,
    ),
    "a table in braces": (
        "smtpd_client_restrictions = check_client_access inline:{ {198.41.0.4 = REJECT}, {93 = REJECT no} }",
        CLOSED,
    ),
    "rejected at once": (f"smtpd_delay_reject=no\nsmtpd_client_restrictions={LOGIN}", CLOSED),
    "rejected at once, when the recipient is not yet known": (
        "smtpd_delay_reject=no\nsmtpd_client_restrictions=permit_auth_destination,reject",
        CLOSED,
    ),
    "the recipient known to all lists": (
        "smtpd_client_restrictions=permit_auth_destination,reject",
        OPEN,
    ),
    "a sender asked for too early": (
        "smtpd_delay_reject=no\nsmtpd_client_restrictions=check_sender_access,static:reject",
        OPEN,
    ),
    "no relaying, and no other list": (
        "smtpd_relay_restrictions=\nsmtpd_recipient_restrictions=reject_unauth_destination",
        OPEN,
    ),
    "all hosts without a name rejected": (
        "smtpd_client_restrictions=permit_sasl_authenticated,reject_unknown_reverse_client_hostname",
        OPEN,
    ),
}
# The same with other domains: what main.cf has, what the service says, and whether strangers can send there.
NOTHING_LOCAL = {"mydestination": "", "relay_domains": ""}
DOMAINS = {
    "nothing local but the addresses of the host": (NOTHING_LOCAL, "", OPEN),
    "no local delivery": ({**NOTHING_LOCAL, "local_transport": "error:none here"}, "", CLOSED),
    "no local delivery, and recipients not checked": (
        {**NOTHING_LOCAL, "local_transport": "error:none here"},
        "receive_override_options=no_unknown_recipient_checks",
        OPEN,
    ),
    "no local delivery, and a domain to relay for": (
        {"mydestination": "", "relay_domains": "relay.test", "local_transport": "error:none here"},
        "",
        OPEN,
    ),
    "no local delivery, and a virtual domain": (
        {**NOTHING_LOCAL, "local_transport": "error:none", "virtual_mailbox_domains": "virtual.test"},
        "",
        OPEN,
    ),
}


def service(name: str, options: str, directory: Path) -> str:
    """Return a service of master.cf that says this."""
    lines = "".join(f"  -o {{ {line} }}\n" for line in options.replace("DIR", str(directory)).splitlines())
    return f"{name} n - n - - smtpd\n{lines}"


class Site(NamedTuple):
    """A Postfix that runs, and what dkimpipe reads of it.

    ``ports``     by the names of the services
    ``postconf``  its configuration with the services on all interfaces, and not on loopback as here
    """

    ports: dict[str, int]
    postconf: Postconf

    def lets_in(self, name: str) -> bool:
        """Tell what dkimpipe says of strangers."""
        return strangers.may_send(self.postconf, self.postconf.services[f"{self.ports[name]}/inet"])


@contextlib.contextmanager
def judged(main: dict[str, str], services: dict[str, str], closed: bool = False) -> Iterator[Site]:
    """Yield a site with these services, closed by the command that dkimpipe has for it, or as they are."""
    with shared_directory() as directory, Sink() as sink:
        for name, text in FILES.items():
            (directory / name).write_text(text)
        ports = dict(zip(services, free_ports(len(services))))
        master = "".join(
            service(f"127.0.0.1:{ports[each]} inet", text, directory) for each, text in services.items()
        )
        main = {**MAIN, **main}
        postfix = Postfix(directory, ["/bin/cat"], sink.port, extra_main=main, extra_master=master)
        public = directory / "public"
        shutil.copytree(directory / "etc", public)
        (public / "master.cf").write_text((public / "master.cf").read_text().replace("127.0.0.1:", ""))
        subprocess.run(["postconf", "-c", str(public), "-e", "inet_interfaces=all"], check=True)
        os.utime(public / "main.cf", (0, 0))
        postconf = Postconf(public)
        for port in ports.values() if closed else ():
            change = strangers.closing_change(postconf, f"{port}/inet")
            postconf.edit([change])
            postconf.edit([change._replace(argument=f"127.0.0.1:{change.argument}")], directory / "etc")
        with postfix:
            yield Site({**ports, SHIPPED: postfix.submission_port}, Postconf(public))


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(probe.getsockname()[1]) for probe in probes]


STRANGERS = ("NAME=[UNAVAILABLE] ADDR=198.41.0.4", "NAME=mail.example.net ADDR=93.184.215.14")
USER = "NAME=[UNAVAILABLE] ADDR=198.41.0.4 LOGIN=alice"
NEAR = "NAME=[UNAVAILABLE] ADDR=10.0.0.1"


def smtpd_lets_in(port: int, *clients: str) -> bool:
    """Tell whether smtpd(8) takes a message from one of these clients, or from a stranger."""
    return any(
        session_lets_in(port, client, helo)
        for client, helo in itertools.product(clients or STRANGERS, ("EHLO mail.example.net", ""))
    )


def session_lets_in(port: int, client: str, helo: str) -> bool:
    domains = ("local.test", "relay.test", "virtual.test", "[127.0.0.1]")
    recipients = [f"{name}@{domain}" for domain in domains for name in ("postmaster", "someone")]
    with (
        contextlib.suppress(smtplib.SMTPServerDisconnected, smtplib.SMTPConnectError),
        smtplib.SMTP("127.0.0.1", port, timeout=10) as smtp,
    ):
        smtp.docmd(f"XCLIENT {client}")
        if helo:
            smtp.docmd(helo)
        for sender, some in itertools.product(
            ("", "someone@example.net", "postmaster@local.test"), [*recipients, recipients[:2]]
        ):
            smtp.docmd(f"MAIL FROM:<{sender}>")
            to = [some] if isinstance(some, str) else some
            if all(smtp.docmd(f"RCPT TO:<{each}>")[0] == 250 for each in to):
                try:
                    if smtp.data(b"From: boss@local.test\r\n\r\n")[0] == 250:
                        return True
                except smtplib.SMTPDataError:
                    pass
            smtp.docmd("RSET")
    return False


@pytest.fixture(scope="module")
def as_they_are() -> Iterator[Site]:
    with judged({}, {name: options for name, (options, _) in SERVICES.items()}) as site:
        yield site


@pytest.fixture(scope="module")
def closed() -> Iterator[Site]:
    services = {name: options for name, (options, is_open) in SERVICES.items() if is_open}
    with judged({}, services, closed=True) as site:
        yield site


@pytest.mark.parametrize("name", SERVICES)
def test_it_says_what_smtpd_does(name: str, as_they_are: Site) -> None:
    is_open = SERVICES[name][1]
    assert (as_they_are.lets_in(name), smtpd_lets_in(as_they_are.ports[name])) == (is_open, is_open)


@pytest.mark.parametrize("name", DOMAINS)
def test_it_says_what_smtpd_does_with_other_domains(name: str) -> None:
    main, options, is_open = DOMAINS[name]
    with judged(main, {name: options}) as site:
        assert (site.lets_in(name), smtpd_lets_in(site.ports[name])) == (is_open, is_open)


OPEN_SERVICES = [name for name, (_, is_open) in SERVICES.items() if is_open]


@pytest.mark.parametrize("name", OPEN_SERVICES)
def test_the_fix_closes_it_to_strangers(name: str, closed: Site) -> None:
    assert (closed.lets_in(name), smtpd_lets_in(closed.ports[name])) == (False, False)


@pytest.mark.parametrize("name", OPEN_SERVICES)
def test_the_fix_locks_out_nobody_who_logs_in(name: str, closed: Site, as_they_are: Site) -> None:
    assert smtpd_lets_in(closed.ports[name], USER) == smtpd_lets_in(as_they_are.ports[name], USER)


@pytest.mark.parametrize("name", OPEN_SERVICES)
def test_the_fix_locks_out_nobody_in_mynetworks_who_may_relay(
    name: str, closed: Site, as_they_are: Site
) -> None:
    options = SERVICES[name][0]
    may_relay = "mynetworks=" not in options and "smtpd_relay_restrictions=\n" not in options
    before = may_relay and smtpd_lets_in(as_they_are.ports[name], NEAR)
    assert smtpd_lets_in(closed.ports[name], NEAR) == before


def test_the_fragment_lets_in_no_strangers(as_they_are: Site) -> None:
    port = as_they_are.ports[SHIPPED]
    assert [smtpd_lets_in(port), smtpd_lets_in(port, USER), smtpd_lets_in(port, NEAR)] == [False, True, True]


def test_those_who_log_in_and_those_in_mynetworks_are_let_in_at_all(closed: Site) -> None:
    port = closed.ports["a login and nothing else"]
    assert (smtpd_lets_in(port, USER), smtpd_lets_in(port, NEAR)) == (True, True)


# What no session shows.

# Where a service listens, by main.cf and by its own name, and what it says.
TLS = "smtpd_tls_req_ccert=yes\n"
ALL = "inet_interfaces = all"
CLOSED_OTHERWISE = {
    "a certificate is required": (ALL, "587 inet", f"{TLS}smtpd_tls_security_level=encrypt"),
    "a certificate is required, by TLS at once": (ALL, "587 inet", f"{TLS}smtpd_tls_wrappermode=yes"),
    "on loopback": (ALL, "127.0.0.1:587 inet", ""),
    "on loopback of IPv6": (ALL, "[::1]:587 inet", ""),
    "on loopback by name": (ALL, "localhost:587 inet", ""),
    "all on loopback": ("inet_interfaces = loopback-only", "587 inet", ""),
    "all on these addresses of loopback": ("inet_interfaces = 127.0.0.1, [::1]", "587 inet", ""),
    "a socket in the file system": (ALL, "submission unix", ""),
}
OPEN_OTHERWISE = {
    "a certificate is required of those who use TLS": (
        ALL,
        "587 inet",
        f"{TLS}smtpd_tls_security_level=may",
    ),
    "an address of the network": ("inet_interfaces = loopback-only", "192.0.2.1:587 inet", ""),
    "on loopback, behind a proxy for all": (
        ALL,
        "127.0.0.1:587 inet",
        "smtpd_upstream_proxy_protocol=haproxy",
    ),
    "behind postscreen": (ALL, "smtpd pass", ""),
    "only addresses of IPv4 are rejected": (
        "inet_protocols = all",
        "587 inet",
        "smtpd_client_restrictions=check_client_access,cidr:DIR/nets.cidr",
    ),
}


def configuration(directory: Path, main: str, master: str) -> Postconf:
    """Return a configuration that is not run."""
    (directory / "main.cf").write_text(f"compatibility_level = 3.6\nmydestination = local.test\n{main}\n")
    (directory / "master.cf").write_text(master)
    os.utime(directory / "main.cf", (0, 0))
    return Postconf(directory)


@pytest.mark.parametrize("name", [*CLOSED_OTHERWISE, *OPEN_OTHERWISE])
def test_it_knows_who_can_connect(name: str, tmp_path: Path) -> None:
    (tmp_path / "nets.cidr").write_text(FILES["nets.cidr"])
    main, where, options = {**CLOSED_OTHERWISE, **OPEN_OTHERWISE}[name]
    postconf = configuration(tmp_path, main, service(where, options, tmp_path))
    (only,) = postconf.running("smtpd")
    assert strangers.may_send(postconf, only) is (name in OPEN_OTHERWISE)


# What a service says, and the setting by which its owner lets others in on purpose.
RULE = f"smtpd_relay_restrictions={LOGIN}"
GUESTS = {
    "programs on this host": ("127.0.0.1:587 inet", "", ""),
    "programs on this host, which are not in mynetworks": (
        "127.0.0.1:587 inet",
        "mynetworks=10.0.0.0/8",
        "mynetworks",
    ),
    "what another filter gives back": (
        "127.0.0.1:10025 inet",
        "smtpd_authorized_xforward_hosts=127.0.0.0/8",
        "smtpd_authorized_xforward_hosts",
    ),
    "a proxy whose clients log in": (
        "127.0.0.1:587 inet",
        f"smtpd_authorized_xclient_hosts=127.0.0.1\n{RULE}",
        "",
    ),
    "a proxy that decides itself": (
        "127.0.0.1:587 inet",
        "smtpd_authorized_xclient_hosts=127.0.0.1",
        "smtpd_authorized_xclient_hosts",
    ),
    "all who like, and nobody on purpose": ("587 inet", "", ""),
    "those who log in": ("587 inet", RULE, ""),
    "a table that lets some in": (
        "587 inet",
        f"smtpd_relay_restrictions=check_client_access,cidr:DIR/some.cidr,{LOGIN}",
        "check_client_access",
    ),
    "a table that lets nobody in": (
        "587 inet",
        f"smtpd_relay_restrictions=check_client_access,texthash:DIR/unknown,{LOGIN}",
        "",
    ),
    "a table that names a class": (
        "587 inet",
        "smtpd_restriction_classes=some\nsome=permit_tls_clientcerts\n"
        f"smtpd_relay_restrictions=check_sender_access,inline:{{a=some}},{LOGIN}",
        "check_sender_access",
    ),
}


@pytest.mark.parametrize("name", GUESTS)
def test_it_knows_whom_the_owner_lets_in_on_purpose(name: str, tmp_path: Path) -> None:
    where, options, setting = GUESTS[name]
    for file in ("some.cidr", "unknown"):
        (tmp_path / file).write_text(FILES[file])
    postconf = configuration(tmp_path, "inet_interfaces = all", service(where, options, tmp_path))
    (only,) = postconf.running("smtpd")
    assert strangers.guest_setting(postconf, only) == setting


def test_a_table_that_is_not_there_is_asked_once(tmp_path: Path) -> None:
    """postmap(1) waits for a second before it ends in an error."""
    tables = ",".join(f"check_{each}_access,hash:/nowhere" for each in ("client", "sender", "recipient"))
    options = f"smtpd_recipient_restrictions={tables},{LOGIN}"
    postconf = configuration(tmp_path, "", service("587 inet", options, tmp_path))
    (only,) = postconf.running("smtpd")
    began = time.monotonic()
    assert not strangers.may_send(postconf, only)
    assert time.monotonic() - began < 5


def test_before_postfix_2_10_the_fix_is_another_list(tmp_path: Path) -> None:
    main = "smtpd_recipient_restrictions = permit_mynetworks, reject_unauth_destination"
    postconf = configuration(tmp_path, main, service("587 inet", "", tmp_path))
    del postconf.effective[strangers.RELAY]
    assert strangers.closing_change(postconf, "587/inet").argument == (
        "587/inet/smtpd_recipient_restrictions=permit_mynetworks,permit_sasl_authenticated,reject"
    )


def test_what_lets_some_in_stays_and_what_lets_all_in_goes(tmp_path: Path) -> None:
    main = "smtpd_restriction_classes = all\nall = permit"
    words = (
        "warn_if_reject,reject_unknown_client_hostname,check_client_access,static:ok,permit_tls_clientcerts,"
        "Permit_SASL_Authenticated,permit_mynetworks,all,warn_if_reject,reject,permit_auth_destination,defer"
    )
    table = "check_client_access inline:{ {10.0.0.1 = OK to relay} }"  # no option of postconf -P
    options = f"smtpd_relay_restrictions={table},{words}"
    postconf = configuration(tmp_path, main, service("587 inet", options, tmp_path))
    assert strangers.closing_change(postconf, "587/inet").argument == (
        "587/inet/smtpd_relay_restrictions=warn_if_reject,reject_unknown_client_hostname,"
        "permit_tls_clientcerts,Permit_SASL_Authenticated,permit_mynetworks,reject"
    )
