"""A site's worker: hands the client's tasks to the spawner with the facts of the site."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flare_async.errors import TensorFormatError, TrainingFailed
from flare_async.jobs.site import SiteInfo
from flare_async.jobs.trainers.shared import SharedTensors
from flare_async.jobs.training import TrainOutcome, TrainTask
from flare_async.jobs.work import Work
from flare_async.model import ParamsType
from flare_async.ports import Spawner
from flare_async.roles.client import ChoosesSink, ModelSink, SiteResult, SiteTask
from flare_async.roles.log_record import LogRecord
from flare_async.transfer.difference import difference
from flare_async.transfer.sink import MemorySink
from flare_async.transfer.source import TensorSource
from flare_async.transfer.tensors import TensorSet

__all__ = ["SiteWorker"]


@dataclass(frozen=True, slots=True)
class SiteWorker:
    """Runs one site's ``Work``; ``info`` lacks only the round's numbers.

    ``log`` takes what the site tracks, from any thread.
    """

    work: Work
    info: SiteInfo
    spawner: Spawner[TrainTask, TrainOutcome]
    log: Callable[[LogRecord], None] | None = None

    async def run(self, task: SiteTask) -> SiteResult:
        """Run one task in a slot of the spawner; waits for the slot and for user code.

        The round's deadline cancels it.

        Raises:
            TrainingFailed: user code raised, or returned no usable model.
        """
        info = self.info.at(task.job, task.round_number, task.total_rounds)
        received: Mapping[str, float] = {}
        asked = task.task == "validate" and self.work.script is not None
        if asked or self.work.evaluate is not None:
            evaluated = await self.spawner.run(
                TrainTask(self.work, task.tensors, info, task.meta, "validate", self.log)
            )
            received = evaluated.metrics
        if task.task == "validate":
            return SiteResult(None, ParamsType.FULL, received, received=received)
        training = TrainTask(self.work, task.tensors, info, task.meta, log=self.log)
        outcome = await self.spawner.run(training)
        tensors, kind = outcome.tensors, outcome.params_type
        if tensors is not None and self._sends_differences(kind):
            tensors, kind = self._difference(tensors, task.tensors), ParamsType.DIFF
        return SiteResult(
            _offered(tensors), kind, outcome.metrics, outcome.meta, outcome.seconds, received
        )

    def sink(self, memory_bytes: int | None) -> ModelSink:
        """Return where a model that is pulled goes: where the spawner wants it, if it cares."""
        if isinstance(self.spawner, ChoosesSink):
            return self.spawner.sink(memory_bytes)
        return MemorySink(memory_bytes=memory_bytes)

    def _sends_differences(self, kind: ParamsType) -> bool:
        return self.work.transfer is ParamsType.DIFF and kind is ParamsType.FULL

    def _difference(self, new: TensorSet, old: TensorSet) -> TensorSet:
        try:
            return difference(new, old)
        except TensorFormatError as exc:
            raise TrainingFailed(self.info.name, f"{exc}; use FULL transfer") from exc


def _offered(tensors: TensorSet | None) -> TensorSet | TensorSource | None:
    """Return what is offered: a result in a file is read out of it, and never mapped."""
    return tensors.source() if isinstance(tensors, SharedTensors) else tensors
