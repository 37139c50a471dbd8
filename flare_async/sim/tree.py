"""The relays and sites of a simulated run, each at its place below the server."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import structlog

from flare_async.errors import FlareError
from flare_async.roles.client import Client
from flare_async.roles.context import Context
from flare_async.roles.relay import PROCESS_BYTES, Relay
from flare_async.sim.topology import ROOT

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from flare_async.sim.env import SimEnv
    from flare_async.sim.ports import SeenByName

__all__ = ["Tree", "addresses"]

log = structlog.get_logger()


@dataclass(slots=True)
class Tree:
    """Starts relays and sites; each connects to its parent's address.

    ``by_name`` is the network that knows who connects, if there is one.
    """

    env: SimEnv
    context: Context
    address: str  # where relays listen: a pattern with {name}
    by_name: SeenByName | None = None
    relay_bytes: int = PROCESS_BYTES  # the credit that all links of one relay share
    relays: dict[str, Relay] = field(default_factory=dict)
    _at: dict[str, str] = field(default_factory=dict)
    _serving: int = 0
    _over: anyio.Event | None = None

    async def grow(self, root: str) -> None:
        """Start the relays, parents first; bounded by each relay's start to listen."""
        self._at[ROOT] = root
        for name in self.env.topology.relays:
            relay = Relay(
                self.seen_by(name),
                name,
                mode=self.env.relay_mode,
                process_bytes=self.relay_bytes,
            )
            self.relays[name] = relay
            self._at[name] = await self.context.tasks.start(self._relay, relay, name=name)

    def seen_by(self, name: str) -> Context:
        """Return the context of one role, with its own view of a network that knows names."""
        if self.by_name is None:
            return self.context
        return dataclasses.replace(self.context, network=self.by_name.of(name))

    async def serve(self, client: Client) -> None:
        """Let a site serve until its session ends."""
        self._serving += 1
        try:
            await client.run(self._at[self.env.topology.parent(client.name)])
        except FlareError as exc:
            log.warning("site_ended", site=client.name, code=exc.code, error=str(exc))
        finally:
            self._serving -= 1
            if self._over is not None and not self._serving:
                self._over.set()

    async def ended(self, seconds: float) -> None:
        """Wait until every site has heard that it is over, at most so long.

        anyio looks through all tasks of a cancelled group whenever one of them ends: thousands that
        are still there take minutes to cancel.
        """
        if self._serving:
            self._over = anyio.Event()
            with anyio.move_on_after(seconds):
                await self._over.wait()

    async def _relay(self, relay: Relay, *, task_status: TaskStatus[str]) -> None:
        parent = self._at[self.env.topology.parent(relay.name)]
        address = self.address.format(name=relay.name)
        try:
            await relay.run(parent, address, task_status=task_status)
        except FlareError as exc:
            log.warning("relay_ended", relay=relay.name, code=exc.code, error=str(exc))


@contextmanager
def addresses(transport: str, run_id: str) -> Iterator[str]:
    """Yield where the roles of a run listen, as a pattern with {name}."""
    match transport:
        case "sim":
            yield "sim://{name}"
        case "memory":
            yield f"memory://{run_id}-{{name}}"
        case "tcp":
            yield "tcp://127.0.0.1:0"
        case _:
            # A socket's path has 108 bytes, so it cannot stand in the run folder.
            folder = tempfile.mkdtemp(prefix="fa-")
            try:
                yield f"unix://{Path(folder)}/{{name}}"
            finally:
                shutil.rmtree(folder, ignore_errors=True)
