"""The server's own step from a model towards the mean of its sites, chunk by chunk.

What is held beside the model and the mean is the rule's state: as many copies of the trained
tensors as the rule has slots, in the type that a mean of the model is summed in. The step is
written into the mean's memory, which nobody else has seen yet.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final, Protocol

import numpy as np

from flare_async.recipes.schedules import Schedule
from flare_async.recipes.server_optimizers import OptimizerRule, Slots
from flare_async.transfer.capture import Bytes, address_of, writable_bytes
from flare_async.transfer.kernel import CHUNK, accumulator_dtype, narrow, values_nbytes, widen
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.tensors import TensorSet

__all__ = ["RuleStep", "ServerStep", "private_bytes", "stepped_names"]

STEPPED: Final = frozenset({"BF16", "F16", "F32", "F64"})
VALUES: Final = CHUNK // 8  # a chunk's values, in float64


class ServerStep(Protocol):
    """One run's optimizer with its state."""

    def step(self, model: TensorSet, mean: TensorSet) -> TensorSet:
        """Return the next model; ``mean``, which nobody else may use, lends its memory."""


class RuleStep:
    """A rule with its state; arithmetic is in float64, ``names`` are the tensors that it moves."""

    def __init__(self, rule: OptimizerRule, schedule: Schedule, names: Iterable[str]) -> None:
        self._rule = rule
        self._schedule = schedule
        self._names = tuple(names)
        self._state: dict[str, Slots] = {}
        self._steps = 0

    @property
    def nbytes(self) -> int:
        """The bytes of the state."""
        return sum(slot.nbytes for slots in self._state.values() for slot in slots.values())

    def step(self, model: TensorSet, mean: TensorSet) -> TensorSet:
        """Return the next model; tensors without a step are the mean's."""
        lr = self._rule.lr * self._schedule.factor(self._steps)
        views = dict(mean)
        for name in self._names:
            target = private_bytes(mean[name], model[name])
            self._move(model.spec(name), model[name], target, lr, model.nbytes)
            views[name] = target.data
        self._steps += 1
        return TensorSet.from_views(mean.specs, views, mean.aliases)

    def _move(
        self, spec: TensorSpec, old: memoryview, target: Bytes, lr: float, model_nbytes: int
    ) -> None:
        width = values_nbytes(spec.dtype)
        slots = self._slots(spec, model_nbytes)
        for at in range(0, target.size // width, VALUES):
            part = slice(at * width, (at + VALUES) * width)
            start = widen(spec.dtype, old[part]).astype(np.float64)
            move = widen(spec.dtype, target.data[part]).astype(np.float64) - start
            here = {name: slot[at : at + VALUES] for name, slot in slots.items()}
            moved = narrow(spec.dtype, start + self._rule.step(move, here, lr))
            target[part] = np.ascontiguousarray(moved).view(np.uint8)

    def _slots(self, spec: TensorSpec, model_nbytes: int) -> Slots:
        if spec.name not in self._state:
            kind = accumulator_dtype(spec, model_nbytes)
            count = spec.nbytes // values_nbytes(spec.dtype)
            first = self._rule.slots
            self._state[spec.name] = {slot: np.full(count, first[slot], kind) for slot in first}
        return self._state[spec.name]


def private_bytes(view: memoryview, other: memoryview) -> Bytes:
    """Return writable memory with a view's bytes: the view's own, unless it is ``other``'s."""
    own = writable_bytes(view)
    if own is None or (own.size and address_of(own) == address_of(np.frombuffer(other, np.uint8))):
        return np.frombuffer(view, np.uint8).copy()
    return own


def stepped_names(
    model: TensorSet, trainable: Collection[str] | None, excluded: Collection[str]
) -> tuple[str, ...]:
    """Return the names of the tensors that an optimizer moves, in the order of the model.

    These are floats that are ``trainable`` (None: all), not excluded and not tied to an earlier
    one; all others, such as running means and counters, are averaged.
    """
    return tuple(
        spec.name
        for spec in model.specs
        if spec.dtype in STEPPED
        and spec.nbytes
        and spec.name not in model.aliases
        and spec.name not in excluded
        and (trainable is None or spec.name in trainable)
    )
