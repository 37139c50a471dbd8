"""An immutable set of named tensors as read-only bytes: what roles and links share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

import numpy as np

from flare_async.errors import TensorFormatError
from flare_async.transfer.capture import Array, as_array, as_tensor, capture, writable_bytes
from flare_async.transfer.spec import (
    TensorSpec,
    check_layout,
    check_view,
    differences,
    under_all_names,
)

if TYPE_CHECKING:
    import torch

__all__ = ["TensorSet"]


class TensorSet(Mapping[str, memoryview]):
    """Maps tensor names, in order, to read-only contiguous views of their bytes.

    Tied tensors (the same start, shape, type and strides) appear under every name; ``aliases``
    maps each later name to the first. The memory belongs to whoever made it: it must not change
    while the set is in use, which is why user code gets a copy from a ``SlotPool``.
    """

    __slots__ = ("_specs", "_views", "aliases", "specs")

    specs: tuple[TensorSpec, ...]
    aliases: Mapping[str, str]

    def __init__(
        self, specs: Sequence[TensorSpec], views: dict[str, memoryview], aliases: dict[str, str]
    ) -> None:
        self.specs = tuple(specs)
        self.aliases = MappingProxyType(aliases)
        self._views = views
        self._specs: dict[str, TensorSpec] | None = None  # few sets are ever asked for one

    @classmethod
    def from_params(cls, params: Mapping[str, object]) -> Self:
        """Return the set of NumPy arrays, NumPy scalars and torch tensors of ``params``.

        Contiguous little-endian values in main memory are shared, all others are copied.

        Raises:
            TensorFormatError: a name or value cannot travel; the message names the key.
        """
        if type(params) is not dict and not isinstance(params, Mapping):
            raise TensorFormatError(f"params: a mapping is needed, got {type(params).__name__}")
        specs: list[TensorSpec] = []
        views: dict[str, memoryview] = {}
        aliases: dict[str, str] = {}
        first: dict[object, tuple[str, object]] = {}  # values live: their memory is not reused
        for name, value in params.items():
            captured = capture(name, value)
            specs.append(captured.spec)
            known = name
            if captured.identity is not None:
                known, _ = first.setdefault(captured.identity, (name, value))
            if known != name:
                aliases[name] = known
            views[name] = views[known] if known != name else captured.flat.data.toreadonly()
        return cls(specs, views, aliases)

    @classmethod
    def from_views(
        cls,
        specs: Sequence[TensorSpec],
        views: Mapping[str, memoryview],
        aliases: Mapping[str, str] | None = None,
    ) -> Self:
        """Return the set over memory that holds exactly the bytes of each spec.

        Names in ``aliases`` need no view of their own.

        Raises:
            TensorFormatError: a view is missing, of another size or not contiguous, a name
                comes twice, or an alias does not match its first name.
        """
        tied = dict(aliases or {})
        check_layout(specs, tied)
        if not tied:
            return cls(specs, {spec.name: _checked_view(spec, views) for spec in specs}, tied)
        checked = {spec.name: _checked_view(spec, views) for spec in specs if spec.name not in tied}
        ordered = {spec.name: checked[tied.get(spec.name, spec.name)] for spec in specs}
        return cls(specs, ordered, tied)

    def __getitem__(self, name: str) -> memoryview:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __repr__(self) -> str:
        return f"<TensorSet of {len(self)} tensors, {self.nbytes} bytes>"

    @property
    def nbytes(self) -> int:
        """The bytes of all tensors; tied ones count once."""
        return sum(view.nbytes for name, view in self._views.items() if name not in self.aliases)

    def spec(self, name: str) -> TensorSpec:
        """Return the spec of one tensor.

        Raises:
            TensorFormatError: no such tensor.
        """
        if self._specs is None:
            self._specs = {spec.name: spec for spec in self.specs}
        found = self._specs.get(name)
        if found is None:
            raise TensorFormatError(f"tensor {name!r}: not among {len(self)} tensors")
        return found

    def numpy(self) -> dict[str, Array]:
        """Return read-only arrays that share the memory; tied names share one array.

        Raises:
            TensorFormatError: NumPy has no such type.
            MissingExtra: a type comes from ``ml_dtypes``, which is not installed.
        """
        arrays = {
            spec.name: as_array(spec, np.frombuffer(self._views[spec.name], np.uint8))
            for spec in self.specs
            if spec.name not in self.aliases
        }
        return under_all_names(self.specs, self.aliases, arrays)

    def torch(self) -> dict[str, torch.Tensor]:
        """Return tensors that share the memory where it is writable, and copies elsewhere.

        Read them only: torch has no read-only tensors, so a write would change the set.

        Raises:
            TensorFormatError: torch has no such type.
            MissingExtra: torch is not installed.
        """
        tensors: dict[str, torch.Tensor] = {}
        for spec in self.specs:
            if spec.name not in self.aliases:
                view = self._views[spec.name]
                flat = writable_bytes(view)
                shared = np.frombuffer(view, np.uint8).copy() if flat is None else flat
                tensors[spec.name] = as_tensor(spec, shared)
        return under_all_names(self.specs, self.aliases, tensors)

    def copy(self) -> TensorSet:
        """Return the same tensors in memory of their own; tied ones stay tied."""
        views = {
            name: np.frombuffer(view, np.uint8).copy().data
            for name, view in self._views.items()
            if name not in self.aliases
        }
        return TensorSet.from_views(self.specs, views, self.aliases)

    def model_digest(self) -> str:
        """Return SHA-256 (hex) over name, type, shape and bytes of all tensors in name order."""
        digest = hashlib.sha256()
        for spec in sorted(self.specs, key=lambda spec: spec.name):
            head = json.dumps([spec.name, spec.dtype, list(spec.shape)], separators=(",", ":"))
            digest.update(len(head).to_bytes(8, "big") + head.encode())
            digest.update(self._views[spec.name])
        return digest.hexdigest()

    def same_specs(self, other: TensorSet) -> list[str]:
        """Return the first differences of ``other``'s names, types and shapes; [] for none."""
        return differences(self.specs, other.specs)


def _checked_view(spec: TensorSpec, views: Mapping[str, memoryview]) -> memoryview:
    view = check_view(spec, views.get(spec.name))
    # A view with a zero in its shape cannot be cast.
    return view.toreadonly().cast("B") if view.nbytes else memoryview(b"")
