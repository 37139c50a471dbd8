"""Which model is best, and when a run ends before its last round: a condition, or patience."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from flare_async.errors import ConfigError
from flare_async.jobs.cohort import JobCohort
from flare_async.jobs.metrics import by_key
from flare_async.jobs.recipe import positive
from flare_async.transfer.tensors import TensorSet

__all__ = ["Judge", "Patience", "StopCondition"]

log = structlog.get_logger()

OPERATORS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
}
PATTERN: Final = re.compile(
    r"\s*([^\s<>=]+)\s*(>=|<=|==|>|<)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*"
)


class StopCondition:
    """``"<metric> <operator> <number>"``, for instance ``"accuracy >= 0.95"``.

    Raises:
        ConfigError: the text has another form.
    """

    def __init__(self, text: str) -> None:
        match = PATTERN.fullmatch(str(text))
        if match is None:
            hint = "write for instance 'accuracy >= 0.95'"
            raise ConfigError("stop_cond", text, "is no condition", hint)
        self.threshold = float(match[3])
        self.metric = match[1]
        self._holds = OPERATORS[match[2]]

    def met(self, metrics: Mapping[str, float]) -> bool:
        """Whether the metrics meet the condition; a missing one never does."""
        value = metrics.get(self.metric)
        return value is not None and self._holds(value, self.threshold)


class Patience:
    """Counts evaluations since the last better one; ``None`` is patience without end."""

    def __init__(self, limit: int | None) -> None:
        self._limit = None if limit is None else positive("patience", limit)
        self._since = 0

    def lost(self, *, better: bool) -> bool:
        """Take note of an evaluation; whether patience is at its end."""
        self._since = 0 if better else self._since + 1
        return self._limit is not None and self._since >= self._limit


class Judge:
    """Judges each version of a run's model by the metrics of the sites that evaluated it.

    Raises:
        ConfigError: ``stop_cond`` is no condition, or ``patience`` no whole number above 0.
    """

    def __init__(
        self,
        key_metric: str,
        *,
        lower: bool = False,
        stop_cond: str | None = None,
        patience: int | None = None,
    ) -> None:
        self._key = key_metric
        self._better = by_key(key_metric, lower=lower)
        self._stop = None if stop_cond is None else StopCondition(stop_cond)
        self._patience = Patience(patience)
        needed = {key_metric} if patience is not None else set()
        self._unseen = needed | ({self._stop.metric} if self._stop is not None else set())
        self._told = False

    async def judged(
        self,
        cohort: JobCohort,
        model: TensorSet | None,
        version: int,
        metrics: Mapping[str, float],
        *,
        last: bool = False,
    ) -> bool:
        """Record how a version did and return whether the run should end; the best one is kept.

        Where the model is at the sites, None, they keep it.
        Without metrics nothing is recorded, and patience does not count versions before the first
        one with the key metric; what never comes is told once. Of the ``last`` version no patience
        is asked. Waits for the best model's file only.
        """
        if not metrics:
            return False
        best = await cohort.evaluated(model, version, metrics, self._better)
        if last:
            return False
        self._look_for_missing(metrics)
        met = self._stop is not None and self._stop.met(metrics)
        if self._key in self._unseen:
            return met
        return self._patience.lost(better=best) or met

    def _look_for_missing(self, metrics: Mapping[str, float]) -> None:
        self._unseen -= metrics.keys()
        if self._unseen and not self._told:
            self._told = True
            log.warning("metrics_missing", missing=sorted(self._unseen), found=sorted(metrics))
