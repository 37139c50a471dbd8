"""Server and clients of ``bench.relay`` in ``reduce``: ``python -m bench.tree_sums SETTING``.

A command is the address of a relay: the clients connect to it, and one round is run, in which each
brings an update of the model's size. The answer is what the server has pulled of updates, and how
long the round took.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from bench.patience import PATIENT
from bench.pipe import commands, say
from flare_async.jobs.loops import new_loop
from flare_async.net.clock import LoopClock
from flare_async.net.registry import Transports
from flare_async.net.rng import SystemRandom
from flare_async.net.session import Session
from flare_async.roles.client import Client, SiteResult, SiteTask
from flare_async.roles.cohort import Cohort
from flare_async.roles.context import Context, open_context
from flare_async.roles.outcome import SiteRecord
from flare_async.roles.round import RoundTask
from flare_async.roles.server import Server
from flare_async.transfer.content import ContentCache
from flare_async.transfer.downloader import Downloader
from flare_async.transfer.fetching import FetchReport
from flare_async.transfer.mean import WeightedMean
from flare_async.transfer.pull import LayoutCache, TensorRef
from flare_async.transfer.sink import TensorSink
from flare_async.transfer.tensors import TensorSet

__all__ = ["Setting"]


@dataclass(frozen=True, slots=True)
class Setting:
    """How many clients there are, and the model: so many float32 tensors of so many bytes."""

    address: str
    clients: int
    tensors: int
    nbytes: int


class Counting(Downloader):
    """A downloader that adds up what it has pulled."""

    pulled = 0

    async def fetch(
        self,
        session: Session,
        ref: TensorRef,
        sink: TensorSink,
        *,
        known: ContentCache | None = None,
        only: Collection[str] | None = None,
    ) -> FetchReport:
        """Pull as ``Downloader`` does, and count."""
        report = await super().fetch(session, ref, sink, known=known, only=only)
        self.pulled += report.pulled_bytes
        return report


class Returns:
    """A worker that returns the model as it came."""

    async def run(self, task: SiteTask) -> SiteResult:
        """Work on one task."""
        return SiteResult(task.tensors, "FULL", {})


class Quiet:
    """An observer of rounds that observes nothing."""

    def site_started(self, number: int, site: str) -> None:
        """Take note of nothing."""

    def site_finished(self, number: int, record: SiteRecord) -> None:
        """Take note of nothing."""


async def one_round(context: Context, server: Server, sites: list[str], model: TensorSet) -> float:
    """Run a round with all sites; return its seconds."""
    began = time.perf_counter()
    cohort = Cohort(server, sites, Quiet())
    with WeightedMean(model, order=sites, limits=context.limits) as mean:
        async with cohort.round(RoundTask("bench", 0, 1), model, reducer=mean) as updates:
            async for _ in updates:
                pass
        mean.finish()
    return time.perf_counter() - began


async def main() -> None:
    """Serve as the command line says."""
    setting = Setting(**json.loads(sys.argv[1]))
    size = setting.nbytes // 4
    params = {f"t{number}": np.ones(size, np.float32) for number in range(setting.tensors)}
    model, sites = TensorSet.from_params(params), [f"c{n}" for n in range(setting.clients)]
    network = Transports(PATIENT)
    async with open_context(LoopClock(), SystemRandom(), network, PATIENT) as context:
        counting = Counting(PATIENT, LayoutCache())
        server = Server(dataclasses.replace(context, downloader=counting))
        async with server.listen(setting.address) as address:
            say({"address": address})
            async for command in commands():
                for site in sites:
                    client = Client(context, site, Returns())
                    context.tasks.start_soon(client.run, command)
                await server.wait_for(sites, len(sites))
                seconds = await one_round(context, server, sites, model)
                say({"received": counting.pulled, "seconds": seconds})


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
