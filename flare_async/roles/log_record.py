"""One thing that a site wants remembered: a metric, a parameter, a line of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

__all__ = ["NUMBERS", "AnalyticsDataType", "LogRecord", "LogValue"]

LogValue: TypeAlias = (
    str | int | float | bool | Sequence["LogValue"] | Mapping[str, "LogValue"] | None
)


class AnalyticsDataType(StrEnum):
    """What a record's value is; the names are NVFlare's."""

    SCALAR = "SCALAR"
    SCALARS = "SCALARS"
    IMAGE = "IMAGE"
    TEXT = "TEXT"
    LOG_RECORD = "LOG_RECORD"
    PARAMETER = "PARAMETER"
    PARAMETERS = "PARAMETERS"
    METRIC = "METRIC"
    METRICS = "METRICS"
    MODEL = "MODEL"
    TAG = "TAG"
    TAGS = "TAGS"
    INIT_DATA = "INIT_DATA"


NUMBERS = frozenset(
    {
        AnalyticsDataType.SCALAR,
        AnalyticsDataType.SCALARS,
        AnalyticsDataType.METRIC,
        AnalyticsDataType.METRICS,
    }
)


@dataclass(frozen=True, slots=True)
class LogRecord:
    """What a script or a train function logs; ``kind`` is a value of ``AnalyticsDataType``.

    ``step`` is the writer's own count (None where it gave none); ``extra`` are further words of
    the writer's call.
    """

    key: str
    value: LogValue
    kind: str
    step: int | None = None
    extra: Mapping[str, LogValue] = field(default_factory=dict)
