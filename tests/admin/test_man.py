"""The man pages: as their source makes them, as ``--help`` and the code have it, with examples that work."""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import forked
import pytest
from conftest import MAIN, PROJECT, Keys, run_filter

from dkimpipe import __version__, choose, options, senders, templates
from dkimpipe.address import Mailbox
from dkimpipe.admin.cli import DESCRIPTIONS
from dkimpipe.admin.maps import entries
from dkimpipe.admin.maps.samples import samples
from dkimpipe.command import VERBS
from dkimpipe.config import COMMAND_LINE_ONLY, IGNORED, OPTIONS, Settings, conf_lines, read_command_line
from dkimpipe.files import COMMAND_LINE
from dkimpipe.man import command, page, roff
from dkimpipe.verify.settings import VerifySettings

PROSE = page.prose()
COMMANDS = {name: name.rpartition(".")[0].partition("-")[2] for name in PROSE if name.endswith(".1")}
MAKE = "import json, sys; from dkimpipe.man import page; json.dump(page.pages(), sys.stdout)"


def committed() -> dict[str, str]:
    """Return the pages as they are installed."""
    return {path.name: path.read_text("ascii") for path in sorted(page.DIRECTORY.glob("*.[157]"))}


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_a_page(verb: str) -> None:
    assert f"dkimpipe-{verb}.1" in PROSE


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"COLUMNS": "20", "LC_ALL": "C", "PYTHONUTF8": "0"},
        {"COLUMNS": "300", "LC_ALL": "de_DE.UTF-8", "LANGUAGE": "de"},
        {"MAIL_CONFIG": "/etc/postfix-out", "TZ": "Asia/Tokyo", "FORCE_COLOR": "1"},
    ],
    ids=["here", "narrow", "wide", "elsewhere"],
)
def test_the_pages_are_those_that_make_man_makes(env: dict[str, str]) -> None:
    made = subprocess.check_output([sys.executable, "-c", MAKE], cwd=PROJECT, env={**os.environ, **env})
    assert committed() == json.loads(made), "run: make man"


