"""A look over raw msgpack before anything is decoded: items, nesting, completeness.

Decoding allocates what a few bytes announce (``dd ff ff ff ff`` is an array of four billion), and
an empty map takes one byte on the wire but 64 in memory. The scanner follows the structure without
building it and stops at the first item beyond the budget.
"""

from __future__ import annotations

from flare_async.errors import RemoteProtocolError

__all__ = ["scan"]

_SCALAR, _CONTAINER, _REFUSED = range(3)


def _rules() -> tuple[list[int], list[int], list[int]]:
    """Return per lead byte: what it starts, bytes of its size field, factor or fixed size."""
    kind, width, amount = [_SCALAR] * 256, [0] * 256, [0] * 256
    for low in range(16):
        kind[0x80 + low], amount[0x80 + low] = _CONTAINER, 2 * low
        kind[0x90 + low], amount[0x90 + low] = _CONTAINER, low
    for low in range(32):
        amount[0xA0 + low] = low
    for lead, size in ((0xCA, 4), (0xCB, 8), (0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8)):
        amount[lead] = size
    for lead, size in ((0xD0, 1), (0xD1, 2), (0xD2, 4), (0xD3, 8)):
        amount[lead] = size
    for lead, size in ((0xC4, 1), (0xC5, 2), (0xC6, 4), (0xD9, 1), (0xDA, 2), (0xDB, 4)):
        width[lead], amount[lead] = size, 1
    for lead, size, factor in ((0xDC, 2, 1), (0xDD, 4, 1), (0xDE, 2, 2), (0xDF, 4, 2)):
        kind[lead], width[lead], amount[lead] = _CONTAINER, size, factor
    for lead in (0xC1, 0xC7, 0xC8, 0xC9, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8):
        kind[lead] = _REFUSED
    return kind, width, amount


_KIND, _WIDTH, _AMOUNT = _rules()


def scan(data: bytes, items: int, depth: int) -> None:
    """Check that data is one complete msgpack value within the budgets.

    Keys and values of a map count as one item each; a scalar at the top has depth 0.

    Raises:
        RemoteProtocolError: too many items, too deep, an ext type, truncated, or bytes after it.
    """
    total, position, left = len(data), 0, 1
    outer: list[int] = []
    announced = 1
    while left:
        kind, size, position = _item(data, position)
        left -= 1
        if kind == _CONTAINER:
            announced += size
            if announced > items or len(outer) >= depth:
                raise RemoteProtocolError(
                    "bad_message", f"more than {items} items or {depth} levels"
                )
            outer.append(left)
            left = size
        else:
            position += size
        while not left and outer:
            left = outer.pop()
    if position != total:
        word = "truncated" if position > total else "bytes after the message"
        raise RemoteProtocolError("bad_message", f"{word}: {position} needed, {total} there")


def _item(data: bytes, position: int) -> tuple[int, int, int]:
    """Return kind, size and the position behind the lead byte and size field of an item."""
    if position >= len(data):
        raise RemoteProtocolError("bad_message", f"truncated after {len(data)} bytes")
    lead = data[position]
    kind, width, size = _KIND[lead], _WIDTH[lead], _AMOUNT[lead]
    position += 1
    if width:
        size *= int.from_bytes(data[position : position + width], "big")
        position += width
    elif kind == _REFUSED:
        raise RemoteProtocolError("bad_message", f"type byte 0x{lead:02x} is not allowed")
    return kind, size, position
