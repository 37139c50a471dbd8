"""What one fetch has asked for, and what it knows: shared by all its pulls."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import anyio

from flare_async.errors import AckStalled, ChannelReset, FlareError, OfferGone, OfferNotFound
from flare_async.net.backoff import Backoff
from flare_async.net.session import Session
from flare_async.transfer.pull import TensorRef
from flare_async.transfer.sink import (
    PressedSink,
    StoredSink,
    TensorSink,
    pressed_of,
    stored_of,
)
from flare_async.wire.frames import ResetCode

__all__ = ["FetchReport", "Fetching", "Retries", "is_stall", "translate"]

FIRST_PAUSE = 0.5  # seconds before the first try without progress, at most; it doubles


class FetchReport(NamedTuple):
    """What a fetch has brought, in bytes: in all, asked for, and asked for again.

    ``adopted_bytes`` were there already, or came by reference. ``repulled_chunks`` counts the
    chunks of a MiB that had arrived damaged. ``digests`` are those of the tensors that were
    verified, by name.
    """

    nbytes: int
    pulled_bytes: int
    adopted_bytes: int
    repulled_bytes: int
    repulled_chunks: int
    digests: dict[str, bytes]


@dataclass(slots=True)
class Fetching:
    """One fetch under way."""

    session: Session
    ref: TensorRef
    sink: TensorSink
    pressed: PressedSink | None = field(init=False)
    stored: StoredSink | None = field(init=False)
    pulled_bytes: int = 0
    adopted_bytes: int = 0
    repulled_bytes: int = 0
    repulled_chunks: int = 0
    digests: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pressed = pressed_of(self.sink)
        self.stored = stored_of(self.sink)

    def window(self, nbytes: int) -> int:
        """Return the credit for a pull: less while the sink is short of memory.

        What comes by reference comes at once, unless a disk must take it.
        """
        limits = self.session.limits
        if self.session.link.by_reference and self.stored is None:
            return max(nbytes, 1)
        if self.pressed is None:
            return limits.window_bytes
        return max(min(limits.frame_bytes, limits.window_bytes), self.credit(limits.window_bytes))

    def credit(self, nbytes: int) -> int:
        """Return how much of ``nbytes`` may be under way now."""
        return nbytes if self.pressed is None else self.pressed.credit(nbytes)

    def report(self, nbytes: int) -> FetchReport:
        """Return what was counted."""
        return FetchReport(
            nbytes,
            self.pulled_bytes,
            self.adopted_bytes,
            self.repulled_bytes,
            self.repulled_chunks,
            self.digests,
        )


class Retries:
    """Tries in a row without progress: at most ``max_resends``, with longer pauses each."""

    __slots__ = ("_backoff", "_most")

    def __init__(self, session: Session) -> None:
        self._most = session.limits.max_resends
        self._backoff = Backoff(session.random, "pull", session.limits.retry_cap, FIRST_PAUSE)

    async def pause(self, error: FlareError) -> None:
        """Wait before the next try, bounded by ``retry_cap``; raise ``error`` if there is none."""
        if self._backoff.tries >= self._most:
            raise error
        await anyio.sleep(self._backoff.pause())

    def moved(self) -> None:
        """Begin to count anew: something was to be had."""
        self._backoff.reset()


def is_stall(error: FlareError) -> bool:
    """Whether nothing moved; either side may be the first to find that."""
    if isinstance(error, ChannelReset):
        return error.reset_code == ResetCode.STALLED
    return isinstance(error, AckStalled)


def translate(error: ChannelReset) -> FlareError:
    """Return what a reset of a pull means."""
    if error.reset_code == ResetCode.GONE:
        return OfferGone(f"{error.peer}: {error.message}")
    if error.reset_code == ResetCode.NOT_FOUND:
        return OfferNotFound(f"{error.peer}: {error.message}")
    return error
