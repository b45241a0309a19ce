"""Other content filters that pipe(8) runs, by command line or script: how their mail comes back.

Mail that comes back by sendmail(1) cannot be told from local mail, and cannot pass a second filter. Such a
filter signs if it runs dkimpipe-sendmail in place of sendmail(1): one path for the other. That is printed as
a command only for a script that is sure to work with it, and in words for all others.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from dkimpipe.admin import invocation
from dkimpipe.admin.postfix import client_options, filter_service, status_filter
from dkimpipe.admin.postfix.filter_service import JOBS, SIGN
from dkimpipe.admin.postfix.postconf import Change, Postconf
from dkimpipe.admin.postfix.service import Service
from dkimpipe.config import SENDMAIL, read_settings
from dkimpipe.errors import Trouble, UsageError
from dkimpipe.sendmail import of_filter

# Options with which the filter only passes mail on: it comes from a client that may not have it signed.
UNSIGNED = ("--sign_clients=authenticated", "--login=", "--client=0.0.0.0")
IDENTITY = (client_options.LOGIN, client_options.CLIENT)
_SCRIPT_SIZE = 1 << 20  # octets
_DKIMPIPE = re.compile(
    r"(^|[\s/\"'=])dkimpipe(-sendmail|/__main__\.py)?[\s\"';&|)](?!\s*verify)", re.MULTILINE
)
_SENDMAIL = re.compile(r"(?<![\w./-])(?:/[\w.-]+)+/sendmail(?:\.postfix)?(?![\w./-])")
_METHOD = re.compile(r"\.sendmail\s*\(")  # of Python's smtplib, which sends by SMTP
_PATH = re.compile(r"[\w./-]+")
_SHELL = re.compile(r"#![ \t]*(?:/usr)?/bin/(?:env[ \t]+)?(?:ba|da|k)?sh\b")
_VARIABLE = re.compile(r"(\w+)=[\"']?$")
_ALL_ARGUMENTS = re.compile(r"\$@|\$\{@\}")
# The script looks at its arguments, and more of them would confuse it.
_ONE_ARGUMENT = re.compile(r"\$\{?[\d#*]|\b(?:shift|getopts?|set(?! -[eux]+\b))\b")
_OPTION = re.compile(r"(?<=[\s\"',])-\w+")


def calls_sendmail(pipe: Service) -> bool:
    """Return whether mail comes back from another filter by sendmail(1), also where it runs dkimpipe."""
    if any(filter_service.program(pipe, job) for job in JOBS):
        return False
    words = [word for word in pipe.argv if not word.startswith(("--sendmail", "$"))]
    texts = [*words, *(_METHOD.sub("", _script(word)) for word in words)]
    if any("--relay" in text for text in texts):
        return False
    return any("sendmail" in text for text in texts) or signs(pipe)


def signs(pipe: Service | None) -> bool:
    """Return whether another filter signs its mail: it runs dkimpipe, and not only to pass mail on."""
    if not pipe or pipe.command != "pipe" or any(filter_service.program(pipe, job) for job in JOBS):
        return False
    text = "\n".join([" ".join(pipe.argv), *map(_script, pipe.argv), ""])
    return bool(_DKIMPIPE.search(text)) and UNSIGNED[-1] not in text


def commands(code: str) -> Iterator[str]:
    """Yield the commands of a script or command line that run dkimpipe, but for those that verify."""
    for line in re.split(r"\n|;|&&|\|\|?", code):
        if _DKIMPIPE.search(f"{line} "):
            yield line


def knows_strangers(pipe: Service) -> bool:
    """Return whether another filter that signs is given the client, and does not sign for strangers."""
    words = (word for word in pipe.argv if word.startswith("--"))
    return client_options.requires_known_client([word for word in words if word != "--"])


def to_sign(postconf: Postconf, pipe: Service, has_strangers: bool) -> str:
    """Return how another filter signs its mail: commands, or what to do by hand; empty if it is not known.

    ``has_strangers``  mail from clients that neither log in nor are in mynetworks passes it as well
    """
    words = pipe.command_line
    at = next((at for at, word in enumerate(words) if _SENDMAIL.fullmatch(word)), None)
    script = next((word for word in words if _SENDMAIL.search(code_of(word))), "")
    program = invocation.in_place_of_sendmail()
    if at is None and not script:
        return ""
    if program and _PATH.fullmatch(str(program)):
        if at is not None:
            hint = _in_command(postconf, pipe, at, str(program))
        else:
            hint = _in_script(postconf, pipe, script, str(program), has_strangers)
        if hint:
            return hint
    return _by_hand(postconf, pipe, script or words[0], str(program or "dkimpipe-sendmail"))


def _in_command(postconf: Postconf, pipe: Service, at: int, program: str) -> str:
    """Return the command that replaces a word of the command line; empty unless that is sure to work."""
    before, after = pipe.command_line[:at], pipe.command_line[at + 1 :]
    if (before and before[-1] != "-e") or not _is_understood(after):  # spamc(1) -e runs what follows
        return ""
    return _service(postconf, pipe, [*before, program, *_options(postconf), *after])


def _in_script(postconf: Postconf, pipe: Service, script: str, program: str, has_strangers: bool) -> str:
    """Return the commands that edit a script and its service; empty unless that is sure to work."""
    code, words = code_of(script), pipe.command_line
    first = words.index(script) + 1
    if (
        not _is_simple(script, code)
        or _is_shared(postconf, pipe, script)
        or not _is_understood(words[first:])
    ):
        return ""
    if _passes_all(code):
        words = [*words[:first], *_options(postconf), *words[first:]]
    elif has_strangers or _needs_options(postconf):
        return ""
    (path,) = _SENDMAIL.findall(code)
    edit = f"sed -i 's|{path}|{program}|' {shlex.quote(os.path.realpath(script))}"
    return f"{edit} && {_service(postconf, pipe, words)}"


def to_know_strangers(pipe: Service) -> str:
    """Return how a filter that signs for strangers stops that, without being switched off."""
    return (
        f"give {' '.join(IDENTITY)} to {pipe.name}, in argv, and let it pass them to dkimpipe\n"
        f"or give mail from users a service of its own in master.cf, a copy of {pipe.name} under another"
        f" name, and let {pipe.name} itself run sendmail(1) again"
    )


def _by_hand(postconf: Postconf, pipe: Service, place: str, program: str) -> str:
    user = (pipe.attribute("user") or "").partition(":")[0]
    return (
        f"by hand: let {place} run {program} in place of sendmail(1), one path for the other, with the same"
        f" arguments and {' '.join(IDENTITY)}, which pipe(8) has to pass to it; and set"
        f" user={user}:{_group(postconf)} in {pipe.id}, for the keys"
    )


def _service(postconf: Postconf, pipe: Service, words: list[str]) -> str:
    """Return the command that gives a service this command line, and the group that can read the keys."""
    user = (pipe.attribute("user") or "").partition(":")[0]
    attributes = [each for each in pipe.attributes if not each.startswith("user=")]
    return edit(postconf, pipe, [*attributes, f"user={user}:{_group(postconf)}"], words)


def edit(postconf: Postconf, pipe: Service, attributes: list[str], words: list[str]) -> str:
    """Return the commands that give a service these attributes, this command line, and the status filter.

    With it mail is deferred, not bounced, while the program that signs is missing.
    """
    options, changes = dict(postconf.overrides.get(pipe.id, {})), []
    if not status_filter.defers_missing_programs(postconf, pipe.id):
        options[status_filter.NAME] = status_filter.with_missing_programs(postconf, pipe.id)
        changes = status_filter.file_changes(postconf, status_filter.OTHERS)
    given = [f"-o {{{name}={value}}}" for name, value in options.items()]
    new = pipe._replace(arguments=" ".join([*given, *attributes, f"argv={' '.join(words)}"]))
    return " && ".join(map(postconf.command, [*changes, Change("-M", f"{new.id}={new.line}", "")]))


def _options(postconf: Postconf) -> list[str]:
    """Return the options that the filter needs besides those of sendmail(1)."""
    sendmail = postconf.value("sendmail_path")
    is_other = os.path.realpath(sendmail) != os.path.realpath(SENDMAIL)
    return [*([f"--sendmail={sendmail}"] if is_other else []), *IDENTITY]


def _needs_options(postconf: Postconf) -> bool:
    """Return whether mail would be deferred, or handed to another mail server, without these options."""
    try:
        needs_login = client_options.first_login_entry(read_settings([])) is not None
    except Trouble:  # `check` reports it
        needs_login = False
    return needs_login or _options(postconf) != list(IDENTITY)


def _is_simple(script: str, code: str) -> bool:
    """Return whether a shell script runs sendmail(1) once, with options that are understood."""
    found = list(_SENDMAIL.finditer(code))
    if not _SHELL.match(_script(script)) or len(found) != 1 or code.count(found[0][0]) != 1:
        return False
    options = [each for line in _calls(code) for each in _OPTION.findall(line)]
    return all(_is_understood([each, "x", "x"]) for each in options)


def _calls(code: str) -> Iterator[str]:
    """Yield the lines in which a script names sendmail(1), itself or by a variable, from there on."""
    path = _SENDMAIL.search(code)
    variable = path and _VARIABLE.search(code[: path.start()])
    names = "|".join(["sendmail", *([variable[1]] if variable else [])])
    call = re.compile(rf"(?:{names})\b.*", re.IGNORECASE)
    yield from (found[0] for found in call.finditer(code))


def _passes_all(code: str) -> bool:
    """Return whether a script passes all of its arguments to sendmail(1), and looks at none of them."""
    return any(_ALL_ARGUMENTS.search(line) for line in _calls(code)) and not _ONE_ARGUMENT.search(code)


def _is_understood(words: list[str]) -> bool:
    """Return whether dkimpipe-sendmail takes these arguments."""
    try:
        of_filter(words)
    except UsageError:
        return False
    return True


def _is_shared(postconf: Postconf, pipe: Service, script: str) -> bool:
    """Return whether another service runs the same script."""
    others = (each for each in postconf.running("pipe") if each.id != pipe.id)
    return any(script in each.argv for each in others)


def _group(postconf: Postconf) -> str:
    """Return the group of the filter, which can read the keys."""
    service = filter_service.find(postconf)
    user, _, group = ((service and service.attribute("user")) or SIGN.name).partition(":")
    try:
        return group or grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name
    except KeyError:
        return user


def code_of(path: str) -> str:
    """Return the text of a script without comments, and with continued lines joined."""
    lines = _script(path).replace("\\\n", " ").split("\n")
    return "\n".join(_without_comment(line) for line in lines)


def _without_comment(line: str) -> str:
    """Return a line up to the first # that begins a word outside quotes."""
    for found in re.finditer(r"(?:^|\s)#", line):
        before = line[: found.start()]
        if before.count('"') % 2 == 0 and before.count("'") % 2 == 0:
            return before
    return line


def _script(path: str) -> str:
    """Return the text of a script; nothing for any other file."""
    try:
        octets = Path(path).read_bytes()[:_SCRIPT_SIZE] if path.startswith("/") else b""
    except OSError:
        return ""
    return octets.decode(errors="replace") if octets.startswith(b"#!") else ""
