"""``dkimpipe check``: check the conf file, the maps and the keys, and report every problem."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator

from dkimpipe import relay
from dkimpipe.admin.dns.server_option import FORM, server
from dkimpipe.admin.findings import Finding, print_findings
from dkimpipe.admin.maps import exposure, permissions
from dkimpipe.admin.postfix import doctor, filter_service, filter_user
from dkimpipe.admin.postfix.filter_service import SIGN, VERIFY
from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.admin.selinux import survey
from dkimpipe.admin.verbs import filter_files, postfix
from dkimpipe.config import VERIFY_CONF_FILE, read_settings
from dkimpipe.errors import ConfigError, Trouble
from dkimpipe.files import exists

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dkimpipe.admin.maps.entries import Use
    from dkimpipe.verify.nameserver import Server


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    postfix.add_instance(parser, user="")
    parser.add_argument("--postfix", action="store_true", help="check only Postfix's configuration")
    parser.add_argument("--dns", action="store_true", help="also check the key records in DNS")
    text = "query only this name server, not all of the domain's"
    parser.add_argument("--server", type=server, metavar=FORM, help=text)
    parser.add_argument("--json", action="store_true", help="print a JSON list of what, hint and level")
    filter_files.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Print the findings; return 0, or 78 if there are errors."""
    if options.postfix:
        return postfix.check(Postconf(options.directory), options.user, options.json)
    from dkimpipe.admin.maps.lint import Lint

    named = filter_files.arguments(options)
    postconf, findings = _postconf(options.directory)
    service = filter_service.find(postconf) if postconf else None
    lint = Lint(named or (doctor.options(service) if service else []))
    files = {**dict.fromkeys(lint.files), **lint.keyfiles}
    user = (service and service.attribute("user")) or options.user
    read = exposure.files(lint.settings, lint.keyfiles)
    findings += [*lint.findings, *exposure.exposed(read, user or SIGN.name, lint.keyfiles)]
    if user or filter_user.exists(SIGN.name):
        findings += permissions.unreadable(files, user or SIGN.name)
    findings += _verifier(postconf)
    if postconf:
        findings += survey.findings(postconf, SIGN, files)
    if options.dns:
        findings += _dns(lint.uses, options.server)
    signatures = "1 signature is" if lint.good == 1 else f"{lint.good} signatures are"
    return print_findings(findings, f"{', '.join(lint.named)} and {signatures} good", options.json)


def _postconf(directory: str | None) -> tuple[Postconf | None, list[Finding]]:
    """Return Postfix's configuration; None if there is none, and None with a warning if it is broken."""
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


def _dns(uses: list[Use], only: Server | None) -> Iterator[Finding]:
    """Compare each key with its record, once for each name."""
    from dkimpipe import publickey
    from dkimpipe.admin.dns.compare import Need, need_of
    from dkimpipe.admin.dns.lookup import NameServers

    needs: dict[str, list[Need]] = {}
    for use in uses:
        needs.setdefault(use.name, []).append(need_of(use, publickey.record_value(use.options.keyfile)))
    servers = NameServers([only] if only else ())
    for name, each in needs.items():
        yield from servers.findings(name, each)
