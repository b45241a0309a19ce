"""All other settings of the dkim_signing module, by what becomes of them."""

from __future__ import annotations

from dkimpipe.admin.migration.foreign import CHANGED, LOST, SAME, Foreign, Remark
from dkimpipe.admin.rspamd.conf import Conf, Setting, has_template
from dkimpipe.errors import shown

# Read elsewhere: each has its own remarks.
_READ = """
    auth_only disabled domain enabled key_table path path_map selector selector_map
    sign_authenticated sign_headers sign_local sign_networks signing_table try_fallback use_domain
    use_esld
"""
# Setting, value today if it is not set, and what changes if that is the value.
_RESTRICTIONS = (
    ("allow_envfrom_empty", True, "mail with the null sender is unsigned today; here it is signed"),
    (
        "allow_hdrfrom_multiple",
        False,
        "mail with two addresses in From is unsigned today; here the first decides",
    ),
)
_MISMATCHES = (
    (
        "allow_hdrfrom_mismatch",
        False,
        "mail whose envelope sender is in another domain than From is unsigned today; here it is signed,"
        " unless envelope= in the entry forbids it",
    ),
    (
        "allow_username_mismatch",
        False,
        "mail of a user whose login is in another domain is unsigned today; here it is signed, unless login="
        " in the entry, or reject_sender_login_mismatch of Postfix, forbids it",
    ),
)
_LOST = {
    "allowed_ids": "rspamd's settings do not choose what is signed; entries do",
    "forbidden_ids": "rspamd's settings do not choose what is signed; entries do",
    "sign_condition": "Lua code does not choose the signature; use entries, with login= and envelope=",
    "use_domain_custom": "Lua code does not choose the domain; write d= in the entries",
    "use_http_headers": "headers of an HTTP request do not choose the signature; write an entry",
    "use_domain_sign_inbound": "mail from outside is never signed; leave that to rspamd, as ARC",
    "sign_inbound": "mail from outside is never signed; leave that to rspamd, as ARC",
    "vault_domains": "keys in a vault are not read",
}
_REDIS = "keys in Redis are not read; save each with 'redis-cli HGET {} SELECTOR.DOMAIN >FILE', and set path"
_VAULT = "keys in a vault are not read; save each into a file, and set path"
_SAME = {
    "allow_headers_fallback": "there are no headers of HTTP requests",
    "allow_hdrfrom_mismatch_local": "there is no such restriction here",
    "allow_hdrfrom_mismatch_sign_networks": "there is no such restriction here",
    "use_milter_headers": "how rspamd adds the field plays no part",
    "symbol": "a symbol of rspamd",
    "score": "a symbol of rspamd",
    "priority": "a symbol of rspamd",
    "group": "a symbol of rspamd",
    "groups": "a symbol of rspamd",
}
_CHANGED = {
    "check_violation": "mail with an invalid signature from elsewhere is signed, too",
    "skip_spam_sign": "mail that rspamd passes on is signed, whatever its score",
}
_FOR_REDIS = """
    db dbname expand_keys hash_key key_prefix password prefix read_servers redis selector_prefix
    server servers sentinels sentinel_master_maxerrors sentinel_masters sentinel_password
    sentinel_username sentinel_watch_time timeout username version write_servers
"""
_FOR_VAULT = """
    http_timeout no_ssl_verify vault_kv_version vault_path vault_token vault_url
"""
_FOR_HTTP = """
    http_domain_header http_key_header http_selector_header http_sign_header
    http_sign_on_reject_header_header
"""
_BY_KIND = ("use_domain_sign_local", "use_domain_sign_networks")
_UNKNOWN = "unknown to dkimpipe"


def remark(conf: Conf, foreign: Foreign, by_tables: bool) -> None:
    """Add a remark for each setting that is not read elsewhere, and for restrictions that are the default."""
    signing = conf.section("dkim_signing")
    for name, default, text in (*_RESTRICTIONS, *_MISMATCHES):
        setting = signing.get(name)
        place = setting.place if setting else conf.place
        if by_tables and (name, default, text) in _MISMATCHES:
            text, effect = "without effect beside signing_table", SAME
        elif setting.yes if setting else default:
            text, effect = "there is no such restriction here", SAME
        else:
            effect = CHANGED
        if effect == CHANGED or (setting and not conf.is_own(place)):
            foreign.remarks.append(Remark(place, effect, f"{name}: {text}"))
    restrictions = {name for name, *_ in (*_RESTRICTIONS, *_MISMATCHES)}
    for name, setting in signing.items():
        if has_template(setting):
            text = f"{name}: a template is not evaluated; write what 'rspamadm configdump dkim_signing' shows"
            foreign.remarks.append(Remark(setting.place, LOST, text))
        elif name not in _READ.split() and name not in restrictions:
            effect, text = _effect(setting, signing)
            if effect != SAME or not conf.is_own(setting.place):
                foreign.remarks.append(Remark(setting.place, effect, f"{shown(name)}: {text}"))


def _effect(setting: Setting, signing: dict[str, Setting]) -> tuple[str, str]:
    """Return what becomes of a setting, and why."""
    name = setting.name
    if name in _LOST or name in _CHANGED:
        why = _LOST.get(name) or _CHANGED[name]
        return (LOST if name in _LOST else CHANGED, why) if setting.yes else (SAME, "it is off")
    if name in ("use_redis", "use_vault"):
        if not setting.yes:
            return SAME, "it is off"
        prefix = signing["key_prefix"].text if "key_prefix" in signing else "dkim_keys"
        return LOST, _VAULT if name == "use_vault" else _REDIS.format(shown(prefix))
    if name in _BY_KIND:
        everywhere = signing["use_domain"].text if "use_domain" in signing else "header"
        if not setting.yes or setting.text == everywhere:
            return SAME, "as use_domain"
        return (
            LOST,
            f"the client does not choose d=; use_domain ({shown(everywhere)}) applies to all mail",
        )
    if name in ("check_pubkey", "allow_pubkey_mismatch"):
        mismatch = signing.get("allow_pubkey_mismatch")
        if "check_pubkey" in signing and signing["check_pubkey"].yes and mismatch and not mismatch.yes:
            return CHANGED, "mail is signed even if the record is not right: dkimpipe check --dns compares it"
        return SAME, "dkimpipe check --dns compares keys and records"
    for names, why in (
        (_FOR_REDIS, "for keys in Redis"),
        (_FOR_VAULT, "for a vault"),
        (_FOR_HTTP, "for HTTP"),
    ):
        if name in names.split():
            return SAME, why
    return (SAME, _SAME[name]) if name in _SAME else (LOST, _UNKNOWN)
