"""An unlinked file for staged bytes that do not fit into memory.

It is read and written in place and never mapped: mapped pages count as resident memory.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

from flare_async.errors import TransferError
from flare_async.transfer.buffers import BUFFER, BufferPool

__all__ = ["BUFFER", "Spool", "file_system_of", "pread_into", "read_at", "write_all"]

_MOUNTS: Final = Path("/proc/self/mountinfo")  # absent outside Linux: then nothing is warned of
# Where blocks can be had at once, for much less than one by one while bytes are written.
_ALLOCATING: Final = frozenset({"btrfs", "ext4", "xfs"})


class Spool:
    """Extents of one nameless file, which the system removes with its last descriptor.

    Freed extents serve later tensors of the same size: the updates of a cohort all have the
    model's sizes, so the file grows no further than the updates that wait at once.
    """

    def __init__(self, folder: Path | None = None) -> None:
        place = Path(tempfile.gettempdir()) if folder is None else folder
        try:
            self._file = tempfile.TemporaryFile(dir=place, buffering=0)  # noqa: SIM115
        except OSError as exc:
            raise TransferError(f"no spool file in {place}: {exc}") from exc
        kind = file_system_on(os.fstat(self._file.fileno()).st_dev)
        self._allocates = kind in _ALLOCATING
        if kind in {"tmpfs", "ramfs"}:
            import structlog

            structlog.get_logger(__name__).warning("spool_is_memory", folder=str(place))
        self._end = 0
        self._free: dict[int, list[int]] = {}
        self.buffers = BufferPool()

    @property
    def nbytes(self) -> int:
        """The length that the file has grown to."""
        return self._end

    def allocate(self, nbytes: int) -> int:
        """Return the start of an extent.

        Raises:
            TransferError: the disk is full, where the system tells that before bytes are written.
        """
        reusable = self._free.get(nbytes)
        if reusable:
            return reusable.pop()
        start = self._end
        if self._allocates and nbytes >= BUFFER:
            try:
                os.posix_fallocate(self._file.fileno(), start, nbytes)
            except OSError as exc:
                raise TransferError(f"spool: no room for {nbytes} bytes: {exc}") from exc
        self._end += nbytes
        return start

    def free(self, start: int, nbytes: int) -> None:
        """Give an extent back."""
        self._free.setdefault(nbytes, []).append(start)

    def write(self, start: int, data: memoryview) -> None:
        """Write all of ``data``.

        Raises:
            TransferError: the system refuses, for instance because the disk is full.
        """
        try:
            write_all(self._file.fileno(), data, start)
        except OSError as exc:
            raise TransferError(f"spool: {data.nbytes} bytes cannot be written: {exc}") from exc

    def read(self, start: int, into: memoryview) -> None:
        """Fill ``into``.

        Raises:
            TransferError: the system refuses, or the file is shorter.
        """
        done = 0
        try:
            while done < into.nbytes:
                count = read_at(self._file.fileno(), into[done:], start + done)
                if count == 0:
                    raise TransferError(f"spool: ends {into.nbytes - done} bytes too early")
                done += count
        except OSError as exc:
            raise TransferError(f"spool: {into.nbytes} bytes cannot be read: {exc}") from exc

    def take_buffer(self, nbytes: int) -> memoryview:
        """Return writable memory of at least that length, from the pool where it suffices."""
        return self.buffers.take(nbytes)

    def give_buffer(self, buffer: memoryview) -> None:
        """Put memory that nobody uses any more back into the pool, whole as it was taken."""
        self.buffers.give(buffer)

    def close(self) -> None:
        """Remove the file; harmless more than once."""
        self._file.close()
        self.buffers.clear()


def write_all(descriptor: int, data: memoryview, start: int) -> None:
    """Write all of ``data`` at ``start``; raises what the system raises."""
    done = 0
    while done < data.nbytes:
        done += os.pwrite(descriptor, data[done:], start + done)


def pread_into(descriptor: int, into: memoryview, start: int) -> int:
    """Read through a copy, where the system has no ``preadv``."""
    data = os.pread(descriptor, into.nbytes, start)
    into[: len(data)] = data
    return len(data)


def preadv_into(descriptor: int, into: memoryview, start: int) -> int:
    """Read straight into ``into``."""
    return os.preadv(descriptor, [into], start)


read_at: Final = preadv_into if hasattr(os, "preadv") else pread_into


def file_system_of(folder: Path) -> str | None:
    """Return the type of the file system that holds ``folder``, or None where unknown."""
    try:
        return file_system_on(folder.stat().st_dev)
    except OSError:
        return None


def file_system_on(device: int) -> str | None:
    """Return the type of the file system on a device, or None where unknown."""
    try:
        with _MOUNTS.open("rb", buffering=0) as table:  # the kernel's memory: it never blocks
            lines = table.readall().decode(errors="replace").splitlines()
    except OSError:
        return None
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in lines:
        mount, _, kind = line.partition(" - ")
        if mount.split()[2] == wanted:
            return kind.split()[0]
    return None
