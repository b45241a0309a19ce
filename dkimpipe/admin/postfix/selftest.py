"""A test run of the filter as pipe(8) would run it, to find unreadable files beforehand."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from typing import Any

from dkimpipe.admin.findings import Finding
from dkimpipe.admin.postfix import filter_service
from dkimpipe.admin.postfix.postconf import Service

NOBODY = "dkimpipe-check@invalid"  # RFC 2606; only an entry for all senders matches it


def trial(service: Service, author: str = NOBODY, report: str = "") -> list[Finding]:
    """Run the filter with a message from this author; return a finding unless it reports ``report``."""
    name, _, group_name = (service.attribute("user") or "").partition(":")
    command = filter_service.command(service)
    if not command:
        return []  # another program, which the doctor reports
    try:
        user = pwd.getpwnam(name)
        group = grp.getgrnam(group_name).gr_gid if group_name else user.pw_gid
        identity: dict[str, Any] = {"user": user.pw_uid, "group": group, "extra_groups": []}
        completed = subprocess.run(  # noqa: S603 - what pipe(8) runs
            [*command, "-f", author],
            input=f"From: {author}\n\n".encode(),
            capture_output=True,
            check=False,
            cwd="/",
            env={"PATH": "/usr/bin:/bin"},
            **(identity if os.geteuid() == 0 else {}),
        )
    except KeyError:
        return []  # the doctor reports it
    except OSError as error:
        return [Finding(f"user {name} cannot run {command[0]}: {error.strerror}")]
    output = completed.stderr.decode(errors="backslashreplace").strip()
    if completed.returncode or not output.startswith(f"dkimpipe: {report}"):
        cause, _, hint = output.replace("\nhint: ", "\n").partition("\n")
        who = name if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        return [
            Finding(
                f"as user {who}: {cause or f'exit status {completed.returncode}, no error message'}", hint
            )
        ]
    return []
