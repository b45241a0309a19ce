"""The sending user and client, as pipe(8) passes them to the filter and entries with login= require them."""

from __future__ import annotations

from dkimpipe.admin.maps import entries
from dkimpipe.config import ANY, Settings, read_settings
from dkimpipe.errors import ConfigError, Trouble

TOLD = "--login=${sasl_username}"
CLIENT = "--client=${client_address}"


def fault(arguments: list[str]) -> str:
    """Return the problem with the login and client options in argv, or nothing.

    No login is required if neither an entry nor --client= uses it; a literal login is accepted.
    """
    try:
        settings = read_settings(arguments)
        told = settings.get("login")
        if told and "$" in told.replace("${sasl_username}", ""):
            return f"argv takes the login from {told}, which the sender can choose"
        client = settings.get("client")
        if "$" in client.replace("${client_address}", ""):
            return f"argv takes the client address from {client}, which the sender can choose"
        if not told and client and not _signs_for_any(settings):
            return "argv passes the client address and no login: mail to be signed is deferred"
        if not told:
            place = _asked_for(settings)
            return (
                f"argv does not pass the login, and {place} has login=: its mail is deferred" if place else ""
            )
    except Trouble:
        pass  # the trial reports it
    return ""


def lacks_client(arguments: list[str]) -> bool:
    """Return whether these options lack the client address although the filter would use it."""
    try:
        settings = read_settings(arguments)
    except Trouble:
        return False
    return "client" not in settings.values and not _signs_for_any(settings)


def is_locked(arguments: list[str]) -> bool:
    """Return whether the filter, by the client address that Postfix passes, leaves mail unsigned."""
    try:
        settings = read_settings(arguments)
    except Trouble:
        return False
    return settings.get("client") == "${client_address}" and not _signs_for_any(settings)


def _signs_for_any(settings: Settings) -> bool:
    return ANY in settings.sign_clients


def _asked_for(settings: Settings) -> str:
    """Return the place of the first entry with login=, empty if there is none."""
    for line in entries.lines(settings):
        try:
            if "login" in line.text and any("login" in each.options for each in line.signatures()):
                return line.place()
        except ConfigError:  # `check` reports it
            continue
    return ""
