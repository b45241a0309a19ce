"""Which of two halves of an Ed25519 key 32 octets are: RFC 8032 section 5.1.

Any 32 octets can be a private half. Only those that encode a point of order L can be a public one, as one of
16 private halves does. What is calculated here is in DNS already, so its timing shows nothing.
"""

from __future__ import annotations

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_SQRT_MINUS_1 = pow(2, (_P - 1) // 4, _P)
_NEUTRAL = (0, 1)

_Point = tuple[int, int]


def is_public_half(octets: bytes) -> bool:
    """Return whether 32 octets encode a point of order L."""
    point = _decoded(octets)
    return point is not None and point != _NEUTRAL and _multiple(_L, point) == _NEUTRAL


def _decoded(octets: bytes) -> _Point | None:
    """Return a point (section 5.1.3), or None. The sign of x is ignored: the order is the same."""
    y = int.from_bytes(octets, "little") & ~(1 << 255)
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    for root in (x, x * _SQRT_MINUS_1 % _P):
        if root * root % _P == square and y < _P:
            return root, y
    return None


def _multiple(factor: int, point: _Point) -> _Point:
    found = _NEUTRAL
    while factor:
        if factor & 1:
            found = _sum(found, point)
        point = _sum(point, point)
        factor >>= 1
    return found


def _sum(one: _Point, other: _Point) -> _Point:
    """Return the sum of two points (section 5.1.4): complete, no denominator is zero."""
    (x1, y1), (x2, y2) = one, other
    common = _D * x1 * x2 * y1 * y2
    x = (x1 * y2 + x2 * y1) * pow(1 + common, -1, _P)
    y = (y1 * y2 + x1 * x2) * pow(1 - common, -1, _P)
    return x % _P, y % _P
