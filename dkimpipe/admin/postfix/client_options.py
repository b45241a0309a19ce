"""The options by which pipe(8) passes the login and the client address to the filter."""

from __future__ import annotations

from dkimpipe.admin.maps import configured
from dkimpipe.config import ANY, Settings, read_settings
from dkimpipe.errors import ConfigError, Trouble
from dkimpipe.files import Place

LOGIN = "--login=${sasl_username}"
CLIENT = "--client=${client_address}"


def fault(arguments: list[str]) -> str:
    """Return the problem with the --login and --client options in argv; empty if there is none.

    The login may be missing if neither an entry nor --client needs it; a literal login is accepted.
    """
    try:
        settings = read_settings(arguments)
        login = settings.get("login")
        if login and "$" in login.replace("${sasl_username}", ""):
            return f"argv takes the login from {login}, which the sender can choose"
        client = settings.get("client")
        if "$" in client.replace("${client_address}", ""):
            return f"argv takes the client address from {client}, which the sender can choose"
        if not login and client and not _signs_for_any(settings):
            return "argv passes the client address and no login: mail to be signed is deferred"
        if not login:
            place = first_login_entry(settings)
            return (
                f"argv does not pass the login, and {place} has login=: its mail is deferred" if place else ""
            )
    except Trouble:
        pass  # the test run reports it
    return ""


def needs_client(arguments: list[str]) -> bool:
    """Return whether these options lack the client address, and the filter would use it."""
    try:
        settings = read_settings(arguments)
    except Trouble:
        return False
    return "client" not in settings.values and not _signs_for_any(settings)


def requires_known_client(arguments: list[str]) -> bool:
    """Return whether the filter signs only for known clients, by the address that Postfix passes."""
    try:
        settings = read_settings(arguments)
    except Trouble:
        return False
    return settings.get("client") == "${client_address}" and not _signs_for_any(settings)


def _signs_for_any(settings: Settings) -> bool:
    return ANY in settings.sign_clients


def first_login_entry(settings: Settings) -> Place | None:
    """Return the place of the first entry with login=, if there is any."""
    for line in configured.lines(settings):
        try:
            if "login" in line.text and any("login" in each.options for each in line.signatures()):
                return line.place
        except ConfigError:  # `check` reports it
            continue
    return None
