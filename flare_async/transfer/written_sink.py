"""What sinks share that pass on to some file what lands, and keep none of it."""

from __future__ import annotations

from abc import ABC, abstractmethod

from flare_async.errors import TransferError
from flare_async.limits import MIB
from flare_async.transfer.arrivals import Arrivals
from flare_async.transfer.buffers import BufferPool, Leases

__all__ = ["WrittenSink"]


class WrittenSink(ABC):
    """Lends memory for ranges of tensors and writes them down when they have landed.

    In memory there is a MiB for each pull that is in the middle of a frame, and 16 MiB at most.
    Who inherits makes a lease table a tensor in ``begin``, and says how bytes are written and read.
    """

    def __init__(self) -> None:
        self._arrivals = Arrivals()
        self._pool = BufferPool()
        self._leases: dict[str, Leases] = {}

    @abstractmethod
    def _write(self, name: str, offset: int, data: memoryview) -> None:
        """Write bytes of a tensor. Raises TransferError where the system refuses."""

    @abstractmethod
    def _read(self, name: str, offset: int, nbytes: int) -> memoryview:
        """Return bytes of a tensor that were written. Raises TransferError."""

    def destination(self, name: str, offset: int, nbytes: int) -> memoryview:
        """Return writable memory for a range that has not landed, or for its beginning.

        Raises:
            TransferError: no such tensor, beyond its end, landed already, or not open.
        """
        self._arrivals.missing(name, offset, nbytes)
        return self._leases[name].room(offset, offset + nbytes)

    def landed(self, name: str, offset: int, nbytes: int) -> None:
        """Write down a range that is in memory.

        Raises:
            TransferError: no memory was asked for, beyond the end, landed already, or the system
                refuses to write.
        """
        coverage = self._arrivals.missing(name, offset, nbytes)
        end = offset + nbytes
        lease = self._leases[name].of(offset, end)
        if lease is None and nbytes:
            raise TransferError(f"tensor {name!r}: {nbytes} bytes landed nowhere")
        if lease is not None:
            self._write(name, offset, lease.part(offset, end))
            self._leases[name].landed(lease, nbytes)
        coverage.add(offset, end)

    def write(self, name: str, offset: int, data: memoryview) -> None:
        """Write down a range that came in memory of its own.

        Raises:
            TransferError: as ``landed``.
        """
        coverage = self._arrivals.missing(name, offset, data.nbytes)
        self._leases[name].revoke(offset, offset + data.nbytes)
        self._write(name, offset, data)
        coverage.add(offset, offset + data.nbytes)

    def read(self, name: str, offset: int, nbytes: int) -> memoryview:
        """Return bytes that have landed, before ``finish``.

        Raises:
            TransferError: they have not landed, or the system refuses to read.
        """
        self._arrivals.there(name, offset, nbytes)
        return self._read(name, offset, nbytes)

    def reject(self, name: str, offset: int, nbytes: int) -> None:
        """Forget that a range has landed: its bytes were not those that were sent.

        Raises:
            TransferError: no such range.
        """
        coverage = self._arrivals.within(name, offset, nbytes)
        coverage.remove(offset, offset + nbytes)

    def adopt(self, name: str, view: memoryview) -> None:
        """Write down a whole tensor.

        Raises:
            TransferError: no such tensor, of another size, partly landed already, or the system
                refuses to write.
        """
        coverage = self._arrivals.whole(name, view)
        data = view.cast("B") if view.nbytes else memoryview(b"")
        for at in range(0, data.nbytes, MIB):
            self._write(name, at, data[at : at + MIB])
        coverage.add(0, coverage.size)

    def _forget(self) -> None:
        """Let go of the memory that is lent."""
        for leases in self._leases.values():
            leases.clear()
        self._leases = {}
        self._pool.clear()
