"""``dkimpipe check``: check files and keys, Postfix, and the records in DNS; report every problem."""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from dkimpipe import relay
from dkimpipe.admin import newkey
from dkimpipe.admin.dns.server_option import FORM, server
from dkimpipe.admin.findings import NOTE, Finding, print_findings
from dkimpipe.admin.maps import exposure, inventory, permissions
from dkimpipe.admin.postfix import doctor, filter_service, filter_user, selftest
from dkimpipe.admin.postfix.filter_service import JOBS, SIGN, VERIFY
from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.admin.postfix.service import Service
from dkimpipe.admin.selinux import survey
from dkimpipe.admin.verbs import filter_files, postfix
from dkimpipe.config import VERIFY_CONF_FILE, Settings, read_settings
from dkimpipe.errors import ConfigError, Trouble
from dkimpipe.files import exists

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dkimpipe.admin.maps.lint import Lint
    from dkimpipe.admin.maps.outcomes import Use
    from dkimpipe.verify.nameserver import Server


PARTS = FILES, POSTFIX, DNS = ("files", "postfix", "dns")
TIME_LIMIT = 60  # seconds for all queries of a check of everything, which is run from cron(8)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    postfix.add_instance(parser, user="")
    help_texts = {
        FILES: "check only the conf file, the maps and the keys",
        POSTFIX: "check only Postfix, and what would defer its mail",
        DNS: "check only the files and the records in DNS",
    }
    for part, text in help_texts.items():
        parser.add_argument(f"--{part}", action="store_true", help=text)
    text = "query only this name server, not all of the domain's"
    parser.add_argument("--server", type=server, metavar=FORM, help=text)
    parser.add_argument("--json", action="store_true", help="print a JSON list of what, hint and level")
    filter_files.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Print the findings; return 0, or 78 if there are errors."""
    from dkimpipe.admin.maps.lint import Lint

    named = filter_files.arguments(options)
    parts, is_everything = _parts(options, bool(named))
    postconf, findings = _postconf(options.directory, is_required=parts == [POSTFIX])
    service = filter_service.find(postconf) if postconf else None
    lint = Lint(named or (doctor.options(service) if service else []))
    user = (service and service.attribute("user")) or options.user
    successes = []
    if FILES in parts or DNS in parts:
        findings += _files(lint, user, postconf)
        signatures = "1 signature is" if lint.good == 1 else f"{lint.good} signatures are"
        successes.append(f"{', '.join(lint.named)} and {signatures} good")
    if POSTFIX in parts:
        left_out = _left_out(postconf) if is_everything else ""
        if postconf and not left_out:
            findings += _of_postfix(postconf, options.user, is_alone=parts == [POSTFIX])
            if parts == [POSTFIX] and service:
                findings += _deferring(lint, postconf, service, findings)
            successes.append(postfix.SUCCESS)
        elif not findings or postconf:
            findings.append(Finding(f"Postfix was not checked: {left_out}", level=NOTE))
    if DNS in parts:
        findings += _dns(lint.uses, options.server, TIME_LIMIT if is_everything else None)
    elif FILES in parts:
        successes.append("DNS was not checked")
    if not named and parts != [POSTFIX]:
        findings += _waiting(lint.settings, options.server, DNS in parts)
    return print_findings(list(dict.fromkeys(findings)), "; ".join(successes), options.json)


def _parts(options: argparse.Namespace, has_named_files: bool) -> tuple[list[str], bool]:
    """Return the parts to be checked, and whether these are all, as far as each is possible.

    Files that are named may not be in use: without other options, they alone are checked.
    """
    chosen = [part for part in PARTS if getattr(options, part)]
    if options.server and DNS not in chosen:
        chosen.append(DNS)
    if chosen or has_named_files:
        return chosen or [FILES], False
    return list(PARTS), True


def _files(lint: Lint, user: str, postconf: Postconf | None) -> list[Finding]:
    """Return the problems with the files, and with who may read and write them."""
    files = {**dict.fromkeys(lint.files), **lint.keyfiles}
    read = inventory.files(lint.settings, lint.keyfiles)
    findings = [*lint.findings, *exposure.exposed(read, user or SIGN.name, lint.keyfiles)]
    service = filter_service.find(postconf) if postconf else None
    if faults := filter_user.missing(service) if service else []:
        findings += faults
    elif user or filter_user.exists(SIGN.name):
        findings += permissions.unreadable(files, user or SIGN.name)
    findings += [*selftest.refusals(lint.uses), *_verifier(postconf)]
    if postconf:
        findings += survey.findings(postconf, SIGN, files)
    return findings


def _left_out(postconf: Postconf | None) -> str:
    """Return why a check of everything leaves Postfix out; empty if it does not."""
    if not postconf:
        return "postconf(1) is not installed" if not shutil.which("postconf") else "there is no main.cf"
    places = ("", *postconf.services)
    transports = [postconf.own("content_filter", place).partition(":")[0] for place in places]
    ours = [filter_service.name(postconf, job) for job in JOBS]
    if any(filter_service.find(postconf, job) for job in JOBS) or not set(ours).isdisjoint(transports):
        return ""
    return f"{postconf.directory / 'master.cf'} does not run dkimpipe"


def _of_postfix(postconf: Postconf, user: str, is_alone: bool) -> list[Finding]:
    """Return the problems with Postfix.

    One that prevents the check is a finding, too, or raises ConfigError if nothing else is checked.
    """
    try:
        return postfix.findings(postconf, user)
    except ConfigError as error:
        if is_alone:
            raise
        return [Finding(str(error), error.hint)]


def _deferring(lint: Lint, postconf: Postconf, service: Service, known: list[Finding]) -> Iterator[Finding]:
    """Yield the errors in the files, which defer mail, unless the filter or its user is wrong anyhow."""
    has_failed = any(each.what.startswith(("as user ", "user ")) for each in known)
    user = service.attribute("user") or ""
    if has_failed or not user or any(filter_user.findings(postconf, SIGN)):
        return
    if not filter_service.command(service):
        return
    yield from (each for each in lint.findings if each.level == "error")
    files = {**dict.fromkeys(lint.files), **lint.keyfiles}
    yield from permissions.unreadable(files, user)


def _postconf(directory: str | None, is_required: bool) -> tuple[Postconf | None, list[Finding]]:
    """Return Postfix's configuration; None if there is none, and None with a warning if it is broken.

    Raises ConfigError instead if it is required.
    """
    if is_required:
        return Postconf(directory), []
    if not shutil.which("postconf"):
        return None, []
    try:
        return Postconf(directory), []
    except ConfigError as error:
        if "main.cf: No such file" in str(error):
            return None, []
        return None, [Finding(f"{error}: the filter's default files are checked", error.hint, "warning")]


def _verifier(postconf: Postconf | None) -> Iterator[Finding]:
    """Yield what stops ``dkimpipe verify`` in its conf file, if there is one, and the command line."""
    service = filter_service.find(postconf, VERIFY) if postconf else None
    if not service and not exists(VERIFY_CONF_FILE):
        return
    from dkimpipe.verify.settings import VerifySettings

    try:
        settings = VerifySettings()
        read_settings(filter_service.own_options(service, VERIFY) if service else [], settings)
        settings.resolver()
        if settings.authserv_id and settings.get("relay"):
            relay.address(settings.get("relay"), settings.places["relay"])
    except Trouble as error:
        yield Finding(str(error), error.hint)


def _waiting(settings: Settings, only: Server | None, with_dns: bool) -> Iterator[Finding]:
    """Yield the keys that wait for their records, and whether they wait in vain."""
    from dkimpipe.admin.verbs import held_back

    for number, each in enumerate(held_back.waiting(settings, Path(newkey.DIRECTORY))):
        if with_dns and not number:
            from dkimpipe.admin.dns.lookup import obstacle

            with_dns = bool(only) or not obstacle(each.domain)
        yield each.finding(each.published([only] if only else ()) if with_dns else [])


def _dns(uses: list[Use], only: Server | None, limit: float | None) -> Iterator[Finding]:
    """Compare each key with its record, once for each name, and check the DMARC record of each author domain.

    With a limit, in seconds, the names that are left are not looked up, and nothing is if there is no DNS.
    """
    from dkimpipe import publickey
    from dkimpipe.admin.dns import dmarc, mangled
    from dkimpipe.admin.dns.compare import Need, need_of
    from dkimpipe.admin.dns.lookup import NameServers, obstacle
    from dkimpipe.verify.resolver import Resolver

    needs: dict[str, list[Need]] = {}
    for use in uses:
        needs.setdefault(use.name, []).append(need_of(use, publickey.record_value(use.options.keyfile)))
    begin = time.monotonic()
    if limit and needs and (cause := obstacle(next(iter(needs)))):
        yield Finding(f"DNS was not checked: {cause}", level="warning")
        return
    servers = NameServers([only] if only else ())
    found: dict[str, list[Finding]] = {}
    left = 0
    for number, (name, each) in enumerate(needs.items()):
        if limit and time.monotonic() - begin > limit:
            left = len(needs) - number
            break
        found[name] = list(servers.findings(name, each))
    keys = {name: [each.value.rpartition("p=")[2].encode() for each in needs[name]] for name in found}
    ours = {key for each in keys.values() for key in each}
    shown = {
        key: (what, owner)
        for text, owner in servers.texts.items()
        for key, what in mangled.exposures([text], ours)
    }
    for name, findings in found.items():
        what, owner = next((shown[key] for key in keys[name] if key in shown), ("", ""))
        if what and not any(mangled.is_exposed(each.what) for each in findings):  # p= of another name
            findings = [mangled.elsewhere(what, owner, name)]
        yield from findings
    if left:
        what = f"{left} of {len(needs)} records were not checked within {limit} s"
        yield Finding(what, "dkimpipe check --dns", "warning")
        return
    resolver = Resolver(only)
    for domain in dict.fromkeys(map(dmarc.author_domain, uses)):
        yield from dmarc.findings(domain, resolver)
