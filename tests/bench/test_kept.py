"""Memory that is used again."""

from __future__ import annotations

from bench.kept import KeptMemory, KeptSink


def test_given_memory_is_taken_again() -> None:
    """No page is new to anybody but the first."""
    memory = KeptMemory(16)
    view = memory.take()
    memory.give(view)

    assert memory.take() is view


def test_two_takers_get_different_memory() -> None:
    """What one has taken nobody else writes to."""
    memory = KeptMemory(16)

    first, second = memory.take(), memory.take()
    first[0] = 7

    assert second[0] == 1


def test_a_sink_writes_into_its_view() -> None:
    """Ranges and adopted tensors both end up there."""
    view = memoryview(bytearray(4))
    sink = KeptSink(view)

    sink.adopt("tensor", memoryview(b"abcd"))
    sink.destination("tensor", 1, 2)[:] = b"xy"

    assert bytes(view) == b"axyd"
