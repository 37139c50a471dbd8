"""A filter that keeps tensors from leaving: their changes are not told."""

from __future__ import annotations

import re
from collections.abc import Sequence

from flare_async.errors import ConfigError, TensorFormatError
from flare_async.limits import MIB
from flare_async.model import ParamsType
from flare_async.transfer.filters.cells import Cells, CellSource, regrouped
from flare_async.transfer.filters.filter import Filter, Passage
from flare_async.transfer.source import TensorSource
from flare_async.transfer.spec import TensorSpec

__all__ = ["ExcludeVars"]


class ExcludeVars(Filter):
    """Replaces tensors by what says nothing of a site: names, or a regular expression.

    In a difference that is zeros; in the whole weights of an update what the site received; in a
    model on its way to the sites zeros. Holds nothing.

    Raises:
        ConfigError: ``exclude_vars`` is no list of names and no regular expression.
    """

    compares = True

    def __init__(self, exclude_vars: Sequence[str] | str) -> None:
        self.exclude_vars = exclude_vars
        self._names: frozenset[str] = frozenset()
        self._pattern: re.Pattern[str] | None = None
        if isinstance(exclude_vars, str):
            try:
                self._pattern = re.compile(exclude_vars)
            except re.error as exc:
                raise ConfigError("exclude_vars", exclude_vars, f"no expression: {exc}") from exc
        elif all(isinstance(name, str) for name in exclude_vars):
            self._names = frozenset(exclude_vars)
        else:
            raise ConfigError("exclude_vars", exclude_vars, "names, or one expression, are needed")

    def excludes(self, name: str) -> bool:
        """Return whether a tensor of that name is replaced."""
        if self._pattern is not None:
            return self._pattern.search(name) is not None
        return name in self._names

    def apply(self, source: TensorSource, passage: Passage) -> TensorSource:
        """Return the source with the excluded tensors replaced.

        Raises:
            TensorFormatError: what was received has no such tensor.
        """
        old = passage.received if passage.kind is ParamsType.FULL else None
        cells = [
            self._replaced(spec, old) if self.excludes(spec.name) else Cells(spec, spec.name)
            for spec in source.specs
        ]
        # A tie between a tensor that goes and one that stays is none any more.
        tied = {
            name: first
            for name, first in source.aliases.items()
            if self.excludes(name) == self.excludes(first)
        }
        return CellSource(source, cells, tied)

    def _replaced(self, spec: TensorSpec, old: TensorSource | None) -> Cells:
        if old is not None and spec not in old.specs:
            raise TensorFormatError(f"tensor {spec.name!r}: {spec.describe()} was not received")

        def make(number: int, block: memoryview) -> memoryview:
            if old is None:
                return memoryview(bytes(block.nbytes))
            return next(regrouped(old.chunks(spec.name, number * MIB), block.nbytes))

        return Cells(spec, spec.name, make)
