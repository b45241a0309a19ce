"""``make server``: a whole mail server, set up by the commands of README.md, and used as people use it.

Needs root, debootstrap, and the network for Debian's packages. Nothing of this machine is changed: the server
is a throwaway copy of a fresh Debian, with a network of its own. The exit status is 1 if anything is not as
it should be.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
sys.path[:0] = [str(PROJECT), str(PROJECT / "tests/lab")]

import arrivals  # noqa: E402
import house  # noqa: E402
import roots  # noqa: E402
from clients import CLIENTS, Client, send  # noqa: E402
from reporting import DAY, MONDAY, Flow, report  # noqa: E402
from throwaway import Machine  # noqa: E402
from witness import Records  # noqa: E402

from dkimpipe.admin.postfix.kinds import INITIAL, KINDS  # noqa: E402

DKIMPIPE = "/opt/dkimpipe/bin/dkimpipe"
AFTER_INSTALLATION = (DKIMPIPE, "dkimpipe", "postfix")
SOURCE = "/root/dkimpipe"
PICTURES = "/tmp/pictures"
CACHE = PROJECT / ".cache/server"
CRON = 90  # seconds: it runs once a minute
LONG = f"{'a' * 50}.{'b' * 60}.example"
MARKUP = "&lt;script>alert(1)&lt;/script>&#x202e;"
# What Roundcube sends: text in the message, the number of recipients, and text that must be in it.
FROM_ROUNDCUBE = {
    "roundcube: Grüße": (3, "text/html"),
    "roundcube: one line": (1, "text/html"),
    "Re: to alice": (1, "Thank you."),
    "Fwd: to alice": (1, "message/rfc822"),
}


class Story:
    """One run. Each step is printed when it is done, with its time."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.commands: list[float] = []
        self._begun = self._last = time.monotonic()

    def done(self, text: str, is_command: bool = False) -> None:
        """Print a step; count it if it is a command of README.md."""
        now = time.monotonic()
        self.commands += [now - self._last] if is_command else []
        print(f"{now - self._begun:6.1f} s  {text} ({now - self._last:.1f} s)", flush=True)
        self._last = now

    def expect(self, holds: bool, fault: str) -> None:
        """Print and remember a fault, if there is one."""
        if not holds:
            self.faults.append(fault)
            print(f"          FAULT: {fault}", flush=True)


def main() -> int:
    """Run the story, and print the table of clients."""
    parser = argparse.ArgumentParser(prog="make server", description=__doc__)
    parser.add_argument("--release", default="bookworm", help="of Debian (%(default)s)")
    parser.add_argument("--artefacts", type=Path, default=CACHE / "artefacts", metavar="DIR")
    options = parser.parse_args()
    options.artefacts.mkdir(parents=True, exist_ok=True)
    story = Story()
    base = roots.made(CACHE, options.release, roots.WHOLE)
    story.done(f"Debian {options.release}, and the packages of a mail server")
    with tempfile.TemporaryDirectory() as name:
        installed = install(story, base, Path(name))
        with Machine(installed, network=True, base=base) as machine:
            records = build(story, machine)
            browse(story, machine, records, options.artefacts)
            look_at_reports(story, machine, options.artefacts)
            first, second = (use_clients(story, machine, records, kinds) for kinds in (INITIAL, KINDS))
    lines = table(first, second)
    (options.artefacts / "clients.md").write_text("".join(f"{line}\n" for line in lines))
    print(
        "",
        *lines,
        "",
        f"in {options.artefacts}: this table, and pictures of Roundcube and of the reports",
        sep="\n",
    )
    return 1 if story.faults else 0


def commands() -> list[str]:
    """Return the commands of README.md's five minutes."""
    text = (PROJECT / "README.md").read_text().partition("## Five minutes")[2].partition("\n## ")[0]
    begin = r"    ((?:apt|/usr/bin/python3|/opt/dkimpipe/bin/\w+|dkimpipe|postfix) .*)"
    return re.findall(begin, text)


def install(story: Story, base: Path, kept: Path) -> Path:
    """Install dkimpipe by the first of these commands, with the network of this machine."""
    with Machine(base=base) as machine:
        source = machine.root / SOURCE[1:]
        source.mkdir()
        archive = subprocess.run(["git", "archive", "HEAD"], cwd=PROJECT, capture_output=True, check=True)
        subprocess.run(["tar", "x", "-C", source], input=archive.stdout, check=True)
        for command in commands():
            if not command.startswith(AFTER_INSTALLATION):
                line = command.replace("apt install", "apt-get install --quiet=2 --yes")
                machine.shell(f"cd {SOURCE}; DEBIAN_FRONTEND=noninteractive HOME=/root {line} 2>&1", 600)
                story.done(command, True)
        return machine.keep(kept)


def build(story: Story, machine: Machine) -> Records:
    """Start the server, set dkimpipe up by the other commands, and start what the server talks to."""
    house.addresses(machine)
    house.name_server(machine)
    house.server(machine)
    story.done("the server without dkimpipe: users, Dovecot, Postfix as Debian ships it")
    for command in commands():
        if command.startswith(AFTER_INSTALLATION):
            house.settle(machine)
            command = command.replace(" setup ", " setup --submission ")  # Debian has no such service
            printed = machine.shell(f"{command} 2>&1")
            story.done(command, True)
            if " IN TXT " in printed:
                records = re.findall(r"\S+ IN TXT .*", printed)
                house.name_server(machine, "\n".join(records))
    story.done(f"README.md's {len(story.commands)} commands took {sum(story.commands):.0f} s")
    house.receiver(machine)
    house.verifying(machine, DKIMPIPE)
    house.roundcube(machine)
    story.done("the records in DNS, a receiver that verifies, Roundcube")
    return values(records)


