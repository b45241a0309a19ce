"""The domain of mail that this host itself writes: Postfix's notices, and mail from root and cron(8)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from dkimpipe.admin.findings import NOTE, Finding
from dkimpipe.admin.maps import configured
from dkimpipe.admin.maps.outcomes import Use, outcomes
from dkimpipe.admin.postfix import filter_service, kinds, planning, selftest
from dkimpipe.admin.postfix.filter_service import SIGN
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.config import SENDER_MAP, Settings
from dkimpipe.errors import ConfigError, Trouble
from dkimpipe.senders import PERMISSIONS

_AUTHORS = {kinds.BOUNCES: "MAILER-DAEMON", kinds.LOCAL: "root"}
_NO_ENTRY = "not signed: no entry for "


def findings(postconf: Postconf) -> Iterator[Finding]:
    """Yield a note if mail of a kind that is signed leaves unsigned, because its author has no entry."""
    signed = [kind for kind in planning.kinds_in_use(postconf) if kind in _AUTHORS]
    domain = domain_of(postconf)
    left = [kind for kind in signed if not is_signed(postconf, f"{_AUTHORS[kind]}@{domain}")]
    if left:
        authors = " and ".join(f"{_AUTHORS[kind]}@{domain}" for kind in left)
        what = f"not signed: {' and '.join(left)}: no entry for {authors} (myorigin)"
        yield Finding(what, "\nor: ".join(_choices(postconf, domain)), NOTE)


def domain_of(postconf: Postconf) -> str:
    """Return the domain that Postfix appends to an address without one, from the file that myorigin names."""
    name = postconf.value("myorigin")
    if name.startswith("/"):
        with contextlib.suppress(OSError):
            name = next(iter(Path(name).read_text(errors="replace").split()), "")
    return name or postconf.value("myhostname")


def author(postconf: Postconf) -> str:
    """Return an author of this host whose mail is signed: root, or one in the first domain that has a key."""
    usual = f"root@{domain_of(postconf)}"
    if is_signed(postconf, usual) or not (domain := _first_domain(postconf)):
        return usual
    return f"root@{domain}"


def is_signed(postconf: Postconf, address: str) -> bool:
    """Return whether the filter has an entry for mail of this author; True if it cannot be asked."""
    service = filter_service.find(postconf)
    found = selftest.trial(service, address, "signed ") if service else []
    return not any(_NO_ENTRY in each.what for each in found)


def _choices(postconf: Postconf, domain: str) -> Iterator[str]:
    from dkimpipe.admin import newkey

    with contextlib.suppress(ConfigError):
        yield f"dkimpipe setup {newkey.to_domain(domain)}"
    if other := _first_domain(postconf):
        edit = postconf.command(Change("-e", f"myorigin={other}", ""))
        yield f"{edit} && {postconf.program_command('reload')}"
        path = _settings(postconf).get("sender_map", SENDER_MAP)
        yield f"an entry for {domain} with d={other} in {path}"


def _settings(postconf: Postconf) -> Settings:
    service = filter_service.find(postconf)
    if not service:
        raise ConfigError("there is no filter service")
    return filter_service.settings_of(service, SIGN)


def _first_domain(postconf: Postconf) -> str:
    """Return the first domain that is signed for every login and client; empty if there is none."""
    from dkimpipe.admin import newkey

    try:
        settings = _settings(postconf)
        for each in outcomes(configured.lines_by_domain(settings), settings):
            limited = each.signature is None or not each.signature.options.keys().isdisjoint(PERMISSIONS)
            if isinstance(each.use, Use) and not limited and os.path.exists(each.use.options.keyfile):
                key = each.line.only[0].decode() if each.line.only else each.line.key
                with contextlib.suppress(ConfigError):
                    return newkey.to_domain(key)
    except (Trouble, OSError, ValueError):
        pass  # check reports it
    return ""
