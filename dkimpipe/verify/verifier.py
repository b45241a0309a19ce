"""All signatures of a message, each verified independently (RFC 6376 section 6.1).

dkimpy is not used here. It needs a fourth package for Ed25519, keeps the message in memory several times,
takes quadratic time for white space, tolerates clock errors of ten hours, ignores k=, h=, s= and t= of key
records, and reads only one key record. The signer's canonicalizations are at hand, work on streams, and are
tested against three other verifiers; ``--explain`` asks dkimpy for a second opinion.

Choices where the RFCs leave room: only the first MAX_SIGNATURES signatures are checked. The body is checked
before DNS is queried: an altered body needs no key. x= is enforced to the second; t= in the future is
allowed. A key in test mode (t=y) makes the result neutral, whether the signature is valid or not. A valid
signature is only ``policy`` if its l= leaves text unsigned, or if it does not cover all From fields.
"""

from __future__ import annotations

import time

from dkimpipe.verify.authres import METHODS
from dkimpipe.verify.verdict import Failure, Neutral, PermanentError, Verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Union

    from dkimpipe.body import BodyHashes
    from dkimpipe.message import Field, Message
    from dkimpipe.verify.dkim import DkimCheck
    from dkimpipe.verify.domainkeys import DomainKeysCheck
    from dkimpipe.verify.keyrecord import KeyRecord
    from dkimpipe.verify.resolver import Resolver
    from dkimpipe.verify.signature import Signature

    Check = Union[DkimCheck, DomainKeysCheck]

MAX_SIGNATURES = 10
MAX_RECORDS = 5
# Results of signatures that others may accept; l= that leaves text unsigned is policy.
_MAY_BE_RIGHT = ("permerror", "neutral", "fail")
# By whether the key made the signature, of any data, if that can be determined.
_WHY_NOT = {
    True: "{} altered",
    False: "signed with another key",
    None: "{} altered, or signed with another key",
}


class SignatureResult:
    """A signature field and the result of its verification.

    ``result``     pass, fail, policy, neutral, temperror or permerror (RFC 8601 section 2.7.1)
    ``reason``     in words, empty for a pass
    ``signature``  its content, None if it cannot be parsed
    ``record``     the key that was used, None if there was none
    ``authentic``  whether the resolver authenticated the key record by DNSSEC
    ``vouching``   the domain whose key made the signature, or could have, though the result is not pass;
                   empty if there is none, or if that was not asked for
    """

    __slots__ = ("authentic", "field", "reason", "record", "result", "signature", "vouching")

    def __init__(
        self,
        field: Field,
        result: str,
        reason: str = "",
        signature: Signature | None = None,
        record: KeyRecord | None = None,
        authentic: bool = False,
        vouching: bytes = b"",
    ) -> None:
        self.field = field
        self.result = result
        self.reason = reason
        self.signature = signature
        self.record = record
        self.authentic = authentic
        self.vouching = vouching

    @property
    def method(self) -> str:
        """dkim or domainkeys."""
        return METHODS[self.field.name]


class Verifier:
    """The signatures of a message, to be verified after its body has passed through ``bodies``.

    ``unchecked``  the number of signatures beyond the limit
    """

    def __init__(
        self,
        message: Message,
        bodies: BodyHashes,
        limit: int = MAX_SIGNATURES,
        lenient: bool = False,
    ) -> None:
        """``lenient``: also find out which domains vouch for the message (module ``lenient``)."""
        fields = [field for field in message.fields if field.name in METHODS]
        self.unchecked = max(0, len(fields) - limit)
        self._checks: list[tuple[Field, Signature | None, Check | Verdict, Check | None]] = []
        for field in fields[:limit]:
            parsed, check = _parsed(field, message, bodies)
            other = _lenient(field, check, message, bodies) if lenient else None
            self._checks.append((field, parsed, check, other))

    def check(self, number: int) -> Check | None:
        """Return the check of the signature with this number, None if it cannot be parsed."""
        check = self._checks[number][2]
        return None if isinstance(check, Verdict) else check

    def verify(self, resolver: Resolver, now: int) -> list[SignatureResult]:
        """Return the result of each, top down; ``now`` is the time in seconds since 1970."""
        judged = [_without_key(check, now) for _, _, check, _ in self._checks]
        resolver.ask([check.signature.key_name for check in judged if not isinstance(check, Verdict)])
        results = []
        for number, (field, parsed, _, other) in enumerate(self._checks):
            resolver.share(len(judged) - number)
            result = _verify(field, parsed, judged[number], resolver)
            if other and result.result in _MAY_BE_RIGHT:
                from dkimpipe.verify import lenient

                result.vouching = lenient.vouching(other, resolver, now)
            results.append(result)
        return results


