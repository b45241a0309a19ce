"""``dkimpipe import``: take over the configuration and the keys of another signer."""

from __future__ import annotations

import argparse
import errno
import grp
import os
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from dkimpipe.admin.findings import ERRORS_FOUND
from dkimpipe.admin.foreignfiles import without_keys
from dkimpipe.admin.invocation import runnable
from dkimpipe.admin.migration import candidates, compare, report, served
from dkimpipe.admin.migration.corpus import messages
from dkimpipe.admin.migration.files import CONF, KEYS, SENDERS, Files, files
from dkimpipe.admin.migration.foreign import LOST, Foreign
from dkimpipe.admin.migration.install import Access, Planned, plan, write
from dkimpipe.admin.migration.served import Unsigned
from dkimpipe.admin.postfix import milter_lists, milters, routing
from dkimpipe.admin.postfix.milter_lists import Use
from dkimpipe.admin.postfix.postconf import Postconf
from dkimpipe.admin.verbs import postfix, setup
from dkimpipe.config import SENDER_MAP, read_settings
from dkimpipe.errors import ConfigError, Trouble, one_line

SIGNERS = {"opendkim": "opendkim", "rspamd": "rspamd", "dkimpy-milter": "dkimpy_milter"}  # and their modules
DIRECTORY = Path(SENDER_MAP).parent
_COMPARED = "opendkim"
_TO_GO_ON = "the files are written; run the commands above only if that is right: --partial accepts it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.set_defaults(fail=parser.error)
    parser.add_argument("signer", choices=SIGNERS, help="whose configuration to take over")
    parser.add_argument(
        "path", nargs="?", type=Path, metavar="PATH", help="where it is, if not in its usual place"
    )
    postfix.add_instance(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--apply", action="store_true", help=f"write the files and keys to {DIRECTORY}")
    what.add_argument(
        "--output", type=Path, metavar="DIR", help="write them to another directory, for a look"
    )
    text = "show what OpenDKIM and dkimpipe sign these messages with; files, or directories of files"
    what.add_argument("--compare", type=Path, nargs="+", metavar="CORPUS", help=text)
    text = "go on although some settings cannot be taken over"
    parser.add_argument("--partial", action="store_true", help=text)
    text = "replace files that are not the same, and keep copies"
    parser.add_argument("--overwrite", action="store_true", help=text)


def run(options: argparse.Namespace) -> int:
    """Print or write what does the same as the other signer; return 0, or 78 if not all of it can be had."""
    try:
        return _run(options)
    except Trouble as trouble:
        raise type(trouble)(without_keys(str(trouble)), trouble.hint) from None


def _run(options: argparse.Namespace) -> int:
    if options.compare and options.signer != _COMPARED:
        options.fail(f"--compare is for {_COMPARED}")
    reader = import_module(f"dkimpipe.admin.migration.{SIGNERS[options.signer]}")
    path = options.path or reader.default_path()
    if path and not os.path.lexists(path):
        hint = f"dkimpipe import {options.signer} PATH, if it is not {reader.DEFAULT_PATH}"
        raise ConfigError(f"{path}: {os.strerror(errno.ENOENT)}", hint)
    foreign: Foreign = reader.read(path)
    if options.compare:
        return _compare(path, foreign, options.compare)
    directory = (options.output or DIRECTORY).absolute()
    made = files(foreign, directory)
    for line in report.lines(made, foreign, directory):
        print(one_line(runnable(line)))
    is_partial = any(remark.effect == LOST for remark in foreign.remarks) and not options.partial
    if is_partial and options.apply:
        raise ConfigError(
            "nothing was written, since some settings are lost", "--partial goes on without them"
        )
    if options.output:
        planned = plan(made, directory, options.overwrite)
        _write(planned, directory, Access(os.geteuid(), os.getegid()))
    elif options.apply and made.keys:
        _apply(options, made, foreign)
    elif options.apply:
        print("\nnothing to write")
    return ERRORS_FOUND if is_partial else 0


def _apply(options: argparse.Namespace, made: Files, foreign: Foreign) -> None:
    """Write the files in place, and print what remains to be done. Raises ConfigError."""
    if os.geteuid() != 0:
        raise ConfigError("import --apply must be run as root", "--output DIR can be run as any user")
    postconf = Postconf(options.directory)
    planned = plan(made, DIRECTORY, options.overwrite)
    group = setup.prepare(postconf, options.user)
    setup.refuse_unsafe_files([DIRECTORY, DIRECTORY / KEYS], list((DIRECTORY / KEYS).glob("*.pem")))
    _write(planned, DIRECTORY, Access(0, grp.getgrnam(group).gr_gid))
    print()
    today = Today.read(postconf, foreign)
    for line in next_steps(postconf, foreign, today):
        print(runnable(line))
    if today.lost and not options.partial:
        causes = "; ".join(f"{each.mail}: {each.cause}" for each in today.lost)
        raise ConfigError(f"mail that is signed today would no longer be: {causes}", _TO_GO_ON)


def _write(planned: Sequence[Planned], directory: Path, access: Access) -> None:
    (directory / KEYS).mkdir(mode=0o700, parents=True, exist_ok=True)
    print()
    for line in write(planned, access):
        print(line)


def next_steps(postconf: Postconf, foreign: Foreign, today: Today) -> list[str]:
    """Return the commands that remain, each after its reason."""
    used, others = today.used, today.others
    dmarc = milters.dmarc_after(postconf, used)
    command = ["dkimpipe", "postfix", "-c", str(postconf.directory), "--apply"]
    lost = [each.mail for each in today.lost]
    signed = [kind for kind in today.kinds if kind not in lost]
    command += ["--sign", ",".join(signed)] if signed else []
    if used and not (foreign.stays or dmarc):
        command += ["--replace-milter", ",".join(dict.fromkeys(each for use in used for each in use.milters))]
    return [
        "# all records are still right",
        "dkimpipe check --dns",
        *candidates.lines(others, foreign),
        *served.unsigned(postconf, foreign),
        *_another_filter(postconf),
        *(line for each in today.lost for line in each.lines),
        f"# let Postfix pass mail to dkimpipe{_what_else(foreign, used, dmarc, bool(others))}",
        shlex.join([*command, "--reload"]),
        *(["# then let the other signer only verify: Mode v in its conf file; restart it"] if dmarc else []),
        "dkimpipe check --postfix",
    ]


def _another_filter(postconf: Postconf) -> list[str]:
    """Return what has to be done first where mail from users already has another filter."""
    try:
        routing.refuse_another_filter(postconf)
    except ConfigError as error:
        return [f"# first: {one_line(str(error))}", *(f"# {line}" for line in error.hint.splitlines())]
    return []


class Today(NamedTuple):
    """The other signer in Postfix: where it is used, which milters may be it, and what it signs there."""

    used: Sequence[Use]
    others: Mapping[str, Sequence[str]]
    kinds: Sequence[str]
    lost: Sequence[Unsigned]

    @classmethod
    def read(cls, postconf: Postconf, foreign: Foreign) -> Today:
        """Look at Postfix's lists of milters, and ask those that may be it. Raises ConfigError."""
        used = milter_lists.uses(postconf, foreign.milters)
        others = {} if used else candidates.candidates(postconf, foreign)
        is_local = milter_lists.for_local_mail(postconf, used) or any(
            candidates.LOCAL_LIST in lists for lists in others.values()
        )
        known = foreign.milters if used else list(others)
        kinds = served.kinds(postconf, foreign, known, is_local)
        return cls(used, others, kinds, list(served.lost(postconf, foreign, known, kinds)))


def _what_else(foreign: Foreign, used: Sequence[Use], dmarc: Sequence[str], may_be_there: bool) -> str:
    """Return what becomes of the other signer in Postfix's lists of milters."""
    if not used:
        return "" if may_be_there else "; no list of milters has the other signer"
    lists = ", ".join(dict.fromkeys(use.where for use in used))
    if foreign.stays:
        return f"; the other program stays in {lists}, and must no longer sign: see above"
    if dmarc:
        return f"; the other signer stays in {lists}, since OpenDMARC ({', '.join(dmarc)}) needs its results"
    return f", and take the other signer out of {lists}"


def _compare(path: Path | None, foreign: Foreign, corpus: Sequence[Path]) -> int:
    """Print the signatures of both for each message; return 78 if d=, s= or c= differ."""
    with tempfile.TemporaryDirectory(prefix="dkimpipe-") as name:
        directory = Path(name)
        made = files(foreign, directory)
        (directory / KEYS).mkdir(mode=0o700)
        list(write(plan(made, directory, overwrite=False), Access(os.geteuid(), os.getegid())))
        names = [f"--conf_file={directory / CONF}", f"--sender_map={directory / SENDERS}"]
        settings = read_settings(names)
        count = failed = 0
        for message in messages(corpus, directory):
            text, is_same = compare.differences(path, settings, message)
            print(one_line(text))
            count, failed = count + 1, failed + (not is_same)
    print(f"{count} messages, {failed} of them with another d=, s= or c=")
    return ERRORS_FOUND if failed else 0
