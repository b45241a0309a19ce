"""Who sends, as entries with login= ask and as pipe(8) tells the filter."""

from __future__ import annotations

from dkimpipe.admin import mapfile
from dkimpipe.config import Settings, read_settings
from dkimpipe.errors import ConfigError, Trouble

TOLD = "--login=${sasl_username}"


def fault(arguments: list[str]) -> str:
    """Return what is wrong with options of the filter, as they stand in argv: that it is told no login.

    Nothing is wrong if no entry asks for one, and with a login that stands there by name.
    """
    try:
        settings = read_settings(arguments)
        told = settings.get("login")
        if told and "$" in told.replace("${sasl_username}", ""):
            return f"argv takes the login from {told}, which whoever sends can choose"
        if not told:
            place = _asked_for(settings)
            return f"argv tells no login, and login= stands in {place}: its mail is deferred" if place else ""
    except Trouble:
        pass  # the trial names it
    return ""


def _asked_for(settings: Settings) -> str:
    """Return the place of the first entry with login=, empty if there is none."""
    for line in mapfile.lines(settings):
        try:
            if "login" in line.text and any("login" in each.options for each in line.signatures()):
                return line.place()
        except ConfigError:  # which `check` names
            continue
    return ""
