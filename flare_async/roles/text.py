"""Text from errors and user code, made fit to travel in a control message."""

from __future__ import annotations

import traceback
from pathlib import PurePath

__all__ = ["described", "shortened", "travelling", "where"]

CUT = "... "
FRAMES = 12


def travelling(text: str) -> str:
    r"""Return text that UTF-8 can carry: a lone surrogate is shown as an escape, ``\udcff``."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def described(error: BaseException) -> str:
    """Return an error's type and text; its ``str()`` may be user code, and fail."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - reporting an error must not raise another
        text = "<its str() failed>"
    return travelling(f"{type(error).__name__}: {text}")


def where(error: BaseException) -> list[str]:
    """Return the frames of an error, the last one last, for a log.

    Without the lines of source: the loop must not wait for files.
    """
    frames = traceback.walk_tb(error.__traceback__)
    return [
        f"{PurePath(frame.f_code.co_filename).name}:{line} {frame.f_code.co_name}"
        for frame, line in frames
    ][-FRAMES:]


def shortened(text: str, nbytes: int, *, tail: bool = False) -> str:
    """Return the first, or last, part of a text that takes at most ``nbytes`` in UTF-8."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= nbytes:
        return data.decode("utf-8")
    kept = max(nbytes - len(CUT), 0)
    if tail:
        return CUT[:nbytes] + data[len(data) - kept :].decode("utf-8", "ignore")
    return data[:kept].decode("utf-8", "ignore") + CUT[:nbytes]
