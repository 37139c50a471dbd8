"""Which tensors of a model are averaged, and in which type they are summed."""

from __future__ import annotations

import re

from flare_async.errors import ConfigError
from flare_async.transfer.kernel import Precision, accumulator_dtype, is_summable
from flare_async.transfer.tensors import TensorSet

__all__ = ["excluded_names", "precisions"]


def excluded_names(model: TensorSet, pattern: str | None) -> frozenset[str]:
    """Return the names in which a regular expression is found.

    Raises:
        ConfigError: it is none.
    """
    if pattern is None:
        return frozenset()
    try:
        expression = re.compile(pattern)
    except re.error as exc:
        raise ConfigError("exclude", pattern, f"no regular expression: {exc}") from exc
    return frozenset(name for name in model if expression.search(name))


def precisions(
    model: TensorSet, accumulator: str | None, excluded: frozenset[str]
) -> dict[str, Precision]:
    """Return the accumulator's type of each tensor that has bytes of its own and is not excluded.

    Raises:
        ConfigError: a tensor has no mean, or there is no such accumulator.
    """
    found: dict[str, Precision] = {}
    for spec in model.specs:
        if spec.name in excluded or spec.name in model.aliases:
            continue
        if not is_summable(spec.dtype):
            raise ConfigError("exclude", None, f"{spec.name!r} is {spec.dtype}: it has no mean")
        found[spec.name] = accumulator_dtype(spec, model.nbytes, accumulator)
    return found
