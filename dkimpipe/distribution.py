"""The packages that hints name: each family of distributions has its own names, and its own command."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")  # os-release(5)
_FAMILIES = {
    "debian": "debian",
    "ubuntu": "debian",
    "rhel": "rhel",
    "centos": "rhel",
    "fedora": "rhel",
    "amzn": "rhel",
    "suse": "suse",
    "opensuse": "suse",
    "sles": "suse",
    "arch": "arch",
    "alpine": "alpine",
}
_COMMANDS = {
    "debian": "apt install",
    "rhel": "dnf install",
    "suse": "zypper install",
    "arch": "pacman -S",
    "alpine": "apk add",
}
# Program or library: its package in each family. Where a family is missing, there is no package.
_PACKAGES = {
    "certbot": dict.fromkeys(_COMMANDS, "certbot"),
    "dig": {
        "debian": "bind9-dnsutils",
        "rhel": "bind-utils",
        "suse": "bind-utils",
        "arch": "bind",
        "alpine": "bind-tools",
    },
    "dovecot": {**dict.fromkeys(_COMMANDS, "dovecot"), "debian": "dovecot-imapd"},
    "libcrypto": {
        "debian": "openssl",  # the library's own package is named differently in each release
        "rhel": "openssl-libs",
        "suse": "libopenssl3",
        "arch": "openssl",
        "alpine": "libcrypto3",
    },
    "lzip": dict.fromkeys(_COMMANDS, "lzip"),
    "postfix": dict.fromkeys(_COMMANDS, "postfix"),
    **{
        f"postfix-{kind}": dict.fromkeys(("debian", "rhel", "alpine"), f"postfix-{kind}")
        for kind in ("cdb", "ldap", "lmdb", "mysql", "pcre", "pgsql", "sqlite")
    },
    "restorecon": dict.fromkeys(("debian", "rhel", "suse"), "policycoreutils"),
    "semanage": dict.fromkeys(("debian", "rhel", "suse"), "policycoreutils-python-utils"),
    "semodule": dict.fromkeys(("debian", "rhel", "suse"), "policycoreutils"),
    "useradd": {
        "debian": "passwd",
        "rhel": "shadow-utils",
        "suse": "shadow",
        "arch": "shadow",
        "alpine": "shadow",
    },
    **{name: dict.fromkeys(_COMMANDS, name) for name in ("brotli", "lz4", "lzop", "zstd")},
}


_EPEL = ("certbot", "lzip")  # of these, RHEL and its rebuilds have the packages in Fedora's EPEL
_ADD_EPEL = "dnf install https://dl.fedoraproject.org/pub/epel/epel-release-latest-$(rpm -E %rhel).noarch.rpm"


def install_command(what: str, os_release: "Iterable[str]" = _OS_RELEASE) -> str:
    """Return the command that installs a program or library here; ``install WHAT`` if it is not known."""
    names = _names(os_release)
    family = next((_FAMILIES[name] for name in names if name in _FAMILIES), "")
    package = _PACKAGES.get(what, {}).get(family)
    if not package:
        return f"install {what}"
    is_in_epel = what in _EPEL and family == "rhel" and names[0] not in ("fedora", "amzn")
    return f"{_ADD_EPEL} && " * is_in_epel + f"{_COMMANDS[family]} {package}"


def _names(os_release: "Iterable[str]") -> "list[str]":
    """Return the names of this distribution and of those it is like, by the first of these files there is."""
    fields = {}
    for path in os_release:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                fields = {
                    name: value.strip("\"'")
                    for name, _, value in (line.strip().partition("=") for line in file)
                }
        except OSError:
            continue
        break
    return f"{fields.get('ID', '')} {fields.get('ID_LIKE', '')}".replace("-", " ").split()
