"""The simulated store: contents, latencies that give races a width, and typed errors."""

from __future__ import annotations

import asyncio

import pytest

from flare_async.errors import WorkspaceError
from flare_async.net.clock import LoopClock
from flare_async.net.rng import SeededRandom
from flare_async.testing.loop import run_sim
from flare_async.testing.ports import SimStore


def make_store(seed: int = 1, **options) -> SimStore:
    """Return a store on the running loop."""
    return SimStore(LoopClock(), SeededRandom(seed), **options)


def test_what_was_written_and_appended_is_read(sim):
    """Write replaces, append adds."""

    async def main():
        store = make_store()
        await store.write("model", [b"old"])
        await store.write("model", [b"ab", memoryview(b"cd")])
        await store.append("model", b"ef")
        await store.append("log", b"line")
        return await store.read("model"), sorted(store.files)

    assert sim(main) == (b"abcdef", ["log", "model"])


def test_a_missing_file_is_a_workspace_error(sim):
    """The error names the file."""

    async def main():
        with pytest.raises(WorkspaceError, match="'absent'"):
            await make_store().read("absent")
        return True

    assert sim(main)


def test_every_operation_takes_a_seeded_time_within_its_bounds(sim):
    """An await of no width would hide the races around it."""

    async def main():
        store, times = make_store(latency=(0.1, 0.2)), []
        for operation in (store.write("a", [b"x"]), store.append("a", b"y"), store.read("a")):
            began = asyncio.get_running_loop().time()
            await operation
            times.append(asyncio.get_running_loop().time() - began)
        return times

    assert all(0.1 <= seconds <= 0.2001 for seconds in sim(main))


def test_a_cancelled_write_has_changed_nothing(sim):
    """The change happens at the end of the operation."""

    async def main():
        store = make_store(latency=(1.0, 1.0))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await store.write("model", [b"half"])
        await asyncio.sleep(5)
        return store.files

    assert sim(main) == {}


def test_a_cancellation_at_the_very_end_of_an_operation_is_harmless(sim):
    """The clock may strike in the turn in which the waiter is cancelled."""

    async def main():
        loop, store = asyncio.get_running_loop(), make_store(latency=(1.0, 1.0))
        loop.call_at(1.0, asyncio.current_task().cancel)
        with pytest.raises(asyncio.CancelledError):
            await store.write("model", [b"half"])
        return store.files

    assert sim(main) == {}


def test_some_seed_finds_a_check_and_act_race():
    """A contribution that is checked, stored, then marked is counted twice for some seeds."""

    async def contribute(store, done, counted):
        if "site-1" not in done:
            await store.append("journal", b"site-1")
            done.add("site-1")
            counted.append("site-1")

    async def main(seed):
        store, done, counted = make_store(seed), set(), []
        async with asyncio.TaskGroup() as group:
            for delay in (0.0, 0.002):
                await asyncio.sleep(delay)
                group.create_task(contribute(store, done, counted))
        return len(counted)

    counts = [run_sim(lambda seed=seed: main(seed), seed=seed) for seed in range(20)]
    assert set(counts) == {1, 2}
