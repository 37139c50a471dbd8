"""What a sink of tensors is, and what some of them can do besides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

if TYPE_CHECKING:
    from flare_async.transfer.spec import TensorSpec

__all__ = [
    "PressedSink",
    "StoredSink",
    "TensorSink",
    "WholeSink",
    "pressed_of",
    "stored_of",
    "whole_of",
]


class TensorSink(Protocol):
    """Takes tensors in pieces, several at once and in any order.

    ``begin`` once, then for every range ``destination`` (as often as needed: a range that was
    taken but did not land may be taken again), write, ``landed`` (once); or ``write`` for bytes
    that have memory of their own; or ``adopt`` for a whole tensor. Names in ``aliases`` get no
    bytes of their own. ``finish`` or ``discard`` ends it. Every method is synchronous and called
    on the loop.

    What has landed is untrusted until the tensor is verified: ``read`` looks at it again,
    ``reject`` makes room for other bytes. Only whoever has verified every tensor calls ``finish``.
    """

    def begin(self, specs: Sequence[TensorSpec], aliases: Mapping[str, str] = ...) -> None:
        """Prepare for these tensors.

        Raises:
            FlareError: they cannot be accepted; nothing was prepared.
        """

    def destination(self, name: str, offset: int, nbytes: int) -> memoryview:
        """Return writable memory for a range that has not landed, or for its beginning.

        An empty view says that there is no memory now: ``write`` takes the bytes all the same.

        Raises:
            TransferError: no such tensor, beyond its end, or landed already.
        """

    def landed(self, name: str, offset: int, nbytes: int) -> None:
        """Take note that a range, or a part of one, was written.

        Raises:
            TransferError: no such range was asked for, or it landed already.
        """

    def write(self, name: str, offset: int, data: memoryview) -> None:
        """Write a range that came in memory of its own, and take note of it.

        Raises:
            TransferError: no such tensor, beyond its end, or landed already.
        """

    def read(self, name: str, offset: int, nbytes: int) -> memoryview:
        """Return bytes that have landed, before ``finish``.

        Raises:
            TransferError: they have not landed.
        """

    def reject(self, name: str, offset: int, nbytes: int) -> None:
        """Forget that a range has landed: its bytes were not those that were sent.

        Raises:
            TransferError: no such range, or the tensor was adopted.
        """

    def adopt(self, name: str, view: memoryview) -> None:
        """Take a whole tensor by reference; its memory must not change from now on.

        Raises:
            TransferError: no such tensor, of another size, or partly landed already.
        """

    def finish(self) -> None:
        """End with every byte landed.

        Raises:
            TransferError: bytes are missing; the sink can still be filled or discarded.
        """

    def discard(self) -> None:
        """End and let go of the memory; harmless at any time and more than once."""


@runtime_checkable
class PressedSink(Protocol):
    """A sink that can be short of memory."""

    def credit(self, nbytes: int) -> int:
        """Return how much of ``nbytes`` may be under way to it now."""


@runtime_checkable
class StoredSink(Protocol):
    """A sink whose end takes the disk's time."""

    def settle(self) -> None:
        """Wait for the disk; called in a thread, once every byte has landed.

        Raises:
            TransferError: the system refuses.
        """


@runtime_checkable
class WholeSink(Protocol):
    """A sink that can take all of its tensors at once, by reference."""

    def adopt_all(
        self,
        specs: Sequence[TensorSpec],
        aliases: Mapping[str, str],
        views: Mapping[str, memoryview],
    ) -> None:
        """Begin, adopt every tensor and finish, in one go; a failed one can only be discarded.

        ``views`` are all tensors that have bytes of their own.

        Raises:
            FlareError: as ``begin`` and ``adopt``.
        """


def whole_of(sink: TensorSink) -> WholeSink | None:
    """Return a sink that can take all at once, None for others."""
    return cast("WholeSink", sink) if hasattr(sink, "adopt_all") else None


def pressed_of(sink: TensorSink) -> PressedSink | None:
    """Return a sink that can be short of memory; ``isinstance`` takes thirty times as long."""
    return cast("PressedSink", sink) if hasattr(sink, "credit") else None


def stored_of(sink: TensorSink) -> StoredSink | None:
    """Return a sink whose end takes the disk's time, None for others."""
    return cast("StoredSink", sink) if hasattr(sink, "settle") else None
