"""Text from errors and user code, made fit to travel in a control message."""

from __future__ import annotations

__all__ = ["shortened", "travelling"]

CUT = "... "


def travelling(text: str) -> str:
    r"""Return text that UTF-8 can carry: a lone surrogate is shown as an escape, ``\udcff``."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def shortened(text: str, nbytes: int, *, tail: bool = False) -> str:
    """Return the first, or last, part of a text that takes at most ``nbytes`` in UTF-8."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= nbytes:
        return data.decode("utf-8")
    kept = max(nbytes - len(CUT), 0)
    if tail:
        return CUT[:nbytes] + data[len(data) - kept :].decode("utf-8", "ignore")
    return data[:kept].decode("utf-8", "ignore") + CUT[:nbytes]
