"""What an update must be before it may touch a sum."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from flare_async.errors import UpdateRefused
from flare_async.transfer.arrivals import NO_ALIASES
from flare_async.transfer.kernel import is_always_finite, not_finite
from flare_async.transfer.source import MemorySource, TensorSource
from flare_async.transfer.spec import TensorSpec, differences
from flare_async.transfer.tensors import TensorSet
from flare_async.wire.fields import shown

__all__ = ["MAX_WEIGHT", "Admission"]

MAX_WEIGHT: Final = 2.0**53  # beyond it, adding one site's weight to another's may lose it


class Admission:
    """Compares updates with a model: names, exact types, shapes, finite values, weight.

    ``aliases`` are the model's tied tensors: an update may send them untied, but with the same
    bytes. Names in ``ignored`` may be missing and hold any value. ``allow_missing`` admits any
    part of the model.
    """

    __slots__ = ("_aliases", "_allow_missing", "_ignored", "_passed", "_specs")

    def __init__(
        self,
        specs: Sequence[TensorSpec],
        *,
        aliases: Mapping[str, str] = NO_ALIASES,
        allow_missing: bool = False,
        ignored: frozenset[str] = frozenset(),
    ) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._aliases = aliases
        self._allow_missing = allow_missing
        self._ignored = ignored
        self._passed: Sequence[TensorSpec] = ()  # the same tuple as often as sites share a layout

    def check(self, site: str, tensors: TensorSet | TensorSource, weight: float) -> None:
        """Check one whole update.

        Raises:
            UpdateRefused: naming the site, the tensor where there is one, and the numbers.
        """
        for _ in self.checking(site, tensors, weight):
            pass

    def checking(
        self, site: str, tensors: TensorSet | TensorSource, weight: float
    ) -> Iterator[None]:
        """Check one whole update, yielding after every chunk.

        Raises:
            UpdateRefused: naming the site, the tensor where there is one, and the numbers.
        """
        source = MemorySource(tensors) if isinstance(tensors, TensorSet) else tensors
        self.check_weight(site, weight)
        self.check_specs(site, source.specs)
        for spec in source.specs:
            if self._needs_look(spec, source):
                yield from _finite(site, spec, source)
        yield from self._tied(site, source)

    def check_weight(self, site: str, weight: float) -> None:
        """Check the weight alone.

        Raises:
            UpdateRefused: it is no number above 0 and up to 2**53.
        """
        if not _is_number(weight) or not 0 < weight <= MAX_WEIGHT:  # nor is NaN in that range
            raise UpdateRefused(site, f"weight {shown(weight)} is not above 0 and up to 2**53")

    def check_specs(self, site: str, specs: Sequence[TensorSpec]) -> None:
        """Check names, types and shapes alone.

        Raises:
            UpdateRefused: with the first five differences.
        """
        if specs is self._passed and specs:
            return
        given = {spec.name for spec in specs}
        missing_allowed = self._specs.keys() if self._allow_missing else self._ignored
        expected = [
            spec
            for name, spec in self._specs.items()
            if name in given or name not in missing_allowed
        ]
        problems = differences(expected, specs)
        if problems:
            raise UpdateRefused(site, "differs from the model: " + "; ".join(problems))
        if type(specs) is tuple:
            self._passed = specs

    def _needs_look(self, spec: TensorSpec, source: TensorSource) -> bool:
        if spec.name in source.aliases or spec.name in self._ignored:
            return False
        return not is_always_finite(spec.dtype)

    def _tied(self, site: str, source: TensorSource) -> Iterator[None]:
        given = {spec.name for spec in source.specs}
        for name, first in self._aliases.items():
            if name not in given or first not in given or name in self._ignored:
                continue
            if source.aliases.get(name, name) == source.aliases.get(first, first):
                continue
            for mine, other in zip(source.chunks(name), source.chunks(first), strict=True):
                if mine != other:
                    raise UpdateRefused(site, f"has other bytes than {first!r}, its tie", name)
                yield


def _is_number(value: object) -> bool:
    return type(value) is float or (isinstance(value, int | float) and type(value) is not bool)


def _finite(site: str, spec: TensorSpec, source: TensorSource) -> Iterator[None]:
    at = 0
    for chunk in source.chunks(spec.name):
        if not_finite(spec.dtype, chunk):
            raise UpdateRefused(
                site, f"a value in bytes {at} to {at + chunk.nbytes} is not finite", spec.name
            )
        at += chunk.nbytes
        yield
