"""Receives a model straight into the nameless file that its trainer will map."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from flare_async.errors import ResourceLimit, TransferError
from flare_async.jobs.spawners.platform import MemoryFile
from flare_async.jobs.spawners.shared import layout
from flare_async.jobs.trainers.shared import SharedTensors, new_file, seal
from flare_async.limits import MIB
from flare_async.transfer.arrivals import NO_ALIASES, Arrivals, SinkState
from flare_async.transfer.buffers import BufferPool, Leases
from flare_async.transfer.spec import TensorSpec

__all__ = ["SharedSink"]


class SharedSink:
    """A sink that passes what lands on to a file, and keeps no more than a MiB for each pull.

    ``memory_bytes`` bounds what ``begin`` accepts, because a peer says how large its tensors are.
    """

    def __init__(self, *, memory_bytes: int | None = None) -> None:
        self._allowed = memory_bytes
        self._arrivals = Arrivals()
        self._pool = BufferPool()
        self._leases: dict[str, Leases] = {}
        self._starts: dict[str, int] = {}
        self._file: MemoryFile | None = None
        self._tensors: SharedTensors | None = None

    @property
    def tensors(self) -> SharedTensors:
        """The tensors, once they are whole.

        Raises:
            TransferError: ``finish`` has not been called.
        """
        if self._tensors is None:
            raise TransferError(f"a sink that is {self._arrivals.state.value} has no tensors")
        return self._tensors

    def begin(self, specs: Sequence[TensorSpec], aliases: Mapping[str, str] = NO_ALIASES) -> None:
        """Make the file, at its full length; it takes memory as it is written.

        Raises:
            TransferError: the sink is in use, or the system refuses to make the file.
            TensorFormatError: a name comes twice, or an alias does not match its first name.
            ResourceLimit: they need more than ``memory_bytes``.
        """
        total = sum(spec.nbytes for spec in specs if spec.name not in aliases)
        if self._allowed is not None and total > self._allowed:
            raise ResourceLimit("memory_bytes", total, self._allowed)
        self._arrivals.begin(specs, aliases)
        self._starts, size = layout(specs, aliases)
        self._leases = {name: Leases(self._pool) for name in self._starts}
        try:
            self._file = new_file(size)
        except OSError as exc:
            raise TransferError(f"{size} bytes of shared memory: {exc}") from exc

    def destination(self, name: str, offset: int, nbytes: int) -> memoryview:
        """Return writable memory for a range that has not landed, or for its beginning.

        Raises:
            TransferError: no such tensor, beyond its end, landed already, or not open.
        """
        self._arrivals.missing(name, offset, nbytes)
        return self._leases[name].room(offset, offset + nbytes)

    def landed(self, name: str, offset: int, nbytes: int) -> None:
        """Write a range that is in memory to the file.

        Raises:
            TransferError: no memory was asked for, beyond the end, landed already, or the system
                has no room.
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
        """Write a range that came in memory of its own.

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
            TransferError: they have not landed.
        """
        self._arrivals.there(name, offset, nbytes)
        file = self._opened(name)
        start = self._starts[name] + offset
        parts = [os.pread(file.fileno(), nbytes, start)] if nbytes else [b""]
        while (missing := nbytes - sum(map(len, parts))) > 0:
            parts.append(os.pread(file.fileno(), missing, start + nbytes - missing))
        return memoryview(b"".join(parts))

    def reject(self, name: str, offset: int, nbytes: int) -> None:
        """Forget that a range has landed: its bytes were not those that were sent.

        Raises:
            TransferError: no such range.
        """
        self._arrivals.within(name, offset, nbytes).remove(offset, offset + nbytes)

    def adopt(self, name: str, view: memoryview) -> None:
        """Write a whole tensor.

        Raises:
            TransferError: no such tensor, of another size, partly landed already, or the system
                has no room.
        """
        coverage = self._arrivals.whole(name, view)
        data = view.cast("B") if view.nbytes else memoryview(b"")
        for at in range(0, data.nbytes, MIB):
            self._write(name, at, data[at : at + MIB])
        coverage.add(0, coverage.size)

    def finish(self) -> None:
        """Publish the tensors; the file's size is fixed from now on.

        Raises:
            TransferError: bytes are missing, or the system refuses to map the file.
        """
        self._arrivals.finish()
        file = self._opened("file")
        seal(file, content=False)
        try:
            made = SharedTensors.over(file, self._arrivals.specs, self._arrivals.aliases)
        except (OSError, ValueError) as exc:
            raise TransferError(f"shared memory: {exc}") from exc
        self._tensors = made
        self._close()

    def discard(self) -> None:
        """Let go of the file; a finished sink forgets its tensors too."""
        self._arrivals.state = SinkState.DISCARDED
        self._tensors = None
        self._close()

    def _opened(self, name: str) -> MemoryFile:
        if self._file is None:
            raise TransferError(f"tensor {name!r}: the sink is {self._arrivals.state.value}")
        return self._file

    def _write(self, name: str, offset: int, data: memoryview) -> None:
        file, start = self._opened(name), self._starts[name] + offset
        done = 0
        try:
            while done < data.nbytes:
                done += os.pwrite(file.fileno(), data[done:], start + done)
        except OSError as exc:
            raise TransferError(f"tensor {name!r}: {exc}") from exc

    def _close(self) -> None:
        for leases in self._leases.values():
            leases.clear()
        self._leases = {}
        self._pool.clear()
        self._file = None
