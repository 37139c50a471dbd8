"""The environment inside this process: a server and any number of simulated sites on one loop."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import anyio

from flare_async.arguments import configured
from flare_async.errors import ConfigError
from flare_async.jobs.added_files import with_files
from flare_async.jobs.events import Observer, RunEvent
from flare_async.jobs.fit import check_fit
from flare_async.jobs.recipe import Recipe, positive
from flare_async.jobs.run import Run
from flare_async.jobs.store import new_run_folder
from flare_async.jobs.work import Work, code_of
from flare_async.limits import Limits
from flare_async.net.names import SITE_NAME
from flare_async.roles.relay import RelayMode
from flare_async.sim.devices import gpu_groups
from flare_async.sim.simulation import Simulation
from flare_async.sim.topology import Topology

if TYPE_CHECKING:
    from flare_async.testing.faults import Fault

__all__ = ["SimEnv"]

Workers = Literal["inline", "thread", "process", "ray"]
TransportName = Literal["memory", "tcp", "unix"]


def ignore(event: RunEvent) -> None:
    """Observe nothing."""


@configured(num_clients=1)
@dataclass(kw_only=True, eq=False)
class SimEnv:
    """Simulates sites in this process with the code that real ones run.

    ``workers`` says where training functions run: ``inline`` on the event loop, in a ``thread`` of
    their own (the default; ``num_threads`` of them), in ``process``es (default: a core less than
    there are), or on the CPUs of a ``ray`` cluster that exists (the extra ``ray``). ``transport``
    moves the model by reference in memory, or over real sockets.
    The same ``seed`` gives the same model bits whatever workers and transport.

    ``faults`` (values of ``flare_async.testing``) are put between server and sites: the model then
    travels over simulated links, in real time, and ``transport`` has to stay as it is.

    ``relays`` stand between server and sites: so many of them, each with an equal part of the
    sites, or a topology: a mapping from every relay and site to its parent, ``"server"`` or a
    relay; a site that it leaves out is below the server. Links of ``relay_mode`` "cache" need bytes
    to cache, so over memory it passes references on like "splice"; with "reduce" relays add what is
    behind them, and the bits are those of a mean of their groups.

    ``gpu_config`` ("[0],[1]") lists the devices that training processes may see: sites get the
    groups in turn. It needs scripts in processes of their own.

    ``clients`` names the sites; alone, ``num_clients`` makes site-1 to site-n. Every run gets a
    folder of its own below ``workspace_root`` (default: a new temporary folder).

    Raises:
        ConfigError: an argument cannot be used; the error names it.
    """

    num_clients: int = 0
    clients: Sequence[str] | None = None
    num_threads: int | None = None
    workers: Workers = "thread"
    transport: TransportName = "memory"
    gpu_config: str | None = None
    seed: int = 0
    workspace_root: str | Path | None = None
    limits: Limits = field(default_factory=Limits)
    faults: Sequence[Fault] = ()
    relays: int | Mapping[str, str] | None = None
    relay_mode: RelayMode = "splice"
    observer: Observer = ignore

    def __post_init__(self) -> None:
        if self.num_threads is not None:
            positive("num_threads", self.num_threads)
        for name, choices in (("workers", Workers), ("transport", TransportName)):
            value, known = getattr(self, name), get_args(choices)
            if value not in known:
                raise ConfigError(name, value, f"use one of {', '.join(known)}")
        if type(self.seed) is not int or not 0 <= self.seed < 2**63:
            raise ConfigError("seed", self.seed, "an integer from 0 to 2**63 - 1 is needed")
        self.sites = self._site_names()
        self._gpus = gpu_groups(self.gpu_config)
        self.topology = Topology.of(self.relays, self.sites)
        if self.relay_mode not in get_args(RelayMode):
            problem = f"use one of {', '.join(get_args(RelayMode))}"
            raise ConfigError("relay_mode", self.relay_mode, problem)
        if self.faults:
            self._check_faults()

    def start(self, recipe: Recipe) -> AbstractAsyncContextManager[Run]:
        """Start a run that is owned by the block; leaving the block waits for its end.

        Cancelling the block aborts the run. The run's own failure never leaves the block:
        ``Run.check`` raises it.

        Raises:
            ConfigError: the recipe needs more sites than there are, or names others.
            WorkspaceError: no run folder can be made.
        """
        check_fit(recipe, self.sites, self.limits)
        return self._start(recipe, self.works(recipe))

    def works(self, recipe: Recipe) -> dict[str, Work]:
        """Return what each site does, with the devices that it may use.

        Raises:
            ConfigError: a script cannot run where ``workers`` says, or nobody can be given devices.
        """
        works = {
            site: with_files(recipe.work(site), site, recipe.client_files) for site in self.sites
        }
        self._check_devices(works)
        for index, (site, work) in enumerate(works.items()):
            if work.script is None:
                self._check_functions(work)
                continue
            if self.workers != "thread" and not work.script.external:
                hint = "leave workers out, or give launch_external_process=True to the recipe"
                problem = f"the script of {site} runs in a thread"
                raise ConfigError("workers", self.workers, problem, hint)
            if self._gpus:
                gpus = self._gpus[index % len(self._gpus)]
                works[site] = replace(work, script=replace(work.script, gpus=gpus))
        return works

    def _check_devices(self, works: Mapping[str, Work]) -> None:
        """Refuse devices that nobody would be given. Raises ConfigError."""
        scripts = (work.script for work in works.values())
        if self._gpus and not any(script is not None and script.external for script in scripts):
            problem = "no site trains in a process of its own, which could be given devices"
            hint = "give train_script= and launch_external_process=True to the recipe"
            raise ConfigError("gpu_config", self.gpu_config, problem, hint)

    def _check_functions(self, work: Work) -> None:
        """Refuse functions that no other process can find. Raises ConfigError."""
        if self.workers in {"process", "ray"}:
            for function in (work.train, work.evaluate):
                if function is not None:
                    code_of(function)

    @asynccontextmanager
    async def _start(self, recipe: Recipe, works: Mapping[str, Work]) -> AsyncIterator[Run]:
        root = self.workspace_root
        root = Path(tempfile.mkdtemp(prefix="flare-")) if root is None else Path(root)
        folder = new_run_folder(root.expanduser().absolute(), recipe.name)
        run = Run(run_id=folder.name, recipe_name=recipe.name, folder=folder)
        simulation = Simulation(self, recipe, run, works=works)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(simulation.play, name=f"run {run.run_id}")
            yield run

    def _check_faults(self) -> None:
        from flare_async.testing.plan import checked_faults  # who has no faults need not load it

        self.faults = checked_faults(self.faults)
        if self.transport != "memory":
            problem = "faults bring a simulated transport of their own"
            raise ConfigError("transport", self.transport, problem, "leave it out")
        for fault in self.faults:
            unknown = [site for site in fault.named or () if site not in self.sites]
            if unknown:
                problem = f"{type(fault).__name__} names no site of the environment"
                raise ConfigError("faults", unknown[:5], problem)

    def _site_names(self) -> tuple[str, ...]:
        if self.clients is None:
            count = positive("num_clients", self.num_clients)
            return tuple(f"site-{number}" for number in range(1, count + 1))
        names = (self.clients,) if isinstance(self.clients, str) else tuple(self.clients)
        bad = [name for name in names if not is_site_name(name)]
        if bad or not names:
            raise ConfigError("clients", bad[:5], "use letters, digits and . _ @ - in site names")
        if len(set(names)) != len(names):
            raise ConfigError("clients", list(names), "a name comes twice")
        if self.num_clients not in {0, len(names)}:
            problem = f"contradicts the {len(names)} names of clients"
            raise ConfigError("num_clients", self.num_clients, problem, "leave one of them out")
        return names


def is_site_name(name: object) -> bool:
    """Return whether a server would take a client of that name."""
    return isinstance(name, str) and SITE_NAME.fullmatch(name) is not None
