"""The spawner of a virtual federation: seconds by the dice, then the user's function, or none."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Final, Self

from flare_async.jobs.spawners import InlineSpawner
from flare_async.jobs.training import TrainOutcome, TrainTask
from flare_async.ports import Clock, Random
from flare_async.sim.virtual.setting import VirtualSetting
from flare_async.sim.virtual.sizes import outcome_of_sizes
from flare_async.testing.trainer import SimTrainer, TrainerModel

__all__ = ["VirtualCrew", "VirtualMember", "with_dropout"]

SLOTS: Final = 64  # of user code at once: only what awaits by itself needs more than one


@dataclass(frozen=True, slots=True)
class VirtualMember:
    """The trainer that all sites share; each has its own dice there."""

    spawner: SimTrainer[TrainTask, TrainOutcome]
    gate: AbstractAsyncContextManager[object]


class VirtualCrew:
    """One simulated trainer for every site."""

    trainers = 0

    def __init__(
        self, clock: Clock, random: Random, setting: VirtualSetting, *, waits: bool
    ) -> None:
        self._inline = InlineSpawner(SLOTS, now=clock.now)
        self._sizes = setting.payload == "sizes"
        self.trainer: SimTrainer[TrainTask, TrainOutcome] = SimTrainer(
            clock,
            random,
            with_dropout(setting.trainer, setting.dropout, waits=waits),
            site_of=lambda task: task.site.name,
            finish=self._finish,
        )
        self._member = VirtualMember(self.trainer, nullcontext())
        self.slots = setting.clients

    async def __aenter__(self) -> Self:
        await self._inline.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._inline.__aexit__(*exc)

    def of(self, site: str) -> VirtualMember:
        """Return the trainer."""
        return self._member

    async def end_scripts(self) -> None:
        """Do nothing: there are no scripts."""

    async def _finish(self, task: TrainTask, seconds: float) -> TrainOutcome:
        if self._sizes:
            return outcome_of_sizes(task, seconds)
        outcome = await self._inline.run(task)
        return replace(outcome, seconds=seconds)


def with_dropout(model: TrainerModel, dropout: float, *, waits: bool) -> TrainerModel:
    """Return a model of which a part drops out besides: silently, or where all are waited for, not.

    What is left after the drop-outs ends as before.
    """
    left = 1.0 - dropout
    crash, hang, oom = model.crash * left, model.hang * left, model.oom * left
    if waits:
        crash += dropout
    else:
        hang += dropout
    return replace(model, crash=crash, hang=hang, oom=oom)
