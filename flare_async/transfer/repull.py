"""The weighted mean without a disk: updates are looked at as they come, and pulled again to add."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import xxhash

from flare_async.errors import (
    ConfigError,
    FlareError,
    LocalProtocolError,
    TransferError,
    UpdateRefused,
)
from flare_async.limits import Limits
from flare_async.model import ParamsType
from flare_async.transfer.admission import Admission
from flare_async.transfer.buffers import BufferPool
from flare_async.transfer.checked_sink import CheckedSink
from flare_async.transfer.cursor import Cursor
from flare_async.transfer.mean import MeanOptions
from flare_async.transfer.mean_gate import MeanGate
from flare_async.transfer.sink import MemorySink, TensorSink
from flare_async.transfer.source import MemorySource
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.sums import Contribution, Sums, as_plain
from flare_async.transfer.tensors import TensorSet

__all__ = ["PullAgain", "RepulledMean"]

_STEPS_A_TURN: Final = 4  # of a MiB

PullAgain: TypeAlias = Callable[[str, Collection[str], TensorSink], Awaitable[object]]


@dataclass(slots=True)
class _Seen:
    """An update that has passed once."""

    sink: CheckedSink
    weight: float
    kind: ParamsType


class RepulledMean:
    """Takes what ``WeightedMean`` takes, and has its bits, without keeping updates anywhere.

    Each update passes once when it arrives: it is verified and admitted, and nothing of it is kept.
    ``pull_again`` then takes the model a group of tensors after the other, and for each group all
    sites in the order of the cohort. So every site must keep its offer until the mean is taken. A
    site that is lost meanwhile, or offers other bytes than before, is left out, and the mean begins
    anew without it: what it has given so far is in no sum.

    Memory is the model that is made, and for one group of tensors (``staging_bytes``, or one tensor
    if that is larger) one update and one accumulator.

    Raises:
        ConfigError: an option cannot be used with this model.
    """

    def __init__(
        self,
        model: TensorSet,
        *,
        order: Sequence[str],
        limits: Limits | None = None,
        options: MeanOptions | None = None,
    ) -> None:
        self._model = model
        self._options = MeanOptions() if options is None else options
        if self._options.exact:
            raise ConfigError("exact", True, "a mean that is pulled again has no exact sum")
        self._budget = (Limits() if limits is None else limits).staging_bytes
        self._gate = MeanGate(model, self._options, len(order))
        self._precisions = self._gate.precisions
        self._part = Admission(model.specs, allow_missing=True)
        self._order = tuple(order)
        self._cursor = Cursor(order)
        self._pool = BufferPool()
        self._seen: dict[str, _Seen] = {}
        self._admitted: dict[str, _Seen] = {}
        self.lost: dict[str, FlareError] = {}

    @property
    def sites(self) -> tuple[tuple[str, float], ...]:
        """The sites that are in the mean, in the order of the sum, with their weights."""
        kept = ((site, self._admitted.get(site)) for site in self._order)
        return tuple((site, seen.weight) for site, seen in kept if seen is not None)

    def stage(self, site: str, weight: float, kind: ParamsType | None = None) -> CheckedSink:
        """Return the sink in which a site's update passes; a former one is forgotten.

        Raises:
            LocalProtocolError: the site is not of the cohort, or settled already.
        """
        self._cursor.require_open(site)
        self._forget(site)

        def check(specs: Sequence[TensorSpec]) -> None:
            self._gate.check_specs(site, specs)

        gate = self._gate
        sink = CheckedSink(site, self._pool, check, gate.ignored, norm=gate.norm)
        self._seen[site] = _Seen(sink, as_plain(weight), kind or self._options.params_type)
        return sink

    def commit(self, site: str) -> None:
        """Admit an update that has passed whole.

        Raises:
            UpdateRefused: it is not admissible; the site is discarded.
            TransferError: it has not passed whole.
            LocalProtocolError: nothing is staged, or the site is settled already.
        """
        self._cursor.require_open(site)
        seen = self._seen.get(site)
        if seen is None:
            raise LocalProtocolError(f"{site}: nothing is staged")
        if not seen.sink.whole:
            raise TransferError(f"{site}: its update is not whole")
        try:
            self._gate.check_weight(site, seen.weight)
            self._check_ties(site, seen.sink)
        except UpdateRefused:
            self.discard(site)
            raise
        self._cursor.commit(site)
        self._admitted[site] = self._seen.pop(site)

    def discard(self, site: str) -> None:
        """Settle a site without an update; harmless when it is discarded already.

        Raises:
            LocalProtocolError: its update is committed, or it is not of the cohort.
        """
        self._cursor.discard(site)
        self._forget(site)

    def finish(self) -> TensorSet:
        """Refuse: the updates are not here.

        Raises:
            LocalProtocolError: always; await ``pull_again``.
        """
        raise LocalProtocolError("a repulled mean is taken by pull_again")

    async def pull_again(self, pull: PullAgain) -> TensorSet:
        """Return the new model; ``pull(site, names, sink)`` fetches these tensors of an update.

        Waits for the pulls, which are bounded as ``Downloader.fetch`` is, and begins anew for each
        site that is lost: ``lost`` tells why. Cancelling loses nothing but time.

        Raises:
            LocalProtocolError: no update was committed, or all that were are lost.
        """
        for site in self._cursor.open_sites():
            self.discard(site)
        while self._admitted:
            views: dict[str, memoryview] = {}
            for group in self._groups():
                found = await self._mean_of(group, pull)
                if found is None:
                    break
                views |= found
            else:
                return self._made(views)
        raise LocalProtocolError(f"a mean of no updates: {len(self.lost)} were lost")

    def _groups(self) -> Iterator[list[TensorSpec]]:
        group: list[TensorSpec] = []
        nbytes = 0
        for spec in self._model.specs:
            if spec.name not in self._precisions:
                continue
            if group and nbytes + spec.nbytes > self._budget:
                yield group
                group, nbytes = [], 0
            group.append(spec)
            nbytes += spec.nbytes
        if group:
            yield group

    async def _mean_of(
        self, group: list[TensorSpec], pull: PullAgain
    ) -> dict[str, memoryview] | None:
        """Return the mean of some tensors; None says that a site was lost."""
        names = [spec.name for spec in group]
        model = TensorSet.from_views(group, {name: self._model[name] for name in names})
        sums = Sums(model, {name: self._precisions[name] for name in names})
        for site, _ in self.sites:
            try:
                contribution = await self._again(site, names, pull)
            except FlareError as exc:
                self.lost[site] = exc
                del self._admitted[site]
                return None
            await in_turns(sums.adding(contribution))
        mean = sums.mean()
        return {name: mean[name] for name in names}

    async def _again(self, site: str, names: list[str], pull: PullAgain) -> Contribution:
        sink, seen = MemorySink(), self._admitted[site]
        await pull(site, names, sink)
        tensors, digests = sink.tensors, seen.sink.digests
        self._part.check_specs(site, [tensors.spec(name) for name in names if name in tensors])
        for name in names:
            first = seen.sink.aliases.get(name, name)
            if name not in tensors or xxhash.xxh3_128_digest(tensors[name]) != digests[first]:
                raise UpdateRefused(site, "has other bytes than when it was admitted", name)
        # A digest of this kind can be met on purpose, and what an update ties to a tensor that is
        # excluded has not been looked at: what enters the sum is.
        contribution = Contribution(site, seen.weight, seen.kind, MemorySource(tensors))
        await in_turns(self._gate.looking(contribution))
        return contribution

    def _made(self, views: dict[str, memoryview]) -> TensorSet:
        model = self._model
        kept = {spec.name: model[spec.name] for spec in model.specs if spec.name not in views}
        return TensorSet.from_views(model.specs, {**kept, **views}, model.aliases)

    def _check_ties(self, site: str, sink: CheckedSink) -> None:
        digests, aliases = sink.digests, sink.aliases
        for name, first in self._model.aliases.items():
            mine, other = (digests.get(aliases.get(n, n)) for n in (name, first))
            if None not in {mine, other} and mine != other and name not in self._gate.ignored:
                raise UpdateRefused(site, f"has other bytes than {first!r}, its tie", name)

    def _forget(self, site: str) -> None:
        seen = self._seen.pop(site, None)
        if seen is not None:
            seen.sink.discard()


async def in_turns(steps: Iterator[None]) -> None:
    """Take steps of a chunk; large arithmetic must not keep the loop to itself."""
    for count, _ in enumerate(steps):
        if count % _STEPS_A_TURN == _STEPS_A_TURN - 1:
            await asyncio.sleep(0)
