"""The public-key operation, through OpenSSL's own library: RSA_verify(3), EVP_DigestVerify(3)."""

from __future__ import annotations

from dkimpipe.libcrypto import _ED25519, _HASHES, Library, _address, _Long, _Octets, _Signature
from dkimpipe.verify.verdict import REFUSED, Neutral

_PKCS1_PADDING = 1
_OF_SIGNATURES = ("bad signature", "invalid padding", "padding check failed", "wrong signature length")


class PublicLibrary(Library):
    """OpenSSL's library. All methods raise OSError if it or one of its functions is missing."""

    def verifies_rsa(self, key: bytes, signature: bytes, digest: bytes, hash_name: str) -> bool:
        """Return whether a key made the RSASSA-PKCS1-v1_5 signature (RFC 8017) of a digest.

        ``key``: RSAPublicKey in DER (RFC 8017 appendix A.1.1).
        """
        rsa = self._rsa(key)
        inputs = digest, len(digest), signature, len(signature)
        done = rsa.value and self._int("RSA_verify", _HASHES[hash_name], *inputs, rsa)
        self._int("RSA_free", rsa)
        return bool(done == 1) or self._is_allowed()

    def made_rsa(self, key: bytes, signature: bytes) -> bool:
        """Return whether a key made such a signature, of any data."""
        rsa, output = self._rsa(key), _Signature()
        inputs = len(signature), signature, _address(output)
        done = rsa.value and self._int("RSA_public_decrypt", *inputs, rsa, _PKCS1_PADDING)
        self._int("RSA_free", rsa)
        return bool(done > 0)

    def verifies_ed25519(self, key: bytes, signature: bytes, text: bytes) -> bool:
        """Return whether a key, 32 octets, made the Ed25519 signature (RFC 8032) of a text."""
        public = self._pointer("EVP_PKEY_new_raw_public_key", _ED25519, None, key, _Long(len(key)))
        context = self._pointer("EVP_MD_CTX_new")
        inputs = signature, _Long(len(signature)), text, _Long(len(text))
        done = (
            public.value
            and self._int("EVP_DigestVerifyInit", context, None, None, None, public) == 1
            and self._int("EVP_DigestVerify", context, *inputs)
        )
        self._int("EVP_MD_CTX_free", context)
        self._int("EVP_PKEY_free", public)
        return done == 1 or self._is_allowed()

    def _is_allowed(self) -> bool:
        """Return False; raise Neutral if a policy is the reason, and not the signature."""
        reason = self.reason()
        if reason and reason not in _OF_SIGNATURES:
            from dkimpipe import cryptopolicy

            if cryptopolicy.is_cause(reason):
                raise Neutral(REFUSED)
        return False

    def _rsa(self, key: bytes) -> _Long:
        return self._pointer("d2i_RSAPublicKey", None, _address(_Octets(key)), _Long(len(key)))
