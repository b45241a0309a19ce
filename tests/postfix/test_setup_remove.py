"""``dkimpipe setup --remove`` in throwaway copies of this machine."""

from __future__ import annotations

import pytest
from installing import (
    DKIMPIPE,
    KEY,
    LISTING,
    SECOND_LINE,
    SENDERS,
    State,
    listing,
    postfix_files,
    printed_records,
    senders,
    setup,
    steps,
    trial,
)
from throwaway import Done, Machine


def test_a_domain_is_taken_out_and_all_else_stays(second: State) -> None:
    with Machine(second.files) as machine:
        before = machine.changes()
        assert setup(machine, "--remove", "example.com").status == 0
        now = machine.changes()
        changed = [path for path in before if now.get(path) != before[path]]
        assert sorted(changed) == [KEY, "etc/dkimpipe/senders"]
        assert now[KEY].content == before[KEY].content
        assert senders(machine) == f"# who    what to add\n{SECOND_LINE}\n"


UNSIGNED = "dkimpipe: not signed: no entry for a@other.example; from=a@other.example\n"


@pytest.mark.parametrize("header", ["# who    what to add\n", ""], ids=["as written", "without its comment"])
def test_without_its_last_domain_the_filter_passes_mail_on(signing: Machine, header: str) -> None:
    (signing.root / "etc/dkimpipe/senders").write_text(header + SENDERS.splitlines(keepends=True)[1])
    done = setup(signing, "--remove", "example.com")
    assert senders(signing) == "# who    what to add\n"
    signing.shell("touch -d @0 /etc/dkimpipe/senders")
    assert UNSIGNED in trial(signing, "a@other.example")
    assert (
        "\n# this was the last entry: Postfix still passes mail to the filter, which signs none of it\n"
        "# to take the filter out of Postfix: dkimpipe setup --remove\n"
    ) in done.stdout
    assert setup(signing, "--remove").status == 0
    assert "/etc/dkimpipe/senders" not in listing(signing)


@pytest.mark.parametrize("lost", ["", "rm /etc/dkimpipe/senders"], ids=["empty", "missing"])
def test_the_next_domain_is_signed_at_once_as_the_first_was(signing: Machine, lost: str) -> None:
    setup(signing, "--remove", "example.com")
    signing.shell(lost)
    done = setup(signing, "example.org", "--selector", "s1")
    assert (done.status, senders(signing)) == (0, SENDERS.replace("example.com", "example.org"))
    signing.shell("touch -d @0 /etc/dkimpipe/senders")
    assert "dkimpipe: signed d=example.org s=s1 " in trial(signing, "a@example.org")


IN_USE = "dkim(d=example.com,s=s1,key=/etc/dkimpipe/keys/example.com.s1.pem)"
OTHERS = {
    "none": ("", "root"),
    "another entry": (f"x.example  {IN_USE}\n", "dkimpipe"),
    "a pattern of keys": ("x.example  dkim(s=s1,key=/etc/dkimpipe/keys/$domain.s1.pem)\n", "dkimpipe"),
    "a domain that begins with it": (f"example.com.example  {IN_USE}\n", "dkimpipe"),
}


@pytest.mark.parametrize(("others", "group"), OTHERS.values(), ids=OTHERS)
def test_its_key_is_kept_from_the_filter_unless_another_entry_uses_it(
    signing: Machine, others: str, group: str
) -> None:
    (signing.root / "etc/dkimpipe/senders").write_text(SENDERS + others)
    done = setup(signing, "--remove", "example.com")
    assert (f"# /{KEY} is kept\n" in done.stdout) == (group == "root")
    assert f"-r--r----- root:{group} /{KEY}\n" in listing(signing)


def test_the_key_of_a_domain_without_an_entry_is_named(signing: Machine) -> None:
    signing.shell(f"{DKIMPIPE} genkey example.org --selector s1 --group dkimpipe")
    assert steps(setup(signing, "--remove", "example.org")) == [
        "# /etc/dkimpipe/keys/example.org.s1.pem is kept",
        "# make it readable for root only",
        "chown root:root /etc/dkimpipe/keys/example.org.s1.pem",
    ]


def test_postfix_is_as_before_octet_for_octet(removed: State, machine: Machine) -> None:
    assert postfix_files(removed.machine) == postfix_files(machine)


@pytest.mark.parametrize("path", ["etc/passwd", "etc/shadow", "etc/group", "etc/gshadow"])
def test_the_user_is_gone(removed: State, machine: Machine, path: str) -> None:
    assert (removed.machine.root / path).read_text() == (machine.root / path).read_text()


def test_the_keys_stay_for_root_only(removed: State) -> None:
    assert listing(removed.machine) == (
        "drwxr-xr-x root:root /etc/dkimpipe\n"
        "drwxr-x--- root:root /etc/dkimpipe/keys\n"
        "-r--r----- root:root /etc/dkimpipe/keys/example.com.s1.pem\n"
    )


def test_the_state_of_rotation_stays_for_root_only(signing: Machine) -> None:
    """Its group is that of the keys' directory, which is removed."""
    signing.shell("cd /etc/dkimpipe/keys && echo {} >rotation.json && chmod 640 rotation.json")
    signing.shell("chown root:dkimpipe /etc/dkimpipe/keys/rotation.json")
    done = setup(signing, "--remove")
    assert (done.status, "# /etc/dkimpipe/keys/rotation.json is kept\n" in done.stdout) == (0, True)
    assert "\n-rw-r----- root:root /etc/dkimpipe/keys/rotation.json\n" in listing(signing)


