"""``--key_file`` with a record as other programs write it."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Keys

from dkimpipe.admin.dns import formats
from dkimpipe.admin.dns.record import Record
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
    "other json": ('[{"name": "x"}]', '[{"name": "x"}]'),
    "dig +short": (STRINGS + "\n", VALUE),
    "dig": (f";; ANSWER SECTION:\n{NAME}.\t3600\tIN\tTXT\t{STRINGS}\n\n;; Query time: 0 msec\n", VALUE),
    "dig, escaped": (STRINGS.replace(";", "\\;"), VALUE),
    "dig, decimal": (STRINGS.replace(";", "\\059"), VALUE),
    "opendkim-genkey": (
        f"mail._domainkey\tIN\tTXT\t{LINES}  ; ----- DKIM key mail for example.com\n",
        VALUE.replace("k=rsa", "h=sha256; k=rsa"),
    ),
    "a comment before it": (f"; the key\n{NAME}. IN TXT {STRINGS}\n", VALUE),
}


@pytest.mark.parametrize(("text", "value"), FORMS.values(), ids=FORMS)
def test_the_record_in_a_file(text: str, value: str) -> None:
    assert recordfile.text(text.encode()) == value.encode()


def test_the_option_reads_it(keys: Keys, tmp_path: Path) -> None:
    (value,) = keys.records["rsa2048._domainkey.example.com"]
    path = tmp_path / "record"
    path.write_text(formats.bind([Record(NAME, value.decode())], 3600))
    settings = VerifySettings()
    settings.set("key_file", f"{NAME}={path}", COMMAND_LINE)
    assert settings.resolver().texts(NAME).texts == [value]
