"""Whether rspamd signs: the switch of its module dkim_signing, and the line that turns it off.

As in rspamd_config_is_module_enabled (cfg_utils.cxx), only the first block of the module, and the first value
in it, are looked at; what override.d says outranks local.d.
"""

from __future__ import annotations

from dkimpipe.admin.rspamd import ucl
from dkimpipe.admin.rspamd.conf import Conf, objects, text_of
from dkimpipe.files import Place

MODULE = "dkim_signing"
OFF = "'enabled = false;'"
_FILE = f"override.d/{MODULE}.conf"
# With a priority like that of override.d a setting is not outranked there.
_HIGHEST = 10
_YES, _NO = ("1", "y", "yes", "on", "true"), ("0", "n", "no", "off", "false")  # rspamd_config_parse_flag
_NO_SWITCH = f"set {OFF} in {_FILE} of rspamd, above other lines with enabled, and reload it"


def off(conf: Conf) -> Place | None:
    """Return the place of the setting that switches signing off; None if it is on."""
    if _explicit(conf):
        return None
    settings = _settings(conf)
    enabled, disabled = (settings[name][0] if name in settings else None for name in ("enabled", "disabled"))
    if enabled and (enabled.value is False or _is_other_word(enabled, _YES)):
        return enabled.place
    if enabled and enabled.value is True:
        return None
    return disabled.place if disabled and (disabled.value is True or _is_other_word(disabled, _NO)) else None


def to_switch_off(conf: Conf | None) -> str:
    """Return, in words, how rspamd stops signing; ``conf`` is None if its files are elsewhere."""
    if not conf:
        return _NO_SWITCH
    if place := _explicit(conf):
        return f"take {MODULE} out of explicit_modules in {place}, then {_change(conf)}"
    return _change(conf)


def _change(conf: Conf) -> str:
    node = next(iter(_settings(conf).get("enabled", [])), None)
    if node and node.priority >= _HIGHEST:
        return f"change it to {OFF} in {node.place}, and reload rspamd"
    block = next(iter(conf.top.get(MODULE, [])), None)
    if block and block.priority >= _HIGHEST:
        return f"write {OFF} into its block {MODULE} in {block.place}, and reload rspamd"
    return f"write {OFF} into {conf.directory / _FILE}, and reload rspamd"


def _explicit(conf: Conf) -> Place | None:
    """Return the place of the list of modules that are loaded in any case, if this one is in it."""
    setting = conf.section("options").get("explicit_modules")
    nodes = setting.value if setting and isinstance(setting.value, ucl.Array) else []
    words = [text_of(node.value) for node in nodes] or [setting.text if setting else ""]
    return setting.place if setting and MODULE in words else None


def _settings(conf: Conf) -> ucl.Object:
    return next(objects(conf.top.get(MODULE, [])), ucl.Object())


def _is_other_word(node: ucl.Node, words: tuple[str, ...]) -> bool:
    return isinstance(node.value, str) and node.value.lower() not in words