def test_the_date_is_that_of_the_release() -> None:
    latest = re.search(r"^## (.+) \((.+)\)$", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert latest and latest[1] == __version__
    assert latest[2] in ("unreleased", page.RELEASED)


# The options that --help prints, and those of the page.


@functools.cache
def help_of(verb: str) -> str:
    done = forked.run(*filter(None, [verb]), "--help", env={**os.environ, "COLUMNS": "1000"})
    assert (done.status, done.stderr) == (0, "")
    return done.stdout.decode()


@functools.cache
def render(name: str, width: int = 80) -> str:
    """Return a page as a terminal shows it, in plain text."""
    env = {**os.environ, "MANWIDTH": str(width), "LC_ALL": "C.UTF-8", "MANPAGER": "cat", "MANROFFOPT": ""}
    words = ["man", "--warnings=w", "--local-file", str(page.DIRECTORY / name)]
    done = subprocess.run(words, capture_output=True, text=True, env=env, check=True)
    assert done.stderr == ""
    return done.stdout


def section(text: str, heading: str) -> str:
    """Return a section of a page that was rendered."""
    return re.split(r"^(?=\S)", text.partition(f"\n{heading}\n")[2], flags=re.MULTILINE)[0]


def option_names(text: str, indent: int) -> set[str]:
    """Return the names of all options that stand at this column."""
    lines = re.findall(rf"^ {{{indent}}}(-.*)", text, re.MULTILINE)
    return {name for line in lines for name in re.findall(r"(?:^|, )(--?[A-Za-z][\w-]*)", line)}


needs_man = pytest.mark.skipif(not shutil.which("man"), reason="no man(1)")


@needs_man
@pytest.mark.parametrize("name", COMMANDS)
def test_page_and_help_have_the_same_options(name: str) -> None:
    in_help = option_names(help_of(COMMANDS[name]), 2)
    in_page = render(name, 300)
    assert in_help
    assert option_names(section(in_page, "OPTIONS"), 7) == in_help


@needs_man
@pytest.mark.parametrize("name", COMMANDS)
def test_page_and_help_say_the_same_of_them(name: str) -> None:
    in_help, in_page = (" ".join(text.split()) for text in (help_of(COMMANDS[name]), render(name)))
    for group in command.read(COMMANDS[name]).groups.values():
        for option in group:
            assert option.text
            assert option.text in in_help
            assert option.text in in_page
            if "|" not in option.value:
                assert option.value in in_page


@needs_man
@pytest.mark.parametrize("name", VERBS)
def test_the_page_of_the_filter_names_each_verb(name: str) -> None:
    assert f"\n       dkimpipe {name}\n" in section(render("dkimpipe.1"), "VERBS")


# What stands in tables of the code, and the texts about it.


def terms(name: str, heading: str) -> dict[tuple[str, ...], str]:
    """Return the terms of a section of the prose, each with its text."""
    found = re.findall(r"^(`.+)\n: ((?:.+\n)+)", roff.sections(PROSE[name])[heading], re.MULTILINE)
    return {tuple(re.findall(r"`([^`]+)`", term)): text for term, text in found}


def test_each_option_of_a_signature_has_its_text() -> None:
    names = {tuple(dict.fromkeys(pair)) for pair in senders.LONG_NAMES.items()}
    assert set(terms("dkimpipe-senders.5", "OPTIONS OF A SIGNATURE")) == names


def test_each_type_has_its_text() -> None:
    assert set(terms("dkimpipe-senders.5", "TYPES")) == {(name,) for name in senders.TYPES}


def test_each_macro_has_its_text() -> None:
    found = terms("dkimpipe-senders.5", "MACROS")
    known = {*options.macros(Mailbox(b"", b""), b""), *templates.IN_PATH}
    assert {name for names in found for name in names} == {f"${name}" for name in known}


def test_the_default_of_h_is_that_of_the_code() -> None:
    text = roff.sections(PROSE["dkimpipe-senders.5"])["SIGNED HEADER FIELDS"]
    groups = {"Oversigned": options.OVERSIGNED, "As often as they occur": options.AS_IT_OCCURS}
    found = [
        (name.encode(), how)
        for term, how in groups.items()
        for listed in re.findall(rf"^{term}\n: (.+)$", text, re.MULTILINE)
        for name in re.findall(r"`([^`]+)`", listed)
    ]
    assert len(found) == len(options.RECOMMENDED)
    assert dict(found) == options.RECOMMENDED


VALUES = {
    "missing": {options.DEFER, options.UNSIGNED},
    "a": {name for names in options.ALGORITHMS.values() for name in names},
    "c": {name.partition("/")[0] for names in options.CANONICALIZATIONS.values() for name in names},
    "x": set(options._UNITS),
    "t": {"yes", "no"},
}


@pytest.mark.parametrize(("name", "values"), VALUES.items(), ids=VALUES)
def test_each_value_stands_in_the_text(name: str, values: set[str]) -> None:
    texts = {
        short: text for (short, *_), text in terms("dkimpipe-senders.5", "OPTIONS OF A SIGNATURE").items()
    }
    assert values <= set(re.findall(r"`([^`]+)`", texts[name]))


@needs_man
def test_each_directive_has_its_text() -> None:
    names = re.findall(
        r"^ {7}([a-z_]+)(?= |$)", section(render("dkimpipe.conf.5"), "DIRECTIVES"), re.MULTILINE
    )
    assert sorted(names) == sorted({*OPTIONS} - {*COMMAND_LINE_ONLY})


def test_the_directives_without_effect_are_such() -> None:
    without_effect = re.search(r"server, such as `(\w+)` or `(\w+)`", PROSE["dkimpipe.conf.5"])
    assert without_effect and IGNORED.issuperset(without_effect.groups())


@pytest.mark.parametrize("name", PROSE)
def test_the_pages_that_it_names_are_there(name: str) -> None:
    named = set(re.findall(r"(dkimpipe[\w.-]*)\(([157])\)", PROSE[name]))
    assert {f"{title}.{number}" for title, number in named} <= set(PROSE)
    assert "SEE ALSO" in PROSE[name]


# Programs that read pages.


@pytest.mark.parametrize("name", PROSE)
@pytest.mark.parametrize(
    "words",
    ["groff -ww -mandoc -Tutf8 -z", "mandoc -T lint -W warning", "man --warnings=w -l"],
    ids=["groff", "mandoc", "man"],
)
def test_nobody_warns(name: str, words: str) -> None:
    program, *arguments = words.split()
    if not shutil.which(program):
        pytest.skip(f"no {program}")
    done = subprocess.run([program, *arguments, str(page.DIRECTORY / name)], capture_output=True, text=True)
    said = done.stderr if program == "man" else done.stdout + done.stderr
    assert (said, done.returncode) == ("", 0)


@needs_man
@pytest.mark.parametrize("name", PROSE)
def test_it_fits_a_terminal(name: str) -> None:
    assert [line for line in render(name).splitlines() if len(line) > 80] == []


# How it is installed. Setuptools does here what it does for a wheel, without building one.

SETUP = [sys.executable, "-c", "import setuptools; setuptools.setup()", "-q"]


def test_man_finds_what_is_installed(tmp_path: Path) -> None:
    base = ["egg_info", f"--egg-base={tmp_path}"]
    subprocess.run([*SETUP, *base, "install_data", f"--install-dir={tmp_path}"], cwd=PROJECT, check=True)
    for name in PROSE:
        title, _, number = name.rpartition(".")
        path = tmp_path / "share" / "man" / f"man{number}" / name
        assert path.read_text() == committed()[name]
        if shutil.which("man"):
            words = ["man", "-M", str(tmp_path / "share" / "man"), "-w", number, title]
            assert subprocess.check_output(words, text=True) == f"{path}\n"


def test_a_wheel_holds_no_module_of_an_earlier_version(tmp_path: Path) -> None:
    for name in (".ci", "dkimpipe", "postfix"):
        shutil.copytree(PROJECT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "LICENSE", "setup.cfg", "pyproject.toml"):
        shutil.copy(PROJECT / name, tmp_path / name)
    stale = tmp_path / "build/lib/dkimpipe/stale.py"
    stale.parent.mkdir(parents=True)
    stale.touch()
    script = "import build_backend; build_backend.build_wheel('.')"
    subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / ".ci")},
        capture_output=True,
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    modules = {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".py")}
    here = {str(path.relative_to(tmp_path)) for path in (tmp_path / "dkimpipe").rglob("*.py")}
    assert modules == {name for name in here if not name.startswith("dkimpipe/man/")}