def _parsed(field: Field, message: Message, bodies: BodyHashes) -> tuple[Signature | None, Check | Verdict]:
    """Return a signature and its check; None and a verdict if it cannot be parsed."""
    from dkimpipe.verify import signature

    parsed = None
    try:
        parsed = signature.parse(field)
        return parsed, _check(parsed, message, bodies)
    except Verdict as verdict:
        return parsed, verdict


def _lenient(field: Field, strict: Check | Verdict, message: Message, bodies: BodyHashes) -> Check | None:
    """Return the check of a signature that is read leniently, if there was a verdict on it."""
    if not isinstance(strict, Verdict):
        return strict
    from dkimpipe.verify import lenient

    parsed = lenient.signature(field)
    try:
        return _check(parsed, message, bodies) if parsed else None
    except Verdict:
        return None


def _check(parsed: Signature, message: Message, bodies: BodyHashes) -> Check:
    """Return the check of a signature. Raises Verdict."""
    if parsed.method == "dkim":
        from dkimpipe.verify.dkim import DkimCheck

        return DkimCheck(parsed, message, bodies)
    from dkimpipe.verify.domainkeys import DomainKeysCheck

    return DomainKeysCheck(parsed, message, bodies)


def _without_key(check: Check | Verdict, now: int) -> Check | Verdict:
    """Return the verdict on a signature if it needs no key, otherwise its check."""
    if isinstance(check, Verdict):
        return check
    expires = check.signature.expires
    try:
        if expires is not None and expires < now:
            raise PermanentError(f"expired on {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime(expires))}")
        check.check_body()
    except Verdict as verdict:
        return verdict
    return check


def _verify(
    field: Field, parsed: Signature | None, check: Check | Verdict, resolver: Resolver
) -> SignatureResult:
    record, authentic = None, False
    try:
        if isinstance(check, Verdict):
            raise check
        answer = resolver.texts(check.signature.key_name)
        authentic = answer.authentic
        keys = _usable_keys(check, answer.texts)
        digest, signature = check.digest(), check.signature
        matching = [key for key in keys if key.verifies(signature.signature, digest, signature.hash_name)]
        record = (matching or keys)[0]
        _check_outcome(check, record, bool(matching))
    except Verdict as verdict:
        return SignatureResult(field, verdict.result, str(verdict), parsed, record, authentic)
    return SignatureResult(field, "pass", "", parsed, record, authentic)


def _usable_keys(check: Check, texts: list[bytes]) -> list[KeyRecord]:
    """Return the keys that may have made the signature. Raises PermanentError if there are none."""
    from dkimpipe.verify import keyrecord

    if not texts:
        raise PermanentError("no key")
    usable, faults = [], []
    for text in texts[:MAX_RECORDS]:
        try:
            record = keyrecord.parse(text)
            if record.type != check.signature.key_type:
                raise PermanentError("key record: k= does not match a=")
            if not record.allows_hash(check.signature.hash_name):
                raise PermanentError(f"key record: h= does not allow {check.signature.hash_name}")
            check.check_key(record)
            usable.append(record)
        except PermanentError as fault:
            faults.append(fault)
    if not usable:
        raise faults[0]
    return usable


def _check_outcome(check: Check, record: KeyRecord, matches: bool) -> None:
    """Raise Failure if the signature is not valid, Neutral or Unacceptable if it is not to be used."""
    if b"y" in record.flags:
        raise Neutral("key record: t=y, the key is in test mode")
    if not matches:
        raise Failure(_WHY_NOT[record.made(check.signature.signature)].format(check.covers))
    check.check_coverage()
