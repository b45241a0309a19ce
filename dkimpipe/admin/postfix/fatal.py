"""Fatal errors: settings with which no program of Postfix starts.

postconf(1) prints most of them without complaint. All other programs check them first, postmap(1) included.
"""

from __future__ import annotations

import os

from dkimpipe.admin.postfix import remedies
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.admin.postfix.syntax import parameters
from dkimpipe.errors import ConfigError

_DIRECTORIES = (
    "queue_directory",
    "daemon_directory",
    "command_directory",
    "meta_directory",
)


def refuse(postconf: Postconf) -> None:
    """Raise ConfigError with Postfix's own message if its programs do not start with this main.cf."""
    message = postconf.failure_of("postmap", "-q", "x", "static:x")
    if message:
        known = {name: postconf.effective[name] for name in postconf.explicit if name in postconf.effective}
        default = parameters(postconf.run("-d", *known)) if known else {}
        # A message may name two, as of users and groups that must differ: the one with its default is right.
        known = dict(sorted(known.items(), key=lambda each: default.get(each[0]) == each[1]))
        hint = remedies.for_fatal_error(postconf.directory, message, known)
        raise ConfigError(f"no program of Postfix starts: {message}", hint)
    for parameter in _DIRECTORIES:
        path = postconf.value(parameter)
        if path and not os.path.isdir(path):
            hint = "reinstall Postfix: it has lost a directory"
            if parameter in postconf.explicit:
                hint = postconf.command(Change("-X", parameter, ""))
            what = f"Postfix does not start: {parameter} = {path}: there is no such directory"
            raise ConfigError(what, hint)
