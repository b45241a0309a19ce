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
from typing import Callable, NamedTuple, Union

from dkimpipe.body import BodyHashes
from dkimpipe.message import Field, Message
from dkimpipe.verify import keyrecord, signature
from dkimpipe.verify.dkim import DkimCheck
from dkimpipe.verify.domainkeys import DomainKeysCheck
from dkimpipe.verify.keyrecord import KeyRecord
from dkimpipe.verify.resolver import Resolver
from dkimpipe.verify.signature import METHODS, Signature
from dkimpipe.verify.verdict import Failure, Neutral, PermanentError, Verdict

MAX_SIGNATURES = 10
_MAX_RECORDS = 5
Check = Union[DkimCheck, DomainKeysCheck]
_CHECKS: dict[str, Callable[[Signature, Message, BodyHashes], Check]] = {
    "dkim": DkimCheck,
    "domainkeys": DomainKeysCheck,
}
# By whether the key made the signature, of any data, if that can be determined.
_WHY_NOT = {
    True: "{} altered",
    False: "signed with another key",
    None: "{} altered, or signed with another key",
}


class SignatureResult(NamedTuple):
    """A signature field and the result of its verification.

    ``result``     pass, fail, policy, neutral, temperror or permerror (RFC 8601 section 2.7.1)
    ``reason``     in words, empty for a pass
    ``signature``  its content, None if it cannot be parsed
    ``record``     the key that was used, None if there was none
    ``authentic``  whether the resolver authenticated the key record by DNSSEC
    """

    field: Field
    result: str
    reason: str = ""
    signature: Signature | None = None
    record: KeyRecord | None = None
    authentic: bool = False

    @property
    def method(self) -> str:
        """dkim or domainkeys."""
        return METHODS[self.field.name]


class Verifier:
    """The signatures of a message, to be verified after its body has passed through ``bodies``.

    ``unchecked``  the number of signatures beyond the limit
    """

    def __init__(self, message: Message, bodies: BodyHashes, limit: int = MAX_SIGNATURES) -> None:
        fields = [field for field in message.fields if field.name in METHODS]
        self.unchecked = max(0, len(fields) - limit)
        self._checks: list[tuple[Field, Signature | None, Check | Verdict]] = []
        for field in fields[:limit]:
            parsed = None
            check: Check | Verdict
            try:
                parsed = signature.parse(field)
                check = _CHECKS[parsed.method](parsed, message, bodies)
            except Verdict as verdict:
                check = verdict
            self._checks.append((field, parsed, check))

    def check(self, number: int) -> Check | None:
        """Return the check of the signature with this number, None if it cannot be parsed."""
        check = self._checks[number][2]
        return None if isinstance(check, Verdict) else check

    def verify(self, resolver: Resolver, now: int) -> list[SignatureResult]:
        """Return the result of each, top down; ``now`` is the time in seconds since 1970."""
        results = []
        for number, (field, parsed, check) in enumerate(self._checks):
            resolver.share(len(self._checks) - number)
            results.append(_verify(field, parsed, check, resolver, now))
        return results


def _verify(
    field: Field, parsed: Signature | None, check: Check | Verdict, resolver: Resolver, now: int
) -> SignatureResult:
    record, authentic = None, False
    try:
        if isinstance(check, Verdict):
            raise check
        expires = check.signature.expires
        if expires is not None and expires < now:
            raise PermanentError(f"expired on {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime(expires))}")
        check.check_body()
        answer = resolver.texts(check.signature.key_name)
        authentic = answer.authentic
        keys = _usable_keys(check, answer.texts)
        matching = [
            key
            for key in keys
            if key.verifies(check.signature.signature, check.digest(), check.signature.hash_name)
        ]
        record = (matching or keys)[0]
        _check_outcome(check, record, bool(matching))
    except Verdict as verdict:
        return SignatureResult(field, verdict.result, str(verdict), parsed, record, authentic)
    return SignatureResult(field, "pass", "", parsed, record, authentic)


def _usable_keys(check: Check, texts: list[bytes]) -> list[KeyRecord]:
    """Return the keys that may have made the signature. Raises PermanentError if there are none."""
    if not texts:
        raise PermanentError("no key")
    usable, faults = [], []
    for text in texts[:_MAX_RECORDS]:
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
