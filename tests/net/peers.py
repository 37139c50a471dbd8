"""Two sessions on a simulated network, and a way to cancel whatever waits, wherever it waits."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import anyio

from flare_async.limits import Limits
from flare_async.net.clock import LoopClock
from flare_async.net.endpoint import Endpoint
from flare_async.net.rng import SeededRandom
from flare_async.net.session import Session
from flare_async.net.watchdog import Watchdog
from flare_async.testing.network import SimNetwork
from flare_async.testing.pair import connected, link_pair
from flare_async.testing.recorder import Recorder
from flare_async.transports.memory import memory_pair
from flare_async.wire.session import Side
from flare_async.wire.windows import CreditBudget

PATIENCE = 10.0
LIMITS = Limits(stall_timeout=PATIENCE)


def now():
    """Return virtual seconds."""
    return asyncio.get_running_loop().time()


def make_network(**options):
    """Return a network on the running loop."""
    return SimNetwork(LoopClock(), SeededRandom(1), **options)


def sim_links(**options):
    """Return a pair maker over a new simulated network."""
    return lambda: link_pair(make_network(**options), "sim://there")


def sim_pair(limits=LIMITS, acceptor=None, **options):
    """Return two connected sessions over a new simulated network."""
    return connected(sim_links(**options), limits, acceptor)


@asynccontextmanager
async def memory_links():
    """Yield two ends of a memory link."""
    yield memory_pair()


@asynccontextmanager
async def lone_session(limits=LIMITS, **options):
    """Yield an unentered session, the raw link that it faces, and that link's recorder."""
    async with sim_links(**options)() as (near, far), anyio.create_task_group() as tasks:
        clock, recorder = LoopClock(), Recorder()
        with Watchdog(clock) as watchdog:
            endpoint = Endpoint(
                name="lone",
                role="test",
                clock=clock,
                random=SeededRandom(2),
                watchdog=watchdog,
                limits=limits,
                tasks=tasks,
                budget=CreditBudget(limits.process_bytes),
            )
            yield Session(near, Side.CONNECTOR, endpoint), far, recorder


class Stepped:
    """Awaits a coroutine and cancels its task at the ``turn``-th suspension.

    Early: before anything else happens. Late: in the very turn in which the task is woken, when
    what it waited for has already been given to it.
    """

    def __init__(self, coroutine, turn, *, late):
        self.coroutine = coroutine
        self.turn = turn
        self.late = late
        self.cancelled = False

    def __await__(self):
        task, inner, turn = asyncio.current_task(), self.coroutine.__await__(), 0
        send, value = inner.send, None
        while True:
            try:
                waiting = send(value)
            except StopIteration as done:
                return done.value
            if turn == self.turn:
                self._strike(task, waiting)
            turn += 1
            try:
                send, value = inner.send, (yield waiting)
            except BaseException as error:  # noqa: BLE001 - handed on to the coroutine
                send, value = inner.throw, error

    def _strike(self, task, waiting):
        self.cancelled = True
        if self.late and asyncio.isfuture(waiting):
            waiting.add_done_callback(lambda _: task.cancel())
        else:
            asyncio.get_running_loop().call_soon(task.cancel)


async def cancelled_at(coroutine, turn, *, late=False):
    """Run a coroutine and cancel it at its ``turn``-th suspension; False if it had fewer."""
    stepped = Stepped(coroutine, turn, late=late)

    async def run():
        await stepped

    (outcome,) = await asyncio.gather(asyncio.ensure_future(run()), return_exceptions=True)
    if isinstance(outcome, Exception):
        raise outcome
    return stepped.cancelled
