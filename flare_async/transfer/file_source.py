"""Offers a file that need not fit into memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self

from flare_async.errors import TransferError, WorkspaceError
from flare_async.limits import MIB
from flare_async.transfer.arrivals import NO_ALIASES
from flare_async.transfer.files import read_header
from flare_async.transfer.spec import TensorSpec

__all__ = ["FileSource"]

_CLOSED: Final = -1


class FileSource:
    """Reads tensors of a safetensors file, a MiB at a time, and keeps none of them.

    With ``plain_as`` any file is offered as one tensor of bytes of that name. The file must not
    change while it is offered; when it does, its readers find other digests. It is never mapped:
    mapped pages count as resident memory. Opening reads the header: a long one is better opened in
    a thread.

    Raises:
        WorkspaceError: the file cannot be read.
        TensorFormatError: it is no safetensors file, or not of the size that its header says.
    """

    __slots__ = ("_aliases", "_file", "_places", "_specs", "path")

    def __init__(self, path: Path | str, *, plain_as: str | None = None) -> None:
        self.path = Path(path)
        self._aliases: Mapping[str, str] = NO_ALIASES
        self._specs: tuple[TensorSpec, ...] = ()
        self._file = _CLOSED
        try:
            self._file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            size = os.fstat(self._file).st_size
            if plain_as is None:
                self._read_header(size)
            else:
                self._specs = (TensorSpec.checked(plain_as, "U8", [size]),)
                self._places = {plain_as: (0, size)}
        except OSError as exc:
            self.close()
            raise WorkspaceError("path", str(path), f"cannot be read: {exc}") from exc
        except BaseException:
            self.close()
            raise

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
        begin, size = self._places.get(self._aliases.get(name, name), (0, -1))
        if not 0 <= start <= size:
            raise TransferError(f"tensor {name!r}: no bytes from {start} on in {self.path}")
        return self._chunks(begin + start, begin + size)

    def close(self) -> None:
        """Close the file; harmless more than once, and whoever still reads gets TransferError."""
        file, self._file = self._file, _CLOSED
        if file != _CLOSED:
            os.close(file)

    def _read_header(self, size: int) -> None:
        with os.fdopen(os.dup(self._file), "rb") as file:
            header = read_header(file, self.path, size)
        self._specs = header.specs
        self._aliases = MappingProxyType(dict(header.aliases))
        self._places = {
            name: (header.start + begin, end - begin)
            for name, (begin, end) in header.manifest.offsets.items()
        }

    def _chunks(self, at: int, end: int) -> Iterator[memoryview]:
        while at < end:
            try:
                data = os.pread(self._file, min(MIB, end - at), at)
            except OSError as exc:
                raise TransferError(f"{self.path}: cannot be read: {exc}") from exc
            if not data:
                raise TransferError(f"{self.path}: ends {end - at} bytes too early")
            at += len(data)
            yield memoryview(data)
