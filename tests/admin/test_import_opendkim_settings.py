"""``dkimpipe import opendkim``: each setting, each form of a data set, and what becomes of it."""

from __future__ import annotations

import base64
import gzip
import itertools
import re
import subprocess
from pathlib import Path

import pytest
from conftest import Keys, write_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.hazmat.primitives.serialization import load_pem_private_key as load
from milterclient import added_fields
from opendkim import CONF, NEEDED, OF_THIS_HOST, PROGRAM, Shape, listening, run_import

from dkimpipe.admin.migration.compare import by_opendkim
from dkimpipe.admin.migration.files import Files, files
from dkimpipe.admin.migration.foreign import CHANGED, LOST, SAME, Foreign
from dkimpipe.admin.migration.opendkim import read
from dkimpipe.errors import ConfigError

MAN_PAGE = Path("/usr/share/man/man5/opendkim.conf.5.gz")
DOMAIN = "Mode s\nDomain example.com\nSelector s\nKeyFile DIR/s.pem\n"
NO_SIGN_HEADERS = "h=: no SignHeaders"


def made(directory: Path, keys: Keys, text: str, **more: str) -> tuple[Foreign, Files]:
    """Read a configuration, with further files beside it."""
    shape = Shape({CONF: text, **more}, {"s.pem": "rsa2048"})
    foreign = read(shape.write(directory, keys))
    return foreign, files(foreign, Path("/ours"))


def remarks(foreign: Foreign, directory: Path) -> list[str]:
    """Return the remarks, but for that on fields which each configuration without SignHeaders gets.

    A host on which OpenDKIM is installed has one about its own configuration.
    """
    skipped = (NO_SIGN_HEADERS, OF_THIS_HOST)
    kept = [each for each in foreign.remarks if not each.text.startswith(skipped)]
    return [f"{each.effect}: {each.place}: {each.text}".replace(f"{directory}/", "") for each in kept]


