"""The harness that cancels at every await: it finds what it is meant to find."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, suppress

import pytest
import uvloop

from flare_async.testing import Cancellations, cancel_everywhere

LOOPS = {"sim": None, "asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=LOOPS)
def loops(request):
    """Return the loop factory of each kind of loop."""
    return LOOPS[request.param]


async def three_waits(_):
    """Suspend three times."""
    for _ in range(3):
        await asyncio.sleep(0.001)


def test_each_suspension_is_cancelled_twice(loops):
    """Three waits are three suspensions, early and late."""
    found = cancel_everywhere(three_waits, loop_factory=loops)
    assert found == Cancellations(3, 6)


def test_what_never_waits_is_run_once(loops):
    """There is nothing to cancel."""

    async def at_once(_):
        return 1

    assert cancel_everywhere(at_once, loop_factory=loops) == Cancellations(0, 0)


def test_a_swallowed_cancellation_is_found(loops):
    """The message says what came instead, the note where."""

    async def swallows(_):
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0.01)

    with pytest.raises(AssertionError, match="swallowed: it ended with a result") as caught:
        cancel_everywhere(swallows, loop_factory=loops)
    (note,) = caught.value.__notes__
    assert note.startswith("cancelled early at suspension 0 of 1: ")
    assert "swallows" in note


def test_another_error_instead_of_the_cancellation_is_found():
    """Clean-up that raises hides the cancellation."""

    async def breaks(_):
        try:
            await asyncio.sleep(1)
        finally:
            await asyncio.sleep(0)
            if asyncio.current_task().cancelling():
                raise ValueError("cleaning up")

    with pytest.raises(AssertionError, match="ended with ValueError"):
        cancel_everywhere(breaks)


def test_an_error_of_the_undisturbed_run_is_its_own():
    """Code that fails anyway is not judged."""

    async def fails(_):
        await asyncio.sleep(1)
        raise ValueError("as it stands")

    with pytest.raises(ValueError, match="as it stands"):
        cancel_everywhere(fails)


def test_a_task_that_is_left_is_found(loops):
    """It is named with the place where it waits."""
    kept = []

    async def forgets(_):
        task = asyncio.get_running_loop().create_task(asyncio.sleep(0.05))
        kept.append(task)
        await task

    async def leaves(_):
        kept.append(asyncio.get_running_loop().create_task(three_hours()))
        await asyncio.sleep(0)

    async def three_hours():
        await asyncio.sleep(10_000)

    assert cancel_everywhere(forgets, loop_factory=loops).suspensions >= 1
    with pytest.raises(Exception, match="tasks are left"):
        cancel_everywhere(leaves, loop_factory=loops)


def test_a_timer_that_is_left_is_found():
    """Also where nobody waits for it."""

    async def forgets(_):
        timer = asyncio.get_running_loop().call_later(500, print)
        await asyncio.sleep(1)
        timer.cancel()

    with pytest.raises(AssertionError, match="1 timers are left"):
        cancel_everywhere(forgets)


@pytest.mark.parametrize("factory", [LOOPS["asyncio"], LOOPS["uvloop"]], ids=["asyncio", "uvloop"])
def test_a_socket_that_is_left_is_found(factory):
    """Descriptors are counted on real loops."""
    kept = []

    async def forgets(_):
        ours = socket.socket()
        kept.append(ours)
        await asyncio.sleep(0.001)
        kept.pop().close()

    with pytest.raises(AssertionError, match="1 descriptors are left open"):
        cancel_everywhere(forgets, loop_factory=factory)
    for left in kept:
        left.close()


def test_the_check_sees_the_state_of_each_run_inside_its_stage(loops):
    """One undisturbed run and six others; the stage is open while it looks."""
    seen = []

    @asynccontextmanager
    async def stage():
        state = {"open": True}
        yield state
        state["open"] = False

    async def check(state):
        seen.append(state["open"])

    cancel_everywhere(three_waits, given=stage, check=check, loop_factory=loops)
    assert seen == [True] * 7


def test_an_exception_that_nobody_handles_is_found(loops):
    """A callback that raises fails the harness, though no task fails."""

    def breaks():
        raise ValueError("in a callback")

    async def arranges(_):
        asyncio.get_running_loop().call_soon(breaks)
        await asyncio.sleep(0)

    with pytest.raises(Exception, match=r"nobody handled|not handled"):
        cancel_everywhere(arranges, loop_factory=loops)
