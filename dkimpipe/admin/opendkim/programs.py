"""The two programs: the options of their command lines, and the files that are usually theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

SOCKET = "-p"


class Daemon(NamedTuple):
    """One of the two programs.

    ``name``           of the program, of its unit, and of its files
    ``options``        of its command line, for getopt(3): CMDLINEOPTS in its source
    ``no_daemon``      options with which it does something else, and exits
    ``conf``           the option that names the conf file
    ``settings``       the lines of the conf file that options replace, with the value of those that have none
    ``of_signatures``  the options that make a difference to signatures
    ``of_tests``       the options that change nothing about a daemon
    ``prefix``         what its variables in FreeBSD's rc.conf begin with
    ``freebsd``        the rest of their names, and the option that each is the value of
    """

    name: str
    options: str
    no_daemon: Sequence[str]
    conf: str
    settings: Mapping[str, tuple[str, str]]
    of_signatures: Sequence[str]
    of_tests: Sequence[str]
    prefix: str
    freebsd: Mapping[str, str]

    @property
    def confs(self) -> list[Path]:
        """The usual places of the conf file: a package has one of them."""
        file = f"{self.name}.conf"
        return [
            Path(each, file) for each in ("/etc", f"/etc/{self.name}", "/etc/mail", "/usr/local/etc/mail")
        ]


OPENDKIM = Daemon(
    name="opendkim",
    options="Ab:c:d:De:fF:k:lL:no:p:P:Qrs:S:t:T:u:vVWx:X?",
    no_daemon=("-e", "-n", "-Q", "-t", "-V", "-?"),
    conf="-x",
    settings={
        "-A": ("AutoRestart", "yes"),
        "-b": ("Mode", ""),
        "-c": ("Canonicalization", ""),
        "-d": ("Domain", ""),
        "-D": ("SubDomains", "yes"),
        "-f": ("Background", "no"),
        "-k": ("KeyFile", ""),
        "-l": ("Syslog", "yes"),
        "-L": ("Minimum", ""),
        "-o": ("OmitHeaders", ""),
        "-P": ("PidFile", ""),
        "-r": ("RequiredHeaders", "yes"),
        "-s": ("Selector", ""),
        "-S": ("SignatureAlgorithm", ""),
        "-T": ("DNSTimeout", ""),
        "-u": ("UserID", ""),
        "-W": ("LogWhy", "yes"),
    },
    of_signatures=("-b", "-c", "-d", "-D", "-k", "-o", "-s", "-S"),
    of_tests=("-F", "-v", "-X"),
    prefix="milteropendkim",
    freebsd={
        "cfgfile": "-x",
        "socket": SOCKET,
        "uid": "-u",
        "domain": "-d",
        "key": "-k",
        "selector": "-s",
        "alg": "-S",
    },
)
OPENDMARC = Daemon(
    name="opendmarc",
    options="Ac:flnp:P:t:u:vV",
    no_daemon=("-n", "-t", "-V"),
    conf="-c",
    settings={},
    of_signatures=(),
    of_tests=("-v",),
    prefix="opendmarc",
    freebsd={"cfgfile": "-c", "socketspec": SOCKET, "uid": "-u"},
)