def test_an_sdist_holds_pages_and_prose(tmp_path: Path) -> None:
    subprocess.run([*SETUP, "egg_info", f"--egg-base={tmp_path}"], cwd=PROJECT, check=True)
    (listed,) = tmp_path.glob("*.egg-info/SOURCES.txt")
    here = {str(path.relative_to(PROJECT)) for path in page.DIRECTORY.glob("*.*")}
    assert here <= set(listed.read_text().splitlines())


# Examples. Each command is parsed; what can be run without a Postfix and a name server is run.

EXAMPLES = [
    (name, words)
    for name, text in PROSE.items()
    for example in roff.examples(text)
    for line in example.replace("\\\n", "").splitlines()
    for words in re.findall(r"(?:^|[|&] )dkimpipe (.*?)(?= [<>]| [|&]|$)", line)
]


def read_words(words: list[str]) -> None:
    """Let a verb's parser, or the filter, read a command line; raise if it is wrong."""
    verb = words[0] if words and words[0] in COMMANDS.values() else ""
    parser = command.parser_if_any(verb)
    if parser:
        parser.parse_args(words[1:])
    elif verb == "verify":
        read_command_line(words[1:], VerifySettings())
    else:
        read_command_line(words)


@pytest.mark.parametrize(("name", "words"), EXAMPLES, ids=[f"{name}: {words}" for name, words in EXAMPLES])
def test_each_example_is_a_command_line(name: str, words: str) -> None:
    read_words(shlex.split(words))


@pytest.mark.parametrize("name", COMMANDS)
def test_each_page_of_a_command_has_examples(name: str) -> None:
    assert [words for page_name, words in EXAMPLES if page_name == name]


@pytest.fixture
def place(keys: Keys, tmp_path: Path) -> Path:
    """A directory that stands for those of the examples: a key, and a senders file on whose line 2 it is."""
    shutil.copy(keys.path("rsa2048"), tmp_path / "example.com.mail.pem")
    shutil.copy(keys.path("rsa2048"), tmp_path / "mail.pem")
    line = f"# who  what to add\nexample.com dkim(s=mail,key={tmp_path}/mail.pem)\n"
    for name in ("senders", "senders.new", "senders.old"):
        (tmp_path / name).write_text(line)
    return tmp_path


# What must be added for a verb to find its files in that place.
ADDED = {
    "check": "-c /nonexistent --user=root --sender_map=/root/senders",
    "dns": "--sender_map=/root/senders",
    "explain": "--sender_map=/root/senders",
    "genkey": "--directory=/root --group=root",
}
RUN = [words for _, words in EXAMPLES if words.split()[0] in ADDED and "--postfix" not in words]


