"""When bytes last came: on one channel, and on the session that carries it."""

from __future__ import annotations

import asyncio
import math

from flare_async.limits import Limits

__all__ = ["Arrival", "Debt", "Flow"]

OWN_PATIENCES = 4  # how long others' bytes may pass a channel by, in stall timeouts
PASSED_LINKS = 4  # and how many of them, in ``link_bytes``: turns on a slow link come seldom


class Flow:
    """The bulk bytes that a session has received: how many, and when the last ones came.

    ``resumed`` is when the session got its latest link, its number ``links``. Without a link it
    lies infinitely far ahead: nobody is stalled then, and ``session_grace`` bounds the wait for the
    next link instead. ``credits`` counts the acknowledgements that advanced, ``acknowledged`` their
    bytes (only where ``min_rate`` asks for it). ``senders`` wait until what they sent has left, by
    the numbers of their channels.
    """

    __slots__ = (
        "acknowledged",
        "at",
        "credits",
        "links",
        "longest",
        "most_passed",
        "nbytes",
        "patience",
        "resumed",
        "senders",
    )

    def __init__(self, now: float, limits: Limits) -> None:
        self.at = self.resumed = now
        self.nbytes = 0
        self.credits = 0
        self.acknowledged = 0
        self.links = 0
        self.senders: dict[int, asyncio.Future[None]] | None = None
        self.patience = (OWN_PATIENCES - 1) * limits.stall_timeout
        self.longest = limits.session_grace + self.patience
        self.most_passed = PASSED_LINKS * limits.link_bytes

    @property
    def moved(self) -> int:
        """A number that grows whenever something moves, either way."""
        return self.nbytes + self.credits

    def feed(self, now: float, nbytes: int) -> None:
        """Take note of ``nbytes``; none, if a part of a frame came."""
        self.at = now
        self.nbytes += nbytes

    def detached(self) -> None:
        """Take note that there is no link."""
        self.resumed = math.inf

    def attached(self, now: float) -> None:
        """Take note of another link."""
        self.resumed = now
        self.links += 1

    def patient_since(self, moved: float) -> float:
        """Return since when patience runs with what last moved at ``moved``.

        Each link begins it anew: what was lost with the last one must be sent again. But a path on
        which links are made and nothing else passes must not be waited for without end, so that is
        over when an outage of ``session_grace`` and some patience have gone by without a byte.
        """
        if self.resumed == math.inf:
            return math.inf
        return max(moved, min(self.resumed, moved + self.longest))


class Arrival:
    """When the bytes of one channel last came, or those of others that are ahead of it.

    A channel whose turn comes seldom, because its link is slow, is not stalled while the link
    moves. But what others receive must not hide for ever that nothing is sent on this channel: a
    channel that gets no byte of its own for four times ``stall_timeout``, while four times
    ``link_bytes`` pass it by, counts as one that has not moved.
    """

    __slots__ = ("_flow", "_own", "_passed")

    def __init__(self, now: float, flow: Flow) -> None:
        self._flow = flow
        self._own = now
        self._passed = flow.nbytes

    def feed(self, now: float) -> None:
        """Take note of bytes of the channel's own."""
        self._own = now
        self._passed = self._flow.nbytes

    @property
    def at(self) -> float:
        """When the channel was last seen to move; this is what a watchdog watches."""
        flow, own = self._flow, self._own
        silent = flow.at - own > flow.patience and flow.nbytes - self._passed > flow.most_passed
        return flow.patient_since(own + flow.patience if silent else max(own, flow.at))


class Debt:
    """Since when a peer has owed an acknowledgement on one channel, as a watchdog watches it."""

    __slots__ = ("_acknowledged", "_credits", "_flow", "_links", "since")

    def __init__(self, now: float, flow: Flow) -> None:
        self._flow = flow
        self._begin(now)

    @property
    def at(self) -> float:
        """When the debt began, or the link on which it can be paid."""
        return self._flow.patient_since(self.since)

    def excuse(self, busy: float) -> bool:
        """Say that our own link was busy until ``busy``; False when that is no excuse any more.

        A link that takes no byte is given up. When that has happened and nothing at all is
        acknowledged on the next ones either, it is the peer again who owes.
        """
        flow = self._flow
        if self._links == flow.links or self._credits != flow.credits:
            self._begin(busy)
        return busy - self.since < flow.longest

    def rate(self, seconds: float) -> float:
        """Return how many bytes a second the session's peer has acknowledged since it began."""
        return (self._flow.acknowledged - self._acknowledged) / seconds

    def _begin(self, since: float) -> None:
        self.since = since
        self._credits = self._flow.credits
        self._links = self._flow.links
        self._acknowledged = self._flow.acknowledged
