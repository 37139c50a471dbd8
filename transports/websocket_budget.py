"""How often a peer may send frames of a WebSocket that cost it next to nothing.

What sessions may do has budgets of its own (``wire.budgets``), but a ping, an empty message or a
message in splinters never reaches a session. Each costs up to 6 us here and 6 bytes there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from flare_async.errors import RemoteProtocolError
from flare_async.transports.websocket_frames import FrameHead
from flare_async.wire.codec import HEAD_BYTES

__all__ = ["SMALL_BYTES", "FrameBudget"]

SMALL_BYTES: Final = 512  # a shorter part costs its receiver more than its sender


@dataclass(frozen=True, slots=True)
class _Rule:
    """At most ``burst`` at once, then ``rate`` a second."""

    name: str
    burst: int
    rate: int


# Ours sends none; what stands in between asks whether we live, every few seconds. 20 a second is
# what a session may ask as well.
_CONTROL: Final = _Rule("pings and pongs", 200, 20)
# Each of our messages has at least one whole head of a frame of ours. A proxy that cuts messages
# anew leaves at most one such rest of each, and a message of a link that is busy has a MiB. At this
# rate they cost below a hundredth of a core.
_SPLINTERS: Final = _Rule(f"messages and parts below {HEAD_BYTES} bytes", 4_000, 1_000)
# As many as a session allows of the data frames that would fit in.
_SMALL: Final = _Rule(f"messages and parts below {SMALL_BYTES} bytes", 200_000, 20_000)


class FrameBudget:
    """What is left to the peer of one link; a frame of 512 bytes and more costs nothing."""

    __slots__ = ("_control", "_small", "_splinters")

    def __init__(self, now: Callable[[], float]) -> None:
        self._control = _Bucket(_CONTROL, now)
        self._splinters = _Bucket(_SPLINTERS, now)
        self._small = _Bucket(_SMALL, now)

    def spend(self, head: FrameHead) -> None:
        """Count a frame.

        Raises:
            RemoteProtocolError: too often (``flood``).
        """
        if head.is_control:
            self._control.take()
        elif head.length < HEAD_BYTES:
            self._splinters.take()
        elif head.length < SMALL_BYTES:
            self._small.take()


class _Bucket:
    """Filled by the time that passes, but only when it is found empty."""

    __slots__ = ("_left", "_now", "_rule", "_since")

    def __init__(self, rule: _Rule, now: Callable[[], float]) -> None:
        self._rule = rule
        self._now = now
        self._left = rule.burst
        self._since = now()  # when it was filled

    def take(self) -> None:
        if not self._left:
            self._fill()
        self._left -= 1

    def _fill(self) -> None:
        rule, now = self._rule, self._now()
        earned = int(rule.rate * (now - self._since))
        if not earned:
            raise RemoteProtocolError(
                "flood", f"{rule.name}: at most {rule.burst} at once and {rule.rate} a second"
            )
        self._since = now
        self._left = min(earned, rule.burst)
