"""Other content filters that pipe(8) runs, by command line or script: how their mail comes back.

Mail that comes back by sendmail(1) cannot be told from local mail, and cannot pass a second filter. Such a
filter signs if it runs dkimpipe in place of sendmail(1).
"""

from __future__ import annotations

import grp
import pwd
import re
import shlex
from pathlib import Path

from dkimpipe.admin.postfix import client_options, filter_service
from dkimpipe.admin.postfix.filter_service import ENVELOPE, JOBS, SIGN
from dkimpipe.admin.postfix.postconf import Change, Postconf, Service

# Options with which the filter only passes mail on: it comes from a client that may not have it signed.
UNSIGNED = ("--sign_clients=authenticated", "--login=", "--client=0.0.0.0")
_SCRIPT_SIZE = 1 << 20  # octets
_DKIMPIPE = re.compile(r"(^|[\s/\"'=])dkimpipe(/__main__\.py)?[\s\"';&|)](?!\s*verify)", re.MULTILINE)
_SENDMAIL = re.compile(r"(?:/[\w.-]+)*/sendmail(?:\.postfix)?((?:[ \t]+-(?:oi|[Gi]))*)")


def calls_sendmail(pipe: Service) -> bool:
    """Return whether mail comes back from another filter by sendmail(1), also where it runs dkimpipe."""
    if any(filter_service.program(pipe, job) for job in JOBS):
        return False
    words = [word for word in pipe.argv if not word.startswith(("--sendmail", "$"))]
    texts = [*words, *map(_script, words)]
    if any("--relay" in text for text in texts):
        return False
    return any("sendmail" in text for text in texts) or signs(pipe)


def signs(pipe: Service | None) -> bool:
    """Return whether another filter signs its mail: it runs dkimpipe, and not only to pass mail on."""
    if not pipe or pipe.command != "pipe" or any(filter_service.program(pipe, job) for job in JOBS):
        return False
    text = "\n".join([" ".join(pipe.argv), *map(_script, pipe.argv)])
    return bool(_DKIMPIPE.search(text)) and UNSIGNED[-1] not in text


def to_sign(postconf: Postconf, pipe: Service) -> str:
    """Return the commands with which another filter signs its mail; empty if it is not known how."""
    words = pipe.command_line
    command = filter_service.installed_command(SIGN)
    script = next((word for word in words if _SENDMAIL.search(_script(word))), "")
    at = next((at for at, word in enumerate(words) if _SENDMAIL.fullmatch(word)), None)
    hint = ""
    if at is not None:
        words = [*words[:at], *command, client_options.LOGIN, client_options.CLIENT]
    elif script:
        found = _SENDMAIL.search(_script(script))
        hint = f"sed -i 's|{found[0] if found else ''}|{' '.join(command)}|' {shlex.quote(script)} && "
        words = [word for word in words if word not in ("-f", "--", "${sender}", "${recipient}")]
    else:
        return ""
    user = (pipe.attribute("user") or "").partition(":")[0]
    attributes = [each for each in pipe.attributes if not each.startswith(("user=", "null_sender="))]
    options = postconf.overrides.get(pipe.id, {}).items()
    arguments = [
        *(f"-o {{{name}={value}}}" for name, value in options),
        *(attributes if any(each.startswith("flags=") for each in attributes) else ["flags=q", *attributes]),
        "null_sender=",
        f"user={user}:{_group(postconf)}",  # the group can read the keys
        f"argv={' '.join(words)}",
        ENVELOPE,
    ]
    new = pipe._replace(arguments=" ".join(arguments))
    return hint + postconf.command(Change("-M", f"{new.id}={new.line}", ""))


def _group(postconf: Postconf) -> str:
    """Return the group of the filter, which can read the keys."""
    service = filter_service.find(postconf)
    user, _, group = ((service and service.attribute("user")) or SIGN.name).partition(":")
    try:
        return group or grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name
    except KeyError:
        return user


def _script(path: str) -> str:
    """Return the text of a script; nothing for any other file."""
    try:
        octets = Path(path).read_bytes()[:_SCRIPT_SIZE] if path.startswith("/") else b""
    except OSError:
        return ""
    return octets.decode(errors="replace") if octets.startswith(b"#!") else ""
