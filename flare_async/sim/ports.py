"""What a simulation runs on where it is not this machine: every port, simulated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from flare_async.jobs.training import TrainOutcome, TrainTask
from flare_async.jobs.work import Work
from flare_async.limits import Limits
from flare_async.net.link import Link, Listener
from flare_async.ports import Clock, Network, Random, Spawner, Store
from flare_async.roles.relay import PROCESS_BYTES
from flare_async.sim.tree import Tree

__all__ = ["AnyCrew", "AnyMember", "Ports", "SeenByName"]


class SeenByName(Network[Link, Listener], Protocol):
    """A network that knows who connects."""

    def of(self, name: str, /) -> Network[Link, Listener]:
        """Return the network as one site or relay sees it."""


class AnyMember(Protocol):
    """A spawner, and what bounds how many of its tasks hold a model at once."""

    @property
    def spawner(self) -> Spawner[TrainTask, TrainOutcome]:
        """Where the site's work runs."""

    @property
    def gate(self) -> AbstractAsyncContextManager[object]:
        """Entered while a model is held."""


class AnyCrew(Protocol):
    """The spawners of a run."""

    @property
    def slots(self) -> int:
        """How many tasks may run at once."""

    @property
    def trainers(self) -> int:
        """How many of them are processes of scripts."""

    def of(self, site: str) -> AnyMember:
        """Return the spawner of a site."""

    async def end_scripts(self) -> None:
        """Let scripts find that the job has ended."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of one simulated run; ``network`` and ``crew`` are made when limits are known."""

    clock: Clock
    random: Random
    store: Store
    network: Callable[[Limits], SeenByName]
    crew: Callable[[Mapping[str, Work]], AbstractAsyncContextManager[AnyCrew]]
    begun: Callable[[Tree], None]  # told before the first relay starts
    relay_bytes: int = PROCESS_BYTES
