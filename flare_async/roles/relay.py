"""The relay: a client towards its parent, a server towards the sites and relays below it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import anyio
import structlog

from flare_async.errors import ConfigError, FlareError, SessionGone
from flare_async.limits import MIB
from flare_async.net.backoff import Backoff
from flare_async.net.channel import Channel
from flare_async.net.lobby import FORWARDED
from flare_async.net.session import Session
from flare_async.roles.acceptor import Acceptor
from flare_async.roles.announcer import Announcer
from flare_async.roles.context import Context
from flare_async.roles.entrance import opened
from flare_async.roles.partial_messages import PARTIAL_TOPIC, REDUCES
from flare_async.roles.passing import MIXED
from flare_async.roles.peer_hop import PeerHop
from flare_async.roles.peer_messages import GRANT_TOPIC
from flare_async.roles.relay_cache import CachedPulls
from flare_async.roles.relay_downward import Downward
from flare_async.roles.relay_grants import RelayGrants
from flare_async.roles.relay_reduce import Reducing
from flare_async.roles.relay_upward import Upward
from flare_async.roles.turns import Turns
from flare_async.transfer.pull import PULL_TOPIC
from flare_async.wire.frames import ResetCode
from flare_async.wire.windows import CreditBudget

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

__all__ = ["CACHE_BYTES", "PROCESS_BYTES", "Relay", "RelayMode"]

RelayMode: TypeAlias = Literal["splice", "cache", "reduce"]
PROCESS_BYTES: Final = 24 * MIB
CACHE_BYTES: Final = 256 * MIB
LEAST_BYTES: Final = 4 * MIB
BY_REFERENCE: Final = "memory://"
log = structlog.get_logger()


class Relay(Acceptor):
    """Passes channels on between its parent and what is below it, without holding models.

    With mode ``cache`` chunks of what is pulled from above are kept, up to ``cache_bytes``, so that
    the parent gives each of them once. With mode ``reduce`` the updates of what is below are added
    here, where the server's mean takes sums and every relay above adds, too: the parent gets one
    for all of them. That needs memory for the model, an accumulator and ``Limits.staging_bytes``.

    Sites below it are announced to the parent, which offers them tasks as if they were its own.
    ``process_bytes`` is the credit that all its links share: what it may hold of all that passes.
    ``relays`` names who may come as a relay below it; None is everybody.

    Raises:
        ConfigError: an argument cannot be used; the error names it.
    """

    def __init__(
        self,
        context: Context,
        name: str,
        *,
        mode: RelayMode = "splice",
        process_bytes: int = PROCESS_BYTES,
        cache_bytes: int = CACHE_BYTES,
        relays: Collection[str] | None = None,
    ) -> None:
        if mode not in get_args(RelayMode):
            raise ConfigError("mode", mode, f"use one of {', '.join(get_args(RelayMode))}")
        for field, value in (("process_bytes", process_bytes), ("cache_bytes", cache_bytes)):
            if value < LEAST_BYTES:
                raise ConfigError(field, value, f"at least {LEAST_BYTES} are needed")
        budget = CreditBudget(process_bytes)
        super().__init__(dataclasses.replace(context, budget=budget), name, "relay", relays)
        self.mode = mode
        self.address = ""
        self._endpoint = self.context.endpoint(name, "relay")
        limits = self.context.limits
        # Half of the credit for what is pulled from above, a quarter for results, the rest for
        # messages, so that no traffic waits for another one's credit.
        most = limits.link_bytes * 3 // 4
        down = Turns(min(process_bytes // 2, most), limits.channels // 2, self._count)
        up = Turns(min(process_bytes // 4, most), limits.channels // 4, self._count)
        self._peers = PeerHop(self.directory, limits, up, lambda: self._upward.parent)
        self._grants = RelayGrants(self.context, self.directory, self._peers.grants)
        self._downward = Downward(self.directory, limits, up, self._peers)
        self._upward = Upward(limits, down, self.directory, self._downward)
        pulls = CachedPulls(self.context, self._upward, cache_bytes)
        self.cache = pulls.cache
        self._pull = pulls.pull if mode == "cache" else self._upward.pull
        self._reducing = Reducing(self.context, self.directory, name)
        header = REDUCES if mode == "reduce" else b""
        self._announcer = self.directory.observer = Announcer(name, header)

    async def run(
        self,
        parent: str,
        listen: str,
        *,
        task_status: TaskStatus[str] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen below, connect above, and pass on until the parent says goodbye.

        ``task_status`` gets the address with its real port. Connecting and losing links are treated
        as a client does; peers below keep their sessions meanwhile. In the end they are told.

        Raises:
            ConfigError: one of the addresses is of memory and the other one is not.
            ConnectFailed: the address cannot be listened on.
            LinkError: no connection to the parent in time, or it was lost for good.
        """
        if parent.startswith(BY_REFERENCE) != listen.startswith(BY_REFERENCE):
            raise ConfigError("listen", listen, f"below {parent}: {MIXED}")
        async with self.listen(listen) as address:
            self.address = address
            task_status.started(address)
            code, reason = int(ResetCode.UNREACHABLE), "the relay stops"
            try:
                await self._serve_parent(parent)
                code, reason = 0, "done"
            except FlareError as exc:
                reason = str(exc)
                raise
            finally:
                self.end_sessions(code, reason)

    def attach(self, session: Session) -> None:
        """Pass a new session's pulls on, and what its sites open to others of their job."""
        session.serve(PULL_TOPIC, self._pull)
        session.serve(FORWARDED, self._peers.forward)

    def _refuses(self, session: Session) -> bool:
        if super()._refuses(session):
            return True
        parent = self._upward.parent
        return parent is not None and self._sends_away(session, parent)

    def _sends_away(self, below: Session, parent: Session) -> bool:
        if below.link.by_reference == parent.link.by_reference:
            return False
        below.leave(int(ResetCode.REFUSED), MIXED)
        log.warning("site_refused", address=below.link.address, problem=MIXED)
        return True

    async def _serve_parent(self, address: str) -> None:
        clock, limits = self.context.clock, self.context.limits
        backoff = Backoff(self.context.random, "begin again", limits.retry_cap)
        while True:
            began = clock.now()
            try:
                async with opened(self.context, self._endpoint, address) as session:
                    await self._attend_parent(session)
            except SessionGone as exc:
                log.info("session_gone", relay=self.name, error=str(exc))
            else:
                return
            if clock.now() - began > backoff.bound:
                backoff.reset()
            await anyio.sleep(backoff.pause())

    async def _attend_parent(self, session: Session) -> None:
        self._upward.parent = session
        for below in list(self._sessions):  # they may have come before there was a parent
            self._sends_away(below, session)
        session.serve(FORWARDED, self._downward.forward)
        session.serve(GRANT_TOPIC, self._grants.serve)
        self._reducing.attach(session)
        self._announcer.attach(session)
        async for channel in session:
            self._asked(channel)

    def _asked(self, channel: Channel) -> None:
        if channel.topic == PARTIAL_TOPIC and self.mode == "reduce":
            self._reducing.serve(channel)
        else:
            channel.reset(ResetCode.REFUSED, "a relay takes no such topic")

    def _count(self) -> int:
        return len(self.directory.sites)
