"""What the roles of one process share: ports, limits, a watchdog, an owner for their tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from flare_async.limits import Limits
from flare_async.net.callbacks import loop_told
from flare_async.net.endpoint import Endpoint
from flare_async.net.lag import LagMonitor
from flare_async.net.link import Link, Listener
from flare_async.net.watchdog import Watchdog
from flare_async.ports import Clock, Network, Random
from flare_async.roles.messages import OfferReader
from flare_async.transfer.downloader import Downloader
from flare_async.transfer.pull import LayoutCache, Prints
from flare_async.transfer.shelf import Shelf
from flare_async.wire.windows import CreditBudget

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

__all__ = ["Context", "open_context"]


@dataclass(frozen=True, slots=True)
class Context:
    """Shared by roles that live on one loop; made by ``open_context``."""

    clock: Clock
    random: Random
    network: Network[Link, Listener]
    limits: Limits
    watchdog: Watchdog
    tasks: TaskGroup
    budget: CreditBudget
    downloader: Downloader
    lag: LagMonitor
    offers: OfferReader = field(default_factory=OfferReader)
    prints: Prints = field(default_factory=Prints)

    def endpoint(self, name: str, role: str) -> Endpoint:
        """Return what the sessions of one role share."""
        return Endpoint(
            name=name,
            role=role,
            clock=self.clock,
            random=self.random,
            watchdog=self.watchdog,
            limits=self.limits,
            tasks=self.tasks,
            budget=self.budget,
        )

    def shelf(self, owner: str) -> Shelf:
        """Return an empty shelf of one role."""
        return Shelf(owner, self.tasks, self.clock, self.random, self.limits, prints=self.prints)


@asynccontextmanager
async def open_context(
    clock: Clock, random: Random, network: Network[Link, Listener], limits: Limits
) -> AsyncIterator[Context]:
    """Own the watchdog and all background tasks of the roles inside the block.

    Leaving the block cancels what still runs, so nothing outlives it.
    """
    credit = limits.process_bytes
    if random.buggify("tight budget"):
        credit = limits.link_bytes
    with loop_told(), Watchdog(clock) as watchdog:
        async with anyio.create_task_group() as tasks:
            yield Context(
                clock=clock,
                random=random,
                network=network,
                limits=limits,
                watchdog=watchdog,
                tasks=tasks,
                budget=CreditBudget(credit),
                downloader=Downloader(limits, LayoutCache()),
                lag=LagMonitor(clock),
            )
            tasks.cancel_scope.cancel()
