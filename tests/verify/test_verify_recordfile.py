"""``--key_file`` with a record as other programs write it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from conftest import Keys

from dkimpipe.admin.dns import formats
from dkimpipe.admin.dns.record import Record
from dkimpipe.errors import ConfigError
from dkimpipe.files import COMMAND_LINE
from dkimpipe.verify import recordfile
from dkimpipe.verify.settings import VerifySettings

NAME = "mail._domainkey.example.com"
VALUE = "v=DKIM1; k=rsa; p=" + "MIIBIjAN" * 49
STRINGS = f'"{VALUE[:255]}" "{VALUE[255:]}"'
LINES = f'( "v=DKIM1; h=sha256; k=rsa; "\n\t  "p={VALUE[18:200]}"\n\t  "{VALUE[200:]}" )'

FORMS: dict[str, tuple[str, str]] = {
    "the text": (VALUE + "\n", VALUE),
    "dkimpipe dns": (formats.bind([Record(NAME, VALUE)], 3600), VALUE),
    "dkimpipe dns, nsupdate": (formats.nsupdate([Record(NAME, VALUE)], 3600), VALUE),
    "dkimpipe dns, plain": (formats.plain([Record(NAME, VALUE)], 3600), VALUE),
    "dkimpipe dns, tinydns": (formats.tinydns([Record(NAME, VALUE)], 3600), VALUE),
    "dkimpipe dns, json": (formats.as_json([Record(NAME, VALUE)], 3600), VALUE),
    "dig +short": (STRINGS + "\n", VALUE),
    "dig": (f";; ANSWER SECTION:\n{NAME}.\t3600\tIN\tTXT\t{STRINGS}\n\n;; Query time: 0 msec\n", VALUE),
    "dig, escaped": (STRINGS.replace(";", "\\;"), VALUE),
    "dig, decimal": (STRINGS.replace(";", "\\059"), VALUE),
    "opendkim-genkey": (
        f"mail._domainkey\tIN\tTXT\t{LINES}  ; ----- DKIM key mail for example.com\n",
        VALUE.replace("k=rsa", "h=sha256; k=rsa"),
    ),
    "host": (f"{NAME} descriptive text {STRINGS}\n", VALUE),
    "host, by an alias": (
        f"{NAME} is an alias for k.example.\nk.example descriptive text {STRINGS}\n",
        VALUE,
    ),
    "nslookup": (
        "Server:\t\t192.0.2.1\nAddress:\t192.0.2.1#53\n\nNon-authoritative answer:\n"
        f"{NAME}\ttext = {STRINGS}\n",
        VALUE,
    ),
    "nslookup of Windows": (
        f"Server:  ns\r\nAddress:  192.0.2.1\r\n\r\n{NAME}\ttext =\r\n\r\n"
        f'\t"{VALUE[:255]}"\r\n\t"{VALUE[255:]}"\r\n',
        VALUE,
    ),
    "DNS over HTTPS": (
        json.dumps({"Status": 0, "Answer": [{"name": NAME, "type": 16, "data": STRINGS}]}),
        VALUE,
    ),
    "DNS over HTTPS, without quotes": (
        json.dumps(
            {"Answer": [{"name": NAME, "type": 5, "data": "k."}, {"name": "k.", "type": 16, "data": VALUE}]}
        ),
        VALUE,
    ),
    "a comment before it": (f"; the key\n{NAME}. IN TXT {STRINGS}\n", VALUE),
    "dig +short, by an alias": (f"k.provider.example.\n{STRINGS}\n", VALUE),
    "dig +short, by two aliases": (f"a.example.\nk.provider.example.\n{STRINGS}\n", VALUE),
    "dig, by an alias": (
        f"{NAME}. 300 IN CNAME K.provider.example.\nk.provider.example. 300 IN TXT {STRINGS}\n",
        VALUE,
    ),
    "dig, by two aliases": (
        f"{NAME}. 300 IN CNAME a.example.\na.example. 300 IN CNAME b.example.\nb.example. IN TXT {STRINGS}\n",
        VALUE,
    ),
    "dig, in capitals": (f"{NAME.upper()}. 300 IN TXT {STRINGS}\n", VALUE),
    "nslookup, by an alias": (
        f"{NAME}\tcanonical name = k.example.\nk.example\ttext = {STRINGS}\n",
        VALUE,
    ),
    "relative to a zone": (f"mail._domainkey 300 IN TXT {STRINGS}\n", VALUE),
    "relative to its origin": (f"$ORIGIN _domainkey.example.com.\nmail IN TXT {STRINGS}\n", VALUE),
    "the origin itself": (f"$ORIGIN {NAME}.\n@ IN TXT {STRINGS}\n", VALUE),
    "of one of two origins": (
        f"$ORIGIN example.org.\nmail._domainkey IN TXT {STRINGS.replace('MIIB', 'AAAA')}\n"
        f"$ORIGIN example.com.\nmail._domainkey IN TXT {STRINGS}\n",
        VALUE,
    ),
    "no name": (f"IN TXT {STRINGS}\n", VALUE),
    "no name, with its lifetime": (f"3600 IN TXT {STRINGS}\n", VALUE),
    "unbound": (f"local-data: '{NAME}. 300 IN TXT {STRINGS}'\n", VALUE),
    "resolvectl": (f'{NAME} IN TXT "{VALUE}"        -- link: eth0\n', VALUE),
    "UTF-8 with mark": (f"\ufeff{VALUE}\n", VALUE),
    "dig, with mark": (f"\ufeff{NAME}. IN TXT {STRINGS}\r\n", VALUE),
    "zone file without quotes, escaped": (
        f"{NAME}. 300 IN TXT {VALUE.replace(' ', '').replace(';', chr(92) + ';')}\n",
        VALUE.replace(" ", ""),
    ),
    "dnsmasq": (f'txt-record={NAME},"{VALUE[:255]}","{VALUE[255:]}"\n', VALUE),
    "dnsmasq, without quotes": (f"txt-record={NAME},{VALUE}\n", VALUE),
    "CSV": (f'Name,Type,TTL,Value\n{NAME},TXT,300,"{VALUE}"\n', VALUE),
    "CSV, all in quotes": (f'"{NAME}","TXT","300","{VALUE}"\n', VALUE),
    "CSV, strings": (f'{NAME},txt,"{STRINGS.replace(chr(34), chr(34) * 2)}"\n', VALUE),
    "Cloudflare": (json.dumps({"result": [{"name": NAME, "type": "TXT", "content": VALUE}]}), VALUE),
    "PowerDNS": (
        json.dumps({"rrsets": [{"name": f"{NAME}.", "type": "TXT", "records": [{"content": STRINGS}]}]}),
        VALUE,
    ),
    "Route 53": (
        json.dumps(
            {
                "ResourceRecordSets": [
                    {"Name": f"{NAME}.", "Type": "TXT", "ResourceRecords": [{"Value": STRINGS}]}
                ]
            }
        ),
        VALUE,
    ),
}


# Texts of other forms, with the only record somewhere in them.
LENGTHS = "".join(f"\\{len(part):03o}{part}" for part in (VALUE[:255], VALUE[255:]))
PARTS = [VALUE[:255], VALUE[255:]]
WITHIN: dict[str, str] = {
    "dig +yaml": f"      ANSWER_SECTION:\n        - {NAME}. 300 IN TXT {STRINGS}\n",
    "dog": f"TXT {NAME}. 5m00s   {STRINGS}\n",
    "aws, text": f"RESOURCERECORDSETS\t{NAME}.\t300\tTXT\nRESOURCERECORDS\t{STRINGS}\n",
    "gcloud, table": f"NAME          TYPE  TTL  DATA\n{NAME}.  TXT   300  {STRINGS}\n",
    "gcloud": json.dumps([{"name": f"{NAME}.", "type": "TXT", "rrdatas": [STRINGS]}]),
    "Azure": json.dumps(
        {"name": "mail._domainkey", "type": "dnszones/TXT", "TXTRecords": [{"value": PARTS}], "note": "x"}
    ),
    "kdig +json": json.dumps({"answerRRs": [{"NAME": f"{NAME}.", "TYPE": 16, "rdataTXT": VALUE}]}),
    "resolvectl --json": json.dumps({"key": {"type": 16, "name": NAME}, "items": [VALUE]}),
    "Hetzner": json.dumps({"records": [{"type": "TXT", "name": "mail._domainkey", "value": STRINGS}]}),
    "a string in JSON": json.dumps([VALUE]),
    "labels": f"Name: {NAME}\nType: TXT\nValue: {VALUE}\n",
    "labels, of one line": f"TXT: {VALUE}\n",
    "an assignment": f'record = "{VALUE}"\n',
    "YAML": f"mail._domainkey:\n  type: TXT\n  value: {VALUE.replace(';', chr(92) + ';')}\n  ttl: 300\n",
    "CSV, semicolons": f'"Name";"Type";"Value"\n"{NAME}";"TXT";"{VALUE}"\n',
    "TSV": f"Name\tType\tTTL\tValue\n{NAME}\tTXT\t300\t{VALUE}\n",
    "TSV, value first": f"{VALUE}\tTXT\t{NAME}\n",
    "tinydns, octets": f":{NAME}:16:{LENGTHS}:3600\n",
    "Terraform": f'  name = "{NAME}"\n  records = ["{VALUE[:255]}\\"\\"{VALUE[255:]}"]\n',
    "Markdown": f"| Name | Type | Value |\n|---|---|---|\n| {NAME} | TXT | `{VALUE}` |\n",
    "Markdown, without quotes": f"| {NAME} | TXT | {VALUE} |\n",
    "HTML": f"<td>{NAME}</td><td>TXT</td><td>{VALUE}</td>\n",
    "XML": f"<record><name>{NAME}</name><value>{VALUE}</value></record>\n",
    "backquotes": f"`{VALUE}`\n",
    "single quotes": f"'{VALUE}'\n",
    "typographic quotes": f"{NAME}. IN TXT \u201c{VALUE}\u201d\n",
    "no-break spaces": f"{NAME}.\u00a0300\u00a0IN\u00a0TXT\u00a0{STRINGS}\n",
    "unbound, double quotes": f"local-data: \"{NAME}. TXT '{VALUE}'\"\n",
    "mail": f"Hello,\n\nplease publish this as {NAME}:\n\n    {VALUE}\n\nRegards\n",
}


@pytest.mark.parametrize("text", WITHIN.values(), ids=WITHIN)
def test_the_record_within_another_text(text: str) -> None:
    assert recordfile.text(text.encode(), NAME, "FILE") == VALUE.encode()


@pytest.mark.parametrize("text", [text for text in WITHIN.values() if NAME in text])
def test_the_record_of_another_name_within_another_text(text: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"contains the record of {NAME}\.?, not of x\._domainkey\.a\.example$"
    ):
        recordfile.text(text.encode(), "x._domainkey.a.example", "FILE")


@pytest.mark.parametrize(("text", "value"), FORMS.values(), ids=FORMS)
def test_the_record_in_a_file(text: str, value: str) -> None:
    assert recordfile.text(text.encode(), NAME, "FILE") == value.encode()


@pytest.mark.parametrize(
    ("codec", "mark"), [("utf-16", b""), ("utf-16-be", b"\xfe\xff"), ("utf-16-le", b""), ("utf-16-be", b"")]
)
def test_a_file_of_windows_in_utf_16(codec: str, mark: bytes) -> None:
    assert recordfile.text(mark + f"{VALUE}\r\n".encode(codec), NAME, "FILE") == VALUE.encode()


ED25519 = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
SEVERAL = [
    Record("_dmarc.example.com", "v=DMARC1; p=none"),
    Record("ed._domainkey.example.com", ED25519),
    Record("xmail._domainkey.example.com", ED25519),
    Record(NAME, VALUE),
    Record("mail._domainkey.example.org", ED25519),
]


@pytest.mark.parametrize("form", formats.FORMATS)
def test_of_several_records_the_one_of_this_name(form: str) -> None:
    octets = formats.FORMATS[form](SEVERAL, 3600).encode()
    assert recordfile.text(octets, NAME, "FILE") == VALUE.encode()
    assert recordfile.text(octets, "ed._domainkey.example.com", "FILE") == ED25519.encode()


def test_names_relative_to_the_zone() -> None:
    octets = formats.bind(SEVERAL, 3600, "example.com").encode()
    assert recordfile.text(octets, NAME, "FILE") == VALUE.encode()


RECORDS = "give the record, as dkimpipe dns or dig(1) prints it, or a key in PEM"
OTHER = "mail._domainkey.example.org"
OF_ANOTHER = f"contains the record of {OTHER}, not of {NAME}"
# Records of another name, which must not verify anything.
OTHERS: dict[str, tuple[str, str]] = {
    "zone file": (f"{OTHER}. IN TXT {STRINGS}\n", f"contains the record of {OTHER}., not of {NAME}"),
    "zone file, relative": (
        f"x._domainkey IN TXT {STRINGS}\n",
        f"contains the record of x._domainkey, not of {NAME}",
    ),
    "zone file, absolute, as if relative": (
        f"mail._domainkey. IN TXT {STRINGS}\n",
        f"contains the record of mail._domainkey., not of {NAME}",
    ),
    "zone file, another origin": (
        f"$ORIGIN example.org.\nmail._domainkey IN TXT {STRINGS}\n",
        f"contains the record of {OTHER}., not of {NAME}",
    ),
    "an alias of another name": (
        f"x.example.com. IN CNAME {OTHER}.\n{OTHER}. IN TXT {STRINGS}\n",
        f"contains the record of {OTHER}., not of {NAME}",
    ),
    "aliases in a circle": (
        f"{NAME}. IN CNAME a.example.\na.example. IN CNAME {NAME}.\n{OTHER}. IN TXT {STRINGS}\n",
        f"contains the record of {OTHER}., not of {NAME}",
    ),
    "host": (f"{OTHER} descriptive text {STRINGS}\n", OF_ANOTHER),
    "nslookup": (f"{OTHER}\ttext = {STRINGS}\n", OF_ANOTHER),
    "plain": (f"{OTHER}\n{VALUE}\n", OF_ANOTHER),
    "tinydns": (formats.tinydns([Record(OTHER, VALUE)], 60), OF_ANOTHER),
    "json": (formats.as_json([Record(OTHER, VALUE)], 60), OF_ANOTHER),
    "dnsmasq": (f'txt-record={OTHER},"{VALUE}"\n', OF_ANOTHER),
    "CSV": (f'{OTHER},TXT,"{VALUE}"\n', OF_ANOTHER),
    "unbound": (f"local-data: '{OTHER}. 300 IN TXT {STRINGS}'\n", OF_ANOTHER.replace(",", ".,")),
    "unbound, not of DKIM": (
        f"local-data: 'example.com.test. 300 IN TXT {STRINGS}'\n",
        f"contains the record of example.com.test., not of {NAME}",
    ),
    "dig +yaml": (f"  - {OTHER}. 300 IN TXT {STRINGS}\n", OF_ANOTHER.replace(",", ".,")),
    "a name above it": (f"{OTHER}\n\n{STRINGS}\n", OF_ANOTHER),
    "of a record before it": (
        f"{OTHER}. IN A 192.0.2.1\n    IN TXT {STRINGS}\n",
        OF_ANOTHER.replace(",", ".,"),
    ),
    "relative name above it": (
        f"x._domainkey\n  TXT: {VALUE}\n",
        f"contains the record of x._domainkey, not of {NAME}",
    ),
}


@pytest.mark.parametrize(("text", "fault"), OTHERS.values(), ids=OTHERS)
def test_the_record_of_another_name_is_an_error(text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as raised:
        recordfile.text(text.encode(), NAME, "FILE")
    assert (str(raised.value), raised.value.hint) == (f"key file FILE {fault}", RECORDS)


# What cannot be read with certainty, and what to do.
NAMED: dict[str, tuple[str, str, str]] = {
    "without quotes": (
        f"{NAME}. 300 IN TXT {VALUE}\n",
        "contains a value without quotes, which ends at the first semicolon",
        "write it in quotes, as dkimpipe dns does",
    ),
    "PowerShell, a list": (
        f"Name    : {NAME}\nType    : TXT\nStrings : {{{VALUE[:255]}, {VALUE[255:]}}}\n",
        "is the output of PowerShell, which breaks or cuts lines",
        f"(Resolve-DnsName {NAME} -Type TXT).Strings -join '' prints the text of the record",
    ),
    "OpenSSH": (
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQCOpLTT\n",
        "contains a public key in OpenSSH format",
        "ssh-keygen -e -m PKCS8 -f FILE >NEWFILE converts it",
    ),
    "PowerShell, a zone": (
        "HostName  RecordType Type Timestamp\n--------  ----------\nmail  TXT 16 0  {v=DKIM1; k=rsa; p=...\n",
        "is the output of PowerShell, which breaks or cuts lines",
        f"(Resolve-DnsName {NAME} -Type TXT).Strings -join '' prints the text of the record",
    ),
    "PowerShell, a table": (
        f"Name   Type TTL Section Strings\n----   ---- --- ------- -------\n{NAME} TXT 300 Answer {{v=D...\n",
        "is the output of PowerShell, which breaks or cuts lines",
        f"(Resolve-DnsName {NAME} -Type TXT).Strings -join '' prints the text of the record",
    ),
}


@pytest.mark.parametrize(("text", "fault", "hint"), NAMED.values(), ids=NAMED)
def test_what_is_not_certain_is_named(text: str, fault: str, hint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        recordfile.text(text.encode(), NAME, "FILE")
    assert (str(raised.value), raised.value.hint) == (f"key file FILE {fault}", hint)


# What is no record, or not the right one, by its name and not as a record with an error.
WRONG: dict[str, tuple[bytes, str]] = {
    "none of this name": (
        formats.bind(SEVERAL[:3], 60).encode(),
        f"contains no record for {NAME}, of 3",
    ),
    "two of this name": (
        formats.bind([Record(NAME, VALUE), Record(NAME, ED25519)], 60).encode(),
        f"contains 2 records for {NAME}, of 2",
    ),
    "JSON": (b'[{"name": "x"}]', "contains JSON, but no TXT record"),
    "DNS over HTTPS, NXDOMAIN": (b'{"Status": 3}', "contains JSON, but no TXT record"),
    "base64": (VALUE.partition("p=")[2].encode(), "contains base64 alone: neither a record nor PEM"),
    "base64, in lines": (b"MIIBIjAN\n" * 49, "contains base64 alone: neither a record nor PEM"),
    "DER": (base64.b64decode(VALUE.partition("p=")[2]), "is in DER, not in PEM"),
    "empty": (b"\n", "is empty"),
    "prose": (b"see the other file\n", "contains no record"),
    "two, within another text": (
        f"key: {VALUE}\nold: {ED25519}\n".encode(),
        f"contains no record for {NAME}, of 2",
    ),
}


@pytest.mark.parametrize(("octets", "fault"), WRONG.values(), ids=WRONG)
def test_a_wrong_form_is_named(octets: bytes, fault: str) -> None:
    with pytest.raises(ConfigError) as raised:
        recordfile.text(octets, NAME, "FILE")
    assert (str(raised.value), raised.value.hint) == (f"key file FILE {fault}", RECORDS)


def test_a_record_with_an_error_is_left_to_the_verifier() -> None:
    assert recordfile.text(b"v=DKIM1; p\n", NAME, "FILE") == b"v=DKIM1; p"


def test_the_option_reads_it(keys: Keys, tmp_path: Path) -> None:
    (value,) = keys.records["rsa2048._domainkey.example.com"]
    path = tmp_path / "record"
    path.write_text(formats.bind([Record(NAME, value.decode())], 3600))
    settings = VerifySettings()
    settings.set("key_file", f"{NAME}={path}", COMMAND_LINE)
    assert settings.resolver().texts(NAME).texts == [value]
