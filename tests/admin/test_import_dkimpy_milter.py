"""dkimpy-milter's configuration in our terms."""

from __future__ import annotations

from pathlib import Path

import pytest

from dkimpipe.admin.migration import dkimpy_milter
from dkimpipe.admin.migration.foreign import CHANGED, LOST, SAME, Foreign
from dkimpipe.errors import ConfigError

ONE = "Domain example.com\nSelector mail\nKeyFile /k/rsa\n"
TABLES = "KeyTable TABLES/keys\nSigningTable refile:TABLES/senders\n"
# As in dkimpy-milter's README, COMPLEX SIGNING CONFIGURATIONS.
KEYS = (
    "preskey\texample.com:foo:/k/president\ncomkey\texample.com:bar:/k/excom\n"
    "# one more\nnetkey  example.net:baz:/k/exnet\nany  %:s:/k/any\n"
)
SENDERS = "president@example.com preskey\n*@example.com comkey\n*@example.net netkey\n"

# The conf file, the senders in the table, and the rules.
READ = {
    "one domain": (ONE, "", ["*@example.com: d=example.com s=mail /k/rsa"]),
    "subdomains": (f"{ONE}SubDomains yes\n", "", ["example.com: d=example.com s=mail /k/rsa"]),
    "both types of keys": (
        f"{ONE}SelectorEd25519 ed\nKeyFileEd25519 /k/ed\n",
        "",
        ["*@example.com: d=example.com s=mail /k/rsa, d=example.com s=ed /k/ed"],
    ),
    "several domains": (
        "Domain csl:example.com\nDomain example.com, example.net # both\nSelector s\nKeyFile /k\n",
        "",
        ["*@example.com: d=example.com s=s /k", "*@example.net: d=example.net s=s /k"],
    ),
    "domains in a file": (
        "Domain TABLES/domains\nSelector s\nKeyFile /k\n",
        "",
        ["*@example.com: d=example.com s=s /k", "*@example.org: d=example.org s=s /k"],
    ),
    "tables": (
        TABLES,
        SENDERS,
        [
            "president@example.com: d=example.com s=foo /k/president",
            "*@example.com: d=example.com s=bar /k/excom",
            "*@example.net: d=example.net s=baz /k/exnet",
        ],
    ),
    "tables of both types": (
        f"{TABLES}KeyTableEd25519 TABLES/ed\n",
        "*@example.com comkey\n",
        ["*@example.com: d=example.com s=bar /k/excom, d=example.com s=ed /k/ed"],
    ),
    "the sender's domain": (
        TABLES,
        "*@example.org any\n*.example.org any\n% any\n",
        [
            "*@example.org: d=example.org s=s /k/any",
            "*@*.example.org: d=$senderdomain s=s /k/any",
            ".: d=$senderdomain s=s /k/any",
        ],
    ),
    "identities": (
        TABLES,
        "*@example.com %:comkey\na@example.com boss@example.com:comkey\n*@example.net x@example.org:netkey\n",
        [
            "a@example.com: d=example.com s=bar /k/excom i=boss@example.com",
            "*@example.com: d=example.com s=bar /k/excom i=@example.com",
            "*@example.net: d=example.net s=baz /k/exnet",
        ],
    ),
    "a table of senders, and one key": (
        "SigningTable TABLES/senders\nSelector s\nKeyFile /k\n",
        "a@example.com x\n",
        ["a@example.com: d=example.com s=s /k"],
    ),
}

