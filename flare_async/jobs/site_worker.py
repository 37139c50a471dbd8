"""A site's worker: hands the client's tasks to the spawner with the facts of the site."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flare_async.errors import TensorFormatError, TrainingFailed
from flare_async.jobs.site import SiteInfo
from flare_async.jobs.training import TrainOutcome, TrainTask
from flare_async.jobs.work import Work
from flare_async.model import ParamsType
from flare_async.ports import Spawner
from flare_async.roles.client import SiteResult, SiteTask
from flare_async.transfer.difference import difference
from flare_async.transfer.tensors import TensorSet

__all__ = ["SiteWorker"]


@dataclass(frozen=True, slots=True)
class SiteWorker:
    """Runs one site's ``Work``; ``info`` lacks only the round's numbers."""

    work: Work
    info: SiteInfo
    spawner: Spawner[TrainTask, TrainOutcome]

    async def run(self, task: SiteTask) -> SiteResult:
        """Run one task in a slot of the spawner; waits for the slot and for user code.

        The round's deadline cancels it.

        Raises:
            TrainingFailed: user code raised, or returned no usable model.
        """
        info = self.info.at(task.job, task.round_number, task.total_rounds)
        received: Mapping[str, float] = {}
        if self.work.evaluate is not None:
            evaluated = await self.spawner.run(
                TrainTask(self.work, task.tensors, info, task.meta, "validate")
            )
            received = evaluated.metrics
        if task.task == "validate":
            return SiteResult(None, ParamsType.FULL, received, received=received)
        outcome = await self.spawner.run(TrainTask(self.work, task.tensors, info, task.meta))
        tensors, kind = outcome.tensors, outcome.params_type
        if tensors is not None and self._sends_differences(kind):
            tensors, kind = self._difference(tensors, task.tensors), ParamsType.DIFF
        return SiteResult(tensors, kind, outcome.metrics, outcome.meta, outcome.seconds, received)

    def _sends_differences(self, kind: ParamsType) -> bool:
        return self.work.transfer is ParamsType.DIFF and kind is ParamsType.FULL

    def _difference(self, new: TensorSet, old: TensorSet) -> TensorSet:
        try:
            return difference(new, old)
        except TensorFormatError as exc:
            raise TrainingFailed(self.info.name, f"{exc}; use FULL transfer") from exc
