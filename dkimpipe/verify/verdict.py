"""Why a signature does not pass, as an exception with the result of RFC 8601 section 2.7.1."""

from __future__ import annotations

REFUSED = "OpenSSL does not allow this algorithm, or a key of this length, on this system"


class Verdict(Exception):
    """The verdict on a signature: ``result`` is permerror, temperror, fail, policy or neutral."""

    result = "permerror"


class PermanentError(Verdict):
    """Signature or key record is permanently unusable."""


class TemporaryError(Verdict):
    """DNS does not answer; it may later."""

    result = "temperror"


class Failure(Verdict):
    """The signature does not match the message."""

    result = "fail"


class Unacceptable(Verdict):
    """The signature is valid, but not acceptable by local policy."""

    result = "policy"


class Neutral(Verdict):
    """The signature is to be ignored, as if the message were unsigned."""

    result = "neutral"
