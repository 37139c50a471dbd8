"""Private writable copies of a model for user code, from buffers that a training slot reuses."""

from __future__ import annotations

from typing import Literal

import numpy as np

from flare_async.transfer.capture import Array, Bytes, address_of, as_array, as_tensor, torch_tensor
from flare_async.transfer.layers import grouped
from flare_async.transfer.spec import TensorSpec, under_all_names
from flare_async.transfer.tensors import TensorSet

__all__ = ["Framework", "SlotPool"]

Framework = Literal["numpy", "torch", "tensorflow"]

_ALIGNMENT = 64  # a cache line; also enough for every element type


class SlotPool:
    """One slot's private copy of a model: memory is slots times model, not sites times model.

    A copy lives until the next ``take``: whoever keeps one longer (an update that aliases it)
    must copy it; ``owns`` tells. One slot is used by one caller at a time.
    """

    __slots__ = ("_arena", "_layout", "_offsets")

    def __init__(self) -> None:
        self._arena: Bytes = np.empty(0, np.uint8)
        self._layout: object = None
        self._offsets: dict[str, int] = {}

    @property
    def nbytes(self) -> int:
        """The bytes that this slot holds."""
        return self._arena.nbytes

    def take(self, tensors: TensorSet, framework: Framework) -> dict[str, object]:
        """Return a writable copy as NumPy arrays or torch tensors; tied names stay tied.

        For TensorFlow the arrays are in lists, one under the name of each layer.

        The former copy's memory is overwritten when names, types and shapes agree, and left to
        whoever still holds it when they do not.

        Raises:
            TensorFormatError: the framework has no such type.
            MissingExtra: the framework or ``ml_dtypes`` is not installed.
        """
        self._fit(tensors)
        convert = as_tensor if framework == "torch" else as_array
        made: dict[str, object] = {}
        for spec in tensors.specs:
            if spec.name not in tensors.aliases:
                flat = self._slice(spec)
                flat[:] = np.frombuffer(tensors[spec.name], np.uint8)
                made[spec.name] = convert(spec, flat)
        params = under_all_names(tensors.specs, tensors.aliases, made)
        return grouped(params) if framework == "tensorflow" else params

    def owns(self, value: object) -> bool:
        """Return whether an array or tensor shares memory with this slot."""
        bounds = _bounds(value)
        if bounds is None or not self._arena.size:
            return False
        low = address_of(self._arena)
        high = low + self._arena.nbytes
        return bounds[0] < high and low < bounds[1]

    def release(self) -> None:
        """Let go of the memory, for instance of a slot whose thread was abandoned."""
        self._arena = np.empty(0, np.uint8)
        self._layout = None
        self._offsets = {}

    def _fit(self, tensors: TensorSet) -> None:
        layout = (tensors.specs, dict(tensors.aliases))
        if layout == self._layout:
            return
        offsets: dict[str, int] = {}
        end = 0
        for spec in tensors.specs:
            if spec.name not in tensors.aliases:
                offsets[spec.name] = end
                end += -(-spec.nbytes // _ALIGNMENT) * _ALIGNMENT
        block = np.empty(end + _ALIGNMENT, np.uint8)
        start = -address_of(block) % _ALIGNMENT
        self._arena = block[start : start + end]
        self._offsets = offsets
        self._layout = layout

    def _slice(self, spec: TensorSpec) -> Bytes:
        start = self._offsets[spec.name]
        return self._arena[start : start + spec.nbytes]


def _array_bounds(array: Array) -> tuple[int, int]:
    spans = [(size - 1) * step for size, step in zip(array.shape, array.strides, strict=True)]
    start = address_of(array)
    low = start + sum(span for span in spans if span < 0)
    return low, start + sum(span for span in spans if span > 0) + array.itemsize


def _bounds(value: object) -> tuple[int, int] | None:
    if isinstance(value, np.ndarray):
        return _array_bounds(value) if value.size else None
    tensor = torch_tensor(value)
    if tensor is None or str(tensor.layout) != "torch.strided" or tensor.device.type != "cpu":
        return None
    storage = tensor.untyped_storage()
    return storage.data_ptr(), storage.data_ptr() + storage.nbytes()
