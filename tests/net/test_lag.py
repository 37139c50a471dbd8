"""User code that keeps the loop to itself is named (F34)."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from flare_async.net.lag import LagMonitor
from tests.net.hand_clock import HandClock


def test_f34_a_call_that_keeps_the_loop_is_named_once():
    """The log has the callback's name and seconds; the longest call is kept."""
    clock = HandClock()
    monitor = LagMonitor(clock)
    with capture_logs() as logs:
        for seconds in (0.1, 5.0, 7.0, 1.0):
            with monitor.timed("user.callback"):
                clock.seconds += seconds
    assert [(one["event"], one["callback"], one["seconds"]) for one in logs] == [
        ("loop_blocked", "user.callback", 5.0)
    ]
    assert monitor.blocked == {"user.callback": 7.0}


@pytest.mark.asyncio
async def test_f34_steps_of_a_coroutine_are_timed_and_waits_are_not():
    """Only what runs between two awaits counts."""
    clock = HandClock()
    monitor = LagMonitor(clock)

    async def work():
        clock.seconds += 0.2
        await asyncio.sleep(0)
        clock.seconds += 0.2
        try:
            await asyncio.get_running_loop().create_task(raises())
        except ValueError:
            clock.seconds += 0.3
        return 7

    async def raises():
        clock.seconds += 9.0
        raise ValueError

    with capture_logs():
        assert await monitor.steps(work(), "work") == 7
    assert monitor.blocked == {"work": pytest.approx(0.3)}


@pytest.mark.asyncio
async def test_steps_are_cancelled_as_the_coroutine_is():
    """CancelledError reaches the coroutine at its await."""
    seen = []

    async def work():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def main():
        await LagMonitor(HandClock()).steps(work(), "work")

    task = asyncio.get_running_loop().create_task(main())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cancelled"]
