"""A chain that is applied to tensors: whatever goes wrong names the filter and its line."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from flare_async.errors import FlareError
from flare_async.ports import Random
from flare_async.roles.text import described, travelling, where
from flare_async.transfer.filters.filter import Filter, Passage
from flare_async.transfer.source import MemorySource, TensorSource
from flare_async.transfer.spec import differences
from flare_async.transfer.tensors import TensorSet

__all__ = ["FilterFailed", "applied", "as_source", "failing_as", "with_key"]

MAX_PROBLEM: Final = 1000
KEY_BITS: Final = 128


class FilterFailed(Exception):
    """A filter raised, or returned what may not go on; ``details`` is the traceback's text."""

    def __init__(self, problem: str, details: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.details = details


def applied(chain: Sequence[Filter], tensors: TensorSource, passage: Passage) -> TensorSource:
    """Return what a chain makes of tensors; each filter has a key of its own.

    Raises:
        FilterFailed: a filter raised, or returned no tensors or others than it may.
    """
    source = tensors
    for number, one in enumerate(chain):
        own = passage.of(number)
        made = failing_as(type(one).__name__, partial(one.apply, source, own))
        name = type(one).__name__
        if not isinstance(made, TensorSet) and not callable(getattr(made, "chunks", None)):
            raise FilterFailed(f"filter {name}: apply() returned {type(made).__name__}")
        source, before = as_source(made), source
        wrong = [] if one.recodes else differences(before.specs, source.specs)
        if wrong:
            problem = f"filter {name}: apply() returned other tensors: " + "; ".join(wrong)
            raise FilterFailed(problem[:MAX_PROBLEM])
    return source


def failing_as(name: str, call: Callable[[], object]) -> object:
    """Return what ``call`` returns.

    Raises:
        FilterFailed: it raised anything but KeyboardInterrupt, which passes.
    """
    try:
        return call()
    except KeyboardInterrupt:
        raise
    except BaseException as exc:  # noqa: BLE001 - SystemExit too must not end the host
        failed = _failure(name, exc)
    raise failed  # outside of the handler: no chained frames keep the tensors alive


def _failure(name: str, exc: BaseException) -> FilterFailed:
    line = (where(exc) or ["?"])[-1]
    problem = f"filter {name}: {described(exc)} (at {line})"
    own = exc.__traceback__ and (exc.__traceback__.tb_next or exc.__traceback__)
    lines = (
        "" if isinstance(exc, FlareError) else traceback.format_exception(exc.with_traceback(own))
    )
    return FilterFailed(problem[:MAX_PROBLEM], travelling("".join(lines)))


def as_source(tensors: TensorSource | TensorSet | object) -> TensorSource:
    """Return tensors as a source."""
    if isinstance(tensors, TensorSet):
        return MemorySource(tensors)
    return tensors  # type: ignore[return-value]  # its methods were looked at


def with_key(random: Random, passage: Passage, way: str) -> Passage:
    """Return a passage with random bits: by its names in a simulation, else unpredictable."""
    site = passage.site or "the server"
    name = f"filters at {site}, {way}, {passage.task!r} of round {passage.round_number}"
    return replace(passage, key=random.once(name).getrandbits(KEY_BITS))
