"""The server of a load test: it waits for the clients, plays the rounds and measures."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import anyio
import numpy as np

from flare_async.errors import ConfigError, QuorumNotReached
from flare_async.jobs.measure import peak_rss_mb, resident_bytes
from flare_async.limits import Limits
from flare_async.net.clock import LoopClock
from flare_async.net.registry import Transports
from flare_async.net.rng import SystemRandom
from flare_async.roles.cohort import Cohort
from flare_async.roles.context import open_context
from flare_async.roles.outcome import SiteRecord
from flare_async.roles.round import RoundTask
from flare_async.roles.server import Server
from flare_async.sim.loadtest.certificates import credentials_in
from flare_async.sim.loadtest.figures import LoadFigures
from flare_async.sim.loadtest.files import raise_file_limit
from flare_async.sim.loadtest.lag import LoopLag
from flare_async.sim.loadtest.setting import LoadSetting, load_limits
from flare_async.transfer.mean import WeightedMean
from flare_async.transfer.tensors import TensorSet

__all__ = ["LoadServer", "listening"]

RELINKING: Final = 10.0  # seconds for clients whose link was cut when the last round closed


@dataclass(frozen=True, slots=True)
class Records:
    """Observes rounds, and keeps how each task ended."""

    into: list[SiteRecord]

    def site_started(self, number: int, site: str) -> None:
        """Take note of nothing: the record says when that was."""

    def site_finished(self, number: int, record: SiteRecord) -> None:
        """Keep a record."""
        self.into.append(record)


class LoadServer:
    """A server that listens at ``address``; made by ``listening``."""

    def __init__(self, setting: LoadSetting, server: Server, address: str, limits: Limits) -> None:
        self.address = address
        self._setting = setting
        self._server = server
        self._limits = limits
        self._clock = server.context.clock

    async def play(self) -> LoadFigures:
        """Wait for all clients, play all rounds, and return what was measured.

        Waits for the clients at most ``start_timeout``, for a round as long as its deadline says,
        and at the end for links that were cut, at most ``RELINKING``. A round without its quorum is
        the last one, and the figures' ``problem``.

        Raises:
            StartFailed: too few clients came.
            ConfigError: there is no memory for such a model.
        """
        setting, clock = self._setting, self._clock
        figures, lag = LoadFigures(setting), LoopLag(clock)
        before, began = resident_bytes(), clock.now()
        await self._server.wait_for(setting.names, setting.clients)
        figures.connect_s = clock.now() - began
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lag.watch)
            try:
                model = await self._rounds(figures)
                figures.correct = bool((model.numpy()["w"] == setting.rounds).all())
            except QuorumNotReached as exc:
                figures.problem = exc
            tasks.cancel_scope.cancel()
        figures.lags_s = lag.seconds
        figures.server_peak = int(peak_rss_mb() * 1e6)
        figures.server_grown = max(0, figures.server_peak - before)
        await self._relinked()
        return figures

    async def _rounds(self, figures: LoadFigures) -> TensorSet:
        clock = self._clock
        cohort = Cohort(self._server, self._setting.names, Records(figures.records))
        model = first_model(self._setting.nbytes)
        for number in range(self._setting.rounds):
            began = clock.now()
            try:
                model = await self._round(cohort, number, model)
            finally:
                figures.rounds_s.append(clock.now() - began)
        return model

    async def _relinked(self) -> None:
        """Wait until every session has a link, over which it can hear the goodbye."""
        with anyio.move_on_after(RELINKING):
            while not all(one.attached for one in self._server.sites.values()):  # noqa: ASYNC110
                await anyio.sleep(RELINKING / 100)

    async def _round(self, cohort: Cohort, number: int, model: TensorSet) -> TensorSet:
        setting, sites = self._setting, cohort.sites
        quorum = max(1, int(setting.quorum * len(sites)))
        task = RoundTask("load", number, setting.rounds, keep_until="received")
        with WeightedMean(model, order=sites, limits=self._limits) as mean:
            async with cohort.round(
                task, model, quorum=quorum, deadline=setting.deadline, reducer=mean
            ) as updates:
                async for _ in updates:
                    pass
            return mean.finish()


def first_model(nbytes: int) -> TensorSet:
    """Return zeros.

    Raises:
        ConfigError: there is no memory for so many.
    """
    try:
        return TensorSet.from_params({"w": np.zeros(max(1, nbytes // 4), np.float32)})
    except MemoryError as exc:
        raise ConfigError("model_size", nbytes, "this machine has no memory for it") from exc


@asynccontextmanager
async def listening(setting: LoadSetting) -> AsyncIterator[LoadServer]:
    """Listen for clients; leaving the block says goodbye to all of them.

    Raises:
        ConfigError: the certificates are not there, or the system allows too few connections.
        ConnectFailed: nobody can listen there.
    """
    raise_file_limit(setting.connections)
    limits = load_limits(setting.clients)
    network = Transports(limits, credentials_in(setting.certificates))
    async with open_context(LoopClock(), SystemRandom(), network, limits) as context:
        server = Server(context)
        async with server.listen(setting.address) as address:
            yield LoadServer(setting, server, address, limits)
