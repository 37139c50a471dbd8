"""Receives a model straight into the nameless file that its trainer will map."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from flare_async.errors import ResourceLimit, TransferError
from flare_async.jobs.spawners.platform import MemoryFile
from flare_async.jobs.spawners.shared import layout
from flare_async.jobs.trainers.shared import SharedTensors, new_file, seal
from flare_async.transfer.arrivals import NO_ALIASES, SinkState
from flare_async.transfer.buffers import Leases
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.written_sink import WrittenSink

__all__ = ["SharedSink"]


class SharedSink(WrittenSink):
    """A sink that passes what lands on to a file, and keeps no more than a MiB for each pull.

    ``memory_bytes`` bounds what ``begin`` accepts, because a peer says how large its tensors are.
    """

    def __init__(self, *, memory_bytes: int | None = None) -> None:
        super().__init__()
        self._allowed = memory_bytes
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

    def _read(self, name: str, offset: int, nbytes: int) -> memoryview:
        file = self._opened(name)
        start = self._starts[name] + offset
        parts = [os.pread(file.fileno(), nbytes, start)] if nbytes else [b""]
        while (missing := nbytes - sum(map(len, parts))) > 0:
            parts.append(os.pread(file.fileno(), missing, start + nbytes - missing))
        return memoryview(b"".join(parts))

    def _close(self) -> None:
        self._forget()
        self._file = None
