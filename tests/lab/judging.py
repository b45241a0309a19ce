"""What signatures of the corpus are called by a verifier: valid, or wrong for a reason that is known."""

from __future__ import annotations

from fnmatch import fnmatch

METHODS = ["simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed"]

# One key of each type, each canonicalization.
SHORT = [
    *(f"dkim(c={c},s={s})" for c in METHODS for s in ("rsa2048", "ed25519")),
    *(f"domainkeys(c={c},s=rsa2048)" for c in ("simple", "nofws")),
]

# Messages that get no DomainKey-Signature: their sending address is not that of the entry, or there is none.
NO_DOMAINKEYS = {"field-sender-other-domain", "field-sender-two", "field-sender-unusable"}


def judge(
    verdicts: dict[str, list[str]], signatures: list[str], cannot: list[tuple[str, str, str]], used: set[int]
) -> int:
    """Return how many signatures a verifier calls valid: all, but those that it is known to get wrong."""
    valid = 0
    wrong = []
    for name, got in verdicts.items():
        made = [one for one in signatures if name not in NO_DOMAINKEYS or not one.startswith("domainkeys")]
        assert len(got) == 1 or len(got) >= len(made), (name, got)
        for verdict, signature in zip(got if len(got) > 1 else got * len(signatures), signatures):
            excuses = {
                number
                for number, (message, which, _) in enumerate(cannot)
                if fnmatch(name, message) and fnmatch(signature, which)
            }
            if verdict in ("pass", "dkim:pass", "domainkeys:pass"):
                valid += 1
            elif excuses:
                used |= excuses
            else:
                wrong.append((name, signature, verdict))
    assert wrong == []
    return valid
