"""The tables of the benchmark, and what must hold."""

from __future__ import annotations

from figures import Bar, Dimension, Growth, Table
from processes import NOTHING
from scale import FIELDS, MAPS, RECIPIENTS, SIGN, SIGNATURES, SIZES, VERIFY
from ways import CONCURRENCY, LISTS

TABLES = [
    Table("message", "Signing one small message", ("cpu", "wall", "memory", "instructions"), NOTHING),
    Table("verify", "Verifying one small message", ("cpu", "wall", "memory"), NOTHING),
    Table(
        "postfix",
        "Signing, through Postfix, 4 KB messages, 4 sessions",
        ("rate", "cpu", "latency", "others"),
        "copy and exec",
    ),
    Table(
        "inbound",
        "Verifying, through Postfix, 4 KB messages, 4 sessions",
        ("rate", "cpu", "latency", "others"),
        "copy and exec",
    ),
]
MEMORY = SIZES._replace(title="Size of the message", unit="memory")
DIMENSIONS: list[Dimension] = [SIZES, MEMORY, MAPS, SIGNATURES, FIELDS, RECIPIENTS, LISTS, CONCURRENCY]

# The figure of one, divided by that of another, is at most (or, below 0, at least) so much.
BARS: list[Bar | Growth] = [
    Bar("message", "cpu", "dkimpipe, RSA-2048", NOTHING, at_most=2.0),
    Bar("message", "cpu", "dkimpy's dkimsign", "dkimpipe, RSA-2048", at_least=6.0),
    Bar("message", "cpu", "Mail::DKIM", "dkimpipe, RSA-2048", at_least=4.0),
    Bar("verify", "cpu", "dkimpipe verify, unsigned", NOTHING, at_most=1.6),
    Bar("verify", "cpu", "dkimpipe verify, RSA-2048", NOTHING, at_most=2.6),
    Bar("verify", "cpu", "dkimpipe verify, Ed25519", NOTHING, at_most=2.6),
    Bar("verify", "cpu", "dkimpipe verify, DomainKeys", NOTHING, at_most=2.6),
    Bar("verify", "cpu", "dkimpipe verify, 10 signatures", NOTHING, at_most=3.0),
    Bar("sizes", "cpu", "dkimpipe, 25 MB", "openssl dgst and cat, 25 MB", at_most=4.0),
    Bar("sizes", "memory", "dkimpipe, 100 MB", "dkimpipe, 1 KB", within=3072),
    Bar("sizes", "memory", "dkimpipe verify, 100 MB", "dkimpipe verify, 1 KB", within=3072),
    *(Growth(SIZES, series, (1_000, 25 * 10**6, 10**8), 1.25) for series in (SIGN, VERIFY)),
    Bar("maps", "cpu", "one signature, 100,000 lines", "one signature, 1 line", at_most=1.5),
    Bar("maps", "cpu", "two signatures, 100,000 lines", "two signatures, 1 line", at_most=1.5),
    Bar("maps", "cpu", "with an index, 1,000,000 lines", "one signature, 1 line", at_most=1.5),
    Growth(MAPS, "one signature", (1, 100_000, 1_000_000), 1.25),
    *(Growth(SIGNATURES, series, (1, 5, 10), 1.5) for series in (SIGN, VERIFY)),
    *(Growth(FIELDS, series, (10, 2_500, 5_000), 1.5) for series in (SIGN, VERIFY)),
    Bar("recipients", "cpu", "sendmail(1), 1,000 recipients", "sendmail(1), 1 recipient", at_most=1.25),
    Growth(RECIPIENTS, "relay", (1, 500, 1_000), 1.5),
    # The message passes through the queue twice.
    *(
        Bar("lists", "cpu", f"{series}, 1,000 recipients", "no filter, 1,000 recipients", at_most=2.0)
        for series in ("dkimpipe", "dkimpipe, relay")
    ),
    *(
        Bar("concurrency", unit, f"{series}, 32 sessions", f"{series}, 4 sessions", **bar)
        for series in CONCURRENCY.series
        for unit, bar in (("rate", {"at_least": 0.9}), ("cpu", {"at_most": 1.2}))
    ),
    Bar("postfix", "rate", "dkimpipe", "DKIMproxy, no XFORWARD", at_least=1.0),
    Bar("postfix", "rate", "dkimpipe", "dkimpy in the filter", at_least=3.0),
    Bar("postfix", "rate", "dkimpipe", "copy and exec", at_least=0.75),
    Bar("postfix", "latency", "dkimpipe", "DKIMproxy, no XFORWARD", at_most=1.0),
    Bar("postfix", "latency", "dkimpipe", "OpenDKIM, milter", at_most=1.0),
    Bar("postfix", "rate", "dkimpipe, relay", "dkimpipe", at_least=1.35),
    Bar("postfix", "rate", "dkimpipe, relay", "DKIMproxy", at_least=1.75),
    Bar("postfix", "rate", "dkimpipe, relay", "OpenDKIM, milter", at_least=1.75),
    Bar("postfix", "rate", "dkimpipe, relay", "DKIMproxy, no XFORWARD", at_least=1.0),
    Bar("postfix", "rate", "dkimpipe, relay", "DKIMproxy, 20 processes", at_least=1.0),
    Bar("postfix", "latency", "dkimpipe, relay", "DKIMproxy", at_most=1 / 3),
    Bar("postfix", "latency", "dkimpipe, relay", "DKIMproxy, no XFORWARD", at_most=1.0),
    Bar("postfix", "latency", "dkimpipe, relay", "OpenDKIM, milter", at_most=1 / 3),
    Bar("inbound", "rate", "dkimpipe verify", "DKIMproxy.in", at_least=1.0),
    Bar("inbound", "rate", "dkimpipe verify, relay", "DKIMproxy.in", at_least=1.0),
]
