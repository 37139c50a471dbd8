"""The trainers of one case: they take the case's seconds, and die where the case says so."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Final, Self

from flare_async.errors import TrainerSignalled
from flare_async.jobs.spawners import InlineSpawner
from flare_async.jobs.training import TrainOutcome, TrainTask
from flare_async.net.rng import SeededRandom
from flare_async.ports import Clock
from flare_async.sim.hunt.case import Case
from flare_async.testing.delay import pass_seconds

__all__ = ["HuntCrew"]

SLOTS: Final = 64  # of user code at once: only what awaits by itself needs more than one


class HuntTrainer:
    """A spawner that runs the user's function at the end of a task's virtual seconds."""

    slots = 1_000_000

    def __init__(self, clock: Clock, case: Case, inline: InlineSpawner) -> None:
        self._clock = clock
        self._case = case
        self._random = SeededRandom(case.seed)
        self._inline = inline

    async def run(self, task: TrainTask) -> TrainOutcome:
        """Train once: waits for the task's seconds, then as the user's function does.

        Raises:
            TrainingFailed: the trainer died, or what the user's function leads to.
        """
        site, number = task.site.name, task.site.round_number
        dice = self._random.once(f"trainer {site} {number} {task.kind}")
        seconds = dice.uniform(*self._case.seconds)
        dies = dice.random() < self._case.crash or (number, task.kind, site) in self._case.lost
        if seconds:
            await pass_seconds(self._clock, seconds * (dice.random() if dies else 1.0))
        if dies:
            raise TrainerSignalled(site, "its trainer died, by the dice")
        outcome = await self._inline.run(task)
        return replace(outcome, seconds=seconds)


@dataclass(frozen=True, slots=True)
class HuntMember:
    """The trainer that all sites share; each has its own dice there."""

    spawner: HuntTrainer
    gate: AbstractAsyncContextManager[object]


class HuntCrew:
    """One trainer for every site."""

    trainers = 0

    def __init__(self, clock: Clock, case: Case, clients: int) -> None:
        self._inline = InlineSpawner(SLOTS, now=clock.now)
        self._member = HuntMember(HuntTrainer(clock, case, self._inline), nullcontext())
        self.slots = clients

    async def __aenter__(self) -> Self:
        await self._inline.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._inline.__aexit__(*exc)

    def of(self, site: str) -> HuntMember:
        """Return the trainer."""
        return self._member

    async def end_scripts(self) -> None:
        """Do nothing: there are no scripts."""
