"""Arrays and tensors of any framework as flat bytes, and back, without a copy where possible.

torch is never imported here unless a caller asks for torch tensors: a value can only be a torch
tensor when somebody else has imported torch already.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from flare_async.errors import TensorFormatError
from flare_async.hot_value import hot_value
from flare_async.transfer.dtypes import name_of_numpy, name_of_torch, numpy_dtype, torch_dtype
from flare_async.transfer.spec import TensorSpec

if TYPE_CHECKING:
    import torch

__all__ = [
    "Array",
    "Bytes",
    "Captured",
    "address_of",
    "as_array",
    "as_tensor",
    "capture",
    "torch_tensor",
    "writable_bytes",
]

Array: TypeAlias = npt.NDArray[np.generic]
Bytes: TypeAlias = npt.NDArray[np.uint8]


@hot_value(frozen=True, slots=True)
class Captured:
    """One value as flat bytes; values with the same ``identity`` are the same memory.

    That holds while both values live: afterwards their memory may be another one's.
    """

    spec: TensorSpec
    flat: Bytes
    identity: Hashable | None


def capture(name: str, value: object) -> Captured:
    """Return the bytes of an array, tensor or NumPy scalar; contiguous values are shared.

    Other libraries' arrays are taken as what NumPy makes of them: JAX's and TensorFlow's on a CPU
    without a copy.

    Raises:
        TensorFormatError: the value is none of these, or of a type that cannot travel.
    """
    if isinstance(value, np.ndarray):
        return _capture_numpy(name, value)
    if isinstance(value, np.generic):
        captured = _capture_numpy(name, np.array(value))
        return Captured(captured.spec, captured.flat, None)
    tensor = torch_tensor(value)
    if tensor is not None:
        return _capture_torch(name, tensor)
    foreign = _foreign_array(name, value)
    if foreign is not None:
        return _capture_numpy(name, foreign)
    raise TensorFormatError(
        f"tensor {name!r}: {type(value).__name__} is no NumPy array and no torch tensor; "
        "convert it, for instance with numpy.asarray"
    )


def torch_tensor(value: object) -> torch.Tensor | None:
    """Return the value itself where it is a torch tensor, else None, without importing torch."""
    module = sys.modules.get("torch")
    if module is None or not isinstance(value, module.Tensor):
        return None
    return cast("torch.Tensor", value)


def _foreign_array(name: str, value: object) -> Array | None:
    """Return what has the methods of an array as NumPy's own. Raises TensorFormatError."""
    if isinstance(value, type) or not callable(getattr(value, "__array__", None)):
        return None
    try:
        return np.asarray(value)
    except Exception as exc:
        kind = f"{type(value).__module__}.{type(value).__name__}"
        reason = str(exc).partition("\n")[0]
        problem = f"tensor {name!r}: NumPy cannot read a {kind}: {reason}"
        raise TensorFormatError(problem) from exc


def _capture_numpy(name: str, array: Array) -> Captured:
    dtype = name_of_numpy(array.dtype)
    if dtype is None or isinstance(array, np.ma.MaskedArray):
        kind = type(array).__name__
        raise TensorFormatError(f"tensor {name!r}: a {kind} of {array.dtype} cannot travel")
    spec = _spec_of(name, dtype, array.shape)
    plain = np.asarray(array, dtype=_little(array.dtype), order="C")
    order = array.dtype.byteorder
    identity = (address_of(array), dtype, order, array.shape, array.strides)
    return Captured(spec, plain.reshape(-1).view(np.uint8), identity if array.size else None)


@lru_cache(maxsize=1024)  # of NumPy's own shapes: thousands of updates have the same few
def _spec_of(name: str, dtype: str, shape: tuple[int, ...]) -> TensorSpec:
    return TensorSpec.checked(name, dtype, shape)


def address_of(array: Array) -> int:
    """Return where the first element lies."""
    address: int = array.__array_interface__["data"][0]
    return address


def _little(dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    foreign = dtype.byteorder == ">" or (dtype.byteorder == "=" and sys.byteorder == "big")
    return dtype.newbyteorder("<") if foreign else dtype


def _capture_torch(name: str, tensor: torch.Tensor) -> Captured:
    import torch

    dtype = name_of_torch(tensor.dtype)
    dense = tensor.layout is torch.strided and tensor.device.type != "meta"
    if dtype is None or not dense or tensor.is_quantized:
        raise TensorFormatError(
            f"tensor {name!r}: a torch tensor of {tensor.dtype}, {tensor.layout} on "
            f"{tensor.device} cannot travel"
        )
    spec = TensorSpec.checked(name, dtype, _shape_of(dtype, tensor))
    plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    flat: Bytes = plain.reshape(-1).view(torch.uint8).numpy()
    seen_as = (tensor.is_conj(), tensor.is_neg())  # views of one memory that differ in value
    place = (tensor.device, tensor.data_ptr())
    identity = (place, dtype, seen_as, spec.shape, tensor.stride())
    return Captured(spec, flat, identity if tensor.numel() else None)


def _shape_of(dtype: str, tensor: torch.Tensor) -> tuple[int, ...]:
    shape = tuple(tensor.shape)
    if dtype != "F4":
        return shape
    # torch counts the pairs of a packed type, the format counts the elements.
    return (*shape[:-1], 2 * shape[-1]) if shape else (2,)


def as_array(spec: TensorSpec, flat: Bytes) -> Array:
    """Return the bytes as a NumPy array of that spec, sharing memory.

    Raises:
        TensorFormatError: NumPy has no such type.
        MissingExtra: the type comes from ``ml_dtypes``, which is not installed.
    """
    return flat.view(_little(numpy_dtype(spec.dtype))).reshape(spec.shape)


def as_tensor(spec: TensorSpec, flat: Bytes) -> torch.Tensor:
    """Return writable bytes as a torch tensor of that spec, sharing memory.

    Raises:
        TensorFormatError: torch has no such type.
        MissingExtra: torch is not installed.
    """
    dtype = torch_dtype(spec.dtype)
    import torch

    shape = spec.shape
    if spec.dtype == "F4":
        shape = (*shape[:-1], shape[-1] // 2)
    if not flat.size:
        return torch.empty(shape, dtype=dtype)
    return torch.from_numpy(flat).view(dtype).reshape(shape)


def writable_bytes(view: memoryview) -> Bytes | None:
    """Return a writable array over the memory of a read-only view, or None where it has none.

    torch has no read-only tensors; memory that was born read-only must be copied for it.
    """
    owner = np.frombuffer(view, np.uint8)
    try:
        whole = np.frombuffer(cast("memoryview", view.obj), np.uint8)
    except (TypeError, ValueError, BufferError):
        return None
    start = address_of(owner) - address_of(whole)
    if not whole.flags.writeable or not 0 <= start <= whole.size - owner.size:
        return None
    return whole[start : start + owner.size]
