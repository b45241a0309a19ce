"""What SELinux does not allow the filter and sendmail(1), and what helps, by a stand-in for selinuxfs.

In the tables ROOT is a directory that stands for the machine's root. Its files have labels, as Fedora's
targeted policy has them; the directories above it have none.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import throwaway
from conftest import MAIN
from selinuxfs import LABEL, Policy, Selinuxfs
from throwaway import Machine

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix.filter_service import SIGN, VERIFY, Job
from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.admin.selinux import survey
from dkimpipe.admin.selinux.survey import System
from postfix import shared_directory

NEEDS = {"Debian's package postfix": shutil.which("postconf"), "root": os.geteuid() == 0}
if not all(NEEDS.values()):
    missing = ", ".join(need for need, there in NEEDS.items() if not there)
    pytest.skip(f"the tests of SELinux need {missing}", allow_module_level=True)

# What Fedora 41 allows, as far as it is asked for.
ALLOW = """\
postfix_pipe_t unlabeled_t,root_t,etc_t,bin_t,lib_t,usr_t,var_t,tmp_t,admin_home_t,default_t dir search
postfix_pipe_t bin_t,etc_t lnk_file getattr read
postfix_pipe_t bin_t file execute execute_no_trans getattr map open read
postfix_pipe_t lib_t,etc_t file getattr map open read
postfix_pipe_t lib_t dir getattr open read
postfix_pipe_t tmp_t dir add_name write
postfix_pipe_t postfix_pipe_tmp_t file create getattr open read write
postfix_pipe_t postfix_pipe_t fifo_file getattr read write
postfix_pipe_t sendmail_exec_t file execute getattr map open read
postfix_pipe_t system_mail_t process transition
system_mail_t sendmail_exec_t file entrypoint
system_mail_t postfix_pipe_t fd use
system_mail_t postfix_pipe_t fifo_file getattr read
system_mail_t postfix_pipe_tmp_t file getattr read
"""
BECOME = {
    "init_t postfix_master_exec_t process": "postfix_master_t",
    "postfix_master_t postfix_pipe_exec_t process": "postfix_pipe_t",
    "postfix_pipe_t sendmail_exec_t process": "system_mail_t",
    "postfix_pipe_t tmp_t file": "postfix_pipe_tmp_t",
}
FILES = {
    "usr/libexec/postfix/master": "postfix_master_exec_t",
    "usr/libexec/postfix/pipe": "postfix_pipe_exec_t",
    "usr/sbin/sendmail.postfix": "sendmail_exec_t",
    "usr/bin/python3.13": "bin_t",
    "opt/dkimpipe/bin/dkimpipe": "bin_t",
    "opt/dkimpipe/lib/dkimpipe/__main__.py": "lib_t",
    "opt/dkimpipe/lib/dkimpipe/verify/tree.py": "lib_t",
    "etc/dkimpipe/dkimpipe.conf": "etc_t",
    "etc/dkimpipe/verify.conf": "etc_t",
    "etc/dkimpipe/senders": "etc_t",
    "etc/dkimpipe/keys/a.pem": "etc_t",
    "etc/dkimpipe/keys/b.pem": "etc_t",
    "var/tmp/file": "tmp_t",
    "root/senders": "admin_home_t",
    "home/joe/keys/a.pem": "user_home_t",
    "keys/a.pem": "default_t",
    "keys/b.pem": "default_t",
    "srv/a+b.pem": "var_t",
}
DIRECTORIES = {
    "": "root_t",
    "usr": "usr_t",
    "usr/bin": "bin_t",
    "usr/sbin": "bin_t",
    "usr/libexec/postfix": "bin_t",
    "opt": "usr_t",
    "opt/dkimpipe/bin": "bin_t",
    "opt/dkimpipe/lib": "lib_t",
    "etc": "etc_t",
    "var": "var_t",
    "var/tmp": "tmp_t",
    "root": "admin_home_t",
    "home": "home_root_t",
    "home/joe": "user_home_dir_t",
    "home/joe/keys": "user_home_t",
    "keys": "default_t",
    "srv": "var_t",
}
LINKS = {
    "usr/bin/python3": ("python3.13", "bin_t"),
    "opt/dkimpipe/bin/python3": ("../../../usr/bin/python3", "bin_t"),
    "etc/alternatives/mta": ("ROOT/usr/sbin/sendmail.postfix", "etc_t"),
    "usr/sbin/sendmail": ("ROOT/etc/alternatives/mta", "bin_t"),
}
# The program matchpathcon, for paths below ROOT.
MATCHPATHCON = """#!/bin/sh
[ "$1" = -n ] || exit 1
case "$2" in
    ROOT/etc/*) type=etc_t;;
    ROOT/opt/*/lib/*) type=lib_t;;
    ROOT/opt/*/bin/*|ROOT/usr/bin/*) type=bin_t;;
    ROOT/usr/sbin/sendmail.postfix) type=sendmail_exec_t;;
    ROOT/var/tmp) type=tmp_t;;
    ROOT/root*) type=admin_home_t;;
    ROOT/home) type=home_root_t;;
    ROOT/home/joe) type=user_home_dir_t;;
    ROOT/home/joe/*) type=user_home_t;;
    ROOT/srv/*) type=var_t;;
    ROOT/none/*) echo '<<none>>'; exit;;
    *) type=default_t;;
esac
echo "system_u:object_r:$type:s0"
"""
MAIN_CF = """\
compatibility_level = 3.6
daemon_directory = ROOT/usr/libexec/postfix
queue_directory = ROOT/var/spool/postfix
"""
MASTER_CF = """\
dkimpipe unix - n n - 4 pipe flags=q null_sender= user=nobody argv={0}
 --conf_file=ROOT/etc/dkimpipe/dkimpipe.conf -f ${{sender}} -- ${{recipient}}
dkimpipe-verify unix - n n - 4 pipe flags=q null_sender= user=daemon argv={0}
 verify --conf_file=ROOT/etc/dkimpipe/verify.conf -f ${{sender}} -- ${{recipient}}
"""
START = "ROOT/opt/dkimpipe/bin/python3 -IS ROOT/opt/dkimpipe/lib/dkimpipe/__main__.py"
SCRIPT = "ROOT/opt/dkimpipe/bin/dkimpipe"
CONF = "sender_map ROOT/etc/dkimpipe/senders\nsendmail ROOT/usr/sbin/sendmail\n"
KEYS = ("ROOT/etc/dkimpipe/keys/a.pem", "ROOT/etc/dkimpipe/keys/b.pem")


class Site:
    """A machine with a policy and files with labels; tests change it, then look at what is found."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.policy = Policy(ALLOW, BECOME)
        self.semanage = "sh"  # a program that is there
        self.keys: tuple[str, ...] = KEYS
        self.garble: Callable[[str, str], str] = lambda _, answer: answer
        for path in FILES:
            self.write(path, "")
        for path, (target, label) in LINKS.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).symlink_to(self.real(target))
            self.label(path, label)
        for directory in sorted([root, *(each for each in root.rglob("*") if each.is_dir())]):
            path = str(directory.relative_to(root)).strip(".")
            above = [
                DIRECTORIES[each] for each in (path, *map(str, Path(path).parents)) if each in DIRECTORIES
            ]
            self.label(path, (above or [DIRECTORIES[""]])[0])
        for path, label in FILES.items():
            self.label(path, label)
        self.write("opt/dkimpipe/bin/dkimpipe", "#!ROOT/opt/dkimpipe/bin/python3\n")
        self.write("etc/dkimpipe/dkimpipe.conf", CONF)
        self.write("etc/dkimpipe/verify.conf", "sendmail ROOT/usr/sbin/sendmail\n")
        self.write("bin/matchpathcon", MATCHPATHCON).chmod(0o755)
        self.write("postfix/main.cf", MAIN_CF)
        self.write("postfix/master.cf", MASTER_CF.format(START))
        os.utime(root / "postfix/main.cf", (0, 0))  # Postfix waits until it is two seconds old
        self.process(1, "systemd", "init_t")

    def real(self, text: str) -> str:
        """Return text with the directory for ROOT."""
        return text.replace("ROOT", str(self.root))

    def write(self, path: str, text: str) -> Path:
        """Write a file; a new one has no label."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(self.real(text))
        return self.root / path

    def label(self, path: str, name: str) -> None:
        """Give a file, directory or link this type."""
        octets = f"system_u:object_r:{name}:s0\0".encode()
        os.setxattr(self.root / path, LABEL, octets, follow_symlinks=False)

    def process(self, number: int, name: str, domain: str) -> None:
        """Have a process of this name in this domain."""
        self.write(f"proc/{number}/comm", f"{name}\n")
        self.write(f"proc/{number}/attr/current", f"system_u:system_r:{domain}:s0\0")

    def findings(self, job: Job = SIGN, effective_user: int = 0) -> list[Finding]:
        """Return what is found, with ROOT for the directory."""
        postconf = Postconf(self.root / "postfix")
        keys = list(map(self.real, self.keys))
        system = System(
            *(str(self.root / each) for each in ("selinux", "proc", "var/tmp", "bin/matchpathcon"))
        )._replace(semanage=self.semanage)
        with Selinuxfs(self.root / "selinux", self.policy, self.garble) as stand_in:
            os.seteuid(effective_user)
            try:
                found = survey.findings(postconf, job, keys, system)
            finally:
                os.seteuid(0)
        self.queries = stand_in.queries
        return [Finding(*(each.replace(str(self.root), "ROOT") for each in finding)) for finding in found]


@pytest.fixture
def site() -> Iterator[Site]:
    """A machine where nothing is wrong."""
    with shared_directory() as directory:
        (directory / "root").mkdir()
        yield Site(directory / "root")


def test_the_package_of_a_missing_semanage_is_named(site: Site) -> None:
    senders("ROOT/root/senders")(site)
    site.semanage = "no-such-program"
    assert [each.hint.splitlines() for each in site.findings()] == [
        [
            "apt install policycoreutils-python-utils && semanage fcontext -a -t etc_t ROOT/root/senders",
            "restorecon -v ROOT/root/senders",
        ]
    ]


def error(what: str, *hint: str) -> Finding:
    """Return an error as it should be found."""
    return Finding(f"SELinux: {what}", "\n".join(hint))


def rule(source: str, target: str, kind: str, permissions: str) -> tuple[str]:
    """Return the hint that adds a rule to the policy."""
    name = f"dkimpipe-{source}-{target}-{kind}.cil"
    return (f"echo '(allow {source} {target} ({kind} ({permissions})))' > {name} && semodule -i {name}",)


RUN = "postfix_pipe_t bin_t file execute getattr map open read"
LARGE = "messages larger than a pipe stay in the queue"
ALL = "all mail stays in the queue"
PIPE, MAIL, TMP = "postfix_pipe_t", "system_mail_t", "postfix_pipe_tmp_t"


def label(*pairs: tuple[str, str]) -> Callable[[Site], None]:
    """Return what gives files other types."""

    def change(site: Site) -> None:
        for path, name in pairs:
            site.label(path, name)

    return change


def deny(*rule: str) -> Callable[[Site], None]:
    """Return what takes rules out of the policy."""
    return lambda site: site.policy.deny(*rule)


def allow(rule: str) -> Callable[[Site], None]:
    """Return what adds a rule to the policy."""
    return lambda site: site.policy.allow(rule)


def write(path: str, text: str = "") -> Callable[[Site], None]:
    """Return what writes a file."""

    def change(site: Site) -> None:
        site.write(path, text)

    return change


def keys(*paths: str) -> Callable[[Site], None]:
    """Return what lets the map name these keys."""

    def change(site: Site) -> None:
        site.keys = paths

    return change


def senders(path: str) -> Callable[[Site], None]:
    """Return what names another map."""
    return write("etc/dkimpipe/dkimpipe.conf", f"{CONF}sender_map {path}\n")


def both(*changes: Callable[[Site], None]) -> Callable[[Site], None]:
    """Return several changes as one."""

    def change(site: Site) -> None:
        for each in changes:
            each(site)

    return change


FAULTS: dict[str, tuple[Callable[[Site], None], list[Finding]]] = {
    # Labels.
    "a key that was moved from a home": (
        label(("etc/dkimpipe/keys/a.pem", "user_home_t")),
        [
            error(
                "postfix_pipe_t may not read ROOT/etc/dkimpipe/keys/a.pem (user_home_t)",
                "restorecon -v ROOT/etc/dkimpipe/keys/a.pem",
            )
        ],
    ),
    "two keys that were moved from a home": (
        label(("etc/dkimpipe/keys/a.pem", "user_home_t"), ("etc/dkimpipe/keys/b.pem", "user_home_t")),
        [
            error(
                "postfix_pipe_t may not read ROOT/etc/dkimpipe/keys/a.pem and 1 more (user_home_t)",
                "restorecon -Rv ROOT/etc/dkimpipe/keys",
            )
        ],
    ),
    "a key without a label": (
        lambda site: os.removexattr(site.root / "etc/dkimpipe/keys/a.pem", LABEL),
        [
            error(
                "postfix_pipe_t may not read ROOT/etc/dkimpipe/keys/a.pem (unlabeled_t)",
                "restorecon -v ROOT/etc/dkimpipe/keys/a.pem",
            )
        ],
    ),
    "a map in root's home": (
        senders("ROOT/root/senders"),
        [
            error(
                "postfix_pipe_t may not read ROOT/root/senders (admin_home_t)",
                "semanage fcontext -a -t etc_t ROOT/root/senders",
                "restorecon -v ROOT/root/senders",
            )
        ],
    ),
    "a conf file and an index that were moved from a home": (
        both(
            write("etc/dkimpipe/senders.index", ""),
            label(("etc/dkimpipe/dkimpipe.conf", "user_home_t"), ("etc/dkimpipe/senders.index", "tmp_t")),
        ),
        [
            error(
                "postfix_pipe_t may not read ROOT/etc/dkimpipe/dkimpipe.conf (user_home_t)",
                "restorecon -v ROOT/etc/dkimpipe/dkimpipe.conf",
            ),
            error(
                "postfix_pipe_t may not read ROOT/etc/dkimpipe/senders.index (tmp_t)",
                "restorecon -v ROOT/etc/dkimpipe/senders.index",
            ),
        ],
    ),
    "a conf file and a map that were moved from a home": (
        label(("etc/dkimpipe/dkimpipe.conf", "user_home_t"), ("etc/dkimpipe/senders", "user_home_t")),
        [
            error(
                "postfix_pipe_t may not read ROOT/etc/dkimpipe/dkimpipe.conf and 1 more (user_home_t)",
                "restorecon -v ROOT/etc/dkimpipe/dkimpipe.conf ROOT/etc/dkimpipe/senders",
            )
        ],
    ),
    "a map and a key in root's home, where other files are": (
        both(
            write("root/a.pem"),
            label(("root/a.pem", "admin_home_t")),
            senders("ROOT/root/senders"),
            keys("ROOT/root/a.pem"),
            write("root/mbox"),
        ),
        [
            error(
                "postfix_pipe_t may not read ROOT/root/senders and 1 more (admin_home_t)",
                "semanage fcontext -a -t etc_t ROOT/root/senders",
                "semanage fcontext -a -t etc_t ROOT/root/a.pem",
                "restorecon -v ROOT/root/senders ROOT/root/a.pem",
            )
        ],
    ),
    "keys where the policy knows nothing": (
        keys("ROOT/keys/a.pem", "ROOT/keys/b.pem"),
        [
            error(
                "postfix_pipe_t may not read ROOT/keys/a.pem and 1 more (default_t)",
                "semanage fcontext -a -t etc_t 'ROOT/keys(/.*)?'",
                "restorecon -Rv ROOT/keys",
            )
        ],
    ),
    "a key whose name is no pattern for itself": (
        keys("ROOT/srv/a+b.pem"),
        [
            error(
                "postfix_pipe_t may not read ROOT/srv/a+b.pem (var_t)",
                r"semanage fcontext -a -t etc_t 'ROOT/srv/a\+b.pem'",
                "restorecon -v ROOT/srv/a+b.pem",
            )
        ],
    ),
    "keys of one type in two directories": (
        both(
            label(("keys/a.pem", "user_home_t"), ("etc/dkimpipe/keys/a.pem", "user_home_t")),
            keys("ROOT/keys/a.pem", *KEYS),
        ),
        [
            error(
                "postfix_pipe_t may not read ROOT/keys/a.pem and 1 more (user_home_t)",
                "semanage fcontext -a -t etc_t ROOT/keys/a.pem",
                "restorecon -v ROOT/keys/a.pem",
                "restorecon -v ROOT/etc/dkimpipe/keys/a.pem",
            )
        ],
    ),
    "a key beside the queue": (
        both(
            write("var/spool/postfix/a.pem", ""),
            label(("var/spool/postfix/a.pem", "postfix_spool_t")),
            keys("a.pem"),
        ),
        [
            error(
                "postfix_pipe_t may not read ROOT/var/spool/postfix/a.pem (postfix_spool_t)",
                "semanage fcontext -a -t etc_t ROOT/var/spool/postfix/a.pem",
                "restorecon -v ROOT/var/spool/postfix/a.pem",
            )
        ],
    ),
    "no matchpathcon": (
        both(
            lambda site: (site.root / "bin/matchpathcon").unlink(),
            label(("etc/dkimpipe/keys/a.pem", "user_home_t")),
        ),
        [
            error(
                "postfix_pipe_t may not read ROOT/etc/dkimpipe/keys/a.pem (user_home_t)",
                "semanage fcontext -a -t etc_t ROOT/etc/dkimpipe/keys/a.pem",
                "restorecon -v ROOT/etc/dkimpipe/keys/a.pem",
            )
        ],
    ),
    "a key of which the policy wants no label": (
        both(
            write("none/a.pem", ""),
            label(("none", "default_t"), ("none/a.pem", "tmp_t")),
            keys("ROOT/none/a.pem"),
        ),
        [
            error(
                "postfix_pipe_t may not read ROOT/none/a.pem (tmp_t)",
                "semanage fcontext -a -t etc_t ROOT/none/a.pem",
                "restorecon -v ROOT/none/a.pem",
            )
        ],
    ),
    "a directory of keys that was moved from a home": (
        label(("etc/dkimpipe/keys", "user_home_t"), ("etc/dkimpipe/keys/a.pem", "user_home_t")),
        [
            error(
                "postfix_pipe_t may not enter ROOT/etc/dkimpipe/keys (user_home_t)",
                "restorecon -Rv ROOT/etc/dkimpipe/keys",
            )
        ],
    ),
    "a directory of keys where the policy knows nothing": (
        both(deny(PIPE, "default_t", "dir"), keys("ROOT/keys/a.pem", "ROOT/keys/b.pem")),
        [
            error(
                "postfix_pipe_t may not enter ROOT/keys (default_t)",
                "semanage fcontext -a -t etc_t 'ROOT/keys(/.*)?'",
                "restorecon -Rv ROOT/keys",
            )
        ],
    ),
    "keys below a directory of which the policy knows nothing": (
        both(
            deny(PIPE, "default_t", "dir"),
            write("keys/example.com/c.pem"),
            keys("ROOT/keys/example.com/c.pem"),
        ),
        [
            error(
                "postfix_pipe_t may not enter ROOT/keys (default_t)",
                "semanage fcontext -a -t etc_t ROOT/keys",
                "restorecon -v ROOT/keys",
            )
        ],
    ),
    "keys in a home": (
        keys("ROOT/home/joe/keys/a.pem"),
        [
            error(
                "postfix_pipe_t may not enter ROOT/home (home_root_t)",
                "move the filter's files from ROOT/home to /etc/dkimpipe, then: restorecon -Rv /etc/dkimpipe",
            )
        ],
    ),
    "keys in a home, and no matchpathcon": (
        both(
            lambda site: (site.root / "bin/matchpathcon").unlink(),
            label(("home", "root_t")),
            keys("ROOT/home/joe/keys/a.pem"),
        ),
        [
            error(
                "postfix_pipe_t may not enter ROOT/home/joe (user_home_dir_t)",
                "move the filter's files from ROOT/home/joe to /etc/dkimpipe, then: restorecon -Rv"
                " /etc/dkimpipe",
            )
        ],
    ),
    # The program.
    "an interpreter that was moved from a home": (
        label(("usr/bin/python3.13", "user_home_t")),
        [
            error(
                "postfix_pipe_t may not run ROOT/usr/bin/python3.13 (user_home_t)",
                "restorecon -v ROOT/usr/bin/python3.13",
            )
        ],
    ),
    "the interpreter of a script": (
        both(
            write("postfix/master.cf", MASTER_CF.format(SCRIPT)),
            allow(f"{PIPE} unlabeled_t dir,file getattr open read"),  # of this source, whose modules it runs
            label(("usr/bin/python3.13", "user_home_t")),
        ),
        [
            error(
                "postfix_pipe_t may not run ROOT/usr/bin/python3.13 (user_home_t)",
                "restorecon -v ROOT/usr/bin/python3.13",
            )
        ],
    ),
    "a program that may be run in another domain only": (
        both(deny(PIPE, "bin_t", "file"), allow(RUN)),
        [
            error(
                "postfix_pipe_t may not run ROOT/usr/bin/python3.13 (bin_t)",
                *rule(PIPE, "bin_t", "file", "execute_no_trans"),
            )
        ],
    ),
    "a link to the interpreter": (
        label(("opt/dkimpipe/bin/python3", "user_home_t")),
        [
            error(
                "postfix_pipe_t may not follow ROOT/opt/dkimpipe/bin/python3 (user_home_t)",
                "restorecon -v ROOT/opt/dkimpipe/bin/python3",
            )
        ],
    ),
    "modules that were moved from a home": (
        both(
            label(
                ("opt/dkimpipe/lib/dkimpipe/__main__.py", "user_home_t"),
                ("opt/dkimpipe/lib/dkimpipe/verify", "user_home_t"),
                ("opt/dkimpipe/lib/dkimpipe/verify/tree.py", "user_home_t"),
            ),
            allow(f"{PIPE} user_home_t dir getattr open read"),  # to search it is missing
        ),
        [
            error(
                "postfix_pipe_t may not read ROOT/opt/dkimpipe/lib/dkimpipe/__main__.py and 1 more"
                " (user_home_t)",
                "restorecon -v ROOT/opt/dkimpipe/lib/dkimpipe/__main__.py",
                "restorecon -v ROOT/opt/dkimpipe/lib/dkimpipe/verify/tree.py",
            ),
            error(
                "postfix_pipe_t may not read ROOT/opt/dkimpipe/lib/dkimpipe/verify (user_home_t)",
                "restorecon -Rv ROOT/opt/dkimpipe/lib/dkimpipe/verify",
            ),
        ],
    ),
    "modules in a place of the policy's own": (
        both(
            write("srv/dkimpipe/__main__.py"),
            write("srv/dkimpipe/pipe.py"),
            label(*((f"srv/dkimpipe{each}", "var_t") for each in ("", "/__main__.py", "/pipe.py"))),
            write("postfix/master.cf", MASTER_CF.format(START.replace("opt/dkimpipe/lib", "srv"))),
        ),
        [
            error(
                "postfix_pipe_t may not read ROOT/srv/dkimpipe (var_t)",
                "move the filter's files from ROOT/srv/dkimpipe to /opt/dkimpipe, then: restorecon -Rv"
                " /opt/dkimpipe",
            ),
        ],
    ),
    "modules in a place of which the policy knows nothing": (
        both(
            write("keys/dkimpipe/__main__.py"),
            write("keys/dkimpipe/pipe.py"),
            write("keys/dkimpipe/py.typed"),
            label(*((f"keys/dkimpipe{each}", "default_t") for each in ("", "/__main__.py", "/pipe.py"))),
            label(("keys/dkimpipe/py.typed", "lib_t")),
            write(
                "postfix/master.cf",
                MASTER_CF.format(START.replace("/opt/dkimpipe/lib", "/keys")),
            ),
            allow(f"{PIPE} default_t dir getattr open read"),
        ),
        [
            error(
                "postfix_pipe_t may not read ROOT/keys/dkimpipe/__main__.py and 1 more (default_t)",
                "semanage fcontext -a -t lib_t 'ROOT/keys/dkimpipe(/.*)?'",
                "restorecon -Rv ROOT/keys/dkimpipe",
            ),
        ],
    ),
    # sendmail(1).
    "a sendmail(1) of another type": (
        label(("usr/sbin/sendmail.postfix", "etc_t")),
        [
            error(
                "postfix_pipe_t may not run ROOT/usr/sbin/sendmail.postfix (etc_t)",
                "semanage fcontext -a -t bin_t ROOT/usr/sbin/sendmail.postfix",
                "restorecon -v ROOT/usr/sbin/sendmail.postfix",
            ),
        ],
    ),
    "the domain of sendmail(1) may not be entered": (
        both(deny(PIPE, MAIL, "process"), deny(MAIL, "sendmail_exec_t", "file")),
        [
            error("postfix_pipe_t may not become system_mail_t", *rule(PIPE, MAIL, "process", "transition")),
            error(
                "system_mail_t may not be entered by ROOT/usr/sbin/sendmail",
                *rule(MAIL, "sendmail_exec_t", "file", "entrypoint"),
            ),
        ],
    ),
    "sendmail(1) may not use descriptors": (
        deny(MAIL, PIPE, "fd"),
        [
            error(
                f"system_mail_t may not use descriptors of postfix_pipe_t: {ALL}",
                *rule(MAIL, PIPE, "fd", "use"),
            )
        ],
    ),
    "sendmail(1) may not read pipes": (
        deny(MAIL, PIPE, "fifo_file"),
        [
            error(
                f"system_mail_t may not read pipes of postfix_pipe_t: {ALL}",
                *rule(MAIL, PIPE, "fifo_file", "getattr read"),
            )
        ],
    ),
    "sendmail(1) may read files, but not look at them": (
        both(deny(MAIL, TMP, "file"), allow(f"{MAIL} {TMP} file read")),
        [
            error(
                f"system_mail_t may not read temporary files of postfix_pipe_t ({TMP}): {LARGE}",
                *rule(MAIL, TMP, "file", "getattr"),
            )
        ],
    ),
    "sendmail(1) may not read temporary files": (
        deny(MAIL, TMP, "file"),
        [
            error(
                f"system_mail_t may not read temporary files of postfix_pipe_t ({TMP}): {LARGE}",
                *rule(MAIL, TMP, "file", "getattr read"),
            )
        ],
    ),
    # The filter's own pipes and files.
    "no pipes": (
        deny(PIPE, PIPE, "fifo_file"),
        [
            error(
                f"postfix_pipe_t may not use its own pipes: {ALL}",
                *rule(PIPE, PIPE, "fifo_file", "getattr read write"),
            )
        ],
    ),
    "a directory for temporary files with another type": (
        label(("var/tmp", "var_t")),
        [
            error(
                f"postfix_pipe_t may not create files in ROOT/var/tmp (var_t): {LARGE}",
                "restorecon -v ROOT/var/tmp",
            )
        ],
    ),
    "no files in the directory for temporary files": (
        both(deny(PIPE, "tmp_t", "dir"), allow(f"{PIPE} tmp_t dir search")),
        [
            error(
                f"postfix_pipe_t may not create files in ROOT/var/tmp (tmp_t): {LARGE}",
                *rule(PIPE, "tmp_t", "dir", "add_name write"),
            )
        ],
    ),
    "no temporary files": (
        deny(PIPE, TMP, "file"),
        [
            error(
                f"postfix_pipe_t may not create temporary files of postfix_pipe_t ({TMP}): {LARGE}",
                *rule(PIPE, TMP, "file", "create getattr open read write"),
            )
        ],
    ),
    "a policy in which etc_t is of no use": (
        both(deny(PIPE, "etc_t", "file"), keys("ROOT/keys/a.pem"), senders("ROOT/keys/b.pem")),
        [
            error(
                "postfix_pipe_t may not read ROOT/etc/dkimpipe/dkimpipe.conf (etc_t)",
                *rule(PIPE, "etc_t", "file", "getattr open read"),
            ),
            error(
                "postfix_pipe_t may not read ROOT/keys/b.pem and 1 more (default_t)",
                *rule(PIPE, "default_t", "file", "getattr open read"),
            ),
        ],
    ),
}


def test_in_a_healthy_system_nothing_is_found(site: Site) -> None:
    assert site.findings() == []
    assert len(site.queries) > 20


@pytest.mark.parametrize("fault", FAULTS)
def test_of_a_fault_it_finds_this_and_nothing_else(fault: str, site: Site) -> None:
    change, expected = FAULTS[fault]
    change(site)
    assert site.findings() == expected


def as_warning(finding: Finding) -> Finding:
    """Return a finding as it is where nothing is enforced."""
    return finding._replace(what=finding.what.replace("SELinux:", "SELinux (permissive):"), level="warning")


@pytest.mark.parametrize("fault", FAULTS)
def test_where_nothing_is_enforced_it_warns_of_the_same(fault: str, site: Site) -> None:
    change, expected = FAULTS[fault]
    change(site)
    site.policy.enforce = "0"
    assert site.findings() == list(map(as_warning, expected))


def test_of_a_permissive_domain_it_warns(site: Site) -> None:
    faults = [
        FAULTS[name]
        for name in ("a key that was moved from a home", "sendmail(1) may not read temporary files")
    ]
    for change, _ in faults:
        change(site)
    site.policy.permissive = {PIPE}
    assert site.findings() == [as_warning(faults[0][1][0]), faults[1][1][0]]


def test_without_map_in_the_policy_it_is_not_missing(site: Site) -> None:
    site.policy = Policy(ALLOW.replace(" map", ""), BECOME, unknown=["map"])
    assert site.findings() == []


def test_a_type_that_the_policy_does_not_have_is_not_in_a_hint(site: Site) -> None:
    change, [expected] = FAULTS["modules in a place of which the policy knows nothing"]
    change(site)
    site.label("keys/dkimpipe/py.typed", "etc_t")
    site.policy.no_types.add("lib_t")
    hint = rule(PIPE, "default_t", "file", "getattr open read")
    assert site.findings() == [expected._replace(hint="\n".join(hint))]


# The verifier.


def test_the_verifier_reads_a_conf_file_of_its_own(site: Site) -> None:
    site.label("etc/dkimpipe/verify.conf", "user_home_t")
    site.keys = ()
    assert site.findings() == []
    shutil.rmtree(site.root / "selinux")
    assert site.findings(VERIFY) == [
        error(
            "postfix_pipe_t may not read ROOT/etc/dkimpipe/verify.conf (user_home_t)",
            "restorecon -v ROOT/etc/dkimpipe/verify.conf",
        )
    ]


def test_the_verifier_does_not_read_the_map(site: Site) -> None:
    site.label("etc/dkimpipe/senders", "user_home_t")
    site.keys = ()
    assert site.findings(VERIFY) == []


# The domain of master(8).


def test_the_domain_of_a_running_master_is_used(site: Site) -> None:
    site.write("var/spool/postfix/pid/master.pid", "            77\n")
    site.process(77, "master", "unconfined_t")
    assert {finding.what.split()[1] for finding in site.findings()} == {"unconfined_t"}


@pytest.mark.parametrize("name", ["another program", ""], ids=["another process", "no process"])
def test_a_stale_process_id_of_master_is_not_used(name: str, site: Site) -> None:
    site.write("var/spool/postfix/pid/master.pid", "            77\n")
    if name:
        site.process(77, name, "unconfined_t")
    assert site.findings() == []


# Where nothing can be asked.


@pytest.mark.parametrize("enforce", ["", "x"])
def test_without_selinux_nothing_is_found(enforce: str, site: Site) -> None:
    FAULTS["a key that was moved from a home"][0](site)
    site.policy.enforce = enforce
    assert site.findings() == []


def test_without_selinuxfs_nothing_is_found(site: Site) -> None:
    system = System(str(site.root / "none"))
    assert survey.findings(Postconf(site.root / "postfix"), SIGN, (), system) == []


@pytest.mark.parametrize("argv", ["/bin/cat", ""], ids=["another program", "no service"])
def test_without_a_filter_nothing_is_found(argv: str, site: Site) -> None:
    site.write("postfix/master.cf", f"dkimpipe unix - n n - 4 pipe user=nobody argv={argv}\n" if argv else "")
    assert site.findings() == []


def test_only_root_can_ask(site: Site) -> None:
    what = "SELinux: whether the filter may read its files was not checked: only root can"
    assert site.findings(effective_user=65534) == [Finding(what, "sudo dkimpipe check", "warning")]


def unchecked(why: str) -> Finding:
    """Return the warning that not everything could be asked."""
    return Finding(f"SELinux: not everything was checked: {why}", "", "warning")


GARBAGE = {
    "a short answer": ("access", "ff ffffffff 0", "'ff ffffffff 0'"),
    "words": ("access", "one two three four five six", "'one two three four five six'"),
    "one number more": ("access", "1 2 3 4 5 6 7", "'1 2 3 4 5 6 7'"),
    "half a context": ("create", "system_u:object_r", "'system_u:object_r'"),
    "a context with a control character": ("create", "u:r:t\x1b[2J:s0", r"'u:r:t\x1b[2J:s0'"),
    "an empty line": ("create", "\n", "''"),
}


@pytest.mark.parametrize("case", GARBAGE)
def test_an_answer_of_another_form_is_a_warning(case: str, site: Site) -> None:
    name, answer, shown = GARBAGE[case]
    site.garble = lambda file, right: answer if file == name else right
    assert site.findings() == [unchecked(f"ROOT/selinux/{name}: unexpected answer {shown}")]


def test_what_was_found_before_such_an_answer_is_kept(site: Site) -> None:
    """The domain of sendmail(1) is asked for last."""
    FAULTS["a key that was moved from a home"][0](site)
    site.garble = lambda _, right: "x" if "system_mail_t" in right else right
    assert site.findings() == [
        *FAULTS["a key that was moved from a home"][1],
        unchecked("ROOT/selinux/create: unexpected answer 'x'"),
    ]


# The verbs that ask.

FILTER = f"dkimpipe unix - n n - 4 pipe user=dkimpipe argv={sys.executable} -IS {MAIN}\n"
VERBS = {
    "check": ["check", "--sender_map=/srv/senders"],
    "check --postfix": ["check", "--postfix"],
    "postfix --check": ["postfix", "--check"],
    "setup": ["setup", "example.com"],
}


@pytest.mark.skipif(bool(throwaway.why_not()), reason="no copy of this machine")
@pytest.mark.parametrize("name", VERBS)
def test_this_verb_asks_where_there_is_selinux(name: str) -> None:
    """Here the kernel does not answer, and a warning says so."""
    verb, *arguments = VERBS[name]
    with Machine() as machine:
        machine.shell("rm -rf /etc/dkimpipe && mkdir -p /srv/postfix /sys/fs/selinux && touch /srv/senders")
        (machine.root / "srv/postfix/main.cf").write_text("compatibility_level = 3.6\n")
        (machine.root / "srv/postfix/master.cf").write_text(FILTER)
        machine.shell("touch -d @0 /srv/postfix/main.cf")
        command = [sys.executable, str(MAIN), verb, "-c", "/srv/postfix", *arguments]
        assert "SELinux" not in machine.run(*command).stdout
        (machine.root / "sys/fs/selinux/enforce").write_text("1")
        warnings = [line for line in machine.run(*command).stdout.splitlines() if "SELinux" in line]
    assert [line.partition("checked: ")[0] for line in warnings] == [
        "dkimpipe: warning: SELinux: not everything was "
    ]
