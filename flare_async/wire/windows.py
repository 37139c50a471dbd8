"""Credit in bytes: what a side may send, and what it has promised to take."""

from __future__ import annotations

from flare_async.errors import LocalProtocolError, RemoteProtocolError
from flare_async.limits import KIB
from flare_async.wire.head import OFFSET_LIMIT

__all__ = [
    "ACK_SECONDS",
    "CARRYING",
    "FIRST_WINDOW",
    "CreditBudget",
    "ReceiveWindow",
    "SendWindow",
]

ACK_SECONDS = 1.0
FIRST_WINDOW = 8 * KIB  # what a channel may bring before its receiver has consumed anything
CARRYING = 8  # channels of a session on which tensors may wait beside messages
_GRAIN = 4 * KIB  # shares of a budget below this would make frames not worth their heads


class CreditBudget:
    """Bytes of credit that several windows share, within a parent's budget if there is one.

    It is for windows that grow. What a channel begins with is not taken from it, so that readers
    who stand still, and hold all of it, cannot keep anybody else from being heard. ``peak`` is the
    most that was taken at a time.
    """

    __slots__ = ("_parent", "_taken", "peak", "total")

    def __init__(self, total: int, parent: CreditBudget | None = None) -> None:
        self.total = total
        self.peak = 0
        self._parent = parent
        self._taken = 0

    @property
    def available(self) -> int:
        """Bytes that ``take`` would grant."""
        own = self.total - self._taken
        return own if self._parent is None else min(own, self._parent.available)

    def take(self, wanted: int) -> int:
        """Take up to ``wanted`` bytes; return how many there were.

        Raises:
            LocalProtocolError: a negative number.
        """
        if wanted < 0:
            raise LocalProtocolError(f"{wanted} bytes of credit wanted")
        granted = min(wanted, self.total - self._taken)
        if self._parent is not None:
            granted = self._parent.take(granted)
        self._taken += granted
        self.peak = max(self.peak, self._taken)
        return granted

    def give(self, nbytes: int) -> None:
        """Give bytes back.

        Raises:
            LocalProtocolError: more than was taken.
        """
        if not 0 <= nbytes <= self._taken:
            raise LocalProtocolError(f"{nbytes} bytes of credit given back, {self._taken} taken")
        self._taken -= nbytes
        if self._parent is not None:
            self._parent.give(nbytes)

    def spares(self, nbytes: int) -> bool:
        """Whether half of the budget is left when ``nbytes`` more are taken, the parent's too."""
        if self.total - self._taken - nbytes < self.total // 2:
            return False
        return self._parent is None or self._parent.spares(nbytes)

    def fair(self, wanted: int) -> int:
        """Return the part of ``wanted`` to take: at most half of what is left, and no crumbs.

        So windows that grow always leave something for the next one.
        """
        part = min(wanted, self.available // 2)
        return part if part >= min(wanted, _GRAIN) else 0


class SendWindow:
    """The sender's side of one direction: bytes sent, bytes consumed by the peer, the limit."""

    __slots__ = ("acknowledged", "limit", "sent")

    def __init__(self, initial: int) -> None:
        self.sent = 0
        self.acknowledged = 0
        self.limit = initial

    @property
    def available(self) -> int:
        """Bytes that may be sent now."""
        return self.limit - self.sent

    def spend(self, nbytes: int) -> None:
        """Count bytes as sent.

        Raises:
            LocalProtocolError: beyond the limit.
        """
        if not 0 <= nbytes <= self.limit - self.sent:
            raise LocalProtocolError(f"{nbytes} bytes to send, credit for {self.available}")
        self.sent += nbytes

    def acknowledge(self, consumed: int, limit: int) -> bool:
        """Take the peer's positions; return whether either of them advanced.

        Raises:
            RemoteProtocolError: consumed went back or beyond what was sent, or limit shrank.
        """
        if not self.acknowledged <= consumed <= self.sent:
            raise RemoteProtocolError(
                "bad_ack",
                f"{consumed} bytes consumed, {self.acknowledged} before, {self.sent} sent",
            )
        if not self.limit <= limit <= OFFSET_LIMIT:
            raise RemoteProtocolError("bad_ack", f"limit {limit}, {self.limit} before")
        advanced = consumed > self.acknowledged or limit > self.limit
        self.acknowledged = consumed
        self.limit = limit
        return advanced


class ReceiveWindow:
    """The receiver's side of one direction; what it grows by is taken from a budget, if any."""

    __slots__ = (
        "_acked",
        "_acked_at",
        "_budget",
        "_held",
        "_leased",
        "_size",
        "consumed",
        "first",
        "full",
        "limit",
        "received",
        "total",
    )

    def __init__(self, initial: int, full: int, budget: CreditBudget | None) -> None:
        self._budget = budget
        self._size = initial
        self._held = 0
        self._leased = False
        self.full = full
        self._acked = 0
        self._acked_at: float | None = None
        self.received = 0
        self.consumed = 0
        self.limit = self.first = self._size  # what the sender knows without any Ack
        self.total = OFFSET_LIMIT  # bytes that may come in all, where memory for no more is leased

    @property
    def moved(self) -> bool:
        """Whether the sender must be told what it cannot know from the opening of the channel.

        Never of a window without any credit: its limit would look like that of a final Ack. But
        of one that was consumed to its limit: the Ack that raises it is what was lost.
        """
        return self.consumed > 0 or self.limit > self.first

    def arrive(self, offset: int, nbytes: int) -> None:
        """Count bytes that arrived.

        Raises:
            RemoteProtocolError: not at the next offset, or beyond the limit.
        """
        if offset != self.received:
            raise RemoteProtocolError(
                "bad_offset", f"data at offset {offset}, {self.received} bytes received"
            )
        if offset + nbytes > self.limit:
            raise RemoteProtocolError(
                "window_exceeded", f"data up to {offset + nbytes}, the limit is {self.limit}"
            )
        self.received = offset + nbytes

    def consume(self, nbytes: int, now: float) -> bool:
        """Count bytes as consumed; return whether an acknowledgement is due.

        It is after a quarter of the window, or a second after the one before.

        Raises:
            LocalProtocolError: more than was received.
        """
        if not 0 <= nbytes <= self.received - self.consumed:
            raise LocalProtocolError(
                f"{nbytes} bytes consumed, {self.received - self.consumed} are there"
            )
        self.consumed += nbytes
        if self._acked_at is None:
            self._acked_at = now
        fresh = self.consumed - self._acked
        late = fresh > 0 and now - self._acked_at >= ACK_SECONDS
        if not late and fresh < max(1, self._size // 4):
            return False
        self._acked_at = now
        return True

    @property
    def ample(self) -> bool:
        """Whether what the sender has left is enough for messages, before it is told of more."""
        return self.limit - self.consumed > FIRST_WINDOW - FIRST_WINDOW // 4

    def grow(self) -> None:
        """Draw credit towards the full size, as far as the budget allows."""
        missing = self.full - self._size
        if missing > 0:
            self._size += self._draw(missing)

    def widen(self) -> None:
        """Grow before the peer is told any limit: an Open will tell it."""
        self.grow()
        self.limit = self.first = self._size

    def ack(self) -> tuple[int, int]:
        """Return (consumed, limit) for an acknowledgement; the window grows as the budget allows.

        The limit never goes back: what was granted once may be on its way already. It stays one
        byte above the total: a peer that has too much shows it at once instead of waiting, and the
        limit that is the total itself is left for the end.
        """
        self.grow()
        self._acked = self.consumed
        self.limit = max(self.limit, min(self.consumed + self._size, self.total + 1))
        return self.consumed, self.limit

    def lease(self, total: int | None = None) -> None:
        """Draw no more credit from the budget: what arrives from now on lands in leased memory.

        ``total`` is how many bytes of the stream it holds. Credit for bytes that are still unread
        stays taken until ``finish``.
        """
        if total is not None:
            self.total = total
        unread = self.received - self.consumed
        if self._budget is not None and self._held > unread:
            self._budget.give(self._held - unread)
            self._held = unread
        self._leased = True

    def finish(self) -> None:
        """Return all credit to the budget; harmless when done before."""
        if self._budget is not None and self._held:
            self._budget.give(self._held)
            self._held = 0

    def _draw(self, missing: int) -> int:
        if self._budget is None or self._leased:
            return missing
        drawn = self._budget.take(self._budget.fair(missing))
        self._held += drawn
        return drawn
