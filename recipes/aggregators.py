"""What ``aggregator=`` may be: a robust rule, or an object that is handed each update."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

from flare_async.errors import ConfigError, LocalProtocolError, TrainingFailed
from flare_async.jobs.conducting import note
from flare_async.jobs.places import place_of
from flare_async.jobs.result import checked_model, checked_tensors
from flare_async.jobs.work import Framework
from flare_async.limits import Limits
from flare_async.model import FLModel, ParamsType
from flare_async.roles.round import Update
from flare_async.transfer.held import HeldArea, HeldUpdate
from flare_async.transfer.mean import MeanOptions, WeightedMean
from flare_async.transfer.pool import SlotPool
from flare_async.transfer.reducer import Reducer
from flare_async.transfer.robust import RobustMean
from flare_async.transfer.robust_rules import robust_rule
from flare_async.transfer.source import TensorSource
from flare_async.transfer.staging import StagedUpdate
from flare_async.transfer.tensors import TensorSet

__all__ = ["AggregatedUpdates", "Aggregating", "ModelAggregator", "reducer_of"]

METHODS = ("accept_model", "aggregate_model", "reset_stats")


@runtime_checkable
class ModelAggregator(Protocol):
    """What makes one model of those of the sites; NVFlare's class of that name is one."""

    def accept_model(self, model: FLModel) -> None:
        """Take a site's update; ``meta["site_name"]`` says whose it is. Its params may be kept."""

    def aggregate_model(self) -> FLModel:
        """Return the new model, or with ``ParamsType.DIFF`` what is added to the former one."""

    def reset_stats(self) -> None:
        """Forget what was accepted; called before each round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregating:
    """What aggregation is about: the model that was sent, the sites in order, the options."""

    model: TensorSet
    order: Sequence[str]
    limits: Limits | None
    options: MeanOptions
    framework: Framework


def reducer_of(aggregator: object, setting: Aggregating) -> AbstractContextManager[Reducer]:
    """Return the reducer for ``aggregator=``.

    Raises:
        ConfigError: it is no rule and no aggregator, or cannot be used with the options.
    """
    rule = robust_rule(aggregator)
    if rule is not None:
        return RobustMean(
            setting.model,
            rule,
            order=setting.order,
            limits=setting.limits,
            options=setting.options,
        )
    lacking = [name for name in METHODS if not callable(getattr(aggregator, name, None))]
    if lacking or not isinstance(aggregator, ModelAggregator):
        problem = f"{type(aggregator).__name__} has no {', '.join(lacking)}"
        hint = "give an object with accept_model, aggregate_model and reset_stats, or a rule's name"
        raise ConfigError("aggregator", aggregator, problem, hint)
    if setting.options.exact:
        raise ConfigError("exact", True, "an aggregator's arithmetic is its own", "leave it out")
    return AggregatedUpdates(aggregator, setting)


class AggregatedUpdates:
    """Holds the updates of a round, and hands them to an aggregator in the order of the cohort.

    They wait in the staging area, in memory and beyond it in a file; one at a time is made into
    arrays. How many of these are held then is the aggregator's choice. Tensors that are excluded
    keep the model's value and are not handed over.

    Raises:
        ConfigError: an option cannot be used with this model.
    """

    def __init__(self, aggregator: ModelAggregator, setting: Aggregating) -> None:
        self._aggregator = aggregator
        self._setting = setting
        self._area = HeldArea(setting.model, setting.limits or Limits(), setting.options)
        self._slots: dict[str, HeldUpdate] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._slots = {}
        self._area.__exit__(None, None, None)

    def stage(self, site: str, weight: float, kind: ParamsType | None = None) -> StagedUpdate:
        """Return the sink for a site's update; a former one is discarded.

        Raises:
            LocalProtocolError: the site's update is admitted, or it is not of the cohort.
        """
        if site not in self._setting.order:
            raise LocalProtocolError(f"{site}: is not of this cohort")
        slot = self._slots.setdefault(site, self._area.slot())
        return slot.stage(site, weight, kind or self._setting.options.params_type)

    def commit(self, site: str) -> None:
        """Admit a whole update; raises as ``admitting``."""
        for _ in self.admitting(site):
            pass

    def admitting(self, site: str) -> Iterator[None]:
        """Admit a whole update, yielding after chunks.

        Raises:
            UpdateRefused: it is not admissible.
            TransferError: it is not whole.
            LocalProtocolError: nothing is staged.
        """
        slot = self._slots.get(site)
        if slot is None:
            raise LocalProtocolError(f"{site}: nothing is staged")
        yield from slot.admitting(site)

    def summing(self) -> Iterator[None]:
        """Do nothing: the aggregator gets all updates at the end."""
        return iter(())

    def discard(self, site: str) -> None:
        """Settle a site without an update; an admitted one stays."""
        slot = self._slots.get(site)
        if slot is not None:
            slot.discard(site)

    def finish(self) -> TensorSet:
        """Refuse: an aggregator is told more than tensors.

        Raises:
            LocalProtocolError: always; ``aggregated`` takes the updates.
        """
        raise LocalProtocolError("an aggregator is taken by aggregated(updates)")

    def aggregated(self, updates: Sequence[Update], number: int) -> TensorSet:
        """Return the new model that the aggregator makes of these updates.

        Raises:
            ConfigError: it returns no model like the one that was sent.
            Exception: whatever the aggregator raises.
        """
        arrived = {update.site: update for update in updates}
        self._aggregator.reset_stats()
        for site in self._setting.order:
            if site in arrived:
                self._aggregator.accept_model(self._model_of(arrived[site], number))
                self._slots[site].release()
        try:
            return self._checked(self._aggregator.aggregate_model())
        except TrainingFailed as exc:
            name = type(self._aggregator).__name__
            wrong = ConfigError("aggregator", name, f"aggregate_model: {exc.problem}")
            note(wrong, place_of(self._aggregator.aggregate_model))
            raise wrong from exc

    def _model_of(self, update: Update, number: int) -> FLModel:
        held = self._slots[update.site].contribution
        names = {"site_name": update.site, "client_name": update.site}
        return FLModel(
            params_type=held.kind,
            params=SlotPool().take(self._part(held.source), self._setting.framework),
            metrics=dict(update.metrics),
            current_round=number,
            meta={**update.meta, **names},
        )

    def _part(self, source: TensorSource) -> TensorSet:
        """Return those tensors that are aggregated, in memory."""
        model, ignored = self._setting.model, self._area.gate.ignored
        tied = {n: f for n, f in model.aliases.items() if n not in ignored and f not in ignored}
        specs = [spec for spec in model.specs if spec.name not in ignored]
        views: dict[str, memoryview] = {}
        for spec in specs:
            if spec.name not in tied:
                data = bytearray()  # a chunk is valid until the next one is asked for
                for chunk in source.chunks(source.aliases.get(spec.name, spec.name)):
                    data += chunk
                views[spec.name] = memoryview(data)
        return TensorSet.from_views(specs, views, tied)

    def _checked(self, result: object) -> TensorSet:
        made = checked_model("aggregator", result)
        model, pool = self._setting.model, SlotPool()
        ignored = self._area.gate.ignored
        wanted = TensorSet([spec for spec in model.specs if spec.name not in ignored], {}, {})
        tensors = checked_tensors("aggregator", made, wanted, pool, detach=True)
        kept = {name: model[name] for name in ignored}
        tied = {n: f for n, f in tensors.aliases.items() if n not in ignored}
        whole = TensorSet.from_views(model.specs, {**tensors, **kept}, tied)
        return whole if made.params_type is not ParamsType.DIFF else self._added(whole)

    def _added(self, change: TensorSet) -> TensorSet:
        """Return the model plus a difference, in the arithmetic of every other mean."""
        options = MeanOptions(exclude=self._setting.options.exclude)
        with WeightedMean(self._setting.model, order=("aggregator",), options=options) as mean:
            sink = mean.stage("aggregator", 1.0, ParamsType.DIFF)
            sink.begin(change.specs, change.aliases)
            for name in change:
                if name not in change.aliases:
                    sink.adopt(name, change[name])
            sink.finish()
            mean.commit("aggregator")
            return mean.finish()