def values(records: list[str]) -> Records:
    """Return values by name, from lines of a zone file."""
    return {
        line.split()[0].rstrip("."): ["".join(re.findall(r'"([^"]*)"', line)).encode()] for line in records
    }


def browse(story: Story, machine: Machine, records: Records, artefacts: Path) -> None:
    """Send mail with Roundcube, in a browser."""
    machine.shell(
        "mkdir -p /dev/shm /dev/pts; mount -t tmpfs none /dev/shm; mount -t devpts none /dev/pts\n"
        f"mkdir {PICTURES}; printf 'Subject: to alice\\n\\nHello\\n' |"
        " sendmail -i -f bob@example.net alice@example.com"
    )
    shutil.copy(HERE / "browser.py", machine.root / "root/browser.py")
    words = ["python3", "/root/browser.py", house.PASSWORD, PICTURES]
    environment = {"HOME": "/root", "LANG": "C.UTF-8"}
    done = machine.run(*words, environment=environment, timeout=300)
    shutil.copytree(machine.root / PICTURES[1:], artefacts, dirs_exist_ok=True)
    story.expect(done.status == 0, f"the browser: {done.stderr}")
    for subject, (copies, text) in FROM_ROUNDCUBE.items() if done.status == 0 else ():
        found = arrivals.wait_for(machine, subject)
        story.expect(len(found) == copies, f"{subject}: {len(found)} copies, not {copies}")
        for each in found:
            story.expect(not (faults := each.faults(records)), f"{subject}: {faults}")
            story.expect(text.encode() in each.octets, f"{subject}: no {text}")
            story.expect("Bcc" not in each.message, f"{subject}: Bcc")
    story.done(f"{len(FROM_ROUNDCUBE)} messages from Roundcube, in a browser")


def look_at_reports(story: Story, machine: Machine, artefacts: Path) -> None:
    """Open the page of ``dkimpipe reports`` on six weeks, with names as long and hostile as can be."""
    directory = machine.root / "tmp/reports"
    directory.mkdir()
    for week in range(6):
        for receiver, domain in (("google.com", "example.com"), (MARKUP, "example.net"), ("x" * 90, LONG)):
            flows = [
                Flow("192.0.2.1", 1000 * week + 9, domain, ((domain, "s1", "pass"),), (domain, "pass"), True),
                Flow("192.0.2.1", 14, domain, ((domain, "y" * 63, "permerror"),), (domain, "pass"), True),
                Flow("2001:db8:1234:5678:9abc:def0:1234:5678", 20, domain, (), ("service.test", "pass")),
                Flow("203.0.113.9", 20, domain, (), ("", "none")),
            ]
            octets = report(flows, receiver, domain, MONDAY - 7 * week * DAY)
            (directory / f"{week}{len(receiver)}.xml").write_bytes(octets)
    (directory / f"{LONG}.xml").write_bytes(b"<rss/>")
    machine.run(DKIMPIPE, "reports", "--html", "/tmp/reports.html", "/tmp/reports")
    shutil.copy(HERE / "page.py", machine.root / "root/page.py")
    words = ["python3", "/root/page.py", "/tmp/reports.html", PICTURES]
    done = machine.run(*words, environment={"HOME": "/root", "LANG": "C.UTF-8"}, timeout=300)
    shutil.copytree(machine.root / PICTURES[1:], artefacts, dirs_exist_ok=True)
    story.expect(done.status == 0, f"the page of reports: {done.stderr}")
    story.done("the page of dkimpipe reports, in a browser, 360 and 1200 pixels wide")


def use_clients(
    story: Story, machine: Machine, records: Records, kinds: tuple[str, ...]
) -> dict[Client, str]:
    """Sign these kinds of mail, let each client send a message, and return what became of each."""
    house.settle(machine)
    machine.shell(f"{DKIMPIPE} postfix --apply --sign {','.join(kinds)} 2>&1")
    house.settle(machine)
    machine.shell("postfix reload >/dev/null 2>&1")
    arrivals.forget(machine)
    for number, client in enumerate(CLIENTS):
        send(machine, client, f"client {number}.")
    outcomes = {}
    for number, client in enumerate(CLIENTS):
        found = arrivals.wait_for(machine, f"client {number}.", CRON)
        is_due = client.kind in kinds
        for each in found:
            story.expect(each.is_signed == is_due, f"{client.name}: signed: {each.is_signed}")
            if is_due:
                story.expect(not (faults := each.faults(records)), f"{client.name}: {faults}")
        outcomes[client] = "signed" if all(each.is_signed for each in found) else "no"
    story.done(f"{len(CLIENTS)} clients, --sign {','.join(kinds)}")
    return outcomes


def table(first: dict[Client, str], second: dict[Client, str]) -> list[str]:
    """Return the table of clients, in Markdown: for a new installation, and with all kinds."""
    lines = ["| sent by | kind | new installation | `--sign all` |", "|---|---|---|---|"]
    return lines + [f"| {each.name} | {each.kind} | {first[each]} | {second[each]} |" for each in CLIENTS]


if __name__ == "__main__":
    raise SystemExit(main())
