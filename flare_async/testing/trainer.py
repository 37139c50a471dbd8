"""Simulated training: how long it takes, and how it ends, by the dice; a spawner and a worker.

``SimTrainer`` is the spawner port where tasks are a job's (``run(task)`` of any task with a site),
and a client's worker where they are a site's. What a task gives is the caller's: a function that is
called at the end of its seconds, at a seeded step of the loop, and that may be a coroutine
function. So the same port runs a user's function, or none at all where only sizes count.

A trainer may ``crash`` (a signal), be killed for its memory (``oom``) or ``hang``: a hang waits for
ever, as a training that is stuck does, and ends when the round's deadline cancels it. The dice of a
site are its own, so one more site changes nothing for the others.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Generic, Self, TypeVar

import anyio

from flare_async.errors import ConfigError, TrainerOutOfMemory, TrainerSignalled
from flare_async.ports import Clock, Random
from flare_async.testing.delay import pass_seconds
from flare_async.testing.spread import Spread

__all__ = ["SimTrainer", "TrainerModel"]

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")
ENDINGS: Final = ("crash", "hang", "oom")


@dataclass(frozen=True, slots=True)
class TrainerModel:
    """How tasks of a site end.

    ``duration`` is the seconds of a site's tasks: each site draws its own, once; ``variation`` is
    the factor that each of its tasks draws. ``crash``, ``hang`` and ``oom`` are the probabilities
    that a task ends so; what is left is success.

    Raises:
        ConfigError: no probabilities, or they exceed 1 together.
    """

    duration: Spread = field(default_factory=lambda: Spread.constant(0.0))
    variation: Spread = field(default_factory=lambda: Spread.constant(1.0))
    crash: float = 0.0
    hang: float = 0.0
    oom: float = 0.0

    def __post_init__(self) -> None:
        for name in ENDINGS:
            value = getattr(self, name)
            if not 0 <= value <= 1:
                problem = "a probability from 0 to 1 is needed"
                raise ConfigError(f"TrainerModel.{name}", value, problem)
        total = self.crash + self.hang + self.oom
        if total > 1:
            raise ConfigError("TrainerModel.crash", total, "crash, hang and oom exceed 1 together")


class SimTrainer(Generic[TaskT, ResultT]):
    """Ends each task after simulated seconds with what ``finish(task, seconds)`` gives.

    ``site_of`` names the site of a task. ``slots`` bounds how many run at once; callers beyond wait
    in the order in which they came. ``started`` and ``ended`` count the tasks, the latter by how
    they ended: "done", "crash", "hang", "oom", "cancelled".
    """

    def __init__(
        self,
        clock: Clock,
        random: Random,
        model: TrainerModel,
        *,
        site_of: Callable[[TaskT], str],
        finish: Callable[[TaskT, float], ResultT | Awaitable[ResultT]],
        slots: int = 1_000_000,
    ) -> None:
        self.model = model
        self.started = 0
        self.ended: dict[str, int] = {}
        self._clock = clock
        self._random = random
        self._site_of = site_of
        self._finish = finish
        self._speeds: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._slots = slots
        self._turns = asyncio.Semaphore(slots)

    @property
    def slots(self) -> int:
        """How many tasks may run at once."""
        return self._slots

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave nothing: tasks belong to who runs them."""

    async def run(self, task: TaskT) -> ResultT:
        """Train once: waits for a slot, then for the simulated seconds; a hang waits for ever.

        Cancelling frees the slot and leaves nothing.

        Raises:
            TrainingFailed: the trainer crashed or was killed for its memory; or what ``finish``
                raises.
        """
        async with self._turns:
            return await self._train(task)

    async def _train(self, task: TaskT) -> ResultT:
        site = self._site_of(task)
        ending = "cancelled"
        self.started += 1
        try:
            seconds, ending = await self._pass(site)
            if ending != "done":
                raise _error(ending, site)
            result = self._finish(task, seconds)
            return await result if inspect.isawaitable(result) else result
        finally:
            self.ended[ending] = self.ended.get(ending, 0) + 1

    async def _pass(self, site: str) -> tuple[float, str]:
        """Let the task's seconds pass; return them and how it ends; a hang never returns."""
        seconds, ending = self._drawn(site)
        if seconds:
            await pass_seconds(self._clock, seconds)
        if ending == "hang":
            await anyio.sleep_forever()
        return seconds, ending

    def _drawn(self, site: str) -> tuple[float, str]:
        count = self._counts[site] = self._counts.get(site, 0) + 1
        dice = self._random.once(f"trainer {site} {count}")  # 2.5 KB: not kept while it trains
        ending = self._ending(dice.random())
        share = 1.0 if ending == "done" else dice.random()
        return share * self._speed(site) * self.model.variation.draw(dice), ending

    def _ending(self, draw: float) -> str:
        bound = 0.0
        for name in ENDINGS:
            bound += float(getattr(self.model, name))
            if draw < bound:
                return name
        return "done"

    def _speed(self, site: str) -> float:
        found = self._speeds.get(site)
        if found is None:
            dice = self._random.once(f"trainer speed {site}")
            found = self._speeds[site] = self.model.duration.draw(dice)
        return found


def _error(ending: str, site: str) -> TrainerSignalled | TrainerOutOfMemory:
    if ending == "oom":
        return TrainerOutOfMemory(site, "was killed for its memory, by the dice")
    return TrainerSignalled(site, "was ended by a signal, by the dice")
