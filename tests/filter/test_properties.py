"""What must hold for any message: the cuts of the input do not matter, every signature verifies, and
canonical forms are their own canonical form.
"""

from __future__ import annotations

import os
import string

import witness
from conftest import Keys
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from in_memory import reader, sign

from dkimpipe import canonical
from dkimpipe.message import LineEnds, Message

settings.register_profile(
    "ours",
    max_examples=int(os.environ.get("EXAMPLES", "200")),
    derandomize="CI" in os.environ,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("ours")

# Octets that matter to canonicalization come often, all others sometimes.
telling = st.sampled_from(
    [b" ", b"\t", b"\r", b"\n", b"\r\n", b"\n\n", b" \r\n", b"a", b"B", b":", b"\x0b", b"\xc3\xbc", b"\x00"]
)
text = st.lists(telling | st.binary(min_size=1, max_size=3), max_size=40).map(b"".join)
long_text = st.builds(lambda part, times: part * times, text, st.sampled_from([1, 1, 1, 50, 3000]))
# dkimpy takes VT, FF and a bare CR at the end of a field for white space, and stops at 8-bit field names.
value = st.text(
    string.printable.replace("\x0b", "").replace("\x0c", "").replace("\r", "").replace("\n", "") + "äß€",
    max_size=30,
)
folded = st.lists(value, min_size=1, max_size=4).map(lambda lines: "\n ".join(lines).encode())
name = st.sampled_from(
    ["Subject", "To", "Cc", "DATE", "Reply-to", "List-Id", "X-Odd!#$", "Content-Type", "Received"]
)
field = st.builds(lambda name, value: name.encode() + b":" + value + b"\n", name, folded)
header = st.lists(field, max_size=8).map(b"".join)
cuts = st.lists(st.integers(0, 10000), max_size=8)
canonicalizations = st.sampled_from(["simple", "relaxed", "nofws"])


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Return a message from alice@example.com with LF or CRLF line ends and any body."""
    above, below = draw(header), draw(header)
    octets: bytes = above + b"From: alice@example.com\n" + below
    if draw(st.booleans()):
        octets = octets.replace(b"\n", b"\r\n") + b"\r\n"
    else:
        octets += b"\n"
    octets += draw(long_text)
    return octets


@given(
    messages(),
    cuts,
    st.sampled_from(["simple/simple", "relaxed/relaxed", "simple/relaxed", "relaxed/simple"]),
    st.booleans(),
)
def test_any_message_in_any_chunks_signs_the_same_and_verifies(
    keys: Keys, message: bytes, cuts: list[int], method: str, normalize: bool
) -> None:
    senders = keys.senders(
        f"example.com dkim(c={method},s=ed25519,key=KEYS/ed25519.pem)"
        ", domainkeys(s=rsa1024,key=KEYS/rsa1024.pem)\n"
    )
    arguments = ["--sender_map", str(senders), f"--normalize={'yes' if normalize else 'no'}"]
    signed = sign(message, *arguments)
    assert sign(message, *arguments, cuts=cuts) == signed
    assert normalize or signed.endswith(message)
    assert witness.dkimpy_verdicts([signed], keys.records) == [["pass"]]


@given(messages(), cuts)
def test_nothing_is_lost_between_header_and_body(message: bytes, cuts: list[int]) -> None:
    read = Message(reader(message, cuts))
    assert read.envelope_line + read.header + b"".join(read.body()) == message


@given(long_text, cuts, canonicalizations, st.sampled_from([b"", b"\r\n"]))
def test_canonical_body_does_not_depend_on_the_cuts_and_is_its_own_canonical_form(
    octets: bytes, cuts: list[int], canonicalization: str, empty: bytes
) -> None:
    whole = canonical_body(canonicalization, [octets], empty)
    bounds = [0, *sorted({cut % (len(octets) + 1) for cut in cuts}), len(octets)]
    assert canonical_body(canonicalization, [octets[i:j] for i, j in zip(bounds, bounds[1:])], empty) == whole
    assert canonical_body(canonicalization, [whole], empty) == whole
    assert whole == model_body(canonicalization, octets, empty)


@given(name, folded, canonicalizations)
def test_canonical_field_is_its_own_canonical_form(name: str, value: bytes, canonicalization: str) -> None:
    once = canonical.field(canonicalization, name.encode() + b":" + value)
    assert once.endswith(b"\r\n")
    assert canonical.field(canonicalization, once[:-2].replace(b"\r\n", b"\n")) == once


def canonical_body(canonicalization: str, chunks: list[bytes], empty: bytes) -> bytes:
    """Return the canonical form of a body that comes in chunks."""
    pieces: list[bytes] = []
    body = canonical.Body(canonicalization, pieces.append, empty)
    line_ends = LineEnds()
    for chunk in chunks:
        body.update(line_ends.update(chunk))
    body.update(line_ends.finish())
    body.finish()
    return b"".join(pieces)


def model_body(canonicalization: str, octets: bytes, empty: bytes) -> bytes:
    """Return the same by the words of the RFCs, line by line and slowly."""
    lines = octets.replace(b"\r\n", b"\n").split(b"\n")
    if canonicalization == "relaxed":
        squeezed = []
        for line in lines:
            blanks = line.replace(b"\t", b" ")
            words = [word for word in blanks.split(b" ") if word]
            squeezed.append((b" " if blanks[:1] == b" " and words else b"") + b" ".join(words))
        lines = squeezed
    if canonicalization == "nofws":
        lines = [bytes(octet for octet in line if octet not in b" \t\r") for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    return b"".join(line + b"\r\n" for line in lines) or empty
