"""Every element type that the safetensors format knows, and what it is called elsewhere.

The table is in the format's own order, which decides where a tensor stands in a file. Types that
no framework holds element by element (four and six bits) travel as raw bytes; asking for them as
an array is a typed error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from flare_async.errors import MissingExtra, TensorFormatError

if TYPE_CHECKING:
    import torch

__all__ = [
    "DTYPES",
    "DType",
    "dtype_of",
    "name_of_numpy",
    "name_of_torch",
    "numpy_dtype",
    "torch_dtype",
]


@dataclass(frozen=True, slots=True)
class DType:
    """One element type: its width, its place in the format's order, its names elsewhere.

    ``numpy`` is None where no NumPy type holds one element; ``extension`` says that the NumPy type
    comes from ``ml_dtypes``. ``torch`` is None where torch has no such type.
    """

    name: str
    bits: int
    rank: int
    numpy: str | None
    torch: str | None
    extension: bool = False


_ROWS: Final = (
    ("BOOL", 8, "bool", "bool"),
    ("F4", 4, None, "float4_e2m1fn_x2"),
    ("F6_E2M3", 6, None, None),
    ("F6_E3M2", 6, None, None),
    ("U8", 8, "uint8", "uint8"),
    ("I8", 8, "int8", "int8"),
    ("F8_E5M2", 8, "float8_e5m2", "float8_e5m2"),
    ("F8_E4M3", 8, "float8_e4m3fn", "float8_e4m3fn"),
    ("F8_E8M0", 8, "float8_e8m0fnu", "float8_e8m0fnu"),
    ("F8_E4M3FNUZ", 8, "float8_e4m3fnuz", "float8_e4m3fnuz"),
    ("F8_E5M2FNUZ", 8, "float8_e5m2fnuz", "float8_e5m2fnuz"),
    ("I16", 16, "int16", "int16"),
    ("U16", 16, "uint16", "uint16"),
    ("F16", 16, "float16", "float16"),
    ("BF16", 16, "bfloat16", "bfloat16"),
    ("I32", 32, "int32", "int32"),
    ("U32", 32, "uint32", "uint32"),
    ("F32", 32, "float32", "float32"),
    ("C64", 64, "complex64", "complex64"),
    ("F64", 64, "float64", "float64"),
    ("I64", 64, "int64", "int64"),
    ("U64", 64, "uint64", "uint64"),
)
DTYPES: Final[Mapping[str, DType]] = MappingProxyType(
    {
        name: DType(name, bits, rank, in_numpy, in_torch, name == "BF16" or name[:2] == "F8")
        for rank, (name, bits, in_numpy, in_torch) in enumerate(_ROWS)
    }
)
_BY_NUMPY: Final = MappingProxyType({d.numpy: d.name for d in DTYPES.values() if d.numpy})
_PLAIN: Final = MappingProxyType(
    {d.name: np.dtype(d.numpy) for d in DTYPES.values() if d.numpy and not d.extension}
)
_BY_TORCH: Final = MappingProxyType({d.torch: d.name for d in DTYPES.values() if d.torch})


def dtype_of(name: str) -> DType:
    """Return the entry of that name.

    Raises:
        TensorFormatError: the format has no such type.
    """
    found = DTYPES.get(name)
    if found is None:
        raise TensorFormatError(f"dtype {name!r}: unknown, known are {', '.join(DTYPES)}")
    return found


@lru_cache(maxsize=256)  # NumPy works a type's name out anew each time, in several microseconds
def name_of_numpy(dtype: np.dtype[np.generic]) -> str | None:
    """Return the format's name of a NumPy type in any byte order, or None."""
    return None if dtype.names is not None else _BY_NUMPY.get(dtype.name)


def name_of_torch(dtype: torch.dtype) -> str | None:
    """Return the format's name of a torch type, or None."""
    return _BY_TORCH.get(str(dtype).removeprefix("torch."))


def numpy_dtype(name: str) -> np.dtype[np.generic]:
    """Return the NumPy type that holds one element.

    Raises:
        TensorFormatError: NumPy cannot hold it.
        MissingExtra: it comes from ``ml_dtypes``, which is not installed.
    """
    plain = _PLAIN.get(name)
    if plain is not None:
        return plain
    entry = dtype_of(name)
    if entry.numpy is None:
        raise TensorFormatError(f"dtype {name}: NumPy has no element of {entry.bits} bits")
    try:
        import ml_dtypes
    except ImportError as exc:
        raise MissingExtra("ml_dtypes", "torch") from exc
    scalar: type[np.generic] = getattr(ml_dtypes, entry.numpy)
    return np.dtype(scalar)


def torch_dtype(name: str) -> torch.dtype:
    """Return the torch type.

    Raises:
        TensorFormatError: the installed torch has no such type.
        MissingExtra: torch is not installed.
    """
    entry = dtype_of(name)
    try:
        import torch
    except ImportError as exc:
        raise MissingExtra("torch", "torch") from exc
    found = None if entry.torch is None else getattr(torch, entry.torch, None)
    if not isinstance(found, torch.dtype):
        raise TensorFormatError(f"dtype {name}: torch {torch.__version__} has no such type")
    return found
