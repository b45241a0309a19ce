"""Why a signature is not good, as an exception with the word of RFC 8601 section 2.7.1 for it."""

from __future__ import annotations


class Verdict(Exception):
    """The end of the way of a signature: ``word`` is permerror, temperror, fail, policy or neutral."""

    word = "permerror"


class PermanentError(Verdict):
    """Signature or key record cannot serve, today or later."""


class TemporaryError(Verdict):
    """DNS does not answer: another day it may."""

    word = "temperror"


class Failure(Verdict):
    """The signature does not fit the message."""

    word = "fail"


class Policy(Verdict):
    """The signature is right, but we do not accept it."""

    word = "policy"


class Neutral(Verdict):
    """The signature is right, and counts for nothing: as if the message were unsigned."""

    word = "neutral"
