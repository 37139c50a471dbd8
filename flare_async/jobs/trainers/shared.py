"""Tensors in a nameless file that a client and a trainer hold together.

The client never maps one into use: it writes and reads with ``pwrite`` and ``pread``, so that what
it passes on does not count as its memory. Files are sealed where the system can: nobody can cut one
short under a reader, and a result cannot change any more once it was handed in.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import stat
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final, Self

from flare_async.errors import RemoteProtocolError, TransferError
from flare_async.jobs.spawners.platform import MEMFD_CREATE, MemfdCreate, MemoryFile
from flare_async.jobs.spawners.shared import HasFileno, layout
from flare_async.limits import MIB
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.tensors import TensorSet

__all__ = [
    "Handed",
    "SharedSource",
    "SharedTensors",
    "is_sealed",
    "new_file",
    "own_copy",
    "seal",
    "view_of",
]

SIZE_SEALS: Final[int] = getattr(fcntl, "F_SEAL_SHRINK", 0) | getattr(fcntl, "F_SEAL_GROW", 0)
ALL_SEALS: Final[int] = SIZE_SEALS | getattr(fcntl, "F_SEAL_WRITE", 0)


def _sealable() -> MemfdCreate | None:
    if MEMFD_CREATE is None:
        return None
    flags: int = getattr(os, "MFD_CLOEXEC", 0) | getattr(os, "MFD_ALLOW_SEALING", 0)
    return lambda name: os.memfd_create(name, flags)


def new_file(nbytes: int) -> MemoryFile:
    """Return a nameless file that can be sealed, where the system has such.

    Raises:
        OSError: there is no room for it.
    """
    return MemoryFile(nbytes, create=_sealable())


def seal(file: HasFileno, *, content: bool) -> None:
    """Fix a file's size, and with ``content`` its bytes too; without effect where it cannot be."""
    with suppress(OSError, AttributeError):
        fcntl.fcntl(file.fileno(), fcntl.F_ADD_SEALS, ALL_SEALS if content else SIZE_SEALS)


def is_sealed(file: HasFileno) -> bool:
    """Return whether neither size nor bytes of a file can change any more."""
    with suppress(OSError, AttributeError):
        return fcntl.fcntl(file.fileno(), fcntl.F_GET_SEALS) & ALL_SEALS == ALL_SEALS
    return False


class Handed:
    """A descriptor that came from the other process; closed when nobody refers to it any more."""

    __slots__ = ("__weakref__", "_close", "_fd")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._close = weakref.finalize(self, os.close, fd)

    def fileno(self) -> int:
        """Return the descriptor; it is valid while this object lives."""
        return self._fd

    def close(self) -> None:
        """Close it now."""
        self._close()

    def check(self, nbytes: int) -> None:
        """Check that it is a plain file of at least that size.

        Raises:
            RemoteProtocolError: it is none.
        """
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size < nbytes:
            problem = f"a file of {found.st_size} bytes, mode {found.st_mode:o}; {nbytes} needed"
            raise RemoteProtocolError("trainer_file", problem)


def own_copy(file: HasFileno, nbytes: int) -> MemoryFile:
    """Return the content of a file that is not sealed in one that nobody else has; takes a while.

    Raises:
        OSError: there is no room for it.
        RemoteProtocolError: the file became shorter meanwhile.
    """
    copy = new_file(nbytes)
    done = 0
    while done < nbytes:
        data = os.pread(file.fileno(), min(MIB, nbytes - done), done)
        if not data:
            raise RemoteProtocolError("trainer_file", f"ends at {done} of {nbytes} bytes")
        os.pwrite(copy.fileno(), data, done)
        done += len(data)
    return copy


def view_of(file: HasFileno, nbytes: int, *, private: bool) -> memoryview:
    """Return writable memory over a file: shared, or private from the first write to a page on.

    Raises:
        OSError: it cannot be mapped.
        ValueError: it is shorter.
    """
    kind = mmap.MAP_PRIVATE if private else mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
    return memoryview(mmap.mmap(file.fileno(), nbytes, kind, mmap.PROT_READ | mmap.PROT_WRITE))


class SharedTensors(TensorSet):
    """The tensors of a nameless file, as a set whose pages count only where somebody reads them.

    ``release`` is called when nobody holds what ``source`` returned any more.
    """

    __slots__ = ("file", "release")

    file: HasFileno
    release: Callable[[], None] | None

    @classmethod
    def over(cls, file: HasFileno, specs: Sequence[TensorSpec], aliases: Mapping[str, str]) -> Self:
        """Return the set over a file whose size is sealed.

        Raises:
            OSError: it cannot be mapped.
            ValueError: it is shorter than the tensors.
            TensorFormatError: an alias matches nothing.
        """
        offsets, size = layout(specs, aliases)
        # Private: a shared mapping of what is sealed is refused by older kernels.
        whole = memoryview(mmap.mmap(file.fileno(), size, mmap.MAP_PRIVATE, mmap.PROT_READ))
        sizes = {spec.name: spec.nbytes for spec in specs}
        views = {name: whole[start : start + sizes[name]] for name, start in offsets.items()}
        made = cls.from_views(specs, views, aliases)
        made.file, made.release = file, None
        return made

    def source(self) -> SharedSource:
        """Return what reads the file itself, without its pages."""
        source = SharedSource(self.file, self.specs, self.aliases)
        if self.release is not None:
            weakref.finalize(source, self.release)
        return source


class SharedSource:
    """Reads tensors out of a nameless file, a piece at a time, and keeps none of them."""

    __slots__ = ("__weakref__", "_file", "_places", "_specs", "aliases")

    def __init__(
        self, file: HasFileno, specs: Sequence[TensorSpec], aliases: Mapping[str, str]
    ) -> None:
        self.aliases = aliases
        self._file = file
        self._specs = tuple(specs)
        sizes = {spec.name: spec.nbytes for spec in specs}
        offsets, _ = layout(specs, aliases)
        self._places = {name: (start, sizes[name]) for name, start in offsets.items()}

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """Every tensor, in order."""
        return self._specs

    def piece(self, name: str, start: int, nbytes: int) -> bytes:
        """Return that many bytes, or those up to the tensor's end.

        Raises:
            TransferError: no such tensor, ``start`` is outside of it, or the file cannot be read.
        """
        begin, size = self._places.get(self.aliases.get(name, name), (0, -1))
        if not 0 <= start <= size:
            raise TransferError(f"tensor {name!r}: no bytes from {start} on in this source")
        return self._read(begin + start, min(nbytes, size - start))

    def chunks(self, name: str, start: int = 0) -> Iterator[memoryview]:
        """Yield the bytes from ``start`` on, in memory of their own.

        Raises:
            TransferError: no such tensor, ``start`` is outside of it, or the file cannot be read.
        """
        data = self.piece(name, start, MIB)
        while data:
            yield memoryview(data)
            start += len(data)
            data = self.piece(name, start, MIB)

    def _read(self, at: int, nbytes: int) -> bytes:
        data = b""
        while len(data) < nbytes:
            try:
                more = os.pread(self._file.fileno(), nbytes - len(data), at + len(data))
            except OSError as exc:
                raise TransferError(f"a result's file cannot be read: {exc}") from exc
            if not more:
                raise TransferError(f"a result's file ends {nbytes - len(data)} bytes too early")
            data = data + more if data else more
        return data
