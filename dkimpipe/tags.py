"""Tag=value lists (RFC 6376 section 3.2): writing and folding.

A field is LF text: LF and SP where it is folded, no LF at its end.
"""

WIDTH = 76


def write_field(name: bytes, tags: "list[tuple[bytes, bytes]]") -> bytes:
    """Return a header field of these tags in order, folded at WIDTH columns where its parts allow it."""
    lines = [name + b":"]
    for number, (tag, value) in enumerate(tags, 1):
        separator = b" "
        for part in _parts(tag, value + b";" if number < len(tags) else value):
            if len(lines[-1]) + len(separator) + len(part) > WIDTH:
                lines.append(b" " + part)
            else:
                lines[-1] += separator + part
            separator = b""
    return b"\n".join(lines)


def write_base64(field: bytes, value: bytes) -> bytes:
    """Return the field with a base64 value added to its last tag, folded at WIDTH columns."""
    room = max(0, WIDTH - (len(field) - field.rfind(b"\n") - 1))
    pieces = [value[:room]]
    pieces += [value[at : at + WIDTH - 1] for at in range(room, len(value), WIDTH - 1)]
    return field + b"\n ".join(pieces)


def _parts(tag: bytes, value: bytes) -> "list[bytes]":
    """Return a tag split where folding white space is allowed: after the colons of h=."""
    if tag != b"h":
        return [tag + b"=" + value]
    names = value.split(b":")
    parts = [name + b":" for name in names[:-1]] + names[-1:]
    parts[0] = tag + b"=" + parts[0]
    return parts
