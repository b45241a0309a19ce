"""A DomainKey-Signature field (RFC 4870, historic): one SHA-1 over header and body, from top to bottom."""

from binascii import b2a_base64

from dkimpipe import canonical, digest, tags
from dkimpipe.address import first_mailbox, is_at_or_below
from dkimpipe.errors import ConfigError, NotSigned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dkimpipe.body import BodyHashes
    from dkimpipe.keys import PrivateKey
    from dkimpipe.message import Message
    from dkimpipe.options import SignatureOptions


class DomainKeysSignature:
    """A signature in progress: its field is available after the body has passed through ``bodies``."""

    algorithm = "rsa-sha1"

    def __init__(
        self, options: "SignatureOptions", key: "PrivateKey", message: "Message", bodies: "BodyHashes"
    ) -> None:
        """Raise NotSigned if d= does not cover the sending address, ConfigError if key or h= is wrong."""
        self.options = options
        self._key = key
        if key.type != "rsa":
            fault = f"key file {key.path} contains an {key.type} key, not rsa"
            raise ConfigError(f"{options.place}: domainkeys: {fault}")
        name = b"sender" if b"sender" in message.by_name else b"from"
        sending = first_mailbox(message.by_name[name][0].value).domain
        if not is_at_or_below(sending, options.domain):
            raise NotSigned(f"domainkeys d={options.domain.decode()} does not cover {name.decode()}")
        wanted = options.headers or options.fields
        if name not in wanted:
            raise ConfigError(f"{options.place}: domainkeys h= does not include {name.decode()}")
        fields = [field for field in message.fields if field.name in wanted]
        self._names = [field.name for field in fields]
        self._hash = digest.new("sha1", bodies.large)
        for field in fields:
            self._hash.update(canonical.field(options.header_canonicalization, field.text))
        # The empty line between header and body is dropped if only empty lines follow.
        body = canonical.Body(options.body_canonicalization, self._hash.update)
        body.update(b"\n")
        bodies.add(body)

    def __str__(self) -> str:
        return f"d={self.options.domain.decode()} s={self.options.selector.decode()} a=rsa-sha1 domainkeys"

    def field(self, message: "Message", now: int) -> bytes:
        """Return the DomainKey-Signature field as LF text, folded, without LF at its end."""
        options = self.options
        field = tags.write_field(
            b"DomainKey-Signature",
            [
                (b"a", b"rsa-sha1"),
                (b"q", b"dns"),
                (b"c", options.body_canonicalization.encode()),
                (b"d", options.domain),
                (b"s", options.selector),
                (b"h", b":".join(self._names)),
                (b"b", b""),
            ],
        )
        return tags.write_base64(
            field, b2a_base64(self._key.sign(self._hash.digest(), "sha1"), newline=False)
        )