# Further lines of the conf file, and the remark on the last of them.
SETTINGS = {
    "user": ("UserID dkimpy-milter", (SAME, "UserID: dkimpipe postfix runs the filter as a user of its own")),
    "verification": ("AuthservID HOSTNAME", (SAME, "AuthservID: for verification; dkimpipe verify has"
         " settings of its own")),
    "internal hosts": (
        "InternalHosts 0.0.0.0/0", (SAME, "InternalHosts: it prevents verification only: see Domain for"
         " what is signed"),
    ),
    "macros": (
        "MacroListVerify daemon_name|VERIFYING",
        (CHANGED, "MacroListVerify: which services sign is a setting of Postfix: dkimpipe postfix --sign"),
    ),
    "mode": (
        "Mode sv", (CHANGED, "Mode: mail from outside is verified, too: dkimpipe postfix --verify --apply"),
    ),
    "unknown": ("OversignHeaders From", (LOST, "OversignHeaders: unknown to dkimpipe; dkimpy-milter 1.2"
         " ignores it")),
    "another case": ("selector x", (LOST, "selector: unknown to dkimpipe; dkimpy-milter 1.2 ignores it")),
    "no value": ("KeyFileEd25519", (SAME, "KeyFileEd25519: no value: it is ignored")),
    "header without From": (
        "SignHeaders to,subject",
        (CHANGED, "SignHeaders: without From, dkimpy-milter signs nothing; here From is signed, too"),
    ),
    "header added after signing": (
        "SignHeaders from,return-path",
        (CHANGED, "SignHeaders: return-path is not oversigned: the program that delivers the mail adds it,"
         " and the signature fails then"),
    ),
    "header that changes": (
        "SignHeaders from,received",
        (SAME, "SignHeaders: received is signed, as today, which may be changed or removed on the way"
         " (RFC 6376 section 5.4)"),
    ),
    "not a domain": (
        "Domain example.com,*.example.net",
        (SAME, "Domain: *.example.net is not a domain in lower case: it fits no sender"),
    ),
}  # fmt: skip

# A line of SigningTable, and the remark on it.
ROWS = {
    "bare domain": ("example.com comkey", (SAME, "SigningTable: example.com: it fits no address:"
         " *@example.com would")),
    "two asterisks": ("*@*.example.com comkey", (SAME, "SigningTable: *@*.example.com: it fits no"
         " address: only one asterisk"
     " is a pattern")),
    "end of a domain": ("*example.com comkey", (LOST, "SigningTable: *example.com: there is no"
         " equivalent; add an entry for"
     " each domain")),
    "part of a local part": (
        "a*@example.com comkey",
        (LOST, "SigningTable: a*@example.com: part of an address cannot choose an entry; add an entry"
         " for each address"),
    ),
    "three words": (
        "*@example.com a@example.com comkey",
        (SAME, "SigningTable: *@example.com: its line has not two words: dkimpy-milter ignores it"),
    ),
    "no such key": (
        "*@example.com x", (SAME, "SigningTable: x in KeyTable is not there: dkimpy-milter fails with"
         " such mail today"),
    ),
    "everybody first": (
        "% any\n*@example.com comkey",
        (CHANGED, "SigningTable: % fits everybody, and comes before other lines; here the most"
         " particular applies"),
    ),
}  # fmt: skip


def read(directory: Path, text: str, senders: str = "") -> Foreign:
    """Return what a conf file says, with tables in TABLES."""
    files = {
        "keys": KEYS,
        "ed": "comkey example.com:ed:/k/ed\n",
        "senders": senders,
        "domains": "# ours\nexample.com:example.org\n\n",
        "conf": text.replace("TABLES", str(directory)),
    }
    for name, content in files.items():
        (directory / name).write_text(content)
    return dkimpy_milter.read(directory / "conf")


@pytest.mark.parametrize(("text", "senders", "rules"), READ.values(), ids=READ)
def test_rules(tmp_path: Path, text: str, senders: str, rules: list[str]) -> None:
    foreign = read(tmp_path, text, senders)
    lines = []
    for rule in foreign.rules:
        signatures = []
        for each in rule.signatures:
            options = [f" {name}={value}" for name, value in each.options]
            signatures.append(f"d={each.domain} s={each.selector} {each.keyfile}{''.join(options)}")
        lines.append(f"{rule.key}: {', '.join(signatures)}")
    assert lines == rules


