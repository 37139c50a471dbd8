"""Round trips of small messages, sent by a fixed schedule."""

from __future__ import annotations

import asyncio
import struct
import time
from collections import deque
from dataclasses import dataclass
from typing import Final

import anyio

from flare_async.net.channel import Channel

__all__ = ["Schedule", "percentile", "round_trips"]

STAMP: Final = struct.Struct("<d")
MISSING: Final = 60.0  # seconds after which an answer counts as lost
LATE: Final = 0.003  # seconds; an event loop's timers have a resolution of about one millisecond


@dataclass(frozen=True, slots=True)
class Schedule:
    """How many pings, and how many of them a second."""

    count: int
    rate: float


async def round_trips(channel: Channel, schedule: Schedule) -> list[float]:
    """Return the seconds of each round trip, in order.

    The schedule does not wait for answers: a stall is met by as many pings as were due in it. One
    that this process itself sends late, by more than its timers explain, counts from when it was
    due.

    Raises:
        TimeoutError: answers are missing a minute after the schedule's end.
    """
    sent: deque[float] = deque()
    found: list[float] = []
    with anyio.move_on_after(schedule.count / schedule.rate + MISSING):
        async with anyio.create_task_group() as group:
            group.start_soon(_send, channel, schedule, sent)
            await _receive(channel, schedule, sent, found)
    if len(found) < schedule.count:
        raise TimeoutError(f"{len(found)} of {schedule.count} pings were answered")
    return found


async def _receive(
    channel: Channel, schedule: Schedule, sent: deque[float], found: list[float]
) -> None:
    rest = b""
    while len(found) < schedule.count:
        data = rest + bytes(await channel.receive())
        now = time.perf_counter()
        whole = len(data) // STAMP.size
        found += [now - sent.popleft() for _ in range(whole)]
        rest = data[whole * STAMP.size :]


async def _send(channel: Channel, schedule: Schedule, sent: deque[float]) -> None:
    began = time.perf_counter()
    number = 0
    while number < schedule.count:
        now = time.perf_counter()
        due = min(schedule.count, int((now - began) * schedule.rate) + 1)
        for each in range(number, due):
            planned = began + each / schedule.rate
            sent.append(planned if now - planned > LATE else now)
            channel.send_soon(STAMP.pack(now))
        number = max(number, due)
        await asyncio.sleep(max(0.0, began + number / schedule.rate - time.perf_counter()))


def percentile(values: list[float], share: float) -> float:
    """Return the value that ``share`` of the sorted values do not exceed."""
    return values[min(len(values) - 1, int(share * len(values)))]
