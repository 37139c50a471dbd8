"""The sum of one group in one round, as the server sees it: who is in it, and where it stands."""

from __future__ import annotations

from enum import Enum
from typing import cast

import anyio
import structlog

from flare_async.errors import FlareError, RemoteProtocolError, TransferError
from flare_async.net.callbacks import cancel_scope
from flare_async.net.endpoint import FIRST_WINDOW
from flare_async.net.messages import Messages
from flare_async.roles.claim import Claim, Ledger, error_of
from flare_async.roles.outcome import SiteRecord
from flare_async.roles.partial_messages import (
    PARTIAL_SCHEMA,
    PARTIAL_TASK_SCHEMA,
    PARTIAL_TOPIC,
    Added,
    Drop,
    Keep,
    PartialMessage,
    PartialReady,
    PartialTask,
    Pass,
    Taken,
    Underway,
    Untaken,
)
from flare_async.roles.partial_report import PartialReport
from flare_async.roles.setting import Group, RoundSetting, Update
from flare_async.roles.steps import in_turns
from flare_async.transfer.reducer import GroupReducer
from flare_async.wire.frames import ResetCode
from flare_async.wire.session import OpenOptions

__all__ = ["Partial"]

OVERTIME = 10  # the part of a round's time that its sums may take when the time is over
log = structlog.get_logger()


class _State(Enum):
    OPEN = "open"
    PASSING = "passing"
    DONE = "done"
    LOST = "lost"


