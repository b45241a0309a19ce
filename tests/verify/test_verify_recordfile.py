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
}


@pytest.mark.parametrize(("text", "value"), FORMS.values(), ids=FORMS)
def test_the_record_in_a_file(text: str, value: str) -> None:
    assert recordfile.text(text.encode(), NAME, "FILE") == value.encode()


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
