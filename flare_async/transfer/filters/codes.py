"""The names of quantised tensors: they say what the tensor was, so nothing travels beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from flare_async.errors import TensorFormatError
from flare_async.transfer.dtypes import dtype_of
from flare_async.transfer.filters.cells import FLOATS
from flare_async.transfer.spec import TensorSpec

__all__ = ["BLOCK", "PREFIX", "Code", "is_coded"]

PREFIX: Final = "@quantized/"
BLOCK: Final = 256  # values that share a scale
SCALE: Final = 4  # bytes
NARROW: Final = {"float16": "F16", "bfloat16": "BF16"}
BLOCKWISE: Final = "blockwise8"
DIGITS: Final = 16  # of a dimension
SLASHES: Final = 3  # between kind, type, shape and name


@dataclass(frozen=True, slots=True)
class Code:
    """How a tensor is quantised, and the spec that it had."""

    kind: str
    spec: TensorSpec

    @property
    def coded(self) -> TensorSpec:
        """The spec of the quantised tensor.

        Raises:
            TensorFormatError: its name is too long.
        """
        spec = self.spec
        shape = "x".join(str(size) for size in spec.shape)
        name = f"{PREFIX}{self.kind}/{spec.dtype}/{shape}/{spec.name}"
        if self.kind == BLOCKWISE:
            blocks = -(-spec.elements // BLOCK)
            return TensorSpec.checked(name, "U8", (spec.elements + SCALE * blocks,))
        return TensorSpec.checked(name, NARROW[self.kind], spec.shape)

    @classmethod
    def of(cls, kind: str, spec: TensorSpec) -> Self | None:
        """Return how a tensor is quantised; None where it would not become smaller.

        Raises:
            TensorFormatError: its name is reserved for quantised tensors.
        """
        if is_coded(spec.name):
            raise TensorFormatError(f"tensor {spec.name!r}: is quantised already")
        least = 8 if kind == BLOCKWISE else 16
        if spec.dtype not in FLOATS or dtype_of(spec.dtype).bits <= least:
            return None
        code = cls(kind, spec)
        return code if code.coded.nbytes < spec.nbytes else None

    @classmethod
    def read(cls, spec: TensorSpec) -> Self:
        """Return what a quantised tensor was.

        Raises:
            TensorFormatError: the name is none of ours, or contradicts the tensor's type or shape.
        """
        parts = spec.name.removeprefix(PREFIX).split("/", SLASHES)
        if not is_coded(spec.name) or len(parts) != SLASHES + 1:
            raise TensorFormatError(f"tensor {spec.name[:80]!r}: is no name of a quantised tensor")
        kind, dtype, shape, name = parts
        if kind not in {*NARROW, BLOCKWISE} or dtype not in FLOATS:
            raise TensorFormatError(f"tensor {spec.name[:80]!r}: unknown quantisation or type")
        code = cls(kind, TensorSpec.checked(name, dtype, _shape(spec.name, shape)))
        if code.coded != spec:
            problem = f"is {spec.describe()}, its name says {code.coded.describe()}"
            raise TensorFormatError(f"tensor {spec.name[:80]!r}: {problem}")
        return code


def is_coded(name: str) -> bool:
    """Return whether a name is reserved for quantised tensors."""
    return name.startswith(PREFIX)


def _shape(name: str, text: str) -> tuple[int, ...]:
    parts = text.split("x") if text else []
    if not all(part.isascii() and part.isdigit() and len(part) <= DIGITS for part in parts):
        raise TensorFormatError(f"tensor {name[:80]!r}: {text[:40]!r} is no shape")
    return tuple(int(part) for part in parts)