def here(words: str, place: Path) -> list[str]:
    """Return a command line with the paths of this place; what the example itself says wins."""
    verb, *rest = shlex.split(words)
    return [
        re.sub(r"/etc/dkimpipe/keys|/etc/dkimpipe|/root", str(place), word)
        for word in [verb, *ADDED[verb].split(), *rest]
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a key to a group")
@pytest.mark.parametrize(
    "words", [words for words in RUN if not re.search("--(server|dns|publish-command)", words)]
)
def test_each_example_that_can_be_run_works(place: Path, words: str) -> None:
    done = forked.run(*here(words, place), stdin=b"From: alice@example.com\n\n")
    makes_key = words.startswith("genkey ") and "--show" not in words
    said = "hint: publish the record first:" if makes_key else ""
    assert (done.status, done.stderr.count("\n"), done.stderr[: len(said)]) == (0, makes_key, said)
    assert done.stdout


@pytest.mark.parametrize(
    "words", [words for words in RUN if re.match("dns .*--(server|publish-command)", words)]
)
def test_each_update_has_the_options_that_it_needs(place: Path, words: str) -> None:
    done = forked.run(*shlex.split(words), f"--sender_map={place}/none")
    assert (done.status, done.stderr.partition(":")[2]) == (
        78,
        f" map {place}/none: No such file or directory\nhint: create it, or fix the path\n",
    )


def test_the_filter_says_what_the_page_says(place: Path) -> None:
    said = []
    for author in ("alice@example.com", "bob@example.net"):
        done = run_filter(f"--sender_map={place}/senders", message=f"From: {author}\n\n".encode())
        said.append(done.stderr.replace(f"from={author}", "from=..."))
    assert "".join(said) in roff.examples(PROSE["dkimpipe.1"])


def test_a_refusal_reads_as_on_the_page(tmp_path: Path) -> None:
    path = tmp_path / "senders"
    path.write_text("# who  what\nexample.com dkim(login=alice)\n")
    done = run_filter(f"--sender_map={path}", "--login=bob", message=b"From: a@example.com\n\n")
    reason = done.stderr.removeprefix("dkimpipe: ").replace(str(path), "/etc/dkimpipe/senders")
    assert reason.replace("; from=a@example.com", "") in roff.examples(PROSE["dkimpipe.1"])


def test_explain_says_what_the_page_says(place: Path) -> None:
    *_, lines = roff.examples(PROSE["dkimpipe-explain.1"])
    words = here("explain --sender_map /root/senders.new alice@example.com", place)
    said = subprocess.check_output([sys.executable, str(MAIN), *words], text=True)
    assert said.count(re.sub("/etc/dkimpipe/keys|/root", str(place), lines)) == 1


def test_the_keys_are_looked_up_in_the_order_of_the_page() -> None:
    (listed,) = [each for each in roff.examples(PROSE["dkimpipe-senders.5"]) if each.startswith("alice")]
    looked_up = choose.lookup_keys(Mailbox(b"alice+lists", b"mail.example.com"))
    assert listed.split() == [key.decode() for key in looked_up]


MAPS = [text for text in roff.examples(PROSE["dkimpipe-senders.5"]) if "dkim" in text]


@pytest.mark.parametrize("text", MAPS)
def test_each_example_of_a_senders_file_is_good(tmp_path: Path, text: str) -> None:
    path = tmp_path / "senders"
    path.write_text(text)
    settings = Settings()
    settings.set("selector", "mail", COMMAND_LINE)
    settings.set("keyfile", "/etc/dkimpipe/keys/mail.pem", COMMAND_LINE)
    lines = list(entries.entries(str(path)))
    assert lines
    for line in lines:
        for signature in line.signatures():
            sender, domain = samples(line)[0]
            options.complete(signature, settings, options.macros(sender, domain))


CONF_FILES = roff.examples(PROSE["dkimpipe.conf.5"])


@pytest.mark.parametrize("text", CONF_FILES)
def test_each_example_of_a_conf_file_is_good(tmp_path: Path, text: str) -> None:
    path = tmp_path / "conf"
    path.write_text(text)
    settings = Settings()
    for name, value, place, _ in conf_lines(str(path)):
        settings.set(name, value, place)
    for value, place in settings.signatures:
        senders.parse(value, place)
    assert settings.values


HELP_OF_ALL = """
import sys
from dkimpipe.command import main
for verb in sys.argv[1:]:
    try:
        main([verb, "--help"])
    except SystemExit:
        print("\\f", end="")
"""


@functools.cache
def helps_without_docstrings() -> dict[str, str]:
    """Return the help of all verbs, by one Python without docstrings: it compiles all that it imports."""
    words = [sys.executable, "-OO", "-c", HELP_OF_ALL, *VERBS]
    env = {**os.environ, "COLUMNS": "1000"}
    return dict(zip(VERBS, subprocess.check_output(words, text=True, env=env, cwd=PROJECT).split("\f")))


@pytest.mark.parametrize("verb", [verb for verb in COMMANDS.values() if verb not in ("", "verify")])
def test_help_without_docstrings_says_what_a_verb_is_for(verb: str) -> None:
    assert helps_without_docstrings()[verb] == help_of(verb)
    assert DESCRIPTIONS[verb] in help_of(verb)
