"""One site's part of a round: from the first offer of its task to the last receipt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import structlog

from flare_async.errors import (
    ChannelReset,
    FlareError,
    LinkError,
    RemoteProtocolError,
    TrainingFailed,
    TransferError,
    UpdateRefused,
)
from flare_async.net.session import Session
from flare_async.roles.exchange import Exchange, in_turns
from flare_async.roles.messages import COMMITTED, RECEIVED, REFUSED, Receipt
from flare_async.roles.outcome import SiteRecord, SiteStatus
from flare_async.roles.setting import RoundSetting, Update
from flare_async.roles.text import described, shortened, where
from flare_async.wire.frames import ResetCode

if TYPE_CHECKING:
    from flare_async.roles.round import Updates

__all__ = ["Lease"]

REASON_BYTES = 1000
log = structlog.get_logger()


class Lease:
    """Carries one site's exchange through and keeps the task's channel until the commit.

    ``run`` ends when the update is admitted and added, or has failed; ``commit`` or ``revoke``
    then end the channel. An update that was admitted cannot be taken back.
    """

    def __init__(self, setting: RoundSetting, site: str, updates: Updates) -> None:
        self._setting = setting
        self._site = site
        self._updates = updates
        self._clock = setting.server.context.clock
        self._started = self._clock.now()
        self._scope = anyio.CancelScope()
        self._exchange: Exchange | None = None
        self._taken = False
        self._revoked = False

    async def run(self) -> None:
        """Carry the lease through; waits for the site's work as long as its session lives.

        The round's deadline bounds it by ``revoke``; cancelling resets the channel. Whatever goes
        wrong with the site is recorded as the end of its part.

        Raises:
            TransferError: this side cannot stage or add the update, the site's or another one's.
        """
        with self._scope:
            if self._revoked:  # before its first step: nothing was offered yet
                return
            try:
                update = await self._ask()
            except Exception as exc:  # noqa: BLE001 - one site must not end the round
                if not self._revoked:
                    self._lose(exc)
                return
            except BaseException:
                self._reset(ResetCode.CANCELLED, "the round ended")
                raise
            if not self._revoked:
                self._take(update)
                await self._sum()
                self._updates.deliver(update)

    def commit(self) -> None:
        """Send the last receipt, if the update was taken and the site is still there."""
        if self._taken:
            self._finish(Receipt(COMMITTED))

    def revoke(self, reason: str) -> SiteRecord:
        """Take the task back; what ``run`` meets from now on is of no interest."""
        self._revoked = True
        self._scope.cancel()
        self._reset(ResetCode.LATE, reason)
        return self._record(SiteStatus.LATE, reason=reason)

    async def _ask(self) -> Update:
        sites = self._setting.server.sites
        attempt = 0
        while True:
            session = sites.get(self._site)
            if session is None:
                was = self._site in self._setting.server.directory.seen
                problem = "is not connected any more" if was else "is not connected"
                raise TrainingFailed(self._site, problem)
            exchange = self._exchange = Exchange(self._setting, self._site, attempt)
            try:
                return await self._served(exchange, session)
            except (LinkError, ChannelReset) as exc:
                if not await self._may_ask_again(exc, session, attempt):
                    raise
            attempt += 1

    async def _served(self, exchange: Exchange, session: Session) -> Update:
        # Whoever does not take the model need not be waited for; it may not even hear of it.
        watchers = self._setting.offer.watchers
        failures: list[FlareError] = []
        with anyio.CancelScope() as scope:

            def failed(error: FlareError) -> None:
                failures.append(error)
                scope.cancel()

            watchers[self._site] = failed
            try:
                return await exchange.run(session, self._updates.remaining)
            finally:
                watchers.pop(self._site, None)
        raise failures[0]

    async def _may_ask_again(self, error: FlareError, session: Session, attempt: int) -> bool:
        # A site that came back under a newer session gets the same task again.
        server = self._setting.server
        if isinstance(error, ChannelReset):
            if error.reset_code != ResetCode.UNREACHABLE:
                return False
            # A relay tells the channels of a site that is gone first, and where it is now next.
            with anyio.move_on_after(server.context.limits.handshake_timeout):
                while server.sites.get(self._site) is session:
                    await server.directory.changed()
        newer = server.sites.get(self._site)
        if newer is None or newer is session or self._revoked:
            return False
        return attempt < server.context.limits.max_resends

    def _lose(self, error: Exception) -> None:
        match error:
            case UpdateRefused():
                self._finish(Receipt(REFUSED, shortened(error.problem, REASON_BYTES)))
                self._fail(SiteStatus.REFUSED, str(error))
            case TrainingFailed():
                self._finish(None)
                self._fail(SiteStatus.FAILED, error.problem)
            case RemoteProtocolError():
                self._reset(ResetCode.PROTOCOL, error.reason)
                self._fail(SiteStatus.FAILED, str(error))
            case FlareError():
                self._reset(ResetCode.INTERNAL, error.code)
                if type(error) is TransferError:
                    raise error  # what a site does wrong has a name of its own: this is our side
                self._fail(SiteStatus.FAILED, str(error))
            case _:
                log.error("lease_broke", site=self._site, error=described(error), at=where(error))
                self._reset(ResetCode.INTERNAL, "error")
                self._fail(SiteStatus.FAILED, described(error))

    def _take(self, update: Update) -> None:
        # No await between the admission and this: whoever closes the round finds it settled.
        self._taken = True
        if self._exchange is not None and self._exchange.stream is not None:
            self._exchange.stream.tell(Receipt(RECEIVED))
        record = self._record(SiteStatus.OK, update=update)
        self._updates.settle(self._site, record, update)

    async def _sum(self) -> None:
        if self._setting.stepped is not None:
            await in_turns(self._setting.stepped.summing())

    def _fail(self, status: SiteStatus, reason: str) -> None:
        self._updates.settle(self._site, self._record(status, reason=reason), None)

    def _record(
        self, status: SiteStatus, *, reason: str = "", update: Update | None = None
    ) -> SiteRecord:
        return SiteRecord(
            site=self._site,
            status=status,
            started=self._started,
            ended=self._clock.now(),
            train_seconds=0.0 if update is None else update.seconds,
            weight=0.0 if update is None else update.weight,
            metrics={} if update is None else dict(update.metrics),
            reason=reason,
            bytes_down=self._bytes_down(update),
            bytes_up=0 if update is None else update.nbytes,
        )

    def _bytes_down(self, update: Update | None) -> int:
        offer = self._setting.offer
        behind = self._setting.server.directory.is_routed(self._site)
        if behind and update is not None:
            return offer.ref.nbytes  # a relay's pulls are not told apart by site
        return offer.served[self._site]

    def _finish(self, receipt: Receipt | None) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is None or exchange.stream is None:
            return
        if exchange.stream.unread:
            exchange.stream.reset(ResetCode.PROTOCOL, "a message after the last one")
            return
        exchange.stream.finish(receipt)
        self._setting.server.leftovers.add(exchange.stream.channel)

    def _reset(self, code: ResetCode, message: str) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None and exchange.stream is not None:
            exchange.stream.reset(code, message)
