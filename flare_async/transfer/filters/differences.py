"""What a site has changed, as a source: nothing of it is held."""

from __future__ import annotations

from flare_async.errors import TensorFormatError
from flare_async.limits import MIB
from flare_async.transfer.difference import difference
from flare_async.transfer.dtypes import dtype_of
from flare_async.transfer.filters.cells import Cells, CellSource, regrouped
from flare_async.transfer.source import TensorSource
from flare_async.transfer.spec import TensorSpec, differences
from flare_async.transfer.tensors import TensorSet

__all__ = ["changes"]


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
