"""Fresh Debian systems to copy: made once by debootstrap, with the packages of a mail server."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

MIRROR = "http://deb.debian.org/debian"
# The same for all releases, also for those that this machine's debootstrap does not know by name.
SCRIPT = "/usr/share/debootstrap/scripts/sid"
AUTHORITIES = "etc/ssl/certs/ca-certificates.crt"
# What the reader of README.md has at the beginning.
BEFORE = "postfix dovecot-imapd ca-certificates openssl"
# The rest of the server, the receiver, and the clients.
WHOLE = (
    f"{BEFORE} dovecot-lmtpd dovecot-sieve bind9 bind9-dnsutils opendkim roundcube-core roundcube-sqlite3"
    " php-cli cron bsd-mailx mlmmj logwatch swaks libio-socket-ssl-perl procps chromium chromium-driver"
    " python3-selenium fonts-dejavu-core"
)
_INSTALL = """\
set -e
export DEBIAN_FRONTEND=noninteractive
printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
echo mail.example.com >/etc/mailname
debconf-set-selections <<'ANSWERS'
postfix postfix/main_mailer_type select Internet Site
postfix postfix/mailname string mail.example.com
roundcube-core roundcube/dbconfig-install boolean true
roundcube-core roundcube/database-type select sqlite3
ANSWERS
apt-get update --quiet=2
apt-get install --quiet=2 --yes --no-install-recommends {}
"""


def made(directory: Path, release: str, packages: str) -> Path:
    """Return the root of a system of this release with these packages; make it if it is not there."""
    root = directory / f"{release}-{'whole' if packages == WHOLE else 'before'}"
    done = root / "var/made"
    if not done.exists():
        shutil.rmtree(root, ignore_errors=True)
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / "log").open("ab") as log:
            command = ["debootstrap", "--variant=minbase", release, str(root), MIRROR, SCRIPT]
            subprocess.run(command, stdout=log, check=True)
            # pip trusts what this machine trusts: it may reach the package index through a proxy.
            (root / AUTHORITIES).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(f"/{AUTHORITIES}", root / AUTHORITIES)
            shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
            (root / "var/install").write_text(_INSTALL.format(packages))
            # A mount namespace of its own, so that nothing stays mounted if this is killed.
            script = 'mount -t proc none "$0/proc" && exec chroot "$0" sh /var/install'
            words = ["unshare", "--mount", "sh", "-c", script, str(root)]
            subprocess.run(words, stdout=log, stderr=log, check=True)
        shutil.copy(f"/{AUTHORITIES}", root / AUTHORITIES)
        done.touch()
    return root
