"""What other programs read from a From field: OpenDKIM, Perl's Mail::Address (Mail::DKIM and DKIMproxy), and
Python's email.utils.
"""

from __future__ import annotations

import ctypes
import email.utils
import json
import subprocess
import sys
from collections.abc import Callable, Sequence

# Mail::DKIM takes the first address that Mail::Address finds.
_PERL = r"""
use strict; use warnings; use JSON::PP; use Mail::Address;
local $SIG{__WARN__} = sub {}; local $/ = "\0";
while (my $value = <STDIN>) {
    chomp $value;
    my ($first) = eval { Mail::Address->parse($value) };
    print JSON::PP->new->latin1->allow_nonref->encode($first && $first->host ? $first->address : ""), "\n";
}
"""


def _run(command: Sequence[str], values: Sequence[bytes]) -> list[str]:
    done = subprocess.run(
        command, input=b"".join(value + b"\0" for value in values), capture_output=True, timeout=120
    )
    found = [json.loads(line) for line in done.stdout.decode("latin-1").splitlines()]
    assert len(found) == len(values), done.stderr
    return found


def mail_address(values: Sequence[bytes]) -> list[str]:
    """Return the address in each field value that Mail::DKIM goes by; empty if it finds none."""
    return _run(["perl", "-e", _PERL], values)


def opendkim(values: Sequence[bytes]) -> list[str]:
    """Return the address in each field value that OpenDKIM goes by; empty if it finds none."""
    return _run([sys.executable, __file__], values)


def _dkim_mail_parse() -> None:
    """Answer for ``opendkim``, in a process of its own: the function writes into its argument."""
    function = ctypes.CDLL("libopendkim.so.11").dkim_mail_parse
    for value in sys.stdin.buffer.read().split(b"\0")[:-1]:
        buffer = ctypes.create_string_buffer(value, len(value) + 16)
        user, domain = ctypes.c_char_p(), ctypes.c_char_p()
        status = function(buffer, ctypes.byref(user), ctypes.byref(domain))
        found = b"%s@%s" % (user.value, domain.value) if not status and user and domain else b""
        print(json.dumps(found.decode("latin-1")))


def email_utils(values: Sequence[bytes]) -> list[str]:
    """Return all addresses that Python finds in each field value, separated by spaces.

    What it takes for the text of a quoted string without an end is not an address.
    """
    found = [email.utils.getaddresses([value.decode("latin-1")]) for value in values]
    return [" ".join(each for _, each in pairs if "@" in each and "<" not in each) for pairs in found]


PARSERS: dict[str, Callable[[Sequence[bytes]], list[str]]] = {
    "OpenDKIM": opendkim,
    "Mail::Address": mail_address,
    "email.utils": email_utils,
}


if __name__ == "__main__":
    _dkim_mail_parse()
