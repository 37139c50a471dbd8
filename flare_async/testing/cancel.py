"""Cancel a piece of code at every place where it waits, and look at what is left each time.

::

    @asynccontextmanager
    async def two_sessions():
        network = SimNetwork(LoopClock(), SeededRandom(1))
        async with connected(lambda: link_pair(network, "sim://there")) as pair:
            yield pair

    def test_a_receive_can_be_cancelled_anywhere():
        cancel_everywhere(receive, given=two_sessions, check=nothing_is_lost)

The code runs once undisturbed, which counts its suspensions, and then anew for each of them: twice,
because a task can be cancelled while it waits, or in the very turn in which it is woken.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeAlias, TypeVar, get_args

from flare_async.testing.leaks import Leaks, Unhandled
from flare_async.testing.loop import run_sim
from flare_async.testing.stepper import Moment, Stepper

__all__ = ["Cancellations", "cancel_everywhere"]

MOMENTS: Final[tuple[Moment, ...]] = get_args(Moment)
RUN_SECONDS: Final = 10.0  # of a real loop; a simulated one tells what waits for nothing
StateT = TypeVar("StateT")
ErrorTypes: TypeAlias = type[Exception] | tuple[type[Exception], ...]
Stage: TypeAlias = Callable[[], AbstractAsyncContextManager[StateT]]


@dataclass(frozen=True, slots=True)
class Cancellations:
    """How often the undisturbed code suspended, and how many runs were cancelled in time."""

    suspensions: int
    cancelled: int


@dataclass(frozen=True, slots=True)
class Experiment(Generic[StateT]):
    """What is run again and again."""

    victim: Callable[[StateT], Awaitable[object]]
    given: Stage[StateT]
    check: Callable[[StateT], object] | None
    raises: ErrorTypes
    seed: int
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None
    unhandled: Unhandled = field(default_factory=list)

    def run(self, stepper: Stepper) -> None:
        """Run once on a new loop.

        Raises:
            AssertionError: the cancellation was swallowed, or something is left.
        """
        if self.loop_factory is None:
            run_sim(lambda: self._main(stepper), seed=self.seed)
            return
        with asyncio.Runner(loop_factory=self.loop_factory) as runner:
            runner.run(self._bounded(stepper))

    async def _bounded(self, stepper: Stepper) -> None:
        try:
            async with asyncio.timeout(RUN_SECONDS):
                await self._main(stepper)
        except TimeoutError:
            raise AssertionError(f"it hangs for {RUN_SECONDS:g} s") from None

    async def _main(self, stepper: Stepper) -> None:
        leaks = Leaks(self.unhandled)
        async with self.given() as state:
            await self._attempt(state, stepper)
            await leaks.settle()
            verdict = None if self.check is None else self.check(state)
            if inspect.isawaitable(verdict):
                await verdict
        await leaks.expect_none()

    async def _attempt(self, state: StateT, stepper: Stepper) -> None:
        errors: list[BaseException] = []

        async def attempt() -> None:
            try:
                await stepper.run(self.victim(state))
            except Exception as error:  # noqa: BLE001 - judged below, with its story
                errors.append(error)

        async with asyncio.TaskGroup() as group:
            task = group.create_task(attempt())
        if errors and isinstance(errors[0], self.raises):
            return
        if errors and not stepper.struck:
            raise errors[0]
        if stepper.struck and not task.cancelled():
            ended = repr(errors[0]) if errors else "a result"
            raise AssertionError(f"CancelledError was swallowed: it ended with {ended}")


@asynccontextmanager
async def nothing() -> AsyncIterator[None]:
    """Set no stage."""
    yield


def cancel_everywhere(
    victim: Callable[[Any], Awaitable[object]],
    *,
    given: Stage[Any] = nothing,
    check: Callable[[Any], object] | None = None,
    raises: ErrorTypes = (),
    seed: int = 0,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> Cancellations:
    """Run ``victim(state)`` and cancel its task at each of its suspensions, early and late.

    ``given()`` is an asynchronous context manager that yields the state, anew for each run.
    ``check(state)``, plain or a coroutine, is called inside it after each run. The victim may end
    with an error of ``raises`` in any case, also when it is cancelled while that is on its way.
    Runs are on a ``SimLoop``, or on real loops of ``loop_factory``: there sockets are found, too.

    Raises:
        AssertionError: a cancellation was swallowed, or a task, timer, descriptor or unhandled
            exception is left; it names the suspension and the place.
    """
    work = Experiment(victim, given, check, raises, seed, loop_factory)
    undisturbed = Stepper()
    work.run(undisturbed)
    cancelled = 0
    for moment in MOMENTS:
        for turn in range(undisturbed.turns):
            stepper = Stepper(turn, moment)
            try:
                work.run(stepper)
            except BaseException as error:
                at = f"{moment} at suspension {turn} of {undisturbed.turns}"
                error.add_note(f"cancelled {at}: {stepper.struck or 'had ended before'}")
                raise
            cancelled += bool(stepper.struck)
    gc.collect()  # a task that was forgotten says so when it is destroyed
    if any(work.unhandled):
        raise AssertionError(f"nobody handled {[found for found in work.unhandled if found]}")
    return Cancellations(undisturbed.turns, cancelled)
