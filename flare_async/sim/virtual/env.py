"""``SimEnv`` on simulated ports: the same roles and recipes, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

import anyio

from flare_async.errors import ConfigError
from flare_async.jobs.added_files import with_files
from flare_async.jobs.events import Observer
from flare_async.jobs.recipe import Recipe
from flare_async.jobs.run import Run
from flare_async.jobs.work import Work
from flare_async.limits import Limits
from flare_async.net.clock import LoopClock
from flare_async.net.rng import SeededRandom
from flare_async.sim.env import SimEnv
from flare_async.sim.ports import AnyCrew, Ports, SeenByName
from flare_async.sim.simulation import Simulation
from flare_async.sim.tree import Tree
from flare_async.sim.virtual.crew import VirtualCrew
from flare_async.sim.virtual.disk import LaidOutDisk, SizesDisk
from flare_async.sim.virtual.setting import VirtualSetting
from flare_async.sim.virtual.sizes import work_of_sizes
from flare_async.testing.profile import Profile
from flare_async.testing.profile_network import ProfileNetwork

__all__ = ["FOLDER", "VirtualEnv"]

FOLDER = Path("simulated-disk")  # that nobody makes: what messages call the run folder


class VirtualEnv(SimEnv):
    """Runs one recipe on a ``SimLoop``; afterwards its ports tell what has passed.

    ``folder`` is the run folder, for as long as the run lasts: a temporary one.
    """

    def __init__(self, setting: VirtualSetting, observer: Observer, folder: Path) -> None:
        super().__init__(
            num_clients=setting.clients,
            workers="inline",
            seed=setting.seed,
            limits=setting.limits,
            relays=setting.relays or None,
            relay_mode=setting.relay_mode,
            observer=observer,
        )
        self.setting = setting
        self.clock = LoopClock()
        self.random = SeededRandom(setting.seed)
        self.folder = folder
        self.disk: LaidOutDisk | SizesDisk = (
            SizesDisk(self.clock, self.random)
            if setting.payload == "sizes"
            else LaidOutDisk(self.clock, self.random, folder)
        )
        self.network: ProfileNetwork | None = None
        self.crew: VirtualCrew | None = None
        self.tree: Tree | None = None

    def works(self, recipe: Recipe) -> dict[str, Work]:
        """Return what each site does; without its code where only sizes count.

        Raises:
            ConfigError: a script is to be run in virtual time.
        """
        if self.setting.payload == "sizes":
            return {site: work_of_sizes(recipe.work(site)) for site in self.sites}
        works = {
            site: with_files(recipe.work(site), site, recipe.client_files) for site in self.sites
        }
        if any(work.script is not None for work in works.values()):
            hint = 'give a train= function, or payload="sizes", which runs no user code'
            raise ConfigError("train_script", recipe.name, "no script runs in virtual time", hint)
        return works

    @asynccontextmanager
    async def _start(self, recipe: Recipe, works: Mapping[str, Work]) -> AsyncIterator[Run]:
        run = Run(run_id=f"{recipe.name}-1", recipe_name=recipe.name, folder=self.folder)
        ports = Ports(
            clock=self.clock,
            random=self.random,
            store=self.disk,
            network=self._network,
            crew=partial(self._crew, recipe),
            begun=self._begun,
            relay_bytes=self.setting.relay_bytes,
        )
        simulation = Simulation(self, recipe, run, ports, works=works)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(simulation.play, name=f"run {run.run_id}")
            yield run

    def _begun(self, tree: Tree) -> None:
        self.tree = tree

    def _network(self, limits: Limits) -> SeenByName:
        relays = frozenset(self.topology.relays)

        def profile_of(host: str) -> Profile:
            return self.setting.relay_profile if host in relays else self.setting.profile

        self.network = ProfileNetwork(
            self.clock,
            self.random,
            profile_of,
            rate_of=lambda host: self.setting.rate_of(host, relays),
            limits=limits,
            frame_bytes=self.setting.frame_bytes,
        )
        return self.network

    def _crew(
        self, recipe: Recipe, works: Mapping[str, Work]
    ) -> AbstractAsyncContextManager[AnyCrew]:
        bounded = getattr(recipe, "round_timeout", None) is not None
        self.crew = VirtualCrew(self.clock, self.random, self.setting, waits=not bounded)
        return self.crew
