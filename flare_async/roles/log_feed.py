"""A site's records on their way to its server: a bounded buffer, sent in batches, kept until taken.

One batch is under way at a time, and the next one leaves when the server has taken it; what is
logged meanwhile waits here. Where that is more than the buffer holds, the oldest records go and
are counted. The channel is the server's: a feed without one only waits, and a new one of the same
job goes on after the last record that the server has.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Final

import anyio
import structlog

from flare_async.errors import FlareError, RemoteProtocolError
from flare_async.limits import KIB, MIB, Limits
from flare_async.net.channel import Channel
from flare_async.net.messages import Messages
from flare_async.ports import Clock, Random
from flare_async.roles.log_messages import (
    LOG_SCHEMA,
    SUBSCRIBE_SCHEMA,
    Batch,
    Entry,
    LogMessage,
    Subscribe,
    Taken,
    entry_of,
    record_of,
)
from flare_async.roles.log_record import LogRecord
from flare_async.wire.frames import ResetCode
from flare_async.wire.packing import pack

__all__ = ["FEED_BYTES", "LogFeed"]

FEED_BYTES: Final = MIB  # of records that wait, a site: about 6,000 numbers
OVERHEAD: Final = 128  # what keeping a record costs beside its bytes
BATCH_BYTES: Final = 32 * KIB  # half of a control message, so that the rest always fits
ENTRY_ITEMS: Final = 10  # values of an entry without its extra words
ENTRY_BYTES: Final = 40  # of an entry beside its words: number, round, age
JOBS: Final = 16  # whose lost records are counted
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Kept:
    """A record that waits: for which job, since when, and what it takes on the wire."""

    job: str
    at: float
    entry: Entry
    nbytes: int

    @property
    def items(self) -> int:
        """How many values it adds to a message."""
        return ENTRY_ITEMS + 2 * len(self.entry.extra)


class LogFeed:
    """The records of one site; lives on the loop of its client, as long as that client."""

    __slots__ = (
        "_batch_bytes",
        "_batch_items",
        "_clock",
        "_dropped",
        "_kept",
        "_limits",
        "_nbytes",
        "_next",
        "_random",
        "_room",
        "_subscription",
        "_token",
    )

    def __init__(
        self, clock: Clock, random: Random, limits: Limits, nbytes: int = FEED_BYTES
    ) -> None:
        self._clock = clock
        self._limits = limits
        self._room = nbytes
        self._batch_bytes = min(BATCH_BYTES, limits.control_bytes // 2)
        self._batch_items = limits.control_items // 2
        self._random = random
        self._token = b""  # drawn for the first record
        self._next = 1
        self._kept: deque[Kept] | None = None  # most sites never log
        self._nbytes = 0
        self._dropped: dict[str, int] = {}  # by job
        self._subscription: Subscription | None = None

    @property
    def waiting(self) -> bool:
        """Whether there are records that the server has not taken, or does not know are lost."""
        return bool(self._kept or self._dropped)

    @property
    def dropped(self) -> int:
        """How many records found no room, or could not travel."""
        return sum(self._dropped.values())

    def add(self, record: LogRecord, job: str, round_number: int) -> None:
        """Keep a record and send it when it is its turn; never waits and never fails.

        What cannot travel, and the oldest where there is no room, is dropped and counted.
        """
        kept = self._keep(record, job, round_number)
        if kept is None:
            return
        self._next += 1
        if self._kept is None:
            self._kept = deque()
        self._kept.append(kept)
        self._nbytes += kept.nbytes + OVERHEAD
        while self._nbytes > self._room:
            oldest = self._kept.popleft()
            self._nbytes -= oldest.nbytes + OVERHEAD
            self._count_dropped(oldest.job)
        if self._subscription is not None:
            self._subscription.push()

    def _keep(self, record: LogRecord, job: str, round_number: int) -> Kept | None:
        self._token = self._token or self._random.token(8)
        try:
            entry = entry_of(record, self._next, round_number)
            record_of(entry, self._limits)  # one that the server refuses would end all the others
            words = (entry.key, entry.value, entry.kind, entry.step, dict(entry.extra))
            nbytes = len(pack(words)) + ENTRY_BYTES
        except (FlareError, TypeError, ValueError, RecursionError) as exc:
            self._refuse(record, job, str(exc))
            return None
        kept = Kept(job, self._clock.now(), entry, nbytes)
        if nbytes > self._batch_bytes or kept.items > self._batch_items:
            self._refuse(record, job, f"{nbytes} bytes, at most {self._batch_bytes}")
            return None
        return kept

    def _refuse(self, record: LogRecord, job: str, problem: str) -> None:
        self._count_dropped(job)
        count = self._dropped[job]
        if count & (count - 1) == 0:  # 1, 2, 4, ...: a script may log in a loop
            key = str(record.key)[:80]
            log.warning("record_dropped", key=key, problem=problem[:200], dropped=count)

    def _count_dropped(self, job: str) -> None:
        self._dropped[job] = self._dropped.get(job, 0) + 1
        if len(self._dropped) > JOBS:
            del self._dropped[next(iter(self._dropped))]

    async def serve(self, channel: Channel) -> None:
        """Answer a server that wants the records of a job, until it wants no more.

        Waits as long as the channel is open; a newer channel takes its place. Cancelling gives the
        channel up, and keeps the records.
        """
        try:
            wanted = SUBSCRIBE_SCHEMA.decode(channel.header, self._limits)
            subscription = Subscription(self, channel, wanted)
            former, self._subscription = self._subscription, subscription
            if former is not None:
                former.channel.reset(ResetCode.LATE, "another channel took its place")
            await subscription.run()
        except RemoteProtocolError as exc:
            channel.reset(ResetCode.PROTOCOL, exc.reason)
        except FlareError as exc:
            log.info("log_feed_ended", peer=channel.peer, error=str(exc))
        finally:
            if not channel.ending:
                channel.reset(ResetCode.CANCELLED, "the site stops")
            if self._subscription is not None and self._subscription.channel is channel:
                self._subscription = None

    # For the subscription

    def start_after(self, wanted: Subscribe) -> int:
        """Return the number up to which that server has the records of this feed."""
        return wanted.after if wanted.feed == self._token else 0

    def batch(self, job: str, after: int) -> Batch | None:
        """Return the next records of a job, as many as fit; None where there are none."""
        now, chosen, nbytes, items = self._clock.now(), list[Entry](), 0, 0
        for kept in self._kept or ():
            if kept.job != job or kept.entry.number <= after:
                continue
            nbytes, items = nbytes + kept.nbytes, items + kept.items
            if chosen and (nbytes > self._batch_bytes or items > self._batch_items):
                break
            chosen.append(replace(kept.entry, age=max(0.0, now - kept.at)))
        return Batch(self._token, self._dropped.get(job, 0), tuple(chosen)) if chosen else None

    def last_word(self, job: str) -> Batch:
        """Return a batch without records, which says how many of a job's were dropped."""
        return Batch(self._token, self._dropped.get(job, 0), ())

    def forget(self, job: str, through: int) -> None:
        """Let go of what the server has taken."""
        kept = deque(
            one for one in self._kept or () if one.job != job or one.entry.number > through
        )
        self._kept = kept or None
        self._nbytes = sum(one.nbytes + OVERHEAD for one in kept)


