"""How a value becomes a record: numbers through ``float()``, words as they are."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, SupportsFloat, SupportsIndex, cast

from flare_async.errors import ConfigError
from flare_async.jobs.site import WORD, plain
from flare_async.roles.log_record import NUMBERS, AnalyticsDataType, LogRecord, LogValue

__all__ = ["make_record"]

LONGEST_KEY: Final = 1024  # characters; the server takes no longer one

_MAPPINGS = frozenset(
    {
        AnalyticsDataType.SCALARS,
        AnalyticsDataType.METRICS,
        AnalyticsDataType.PARAMETERS,
        AnalyticsDataType.TAGS,
    }
)
_WORDS = frozenset(
    {
        AnalyticsDataType.PARAMETER,
        AnalyticsDataType.PARAMETERS,
        AnalyticsDataType.TAG,
        AnalyticsDataType.TAGS,
    }
)


def make_record(
    key: str, value: object, data_type: AnalyticsDataType | str, **options: object
) -> LogRecord:
    """Return the record of one call of ``log``; ``global_step`` or ``step`` is its step.

    Numbers may be whatever ``float()`` takes: NumPy scalars, tensors with one element, decimals.

    Raises:
        ConfigError: key, kind, value or step cannot be used; the error names the key.
    """
    if not key or not isinstance(key, str):
        raise ConfigError("log.key", key, "a text is needed")
    if len(key) > LONGEST_KEY:
        raise ConfigError("log.key", f"{key[:40]}...", f"longer than {LONGEST_KEY} characters")
    try:
        kind = AnalyticsDataType(data_type)
    except ValueError as exc:
        hint = f"use one of AnalyticsDataType: {', '.join(AnalyticsDataType)}"
        raise ConfigError(f"log.{key}", data_type, "is no kind of record", hint) from exc
    step = options.pop("global_step", None)
    step = options.pop("step", None) if step is None else step
    extra = {name: _word(f"{key}.{name}", item) for name, item in options.items()}
    return LogRecord(key, _value(key, value, kind), str(kind), _step(key, step), extra)


def _value(key: str, value: object, kind: AnalyticsDataType) -> LogValue:
    if kind not in _MAPPINGS:
        return _one(key, value, kind)
    if not isinstance(value, Mapping):
        raise ConfigError(f"log.{key}", value, f"{kind} needs a mapping of names to values")
    return {str(name): _one(f"{key}.{name}", item, kind) for name, item in value.items()}


def _one(key: str, value: object, kind: AnalyticsDataType) -> LogValue:
    if kind in NUMBERS:
        return _number(key, value)
    if kind in _WORDS:
        return _word(key, value)
    if kind is AnalyticsDataType.TEXT:
        return str(value)
    return plain(f"log.{key}", value)


def _number(key: str, value: object) -> float:
    try:
        detach = getattr(value, "detach", None)  # torch warns when a gradient is cut in silence
        number = value if detach is None else detach()
        item = getattr(number, "item", None)  # NumPy warns for an array of one element
        return float(cast("SupportsFloat", number if item is None else item()))
    except Exception as exc:
        problem = f"{type(value).__name__} is no number: {exc}"
        raise ConfigError(f"log.{key}", _shown(value), problem, "give float() something") from exc


def _word(key: str, value: object) -> LogValue:
    """Return a parameter or tag as it may travel: what is not plain becomes its text."""
    try:
        return plain(f"log.{key}", value)
    except ConfigError:
        pass
    if not isinstance(value, int):  # one of more than 64 bits keeps its digits
        for convert in (_index, _number):
            with suppress(ConfigError):
                return convert(key, value)
    return str(value)


def _index(key: str, value: object) -> int:
    try:
        number = operator.index(cast("SupportsIndex", value))
    except (TypeError, ValueError, OverflowError, RuntimeError) as exc:
        raise ConfigError(f"log.{key}", _shown(value), "is no whole number") from exc
    if not -WORD <= number < WORD:
        raise ConfigError(f"log.{key}", number, "does not fit into 64 bits")
    return number


def _step(key: str, step: object) -> int | None:
    if step is None:
        return None
    named = f"{key}.step"
    with suppress(ConfigError):
        return _index(named, step)
    number = _number(named, step)
    if not number.is_integer():
        raise ConfigError(f"log.{named}", _shown(step), "a whole number is needed")
    return _index(named, int(number))


def _shown(value: object) -> str:
    return f"<{type(value).__name__}>" if not isinstance(value, str) else value[:80]