class Partial:
    """A channel to a relay that adds a group; ``epoch`` fences it from earlier ones.

    What the relay has taken is kept when this side says so, and from then on it is in the sum, or
    the sum is lost as a whole. The sum enters the mean whole, and with it all of its sites.
    """

    def __init__(self, setting: RoundSetting, group: Group, epoch: int, ledger: Ledger) -> None:
        self._setting = setting
        self._group = group
        self._epoch = epoch
        self._ledger = ledger
        self._clock = setting.server.context.clock
        self._limits = setting.server.context.limits
        self._claims: dict[str, Claim] = {}
        self._state = _State.OPEN
        self._scope = cancel_scope()
        self._heard_at = 0.0  # since the sum was asked for
        self._report = PartialReport(epoch)
        self._messages: Messages[PartialMessage] | None = None
        self._open()

    @property
    def lost(self) -> bool:
        """Whether nothing that was kept will come."""
        return self._state is _State.LOST

    def takes(self, site: str) -> bool:
        """Return whether a site's update can still go this way."""
        return self._state is _State.OPEN and site not in self._claims

    async def bring(self, claim: Claim) -> bool:
        """Have a site's update taken, added and passed on; False says that the sum was lost.

        Waits for the rest of the group; the end of the round, or of the relay's session, ends it.
        Cancelling gives a sum up that keeps the update already.

        Raises:
            UpdateRefused: the relay found the update inadmissible.
            ChannelReset: the relay could not pull it.
        """
        self._claims[claim.take.site] = claim
        self._post(claim.take)
        try:
            await claim.over.wait()
        except BaseException:
            claim.over.set()  # it is not to be kept any more, whatever is on its way
            if claim.kept:
                self.give_up(f"{claim.take.site} was taken back")
            elif self._state is _State.OPEN:
                self._post(Drop(claim.take.site))
            raise
        if claim.error is not None:
            raise claim.error
        return claim.arrived

    def gather(self) -> None:
        """Ask for the sum of what is kept; in a round with a deadline it must be here in time.

        That is until the deadline, and longer by a tenth of it or ``stall_timeout``.
        """
        if self._state is _State.OPEN and self._kept():
            self._state = _State.PASSING
            self._heard_at = self._clock.now()
            deadline, remaining = self._setting.plan.deadline, self._ledger.remaining
            if deadline is not None and remaining is not None:
                overtime = max(self._limits.stall_timeout, deadline / OVERTIME)
                self._scope.deadline = self._heard_at + remaining + overtime
            self._post(Pass())

    def give_up(self, reason: str) -> None:
        """Lose the sum as a whole; harmless when it has come or is lost."""
        if self._state in {_State.OPEN, _State.PASSING}:
            self._state = _State.LOST
            self._scope.cancel()
            if self._messages is not None:
                self._messages.channel.reset(ResetCode.CANCELLED, reason)
            kept = tuple(self._kept())
            for claim in self._claims.values():
                claim.over.set()
            if kept:
                facts = {"relay": self._group.via.peer, "epoch": self._epoch, "sites": kept}
                log.warning("sum_lost", problem=reason, **facts)
                self._ledger.dropped(kept)

    async def run(self) -> None:
        """Talk to the relay until the sum has come or is lost.

        Waits as long as the relay's session lives; for the sum itself ``stall_timeout`` at a time,
        and while its bytes arrive.

        Raises:
            TransferError: this side cannot stage or read what it staged.
        """
        reason = "the round ended"
        try:
            with self._scope:
                await self._talk()
            if self._scope.cancelled_caught:
                reason = "its sum did not come in time"
        except FlareError as exc:
            reason = str(exc)
            if type(exc) is TransferError:
                raise  # what a relay does wrong has a name of its own: this is our side
        except anyio.EndOfStream:
            reason = f"{self._group.via.peer} ended it"
        finally:
            self.give_up(reason)

    def _open(self) -> None:
        task = self._setting.task
        header = PARTIAL_TASK_SCHEMA.encode(
            PartialTask(
                job=task.job,
                round_number=task.number,
                epoch=self._epoch,
                sites=self._group.sites,
                model=self._setting.offer.ref,
                rules=self._group.rules,
            )
        )
        options = OpenOptions(urgent=True, window=FIRST_WINDOW)
        try:
            channel = self._group.via.open(PARTIAL_TOPIC, header, options)
        except FlareError as exc:
            self.give_up(str(exc))
        else:
            self._messages = Messages(channel, PARTIAL_SCHEMA)

    def _post(self, message: PartialMessage) -> None:
        if self._messages is not None and self._messages.channel.is_open:
            try:
                self._messages.post(message)
            except FlareError as exc:
                self.give_up(str(exc))

    def _kept(self) -> dict[str, Claim]:
        return {site: claim for site, claim in self._claims.items() if claim.kept}

    async def _talk(self) -> None:
        while self._messages is not None and self._state in {_State.OPEN, _State.PASSING}:
            message: PartialMessage | None = None
            with anyio.move_on_after(self._limits.heartbeat_interval):
                message = await self._messages.receive()
            if message is None:
                self._look_round(self._limits.stall_timeout)
            elif isinstance(message, PartialReady):
                await self._ready(message)
            else:
                self._handle(message)

    def _handle(self, message: PartialMessage) -> None:
        match message:
            case Taken(site):
                self._taken(site)
            case Untaken():
                self._untaken(message)
            case Added() if self._state is _State.PASSING:
                self._report.note(message, len(self._kept()))
            case Underway() if self._state is _State.PASSING:
                self._heard_at = self._clock.now()
            case _:
                raise RemoteProtocolError("unexpected", type(message).__name__)

    def _look_round(self, patience: float) -> None:
        """Give up a relay that is silent when asked, or whose sites have come back elsewhere."""
        via = self._group.via
        late = self._state is _State.PASSING and self._clock.now() - self._heard_at > patience
        if late:
            self.give_up(f"{via.peer} has not passed its sum on for {patience:g} s")
        elif not via.attached:
            directory = self._setting.server.directory
            elsewhere = [
                site
                for site in self._kept()
                if site in directory.sites and directory.via(site) is not via
            ]
            if elsewhere:
                names = ", ".join(elsewhere)
                self.give_up(f"{via.peer} cannot be reached, and {names} came back elsewhere")

    def _taken(self, site: str) -> None:
        claim = self._claims.get(site)
        if claim is None or claim.kept:
            raise RemoteProtocolError("unexpected", f"an update of {site[:40]!a}")
        if self._state is _State.OPEN and not claim.holder.revoked and not claim.over.is_set():
            claim.kept = True
            self._post(Keep(site))
            claim.holder.keep()
            self._ledger.kept(site)

    def _untaken(self, message: Untaken) -> None:
        claim = self._claims.get(message.site)
        if claim is None or claim.kept:
            raise RemoteProtocolError("unexpected", f"trouble with {message.site[:40]!a}")
        claim.error = error_of(message, self._group.via.peer)
        claim.over.set()

    async def _ready(self, ready: PartialReady) -> None:
        self._check(ready)
        kept, server = self._kept(), self._setting.server
        shares = [claim.share for claim in kept.values()]
        reducer = cast("GroupReducer", self._setting.reducer)
        sink = reducer.stage_partial(shares)
        async with server.directory.gate(next(iter(kept))):
            await server.context.downloader.fetch(self._group.via, ready.update, sink)
        await in_turns(reducer.admitting_partial(shares))
        # No await from here on: whoever closes the round finds all of them settled, or none.
        self._state = _State.DONE
        arrived: dict[str, tuple[SiteRecord, Update]] = {}
        for site, claim in kept.items():
            claim.arrived = True
            arrived[site] = claim.holder.arrive(claim.update), claim.update
            claim.over.set()
        self._ledger.gathered(arrived)
        if self._messages is not None and self._messages.channel.is_open:
            self._messages.channel.end()

    def _check(self, ready: PartialReady) -> None:
        if self._state is not _State.PASSING:
            raise RemoteProtocolError("bad_partial", "a sum that was not asked for")
        kept = self._kept().items()
        self._report.check(
            ready, [(site, claim.take.attempt, claim.take.weight) for site, claim in kept]
        )
