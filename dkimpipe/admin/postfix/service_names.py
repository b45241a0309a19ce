"""Settings that name another service, such as cleanup_service_name, and whether master.cf has it.

The program that looks for a service that is not there waits and tries again: mail stays where it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import cleanup_service, sources
from dkimpipe.admin.postfix.filter_service import Job
from dkimpipe.admin.postfix.postconf import Change, Postconf

_NAMING = re.compile(r".*_(service_name|transport)")
_CLEANUP = "cleanup_service_name"


def findings(postconf: Postconf, job: Job, created: Collection[str]) -> Iterator[Finding]:
    """Yield the settings that name a service which master.cf does not have.

    ``created``  services that edits for this job create, which are reported as such
    """
    names = {each.name for each in postconf.services.values() if not each.id.endswith("/inet")}
    for place, settings in {"": postconf.explicit, **postconf.overrides}.items():
        for parameter in settings:
            if not (parameter in postconf.defaults and _NAMING.fullmatch(parameter)):
                continue
            name = postconf.own(parameter, place).partition(":")[0].strip()
            if name and name not in names and f"{name}/unix" not in created:
                where = f"{place}/{parameter}".lstrip("/")
                what = f"{where}: there is no service {name} in master.cf, and mail that needs it waits"
                yield Finding(what, _hint(postconf, job, place, parameter))


def _hint(postconf: Postconf, job: Job, place: str, parameter: str) -> str:
    """Return the command that names a service which is there."""
    ours = f"{cleanup_service.NAME}/unix"
    is_signed = place in [each.id for each in sources.submission_services(postconf)]
    if is_signed and parameter == _CLEANUP and ours in postconf.services:
        return postconf.command(Change("-P", f"{place}/{parameter}={cleanup_service.NAME}", ""))
    where = f"{place}/{parameter}".lstrip("/")
    return postconf.command(Change("-PX" if place else "-X", where, ""))
