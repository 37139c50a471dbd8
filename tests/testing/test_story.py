"""Await sites: the chain of awaits by qualified name and line."""

from __future__ import annotations

import asyncio
import types
from contextlib import asynccontextmanager

import pytest

from flare_async.net.clock import LoopClock
from flare_async.net.lag import LagMonitor
from flare_async.testing.story import SHOWN_TASKS, await_site, describe_tasks


async def outer(awaitable):
    """Await something."""
    await awaitable


@types.coroutine
def old_style(coroutine):
    """Delegate as generators do."""
    yield from coroutine


def names(site: str) -> list[str]:
    """Return the names of a site without its lines."""
    return [place.rpartition(":")[0] for place in site.split(" > ")]


def test_a_site_follows_coroutines_and_generators(sim):
    """Every frame between the task and what it waits for is told, outermost first."""

    async def main():
        async with asyncio.TaskGroup() as group:
            task = group.create_task(outer(old_style(outer(asyncio.sleep(9)))))
            await asyncio.sleep(1)
            return await_site(task)

    assert names(sim(main)) == ["outer", "old_style", "outer", "sleep"]


def test_a_site_has_the_line_of_the_await_and_no_file(sim):
    """The line is the one that awaits; paths would differ between machines."""

    async def main():
        async with asyncio.TaskGroup() as group:
            task = group.create_task(outer(asyncio.sleep(9)))
            await asyncio.sleep(1)
            return await_site(task)

    line = outer.__code__.co_firstlineno + 2
    assert sim(main).startswith(f"outer:{line} > sleep:")


class Waits:
    """Awaits by a coroutine's own iterator."""

    def __await__(self):
        return outer(asyncio.sleep(9)).__await__()


@asynccontextmanager
async def leaving():
    """Wait at the end of the block."""
    yield
    await outer(asyncio.sleep(9))


async def counting():
    """Wait for each number."""
    await asyncio.sleep(9)
    yield 1


async def leave():
    """Leave a block that waits."""
    async with leaving():
        pass


async def count():
    """Go through numbers that wait."""
    async for _ in counting():
        pass


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (lambda: outer(Waits()), ["outer", "outer", "sleep"]),
        (count, ["count", "counting", "sleep"]),
        (
            leave,
            ["leave", "_AsyncGeneratorContextManager.__aexit__", "leaving", "outer", "sleep"],
        ),
        (
            lambda: LagMonitor(LoopClock()).steps(outer(asyncio.sleep(9)), "x"),
            ["driven", "Steps.__await__", "outer", "sleep"],
        ),
    ],
    ids=["iterator", "generator", "context", "steps"],
)
def test_a_site_goes_through_what_wraps_a_coroutine(sim, start, expected):
    """Objects of the interpreter that hide it, and awaitables that resume it themselves."""

    async def driven(awaitable):
        await awaitable

    async def main():
        async with asyncio.TaskGroup() as group:
            started = start()
            task = group.create_task(driven(started) if expected[0] == "driven" else started)
            await asyncio.sleep(1)
            return await_site(task)

    found = names(sim(main))
    assert [name.rpartition("<locals>.")[2] for name in found] == expected


def test_a_finished_task_has_no_site(sim):
    """There is nothing that it waits for."""

    async def main():
        async with asyncio.TaskGroup() as group:
            task = group.create_task(asyncio.sleep(0))
        return await_site(task)

    assert sim(main) == "is not waiting"


def test_a_long_list_is_cut(sim):
    """Ten thousand lines help nobody."""

    async def main():
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(9)) for _ in range(SHOWN_TASKS + 5)]
            await asyncio.sleep(1)
            return describe_tasks(tasks)

    lines = sim(main).splitlines()
    assert len(lines) == SHOWN_TASKS + 1
    assert lines[-1] == "  ... and 5 more"