@pytest.mark.parametrize(("text", "remark"), SETTINGS.values(), ids=SETTINGS)
def test_setting(tmp_path: Path, text: str, remark: tuple[str, str]) -> None:
    foreign = read(tmp_path, f"{ONE}{text}\n")
    assert remark in [(each.effect, each.text) for each in foreign.remarks if each.place.line == 4]


@pytest.mark.parametrize(("rows", "remark"), ROWS.values(), ids=ROWS)
def test_row_of_a_table(tmp_path: Path, rows: str, remark: tuple[str, str]) -> None:
    foreign = read(tmp_path, TABLES, rows)
    path = str(tmp_path / "senders")
    found = [(each.effect, each.text) for each in foreign.remarks if each.place.path == path]
    assert found == [remark]


def test_file_of_the_package(tmp_path: Path) -> None:
    text = "Syslog yes\nUMask 007\n# Domain example.com\nPidFile /run/dkimpy-milter/x.pid\nUserID x\n"
    foreign = read(tmp_path, text)
    assert (foreign.rules, foreign.kinds, foreign.directives) == ([], [], {})
    assert foreign.milters == ["unix:/var/run/dkimpy-milter/dkimpy-milter.sock"]
    assert foreign.remarks[-1][1:] == (SAME, "neither Domain nor SigningTable: dkimpy-milter signs nothing")


def test_what_is_not_set(tmp_path: Path) -> None:
    foreign = read(tmp_path, ONE)
    assert {name: value for name, (value, _) in foreign.directives.items()} == {
        "match": "from",
        "dkim_method": "relaxed/simple",
    }
    assert foreign.kinds == ["submission", "networks", "local"]
    assert [each[1:] for each in foreign.remarks] == [
        (CHANGED, "Mode: mail from outside is verified, too: dkimpipe postfix --verify --apply"),
        (CHANGED, "SignHeaders: not set: dkimpy's list of fields is signed today, of which it oversigns"
         " From; here"
         " dkimpipe's, of which most are oversigned"),
        (CHANGED, "Domain: mail with such a From is signed today wherever it comes from, even from"
         " strangers; here"
         " if the client logged in or is in mynetworks"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "method"),
    [("simple", "simple/simple"), ("Relaxed/relaxed", "relaxed/relaxed"), ("a / b", "a/b")],
)
def test_canonicalization(tmp_path: Path, text: str, method: str) -> None:
    assert read(tmp_path, f"{ONE}Canonicalization {text}\n").directives["dkim_method"][0] == method


def test_headers(tmp_path: Path) -> None:
    foreign = read(tmp_path, f"{ONE}SignHeaders From,to,Subject,from\n")
    assert foreign.rules[0].signatures[0].options == (("h", "from:to:subject:from"),)


@pytest.mark.parametrize(
    ("text", "milter"),
    [
        ("inet:8892@localhost", "inet:localhost:8892"),
        ("inet:8892", "inet:localhost:8892"),
        ("local:/run/x.sock", "unix:/run/x.sock"),
        ("/run/x.sock", "unix:/run/x.sock"),
    ],
)
def test_socket(tmp_path: Path, text: str, milter: str) -> None:
    assert read(tmp_path, f"{ONE}Socket {text}\n").milters == [milter]


def test_only_verifies(tmp_path: Path) -> None:
    foreign = read(tmp_path, f"{ONE}Mode v\n")
    assert foreign.rules == []
    assert foreign.remarks[-1][1:] == (SAME, "Mode: dkimpy-milter only verifies: it signs nothing")


def test_conf_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        dkimpy_milter.read(tmp_path / "conf")
    assert str(refused.value) == f"{tmp_path}/conf: No such file or directory"


def test_table_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, "SigningTable TABLES/missing\n")
    assert str(refused.value) == f"{tmp_path}/missing: No such file or directory"
