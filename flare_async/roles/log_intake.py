"""The server's side of records: takes those of a job's sites, each once, at a bounded rate.

The server opens a channel to each site that has something to say, directly or through relays, and
opens another one when that is lost. It tells the site where to go on, so that nothing is taken
twice and nothing that the site still has is missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import anyio
import structlog

from flare_async.errors import ChannelReset, FlareError, RemoteProtocolError
from flare_async.limits import KIB, MIB
from flare_async.net.backoff import Backoff
from flare_async.net.callbacks import cancel_scope, start_soon
from flare_async.net.channel import Channel
from flare_async.net.messages import Messages
from flare_async.net.session import Session
from flare_async.roles.log_messages import (
    LOG_SCHEMA,
    LOG_TOPIC,
    SUBSCRIBE_SCHEMA,
    Batch,
    Logged,
    LogMessage,
    Subscribe,
    Taken,
    record_of,
)
from flare_async.roles.server import Server
from flare_async.roles.text import described, where
from flare_async.wire.frames import ResetCode
from flare_async.wire.session import OpenOptions

__all__ = ["LogIntake", "LogTaker"]

WINDOW: Final = 64 * KIB  # of a site's records under way: a batch is half of it
RATE_BYTES: Final = MIB  # a second, that a site may bring for long
LITTLE: Final = 16 * KIB  # a batch below that is no hurry
BATCHES: Final = 200  # of little, a second, from all sites: some percent of a core
LONGEST_WAIT: Final = 10.0  # seconds that such records may be behind
LAST_BATCHES: Final = 128  # after a job has ended; what a feed holds is a third of them
LONGEST_FEED: Final = 64
LONGEST_AGE: Final = 1e7  # seconds; NaN is no age either
log = structlog.get_logger()


class LogTaker(Protocol):
    """Gets the records of a job; what it raises ends the intake of that site."""

    async def take(self, site: str, records: Sequence[Logged], dropped: int) -> None:
        """Keep records; the site has lost ``dropped`` more since it was last heard."""


@dataclass(slots=True, eq=False)
class Source:
    """What is known of one site's feed, and the channel on which it comes."""

    site: str
    scope: anyio.CancelScope
    feed: bytes = b""
    through: int = 0
    dropped: int = 0
    last: int = 0  # batches since the job has ended
    complete: bool = False  # the job has ended, and the site has told everything
    channel: Channel | None = None
    pause: anyio.CancelScope | None = None  # what it waits for now, if that may be cut short

    def header(self, job: str) -> bytes:
        """Return what asks the site to go on."""
        return SUBSCRIBE_SCHEMA.encode(Subscribe(job, self.feed, self.through))


