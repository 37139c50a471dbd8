"""One simulated run: server, sites and spawner put together, run, and taken apart again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio
import structlog

from flare_async.errors import FlareError
from flare_async.jobs.cohort import CohortSetting, JobCohort
from flare_async.jobs.conducting import conducted
from flare_async.jobs.desk import DeskSetting
from flare_async.jobs.events import MemoryPlanned, Observer, RunFinished, RunStarted
from flare_async.jobs.filters.site import SiteFilters
from flare_async.jobs.keep import keep_run
from flare_async.jobs.loops import spare_collector
from flare_async.jobs.measure import peak_rss_mb, resident_bytes
from flare_async.jobs.plan import Layout, lookahead, plan_memory
from flare_async.jobs.recipe import Recipe
from flare_async.jobs.records.keeper import Keeping, keeping_records
from flare_async.jobs.records.post import RecordPost
from flare_async.jobs.run import Run, RunStatistics, RunStatus
from flare_async.jobs.site import SiteInfo
from flare_async.jobs.site_store import SiteStore
from flare_async.jobs.site_worker import SiteWorker
from flare_async.jobs.store import FolderStore
from flare_async.jobs.training import TrainOutcome, TrainTask
from flare_async.jobs.work import Work
from flare_async.net.clock import LoopClock
from flare_async.net.groups import sole_error
from flare_async.net.link import Link, Listener
from flare_async.net.registry import Transports
from flare_async.net.rng import SeededRandom
from flare_async.ports import Clock, Network, Random, Spawner, Store
from flare_async.roles.client import Client
from flare_async.roles.context import open_context
from flare_async.roles.log_record import LogRecord
from flare_async.roles.server import Server
from flare_async.roles.site_work import Desk
from flare_async.roles.start_messages import JobNotice
from flare_async.roles.startup import start_sites
from flare_async.sim.crew import Crew
from flare_async.sim.crowd import CROWD, caught_up, roomy
from flare_async.sim.loadtest.files import raise_file_limit
from flare_async.sim.topology import ROOT
from flare_async.sim.tree import Tree, addresses

if TYPE_CHECKING:
    from flare_async.sim.env import SimEnv
    from flare_async.sim.ports import AnyCrew, Ports, SeenByName

__all__ = ["Simulation"]

SIMULATED = "sim"
SITE_OBJECTS: Final = 24  # that a site adds in its first round; in later ones fewer
log = structlog.get_logger()


class Simulation:
    """Plays one recipe; its only result is what it leaves in the ``Run`` and its folder."""

    def __init__(
        self,
        env: SimEnv,
        recipe: Recipe,
        run: Run,
        ports: Ports | None = None,
        *,
        works: Mapping[str, Work] | None = None,
    ) -> None:
        self._env = env
        self._recipe = recipe
        self._run = run
        self._ports = ports  # where they are not this machine's
        self._store: Store = (
            FolderStore(run.folder, durable=False) if ports is None else ports.store
        )
        self._clock = clock_of(ports)
        self._began = self._clock.now()
        self._limits = roomy(recipe.limits(env.limits), len(env.sites))
        self._works = env.works(recipe) if works is None else works
        self._clients: dict[str, Client] = {}
        self._post = RecordPost(self._log)

    async def play(self) -> None:
        """Run to the end; never raises what the run itself failed with.

        Waits for the recipe. Cancelling, or ``Run.abort``, ends it: what was reached is kept.
        """
        run = self._run
        try:
            with anyio.CancelScope() as scope:
                run.bind(asyncio.get_running_loop(), scope.cancel)
                await self._conduct()
            run.end(RunStatus.ABORTED if scope.cancelled_caught else RunStatus.COMPLETED)
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            run.end(RunStatus.ABORTED)
            raise
        except Exception as exc:  # noqa: BLE001 - what a run fails with is its result
            status = RunStatus.ABORTED if run.was_aborted else RunStatus.FAILED
            run.end(status, sole_error(exc))
        finally:
            with anyio.CancelScope(shield=True):
                await self._conclude()

    async def _conduct(self) -> None:
        env = self._env
        random = SeededRandom(env.seed) if self._ports is None else self._ports.random
        by_name = self._network_by_name(random)
        network: Network[Link, Listener] = by_name or Transports(self._limits)
        with self._addresses() as address:
            async with (
                self._crew() as crew,
                open_context(self._clock, random, network, self._limits) as context,
            ):
                self._plan(crew)
                server = Server(context)
                async with server.listen(address.format(name=ROOT)) as real:
                    tree = Tree(env, context, address, by_name)
                    if self._ports is not None:
                        tree.relay_bytes = self._ports.relay_bytes
                        self._ports.begun(tree)
                    await tree.grow(real)
                    with spare_collector(SITE_OBJECTS * len(env.sites)):
                        await self._populate(tree, crew, server)
                        present = await self._begin(server)
                    await self._coordinate(server, present, crew)
                if self._ports is not None:
                    server.end_sessions(0, "done")
                    await tree.ended(self._limits.shutdown_timeout)

    async def _populate(self, tree: Tree, crew: AnyCrew, server: Server) -> None:
        env, context = self._env, server.context
        crowds = self._ports is None and not env.faults
        rounds = self._rounds(crew, lambda _: None)  # of sites with each other
        for index, site in enumerate(env.sites):
            member = crew.of(site)
            worker = self._worker(site, index, member.spawner, context.random)
            desk = self._desk(site, member.gate, rounds)
            client = Client(tree.seen_by(site), site, worker, member.gate, desk=desk)
            self._clients[site] = client
            context.tasks.start_soon(tree.serve, client, name=site)
            if crowds and index % CROWD == CROWD - 1:
                await caught_up(server, index + 1 - CROWD)

    def _plan(self, crew: AnyCrew) -> None:
        """Compute, tell and check what the run will hold. Raises ResourceLimit."""
        env, demand = self._env, self._recipe.demand()
        if demand is None or self._ports is not None:
            return
        layout = Layout(
            sites=len(env.sites),
            slots=crew.slots,
            trainers=crew.trainers,
            workers=env.workers,
            by_reference=self._transport == "memory",
            relays=len(env.topology.relays),
            adding=env.relay_mode == "reduce",
        )
        plan = plan_memory(resident_bytes(), demand, layout, self._limits)
        self._run.plan = plan
        env.observer(MemoryPlanned(plan))
        plan.check()

    async def _begin(self, server: Server) -> tuple[str, ...]:
        env, recipe = self._env, self._recipe
        present = await server.wait_for(env.sites, recipe.min_clients)
        if not env.topology.relays:
            return present  # they live in this process, a function call away
        notice = JobNotice(self._run.run_id, recipe.name, recipe.num_rounds, len(env.sites))
        return (await start_sites(server, notice, present, recipe.min_clients)).present

    async def _coordinate(self, server: Server, present: tuple[str, ...], crew: AnyCrew) -> None:
        run, env = self._run, self._env
        setting = self._rounds(crew, env.observer)
        cohort = JobCohort(server, present, run, self._store, setting)
        cohort.filters = self._recipe.filters
        rounds = self._recipe.num_rounds
        env.observer(RunStarted(run.run_id, self._recipe.name, present, rounds, run.folder))
        scripted = [site for site in present if self._works[site].script is not None]
        trackers = self._recipe.trackers
        keeping = Keeping(run, self._store, trackers, scripted, self._post.flush)
        async with keeping_records(server, keeping):
            await conducted(self._recipe, cohort)
            await crew.end_scripts()

    def _rounds(self, crew: AnyCrew, observer: Observer) -> CohortSetting:
        return CohortSetting(
            seed=self._env.seed,
            window=crew.slots + lookahead(self._recipe.demand(), self._limits),
            # Server and sites live and die together, so nothing would ever be asked for again.
            keep_until="received",
            observer=observer,
        )

    def _desk(
        self, site: str, gate: AbstractAsyncContextManager[object], rounds: CohortSetting
    ) -> Desk | None:
        recipe = self._recipe
        if type(recipe).desk is Recipe.desk:
            return None  # most sites have no peers, and need no place for their files
        store = SiteStore(self._store, site)
        return recipe.desk(DeskSetting(site, self._run.folder / site, store, gate, rounds))

    def _worker(
        self, site: str, index: int, spawner: Spawner[TrainTask, TrainOutcome], random: Random
    ) -> SiteWorker:
        env, work = self._env, self._works[site]
        info = SiteInfo(
            name=site,
            index=index,
            num_sites=len(env.sites),
            seed=env.seed,
            config=work.config,
        )
        chains = self._recipe.filters
        filters = SiteFilters(chains, random, site) if chains else None
        return SiteWorker(work, info, spawner, partial(self._post, site), filters)

    def _log(self, site: str, record: LogRecord) -> None:
        self._clients[site].log(record)

    def _crew(self) -> AbstractAsyncContextManager[AnyCrew]:
        env = self._env
        if self._ports is not None:
            return self._ports.crew(self._works)
        return Crew(self._works, env.workers, env.num_threads, self._limits)

    def _network_by_name(self, random: Random) -> SeenByName | None:
        """Return the network that knows who connects, where there are such ports, or faults."""
        if self._ports is not None:
            return self._ports.network(self._limits)
        env = self._env
        if not env.faults:
            return None
        from flare_async.testing.network import SimNetwork  # who has no faults need not load it

        # Without latency of its own: only what the faults say slows the links down.
        return SimNetwork(
            self._clock, random, latency=(0.0, 0.0), limits=self._limits, faults=env.faults
        )

    def _addresses(self) -> AbstractContextManager[str]:
        """Return the form of all addresses. Raises ConfigError for more sites than files."""
        sites = len(self._env.sites)
        if self._transport not in {"memory", SIMULATED} and sites > CROWD:
            raise_file_limit(2 * sites)  # both ends of every connection are here
        return addresses(self._transport, self._run.run_id)

    @property
    def _transport(self) -> str:
        simulated = self._env.faults or self._ports is not None
        return SIMULATED if simulated else self._env.transport

    async def _conclude(self) -> None:
        run, env = self._run, self._env
        run.statistics = RunStatistics.of(
            run.history,
            wall_s=self._clock.now() - self._began,
            peak_rss_mb=peak_rss_mb()
            if self._ports is None
            else 0.0,  # it is no function of a seed
            clients=len(env.sites),
            seed=env.seed,
        )
        setting: dict[str, str | int] = {
            "seed": env.seed,
            "workers": env.workers,
            "transport": self._transport,
        }
        if env.topology.relays:
            setting |= {"relays": len(env.topology.relays), "relay_mode": env.relay_mode}
        try:
            if self._ports is None:
                await asyncio.to_thread(self._recipe.collect, run, env.sites)
            else:
                self._recipe.collect(run, env.sites)  # nobody else is on the loop
            await keep_run(run, self._recipe, self._store, setting)
        except FlareError as exc:
            log.warning("run_not_kept", run=run.run_id, error=str(exc))
        env.observer(RunFinished(str(run.status), "" if run.cause is None else str(run.cause)))


def clock_of(ports: Ports | None) -> Clock:
    """Return the clock of a simulation: this machine's, or that of its ports."""
    return LoopClock() if ports is None else ports.clock
