"""Packages by their names in each distribution: os-release(5) as it is there, and what hints make of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dkimpipe.distribution import install_command

DEBIAN = "apt install bind9-dnsutils", "apt install openssl"
RHEL = "dnf install bind-utils", "dnf install openssl-libs"
SUSE = "zypper install bind-utils", "zypper install libopenssl3"
UNKNOWN = "install dig", "install libcrypto"
SYSTEMS = {
    "Debian": ("ID=debian", DEBIAN),
    "Ubuntu": ("ID=ubuntu\nID_LIKE=debian", DEBIAN),
    "Linux Mint": ('ID=linuxmint\nID_LIKE="ubuntu debian"', DEBIAN),
    "RHEL": ('ID="rhel"\nID_LIKE="fedora"', RHEL),
    "RHEL 10": ('ID="rhel"\nID_LIKE="centos fedora"', RHEL),
    "CentOS Stream": ('ID="centos"\nID_LIKE="rhel fedora"', RHEL),
    "AlmaLinux": ('ID="almalinux"\nID_LIKE="rhel centos fedora"', RHEL),
    "Rocky Linux": ('ID="rocky"\nID_LIKE="rhel centos fedora"', RHEL),
    "Oracle Linux": ('ID="ol"\nID_LIKE="fedora"', RHEL),
    "Fedora": ("ID=fedora", RHEL),
    "Amazon Linux 2023": ('ID="amzn"\nID_LIKE="fedora"', RHEL),
    "openSUSE Leap": ('ID="opensuse-leap"\nID_LIKE="suse opensuse"', SUSE),
    "openSUSE Tumbleweed": ('ID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"', SUSE),
    "SLES": ('ID="sles"\nID_LIKE="suse"', SUSE),
    "Arch": ("ID=arch", ("pacman -S bind", "pacman -S openssl")),
    "Manjaro": ("ID=manjaro\nID_LIKE=arch", ("pacman -S bind", "pacman -S openssl")),
    "Alpine": ("ID=alpine", ("apk add bind-tools", "apk add libcrypto3")),
    "single quotes": ("ID='rocky'\nID_LIKE='rhel fedora'", RHEL),
    "other fields and comments": ("# ID=debian\n\nVARIANT_ID=ubuntu\nID=fedora\nPLATFORM_ID=x", RHEL),
    "unknown": ("ID=slackware", UNKNOWN),
    "empty": ("", UNKNOWN),
    "not text": ("\udcff=\udcfe", UNKNOWN),
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_command_of_each_distribution(tmp_path: Path, system: str) -> None:
    text, commands = SYSTEMS[system]
    file = tmp_path / "os-release"
    file.write_bytes(f"NAME={system}\n{text}\n".encode("utf-8", "surrogateescape"))
    assert (install_command("dig", [str(file)]), install_command("libcrypto", [str(file)])) == commands


ADD_EPEL = (
    "dnf install https://dl.fedoraproject.org/pub/epel/epel-release-latest-$(rpm -E %rhel).noarch.rpm && "
)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("ID=debian", "apt install certbot"),
        ("ID=fedora", "dnf install certbot"),
        ('ID="almalinux"\nID_LIKE="rhel centos fedora"', f"{ADD_EPEL}dnf install certbot"),
        ('ID="ol"\nID_LIKE="fedora"', f"{ADD_EPEL}dnf install certbot"),
    ],
    ids=["Debian", "Fedora", "AlmaLinux", "Oracle Linux"],
)
def test_where_the_package_is_in_epel_that_is_added_first(tmp_path: Path, text: str, command: str) -> None:
    file = tmp_path / "os-release"
    file.write_text(text)
    assert install_command("certbot", [str(file)]) == command


def test_the_first_file_that_exists_is_read(tmp_path: Path) -> None:
    missing, vendor, other = (tmp_path / name for name in ("missing", "vendor", "other"))
    vendor.write_text("ID=fedora\n")
    other.write_text("ID=debian\n")
    assert install_command("dig", map(str, (missing, vendor, other))) == "dnf install bind-utils"


def test_without_any_file_the_program_is_named(tmp_path: Path) -> None:
    assert install_command("zstd", [str(tmp_path / "missing")]) == "install zstd"


def test_a_family_without_the_package(tmp_path: Path) -> None:
    (tmp_path / "os-release").write_text("ID=alpine\n")
    assert install_command("semanage", [str(tmp_path / "os-release")]) == "install semanage"
