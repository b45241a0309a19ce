"""Keys of maps that nothing can match, and what was probably meant."""

from __future__ import annotations

from dkimpipe import choose
from dkimpipe.address import domain_in, first_mailbox, is_domain, spellings
from dkimpipe.admin.maps.entries import BY_LIST, Line, canonical, lower
from dkimpipe.errors import ConfigError, NotSigned


def fault(line: Line) -> ConfigError | None:
    """Return why nothing can match the key of an entry; None if something can."""
    key = canonical(line.key)
    domain = key.rpartition(b"@")[2]
    meant = domain_in(domain)
    if b"_domainkey" in key and meant != domain:
        hint = f"{meant.decode()} matches the domain of the record" if meant else ""
        return ConfigError(f"{line.place}: {line.key} is the name of a record, not a domain", hint)
    if key == b"." or (b"@" not in key and is_domain(key) and lower(line.key) in spellings(key)):
        return None
    if b"@" in key and line.by == BY_LIST:
        return ConfigError(f"{line.place}: no List-Id matches {line.key}, which is an address")
    if b"@" in key and _is_looked_up(line):
        return None
    return ConfigError(f"{line.place}: no address matches {line.key}", _key_meant(key))


def _is_looked_up(line: Line) -> bool:
    """Return whether the filter looks for a key, as written, when it reads an address that the key is for."""
    local_part, _, domain = canonical(line.key).rpartition(b"@")
    if local_part == b"*":
        local_part = b"x"
        domain = b"x" + domain[1:] if domain.startswith(b"*.") else domain
    try:
        mailbox = first_mailbox(local_part + b"@" + domain)
    except NotSigned:
        return False
    return b"*" not in local_part and lower(line.key) in choose.lookup_keys(mailbox)


def _key_meant(key: bytes) -> str:
    """Return what to write in place of a key that matches nothing, as a hint."""
    if b"\0" in key:
        return "save the file as UTF-8, not as UTF-16"
    if not key.strip(b"*@."):
        return ". matches every sender"
    local_part, at, domain = key.rpartition(b"@")
    name = domain.strip(b".*")
    if not is_domain(name):
        return "" if name else "an address matches only itself; . matches every sender"
    meant = name.decode()
    below = domain.startswith((b".", b"*"))
    if local_part.strip(b"*"):
        what = f"*@*.{meant} every address in subdomains" if below else f"*@{meant} every address in it"
        return f"an address matches only itself, {what}"
    if below:
        return f"*@*.{meant} matches its subdomains alone; {meant} matches the whole domain"
    if at:
        return f"*@{meant} matches this domain alone; {meant} matches its subdomains, too"
    return f"{meant} matches the whole domain"
