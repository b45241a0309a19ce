"""A DKIM-Signature field from options, hashes and key (RFC 6376, 8301, 8463)."""

from binascii import b2a_base64

from dkimpipe import canonical, digest, tags
from dkimpipe.errors import ConfigError
from dkimpipe.options import ALWAYS, OVERSIGNED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dkimpipe.body import BodyHashes
    from dkimpipe.keys import PrivateKey
    from dkimpipe.message import Field, Message
    from dkimpipe.options import SignatureOptions

KEY_TYPES = {"rsa-sha256": "rsa", "rsa-sha1": "rsa", "ed25519-sha256": "ed25519"}
_SAFE = frozenset(range(33, 127)) - frozenset(b";=")  # dkim-safe-char, RFC 6376 section 2.11


class DkimSignature:
    """A signature in progress: its field is available after the body has passed through ``bodies``."""

    def __init__(self, options: "SignatureOptions", key: "PrivateKey", bodies: "BodyHashes") -> None:
        """Raise ConfigError if the key does not match the algorithm that the options ask for."""
        self.options = options
        self._key = key
        self.algorithm = options.algorithm or f"{key.type}-sha256"
        if KEY_TYPES[self.algorithm] != key.type:
            raise ConfigError(
                f"{options.place}: a={self.algorithm}, but key file {key.path} contains an {key.type} key"
            )
        self._hash_name = self.algorithm.partition("-")[2]
        self._body_hash = bodies.hash(options.body_canonicalization, self._hash_name)

    def __str__(self) -> str:
        return f"d={self.options.domain.decode()} s={self.options.selector.decode()} a={self.algorithm}"

    def field(self, message: "Message", now: int) -> bytes:
        """Return the DKIM-Signature field as LF text, folded, without LF at its end.

        ``now`` is the time in seconds since 1970. Raises PrivateKeyError.
        """
        options = self.options
        names = options.headers or header_names(message, options.fields)
        written = [
            (b"v", b"1"),
            (b"a", self.algorithm.encode()),
            (b"c", f"{options.header_canonicalization}/{options.body_canonicalization}".encode()),
            (b"d", options.domain),
            (b"s", options.selector),
        ]
        if options.identity:
            written.append((b"i", quoted(options.identity)))
        if options.timestamp:
            written.append((b"t", b"%d" % now))
        if options.lifetime:
            written.append((b"x", b"%d" % (now + options.lifetime)))
        written.append((b"h", b":".join(names)))
        written.append((b"bh", b2a_base64(self._body_hash.digest(), newline=False)))
        field = tags.write_field(b"DKIM-Signature", [*written, (b"b", b"")])
        header_hash = digest.new(self._hash_name)
        header_hash.update(signed_data(message.by_name, names, field, options.header_canonicalization))
        signature = self._key.sign(header_hash.digest(), self._hash_name)
        return tags.write_base64(field, b2a_base64(signature, newline=False))


def signed_data(
    by_name: "Mapping[bytes, Sequence[Field]]",
    names: "Sequence[bytes]",
    field: bytes,
    canonicalization: str,
) -> bytes:
    """Return the signed data (RFC 6376 section 3.7): the fields in h=, then the signature field itself.

    ``field`` is the DKIM-Signature as LF text with an empty b=. Of several fields of one name the last comes
    first (section 5.4.2); a name with none left adds nothing. All but the signature field end with CRLF.
    """
    left = {name: list(by_name.get(name, ())) for name in set(names)}
    fields = [left[name].pop().text for name in names if left[name]]
    return b"".join([canonical.field(canonicalization, text) for text in [*fields, field]])[:-2]


def header_names(message: "Message", fields: "Mapping[bytes, int]") -> "list[bytes]":
    """Return the names for h=: each of these fields as often as it occurs, some oversigned."""
    names = []
    for name, how in fields.items():
        count = len(message.by_name.get(name, ()))
        oversigned = how == ALWAYS or (how == OVERSIGNED and count)
        names += [name] * (count + 1 if oversigned else count)
    return names


def quoted(identity: bytes) -> bytes:
    """Return i= as dkim-quoted-printable (RFC 6376 section 2.11)."""
    return b"".join([b"%c" % octet if octet in _SAFE else b"=%02X" % octet for octet in identity])
