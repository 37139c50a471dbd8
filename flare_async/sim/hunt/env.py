"""The environment of one case: the job's seed decides the job, the case's seed all else."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from flare_async.jobs.events import Observer
from flare_async.jobs.recipe import Recipe
from flare_async.jobs.work import Work
from flare_async.limits import Limits
from flare_async.net.rng import SeededRandom
from flare_async.sim.hunt.case import Case
from flare_async.sim.hunt.crew import HuntCrew
from flare_async.sim.ports import AnyCrew, SeenByName
from flare_async.sim.virtual.env import VirtualEnv
from flare_async.sim.virtual.setting import VirtualSetting
from flare_async.testing.network import SimNetwork

__all__ = ["HuntEnv"]


class HuntEnv(VirtualEnv):
    """Bytes over links on which the case's faults act, and a run folder while it lasts."""

    def __init__(
        self, case: Case, clients: int, job_seed: int, observer: Observer, folder: Path
    ) -> None:
        setting = VirtualSetting(
            clients=clients, relays=case.relays, relay_mode=case.relay_mode, seed=job_seed
        )
        super().__init__(setting, observer, folder)
        self._case = case

    def _network(self, limits: Limits) -> SeenByName:
        case, dice = self._case, SeededRandom(self._case.seed)
        return SimNetwork(self.clock, dice, latency=case.latency, limits=limits, faults=case.faults)

    def _crew(
        self, recipe: Recipe, works: Mapping[str, Work]
    ) -> AbstractAsyncContextManager[AnyCrew]:
        return HuntCrew(self.clock, self._case, len(self.sites))
