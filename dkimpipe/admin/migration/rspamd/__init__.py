"""rspamd: the settings of its modules dkim_signing, dkim and arc, expressed in dkimpipe's files.

The reference is rspamd's own code: lua_dkim_tools.lua, dkim_signing.lua and dkim_check.c. Its settings for
certain users (``settings.conf``), Lua files and what a control panel adds at run time are not read.
"""

from __future__ import annotations

import os
from pathlib import Path

from dkimpipe.admin.migration.foreign import CHANGED, LOST, SAME, Foreign, Remark, Rule
from dkimpipe.admin.migration.rspamd import clients, domains, others, tables
from dkimpipe.admin.migration.rspamd.headers import headers
from dkimpipe.admin.rspamd import signing
from dkimpipe.admin.rspamd.conf import Conf
from dkimpipe.files import Place, exists, read_file

DEFAULT_PATH = Path("/etc/rspamd")
_SYMBOL = "DKIM_SIGNED"
_STAYS = (
    "rspamd also filters spam, and verifies: keep it in smtpd_milters ({}); once dkimpipe signs, {}, or mail"
    " has both signatures"
)


def default_path() -> Path:
    """Return where the configuration usually is."""
    return DEFAULT_PATH


def read(path: Path) -> Foreign:
    """Return what the configuration in a directory signs. Raises ConfigError."""
    conf, foreign = Conf(path), Foreign()
    settings = conf.section(signing.MODULE)
    if off := signing.off(conf):
        foreign.remarks.append(Remark(off, SAME, "enabled: rspamd signs nothing"))
        return foreign
    by_tables = tables.are_used(settings)
    others.remark(conf, foreign, by_tables)
    _remark_arc(conf, foreign)
    _remark_user_settings(conf, foreign)
    if not any(
        name in settings and settings[name].yes for name in ("use_redis", "use_vault", "sign_condition")
    ):
        (tables if by_tables else domains).add_rules(conf, foreign)
    clients.read(conf, foreign)
    _add_options(conf, foreign)
    foreign.milters, foreign.stays = _sockets(conf), True
    where = ", ".join(foreign.milters) or "see its value"
    foreign.remark(conf.place, CHANGED, f"milter: {_STAYS.format(where, signing.to_switch_off(conf))}")
    return foreign


def _add_options(conf: Conf, foreign: Foreign) -> None:
    """Add what rspamd does with all signatures."""
    foreign.directives["dkim_method"] = "relaxed/relaxed", conf.place
    names = headers(conf, foreign)
    if names:
        foreign.rules = [
            Rule(
                rule.place,
                rule.key,
                tuple(each._replace(options=(("h", names),)) for each in rule.signatures),
            )
            for rule in foreign.rules
        ]
    text = "errors: a key that cannot be read leaves mail unsigned today; here it is deferred (see on_error)"
    foreign.remarks.append(Remark(conf.place, CHANGED, text))


def _remark_arc(conf: Conf, foreign: Foreign) -> None:
    arc = conf.section("arc")
    own = [setting for setting in arc.values() if not conf.is_own(setting.place)]
    if own and arc.get("enabled", own[0]).yes:
        text = "arc: dkimpipe adds no ARC seals; leave arc.conf to rspamd, which can go on with them"
        foreign.remarks.append(Remark(own[0].place, LOST, text))


def _remark_user_settings(conf: Conf, foreign: Foreign) -> None:
    """Remark settings for certain users that switch signing on or off."""
    for directory in ("local.d", "override.d"):
        path = conf.directory / directory / "settings.conf"
        octets = read_file(os.path.realpath(path), "file") if exists(str(path)) else b""
        lines = octets.decode("utf-8", "surrogateescape").split("\n")
        for number, line in enumerate(lines, 1):
            if _SYMBOL in line.partition("#")[0]:
                text = f"settings: {_SYMBOL} for certain mail only: not read; entries and sign_clients choose"
                foreign.remarks.append(Remark(Place(str(path), number), LOST, text))


def _sockets(conf: Conf) -> list[str]:
    """Return where Postfix finds rspamd, as in smtpd_milters."""
    sockets = []
    for proxy in conf.proxies():
        milter, bind = proxy.get("milter"), proxy.get("bind_socket")
        if bind and (not milter or milter.yes):
            word = bind.text.split(" ")[0].replace("*:", "localhost:")
            sockets.append(f"unix:{word}" if word.startswith("/") else f"inet:{word}")
    return sockets
