"""Two channels made one: what arrives on either leaves on the other, by reference.

A splice holds no bytes of its own. What has arrived counts as consumed when the far reader has
acknowledged it, so the credit that this process grants is all that it ever holds, whatever passes.
Ends travel with their trailers, those of messages in the frame of the last bytes, resets with
code and message. A splice is two channels and nothing else: either session may lose and resume its
link meanwhile.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final, TypeAlias

from flare_async.errors import (
    AckStalled,
    BelowMinRate,
    ChannelReset,
    FlareError,
    LinkError,
    RemoteProtocolError,
)
from flare_async.net.basin import LONG_FRAME, Basin
from flare_async.net.buffers import Buffers
from flare_async.net.channel import Channel
from flare_async.net.inflow import Chunk
from flare_async.wire.frames import ResetCode

__all__ = ["Splice", "reset_of"]

OnOver: TypeAlias = Callable[[FlareError | None], None]
_CODES: Final = frozenset(int(code) for code in ResetCode)


class Splice:
    """Joins ``here``, which a peer opened, to ``there``, which goes on; ends when both are over.

    ``there`` may come later (``join``): nothing is lost meanwhile. ``on_over`` is called once, with
    the error that ended either side, or None after an orderly end; it must not block.
    """

    __slots__ = ("_basin", "_error", "_left", "_on_over", "here", "there")

    def __init__(self, here: Channel, on_over: OnOver | None = None) -> None:
        self.here = here
        self.there: Channel | None = None
        self._on_over = on_over
        self._basin: Basin | None = None
        self._error: FlareError | None = None
        self._left = 1
        here.on_over = self._over

    def join(self, there: Channel, *, leased: bool = False, buffers: Buffers | None = None) -> None:
        """Let everything pass from now on.

        With ``leased`` what ``there`` brings has been counted as consumed already: references to
        memory that others hold. With ``buffers`` long frames of ``there`` are read into those.
        """
        self.there = there
        self._left += 1
        there.on_over = self._over
        up, down = Half(self.here, there), Half(there, self.here, leased=leased)
        if buffers is not None and not there.session.link.by_reference:
            down.basin = self._basin = Basin(buffers)
        up.back, down.back = down, up
        there.pass_to(down)
        self.here.pass_to(up)

    def reset(self, code: ResetCode, message: str) -> None:
        """Give both sides up; harmless when they are over."""
        self.here.reset(code, message)
        if self.there is not None:
            self.there.reset(code, message)

    def _over(self, channel: Channel) -> None:
        self._left -= 1
        channel.pass_nowhere()
        if channel.failed is not None:
            self._error = self._error or channel.failed
            self.reset(*reset_of(self._error))
        if not self._left and self._error is None and self._basin is not None:
            self._basin.acknowledged(sys.maxsize)  # after a reset a link may still read from it
        if not self._left and self._on_over is not None:
            on_over, self._on_over = self._on_over, None
            on_over(self._error)


class Half:
    """One direction of a splice: what ``source`` brings leaves on ``target``."""

    __slots__ = ("_consumed", "_given", "_last", "_leased", "_source", "_target", "back", "basin")

    def __init__(self, source: Channel, target: Channel, *, leased: bool = False) -> None:
        self._source = source
        self._target = target
        self._leased = leased
        self._given = 0
        self._consumed = 0
        self._last: Chunk | None = None  # behind which the end follows at once
        self.back: Half | None = None
        self.basin: Basin | None = None

    def room(self, offset: int, length: int) -> memoryview | None:
        """Offer a buffer for a long frame; others come in buffers of the link's."""
        return None if self.basin is None else self.basin.room(offset, length)

    def landed(self, offset: int, length: int) -> None:
        """Send on what was read into buffers."""
        if self.basin is not None:
            for part in self.basin.parts(offset, length):
                self.take(offset, part)

    def take(self, offset: int, payload: Chunk) -> None:
        """Send on what arrived; the target's credit decides when it leaves."""
        if not self._target.is_open:  # the source is being reset
            return
        self._given += len(payload)
        if self._last is not None:
            self._target.send_soon(self._last)
            self._last = None
        # The last bytes of a long stream may have landed in a buffer: their end comes by itself.
        if self._given < LONG_FRAME and self._source.session.machine.peer_ended(self._source.id):
            self._last = payload
        else:
            self._target.send_soon(payload)

    def ended(self, trailer: bytes) -> None:
        """End the target behind all that was taken."""
        last, self._last = self._last, None
        if not self._target.is_open or self._target.ending:
            return
        if last is None:
            self._target.end(trailer)
        else:
            self._target.send_last(last, trailer)

    def credited(self) -> None:
        """Take note that the peer of ``source`` has acknowledged what came from the other side."""
        if self.back is not None:
            self.back.acknowledged()

    def acknowledged(self) -> None:
        """Consume at the source what the target's peer has consumed."""
        consumed = self._target.session.machine.acknowledged(self._target.id)
        total = self._given if consumed is None else consumed
        fresh, self._consumed = total - self._consumed, total
        if self.basin is not None:
            self.basin.acknowledged(total)
        if fresh > 0 and not self._leased:
            self._source.session.consumed(self._source.id, fresh)


def reset_of(error: FlareError) -> tuple[ResetCode, str]:
    """Return the code and message by which the far side learns of an error."""
    match error:
        case ChannelReset():
            known = error.reset_code in _CODES
            return ResetCode(error.reset_code) if known else ResetCode.INTERNAL, error.message
        case AckStalled():
            return ResetCode.STALLED, str(error)
        case BelowMinRate():
            return ResetCode.TOO_SLOW, str(error)
        case RemoteProtocolError():
            return ResetCode.PROTOCOL, error.reason
        case LinkError():
            return ResetCode.UNREACHABLE, str(error)
        case _:
            return ResetCode.INTERNAL, error.code
