"""The command dkimpipe: runs a verb or the filter, inside the outermost guard, which covers imports, too."""

import gc
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

VERBS = (
    *("audit", "check", "dns", "explain", "genkey", "import", "index", "postfix", "reflect", "reports"),
    *("rotate", "setup", "test"),
)


def main(arguments: "list[str] | None" = None) -> int:
    """Run the filter or a verb and return the exit status; no traceback, which would leak into bounces."""
    try:
        _hold_descriptors()
        if arguments is None:
            arguments = sys.argv[1:]
        if arguments in (["--help"], ["--version"]):
            from dkimpipe.usage import usage

            return usage(arguments[0])
        if arguments and arguments[0] in VERBS:
            from dkimpipe.admin.cli import run_verb

            return run_verb(arguments)
        if not arguments and posix.isatty(0):  # pipe(8) always passes arguments, and a pipe
            return _usage()
        if arguments and arguments[0] != "verify" and arguments[0][:1] not in "-" and "--" not in arguments:
            _suggest_verb(arguments)
        # The filter exits before much garbage collects; collection costs 2 % of the time for a message.
        gc.disable()
        if arguments and arguments[0] == "verify":
            from dkimpipe.verify.filter import verify

            return verify(arguments[1:])
        from dkimpipe.pipe import run

        return run(arguments)
    except (Exception, KeyboardInterrupt) as error:
        return _report(error)


def main_in_place_of_sendmail() -> int:
    """Run the filter with the arguments of sendmail(1), and return the exit status."""
    try:
        from dkimpipe.sendmail import of_filter

        return main(of_filter(sys.argv[1:]))
    except (Exception, KeyboardInterrupt) as error:
        return _report(error)


def _usage() -> int:
    """Show how it is used, rather than wait for somebody to type a message; return 64 (sysexits(3))."""
    from dkimpipe.usage import HELP

    posix.write(2, HELP.encode())
    return 64


def _suggest_verb(arguments: "list[str]") -> None:
    """Raise UsageError if the first word seems to be a verb: misspelt, or unknown."""
    from difflib import get_close_matches

    from dkimpipe.admin.invocation import runnable
    from dkimpipe.errors import UsageError

    word = arguments[0]
    close = get_close_matches(word, (*VERBS, "verify"), 1)
    if close:
        raise UsageError(f"unknown argument '{word}'", runnable(f"did you mean: dkimpipe {close[0]}"))
    if "@" not in word and not any(each.startswith("-") for each in arguments):
        raise UsageError(f"unknown verb '{word}'", f"known verbs: {' '.join(sorted((*VERBS, 'verify')))}")


def _hold_descriptors() -> None:
    """Open a useless file on each of 0, 1 and 2 that is closed, so that no other file gets that number."""
    for descriptor, mode in enumerate((posix.O_WRONLY, posix.O_RDONLY, posix.O_WRONLY)):
        try:
            posix.fstat(descriptor)
        except OSError:
            posix.open("/dev/null", mode)


def _report(error: BaseException) -> int:
    """Report an error as pipe(8) reads it, code and cause, and return the status that defers the mail."""
    code, hint = getattr(error, "code", ""), getattr(error, "hint", "")
    cause = str(error)
    if not isinstance(code, str) or not code.startswith(("4.", "5.1.3")):
        code, place = "4.3.0", error.__traceback__
        while place and place.tb_next:
            place = place.tb_next
        where = f" ({place.tb_frame.f_code.co_filename}, line {place.tb_lineno})" if place else ""
        cause = (
            "interrupted"
            if isinstance(error, KeyboardInterrupt)
            else f"{type(error).__name__}: {cause}{where}"
        )
    lines = [f"{code} dkimpipe: {cause}", *([f"hint: {hint}"] if hint else [])]
    text = "".join("".join([c if c.isprintable() else "?" for c in line]) + "\n" for line in lines)
    try:
        posix.write(2, text.encode("utf-8", "backslashreplace"))
    except OSError:
        pass
    return 75


def end(status: int) -> "NoReturn":
    """End the process. Everything is written; a clean shutdown would cost a tenth of a message."""
    if "dkimpipe.admin" in sys.modules:  # a verb, whose output may still be in a buffer
        raise SystemExit(status)
    posix._exit(status)
