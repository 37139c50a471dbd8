"""What a call costs: bytes traced while it ran, and how often bytes were looked at."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest

from flare_async.errors import FlareError

__all__ = ["TRANSIENT", "CountedBytes", "refused", "traced"]

TRANSIENT = 1_000_000  # bytes that one bad input may cost while it is judged


def traced(call: Callable[[], object]) -> tuple[object, int]:
    """Return what a call returned or raised as its own error, and the peak of its memory."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        try:
            outcome = call()
        except FlareError as error:
            outcome = error
        return outcome, tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def refused(call: Callable[[], object], kind: type[FlareError], text: str = "") -> FlareError:
    """Run what must raise ``kind`` with ``text`` in it, within ``TRANSIENT`` bytes."""
    outcome, peak = traced(call)
    if type(outcome) is not kind:
        pytest.fail(f"{kind.__name__} is due, got {outcome!r:.200}")
    assert text in str(outcome)
    assert str(outcome).isprintable()
    assert len(str(outcome)) < 400
    assert peak <= TRANSIENT, f"{peak} bytes for {outcome}"
    return outcome


class CountedBytes(bytes):
    """Bytes that count in ``looks`` how often one of them or a slice was read."""

    looks = 0

    def __getitem__(self, key):
        self.looks += 1
        return super().__getitem__(key)
