"""Signed messages with one thing changed at random: where ``dkimpipe verify`` passes one, others do, too.

And where all of three others pass one, so does it. DomainKeys has one other verifier, which takes nearly all.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable

import in_memory
import witness
from conftest import Keys, Report
from nameserver import NameServer

from dkimpipe.verify.resolver import Resolver
from dkimpipe.verify.verifier import SignatureResult

NAME = "sel._domainkey.example.com"
MESSAGE = (
    b"Received: by x\nFrom: Alice <alice@example.com>\nTo: bob@example.net,\n carol@example.net\n"
    b"Subject:  hello\n  there\t\nX-Other: z\nDate: Thu, 01 Jan 2026 12:00:00 +0000\n\n"
    b"Hello,  Bob. \n\n \t\nAlice\t \n\n\n"
)
SIGNATURES = (
    *(f"dkim(c={header}/{body},t=no)" for header in ("simple", "relaxed") for body in ("simple", "relaxed")),
    *(f"domainkeys(c={form})" for form in ("simple", "nofws")),
)
# CR, VT and FF are not here, nor a colon, which can begin a line: of these the others think otherwise.
BITS = (
    *(" ", "\t", "\n", "\n ", "\n\n", "\0", ";", "=", "a", "A", "--", "; t=1", "; q=dns/txt", "; l=3"),
    *("From: a\n", "\nSubject: q\n", "; b=", "; v=1", "; x=9999999999", "c=simple;"),
)
MUTANTS = 600
# In signature fields; RFC 6376 section 3.2 knows no tag lists and no base64 that are almost right.
STRICT = ("contains invalid characters", "is no base64", "not a tag list", "appears twice")


def mutant(signed: bytes, chance: random.Random) -> bytes:
    """Return a signed message with something put in, taken out, or folded otherwise."""
    at = chance.randrange(len(signed))
    bit = chance.choice(BITS).encode()
    blank = chance.choice([place for place, octet in enumerate(signed) if octet in b" \t\n"])
    fold = chance.choice((b"", b"  ", b"\n ", b"\t", b" \n"))
    return chance.choice(
        (
            signed[:at] + bit + signed[at:],
            signed[:at] + signed[at + 1 :],
            signed[:blank] + fold + signed[blank + 1 :],
        )
    )


def is_ours_to_refuse(results: list[SignatureResult]) -> bool:
    """Return whether we are stricter than others, and know it."""
    return any(each.reason.endswith(STRICT) for each in results)


def are_readable(verdicts: Iterable[list[str]]) -> bool:
    """Return whether all could read the message: of what is no header the others think otherwise."""
    return not any(one.startswith("unreadable") for each in verdicts for one in each)


def test_mutants(keys: Keys, report: Report) -> None:
    chance = random.Random(6376)
    options = ("--domain=example.com", "--selector=sel", f"--keyfile={keys.path('rsa2048')}")
    signed = [in_memory.sign(MESSAGE, *options, f"--signature={each}") for each in SIGNATURES]
    mutants = [mutant(chance.choice(signed), chance) for _ in range(MUTANTS)]
    records = {NAME: keys.records["rsa2048._domainkey.example.com"]}
    resolver = Resolver(known={NAME: records[NAME][0]})
    with NameServer(records) as server:
        mail_dkim = witness.mail_dkim_verdicts(mutants, server.port)
    others = zip(
        witness.dkimpy_verdicts(mutants, records), witness.opendkim_verdicts(mutants, records), mail_dkim
    )
    counts: Counter[str] = Counter()
    odd = []
    for message, verdicts in zip(mutants, others):
        results = in_memory.verify(message, resolver)
        we = any(each.result == "pass" for each in results)
        they = [any(one.endswith("pass") for one in each) for each in verdicts if each]
        counts["pass" if we else "not"] += 1
        alone = not any(they) if we else they == [True] * 3 and not is_ours_to_refuse(results)
        if they and alone and are_readable(verdicts):
            odd.append((message, results, verdicts))
    report(f"{MUTANTS} mutants, {counts['pass']} still right; no other verifier alone against us")
    assert odd == []
