"""Tensors that are made of others cell by cell, when they are read: nothing is held but a cell.

A cell is a fixed number of bytes of a tensor; its new bytes depend on it and its number only. So a
reader may begin anywhere, and read again, and always finds the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from flare_async.errors import TensorFormatError, TransferError
from flare_async.limits import MIB
from flare_async.transfer.arrivals import NO_ALIASES
from flare_async.transfer.kernel import narrow, values_nbytes, widen
from flare_async.transfer.source import TensorSource
from flare_async.transfer.spec import TensorSpec, check_layout
from flare_async.transfer.tensors import TensorSet

__all__ = [
    "CELL",
    "FLOATS",
    "CellSource",
    "Cells",
    "Floats",
    "cellwise",
    "float_values",
    "gathered",
    "same_size",
]

CELL: Final = 256 * 1024  # values
FLOATS: Final = frozenset({"F16", "BF16", "F32", "F64"})
Floats: TypeAlias = npt.NDArray[np.floating]
Make: TypeAlias = Callable[[int, memoryview], memoryview]


@dataclass(frozen=True, slots=True)
class Cells:
    """How one tensor is made: ``taken`` bytes of ``origin`` become ``given`` bytes by ``make``.

    The last cell may be shorter on both sides. Without ``make`` the bytes are those of ``origin``.
    """

    spec: TensorSpec
    origin: str
    make: Make | None = None
    taken: int = MIB
    given: int = MIB


class CellSource:
    """Reads a source through functions; takes its readers' time, so pulls are fed in a thread.

    Raises:
        TensorFormatError: two tensors have one name.
    """

    __slots__ = ("_cells", "_source", "aliases", "specs")

    def __init__(
        self,
        source: TensorSource,
        cells: Sequence[Cells],
        aliases: Mapping[str, str] = NO_ALIASES,
    ) -> None:
        self.specs = tuple(cell.spec for cell in cells)
        self.aliases = aliases
        check_layout(self.specs, aliases)
        self._source = source
        self._cells = {cell.spec.name: cell for cell in cells}

    def chunks(self, name: str, start: int = 0) -> Iterator[memoryview]:
        """Yield a tensor's bytes from ``start`` on; a chunk is valid until the next one.

        Raises:
            TransferError: no such tensor, ``start`` is outside of it, or the source failed.
            TensorFormatError: the source holds what cannot be changed so.
        """
        cell = self._cells.get(self.aliases.get(name, name))
        if cell is None or not 0 <= start <= cell.spec.nbytes:
            raise TransferError(f"tensor {name!r}: no bytes from {start} on in this source")
        if start == cell.spec.nbytes:
            return iter(())
        if cell.make is None:
            return self._source.chunks(cell.origin, start)
        return self._made(cell, cell.make, start)

    def piece(self, name: str, start: int, nbytes: int) -> bytes:
        """Return that many bytes, or those up to the tensor's end. Raises as ``chunks``."""
        parts: list[bytes] = []
        left = nbytes
        for chunk in self.chunks(name, start):
            parts.append(bytes(chunk[:left]))
            left -= len(parts[-1])
            if left <= 0:
                break
        return b"".join(parts)

    def _made(self, cell: Cells, make: Make, start: int) -> Iterator[memoryview]:
        first, skip = divmod(start, cell.given)
        blocks = regrouped(self._source.chunks(cell.origin, first * cell.taken), cell.taken)
        at = first * cell.given
        for number, block in enumerate(blocks, first):
            made = make(number, block)
            if made.nbytes != min(cell.given, cell.spec.nbytes - at):
                problem = f"{made.nbytes} bytes were made at {at} of {cell.spec.nbytes}"
                raise TransferError(f"tensor {cell.spec.name!r}: {problem}")
            at += made.nbytes
            yield made[skip:]
            skip = 0


def regrouped(chunks: Iterator[memoryview], nbytes: int) -> Iterator[memoryview]:
    """Yield the same bytes in blocks of ``nbytes``; the last may be shorter."""
    buffer = bytearray()
    for chunk in chunks:
        at = 0
        if buffer:
            at = min(nbytes - len(buffer), chunk.nbytes)
            buffer += chunk[:at]
            if len(buffer) < nbytes:
                continue
            yield memoryview(buffer)
            buffer = bytearray()
        while chunk.nbytes - at >= nbytes:
            yield chunk[at : at + nbytes]
            at += nbytes
        buffer += chunk[at:]
    if buffer:
        yield memoryview(buffer)


def same_size(spec: TensorSpec, make: Make) -> Cells:
    """Return cells of ``CELL`` values whose bytes change in place."""
    nbytes = CELL * values_nbytes(spec.dtype)
    return Cells(spec, spec.name, make, nbytes, nbytes)


def cellwise(source: TensorSource, change: Callable[[int, int, Floats], Floats]) -> CellSource:
    """Return a source whose floats went through ``change(tensor, cell, values)``, numbered from 0.

    Values come in a type that NumPy computes with and are read-only. All other types stay.
    """

    def cells_of(number: int, spec: TensorSpec) -> Cells:
        if spec.dtype not in FLOATS:
            return Cells(spec, spec.name)
        return same_size(
            spec, lambda at, block: as_bytes(spec, change(number, at, floats(spec, block)))
        )

    return CellSource(
        source, [cells_of(at, spec) for at, spec in enumerate(source.specs)], source.aliases
    )


def floats(spec: TensorSpec, block: memoryview) -> Floats:
    """Return the values of some bytes of a tensor of floats."""
    values = widen(spec.dtype, block)
    if not np.issubdtype(values.dtype, np.floating):
        raise TensorFormatError(f"tensor {spec.name!r}: {spec.dtype} is no type of floats")
    return cast("Floats", values)


def as_bytes(spec: TensorSpec, values: Floats) -> memoryview:
    """Return values as bytes of the tensor's type."""
    return np.ascontiguousarray(narrow(spec.dtype, values)).view(np.uint8).reshape(-1).data


def float_values(source: TensorSource) -> Iterator[Floats]:
    """Yield the values of all floats, chunk by chunk; tied tensors once."""
    for spec in source.specs:
        if spec.dtype in FLOATS and spec.name not in source.aliases:
            for block in regrouped(source.chunks(spec.name), CELL * values_nbytes(spec.dtype)):
                yield floats(spec, block)


def gathered(source: TensorSource) -> TensorSet:
    """Return a source's tensors in memory of their own."""
    views: dict[str, memoryview] = {}
    for spec in source.specs:
        if spec.name in source.aliases:
            continue
        memory, at = np.empty(spec.nbytes, np.uint8).data, 0
        for chunk in source.chunks(spec.name):
            memory[at : at + chunk.nbytes] = chunk
            at += chunk.nbytes
        views[spec.name] = memory
    return TensorSet.from_views(source.specs, views, source.aliases)
