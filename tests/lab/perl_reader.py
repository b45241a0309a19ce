"""Mail::AuthenticationResults (Perl, in libmail-dkim-perl), an independent reader of the field."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

_READER = r"""
use strict; use warnings; use JSON::PP; use Mail::AuthenticationResults::Parser;
sub children { grep { eval { defined $_->key } } @{ $_[0]->children } }  # not comments
local $/ = "\0";
while (my $field = <STDIN>) {
    chomp $field;
    my $read = eval { Mail::AuthenticationResults::Parser->new->parse($field) };
    my @results = $read ? map { [ $_->key, $_->value, map { [ $_->key, $_->value ] } children($_) ] }
        children($read) : ();
    print encode_json($read ? { name => $read->value->value, results => \@results } : {}), "\n";
}
"""
_HAS_READER = not subprocess.run(
    ["perl", "-MMail::AuthenticationResults::Parser", "-e1"], capture_output=True, check=False
).returncode
needs_reader = pytest.mark.skipif(not _HAS_READER, reason="needs Debian's package libmail-dkim-perl")


def read_by_perl(values: list[bytes]) -> list[dict[str, Any]]:
    """Return name and results of each field value, nothing of one that the program refuses."""
    done = subprocess.run(
        ["perl", "-e", _READER], input=b"\0".join(values), capture_output=True, check=False, timeout=60
    )
    read = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(read) == len(values), done.stderr
    return read
