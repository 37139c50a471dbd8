"""When a run ends before its last round: a condition on metrics, and patience."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Final

from flare_async.errors import ConfigError
from flare_async.jobs.recipe import positive

__all__ = ["Patience", "StopCondition"]

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
