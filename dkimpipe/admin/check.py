"""``dkimpipe check``: what is wrong, all of it in one run."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from dkimpipe.admin import doctor, filter_service, postfix
from dkimpipe.admin.findings import Finding, tell
from dkimpipe.admin.postconf import Postconf
from dkimpipe.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dkimpipe.admin.lint import Lint


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    postfix.add_instance(parser)
    parser.add_argument("--postfix", action="store_true", help="look at Postfix's configuration only")
    parser.add_argument("--dns", action="store_true", help="look at the records of the keys in DNS, too")
    parser.add_argument(
        "--server", metavar="IP[#PORT]", help="ask this name server only, not all of a domain's"
    )
    parser.add_argument("--json", action="store_true", help="for machines: a list of what, mend and level")
    parser.add_argument("--conf_file", metavar="FILE", help="as the filter's")
    parser.add_argument("--sender_map", metavar="FILE", help="as the filter's")


def run(options: argparse.Namespace) -> int:
    """Print what is wrong; return 0, or 78 with errors."""
    if options.postfix:
        return postfix.check(Postconf(options.directory), options.user, options.json)
    from dkimpipe.admin.lint import Lint, exposed, unreadable  # needs cryptography

    named = [
        f"--{name}={getattr(options, name)}" for name in ("conf_file", "sender_map") if getattr(options, name)
    ]
    try:
        postconf = Postconf(options.directory)
    except ConfigError:
        postconf = None
    service = filter_service.find(postconf) if postconf else None
    lint = Lint(named or (doctor.options(service) if service else []))
    user = ((service and service.attribute("user")) or options.user).partition(":")[0]
    findings: list[Finding] = [*lint.findings, *exposed(lint.files), *unreadable(lint.files, user)]
    if options.dns:
        findings += _dns(lint, options.server)
    return tell(
        findings, f"{', '.join(lint.files)} and {len(lint.signatures)} signatures are good", options.json
    )


def _dns(lint: Lint, server: str | None) -> Iterator[Finding]:
    """Compare each key with its record."""
    from dkimpipe.admin import published, record

    for owner, keyfile in {
        record.name(each.selector.decode(), each.domain.decode()): each.keyfile for each in lint.signatures
    }.items():
        servers = [published.server(server)] if server else published.servers_of(owner)
        yield from published.findings(owner, record.value(keyfile), servers)
