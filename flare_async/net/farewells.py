"""What was said to peers that had no link to hear it by: repeated when they come back."""

from __future__ import annotations

from collections import OrderedDict

from flare_async.net.endpoint import Endpoint
from flare_async.wire.frames import ResetCode

__all__ = ["Farewells"]

KEPT = 1024


class Farewells:
    """The last words of sessions that ended without a link, for ``session_grace`` seconds.

    At most ``KEPT`` of them: who comes later learns only that the session is gone.
    """

    __slots__ = ("_clock", "_grace", "_words")

    def __init__(self, endpoint: Endpoint) -> None:
        self._clock = endpoint.clock
        self._grace = endpoint.limits.session_grace
        self._words: OrderedDict[bytes, tuple[float, str, int, str]] = OrderedDict()

    def keep(self, session: bytes, peer: str, words: tuple[int, str]) -> None:
        """Keep the code and message of a Goodbye for a peer."""
        now = self._clock.now()
        self._words[session] = (now + self._grace, peer, *words)
        while len(self._words) > KEPT or next(iter(self._words.values()))[0] <= now:
            self._words.popitem(last=False)

    def of(self, session: bytes, peer: str) -> tuple[int, str]:
        """Return the code and message for a peer that asks for a session which is not there."""
        kept = self._words.get(session)
        if kept is None or kept[1] != peer or kept[0] <= self._clock.now():
            return int(ResetCode.GONE), "no such session"
        return kept[2:]
