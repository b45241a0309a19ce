"""rspamd's configuration in our terms: rules, directives, kinds of mail, and what becomes of each setting."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Keys
from rspamd import MODULE, SHAPES, Shape, write

from dkimpipe import dkim, options
from dkimpipe.admin.migration import rspamd
from dkimpipe.admin.migration.foreign import CHANGED, LOST, SAME, Foreign
from dkimpipe.admin.migration.rspamd.headers import OVERSIGNED
from dkimpipe.errors import ConfigError

LOCAL = "10.0.0.0/8,127.0.0.0/8,169.254.0.0/16,172.16.0.0/12,192.168.0.0/16"
LOCAL_6 = "::1,fd00::/8,fe80::/10"
CLIENTS = f"sign_clients authenticated,{LOCAL},{LOCAL_6}"
ALL_KINDS = "submission, networks, local"
LOCAL_CONF, OVERRIDE_CONF = "ETC/local.d/dkim_signing.conf", "ETC/override.d/dkim_signing.conf"
NO_RESTRICTION = "there is no such restriction here"

# Without the remarks on what rspamd does if nothing is set: those are in the test of a new installation.
READ = {
    "as installed": f"""
        example.com: d=example.com s=dkim KEYS/example.com.dkim.key
        example.net: d=example.net s=dkim KEYS/example.net.dkim.key
        .: d=$senderdomain s=dkim KEYS/$senderdomain.dkim.key
        match from
        {CLIENTS}
        dkim_method relaxed/relaxed
        {ALL_KINDS}
        changed: {LOCAL_CONF}, line 1: use_esld: a key added later signs for its domain, but for
          subdomains only
          with an entry
    """,
    "one domain": f"""
        example.com: d=example.com s=ds KEYS/example.key
        match from
        {CLIENTS}
        dkim_method relaxed/relaxed
        {ALL_KINDS}
    """,
    "docker-mailserver": f"""
        example.com: d=example.com s=mail KEYS/rsa-2048-mail-example.com.private.txt
        example.net: d=example.net s=mail KEYS/rsa-2048-mail-example.net.private.txt
        match from
        sign_clients authenticated
        dkim_method relaxed/relaxed
        submission
        same: {OVERRIDE_CONF}, line 9: allow_username_mismatch: {NO_RESTRICTION}
        same: {OVERRIDE_CONF}, line 7: use_redis: it is off
        same: {OVERRIDE_CONF}, line 10: check_pubkey: dkimpipe check --dns compares keys and records
        same: {OVERRIDE_CONF}, line 5: try_fallback: only the domains that are listed are signed
        same: {OVERRIDE_CONF}, line 20: use_esld: mail from shop.example.net is signed as example.net:
          the key of
          shop.example.net is not used
    """,
    "two keys": f"""
        *@alpha.example.org: d=alpha.example.org s=dkim KEYS/dkim.key, d=alpha.example.org s=eddsa
          KEYS/eddsa.key
        *@example.net: d=example.net s=2024 KEYS/dkim.key, d=example.net s=e1 KEYS/eddsa.key
        match from
        {CLIENTS}
        dkim_method relaxed/relaxed
        {ALL_KINDS}
        same: {LOCAL_CONF}, line 21: allow_username_mismatch: {NO_RESTRICTION}
    """,
    "modoboa": f"""
        example.com: d=example.com s=modoboa KEYS/example.com.pem
        shop.example.net: d=shop.example.net s=2024 KEYS/other.key
        example.org: d=example.org s=s KEYS/other.key
        match from
        {CLIENTS}
        dkim_method relaxed/relaxed
        {ALL_KINDS}
        same: {LOCAL_CONF}, line 1: try_fallback: only the domains that are listed are signed
        changed: KEYS/selectors.map, line 3: use_esld: shop.example.net signs from now on; today it does so if
          example.net is a public suffix
    """,
    "YunoHost": f"""
        .: d=$senderdomain s=mail KEYS/$senderdomain.mail.key
        match from
        {CLIENTS}
        dkim_method relaxed/relaxed
        {ALL_KINDS}
        same: {LOCAL_CONF}, line 1: allow_envfrom_empty: {NO_RESTRICTION}
        changed: {LOCAL_CONF}, line 3: allow_hdrfrom_multiple: mail with two addresses in From is
          unsigned today;
          here the first decides
        changed: {LOCAL_CONF}, line 2: allow_hdrfrom_mismatch: mail whose envelope sender is in another domain
          than From is unsigned today; here it is signed, unless envelope= in the entry forbids it
        same: {LOCAL_CONF}, line 4: allow_username_mismatch: {NO_RESTRICTION}
        same: {LOCAL_CONF}, line 9: symbol: a symbol of rspamd
        same: {LOCAL_CONF}, line 13: use_redis: it is off
        same: {LOCAL_CONF}, line 14: key_prefix: for keys in Redis
    """,
    "addy.io": f"""
        boss@example.net: d=example.net s=eddsa m5kGxtckRfsNe5EuYTe7bvkDjSh7LXaX3aXyIMPGLR0=
        *@example.com: d=example.com s=default KEYS/example.com.default.key
        *@example.org: d=example.org s=dkim KEYS/example.org.key
        *@*.example.com: d=example.com s=default KEYS/example.com.default.key
        match from
        sign_clients {LOCAL},{LOCAL_6}
        dkim_method relaxed/relaxed
        networks, local
        same: {LOCAL_CONF}, line 15: allow_hdrfrom_mismatch: without effect beside signing_table
        same: {LOCAL_CONF}, line 17: allow_username_mismatch: without effect beside signing_table
        same: {LOCAL_CONF}, line 16: allow_hdrfrom_mismatch_sign_networks: {NO_RESTRICTION}
        same: {LOCAL_CONF}, line 14: use_domain: without effect beside signing_table
        same: {LOCAL_CONF}, line 18: use_esld: without effect beside signing_table
    """,
    "one domain for all": f"""
        .: d=example.com s=hoster KEYS/all.key
        match from
        sign_clients authenticated,{LOCAL},198.51.100.7,203.0.113.0/24,{LOCAL_6}
        dkim_method relaxed/relaxed
        {ALL_KINDS}
        same: {LOCAL_CONF}, line 2: allow_username_mismatch: {NO_RESTRICTION}
    """,
    "panel with a map": f"""
        *@example.org: d=example.org s=own KEYS/example.org.own.key
        *@example.com: d=example.com s=s1 KEYS/example.com.s1.key
        *@example.info: d=example.info s=gone KEYS/example.info.gone.key
        .: d=$senderdomain s=fallback KEYS/$senderdomain.fallback.key
        match from
        {CLIENTS}
        dkim_method relaxed/relaxed
        {ALL_KINDS}
        same: {LOCAL_CONF}, line 4: allow_username_mismatch: {NO_RESTRICTION}
    """,
}

# A line in local.d/dkim_signing.conf, and the remark on it.
SETTINGS = {
    "redis": (
        'use_redis = true; key_prefix = "DKIM_PRIV_KEYS"',
        (LOST, "use_redis: keys in Redis are not read; save each with 'redis-cli HGET DKIM_PRIV_KEYS"
         " SELECTOR.DOMAIN >FILE', and set path"),
    ),
    "vault": (
        "use_vault = true", (LOST, "use_vault: keys in a vault are not read; save each into a file, and"
         " set path"),
    ),
    "vault, off": ("use_vault = false", (SAME, "use_vault: it is off")),
    "condition": (
        "sign_condition = <<EOD\nreturn function(task) end\nEOD",
        (LOST, "sign_condition: Lua code does not choose the signature; use entries, with login= and"
         " envelope="),
    ),
    "inbound": (
        "sign_inbound = true", (LOST, "sign_inbound: mail from outside is never signed; leave that to"
         " rspamd, as ARC"),
    ),
    "inbound, off": ("sign_inbound = false", (SAME, "sign_inbound: it is off")),
    "domain of the login": (
        'use_domain = "auth"',
        (LOST, "use_domain: auth: neither the login nor the recipient chooses the signature; here From"
         " chooses"
         " the entry"),
    ),
    "domain by client": (
        'use_domain_sign_local = "envelope"',
        (LOST, "use_domain_sign_local: the client does not choose d=; use_domain (header) applies to"
         " all mail"),
    ),
    "domain by client, the same": (
        'use_domain_sign_networks = "header"', (SAME, "use_domain_sign_networks: as use_domain"),
    ),
    "null sender": (
        "allow_envfrom_empty = false",
        (CHANGED, "allow_envfrom_empty: mail with the null sender is unsigned today; here it is signed"),
    ),
    "record is compared": (
        "check_pubkey = true\nallow_pubkey_mismatch = false",
        (CHANGED, "check_pubkey: mail is signed even if the record is not right: dkimpipe check --dns"
         " compares it"),
    ),
    "spam": (
        "skip_spam_sign = true",
        (CHANGED, "skip_spam_sign: mail that rspamd passes on is signed, whatever its score"),
    ),
    "selector as a number": (
        "selector = 2024", (CHANGED, "selector: a number without quotes: rspamd does not sign with it;"
         " here it applies"),
    ),
    "template": (
        'path = "/dkim/{= env.DOMAIN =}.key"',
        (LOST, "path: a template is not evaluated; write what 'rspamadm configdump dkim_signing' shows"),
    ),
    "unknown": ("key_path = /dkim/x", (LOST, "key_path: unknown to dkimpipe")),
    "map by HTTP": (
        'selector_map = "https://panel.test/map"',
        (LOST, "selector_map is in https://panel.test/map, which is not read; write it into a file, or add an"
         " entry for each domain"),
    ),
    "map in the configuration": (
        'path_map = ["example.com /k"]',
        (CHANGED, "path_map: rspamd takes no values from a list in the configuration; here they apply"),
    ),
    "map of networks by HTTP": (
        'sign_networks = "http://panel.test/map"',
        (LOST, "sign_networks is in http://panel.test/map, which is not read: mail from mynetworks is signed"
         " instead"),
    ),
    "host name among networks": (
        "sign_networks = [192.0.2.1, mail.example.com]",
        (LOST, "sign_networks: mail.example.com is not an address or network; list its addresses"),
    ),
    "not a domain": (
        'domain { "*" { selector = x } }', (SAME, "domain: * is not a domain: rspamd does not use it"),
    ),
    "upper case": (
        "domain { Example.com { selector = x } }",
        (CHANGED, "domain: Example.com: rspamd looks for lower case only, so that it is unsigned today"),
    ),
    "setting in a block": (
        "domain { example.com { use_esld = false } }",
        (SAME, "domain: example.com: use_esld: rspamd does not use it here"),
    ),
    "selectors without a list": (
        "domain { example.com { selectors { selector = x } } }",
        (CHANGED, "domain: example.com: selectors is not a list, so that rspamd does not use it; here"
         " it applies"),
    ),
    "header without From": (
        'sign_headers = "to"',
        (CHANGED, "sign_headers: without From, rspamd signs nothing; here From is signed, too"),
    ),
    "header oversigned if present": (
        'sign_headers = "(o)from:(x)date:(x)sender:(x)autocrypt"',
        (CHANGED, "sign_headers: sender, autocrypt: if there is one, no longer protected from a second one"),
    ),
    "header oversigned here": (
        'sign_headers = "(o)from:to:subject:list-id"',
        (CHANGED, "sign_headers: to, subject: if there is one, from now on protected from a second one"),
    ),
    "header added after signing": (
        'sign_headers = "(o)from:(o)received"',
        (CHANGED, "sign_headers: received is not oversigned: Postfix adds one after signing, so the"
         " signature fails"),
    ),
    "header that changes": (
        'sign_headers = "(o)from:comments"',
        (SAME, "sign_headers: comments is signed, as today, which may be changed or removed on the way"
         " (RFC 6376 section 5.4)"),
    ),
    "header that is a signature": (
        'sign_headers = "from:dkim-signature"',
        (CHANGED, "sign_headers: DKIM signatures are not signed (RFC 6376 section 3.5)"),
    ),
}  # fmt: skip

# Rows of signing_table beside a key_table with k: the keys of the rules, and the remark.
TABLES = {
    "anyone": (["* k"], ["."], None),
    "any domain": (["*@* k"], ["."], None),
    "anyone first": (
        ["* k", "*@example.com k"],
        ["*@example.com", "."],
        (CHANGED, "signing_table: of several patterns that fit, the first applies today; here the most"
         " particular"),
    ),
    "subdomains first": (
        ["*@*.example.com k", "a@sub.example.com k"],
        ["a@sub.example.com", "*@*.example.com"],
        (CHANGED, "signing_table: of several patterns that fit, the first applies today; here the most"
         " particular"),
    ),
    "bare domain": (
        ["example.com k"], [],
        (SAME, "signing_table: example.com: it fits no address: *@example.com would"),
    ),
    "part of a local part": (
        ["news-*@example.com k"], [],
        (LOST, "signing_table: news-*@example.com: part of an address cannot choose an entry; add an"
         " entry for"
         " each address"),
    ),
    "part of a domain": (
        ["*@example.* k"], [],
        (LOST, "signing_table: *@example.*: there is no equivalent; add an entry for each domain"),
    ),
    "no such key": (
        ["*@example.com x"], [],
        (SAME, "signing_table: *@example.com: x in key_table is not there: such mail is unsigned today"),
    ),
    "key by the sender's domain": (
        ["*@* %"], [],
        (LOST, "signing_table: *@*: % in key_table is not there: add an entry for each domain"),
    ),
    "key in one part": (
        ["*@example.com bad"], [],
        (SAME, "signing_table: *@example.com: bad in key_table has not 2 or 3 parts: such mail is"
         " unsigned today"),
    ),
}  # fmt: skip


def rendered(foreign: Foreign, directory: Path) -> list[str]:
    """Return a configuration as lines."""
    lines = []
    for rule in foreign.rules:
        signatures = [
            f"d={each.domain} s={each.selector} {each.keyfile or each.key.decode()}"
            for each in rule.signatures
        ]
        lines.append(f"{rule.key}: {', '.join(signatures)}")
    lines += [f"{name} {value}" for name, (value, _) in foreign.directives.items()]
    lines.append(", ".join(foreign.kinds))
    lines += [f"{effect}: {place}: {text}" for place, effect, text in foreign.remarks]
    names = {directory / "keys": "KEYS", directory / "etc": "ETC"}
    for path, name in names.items():
        lines = [line.replace(str(path), name) for line in lines]
    return lines


def expected_lines(text: str) -> list[str]:
    """Return the lines of an expected text; those that are indented more continue the one before."""
    return text.strip().replace("\n          ", " ").replace("\n        ", "\n").split("\n")


def read(directory: Path, local: str, **files: str) -> Foreign:
    """Return what a configuration with this local.d/dkim_signing.conf says."""
    for name, text in {
        "modules.d/dkim_signing.conf": MODULE,
        "local.d/dkim_signing.conf": local,
        **files,
    }.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return rspamd.read(directory)


@pytest.mark.parametrize("name", SHAPES)
def test_reads(tmp_path: Path, keys: Keys, name: str) -> None:
    etc = write(SHAPES[name], keys, tmp_path)
    lines = rendered(rspamd.read(etc), tmp_path)
    assert [line for line in lines if ": ETC: " not in line and "/modules.d/" not in line] == expected_lines(
        READ[name]
    )


def test_new_installation(tmp_path: Path, keys: Keys) -> None:
    etc = write(Shape({}, {}), keys, tmp_path)
    assert rendered(rspamd.read(etc), tmp_path) == expected_lines(f"""
        match from
        {CLIENTS}
        dkim_method relaxed/relaxed
        {ALL_KINDS}
        changed: ETC/modules.d/dkim_signing.conf, line 5: allow_hdrfrom_multiple: mail with two
          addresses in From
          is unsigned today; here the first decides
        changed: ETC/modules.d/dkim_signing.conf, line 4: allow_hdrfrom_mismatch: mail whose envelope
          sender is in
          another domain than From is unsigned today; here it is signed, unless envelope= in the entry
          forbids it
        changed: ETC/modules.d/dkim_signing.conf, line 6: allow_username_mismatch: mail of a user whose
          login is
          in another domain is unsigned today; here it is signed, unless login= in the entry, or
          reject_sender_login_mismatch of Postfix, forbids it
        same: ETC: path: there is no key /var/lib/rspamd/dkim/$domain.dkim.key: mail of domains that are not
          listed is not signed
        changed: ETC: sign_headers: not set: rspamd's own list of fields is signed today, with Openpgp and
          Autocrypt in it; here dkimpipe's
        changed: ETC: errors: a key that cannot be read leaves mail unsigned today; here it is deferred (see
          on_error)
        changed: ETC: milter: rspamd also filters spam, and verifies: keep it in smtpd_milters
          (inet:localhost:11332); once dkimpipe signs, write 'enabled = false;' into
          ETC/override.d/dkim_signing.conf, and reload rspamd, or mail has both signatures
    """)


def test_without_the_files_of_the_package(tmp_path: Path) -> None:
    (tmp_path / "local.d").mkdir()
    (tmp_path / "local.d/dkim_signing.conf").write_text(
        "domain { example.com { selector = s; path = /k } }\n"
    )
    foreign = rspamd.read(tmp_path)
    assert [(rule.key, str(rule.place)) for rule in foreign.rules] == [
        ("example.com", f"{tmp_path}/local.d/dkim_signing.conf, line 1")
    ]


@pytest.mark.parametrize(("text", "remark"), SETTINGS.values(), ids=SETTINGS)
def test_setting(tmp_path: Path, text: str, remark: tuple[str, str]) -> None:
    foreign = read(tmp_path, f"\n{text}\n")
    found = [
        (each.effect, each.text)
        for each in foreign.remarks
        if each.place.path.endswith("/local.d/dkim_signing.conf")
    ]
    assert remark in found
    assert {each.place.line for each in foreign.remarks if (each.effect, each.text) == remark} == {2}


@pytest.mark.parametrize(("lines", "keys", "remark"), TABLES.values(), ids=TABLES)
def test_tables(tmp_path: Path, lines: list[str], keys: list[str], remark: tuple[str, str] | None) -> None:
    quoted = ", ".join(f'"{line}"' for line in lines)
    foreign = read(tmp_path, f'signing_table = [{quoted}];\nkey_table = ["k %:s:/k/%.key", "bad x"];\n')
    assert [rule.key for rule in foreign.rules] == keys
    found = [(each.effect, each.text) for each in foreign.remarks if "table: " in each.text]
    assert found == ([remark] if remark else [])


def test_table_of_the_senders_domain(tmp_path: Path) -> None:
    foreign = read(tmp_path, 'signing_table = ["*@* k"];\nkey_table = ["k %:s:/k/%.key"];\n')
    (signature,) = foreign.rules[0].signatures
    assert signature[1:4] == ("$senderdomain", "s", "/k/$senderdomain.key")


@pytest.mark.parametrize("text", ["enabled = false", 'enabled = "no"', "disabled = true"])
def test_switched_off(tmp_path: Path, text: str) -> None:
    foreign = read(tmp_path, text)
    assert (foreign.rules, foreign.directives, foreign.kinds) == ([], {}, [])
    assert [(effect, text) for _, effect, text in foreign.remarks] == [
        (SAME, "enabled: rspamd signs nothing")
    ]


def test_redis_makes_no_rules(tmp_path: Path) -> None:
    foreign = read(tmp_path, "use_redis = true\ndomain { example.com { selector = s } }\n")
    assert foreign.rules == []


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("(o)from:(x)to:subject:(O)date", "-*:++from:+to:+subject:++date"),
        ("from : to\n:cc", "-*:+from:+to:+cc"),
        ("to", "-*:++from:+to"),
    ],
)
@pytest.mark.parametrize("module", ["dkim_signing", "dkim"])
def test_sign_headers(tmp_path: Path, text: str, names: str, module: str) -> None:
    files = {f"local.d/{module}.conf": f"sign_headers = <<EOD\n{text}\nEOD\n"}
    signed = "domain { example.com { selector = s; path = /k } }\n"
    if module == "dkim_signing":
        files["override.d/dkim_signing.conf"] = signed
    foreign = read(tmp_path, signed, **files)
    assert foreign.rules[0].signatures[0].options == (("h", names),)


def test_oversigned_names() -> None:
    fields = getattr(options, "RECOMMENDED", None) or getattr(dkim, "RECOMMENDED", {})
    assert {name.decode() for name, oversigned in fields.items() if oversigned} == OVERSIGNED


@pytest.mark.parametrize(
    ("text", "effects"),
    [("selector = x\n", [LOST]), ("enabled = false\nselector = x\n", []), ("# none\n", [])],
    ids=["configured", "off", "not configured"],
)
def test_arc(tmp_path: Path, text: str, effects: list[str]) -> None:
    foreign = read(tmp_path, "", **{"local.d/arc.conf": text})
    assert [each.effect for each in foreign.remarks if each.text.startswith("arc: ")] == effects


def test_settings_of_certain_users(tmp_path: Path) -> None:
    text = "# DKIM_SIGNED\nx {\n  apply { symbols_disabled = [DKIM_SIGNED]; }\n}\n"
    foreign = read(tmp_path, "", **{"local.d/settings.conf": text})
    (remark,) = [each for each in foreign.remarks if each.text.startswith("settings: ")]
    assert (remark.effect, str(remark.place)) == (LOST, f"{tmp_path}/local.d/settings.conf, line 3")


@pytest.mark.parametrize(
    ("text", "sockets"),
    [
        ("", "inet:localhost:11332"),
        ('bind_socket = "*:9900";', "inet:localhost:9900"),
        ('bind_socket = "/run/rspamd/milter.sock mode=0660 owner=_rspamd";', "unix:/run/rspamd/milter.sock"),
        ("milter = no;", "see its value"),
    ],
)
def test_socket(tmp_path: Path, text: str, sockets: str) -> None:
    foreign = read(tmp_path, "", **{"local.d/worker-proxy.inc": text})
    assert f"keep it in smtpd_milters ({sockets});" in foreign.remarks[-1].text
    assert foreign.milters == ([] if text.startswith("milter") else [sockets])
    assert foreign.stays


def test_local_addresses(tmp_path: Path) -> None:
    files = {"local.d/options.inc": "local_addrs = [192.0.2.0/24, 2001:db8::1]\n"}
    foreign = read(tmp_path, "sign_networks = [192.0.2.0/25]\n", **files)
    assert foreign.directives["sign_clients"][0] == "authenticated,127.0.0.0/8,192.0.2.0/24,::1,2001:db8::1"


def test_networks_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "networks").write_text("# ours\n192.0.2.7 # relay\n\n198.51.100.9/24\n")
    foreign = read(tmp_path, f"sign_local = false\nsign_networks = {tmp_path}/networks\n")
    assert foreign.directives["sign_clients"][0] == "authenticated,192.0.2.7,198.51.100.0/24"
    assert foreign.kinds == ["submission", "networks"]


def test_envelope(tmp_path: Path) -> None:
    foreign = read(tmp_path, "use_domain = envelope\n")
    value, place = foreign.directives["match"]
    assert (value, str(place)) == ("envelope", f"{tmp_path}/local.d/dkim_signing.conf, line 1")


def test_error_has_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, "use_esld = false\ndomain {\n")
    path = tmp_path / "local.d/dkim_signing.conf"
    assert str(refused.value) == f"{path}, line 3: no closing brace at the end of the file: ''"


def test_map_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"/missing\.map: No such file or directory"):
        read(tmp_path, 'selector_map = "/missing.map"\n')


def test_directory_of_keys_that_cannot_be_listed(tmp_path: Path) -> None:
    (tmp_path / "keys").symlink_to("keys")
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, f'path = "{tmp_path}/keys/$domain.key"\n')
    assert str(refused.value) == f"{tmp_path}/keys: Too many levels of symbolic links"


def test_not_a_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        rspamd.read(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path}: not rspamd's configuration: it has none of modules.d, local.d and override.d"
    )
