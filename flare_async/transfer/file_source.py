"""Offers a file that need not fit into memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Self

from flare_async.errors import TransferError, WorkspaceError
from flare_async.limits import MIB
from flare_async.transfer.arrivals import NO_ALIASES
from flare_async.transfer.files import open_regular, read_header
from flare_async.transfer.spec import TensorSpec

__all__ = ["FileSource"]


class _Opened:
    """A descriptor that is closed when nobody holds this any more.

    A read in a thread holds it: so no read can meet a number that is another file's by then.
    """

    __slots__ = ("changed", "number", "size")

    def __init__(self, number: int) -> None:
        self.number = number
        found = os.fstat(number)
        self.size, self.changed = found.st_size, found.st_mtime_ns

    def __del__(self) -> None:
        os.close(self.number)

    def read(self, at: int, nbytes: int) -> bytes:
        data = b""
        while len(data) < nbytes and (more := os.pread(self.number, nbytes - len(data), at)):
            data, at = data + more if data else more, at + len(more)
        now = os.fstat(self.number)
        if (now.st_size, now.st_mtime_ns) != (self.size, self.changed):
            raise OSError("it has changed since it was opened")
        return data


class FileSource:
    """Reads tensors of a safetensors file, a MiB at a time, and keeps none of them.

    With ``plain_as`` any file is offered as one tensor of bytes of that name. The file must not
    change while it is offered: once its length or its time of change is another, nothing is read
    from it any more. It is never mapped: mapped pages count as resident memory, and one that was
    cut off would end the process. Opening reads the header: a long one is better opened in a
    thread.

    Raises:
        WorkspaceError: the file cannot be read, or is no regular file.
        TensorFormatError: it is no safetensors file, or not of the size that its header says.
    """

    __slots__ = ("_aliases", "_file", "_places", "_specs", "path")

    def __init__(self, path: Path | str, *, plain_as: str | None = None) -> None:
        self.path = Path(path)
        self._aliases: Mapping[str, str] = NO_ALIASES
        self._specs: tuple[TensorSpec, ...] = ()
        self._file: _Opened | None = None
        try:
            file = _Opened(open_regular(self.path))
            if plain_as is None:
                self._read_header(file)
            else:
                self._specs = (TensorSpec.checked(plain_as, "U8", [file.size]),)
                self._places = {plain_as: (0, file.size)}
        except OSError as exc:
            raise WorkspaceError("path", str(path), f"cannot be read: {exc}") from exc
        self._file = file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """Every tensor, in order."""
        return self._specs

    @property
    def aliases(self) -> Mapping[str, str]:
        """Names of tied tensors and the first name that has the same bytes."""
        return self._aliases

    @property
    def nbytes(self) -> int:
        """The bytes of all tensors; tied ones count once."""
        return sum(size for _, size in self._places.values())

    def chunks(self, name: str, start: int = 0) -> Iterator[memoryview]:
        """Yield the bytes from ``start`` on, in memory of their own.

        Raises:
            TransferError: no such tensor, ``start`` is outside of it, or the file cannot be read.
        """
        size = self._place(name, start)[1]
        cuts = range(start, size, MIB)
        return (memoryview(self.piece(name, at, min(MIB, size - at))) for at in cuts)

    def piece(self, name: str, start: int, nbytes: int) -> bytes:
        """Return that many bytes, or those up to the tensor's end; may be called in a thread.

        Raises:
            TransferError: as ``chunks``.
        """
        begin, size = self._place(name, start)
        file, wanted = self._file, min(nbytes, size - start)
        if file is None:
            raise TransferError(f"{self.path}: cannot be read: it is closed")
        try:
            data = file.read(begin + start, wanted)
        except OSError as exc:
            raise TransferError(f"{self.path}: cannot be read: {exc}") from exc
        if len(data) < wanted:
            raise TransferError(f"{self.path}: ends {wanted - len(data)} bytes too early")
        return data

    def close(self) -> None:
        """Let go of the file; harmless more than once, and the next read gets TransferError."""
        self._file = None

    def _place(self, name: str, start: int) -> tuple[int, int]:
        begin, size = self._places.get(self._aliases.get(name, name), (0, -1))
        if not 0 <= start <= size:
            raise TransferError(f"tensor {name!r}: no bytes from {start} on in {self.path}")
        return begin, size

    def _read_header(self, opened: _Opened) -> None:
        with os.fdopen(os.dup(opened.number), "rb") as file:
            header = read_header(file, self.path, opened.size)
        self._specs = header.specs
        self._aliases = MappingProxyType(dict(header.aliases))
        self._places = {
            name: (header.start + begin, end - begin)
            for name, (begin, end) in header.manifest.offsets.items()
        }
