"""What a filter is, and what it is told of the tensors that pass it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Self, TypeAlias

import numpy as np

from flare_async.errors import TensorFormatError
from flare_async.model import ParamsType
from flare_async.transfer.capture import Array
from flare_async.transfer.source import MemorySource, TensorSource
from flare_async.transfer.tensors import TensorSet

if TYPE_CHECKING:
    from typing import Any

__all__ = ["ArrayFilter", "Filter", "Passage", "Scalar"]

Scalar: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """Which tensors pass: of what task, site and round, and whether they are a difference.

    ``received`` is the model that the site got with the task, for an update that leaves it.
    ``key`` are 128 random bits of this passage alone: equal in equal simulations, unpredictable
    in a deployment.
    """

    task: str
    site: str = ""  # "": a model that leaves the server
    round_number: int = 0
    total_rounds: int = 1
    kind: ParamsType = ParamsType.FULL
    meta: Mapping[str, Scalar] = field(default_factory=dict)
    received: TensorSource | None = None
    key: int = 0

    def of(self, number: int) -> Passage:
        """Return the passage of one filter of a chain, with a key of its own."""
        words = np.random.SeedSequence(self.key, spawn_key=(number,)).generate_state(2, np.uint64)
        return replace(self, key=int(words[0]) << 64 | int(words[1]))

    def at(self, site: str, kind: ParamsType) -> Passage:
        """Return the passage of one site's update, with a key of its own."""
        words = np.random.SeedSequence(self.key, spawn_key=tuple(site.encode()))
        first, second = words.generate_state(2, np.uint64)
        return replace(self, site=site, kind=kind, key=int(first) << 64 | int(second))

    @property
    def rng(self) -> np.random.Generator:
        """A new generator that starts from ``key``."""
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(self.key)))

    def generator(self, tensor: int, cell: int) -> np.random.Generator:
        """Return the generator of one cell of one tensor: the same however often it is read."""
        counter = np.array([0, 0, cell, tensor], np.uint64)  # a cell draws less than 2**128 blocks
        key = np.array([self.key & (2**64 - 1), self.key >> 64 & (2**64 - 1)], np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=counter))


class Filter(ABC):
    """Changes tensors on their way: of a model before sites train on it, or of an update.

    ``differences`` says that only what a site has changed may pass: whole weights are made a
    difference first. ``recodes`` says that names, types or shapes change, so that another filter
    has to change them back; ``compares`` that it reads ``Passage.received``. ``holds`` is what it
    holds while it works, in copies of what passes; 0 is a cell.
    """

    differences: ClassVar[bool] = False
    recodes: ClassVar[bool] = False
    compares: ClassVar[bool] = False
    holds: ClassVar[float] = 0.0

    made_with: tuple[tuple[object, ...], dict[str, object]]

    def __new__(cls, *args: Any, **keywords: Any) -> Self:  # noqa: ANN401 - as the subclass has it
        """Remember the arguments: a job folder has them in place of the object."""
        made = super().__new__(cls)
        object.__setattr__(made, "made_with", (args, keywords))
        return made

    @abstractmethod
    def apply(self, source: TensorSource, passage: Passage) -> TensorSource | TensorSet:
        """Return what goes on, which may be computed when it is read.

        What is read twice must have the same bytes. Whatever this raises fails the site.
        """


class ArrayFilter(Filter):
    """A filter that changes one array after the other: only ``array`` is to be written.

    Holds the new tensors beside the old ones until the last is made.
    """

    holds = 2.0

    @abstractmethod
    def array(self, name: str, array: Array, passage: Passage) -> Array:
        """Return what goes on in place of ``array``, which is read-only: same shape and type."""

    def apply(self, source: TensorSource, passage: Passage) -> TensorSet:
        """Return the set of what ``array`` returned; tied tensors stay tied.

        Raises:
            TensorFormatError: it returned another shape or type, or no array.
        """
        from flare_async.transfer.filters.cells import gathered  # it needs this module

        tensors = source.tensors if isinstance(source, MemorySource) else gathered(source)
        made: dict[str, object] = {}
        for name, array in tensors.numpy().items():
            first = tensors.aliases.get(name)
            made[name] = made[first] if first else self._checked(name, array, passage)
        return TensorSet.from_params(made)

    def _checked(self, name: str, array: Array, passage: Passage) -> Array:
        made = self.array(name, array, passage)
        if not isinstance(made, np.ndarray):
            raise TensorFormatError(f"tensor {name!r}: array() returned {type(made).__name__}")
        if (made.shape, made.dtype) != (array.shape, array.dtype):
            given, wanted = f"{made.dtype}{list(made.shape)}", f"{array.dtype}{list(array.shape)}"
            raise TensorFormatError(f"tensor {name!r}: array() returned {given}, not {wanted}")
        return made
