"""One site's part of a round: from the first offer of its task to the last receipt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio
import structlog

from flare_async.errors import (
    ChannelReset,
    Dismissed,
    FlareError,
    LinkError,
    LinkLost,
    RemoteProtocolError,
    SourceLost,
    TrainingFailed,
    TransferError,
    UpdateRefused,
)
from flare_async.net.session import Session
from flare_async.roles.exchange import Exchange
from flare_async.roles.messages import COMMITTED, RECEIVED, REFUSED, Receipt
from flare_async.roles.outcome import SiteRecord, SiteStatus
from flare_async.roles.routes import Route
from flare_async.roles.setting import RoundSetting, Update
from flare_async.roles.steps import in_turns
from flare_async.roles.text import described, shortened, where
from flare_async.wire.frames import ResetCode

if TYPE_CHECKING:
    from flare_async.roles.round import Updates

__all__ = ["Lease"]

REASON_BYTES = 1000
HERE: Final = Receipt(RECEIVED)
KEPT_TO_THE_END: Final = Receipt(COMMITTED)
log = structlog.get_logger()


class Lease:
    """Carries one site's exchange through and keeps the task's channel until the commit.

    ``run`` ends when the update is admitted and added, or has failed; ``commit`` or ``revoke``
    then end the channel. An update that was admitted cannot be taken back.
    """

    def __init__(self, setting: RoundSetting, site: str, updates: Updates) -> None:
        self._setting = setting
        self.site = site
        self._updates = updates
        self._clock = setting.server.context.clock
        self._started = self._clock.now()
        self._scope: anyio.CancelScope | None = None  # while it is carried through
        self._exchange: Exchange | None = None
        self._taken: Update | None = None
        self._failure: FlareError | None = None  # why the model could not be served to the site
        self.revoked = False

    async def run(self, scope: anyio.CancelScope) -> None:
        """Carry the lease through; waits for the site's work as long as its session lives.

        The round's deadline bounds it by ``revoke``, which cancels ``scope``, in which this runs;
        cancelling resets the channel. Whatever goes wrong with the site is recorded as the end of
        its part.

        Raises:
            TransferError: this side cannot stage or add the update, the site's or another one's.
        """
        if self.revoked:  # before its first step: nothing was offered yet
            return
        self._scope = scope
        try:
            await self._carry_through()
        finally:
            self._scope = None

    async def _carry_through(self) -> None:
        try:
            update = await self._ask()
            if self._taken is None and not self.revoked:
                self._updates.settle(self.site, self.arrive(update), update)
        except Exception as exc:  # noqa: BLE001 - one site must not end the round
            self._fell(exc)
        except BaseException:
            self._fell(self._failure)
            raise
        if self._taken is not None and not self.revoked:
            if self._setting.stepped is not None:
                await in_turns(self._setting.stepped.summing())
            self._updates.deliver(self._taken)

    def _fell(self, error: Exception | None) -> None:
        """Take note of what ended the lease, None if it was given up with the round."""
        if error is None or self.revoked:
            self._reset(ResetCode.CANCELLED, "the round ended")
        elif self._taken is None:
            self._lose(error)

    def commit(self) -> None:
        """Send the last receipt, if the update was taken and the site is still there."""
        if self._taken is not None:
            self._finish(KEPT_TO_THE_END)

    def revoke(self, reason: str) -> SiteRecord:
        """Take the task back; what ``run`` meets from now on is of no interest."""
        self.revoked = True
        if self._scope is not None:
            self._scope.cancel()
        self._reset(ResetCode.LATE, reason)
        return self._record(SiteStatus.LATE, reason=reason)

    # Holder

    def keep(self) -> None:
        """Take note that the site's update will be in a relay's sum, whatever becomes of it."""
        self._setting.offer.watchers.pop(self.site, None)

    def arrive(self, update: Update) -> SiteRecord:
        """Take note that the update is admitted; return how the site's part ended."""
        # No await between the admission and this: whoever closes the round finds it settled.
        self._taken = update
        if self._setting.task.keep_until == RECEIVED:
            self._finish(HERE)  # nothing said later would matter to the site
        elif self._exchange is not None and self._exchange.stream is not None:
            self._exchange.stream.tell(HERE)
        return self._record(SiteStatus.OK, update=update)

    async def _ask(self) -> Update:
        attempt, most = 0, self._setting.server.context.limits.max_resends
        lost: SourceLost | None = None  # explains more than how the site did not come back
        while True:
            session = self._session()
            exchange = self._exchange = Exchange(self._setting, self.site, attempt)
            try:
                return await self._served(exchange, session)
            except (LinkError, ChannelReset, SourceLost) as exc:
                lost = self._noted(exc) if isinstance(exc, SourceLost) else lost
                reason = exc if lost is None or isinstance(exc, ChannelReset) else lost
                if attempt >= most or not await self._may_ask_again(reason, session):
                    raise reason from reason.__cause__
                self._reset(ResetCode.CANCELLED, exc.code)
            attempt += 1

    def _noted(self, lost: SourceLost) -> SourceLost:
        facts = {"got": lost.got, "total": lost.total, "task": lost.task}
        log.warning("source_lost", site=lost.site, problem=str(lost.__cause__), **facts)
        return lost

    def _session(self) -> Session:
        session = self._setting.server.sites.get(self.site)
        if session is None:
            was = self.site in self._setting.server.directory.seen
            problem = "is not connected any more" if was else "is not connected"
            raise TrainingFailed(self.site, problem)
        return session

    async def _served(self, exchange: Exchange, session: Session) -> Update:
        # Whoever does not take the model need not be waited for; it may not even hear of it.
        watchers = self._setting.offer.watchers
        watchers[self.site] = self._unserved
        try:
            updates = self._updates
            return await exchange.run(session, updates.remaining, updates.partials, self)
        finally:
            watchers.pop(self.site, None)

    def _unserved(self, error: FlareError) -> None:
        self._failure = error
        if self._scope is not None:
            self._scope.cancel()

    async def _may_ask_again(self, error: FlareError, session: Session) -> bool:
        # A site that came back under a newer session gets the same task again.
        server = self._setting.server
        seconds = server.context.limits.handshake_timeout
        over: tuple[Session | None, ...] = ()
        if isinstance(error, SourceLost):
            # Its result was accepted: it is worth waiting for, and need not have left at all.
            if not session.ended and server.sites.get(self.site) is session:
                return not self.revoked
            seconds, over = patience(session), (session, None)
        elif isinstance(error, ChannelReset):
            if error.reset_code != ResetCode.UNREACHABLE:
                return False
            # A relay tells the channels of a site that is gone first, and where it is now next.
            over = (session,)
        elif is_route(session):
            # A relay that was started again is here before its sites are.
            over = (session, None)
        with anyio.move_on_after(seconds):
            while server.sites.get(self.site) in over:
                await server.directory.changed()
        newer = server.sites.get(self.site)
        return newer is not None and newer is not session and not self.revoked

    def _lose(self, error: Exception) -> None:
        match error:
            case UpdateRefused():
                self._finish(Receipt(REFUSED, shortened(error.problem, REASON_BYTES)))
                self._fail(SiteStatus.REFUSED, str(error), error.code)
            case TrainingFailed():
                self._finish(None)
                self._fail(SiteStatus.FAILED, error.problem, error.code)
            case RemoteProtocolError():
                self._reset(ResetCode.PROTOCOL, error.reason)
                self._fail(SiteStatus.FAILED, str(error), error.code)
            case SourceLost():
                self._reset(ResetCode.CANCELLED, error.code)
                self._fail(SiteStatus.FAILED, f"{error.code}: {error}", error.code)
            case FlareError():
                self._reset(ResetCode.INTERNAL, error.code)
                if type(error) is TransferError:
                    raise error  # what a site does wrong has a name of its own: this is our side
                self._fail(SiteStatus.FAILED, str(error), error.code)
            case _:
                log.error("lease_broke", site=self.site, error=described(error), at=where(error))
                self._reset(ResetCode.INTERNAL, "error")
                self._fail(SiteStatus.FAILED, described(error))

    def _fail(self, status: SiteStatus, reason: str, code: str = "") -> None:
        self._updates.settle(self.site, self._record(status, reason=reason, code=code), None)

    def _record(
        self, status: SiteStatus, *, reason: str = "", code: str = "", update: Update | None = None
    ) -> SiteRecord:
        return SiteRecord(
            site=self.site,
            status=status,
            started=self._started,
            ended=self._clock.now(),
            train_seconds=0.0 if update is None else update.seconds,
            weight=0.0 if update is None else update.weight,
            metrics={} if update is None else dict(update.metrics),
            reason=reason,
            bytes_down=self._bytes_down(update),
            bytes_up=0 if update is None else update.nbytes,
            code=code,
        )

    def _bytes_down(self, update: Update | None) -> int:
        offer = self._setting.offer
        behind = self._setting.server.directory.is_routed(self.site)
        if behind and update is not None:
            return offer.ref.nbytes  # a relay's pulls are not told apart by site
        return offer.served.get(self.site, 0)

    def _finish(self, receipt: Receipt | None) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is None or exchange.stream is None:
            return
        if exchange.stream.unread:
            exchange.stream.reset(ResetCode.PROTOCOL, "a message after the last one")
            return
        exchange.stream.finish(receipt)
        if not exchange.stream.channel.ended_there:
            self._setting.server.leftovers.add(exchange.stream.channel)

    def _reset(self, code: ResetCode, message: str) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None and exchange.stream is not None:
            exchange.stream.reset(code, message)


def is_route(session: object) -> bool:
    """Return whether what looks like a session is a way through a relay."""
    return isinstance(session, Route)


def patience(session: Session) -> float:
    """Return how long a site is waited for whose result was lost with its session.

    One that ended for want of a link has had its grace already.
    """
    via: Session = getattr(session, "via", session)
    had = isinstance(via.error, LinkLost) and not isinstance(via.error, Dismissed)
    return session.limits.handshake_timeout if had else session.limits.session_grace
