"""A part of a message (RFC 2045) whose parameters can be read whatever a sender has written.

The email package raises errors of many types for parameters as in RFC 2231: for sections that are numbered
in two ways, for numbers of thousands of digits, for charsets that are not for text or contain a null octet.
"""

from __future__ import annotations

from email.message import Message
from email.utils import collapse_rfc2231_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Part(Message):
    """As the class of the email package, but a parameter that cannot be read is one that is missing."""

    def get_param(
        self, param: str, failobj: Any = None, header: str = "content-type", unquote: bool = True
    ) -> Any:
        """Return the value of a parameter, decoded (RFC 2231)."""
        try:
            value = super().get_param(param, failobj, header, unquote)
            return collapse_rfc2231_value(value) if isinstance(value, tuple) else value
        except (ValueError, LookupError, TypeError, AttributeError):
            return failobj

    def get_content_charset(self, failobj: Any = None) -> Any:
        """Return ``failobj``: contents are read as octets, and some charsets cannot even be looked up."""
        return failobj
