"""Runs train functions on the event loop itself: deterministic, and the least overhead."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Self

from flare_async.errors import ConfigError
from flare_async.jobs.seeding import GlobalSeeds, SingleTorchThread
from flare_async.jobs.site import SiteStates
from flare_async.jobs.spawners.slots import Slots
from flare_async.jobs.training import TrainOutcome, TrainTask, call, conclude, finish, prepare
from flare_async.jobs.work import EvaluateFunction, TrainFunction, is_async
from flare_async.model import FLModel
from flare_async.transfer.pool import SlotPool

__all__ = ["InlineSpawner"]


class InlineSpawner:
    """Calls synchronous train functions on the loop, which they block, and awaits async ones.

    ``slots`` bounds how many async ones run at once. ``now`` measures ``TrainOutcome.seconds``.
    Trainings in a row let the loop go on after each of them, or when they have kept it for
    ``breath`` seconds: a turn of the loop takes longer than many a simulated training.
    """

    def __init__(
        self,
        slots: int = 1,
        *,
        now: Callable[[], float] = time.perf_counter,
        breath: float = 0.0,
    ) -> None:
        if slots < 1:
            raise ConfigError("slots", slots, "at least one is needed")
        self._count = slots
        self._slots = Slots(SlotPool() for _ in range(slots))
        self._states = SiteStates()
        self._single = SingleTorchThread()
        self._seeds = GlobalSeeds()
        self._now = now
        self._breath = breath
        self._breathed = now()
        self._known: tuple[object, bool] = (None, False)  # the latest function, and whether async

    @property
    def slots(self) -> int:
        """How many tasks may run at once."""
        return self._count

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._slots.close()
        self._seeds.__exit__()

    async def run(self, task: TrainTask) -> TrainOutcome:
        """Train once.

        Waits for ever for a free slot, then for user code. Cancelling reaches an async train
        function at its await; a synchronous one cannot be interrupted.

        Raises:
            TrainingFailed: user code raised, or returned no usable model.
            LocalProtocolError: the spawner is closed.
        """
        pool = await self._slots.acquire()
        try:
            if self._now() - self._breathed >= self._breath:
                await asyncio.sleep(0)  # a row of short trainings must not starve the loop
                self._breathed = self._now()
            return await self._train(task, pool)
        finally:
            self._slots.release(pool)

    def _is_async(self, function: TrainFunction | EvaluateFunction) -> bool:
        if self._known[0] is not function:
            self._known = function, is_async(function)
        return self._known[1]

    async def _train(self, task: TrainTask, pool: SlotPool) -> TrainOutcome:
        model, site = prepare(task, pool, self._states.of(task.site))
        started = self._now()
        with self._single:
            if not self._is_async(task.function):
                self._seeds.seed(site)
            result = call(task, model, site)
            if type(result) is not FLModel and inspect.isawaitable(result):
                result = await finish(site.name, result)
        return conclude(task, result, pool, seconds=self._now() - started)
