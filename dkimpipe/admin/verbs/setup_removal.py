"""The steps that undo ``dkimpipe setup``, for some domains or altogether. Keys and edited lines are kept."""

from __future__ import annotations

import os
import pwd
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from dkimpipe.admin import atomic, invocation
from dkimpipe.admin.maps import configured
from dkimpipe.admin.postfix import apply, backup, filter_service, filter_user
from dkimpipe.admin.postfix.filter_service import SIGN
from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.admin.rotation import state
from dkimpipe.admin.verbs.setup_entries import (
    DIRECTORY,
    HEADER,
    KEYS,
    entry,
    has_entries,
    is_ours,
    keys_of,
    own_line,
)
from dkimpipe.admin.verbs.setup_steps import LINK, USER_COMMENT
from dkimpipe.admin.verbs.steps import Step, by_command
from dkimpipe.config import Settings
from dkimpipe.errors import ConfigError

_AFTER_REMOVAL = "if the queue still holds mail for the filter: postsuper -r ALL deferred"
_LAST_REMOVED = """\
# this was the last entry: Postfix still passes mail to the filter, which signs none of it
# to take the filter out of Postfix: dkimpipe setup --remove"""


def removal(
    postconf: Postconf, user: str, domains: list[str], path: Path, settings: Settings
) -> Iterator[Step]:
    """Yield the steps that undo the setup of these domains, or all of it. Keys and edited lines are kept."""
    if not domains and backup.backups(postconf.directory, SIGN):
        command = f"{invocation.by_path()} postfix -c {shlex.quote(str(postconf.directory))} --revert"
        is_running = postconf.is_running
        yield Step(
            "restore the configuration of Postfix",
            f"{command} --reload" if is_running else command,
            lambda: apply.revert(postconf, with_reload=is_running),
        )
    if path.exists():
        yield from _entry_removal_steps(postconf, path, domains)
    elif domains:
        print(f"# there is no {path}")
    if domains:
        yield from _set_aside_steps(domains, path, settings)
        return
    for left in (*sorted(KEYS.glob("*.pem")), KEYS / state.NAME, KEYS, DIRECTORY):
        if left.is_dir() and not list(left.iterdir()):
            yield by_command("remove the empty directory", ["rmdir", str(left)])
        elif left.exists():
            print(f"# {left} is kept")
            if left.stat().st_gid:
                yield by_command("make it readable for root only", ["chown", "root:root", str(left)])
    if LINK.is_symlink() and Path(os.path.realpath(LINK)) == invocation.script():
        yield by_command("remove the command from PATH", ["rm", str(LINK)])
    if filter_user.exists(user):
        if pwd.getpwnam(user).pw_gecos == USER_COMMENT:
            yield by_command("remove the user", ["userdel", user])
        else:
            print(f"# user {user} was not created by setup, and is kept")
    print(f"# leave the records in DNS for some weeks: messages in transit need them\n# {_AFTER_REMOVAL}")


def _entry_removal_steps(postconf: Postconf, path: Path, domains: list[str]) -> Iterator[Step]:
    lines = path.read_text(errors="surrogateescape").splitlines(keepends=True)
    ours = [line for line in lines if is_ours(line, domains)]
    left = [line for line in lines if line not in ours]
    for domain in domains:
        if entry(domain, path) and not any(line.split(" ")[0] == domain for line in ours):
            print(f"# the entry of {domain} was not written by setup: remove it from {path} by hand")
    for line in ours:
        print(f"# remove: {line.strip()}")
    is_bare = "".join(left) in ("", HEADER)
    if is_bare and not domains:
        yield by_command("remove the senders file, which setup created", ["rm", str(path)])
        return
    if ours:
        octets = "".join(left or [HEADER]).encode(errors="surrogateescape")
        command = ["sed", "-i", *(f"-e /^{re.escape(line.split(' ')[0])} /d" for line in ours), str(path)]
        why = "keep the file: without it, the filter defers all mail" if is_bare else "keep the other lines"
        shown = shlex.join(command) if left else f"echo '{HEADER.strip()}' > {path}"
        yield Step(why, shown, lambda: atomic.write_like(path, octets, path))
        if domains and filter_service.find(postconf) and not has_entries(path, left):
            print(_LAST_REMOVED)
    if not domains and path.stat().st_gid:
        yield by_command("make it readable for root only", ["chown", "root:root", str(path)])


def _set_aside_steps(domains: list[str], path: Path, settings: Settings) -> Iterator[Step]:
    """Yield the steps that keep the keys of these domains from the filter, unless other entries use them."""
    for domain in domains:
        for key in keys_of(domain):
            if _stays_in_use(key, domains, path, settings):
                continue
            print(f"# {key} is kept")
            if key.stat().st_gid:
                yield by_command("make it readable for root only", ["chown", "root:root", str(key)])


def _stays_in_use(key: Path, domains: list[str], path: Path, settings: Settings) -> bool:
    """Return whether an entry that is not removed with these domains may use a key; True if unsure."""
    try:
        lines = configured.lines(settings)
    except ConfigError:
        return True
    ours = [own_line(domain, path).decode(errors="surrogateescape") for domain in domains]
    texts = [line.text for line in lines if f"{line.key}  {line.text}" not in map(str.strip, ours)]
    return settings.get("keyfile") == str(key) or any(str(key) in text or "$" in text for text in texts)
