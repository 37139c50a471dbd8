"""Where pulled tensors are written to: first into a sink, then, whole and verified, into use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Final

import numpy as np

from flare_async.errors import ResourceLimit, TransferError
from flare_async.net.zeros import is_zeros, zeros
from flare_async.transfer.arrivals import NO_ALIASES, Arrivals, SinkState
from flare_async.transfer.sink_protocols import (
    PressedSink,
    StoredSink,
    TensorSink,
    WholeSink,
    pressed_of,
    stored_of,
    whole_of,
)
from flare_async.transfer.tensors import TensorSet

if TYPE_CHECKING:
    from flare_async.transfer.spec import TensorSpec

__all__ = [
    "MemorySink",
    "PressedSink",
    "StoredSink",
    "TensorSink",
    "WholeSink",
    "pressed_of",
    "stored_of",
    "whole_of",
]


NBYTES: Final = attrgetter("nbytes")


class MemorySink:
    """A sink whose tensors become one ``TensorSet`` after ``finish`` and never before.

    ``memory_bytes`` bounds what ``begin`` accepts, because a peer says how large its tensors are.
    """

    __slots__ = ("_allowed", "_arrivals", "_tensors", "_views")

    def __init__(self, *, memory_bytes: int | None = None) -> None:
        self._allowed = memory_bytes
        self._arrivals = Arrivals()
        self._views: dict[str, memoryview] = {}
        self._tensors: TensorSet | None = None

    @property
    def tensors(self) -> TensorSet:
        """The tensors, once they are whole.

        Raises:
            TransferError: ``finish`` has not been called.
        """
        if self._tensors is None:
            raise TransferError(f"a sink that is {self._arrivals.state.value} has no tensors")
        return self._tensors

    def begin(self, specs: Sequence[TensorSpec], aliases: Mapping[str, str] = NO_ALIASES) -> None:
        """Prepare for these tensors; memory is taken when a tensor's first bytes come.

        Raises:
            TransferError: the sink is in use.
            TensorFormatError: a name comes twice, or an alias does not match its first name.
            ResourceLimit: they need more than ``memory_bytes``.
        """
        self._check(specs, sum(spec.nbytes for spec in specs if spec.name not in aliases))
        self._arrivals.begin(specs, aliases)

    def destination(self, name: str, offset: int, nbytes: int) -> memoryview:
        """Return writable memory for a range that has not landed.

        Raises:
            TransferError: no such tensor, beyond its end, landed already, or not open; or there is
                no memory for the tensor.
        """
        coverage = self._arrivals.missing(name, offset, nbytes)
        view = self._views.get(name)
        if view is None:
            view = self._views[name] = _memory(name, coverage.size)
        elif is_zeros(view):  # but for what comes now
            view = self._views[name] = _memory(name, coverage.size)
            view[:] = zeros(coverage.size)
        return view[offset : offset + nbytes]

    def landed(self, name: str, offset: int, nbytes: int) -> None:
        """Take note that a range was written.

        Raises:
            TransferError: no memory was asked for, beyond the end, or landed already.
        """
        coverage = self._arrivals.missing(name, offset, nbytes)
        if nbytes and name not in self._views:
            raise TransferError(f"tensor {name!r}: {nbytes} bytes landed nowhere")
        coverage.add(offset, offset + nbytes)

    def write(self, name: str, offset: int, data: memoryview) -> None:
        """Write a range that came in memory of its own, and take note of it.

        Raises:
            TransferError: as ``destination``.
        """
        if is_zeros(data) and is_zeros(self._views.get(name, data)):
            coverage = self._arrivals.missing(name, offset, data.nbytes)
            self._views[name] = zeros(coverage.size)
        else:
            self.destination(name, offset, data.nbytes)[:] = data
        self.landed(name, offset, data.nbytes)

    def read(self, name: str, offset: int, nbytes: int) -> memoryview:
        """Return bytes that have landed, before ``finish``.

        Raises:
            TransferError: they have not landed.
        """
        self._arrivals.there(name, offset, nbytes)
        view = self._views.get(name)
        return memoryview(b"") if view is None else view[offset : offset + nbytes].toreadonly()

    def reject(self, name: str, offset: int, nbytes: int) -> None:
        """Forget that a range has landed: its bytes were not those that were sent.

        Raises:
            TransferError: no such range, or the tensor was adopted.
        """
        coverage = self._arrivals.within(name, offset, nbytes)
        view = self._views.get(name)
        if view is not None and view.readonly:
            raise TransferError(f"tensor {name!r}: was adopted, its memory is not ours")
        coverage.remove(offset, offset + nbytes)

    def adopt(self, name: str, view: memoryview) -> None:
        """Take a whole tensor by reference.

        Raises:
            TransferError: no such tensor, of another size, or partly landed already.
        """
        coverage = self._arrivals.whole(name, view)
        self._views[name] = view.toreadonly()
        coverage.add(0, coverage.size)

    def adopt_all(
        self,
        specs: Sequence[TensorSpec],
        aliases: Mapping[str, str],
        views: Mapping[str, memoryview],
    ) -> None:
        """Begin, take every tensor by reference and publish them, in one go.

        Raises:
            FlareError: as ``begin`` and ``adopt``.
        """
        self._check(specs, sum(map(NBYTES, views.values())))
        self._arrivals.expect(SinkState.NEW, "begin")
        self._tensors = TensorSet.from_views(specs, views, aliases)
        self._arrivals.state = SinkState.FINISHED

    def finish(self) -> None:
        """Publish the tensors.

        Raises:
            TransferError: bytes are missing; the message names the first such tensor.
        """
        self._arrivals.finish()
        empty = memoryview(b"")  # a tensor without elements was never asked for
        views = {name: self._views.get(name, empty) for name in self._arrivals.names}
        self._tensors = TensorSet.from_views(self._arrivals.specs, views, self._arrivals.aliases)
        self._views = {}

    def discard(self) -> None:
        """Let go of the memory; a finished sink forgets its tensors too."""
        self._arrivals.state = SinkState.DISCARDED
        self._views = {}
        self._tensors = None

    def _check(self, specs: Sequence[TensorSpec], total: int) -> None:
        """Refuse tensors before anything is prepared for them; in all, so many bytes."""
        if self._allowed is not None and total > self._allowed:
            raise ResourceLimit("memory_bytes", total, self._allowed)


def _memory(name: str, nbytes: int) -> memoryview:
    # Not torch.empty: what NumPy allocates is backed by huge pages where they exist.
    try:
        return np.empty(nbytes, np.uint8).data
    except MemoryError as exc:  # of a size that a peer named: its pull fails, and nothing else
        raise TransferError(f"tensor {name!r}: no memory for {nbytes} bytes") from exc
