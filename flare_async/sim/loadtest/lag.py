"""How late an event loop is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import anyio

from flare_async.ports import Clock

__all__ = ["LoopLag"]

INTERVAL: Final = 0.05


@dataclass(slots=True)
class LoopLag:
    """Sleeps a little again and again; ``seconds`` holds how much too long each time.

    One number for each twentieth of a second: an hour has 72,000.
    """

    clock: Clock
    seconds: list[float] = field(default_factory=list)

    async def watch(self) -> None:
        """Measure until cancelled, which leaves nothing."""
        while True:
            due = self.clock.now() + INTERVAL
            try:
                await anyio.sleep(INTERVAL)
            finally:  # the last one may be late as well when it is cancelled
                late = self.clock.now() - due
                if late >= 0:
                    self.seconds.append(late)
