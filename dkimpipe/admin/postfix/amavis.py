"""amavisd as a content filter by SMTP that signs as well: its configuration turns that on, and has keys.

The configuration is Perl. It is read as far as it is usually written: what is computed there is not known.
"""

from __future__ import annotations

import glob
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.maps import configured
from dkimpipe.admin.postfix import filter_service, listener, sources
from dkimpipe.admin.postfix.filter_service import Job
from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.errors import Trouble

# As Debian has it, RHEL and others. Only the first that exists is read.
CONFIGURATIONS = (
    "/etc/amavis/conf.d/*",
    "/etc/amavisd/amavisd.conf",
    "/etc/amavisd.conf",
    "/usr/local/etc/amavisd.conf",
)
_PART = re.compile(r"[\w-]+|amavisd\.conf", re.ASCII)  # run-parts(8) ignores other names
_PORTS = re.compile(r":(10024|10026)$")
_COMMENT = re.compile(r"(^|[\s;,(){}])#.*", re.MULTILINE)
_SETTING = re.compile(r"(\$?)\benable_dkim_signing\s*=>?\s*([^\s,;}]+)")
_FALSE = ("0", "'0'", '"0"', "''", '""', "undef")
_KEY = re.compile(r"(?<![\w$@%])dkim_key\b\s*\(?\s*(['\"])([^'\"]+)\1\s*,\s*(['\"])([^'\"]+)\3\s*,")
_OFF = r"s/(enable_dkim_signing[[:space:]]*=>?[[:space:]]*)[^,;}#]+/\10/"


def findings(
    postconf: Postconf, job: Job, configurations: tuple[str, ...] = CONFIGURATIONS
) -> Iterator[Finding]:
    """Yield a warning of each place where mail that is signed here passes an amavisd that signs it, too."""
    parts = next(filter(None, map(_parts, configurations)), [])
    texts = {path: code(path.read_text(errors="replace")) for path in parts}
    keys = signing_keys("\n".join(texts.values()))
    both = [f"{domain} (s={selector})" for domain, selector in keys if _is_signed(postconf, job, domain)]
    if not both:
        return
    files = shlex.join(str(path) for path, text in texts.items() if _SETTING.search(text))
    restart = "amavis" if "conf.d" in files else "amavisd"
    for place in _places(postconf, job):
        what = f"{place}: amavisd signs mail from {', '.join(both)} as well, and rotate replaces no key there"
        yield Finding(what, f"sed -i -E '{_OFF}' {files} && systemctl restart {restart}", "warning")


def code(text: str) -> str:
    """Return Perl without comments."""
    return _COMMENT.sub(r"\1", text)


def signing_keys(text: str) -> list[tuple[str, str]]:
    """Return domain and selector of each key in a configuration without comments; none if it does not sign.

    The last assignment applies, and a policy bank may turn signing on for some of the mail.
    """
    found = _SETTING.findall(text)
    last = [value for sigil, value in found if sigil][-1:]
    banks = [value for sigil, value in found if not sigil]
    if all(value in _FALSE for value in (*last, *banks)):
        return []
    return [(domain.lower(), selector) for _, domain, _, selector in _KEY.findall(text)]


def _parts(pattern: str) -> list[Path]:
    """Return the files of a configuration, in the order in which they apply."""
    return [path for path in map(Path, sorted(glob.glob(pattern))) if _PART.fullmatch(path.name)]


def _is_signed(postconf: Postconf, job: Job, domain: str) -> bool:
    """Return whether an entry can sign mail from a domain."""
    service = filter_service.find(postconf, job)
    try:
        lines = configured.lines(filter_service.settings_of(service, job)) if service else []
    except Trouble:
        return False  # the test run reports it
    keys = [line.key.rpartition("@")[2].lower() for line in lines if not line.is_for_all]
    return any(line.is_for_all for line in lines) or any(f".{domain}".endswith(f".{key}") for key in keys)


def _places(postconf: Postconf, job: Job) -> Iterator[str]:
    """Yield the settings by which mail passes amavisd before it is signed here, or after that."""
    relay = listener.relay_of(postconf, job)
    back = listener.find(postconf, relay) if relay else postconf.services.get(sources.pickup(postconf))
    services = [*sources.before_another_filter(postconf, job), *([back] if back else [])]
    for service in services:
        for parameter in ("content_filter", "smtpd_proxy_filter"):
            content_filter = postconf.value(parameter, service.id)
            if _PORTS.search(content_filter) or "amavis" in content_filter.lower():
                yield f"{service.id}/{parameter}"
