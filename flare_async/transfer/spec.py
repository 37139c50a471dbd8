"""The description of one tensor: name, element type, shape."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Self, TypeVar

from flare_async.errors import TensorFormatError
from flare_async.transfer.dtypes import DTYPES, dtype_of
from flare_async.wire.fields import shown

__all__ = [
    "MAX_NAME",
    "MAX_NBYTES",
    "MAX_NDIM",
    "RESERVED_NAME",
    "TensorSpec",
    "check_layout",
    "checked_name",
    "differences",
    "under_all_names",
]

Value = TypeVar("Value")

MAX_NAME: Final = 512
MAX_NDIM: Final = 64  # NumPy's own limit
MAX_NBYTES: Final = 2**53  # the largest size that a double holds exactly
_SEPARATORS: Final = re.compile(r"[/\\]")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
RESERVED_NAME: Final = "__metadata__"  # a safetensors header keeps its free text under it


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor's name, element type (as safetensors calls it) and shape.

    The plain constructor trusts its caller; ``checked`` is for what others sent.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def checked(cls, name: object, dtype: object, shape: object) -> Self:
        """Return a spec whose every field is within the format and our bounds.

        Raises:
            TensorFormatError: a field is of another type, unknown, or out of bounds.
        """
        good_name = checked_name(name)
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise TensorFormatError(f"tensor {good_name!r}: unknown dtype {shown(dtype)}")
        spec = cls(good_name, dtype, _checked_shape(good_name, shape))
        _check_size(spec)
        return spec

    @property
    def elements(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The number of bytes; elements narrower than a byte are packed."""
        return _nbytes(self.shape, self.dtype)

    def describe(self) -> str:
        """Return the type and shape for a message, such as ``F32[3, 4]``."""
        return f"{self.dtype}{list(self.shape)}"


@lru_cache(maxsize=1024)  # asked for many times a transfer
def _nbytes(shape: tuple[int, ...], dtype: str) -> int:
    return math.prod(shape) * dtype_of(dtype).bits // 8


def checked_name(name: object) -> str:
    """Return a tensor name that every format, log line and file can carry.

    Raises:
        TensorFormatError: no text, empty, too long, reserved, with control characters or a
            folder ``..``: names travel to whoever writes a file a tensor.
    """
    if not isinstance(name, str):
        raise TensorFormatError(f"tensor name {shown(name)}: text is needed")
    if not 1 <= len(name) <= MAX_NAME:
        raise TensorFormatError(
            f"tensor name {name[:40]!r}: has {len(name)} characters, 1 to {MAX_NAME} are allowed"
        )
    if name == RESERVED_NAME:
        raise TensorFormatError(f"tensor name {name!r}: is reserved by the format")
    if _CONTROL.search(name):
        raise TensorFormatError(f"tensor name {name[:40]!r}: has a control character")
    if ".." in name and ".." in _SEPARATORS.split(name):
        raise TensorFormatError(f"tensor name {name[:40]!r}: climbs out of a folder")
    return name


def _checked_shape(name: str, shape: object) -> tuple[int, ...]:
    if not isinstance(shape, Sequence) or isinstance(shape, str | bytes):
        raise TensorFormatError(f"tensor {name!r}: shape {shown(shape)} is no list")
    if len(shape) > MAX_NDIM:
        raise TensorFormatError(f"tensor {name!r}: {len(shape)} dimensions, {MAX_NDIM} allowed")
    for size in shape:
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_NBYTES:
            raise TensorFormatError(f"tensor {name!r}: dimension {shown(size)} is out of bounds")
    return tuple(shape)


def _check_size(spec: TensorSpec) -> None:
    # Zeros are left out: [0, 2**62] holds nothing, yet overflows in every library that meets it.
    bits = math.prod(size for size in spec.shape if size) * dtype_of(spec.dtype).bits
    if bits > 8 * MAX_NBYTES:
        raise TensorFormatError(
            f"tensor {spec.name!r}: shape {list(spec.shape)} exceeds {MAX_NBYTES} bytes"
        )
    if spec.elements and bits % 8:
        raise TensorFormatError(f"tensor {spec.name!r}: {bits} bits are no whole bytes")


def differences(
    expected: Iterable[TensorSpec], given: Iterable[TensorSpec], *, limit: int = 5
) -> list[str]:
    """Return the first differences between two lists of specs, whatever their order."""
    wanted = {spec.name: spec for spec in expected}
    found = {spec.name: spec for spec in given}
    lines = []
    for name, spec in wanted.items():
        other = found.get(name)
        if other is None:
            lines.append(f"{name!r} is missing")
        elif other != spec:
            lines.append(f"{name!r} is {other.describe()}, not {spec.describe()}")
    lines += [f"{name!r} is unexpected" for name in found if name not in wanted]
    return lines[:limit]


def check_layout(specs: Sequence[TensorSpec], aliases: Mapping[str, str]) -> None:
    """Check that names come once and that every alias matches its first name.

    Raises:
        TensorFormatError: they do not.
    """
    if len(specs) == 1 and not aliases:
        return
    by_name = {spec.name: spec for spec in specs}
    if len(by_name) != len(specs):
        raise TensorFormatError(f"{len(specs)} tensors have {len(by_name)} names")
    for name, target in aliases.items():
        alias, first = by_name.get(name), by_name.get(target)
        if alias is None or first is None or target in aliases:
            raise TensorFormatError(
                f"alias {name!r} of {target!r}: both must be tensors, the second no alias"
            )
        if (alias.dtype, alias.shape) != (first.dtype, first.shape):
            raise TensorFormatError(
                f"alias {name!r} is {alias.describe()}, {target!r} is {first.describe()}"
            )


def check_view(spec: TensorSpec, view: memoryview | None) -> memoryview:
    """Return memory that holds exactly the bytes of a tensor.

    Raises:
        TensorFormatError: it is missing, of another size or not contiguous.
    """
    if view is None:
        raise TensorFormatError(f"tensor {spec.name!r}: no bytes were given")
    if view.nbytes != spec.nbytes or not view.c_contiguous:
        raise TensorFormatError(
            f"tensor {spec.name!r}: {view.nbytes} bytes were given, {spec.describe()} has "
            f"{spec.nbytes} contiguous ones"
        )
    return view


def under_all_names(
    specs: Sequence[TensorSpec], aliases: Mapping[str, str], values: Mapping[str, Value]
) -> dict[str, Value]:
    """Return what first names have under every name, in order; first names may come later."""
    return {spec.name: values[aliases.get(spec.name, spec.name)] for spec in specs}
