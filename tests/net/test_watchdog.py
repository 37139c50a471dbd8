"""The watchdog: never early, one timer, and no verdict over others after a pause of our own."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare_async.errors import LocalProtocolError, SendStalled
from flare_async.net.clock import LoopClock
from flare_async.net.watchdog import Progress, Watchdog
from flare_async.ports import Clock
from flare_async.testing.loop import run_sim
from tests.net.hand_clock import HandClock


@pytest.fixture
def clock():
    """Return a clock that is moved by hand."""
    return HandClock()


@pytest.fixture
def stalls():
    """Return a list for the idle seconds of stalls."""
    return []


def stalled(idle: float) -> SendStalled:
    """Return the error of a stalled wait."""
    return SendStalled("sim://peer", idle, 10)


def test_a_hand_clock_is_a_clock(clock):
    """The test double fulfils the port."""
    assert isinstance(clock, Clock)


def test_an_idle_wait_fails_at_its_patience_and_not_before(clock, stalls):
    """Detection is exact."""
    Watchdog(clock).watch(Progress(0.0), 60.0, stalls.append)
    clock.move_to(59.999)
    assert stalls == []
    clock.move_to(60.0)
    assert stalls == [60.0]


def test_progress_every_nine_tenths_of_the_patience_never_fires(clock, stalls):
    """What moves never fails, however slowly."""
    progress = Progress(0.0)
    Watchdog(clock).watch(progress, 10.0, stalls.append)
    for step in range(1, 1000):
        clock.move_to(step * 9.0)
        progress.feed(clock.now())
    assert stalls == []


def test_time_before_the_wait_does_not_count(clock, stalls):
    """A wait that starts long after the last progress gets its whole patience."""
    progress = Progress(0.0)
    clock.move_to(500.0)
    Watchdog(clock).watch(progress, 10.0, stalls.append)
    clock.move_to(509.9)
    assert stalls == []
    clock.move_to(510.0)
    assert stalls == [10.0]


def test_ten_thousand_waits_hold_one_timer(clock, stalls):
    """Parking costs no timer, unparking neither, and all that stall are told."""
    watchdog = Watchdog(clock)
    for _ in range(10_000):
        watchdog.watch(Progress(0.0), 60.0, stalls.append)
    assert (watchdog.parked, watchdog.timers, clock.armed) == (10_000, 1, 1)
    clock.move_to(60.0)
    assert (len(stalls), watchdog.parked, watchdog.timers) == (10_000, 0, 0)


def test_a_thousand_short_waits_arm_one_timer_a_patience(clock, stalls):
    """A timer that outlives its wait serves the next ones."""
    watchdog = Watchdog(clock)
    progress = Progress(0.0)
    for step in range(1000):
        clock.move_to(step * 0.06)
        watchdog.watch(progress, 10.0, stalls.append).cancel()
    assert (watchdog.parked, stalls) == (0, [])
    assert clock.armed <= 7


def test_a_shorter_patience_moves_the_timer_forward(clock, stalls):
    """The one timer belongs to the earliest deadline."""
    watchdog = Watchdog(clock)
    watchdog.watch(Progress(0.0), 60.0, stalls.append)
    watchdog.watch(Progress(0.0), 5.0, stalls.append)
    clock.move_to(5.0)
    assert (stalls, watchdog.parked, watchdog.timers) == ([5.0], 1, 1)


def test_a_pause_of_our_own_is_credited(clock, stalls):
    """A process that was stopped for a minute does not declare its peers dead."""
    progress = Progress(0.0)
    Watchdog(clock).watch(progress, 10.0, stalls.append)
    clock.jump_to(70.0)
    assert stalls == []
    progress.feed(71.0)
    clock.move_to(80.9)
    assert stalls == []
    clock.move_to(81.0)
    assert stalls == [10.0]


def test_a_pause_is_credited_to_waits_that_are_not_due_yet(clock, stalls):
    """The lateness is time in which nobody could make progress."""
    watchdog = Watchdog(clock)
    watchdog.watch(Progress(0.0), 10.0, lambda idle: None)
    watchdog.watch(Progress(0.0), 15.0, stalls.append)
    clock.jump_to(14.0)
    clock.move_to(18.9)
    assert stalls == []
    clock.move_to(19.0)
    assert stalls == [19.0]


def test_a_peer_that_died_during_the_pause_is_found_within_one_more_patience(clock, stalls):
    """The credit is bounded by the patience."""
    Watchdog(clock).watch(Progress(0.0), 10.0, stalls.append)
    clock.jump_to(100_000.0)
    clock.move_to(100_010.0)
    assert stalls == [100_010.0]


def test_a_second_pause_takes_nothing_from_the_credit_of_the_first(clock, stalls):
    """A credit stands until there is progress."""
    watchdog = Watchdog(clock)
    watchdog.watch(Progress(0.0), 10.0, lambda idle: None)
    watchdog.watch(Progress(0.0), 100.0, stalls.append)
    clock.jump_to(18.0)
    clock.jump_to(27.0)
    clock.move_to(107.9)
    assert stalls == []
    clock.move_to(108.0)
    assert stalls == [108.0]


def test_a_loop_that_is_always_late_still_finds_the_dead(clock, stalls):
    """Lateness is credited once a piece of progress."""
    Watchdog(clock).watch(Progress(0.0), 10.0, stalls.append)
    for step in range(1, 20):
        clock.jump_to(step * 3.1)
    assert len(stalls) == 1


def test_lag_below_a_quarter_second_is_not_credited(clock, stalls):
    """Ordinary lag delays detection by itself only."""
    Watchdog(clock).watch(Progress(0.0), 10.0, stalls.append)
    clock.jump_to(10.2)
    assert stalls == [10.2]


def test_a_watch_that_another_stall_cancels_does_not_fire(clock, stalls):
    """A role that ends all its waits at the first stall hears of one only."""
    watchdog = Watchdog(clock)
    second = None
    watchdog.watch(Progress(0.0), 1.0, lambda idle: second.cancel())
    second = watchdog.watch(Progress(0.0), 1.0, stalls.append)
    clock.move_to(5.0)
    assert (stalls, watchdog.parked) == ([], 0)


def test_a_stall_handler_that_raises_leaves_the_others_watched(clock, stalls):
    """One bad handler must not silence the watchdog."""
    watchdog = Watchdog(clock)
    watchdog.watch(Progress(0.0), 1.0, lambda idle: 1 / 0)
    watchdog.watch(Progress(0.0), 1.0, stalls.append)
    with pytest.raises(ZeroDivisionError):
        clock.move_to(2.0)
    clock.move_to(3.0)
    assert stalls == [1.0]


def test_closing_cancels_the_timer_and_refuses_new_waits(clock, stalls):
    """After its owner left, a watchdog bounds nothing and says so."""
    with Watchdog(clock) as watchdog:
        watchdog.watch(Progress(0.0), 1.0, stalls.append)
    clock.move_to(5.0)
    assert (stalls, watchdog.timers, watchdog.parked) == ([], 0, 0)
    with pytest.raises(LocalProtocolError, match="closed"):
        watchdog.watch(Progress(0.0), 1.0, stalls.append)


@pytest.mark.parametrize("patience", [0.0, -1.0, float("nan")])
def test_a_patience_that_bounds_nothing_is_refused(clock, stalls, patience):
    """Zero, negative and no number are mistakes of the caller."""
    with pytest.raises(LocalProtocolError, match="patience"):
        Watchdog(clock).watch(Progress(0.0), patience, stalls.append)


def test_an_infinite_patience_arms_no_timer(clock, stalls):
    """Waiting for ever is allowed where somebody asks for it."""
    watchdog = Watchdog(clock)
    watchdog.watch(Progress(0.0), float("inf"), stalls.append)
    assert (watchdog.parked, watchdog.timers) == (1, 0)


@given(
    patience=st.floats(1.0, 100.0),
    gaps=st.lists(st.floats(0.0, 200.0), max_size=20),
)
def test_a_watch_fires_exactly_when_a_gap_reaches_the_patience(patience, gaps):
    """Against a model: the first gap that is as long as the patience ends the watch."""
    clock, stalls, progress = HandClock(), [], Progress(0.0)
    Watchdog(clock).watch(progress, patience, stalls.append)
    for gap in gaps:
        due = progress.at + patience <= clock.now() + gap
        clock.move_to(clock.now() + gap)
        assert bool(stalls) == due
        if due:
            return
        progress.feed(clock.now())


def test_wait_returns_the_result_and_leaves_no_watch():
    """The ordinary case."""

    async def main():
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_later(3.0, future.set_result, "done")
        with Watchdog(LoopClock()) as watchdog:
            result = await watchdog.wait(future, Progress(0.0), 60.0, stalled)
            return result, watchdog.parked

    assert run_sim(main) == ("done", 0)


def test_wait_fails_with_the_callers_error_at_the_exact_second():
    """The parked future fails; no scope and no task are involved."""

    async def main():
        future = asyncio.get_running_loop().create_future()
        with Watchdog(LoopClock()) as watchdog, pytest.raises(SendStalled) as caught:
            await watchdog.wait(future, Progress(0.0), 30.0, stalled)
        return LoopClock().now(), caught.value.idle, watchdog.parked

    assert run_sim(main) == (30.0, 30.0, 0)


def test_a_future_that_is_done_is_returned_at_once():
    """Nothing is parked, and no turn of the loop is spent."""

    async def main():
        future = asyncio.get_running_loop().create_future()
        future.set_result(5)
        with Watchdog(LoopClock()) as watchdog:
            return await watchdog.wait(future, Progress(0.0), 1.0, stalled), watchdog.timers

    assert run_sim(main) == (5, 0)


def test_cancelling_a_wait_removes_its_watch():
    """Cancellation leaves nothing that could fire later."""

    async def main():
        future = asyncio.get_running_loop().create_future()
        with Watchdog(LoopClock()) as watchdog:
            async with asyncio.TaskGroup() as group:
                waiter = group.create_task(watchdog.wait(future, Progress(0.0), 1.0, stalled))
                await asyncio.sleep(0.5)
                waiter.cancel()
            await asyncio.sleep(5.0)
            return future.cancelled(), watchdog.parked, watchdog.timers

    assert run_sim(main) == (True, 0, 0)


@pytest.mark.asyncio
async def test_the_watchdog_works_on_a_real_loop():
    """The clock port of production is never early either."""
    clock = LoopClock()
    future = asyncio.get_running_loop().create_future()
    began = clock.now()
    with Watchdog(clock) as watchdog, pytest.raises(SendStalled):
        await watchdog.wait(future, Progress(began), 0.02, stalled)
    assert clock.now() - began >= 0.02
