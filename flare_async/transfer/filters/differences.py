"""What a site has changed, as a source: nothing of it is held.

Some tensors of an update are answers and no new values of what was sent, such as the change of a
control variate. They travel in a difference as all others do, less what was sent under their name,
so filters see them ``shifted`` by it: as they are.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import numpy as np

from flare_async.errors import TensorFormatError
from flare_async.limits import MIB
from flare_async.transfer.difference import difference
from flare_async.transfer.dtypes import dtype_of
from flare_async.transfer.filters.cells import (
    FLOATS,
    Cells,
    CellSource,
    as_bytes,
    floats,
    regrouped,
)
from flare_async.transfer.source import TensorSource
from flare_async.transfer.spec import TensorSpec, differences
from flare_async.transfer.tensors import TensorSet

__all__ = ["blanked", "changes", "shifted"]


def changes(new: TensorSource, old: TensorSource) -> CellSource:
    """Return ``new - old``, as ``difference`` does, made when it is read.

    Raises:
        TensorFormatError: they differ in names, types or shapes, or hold truth values.
    """
    wrong = differences(old.specs, new.specs)
    if wrong:
        raise TensorFormatError("no difference of unlike models: " + "; ".join(wrong))
    for spec in new.specs:
        if spec.dtype == "BOOL":
            raise TensorFormatError(f"tensor {spec.name!r}: truth values have no difference")
    # Tied tensors are read under their first names: they may be tied in one of the two only.
    tied = {name: first for name, first in new.aliases.items() if old.aliases.get(name) == first}
    return CellSource(new, [_cells(spec, old) for spec in new.specs], tied)


def _cells(spec: TensorSpec, old: TensorSource) -> Cells:
    def make(number: int, block: memoryview) -> memoryview:
        before = next(regrouped(old.chunks(spec.name, number * MIB), block.nbytes))
        part = TensorSpec(spec.name, spec.dtype, (8 * block.nbytes // dtype_of(spec.dtype).bits,))
        pair = [TensorSet.from_views([part], {spec.name: piece}) for piece in (block, before)]
        return difference(*pair)[spec.name]

    return Cells(spec, spec.name, make)


def blanked(source: TensorSource, names: Collection[str]) -> TensorSource:
    """Return a source with zeros in place of some tensors."""
    if not names:
        return source
    cells = [
        Cells(spec, spec.name, _zeros if spec.name in names else None) for spec in source.specs
    ]
    return CellSource(source, cells, _tied(source, names))


def shifted(
    source: TensorSource, old: TensorSource, names: Collection[str], sign: Literal[-1, 1]
) -> TensorSource:
    """Return a source to whose floats of some names those of ``old`` are added, or taken away."""
    if not names:
        return source
    cells = [
        _shift(spec, old, sign)
        if spec.name in names and spec.dtype in FLOATS
        else Cells(spec, spec.name)
        for spec in source.specs
    ]
    return CellSource(source, cells, _tied(source, names))


def _shift(spec: TensorSpec, old: TensorSource, sign: int) -> Cells:
    def make(number: int, block: memoryview) -> memoryview:
        before = next(regrouped(old.chunks(spec.name, number * MIB), block.nbytes))
        wide = floats(spec, block).astype(np.float64)
        return as_bytes(spec, wide + sign * floats(spec, before).astype(np.float64))

    return Cells(spec, spec.name, make)


def _zeros(_number: int, block: memoryview) -> memoryview:
    return memoryview(bytes(block.nbytes))


def _tied(source: TensorSource, names: Collection[str]) -> dict[str, str]:
    tied = source.aliases.items()
    return {name: first for name, first in tied if (name in names) == (first in names)}