def entries(text: str) -> list[str]:
    """Return the entries of a senders file, without comments and the paths of keys."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return [re.sub(r"key=/ours/keys/", "key=", line) for line in lines]


@pytest.mark.skipif(not MAN_PAGE.exists(), reason="needs Debian's package opendkim")
def test_each_setting_of_the_manual_is_known(tmp_path: Path, keys: Keys) -> None:
    page = gzip.decompress(MAN_PAGE.read_bytes()).decode()
    names = re.findall(r"^\.I ([A-Za-z-]+) \(", page, re.MULTILINE)
    assert len(names) > 100
    skipped = {
        "Canonicalization",
        "Domain",
        "Selector",
        "KeyFile",
        "Mode",
        "Include",
        "KeyTable",
        "SigningTable",
    }
    text = DOMAIN + "".join(f"{name} csl:x\n" for name in names if name not in skipped)
    foreign, _ = made(tmp_path, keys, text)
    assert [each.text for each in foreign.remarks if "OpenDKIM 2.11 does not know it" in each.text] == []


# Further lines of a configuration, and the remarks.
SETTINGS = {
    "no effect": (
        "UserID opendkim\nLogWhy yes",
        [
            "same: opendkim.conf, line 5: UserID: the filter runs as user dkimpipe",
            "same: opendkim.conf, line 6: LogWhy: dkimpipe explain shows why",
        ],
    ),
    "in any case": ("umask 022", ["same: opendkim.conf, line 5: umask: there is no daemon"]),
    "off": ("RemoveOldSignatures no", ["same: opendkim.conf, line 5: RemoveOldSignatures: it is off"]),
    "twice": (
        "Selector t\nselector s",
        [
            "same: opendkim.conf, line 3: Selector: DIR/opendkim.conf, line 5 replaces it",
            "same: opendkim.conf, line 5: Selector: DIR/opendkim.conf, line 6 replaces it",
        ],
    ),
    "unknown": (
        "Foo bar",
        ["lost: opendkim.conf, line 5: Foo: OpenDKIM 2.11 does not know it, either, and does not start"],
    ),
    "body length": (
        "MaximumSignedBytes 1000",
        [
            "lost: opendkim.conf, line 5: MaximumSignedBytes: l= would let anybody append text to signed mail"
            " (RFC 6376 section 8.2); sign all"
        ],
    ),
    "script": (
        "SetupPolicyScript /etc/x.lua",
        [
            "lost: opendkim.conf, line 5: SetupPolicyScript: Lua scripts are not run;"
            " login= in an entry limits who may use a signature"
        ],
    ),
    "rsa-sha1": (
        "SignatureAlgorithm rsa-sha1",
        [
            "changed: opendkim.conf, line 5: SignatureAlgorithm: verifiers refuse rsa-sha1 (RFC 8301);"
            " here rsa-sha256, with the same key"
        ],
    ),
    "verifier": (
        "Mode sv",
        [
            "same: opendkim.conf, line 1: Mode: DIR/opendkim.conf, line 5 replaces it",
            "changed: opendkim.conf, line 5: Mode: mail from outside is verified, too:"
            " dkimpipe postfix --verify --apply",
        ],
    ),
    "sender fields": (
        "SenderHeaders Resent-From,From",
        [
            "lost: opendkim.conf, line 5: SenderHeaders: resent-from cannot choose an entry;"
            " From and Sender can"
        ],
    ),
    "smallest key": (
        "MinimumKeyBits 4096",
        [
            "changed: opendkim.conf, line 5: MinimumKeyBits: mail with a smaller key is rejected today;"
            " here it is signed"
        ],
    ),
    "selector in upper case": (
        "selector S",
        [
            "same: opendkim.conf, line 3: Selector: DIR/opendkim.conf, line 5 replaces it",
            "same: opendkim.conf, line 4: s=S: in lower case from now on, which is the same in DNS",
        ],
    ),
    "no field": (
        "OversignHeaders From To",
        ["same: opendkim.conf, line 5: OversignHeaders: from to is not the name of a header field"],
    ),
}


@pytest.mark.parametrize(("text", "expected"), SETTINGS.values(), ids=SETTINGS)
def test_what_becomes_of_a_setting_is_said(
    tmp_path: Path, keys: Keys, text: str, expected: list[str]
) -> None:
    foreign, _ = made(tmp_path, keys, f"{DOMAIN}{text}\n")
    assert remarks(foreign, tmp_path) == [line.replace("DIR/", "") for line in expected]


# The value of SigningTable, and why it is not read.
ELSEWHERE = {
    "dsn:mysql://u:p@3306+h/d/table=t?keycol=k?datacol=v": "an SQL database",
    "ldap://localhost/dc=x": "an LDAP directory",
    "ldaps://localhost/dc=x": "an LDAP directory",
    "db:/etc/x": "a Berkeley DB file",
    "/etc/x.db": "a Berkeley DB file",
    "lua:/etc/x.lua": "a Lua script",
    "erlang:a@b:c:d:e": "an Erlang function",
    "memcache:localhost/x": "a memcached server",
}


@pytest.mark.parametrize("value", ELSEWHERE)
def test_a_data_set_that_is_elsewhere_is_lost(tmp_path: Path, keys: Keys, value: str) -> None:
    foreign, written = made(tmp_path, keys, f"Mode s\nKeyTable csl:k=a:b:/c\nSigningTable {value}\n")
    assert remarks(foreign, tmp_path) == [
        f"lost: opendkim.conf, line 3: SigningTable is in {ELSEWHERE[value]}, which is not read;"
        " write what is in it into a file, or into the senders file"
    ]
    assert written.keys == ()


_ALSO = (
    CHANGED,
    "InternalHosts: without a login, only mail from clients that are also in mynetworks is signed",
)
# InternalHosts, in a file; sign_clients; whether local mail is signed; and the remarks.
HOSTS = {
    "this host": ("127.0.0.1\n", "authenticated,127.0.0.1", True, []),
    "by name": ("localhost\n[::1]\n", "authenticated,127.0.0.1,::1", True, []),
    "networks": ("10.0.0.0/8\n192.0.2.1 # x\n", "authenticated,10.0.0.0/8,192.0.2.1", False, [_ALSO]),
    "all": (
        "0.0.0.0/0\n",
        "authenticated,mynetworks",
        True,
        [
            (
                CHANGED,
                "InternalHosts: mail from anywhere is signed today, also from strangers;"
                " here from mynetworks",
            )
        ],
    ),
    "without one": (
        "127.0.0.1\n10.0.0.0/30\n!10.0.0.1\n",
        "authenticated,10.0.0.0,10.0.0.2/31,127.0.0.1",
        True,
        [_ALSO],
    ),
    "one of a network without": (
        "10.0.0.0/31\n!10.0.0.0/30\n10.0.0.1\n",
        "authenticated,10.0.0.0/31",
        False,
        [_ALSO],
    ),
    "bits after the prefix": (
        "127.0.0.1\n192.168.0.1/24\n",
        "authenticated,127.0.0.1",
        True,
        [
            (
                SAME,
                "InternalHosts: 192.168.0.1/24: it fits no client, since it has bits after the prefix:"
                " 192.168.0.0/24 would",
            )
        ],
    ),
    "name of a client": (
        "127.0.0.1\nmail.example.com\n",
        "authenticated,mynetworks,127.0.0.1",
        True,
        [
            (
                CHANGED,
                "InternalHosts: mail.example.com: clients are not looked up by name: instead, mail from"
                " mynetworks is signed",
            )
        ],
    ),
    "pattern that is none": (
        "127.0.0.1\n*.example.com\n",
        "authenticated,127.0.0.1",
        True,
        [(SAME, "InternalHosts: *.example.com: without refile: it fits no host")],
    ),
    "nothing": ("", "authenticated", False, []),
}


@pytest.mark.parametrize("name", HOSTS)
def test_internal_hosts_become_sign_clients(tmp_path: Path, keys: Keys, name: str) -> None:
    hosts, clients, is_local, expected = HOSTS[name]
    foreign, _ = made(tmp_path, keys, f"{DOMAIN}InternalHosts DIR/hosts\n", hosts=hosts)
    assert foreign.directives["sign_clients"][0] == clients
    assert ("local" in foreign.kinds) == is_local
    found = [each for each in foreign.remarks if each.text.startswith("InternalHosts")]
    assert [(each.effect, each.text) for each in found] == expected


def test_a_peer_is_not_a_client(tmp_path: Path, keys: Keys) -> None:
    foreign, _ = made(tmp_path, keys, f"{DOMAIN}InternalHosts 10.0.0.0/30\nPeerList 10.0.0.0/31\n")
    assert foreign.directives["sign_clients"][0] == "authenticated,10.0.0.2/31"


# The fields, and h= of the entry.
FIELDS = {
    "nothing": ("", ""),
    "From oversigned": ("OversignHeaders From", ""),
    "oversigned": ("OversignHeaders From,Subject", ",h=++subject"),
    "a list": ("SignHeaders To,Subject", ",h=-*:+from:+to:+subject"),
    "a list, oversigned": (
        "SignHeaders From,To\nOversignHeaders From,Cc",
        ",h=-*:++from:+to:++cc",
    ),
    "without one": ("SignHeaders To,Subject\nOmitHeaders subject,from", ",h=-*:+from:+to"),
    "OmitHeaders by default": (
        "SignHeaders From,To,Received,Return-Path,Comments,Keywords,Bcc",
        ",h=-*:+from:+to:+bcc",
    ),
    "none omitted": ("SignHeaders To,Comments\nOmitHeaders .", ",h=-*:+from:+to:+comments"),
    "others omitted": ("SignHeaders To,Comments,X-A\nOmitHeaders X-*", ",h=-*:+from:+to:+comments"),
    "more omitted": ("SignHeaders To,Comments,Cc\nOmitHeaders *,+Cc", ",h=-*:+from:+to"),
    "fewer omitted": (
        "SignHeaders To,Comments,Keywords\nOmitHeaders *,-Comments",
        ",h=-*:+from:+to:+comments",
    ),
    "oversigned, and added later": ("OversignHeaders Received,Return-Path,Subject", ",h=++subject"),
    "lifetime": ("SignatureTTL 3600", ",x=3600"),
}


@pytest.mark.parametrize(("text", "options"), FIELDS.values(), ids=FIELDS)
def test_fields_become_h(tmp_path: Path, keys: Keys, text: str, options: str) -> None:
    _, written = made(tmp_path, keys, f"{DOMAIN}{text}\n")
    assert entries(written.senders) == [f"*@example.com  dkim(s=s,key=example.com.s.pem{options})"]


_UNSTABLE = "which may be changed or removed on the way (RFC 6376 section 5.4)"
# The fields, and the remarks on those that mail servers add, change or remove.
HARMFUL = {
    "SignHeaders To,Received": [],
    "SignHeaders To,Received\nOmitHeaders .": [
        f"same: opendkim.conf, line 5: SignHeaders: received is signed, as today, {_UNSTABLE}"
    ],
    "OmitHeaders *,-keywords\nSignHeaders *,+Keywords,+Bcc": [
        f"same: opendkim.conf, line 6: SignHeaders: keywords is signed, as today, {_UNSTABLE}",
        "same: opendkim.conf, line 6: SignHeaders: bcc is signed, as today, which Postfix removes",
    ],
    "SignHeaders To,X-*": [
        "lost: opendkim.conf, line 5: SignHeaders: x-*: a pattern is not the name of a field; list the fields"
        " in h="
    ],
    "OversignHeaders Received,Delivered-To,From": [
        "changed: opendkim.conf, line 5: OversignHeaders: received is not oversigned: Postfix adds one after"
        " signing, so the signature fails",
        "changed: opendkim.conf, line 5: OversignHeaders: delivered-to is not oversigned: the program that"
        " delivers the mail adds it, and the signature fails then",
    ],
}


@pytest.mark.parametrize(("text", "expected"), HARMFUL.items(), ids=HARMFUL)
def test_harmful_fields_are_remarked(tmp_path: Path, keys: Keys, text: str, expected: list[str]) -> None:
    foreign, _ = made(tmp_path, keys, f"{DOMAIN}{text}\n")
    assert [line for line in remarks(foreign, tmp_path) if ": h=: " not in line] == expected


SIGN = (
    "",
    "From,To,Received,Return-Path,Comments,Keywords,Bcc,Resent-Bcc,Subject,X-Foo",
    "*,+X-Foo,+Received,-To",
)
OMIT = ("", ".", "*", "Subject", "X-*", "*,+subject,-received", "Comments,X-Foo")
LETTER = "".join(
    f"{name}: a@example.com\n"
    for name in "From To Received Return-Path Comments Keywords Bcc Resent-Bcc Subject X-Foo Date".split()
)


@NEEDED
@pytest.mark.parametrize(
    ("sign", "omit"), [each for each in itertools.product(SIGN, OMIT) if any(each)], ids=repr
)
def test_opendkim_signs_the_same_fields(tmp_path: Path, keys: Keys, sign: str, omit: str) -> None:
    lines = [f"{name} {value}\n" for name, value in (("SignHeaders", sign), ("OmitHeaders", omit)) if value]
    conf = Shape({CONF: DOMAIN + "".join(lines)}, {"s.pem": "rsa2048"}).write(tmp_path, keys)
    (tmp_path / "m.eml").write_text(f"{LETTER}\nHello.\n")
    done = run_import(conf, "--compare", tmp_path / "m.eml")
    assert done.status == 0, done
    (line,) = done.stdout.decode().splitlines()[:-1]
    added = {"+from", "+to", "+subject", "+date"}  # once more than OpenDKIM
    assert line.startswith(f"{tmp_path}/m.eml: same: d=example.com s=s c=simple/simple; h= ")
    assert set(line.partition("; h= ")[2].split()) <= added, line


# A SigningTable with patterns; the entries; the remarks.
TABLES = {
    "no pattern": (
        "example.com k\n",
        [],
        [
            "same: table, line 1: SigningTable: example.com: with refile: it fits no address:"
            " *@example.com would"
        ],
    ),
    "part of a local part": (
        "b*@example.com k\n",
        [],
        [
            "lost: table, line 1: SigningTable: b*@example.com: part of an address cannot choose an entry;"
            " add an entry for each address"
        ],
    ),
    "regular expression": (
        "(a|b)@example.com k\n",
        [],
        [
            "lost: table, line 1: SigningTable: (a|b)@example.com: it is a regular expression, for which"
            " there is no equivalent; add an entry for each address"
        ],
    ),
    "too wide": (
        "*example.com k\n",
        ["example.com  dkim(s=s,key=example.com.s.pem)"],
        [
            "changed: table, line 1: SigningTable: *example.com: it also fits domains such as"
            " evilexample.com; here example.com and its subdomains only"
        ],
    ),
    "indented": (
        "  *@example.com k\n",
        [],
        [
            "same: table, line 1: SigningTable: the line begins with white space: OpenDKIM takes the"
            " pattern as empty"
        ],
    ),
    "hidden": (
        "*@example.com k\na@example.com k\n",
        ["*@example.com  dkim(s=s,key=example.com.s.pem)"],
        ["same: table, line 2: SigningTable: a@example.com is never used: table, line 1 applies first"],
    ),
    "no key": (
        "*@example.com none\n",
        [],
        [
            "lost: table, line 1: SigningTable: *@example.com: KeyTable has no none: its mail is deferred"
            " today; here it is not signed"
        ],
    ),
    "identity": (
        "*@example.com k:x@sub.%\n",
        ["*@example.com  dkim(s=s,key=example.com.s.pem,i=x@sub.example.com)"],
        [],
    ),
    "identity without @": (
        "*@example.com k:%\n",
        ["*@example.com  dkim(s=s,key=example.com.s.pem)"],
        [
            "changed: table, line 1: SigningTable: *@example.com: i=% has no @: its mail is unsigned today;"
            " here it is signed"
        ],
    ),
    "identity elsewhere": (
        "*@example.org k:x@example.org\n",
        ["*@example.org  dkim(s=s,key=example.com.s.pem,d=example.com)"],
        [
            "same: table, line 1: SigningTable: *@example.org: i=x@example.org is not at or below"
            " d=example.com: left out, as today"
        ],
    ),
    "identity of the sender": (
        "*@*.example.com k:@%\n",
        ["*@*.example.com  dkim(s=s,key=example.com.s.pem,i=@$senderdomain)"],
        [],
    ),
    "address": (
        "A@example.com k\na+b@example.com k\n",
        [
            "a@example.com  dkim(s=s,key=example.com.s.pem)",
            "a+b@example.com  dkim(s=s,key=example.com.s.pem)",
        ],
        [
            "changed: table, line 1: SigningTable: A@example.com: a+extension@example.com has this signature"
            " from now on, too"
        ],
    ),
    "anybody": (
        "* k\n",
        [".  dkim(s=s,key=example.com.s.pem,d=example.com)"],
        [],
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_signing_table_becomes_entries(tmp_path: Path, keys: Keys, name: str) -> None:
    table, expected, said = TABLES[name]
    text = "Mode s\nKeyTable csl:k=example.com:s:DIR/s.pem\nSigningTable refile:DIR/table\n"
    foreign, written = made(tmp_path, keys, text, table=table)
    assert entries(written.senders) == expected
    found = [line.replace(f"{tmp_path}/", "") for line in remarks(foreign, tmp_path)]
    assert [line for line in found if "h=: " not in line] == said


def test_several_signatures_are_on_lines_of_their_own(tmp_path: Path, keys: Keys) -> None:
    text = (
        "Mode s\nMultipleSignatures yes\nKeyTable csl:a=example.com:a:DIR/s.pem,b=example.org:b:DIR/s.pem\n"
        "SigningTable refile:DIR/table\n"
    )
    _, written = made(tmp_path, keys, text, table="*@example.com a\n* b\n")
    assert entries(written.senders) == [
        "*@example.com  dkim(s=a,key=example.com.a.pem),",
        "    dkim(s=b,key=example.org.b.pem,d=example.org)",
        ".  dkim(s=b,key=example.org.b.pem,d=example.org)",
    ]


def test_a_key_in_the_table_itself_becomes_a_file(tmp_path: Path, keys: Keys) -> None:
    key = load(keys.path("rsa2048").read_bytes(), None)
    der = key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    (tmp_path / "keytable").write_text(f"k example.com:s:{base64.b64encode(der).decode()}\n")
    text = "Mode s\nKeyTable DIR/keytable\nSigningTable csl:example.com=k\n"
    _, written = made(tmp_path, keys, text)
    (file,) = written.keys
    assert (file.name, file.source) == ("example.com.s.pem", f"{tmp_path}/keytable, line 1")
    assert load(file.octets, None).private_numbers() == key.private_numbers()  # type: ignore[union-attr]


def test_all_keys_that_a_path_with_percent_can_mean_are_taken(tmp_path: Path, keys: Keys) -> None:
    for domain in ("example.com", "sub.example.org"):
        path = tmp_path / "keys" / domain / f"{domain}.s"
        path.parent.mkdir(parents=True)
        write_key(path, keys.path("rsa2048").read_bytes())
    (tmp_path / "keys/example.com/other.s").write_text("not of this name")
    text = "Mode s\nKeyTable csl:k=%:s:DIR/keys/%/%.s\nSigningTable csl:*=k\n"
    _, written = made(tmp_path, keys, text)
    assert [file.name for file in written.keys] == ["example.com.s.pem", "sub.example.org.s.pem"]
    assert entries(written.senders) == [".  dkim(s=s,key=$senderdomain.s.pem,d=$senderdomain)"]


_ONCE = (
    "changed: opendkim.conf, line 2: key: keys/$senderdomain.s: copied once; a key that is added there later"
    " has to be copied as $senderdomain.s.pem"
)
_DEFERRED = (
    "changed: opendkim.conf, line 2: KeyTable: k: mail of a domain without a key is deferred today; here"
    " it leaves"
    " unsigned, with a warning in the log"
)
_BAD = (
    "changed: opendkim.conf, line 2: key: {}: mail from bad.example is not signed until"
    " bad.example.s.pem is there"
)
# What the key of one of many domains contains, and the remark on it; None for a directory.
ONE_OF_MANY = {
    "not a key": ("garbage\n", "key file keys/bad.example.s contains no PEM block"),
    "a public key": (
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        "key file keys/bad.example.s contains a public key",
    ),
    "empty": ("", "key file keys/bad.example.s is empty"),
    "a directory": (None, "keys/bad.example.s: Is a directory"),
}


@pytest.mark.parametrize(("text", "fault"), ONE_OF_MANY.values(), ids=ONE_OF_MANY)
def test_a_bad_key_of_one_domain_leaves_the_others(
    tmp_path: Path, keys: Keys, text: str | None, fault: str
) -> None:
    (tmp_path / "keys").mkdir()
    write_key(tmp_path / "keys/example.com.s", keys.path("rsa2048").read_bytes())
    bad = tmp_path / "keys/bad.example.s"
    bad.mkdir() if text is None else bad.write_text(text)
    conf = "Mode s\nKeyTable csl:k=%:s:DIR/keys/%.s\nSigningTable csl:*=k\n"
    foreign, written = made(tmp_path, keys, conf)
    assert [file.name for file in written.keys] == ["example.com.s.pem"]
    assert entries(written.senders) == [".  dkim(s=s,key=$senderdomain.s.pem,d=$senderdomain)"]
    found = [line.replace(f"{tmp_path}/", "") for line in remarks(foreign, tmp_path)]
    deferred, one, once = (line for line in found if ": key: " in line or ": KeyTable: " in line)
    assert (deferred, once) == (_DEFERRED, _ONCE)
    assert one.startswith(_BAD.format(fault))


@pytest.mark.parametrize("text", ["garbage\n", ""])
@NEEDED
def test_opendkim_defers_mail_with_such_a_key(tmp_path: Path, keys: Keys, text: str) -> None:
    conf = Shape({CONF: "Mode s\nKeyTable csl:k=%:s:DIR/%.s\nSigningTable csl:*=k\n"}, {}).write(
        tmp_path, keys
    )
    (tmp_path / "m.eml").write_text("From: a@bad.example\n\nHello.\n")
    assert by_opendkim(conf, tmp_path / "m.eml") is None
    (tmp_path / "bad.example.s").write_text(text)
    assert by_opendkim(conf, tmp_path / "m.eml") is None


def test_where_all_keys_are_bad_the_entry_is_lost(tmp_path: Path, keys: Keys) -> None:
    (tmp_path / "a.example.s").write_text("garbage\n")
    foreign, written = made(tmp_path, keys, "Mode s\nKeyTable csl:k=%:s:DIR/%.s\nSigningTable csl:*=k\n")
    assert (written.keys, entries(written.senders)) == ((), [])
    assert f"key: key file {tmp_path}/a.example.s contains no PEM block" in [
        each.text.partition(";")[0] for each in foreign.remarks if each.effect == LOST
    ]


def test_one_of_many_keys_that_is_known_by_another_content(tmp_path: Path, keys: Keys) -> None:
    write_key(tmp_path / "example.com.s", keys.path("rsa4096").read_bytes())
    write_key(tmp_path / "example.org.s", keys.path("rsa4096").read_bytes())
    conf = "Mode s\nKeyTable csl:k=%:s:DIR/%.s,a=example.com:s:DIR/s.pem\nSigningTable refile:DIR/table\n"
    foreign, written = made(tmp_path, keys, conf, table="*@example.com a\n* k\n")
    assert [(file.name, file.source) for file in written.keys] == [
        ("example.com.s.pem", f"{tmp_path}/s.pem"),
        ("example.org.s.pem", f"{tmp_path}/example.org.s"),
    ]
    assert [each.text for each in foreign.remarks if each.effect == LOST] == [
        f"key: {tmp_path}/example.com.s is another key than {tmp_path}/s.pem, with the same domain and"
        f" selector;"
        " keep the one whose record is in DNS"
    ]


KEY_FAULTS = {
    "missing": (lambda path: path.unlink(), "key: KEY: No such file or directory"),
    "empty": (
        lambda path: path.write_text(""),
        "key: key file KEY is empty; restore the key of the published record from a backup, "
        "or export it again; a new key needs a new record: dkimpipe genkey DOMAIN",
    ),
}


@pytest.mark.parametrize("name", KEY_FAULTS)
def test_a_key_that_cannot_be_used_is_lost(tmp_path: Path, keys: Keys, name: str) -> None:
    damage, said = KEY_FAULTS[name]
    conf = Shape({CONF: DOMAIN}, {"s.pem": "rsa2048"}).write(tmp_path, keys)
    damage(tmp_path / "s.pem")  # type: ignore[no-untyped-call]
    foreign = read(conf)
    written = files(foreign, Path("/ours"))
    assert (written.keys, entries(written.senders)) == ((), [])
    lost = [each.text for each in foreign.remarks if each.effect == LOST]
    assert lost == [said.replace("KEY", f"{tmp_path}/s.pem")]


@pytest.mark.parametrize(("domain", "selector"), [("../x", "s"), ("example.com", "../s"), ("a b", "s")])
def test_names_that_lead_out_of_the_directory_of_keys_are_lost(
    tmp_path: Path, keys: Keys, domain: str, selector: str
) -> None:
    text = f"Mode s\nKeyTable csl:a={domain}:{selector}:DIR/s.pem\nSigningTable x.y=a\n"
    foreign, written = made(tmp_path, keys, text)
    assert (written.keys, entries(written.senders)) == ((), [])
    bad = selector if "/" in selector else domain
    assert [each.text for each in foreign.remarks if each.effect == LOST] == [
        f"key: '{bad}' cannot be part of a name in DNS"
    ]


def test_two_keys_of_one_name_are_a_fault(tmp_path: Path, keys: Keys) -> None:
    write_key(tmp_path / "t.pem", keys.path("rsa4096").read_bytes())
    text = (
        "Mode s\nKeyTable csl:a=example.com:s:DIR/s.pem,b=example.com:s:DIR/t.pem\n"
        "SigningTable a@x.y=a,x.y=b\n"
    )
    foreign, _ = made(tmp_path, keys, text)
    assert [each.text for each in foreign.remarks if each.effect == LOST] == [
        f"key: {tmp_path}/t.pem is another key than {tmp_path}/s.pem, with the same domain and selector;"
        " keep the one whose record is in DNS"
    ]


# A configuration with which OpenDKIM does not start, and the error.
REFUSED = {
    "no value": ("Domain\n", "opendkim.conf, line 1: Domain has no value: OpenDKIM does not start"),
    "no key table": (
        "SigningTable csl:a=b\n",
        "opendkim.conf, line 1: SigningTable without KeyTable: OpenDKIM does not start",
    ),
    "unknown canonicalization": (
        f"{DOMAIN}Canonicalization relaxed/nofws\n",
        "opendkim.conf, line 5: unknown Canonicalization: OpenDKIM does not start",
    ),
    "patterns for services": (
        f"{DOMAIN}MTA refile:DIR/{CONF}\n".replace("DIR/s.pem", "/k"),
        "opendkim.conf, line 5: MTA with refile: OpenDKIM does not start",
    ),
    "includes itself": (f"Include DIR/{CONF}\n", "opendkim.conf: more than 5 levels of Include"),
    "no such table": ("KeyTable DIR/x\nSigningTable DIR/y\n", "y: No such file or directory"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_where_opendkim_does_not_start_there_is_an_error(tmp_path: Path, keys: Keys, name: str) -> None:
    text, error = REFUSED[name]
    conf = Shape({CONF: text}, {"s.pem": "rsa2048"}).write(tmp_path, keys)
    with pytest.raises(ConfigError) as raised:
        read(conf)
    assert str(raised.value).replace(f"{tmp_path}/", "") == error
    if PROGRAM:
        assert subprocess.run([PROGRAM, "-n", "-x", conf], capture_output=True, check=False).returncode


# Lines of a configuration without a SigningTable, and whether it is said that OpenDKIM signs nothing.
WITHOUT_TABLE = {
    "KeyTable csl:a=b\nSetupPolicyScript /etc/x.lua\n": False,
    "KeyTable csl:a=b\n": True,
    "SetupPolicyScript /etc/x.lua\n": True,
    "Selector s\n": True,
}


@pytest.mark.parametrize(("text", "expected"), WITHOUT_TABLE.items())
def test_a_script_may_sign_with_a_key_table(tmp_path: Path, keys: Keys, text: str, expected: bool) -> None:
    foreign, _ = made(tmp_path, keys, f"Mode s\n{text}")
    lost = [each.text.partition(":")[0] for each in foreign.remarks if each.effect == LOST]
    assert any("signs nothing" in each.text for each in foreign.remarks) == expected
    assert ("SetupPolicyScript" in lost) == ("SetupPolicyScript" in text)


_ALL_CLIENTS = (
    "OpenDKIM signs all mail of services with this milter_macro_daemon_name, from any client; dkimpipe signs"
    " the mail of clients that log in or are in sign_clients"
)
_NO_MACROS = (
    "macros of the milter protocol do not exist here; login= in an entry limits who may use a signature"
)
# Settings on services, the names of these services, and the remarks.
DAEMON_NAMES = {
    "MTA ORIGINATING": (["ORIGINATING"], [(CHANGED, f"MTA: {_ALL_CLIENTS}")]),
    "MTA MSA,smtps": (["MSA", "smtps"], [(CHANGED, f"MTA: {_ALL_CLIENTS}")]),
    "MacroList daemon_name=MSA|ORIGINATING": (
        ["MSA", "ORIGINATING"],
        [(CHANGED, f"MacroList: daemon_name: {_ALL_CLIENTS}")],
    ),
    "MacroList x=1,daemon_name=A": (
        ["A"],
        [(LOST, f"MacroList: x: {_NO_MACROS}"), (CHANGED, f"MacroList: daemon_name: {_ALL_CLIENTS}")],
    ),
    "MacroList daemon_name = A | MSA": (
        ["A", "MSA"],
        [(CHANGED, f"MacroList: daemon_name: {_ALL_CLIENTS}")],
    ),
    "MacroList {daemon_name}=ORIGINATING": (
        [],
        [
            (
                SAME,
                "MacroList: {daemon_name}: without effect: with braces it is not the name of a macro",
            )
        ],
    ),
    "MacroList Daemon_Name=ORIGINATING": ([], [(LOST, f"MacroList: Daemon_Name: {_NO_MACROS}")]),
    "MacroList daemon_name": (
        [],
        [(LOST, f"MacroList: daemon_name: without a value, any is enough; {_NO_MACROS}")],
    ),
    "MTA ORIGINATING\nMacroList daemon_name=MSA": (
        ["MSA"],
        [
            (CHANGED, f"MacroList: daemon_name: {_ALL_CLIENTS}"),
            (SAME, "MTA: without effect: MacroList has daemon_name, and comes after it"),
        ],
    ),
    "MTA ORIGINATING\nMacroList x=1": (
        ["ORIGINATING"],
        [(LOST, f"MacroList: x: {_NO_MACROS}"), (CHANGED, f"MTA: {_ALL_CLIENTS}")],
    ),
    "MTA db:/x": ([], [(LOST, "MTA is in a Berkeley DB file, which is not read")]),
}


@pytest.mark.parametrize("text", DAEMON_NAMES)
def test_services_whose_mail_is_all_signed(tmp_path: Path, keys: Keys, text: str) -> None:
    names, expected = DAEMON_NAMES[text]
    foreign, _ = made(tmp_path, keys, f"{DOMAIN}{text}\n")
    assert foreign.daemon_names == names
    assert [each[1:] for each in foreign.remarks if each.text.startswith(("MTA", "MacroList"))] == expected


# Settings, and whether OpenDKIM signs mail of the service ORIGINATING from any client.
SPELLINGS = {
    "MTA ORIGINATING": True,
    "MTA originating": False,
    "MTA MSA, ORIGINATING": True,
    "MTA MSA ORIGINATING": False,
    "MTA *": False,
    "MTA file:DIR/names": True,
    "MacroList daemon_name=ORIGINATING": True,
    "MacroList daemon_name = MSA | ORIGINATING": True,
    "MacroList daemon_name=originating": False,
    "MacroList daemon_name=ORIG": False,
    "MacroList {daemon_name}=ORIGINATING": False,
    "MacroList Daemon_Name=ORIGINATING": False,
    "MacroList x=1, daemon_name=ORIGINATING": True,
    "MacroList daemon_name=MSA,daemon_name=ORIGINATING": True,
    "MacroList file:DIR/macros": True,
    "MTA ORIGINATING\nMacroList daemon_name=MSA": False,
    "MTA ORIGINATING\nMacroList {daemon_name}=MSA": True,
    "MTA MSA\nMacroList daemon_name=ORIGINATING": True,
}


@NEEDED
@pytest.mark.parametrize(("text", "signs"), SPELLINGS.items(), ids=SPELLINGS)
def test_these_services_are_those_of_opendkim(tmp_path: Path, keys: Keys, text: str, signs: bool) -> None:
    beside = {"names": "MSA\nORIGINATING # x\n", "macros": "# x\ndaemon_name MSA|ORIGINATING\n"}
    foreign, _ = made(tmp_path, keys, f"{DOMAIN}{text}\n".replace("DIR", str(tmp_path)), **beside)
    path = tmp_path / "socket"
    with listening(tmp_path / CONF, path):
        added = added_fields(path, {"{daemon_name}": "ORIGINATING"}, "a@example.com")
    assert ("ORIGINATING" in foreign.daemon_names, "DKIM-Signature" in added) == (signs, signs)


SOCKETS = {
    "inet:8891@localhost": "inet:localhost:8891",
    "inet:8891@127.0.0.1": "inet:127.0.0.1:8891",
    "inet:8891": "inet:localhost:8891",
    "inet6:8891@[::1]": "inet:[::1]:8891",
    "local:/run/opendkim/opendkim.sock": "unix:/run/opendkim/opendkim.sock",
    "/run/opendkim/opendkim.sock": "unix:/run/opendkim/opendkim.sock",
}


@pytest.mark.parametrize("value", SOCKETS)
def test_the_socket_is_named_as_postfix_names_it(tmp_path: Path, keys: Keys, value: str) -> None:
    foreign, _ = made(tmp_path, keys, f"{DOMAIN}Socket {value}\n")
    assert foreign.milters == [SOCKETS[value]]


_NOT_LEFT_OUT = "ExemptDomains: an entry for many domains cannot leave out one of them; list the others"
# Whom is signed for, the domains that are exempt, the keys of the rules, and what is lost.
EXEMPT = {
    "one of two": ("Domain example.com,example.org", "Example.org", ["*@example.com"], []),
    "with subdomains": ("Domain example.com\nSubDomains yes", "example.com", ["*@*.example.com"], []),
    "both": ("Domain example.com", "example.com", [], []),
    "a subdomain": (
        "Domain example.com\nSubDomains yes",
        "sub.example.com",
        ["example.com"],
        [_NOT_LEFT_OUT],
    ),
    "another domain": ("Domain example.com\nSubDomains yes", "example.org", ["example.com"], []),
    "anybody": ("Domain *", "example.org", ["."], [_NOT_LEFT_OUT]),
    "a pattern": ("Domain example.com", "refile:DIR/exempt", ["*@example.com"], [_NOT_LEFT_OUT]),
}


@pytest.mark.parametrize(("domain", "exempt", "expected", "lost"), EXEMPT.values(), ids=EXEMPT)
def test_domains_that_are_exempt(
    tmp_path: Path, keys: Keys, domain: str, exempt: str, expected: list[str], lost: list[str]
) -> None:
    text = f"Mode s\n{domain}\nSelector s\nKeyFile DIR/s.pem\nExemptDomains {exempt}\n"
    foreign, _ = made(tmp_path, keys, text, exempt="*.com\n")
    assert [rule.key for rule in foreign.rules] == expected
    assert [each.text for each in foreign.remarks if each.effect == LOST] == lost


def test_omitting_from_is_remarked(tmp_path: Path, keys: Keys) -> None:
    foreign, _ = made(tmp_path, keys, f"{DOMAIN}OmitHeaders From\n")
    assert (
        "changed: opendkim.conf, line 5: OmitHeaders: without From, OpenDKIM signs nothing; here From is"
        " signed, too"
    ) in remarks(foreign, tmp_path)
