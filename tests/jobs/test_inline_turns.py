"""How often inline trainings let the loop go on, and how many sites a gate lets in."""

from __future__ import annotations

import asyncio

import anyio
import numpy as np
import pytest

from flare_async.jobs.site import SiteInfo
from flare_async.jobs.spawners import InlineSpawner
from flare_async.jobs.spawners.gate import Gate
from flare_async.jobs.training import TrainTask
from flare_async.jobs.work import Work
from flare_async.transfer.tensors import TensorSet

MODEL = TensorSet.from_params({"w": np.zeros(4, np.float32)})
STEPS = 6


async def turns_of(breath: float) -> int:
    """Return how many turns the loop had in a row of trainings of 4 ms each."""
    seconds, turns = 0.0, 0

    def train(model, site):
        nonlocal seconds
        seconds += 0.004
        return model

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with InlineSpawner(now=lambda: seconds, breath=breath) as spawner:
        counting = asyncio.create_task(count())
        for index in range(STEPS):
            site = SiteInfo(name=f"site-{index + 1}", index=index)
            await spawner.run(TrainTask(Work(train), MODEL, site))
        counting.cancel()
    return turns


@pytest.mark.asyncio
@pytest.mark.parametrize(("breath", "turns"), [(0.0, STEPS), (0.01, 1), (0.008, 2), (1.0, 0)])
async def test_trainings_in_a_row_let_the_loop_go_on_when_their_time_is_up(breath, turns):
    """After each of them, after those that take as long as a breath, or never in so short a row."""
    assert await turns_of(breath) == turns


@pytest.mark.asyncio
async def test_a_gate_lets_so_many_in_and_the_others_in_their_order():
    """Who is cancelled while it waits gives its turn to the next."""
    gate, inside, order = Gate(2), asyncio.Event(), []

    async def enter(name: int) -> None:
        async with gate:
            order.append(name)
            await inside.wait()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(enter(name)) for name in range(5)]
        await asyncio.sleep(0)
        assert order == [0, 1]
        tasks[2].cancel()
        inside.set()
    assert order == [0, 1, 3, 4]


@pytest.mark.asyncio
async def test_places_that_are_left_in_one_turn_are_all_taken():
    """Also by who comes before the one that was woken has gone in."""
    gate, leave = Gate(2), {name: asyncio.Event() for name in "ABCD"}
    inside = []

    async def visit(name):
        async with gate:
            inside.append(name)
            await leave[name].wait()

    async with anyio.create_task_group() as tasks:
        for name in "ABC":
            tasks.start_soon(visit, name)
        await anyio.wait_all_tasks_blocked()
        leave["A"].set()
        leave["B"].set()
        tasks.start_soon(visit, "D")
        await anyio.wait_all_tasks_blocked()
        assert inside == ["A", "B", "C", "D"]
        for event in leave.values():
            event.set()
