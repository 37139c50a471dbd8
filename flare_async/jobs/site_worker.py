"""A site's worker: hands the client's tasks to the spawner with the facts of the site."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from flare_async.errors import TensorFormatError, TrainingFailed
from flare_async.jobs.filters.site import Sent, SiteFilters
from flare_async.jobs.site import SiteInfo
from flare_async.jobs.slots import has_model
from flare_async.jobs.trainers.shared import SharedTensors
from flare_async.jobs.training import TaskKind, TrainOutcome, TrainTask
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
    filters: SiteFilters | None = None

    async def run(self, task: SiteTask) -> SiteResult:
        """Run one task in a slot of the spawner; waits for the slot and for user code.

        The round's deadline cancels it.

        Raises:
            TrainingFailed: user code raised, or returned no usable model.
        """
        info = self.info.at(task.job, task.round_number, task.total_rounds)
        received: Mapping[str, float] = {}
        model = task.tensors if self.filters is None else await self.filters.incoming(task)
        asked = task.task == "validate" and self.work.script is not None
        judges = self.work.evaluate is not None and task.task != "submit_model"
        if asked or (judges and has_model(model)):
            evaluated = await self.spawner.run(
                TrainTask(self._own_work(), model, info, task.meta, "validate", self.log)
            )
            received = evaluated.metrics
        if task.task == "validate":
            return SiteResult(None, ParamsType.FULL, received, received=received)
        return await self._trained(task, model, info, received)

    async def _trained(
        self, task: SiteTask, model: TensorSet, info: SiteInfo, received: Mapping[str, float]
    ) -> SiteResult:
        name: TaskKind = "submit_model" if task.task == "submit_model" else "train"
        work = self.work if self.filters is None else self._own_work()
        training = TrainTask(work, model, info, task.meta, name, self.log)
        outcome = await self.spawner.run(training)
        tensors, kind = outcome.tensors, outcome.params_type
        # A model that is asked for as such comes whole.
        if tensors is not None and name == "train" and self._sends_differences(kind):
            tensors, kind = self._difference(tensors, model), ParamsType.DIFF
        offered = _offered(tensors)
        if offered is not None and self.filters is not None:
            sent = await self.filters.outgoing(task, model, Sent(offered, kind, outcome.meta))
            offered, kind = sent.tensors, sent.kind
        return SiteResult(offered, kind, outcome.metrics, outcome.meta, outcome.seconds, received)

    def sink(self, memory_bytes: int | None) -> ModelSink:
        """Return where a model that is pulled goes: where the spawner wants it, if it cares."""
        if isinstance(self.spawner, ChoosesSink):
            return self.spawner.sink(memory_bytes)
        return MemorySink(memory_bytes=memory_bytes)

    def _own_work(self) -> Work:
        """Return the site's work; a trainer process keeps the received model where it is needed.

        It may train in the pages of what came, unless it sends the difference to it.
        """
        script = self.work.script
        if script is None or not script.external or self.filters is None:
            return self.work
        if not self.filters.chains.compares(self.info.name):
            return self.work
        return replace(self.work, transfer=ParamsType.DIFF)

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