def test_the_command_is_no_longer_in_path(first: State, removed: State) -> None:
    link = "usr/local/bin/dkimpipe"
    assert first.machine.changes()[link].content == b"/opt/dkimpipe/bin/dkimpipe"
    assert "\nrm /usr/local/bin/dkimpipe\n" in removed.done.stdout
    assert link not in removed.machine.changes()


@pytest.mark.parametrize("there", ["cp /bin/true", "ln -s /bin/true", "ln -s /nowhere"])
def test_another_program_of_this_name_stays(machine: Machine, there: str) -> None:
    machine.shell(f"{there} /usr/local/bin/dkimpipe")
    before = machine.changes()["usr/local/bin/dkimpipe"]
    done = setup(machine, "example.com")
    assert "is not this program, and is left unchanged: run /opt/dkimpipe/bin/dkimpipe\n" in done.stdout
    assert "\n    /opt/dkimpipe/bin/dkimpipe check --dns\n" in done.stdout
    setup(machine, "--remove")
    assert machine.changes()["usr/local/bin/dkimpipe"] == before


def test_a_program_that_others_can_change_is_not_put_into_path(machine: Machine) -> None:
    machine.shell("chmod 777 /opt/dkimpipe/bin")
    done = setup(machine, "example.com")
    assert "# others can change /opt/dkimpipe/bin/dkimpipe: there is no link to it in" in done.stdout
    assert "usr/local/bin/dkimpipe" not in machine.changes()


def test_the_keys_are_named(removed: State) -> None:
    assert "# /etc/dkimpipe/keys/example.com.s1.pem is kept\n" in removed.done.stdout


def test_removing_it_twice_is_harmless(removed: State) -> None:
    with Machine(removed.files) as machine:
        before = machine.changes()
        done = setup(machine, "--remove")
        assert machine.changes() == before
        assert (done.status, done.stdout.splitlines()[-1], done.stderr) == (0, "nothing to do", "")


def test_set_up_again_it_uses_the_key_that_is_there(first: State, removed: State) -> None:
    with Machine(removed.files) as machine:
        done = setup(machine, "example.com", "--selector", "s1")
        assert (done.status, done.stderr) == (0, "")
        assert printed_records(done) == printed_records(first.done)
        assert listing(machine) == LISTING


def test_lines_written_by_hand_stay(signing: Machine) -> None:
    by_hand = (
        "# who    what to add\n"
        "; ours\n"
        "example.net  dkim(s=x,key=/etc/dkimpipe/keys/x.pem)\n"
        "edited.example  dkim(c=simple,s=s1,key=/etc/dkimpipe/keys/edited.example.s1.pem)\n"
        "elsewhere.example  dkim(s=s1,key=/root/elsewhere.example.s1.pem)\n"
        "two.example  dkim(s=s1,key=/etc/dkimpipe/keys/two.example.s1.pem),\n"
        "             dkim(s=s2,key=/root/two.example.s2.pem)\n"
        ".  dkim(d=example.com,s=s1,key=/etc/dkimpipe/keys/example.com.s1.pem)\n"
    )
    ours = SENDERS.splitlines(keepends=True)[1]
    (signing.root / "etc/dkimpipe/senders").write_text(by_hand.replace("; ours\n", f"; ours\n{ours}"))
    assert setup(signing, "--remove").status == 0
    assert senders(signing) == by_hand


def test_a_line_of_an_earlier_version_is_removed(signing: Machine) -> None:
    signing.shell("sed -i 's/c=relaxed.relaxed,//' /etc/dkimpipe/senders")
    assert "dkim(s=s1,key=" in senders(signing)
    assert setup(signing, "--remove").status == 0
    assert not (signing.root / "etc/dkimpipe/senders").exists()


LINE = "dkimpipe unix - n n - 4 pipe flags=q null_sender= user={} argv=/opt/dkimpipe/bin/dkimpipe"
NOT_OURS = {
    "nobody": f"postconf -M 'dkimpipe/unix={LINE.format('nobody')}'",
    "dkimpipe": "useradd --system --user-group --home-dir /nonexistent --shell /usr/sbin/nologin dkimpipe",
    "signer": f"useradd --system signer; postconf -M 'dkimpipe/unix={LINE.format('signer')}'",
}


@pytest.mark.parametrize(("user", "script"), NOT_OURS.items(), ids=NOT_OURS)
def test_a_user_that_setup_did_not_make_stays(machine: Machine, user: str, script: str) -> None:
    machine.shell(script)
    assert setup(machine, "--remove").status == (0 if user == "dkimpipe" else 78)
    assert f"\n{user}:" in (machine.root / "etc/passwd").read_text()


def test_as_long_as_another_instance_runs_the_filter_nothing_is_removed(signing: Machine) -> None:
    signing.shell("cp -a /etc/postfix /etc/postfix2 && rm -r /etc/postfix2/dkimpipe-backup-*")
    signing.shell("postconf -e multi_instance_directories=/etc/postfix2")
    for directory, other in (("/etc/postfix", "/etc/postfix2"), ("/etc/postfix2", "/etc/postfix")):
        before = signing.changes()
        assert setup(signing, "-c", directory, "--remove") == Done(
            78,
            "",
            f"dkimpipe: {other}/master.cf still runs the filter, and was not changed by setup\n"
            f"hint: dkimpipe postfix -c {other} --revert, or remove the service by hand\n",
        )
        assert signing.changes() == before


def test_a_domain_whose_line_somebody_edited_is_named(signing: Machine) -> None:
    path = signing.root / "etc/dkimpipe/senders"
    path.write_text(path.read_text().replace("example.com  ", "example.com\t"))
    assert setup(signing, "--remove", "example.com").stdout == (
        "# the entry of example.com was not written by setup: remove it from /etc/dkimpipe/senders by hand\n"
        "nothing to do\n"
    )
