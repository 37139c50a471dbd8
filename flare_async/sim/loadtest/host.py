"""One process of clients: ``python -m flare_async.sim.loadtest.host HOSTING PARENT``.

It prints one JSON line: its memory before the clients and at its largest, and what they went
through. It ends when the server says goodbye to all of them, or with its parent.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import sys
from dataclasses import asdict, dataclass
from typing import Final

import anyio
import structlog

from flare_async.errors import ConfigError, FlareError
from flare_async.jobs.loops import calm_collector, new_loop
from flare_async.jobs.measure import peak_rss_mb, resident_bytes
from flare_async.jobs.spawners.platform import die_with_parent
from flare_async.net.clock import LoopClock
from flare_async.net.groups import single_error
from flare_async.net.registry import Transports
from flare_async.net.rng import SeededRandom, SystemRandom
from flare_async.roles.client import Client
from flare_async.roles.context import Context, open_context
from flare_async.sim.loadtest.certificates import credentials_in
from flare_async.sim.loadtest.files import raise_file_limit
from flare_async.sim.loadtest.setting import Hosting, load_limits
from flare_async.sim.loadtest.site import AddsOne, Links, SiteLinks

__all__ = ["HostFigures", "main", "only_warnings", "serve_clients"]

ENDING: Final = 30.0  # seconds between the first goodbye and the last


@dataclass(slots=True)
class HostFigures:
    """What one process of clients tells at its end; memory is in bytes."""

    clients: int
    base: int = 0
    peak: int = 0
    cuts: int = 0  # links that were cut on purpose
    lost: int = 0  # clients that ended otherwise than by a goodbye

    @property
    def grown(self) -> int:
        """How much memory the clients took."""
        return max(0, self.peak - self.base)


async def serve_clients(hosting: Hosting) -> HostFigures:
    """Run all clients until the server has said goodbye to each.

    Waits for tasks for ever. Cancelling says goodbye for all of them.

    Raises:
        ConfigError: the address or the certificates cannot be used, or the system allows too few
            connections.
    """
    raise_file_limit(hosting.count)
    limits = load_limits(hosting.count)
    links = Links(Transports(limits, credentials_in(hosting.certificates, joins=True)))
    figures = HostFigures(hosting.count, base=resident_bytes())
    random = SystemRandom()  # back-off and tokens; behaviour has a seed of its own
    with single_error():
        async with open_context(LoopClock(), random, links.network, limits) as context:
            await serve_all(hosting, context, links, figures)
    figures.peak, figures.cuts = int(peak_rss_mb() * 1e6), links.cuts
    return figures


async def serve_all(hosting: Hosting, context: Context, links: Links, figures: HostFigures) -> None:
    """Run each client in a task of its own, and count those that are lost.

    Waits as they do; once the server has said goodbye to one, for the others at most ``ENDING``:
    one without a link at that moment would dial a server that is gone for ``session_grace``.
    """
    behaviour = SeededRandom(hosting.behaviour.seed)
    parted = anyio.Event()

    async def serve(site: str) -> None:
        seen = dataclasses.replace(context, network=SiteLinks(links, site))
        client = Client(seen, site, AddsOne(site, hosting.behaviour, behaviour, links))
        try:
            await client.run(hosting.address)
        except ConfigError:
            raise  # which is the same for all clients
        except FlareError as exc:
            figures.lost += 1
            structlog.get_logger().warning("client_lost", site=site, error=str(exc))
            if figures.lost < hosting.count:
                return
        parted.set()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(serve(site), name=site) for site in hosting.names]
        await parted.wait()
        _, left = await asyncio.wait(tasks, timeout=ENDING)
        for task in left:
            task.cancel()
        figures.lost += len(left)


def only_warnings() -> None:
    """Log warnings and worse only, to standard error: a thousand links have a thousand lives."""
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )


def main() -> None:
    """Serve as the command line says."""
    only_warnings()
    hosting, parent = Hosting.decoded(sys.argv[1]), int(sys.argv[2])
    if not die_with_parent(parent):
        return
    with calm_collector(), asyncio.Runner(loop_factory=new_loop) as runner:
        figures = runner.run(serve_clients(hosting))
    sys.stdout.write(json.dumps(asdict(figures)) + "\n")


if __name__ == "__main__":
    main()
