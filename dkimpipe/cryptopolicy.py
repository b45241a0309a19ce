"""What OpenSSL refuses to do with a good key: by FIPS mode, a crypto-policy, or its configuration."""

from dkimpipe.errors import PrivateKeyError

_FIPS = "/proc/sys/crypto/fips_enabled"  # of the kernel; OpenSSL follows it on RHEL
_CRYPTO_POLICY = "/etc/crypto-policies/state/current"  # update-crypto-policies(8)
# Of ERR_reason_error_string(3), in lower case: the key is not the cause.
_REASONS = (
    "digest not allowed",
    "disabled for fips",
    "fips module entering error state",
    "fips selftest failed",
    "invalid digest",
    "invalid digest type",
    "invalid key length",
    "key size too small",
    "non fips rsa method",
    "operation not allowed in fips mode",
    "unable to fetch drbg",
    "unsupported",
    "unsupported algorithm",
)
_INCOMPLETE = ("unable to fetch drbg", "unsupported")  # no provider has what its configuration asks for
_GOOD_BITS = 2048  # RFC 8301 section 3.2, and the least of FIPS 186-5


class RefusedKeyError(PrivateKeyError):
    """The key is good, and OpenSSL does not sign with it on this system."""


def is_cause(reason: str) -> bool:
    """Return whether OpenSSL failed because of a policy: ``reason`` is its own, empty if it gave none."""
    return reason.lower() in _REASONS or (not reason and _first_line(_FIPS) == "1")


def policy() -> str:
    """Return the policy of this system in parentheses, after a space; empty if it has none."""
    if _first_line(_FIPS) == "1":
        return " (FIPS mode)"
    name = _first_line(_CRYPTO_POLICY)
    return f" (crypto-policy {name})" if name else ""


def refusal(algorithm: str, bits: int, path: str, reason: str) -> RefusedKeyError:
    """Return the error where OpenSSL refuses to sign by an algorithm with the key in a file."""
    if algorithm == "rsa-sha1":
        hint = "sign with rsa-sha256: remove a=rsa-sha1 and domainkeys(...) from the entry"
    elif algorithm.startswith("ed25519"):
        hint = "use an RSA key: dkimpipe genkey --type rsa"
    elif bits < _GOOD_BITS and reason not in _INCOMPLETE:
        hint = f"use a key of {_GOOD_BITS} bits: dkimpipe genkey"
    else:
        hint = "openssl list -providers shows whether its configuration is complete"
    cause = f"OpenSSL refuses {algorithm}{policy()} with key file {path}: {reason or 'no reason given'}"
    return RefusedKeyError(cause, hint)


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.readline(100).strip()
    except OSError:
        return ""
