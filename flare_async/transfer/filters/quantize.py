"""Quantisation: floats travel in two bytes or one, and become what they were where they arrive.

``float16`` and ``bfloat16`` round to the nearest; what is beyond float16 becomes its largest
value, unless it is infinite. ``blockwise8`` (Dettmers et al., "8-bit optimizers via block-wise
quantization", ICLR 2022, with a linear code) divides every 256 values x by their own scale
s = max |x| / 127:

    q = round(x / s) in int8,   x' = s q,   |x - x'| <= s / 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import numpy as np

from flare_async.errors import ConfigError
from flare_async.transfer.filters.cells import CELL, Cells, CellSource, Floats, as_bytes, floats
from flare_async.transfer.filters.codes import BLOCK, BLOCKWISE, NARROW, SCALE, Code, is_coded
from flare_async.transfer.filters.filter import Filter, Passage
from flare_async.transfer.kernel import values_nbytes
from flare_async.transfer.source import TensorSource
from flare_async.transfer.spec import TensorSpec

__all__ = ["ModelDequantizer", "ModelQuantizer"]

KINDS: Final = (*NARROW, BLOCKWISE)
LEVELS: Final = 127
RECORD: Final = SCALE + BLOCK
MOST_FLOAT16: Final = 65504.0


class ModelQuantizer(Filter):
    """Makes wider floats ``float16``, ``bfloat16`` or ``blockwise8`` when they are read.

    Holds a cell. The names of quantised tensors say what they were: see ``ModelDequantizer``.

    Raises:
        ConfigError: there is no such quantisation.
    """

    recodes = True

    def __init__(self, quantization_type: str = "float16") -> None:
        if quantization_type not in KINDS:
            problem = f"use one of {', '.join(KINDS)}"
            raise ConfigError("quantization_type", quantization_type, problem)
        self.quantization_type = quantization_type

    def apply(self, source: TensorSource, passage: Passage) -> TensorSource:
        """Return the source with its floats quantised.

        Raises:
            TensorFormatError: a tensor is quantised already, or its name is too long.
        """
        del passage
        codes = {spec.name: Code.of(self.quantization_type, spec) for spec in source.specs}
        cells = [
            Cells(spec, spec.name) if code is None else _encoding(code)
            for spec, code in zip(source.specs, codes.values(), strict=True)
        ]
        return CellSource(source, cells, _tied(source, [cell.spec.name for cell in cells]))


class ModelDequantizer(Filter):
    """Makes quantised floats what they were when they are read; all others stay. Holds a cell."""

    recodes = True

    def apply(self, source: TensorSource, passage: Passage) -> TensorSource:
        """Return the source as it was before it was quantised.

        Raises:
            TensorFormatError: a name is reserved and none of ours, or two tensors get one name.
        """
        del passage
        cells = [
            _decoding(spec) if is_coded(spec.name) else Cells(spec, spec.name)
            for spec in source.specs
        ]
        return CellSource(source, cells, _tied(source, [cell.spec.name for cell in cells]))


def _tied(source: TensorSource, renamed: list[str]) -> Mapping[str, str]:
    names = dict(zip((spec.name for spec in source.specs), renamed, strict=True))
    return {names[name]: names[first] for name, first in source.aliases.items()}


def _encoding(code: Code) -> Cells:
    spec, coded = code.spec, code.coded
    taken = CELL * values_nbytes(spec.dtype)
    if code.kind == BLOCKWISE:
        return Cells(coded, spec.name, _changed(spec, _to_records), taken, CELL // BLOCK * RECORD)
    make = _changed(spec, partial(_to_narrow, coded))
    return Cells(coded, spec.name, make, taken, CELL * values_nbytes(coded.dtype))


def _decoding(coded: TensorSpec) -> Cells:
    code = Code.read(coded)
    spec = code.spec
    given = CELL * values_nbytes(spec.dtype)
    if code.kind == BLOCKWISE:
        taken = CELL // BLOCK * RECORD
        return Cells(
            spec, coded.name, lambda _, block: as_bytes(spec, _from_records(block)), taken, given
        )
    make = _changed(coded, lambda values: as_bytes(spec, values))
    return Cells(spec, coded.name, make, CELL * values_nbytes(coded.dtype), given)


def _changed(
    spec: TensorSpec, change: Callable[[Floats], memoryview]
) -> Callable[[int, memoryview], memoryview]:
    return lambda _, block: change(floats(spec, block))


def _to_narrow(coded: TensorSpec, values: Floats) -> memoryview:
    if coded.dtype == "F16":
        clipped = np.clip(values, -MOST_FLOAT16, MOST_FLOAT16)
        values = np.where(np.isinf(values), values, clipped)  # a model that diverged must be seen
    return as_bytes(coded, values)


def _to_records(values: Floats) -> memoryview:
    count = values.size
    blocks = -(-count // BLOCK)
    flat = np.zeros(blocks * BLOCK, np.float64)
    flat[:count] = values
    padded = flat.reshape(blocks, BLOCK)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused on arrival
        scales = (np.abs(padded).max(axis=1) / LEVELS).astype("<f4")
        divisors = np.where(scales > 0, scales, 1).astype(np.float64)
        levels = np.clip(np.rint(padded / divisors[:, None]), -LEVELS, LEVELS)
        whole = np.nan_to_num(levels).astype(np.int8)
    records = np.empty((blocks, RECORD), np.uint8)
    records[:, :SCALE] = scales.view(np.uint8).reshape(blocks, SCALE)
    records[:, SCALE:] = whole.view(np.uint8)
    return records.reshape(-1)[: count + SCALE * blocks].data


def _from_records(block: memoryview) -> Floats:
    blocks = -(-block.nbytes // RECORD)
    padded = np.zeros(blocks * RECORD, np.uint8)
    padded[: block.nbytes] = np.frombuffer(block, np.uint8)
    records = padded.reshape(blocks, RECORD)
    scales = np.ascontiguousarray(records[:, :SCALE]).view("<f4").astype(np.float64)
    levels = np.ascontiguousarray(records[:, SCALE:]).view(np.int8)
    with np.errstate(invalid="ignore"):  # a scale that is not finite is refused as its values are
        values: Floats = (levels * scales).reshape(-1)[: block.nbytes - SCALE * blocks]
    return values
