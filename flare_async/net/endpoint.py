"""What all sessions of one role have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flare_async.limits import KIB, Limits
from flare_async.net.watchdog import Watchdog
from flare_async.ports import Clock, Random
from flare_async.wire.frames import PROTOCOL_VERSION, Hello
from flare_async.wire.windows import FIRST_WINDOW, CreditBudget

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

__all__ = ["FIRST_WINDOW", "Endpoint"]

CARRIED_TO = "client"  # the role that takes tensors behind a message
SHORT_FRAME = 1 * KIB  # as short as a simulation makes them


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A role's name, ports and limits, the task group that owns its pumps, its process's budget."""

    name: str
    role: str
    clock: Clock
    random: Random
    watchdog: Watchdog
    limits: Limits
    tasks: TaskGroup
    budget: CreditBudget
    token: bytes = b""

    def hello(self, frame_bytes: int, session: bytes, epoch: int = 0) -> Hello:
        """Return the hello of a session for its link number ``epoch``, which takes such frames."""
        window = min(FIRST_WINDOW, self.limits.window_bytes)
        if self.random.buggify("tiny window"):
            window = max(1, window // 32)
        if frame_bytes <= self.limits.frame_bytes and self.random.buggify("short frames"):
            frame_bytes = min(frame_bytes, SHORT_FRAME)
        carry = self.limits.carried_bytes if self.role == CARRIED_TO else 0
        return Hello(
            version=PROTOCOL_VERSION,
            peer=self.name,
            session=session,
            epoch=epoch,
            token=self.token,
            role=self.role,
            window=window,
            frame_bytes=frame_bytes,
            carry=min(carry, self.limits.window_bytes),
        )
