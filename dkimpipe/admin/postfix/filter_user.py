"""Check the user that pipe(8) runs a filter as. A user that verifies must not be able to read the keys."""

from __future__ import annotations

import grp
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import filter_service
from dkimpipe.admin.postfix.filter_service import SIGN, VERIFY, Job
from dkimpipe.admin.postfix.postconf import Postconf, identity
from dkimpipe.admin.postfix.service import Service
from dkimpipe.errors import ConfigError

CONF_FILE = Path("/etc/dkimpipe/verify.conf")  # of the filter that verifies
_READS_KEYS = "this user can read the keys, and verification needs none: use a separate user"


def findings(postconf: Postconf, job: Job) -> Iterator[Finding]:
    """Yield the problems with the user that a service runs as."""
    service = filter_service.find(postconf, job)
    if not service:
        return
    name, _, group = (service.attribute("user") or "").partition(":")
    if not name:  # service_line.py reports it
        return
    if faults := missing(service):
        yield from faults
        return
    owner, user = pwd.getpwnam(postconf.value("mail_owner")), pwd.getpwnam(name)
    number = grp.getgrnam(group).gr_gid if group else user.pw_gid
    maildrop = grp.getgrnam(postconf.value("setgid_group")).gr_gid
    if user.pw_uid in (0, owner.pw_uid) or number in (0, owner.pw_gid, maildrop):
        yield Finding(f"{service.id}: {_refusal(service.attribute('user') or '')}")
    elif job is VERIFY and _reads_keys(postconf, name, group):
        hint = f"{_useradd(VERIFY.name)}\nand user={VERIFY.name} in master.cf"
        yield Finding(f"{service.id}: {_READS_KEYS}", hint)
    elif job is VERIFY and not _may_search(CONF_FILE.parent, user.pw_uid, number):
        what = (
            f"{CONF_FILE.parent}: user {name} cannot look for {CONF_FILE.name} there: its mail stays queued"
        )
        yield Finding(what, f"chmod 0755 {CONF_FILE.parent}")


def missing(service: Service) -> list[Finding]:
    """Return a finding if the user of a service, or its group, does not exist."""
    name, _, group = (service.attribute("user") or "").partition(":")
    if name and not exists(name):
        return [Finding(f"{service.id}: there is no user {name}", _useradd(name))]
    try:
        grp.getgrnam(group or "root")
    except KeyError:
        return [Finding(f"{service.id}: there is no group {group}", f"groupadd --system {group}")]
    return []


def may_enter(directory: Path, user: str) -> bool:
    """Return whether ``USER`` or ``USER:GROUP`` can change to a directory; True if there is no such user.

    The kernel is asked, as it also knows ACLs, if this is root; otherwise for the user who runs this.
    """
    try:
        settings = identity(user)
    except KeyError:
        return True
    command = ["/bin/sh", "-c", 'cd -- "$1"', "sh", str(directory)]
    done = subprocess.run(command, capture_output=True, check=False, **settings)  # noqa: S603 - fixed command
    return done.returncode == 0


def _may_search(directory: Path, user: int, group: int) -> bool:
    """Return whether a user and group may search a directory; True if it does not exist."""
    return _permits(directory, user, group, 1)


def _permits(path: Path, user: int, group: int, bit: int) -> bool:
    """Return whether a place grants a user or group this bit of its mode; True if it does not exist."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return True
    place = 6 if status.st_uid == user else 3 if status.st_gid == group else 0
    return bool(status.st_mode & bit << place)


def unreadable_configuration(postconf: Postconf, name: str) -> Iterator[Finding]:
    """Yield a finding if sendmail(1), which the filter's user runs, cannot read main.cf."""
    path = postconf.directory / "main.cf"
    if not exists(name):
        return
    user = pwd.getpwnam(name)
    places = ((path.parent, 1, "0755"), (path, 4, "0644"))
    for place, bit, mode in places:
        if not _permits(place, user.pw_uid, user.pw_gid, bit):
            what = f"{place}: user {name} cannot read it, so sendmail(1) fails and the mail stays queued"
            yield Finding(what, f"chmod {mode} {place}")


def exists(name: str) -> bool:
    """Return whether this user exists."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _useradd(name: str) -> str:
    return f"useradd --system --no-create-home --shell /usr/sbin/nologin {name}"


def _reads_keys(postconf: Postconf, user: str, group: str) -> bool:
    """Return whether a user or its group is that of the filter that signs."""
    service = filter_service.find(postconf)
    signer, _, signers = ((service and service.attribute("user")) or SIGN.name).partition(":")
    return user == signer or _group(user, group) == _group(signer, signers)


def _group(user: str, group: str) -> str:
    """Return the group that pipe(8) runs a program with for this user."""
    try:
        return group or grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name
    except KeyError:
        return user


def refuse_key_reader(postconf: Postconf, user: str) -> None:
    """Raise ConfigError if the user of the service that verifies does not exist or can read the keys."""
    service = filter_service.find(postconf, VERIFY)
    name, _, group = ((service and service.attribute("user")) or user).partition(":")
    if _reads_keys(postconf, name, group):
        raise ConfigError(f"user={name}: {_READS_KEYS}", _useradd(VERIFY.name))
    try:
        pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(f"there is no user {name}", _useradd(name)) from None


def refuse_user(postconf: Postconf, user: str, group: str) -> None:
    """Raise ConfigError if pipe(8) refuses to run as this user."""
    owner = postconf.value("mail_owner")
    if user in ("root", owner) or group in ("root", postconf.value("setgid_group"), owner):
        raise ConfigError(_refusal(f"{user}:{group}" if group != user else user))


def _refusal(user: str) -> str:
    return f"pipe(8) refuses user={user}: use a separate user"