class Subscription:
    """One channel on which a server takes the records of one job."""

    __slots__ = ("_busy", "_feed", "_job", "_messages", "_sent", "channel")

    def __init__(self, feed: LogFeed, channel: Channel, wanted: Subscribe) -> None:
        self.channel = channel
        self._messages: Messages[LogMessage] = Messages(channel, LOG_SCHEMA)
        self._feed = feed
        self._job = wanted.job
        self._sent = feed.start_after(wanted)
        self._busy = False  # a batch is under way

    async def run(self) -> None:
        """Send until the server ends its direction, then what is left, and end."""
        self._feed.forget(self._job, self._sent)
        self.push()
        try:
            while True:
                match await self._messages.receive():
                    case Taken(through) if through <= self._sent:
                        self._feed.forget(self._job, through)
                        self._busy = False
                        self.push()
                    case message:
                        raise RemoteProtocolError("unexpected", type(message).__name__)
        except anyio.EndOfStream:
            self._finish()

    def push(self) -> None:
        """Send the next batch unless one is under way; never raises."""
        if self._busy or not self.channel.is_open or self.channel.ending:
            return
        batch = self._feed.batch(self._job, self._sent)
        if batch is None:
            return
        try:
            self._post(batch)
        except FlareError as exc:
            self.channel.reset(ResetCode.INTERNAL, exc.code)
        self._busy = True

    def _finish(self) -> None:
        while (batch := self._feed.batch(self._job, self._sent)) is not None:
            self._post(batch)
        self._messages.post(self._feed.last_word(self._job))
        self.channel.end()

    def _post(self, batch: Batch) -> None:
        self._sent = batch.entries[-1].number
        self._messages.post(batch)
