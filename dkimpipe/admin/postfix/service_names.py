"""Settings and tables that name another service, such as transport_maps, and whether master.cf has it.

The program that looks for a service that is not there waits and tries again: mail stays where it is.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import cleanup_service, redirects, sources
from dkimpipe.admin.postfix.filter_service import Job
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.admin.postfix.syntax import real_table, split

_NAMING = re.compile(r".*_(service_name|transport)")
_CLEANUP = "cleanup_service_name"
_MAPS = (
    "fallback_transport_maps",
    "mailbox_transport_maps",
    "sender_dependent_default_transport_maps",
    "transport_maps",
)
_INDEXED = ("btree", "cdb", "hash", "lmdb")
_NOTHING = ("DUNNO", "")
# The services behind proxy: tables, by the parameter with the name, and the rest of the line.
_PROXIES = {
    "proxymap_service_name": "unix - - n - - proxymap",
    "proxywrite_service_name": "unix - - n - 1 proxymap",
}
_WRITTEN = re.compile(r"address_verify_map|.*_cache_(map|database)")  # by proxywrite(8)


def findings(postconf: Postconf, job: Job, made: Collection[str]) -> Iterator[Finding]:
    """Yield the settings that name a service which master.cf does not have.

    ``made``  services and settings that edits for this job make, which are reported as such
    """
    names = {each.name for each in postconf.services.values() if not each.id.endswith("/inet")}
    for place, settings in {"": postconf.explicit, **postconf.overrides}.items():
        for parameter in settings:
            if not (parameter in postconf.defaults and _NAMING.fullmatch(parameter)):
                continue
            name = postconf.own(parameter, place).partition(":")[0].strip()
            where = f"{place}/{parameter}".lstrip("/")
            made_here = {f"{name}/unix", where}
            if name and name not in names and made_here.isdisjoint(made):
                what = f"{where}: there is no service {name} in master.cf, and mail that needs it waits"
                yield Finding(what, _hint(postconf, job, place, parameter))
    yield from _in_tables(postconf, names)
    yield from _proxies(postconf, names)


def _in_tables(postconf: Postconf, names: Collection[str]) -> Iterator[Finding]:
    """Yield the services that tables of transports name, as far as these can be read."""
    for place in ("", *postconf.overrides):
        settings = postconf.overrides[place] if place else postconf.explicit
        for parameter in filter(settings.__contains__, _MAPS):
            for table in split(postconf.own(parameter, place), ","):
                yield from _in_table(postconf, f"{place}/{parameter}".lstrip("/"), table, names)


def _in_table(postconf: Postconf, where: str, table: str, names: Collection[str]) -> Iterator[Finding]:
    name = real_table(table)
    found = redirects.actions(name)
    if found is None and name.partition(":")[0] in _INDEXED and name not in postconf.broken_tables:
        found = postconf.dump(name)
    lacking: dict[str, list[str]] = {}
    for key, value in found or ():
        transport = value.partition(":")[0].strip()
        if transport not in (*names, *_NOTHING) and "$" not in transport:
            lacking.setdefault(transport, []).append(key)
    for transport, keys in lacking.items():
        what = f"{where}: {table}: there is no service {transport} in master.cf, and mail for {keys[0]} waits"
        close = difflib.get_close_matches(transport, names, 1)
        meant = f", if {close[0]} is meant" if close else ""
        hint = f"# add {transport} to master.cf, or correct the table{meant}"
        yield Finding(what, hint)


def _proxies(postconf: Postconf, names: Collection[str]) -> Iterator[Finding]:
    """Yield the services behind proxy: tables that master.cf lacks: programs that need them wait."""
    for service, columns in _PROXIES.items():
        is_written, name = service.startswith("proxywrite"), postconf.value(service)
        uses = [
            f"{place}/{parameter}".lstrip("/")
            for place, settings in {"": postconf.explicit, **postconf.overrides}.items()
            for parameter in settings
            if not parameter.startswith("proxy_")
            and bool(_WRITTEN.fullmatch(parameter)) is is_written
            and any(
                word.lstrip("!").startswith("proxy:") for word in split(postconf.own(parameter, place), ",")
            )
        ]
        if uses and name and name not in names:
            what = f"{name}/unix: there is no such service, and mail waits for the proxy: tables of"
            change = Change("-M", f"{name}/unix={name} {columns}", "")
            yield Finding(f"{what} {', '.join(uses)}", postconf.command(change))


def _hint(postconf: Postconf, job: Job, place: str, parameter: str) -> str:
    """Return the command that names a service which is there."""
    ours = f"{cleanup_service.NAME}/unix"
    is_signed = place in [each.id for each in sources.submission_services(postconf)]
    if is_signed and parameter == _CLEANUP and ours in postconf.services:
        return postconf.command(Change("-P", f"{place}/{parameter}={cleanup_service.NAME}", ""))
    where = f"{place}/{parameter}".lstrip("/")
    return postconf.command(Change("-PX" if place else "-X", where, ""))