class LogIntake:
    """Takes the records of one job; its tasks belong to the server's context.

    ``want`` says which sites are asked. Leaving out ``finish`` loses what has not arrived yet.
    """

    def __init__(self, server: Server, job: str, taker: LogTaker) -> None:
        self._server = server
        self._job = job
        self._taker = taker
        self._sources: dict[str, Source] = {}
        self._finishing = False
        self._moved = anyio.Event()
        server.wants_logs[job] = self.want

    def want(self, site: str) -> None:
        """Take a site's records from now on; harmless more than once."""
        if site in self._sources or self._finishing:
            return
        source = self._sources[site] = Source(site, cancel_scope())
        start_soon(self._server.context.tasks, self._follow, source, name=f"records of {site}")

    async def finish(self) -> None:
        """Let every site send what it still has, then take no more.

        Gives up when nothing has moved for ``shutdown_timeout``, and after ``stall_timeout``
        whatever moves: a site that goes on talking holds up nobody. Cancelling gives up at once.
        """
        self._finishing = True
        self._server.wants_logs.pop(self._job, None)
        try:
            for source in list(self._sources.values()):
                self._ask_for_the_rest(source)
            await self._rest()
        finally:
            self.stop()

    def stop(self) -> None:
        """Take no more; harmless more than once."""
        self._finishing = True
        self._server.wants_logs.pop(self._job, None)
        for source in list(self._sources.values()):
            source.scope.cancel()

    async def _rest(self) -> None:
        limits = self._server.context.limits
        with anyio.move_on_after(limits.stall_timeout):
            while self._sources:
                with anyio.move_on_after(limits.shutdown_timeout) as waited:
                    await self._moved.wait()
                if waited.cancelled_caught:
                    break
        if self._sources:
            log.warning("records_given_up", job=self._job, sites=list(self._sources)[:10])

    def _ask_for_the_rest(self, source: Source) -> None:
        channel = source.channel
        if channel is not None and channel.is_open and not channel.ending:
            channel.end()
        if source.pause is not None:
            source.pause.cancel()

    async def _follow(self, source: Source) -> None:
        try:
            with source.scope:
                await self._keep_following(source)
        finally:
            self._sources.pop(source.site, None)
            self._tell_moved()

    async def _keep_following(self, source: Source) -> None:
        context = self._server.context
        backoff = Backoff(context.random, f"records of {source.site}", context.limits.retry_cap)
        refused: Session | None = None
        with self._pause(source):
            await anyio.sleep(self._time_for(0))
        while True:
            session, before = self._server.sites.get(source.site), source.through
            last = self._finishing
            usable = session is not None and session is not refused and not session.ended
            if session is not None and usable and not await self._take_from(session, source):
                refused = session
            if last or source.complete:
                return
            if source.through > before:
                backoff.reset()
            with self._pause(source):
                if usable:
                    await anyio.sleep(backoff.pause())
                else:
                    await self._server.directory.changed()

    def _time_for(self, nbytes: int) -> float:
        """Return how long a site that has brought so much waits until it is asked for more.

        One that has little to say gathers it meanwhile: a record of a thousand sites then costs a
        message every few seconds, not a message each. One with much is held to its rate.
        """
        if nbytes >= LITTLE:
            return (nbytes + KIB) / RATE_BYTES
        return min(len(self._server.sites) / BATCHES, LONGEST_WAIT)

    def _pause(self, source: Source) -> anyio.CancelScope:
        """Return the scope of a wait that ``finish`` cuts short."""
        scope = source.pause = anyio.CancelScope()
        if self._finishing:
            scope.cancel()
        return scope

    async def _take_from(self, session: Session, source: Source) -> bool:
        """Take records over one channel until it ends; return whether another one is of use."""
        try:
            options = OpenOptions(window=WINDOW, end=self._finishing)
            channel = session.open(LOG_TOPIC, source.header(self._job), options)
        except FlareError:
            return True
        source.channel = channel
        try:
            await self._listen(source, Messages(channel, LOG_SCHEMA))
        except RemoteProtocolError as exc:
            channel.reset(ResetCode.PROTOCOL, exc.reason)
            log.warning("records_refused", site=source.site, error=str(exc))
            return False
        except ChannelReset as exc:
            return exc.reset_code not in {ResetCode.REFUSED, ResetCode.PROTOCOL}
        except anyio.EndOfStream:
            source.complete = self._finishing
        except FlareError as exc:
            log.info("records_interrupted", site=source.site, error=str(exc))
        except Exception as exc:  # noqa: BLE001 - a taker that breaks must not end the server
            problem = described(exc)
            log.error("records_broke", site=source.site, error=problem, at=where(exc))  # noqa: TRY400
            return False
        finally:
            channel.reset(ResetCode.CANCELLED, "no more records are wanted")
            source.channel = None
        return True

    async def _listen(self, source: Source, messages: Messages[LogMessage]) -> None:
        channel = messages.channel
        while True:
            consumed = channel.statistics().consumed if channel.is_open else 0
            batch = await messages.receive()
            if not isinstance(batch, Batch) or len(batch.feed) > LONGEST_FEED:
                raise RemoteProtocolError("unexpected", type(batch).__name__)
            await self._take(source, batch)
            self._tell_moved()
            if self._finishing:
                source.last += 1
                if source.last > LAST_BATCHES:
                    raise RemoteProtocolError("too_many_records", f"{source.last} last batches")
                continue
            nbytes = channel.statistics().consumed - consumed if channel.is_open else 0
            with self._pause(source):
                await anyio.sleep(self._time_for(nbytes))
            if channel.is_open and not channel.ending:
                messages.post(Taken(source.through))

    async def _take(self, source: Source, batch: Batch) -> None:
        if batch.feed != source.feed:  # the site has begun anew
            source.feed, source.through, source.dropped = batch.feed, 0, 0
        records, through = self._records(source, batch)
        lost = max(0, batch.dropped - source.dropped)
        if records or lost:
            await self._taker.take(source.site, records, lost)
        source.through, source.dropped = through, source.dropped + lost

    def _records(self, source: Source, batch: Batch) -> tuple[list[Logged], int]:
        """Return those of a batch that are new, and the number of the last one."""
        context, through = self._server.context, source.through
        now, found = context.clock.now(), []
        for entry in batch.entries:
            if entry.number <= through:
                continue
            through = entry.number
            record = record_of(entry, context.limits)
            age = entry.age if 0 < entry.age < LONGEST_AGE else 0.0
            found.append(Logged(source.site, entry.round_number, now - age, record))
        return found, through

    def _tell_moved(self) -> None:
        moved, self._moved = self._moved, anyio.Event()
        moved.set()
