"""What is made in plain callbacks, where anyio may not see which event loop runs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
import sniffio

from flare_async.limits import Limits
from flare_async.net.callbacks import cancel_scope, start_soon
from flare_async.net.clock import LoopClock
from flare_async.net.registry import Transports
from flare_async.net.rng import SystemRandom
from flare_async.roles.context import open_context

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import asyncio, sys
if sys.argv[1] == "without": sys.modules["sniffio"] = None
import anyio
from flare_async.limits import Limits
from flare_async.net.clock import LoopClock
from flare_async.net.rng import SystemRandom
from flare_async.roles.context import open_context
from flare_async.testing.pair import connected
from flare_async.net.registry import Transports
from tests.net.peers import memory_links

seen = []

async def work(what):
    seen.append(what)

async def handle():
    async with connected(memory_links) as pair, anyio.create_task_group() as tasks:
        def handler(channel):
            seen.append(asyncio.current_task())
            tasks.start_soon(work, channel.topic)
        pair.there.serve("mine", handler)
        pair.here.open("mine")
        for _ in range(20):
            await asyncio.sleep(0)
    print(*seen)

async def call():
    limits = Limits()
    async with open_context(LoopClock(), SystemRandom(), Transports(limits), limits) as context:
        loop = asyncio.get_running_loop()
        loop.call_soon(context.tasks.start_soon, work, "from a callback")
        for _ in range(20):
            await asyncio.sleep(0)
    print(*seen[2:])

asyncio.run(handle())
asyncio.run(call())
print(sys.modules.get("sniffio") is not None)
"""


def test_a_callback_makes_scopes_and_tasks_where_sniffio_is_installed() -> None:
    """A callback of a plain loop is inside of no task, so sniffio cannot tell."""
    seen: list[object] = []

    async def work(scope: anyio.CancelScope) -> None:
        with scope:
            seen.append(sniffio.current_async_library())
            scope.cancel()
            await anyio.sleep_forever()

    def callback(tasks: anyio.abc.TaskGroup) -> None:
        try:
            anyio.CancelScope()
        except RuntimeError as exc:
            seen.append(type(exc).__name__)
        start_soon(tasks, work, cancel_scope())

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            asyncio.get_running_loop().call_soon(callback, tasks)
            await asyncio.sleep(0)

    asyncio.run(main())
    assert seen == ["NoEventLoopError", "asyncio"]


@pytest.mark.parametrize("sniffs", ["with", "without"])
def test_handlers_and_callbacks_of_users_start_tasks_as_anyio_says(sniffs: str) -> None:
    """Whether sniffio is there or not; the handler runs in no task, nor was its sender told."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, sniffs],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["None mine", "from a callback", str(sniffs == "with")]


@pytest.mark.asyncio
async def test_worker_threads_of_a_task_may_run_a_loop_of_their_own() -> None:
    """They are told nothing of the loop that the task is in."""
    limits = Limits()
    async with open_context(LoopClock(), SystemRandom(), Transports(limits), limits):
        assert await asyncio.to_thread(anyio.run, anyio.sleep, 0) is None
    assert sniffio.thread_local.name is None
