"""Sites with trainers whose client, or server, is killed in the middle of a task."""

import asyncio
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from flare_async.net.registry import Transports
from flare_async.roles.round import RoundTask
from tests.faults.real_child import NOWHERE
from tests.faults.real_process import Child
from tests.faults.real_world import world
from tests.jobs.trainers.helpers import is_alive, until
from tests.jobs.trainers.site_process import LIMITS, MODEL

ROOT = Path(__file__).resolve().parents[3]

pytestmark = [pytest.mark.asyncio, pytest.mark.slow]


@asynccontextmanager
async def process(*words):
    """Run a program of ``site_process``; it is killed if it has not ended with the block."""
    pipe = asyncio.subprocess.PIPE
    made = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.jobs.trainers.site_process", *map(str, words)),
        stdout=pipe,
        stderr=pipe,
        cwd=ROOT,
    )
    child = Child(made)
    try:
        yield child
    finally:
        child.kill()
        await made.wait()
        made._transport.close()


async def pids_in(path, count):
    """Return the processes that have written their numbers to a file, when there are so many."""
    await until(lambda: path.exists() and path.read_text().count("\n") >= count, 20.0)
    return [int(word) for word in path.read_text().split()]


async def test_a_client_that_is_killed_and_restarted_is_counted_once(tmp_path):
    """F24: its trainer ends with it, and the new client gets the task again."""
    words = ("waits-for", tmp_path / "pids", tmp_path / "go")
    async with world(("a",), Transports(LIMITS), LIMITS, address=NOWHERE) as made:
        site = ("site", "a", made.address, *words)
        async with process(*site) as first:
            await first.words()
            await made.server.wait_for(("a",), 1)
            task = RoundTask("job", 0, 1)
            async with made.cohort.round(task, MODEL) as updates:
                (pid,) = await pids_in(tmp_path / "pids", 1)
                first.kill()
                await until(lambda: not is_alive(pid))
                async with process(*site):
                    _, again = await pids_in(tmp_path / "pids", 2)
                    (tmp_path / "go").touch()
                    found = [(name, update.tensors) async for name, update in updates]
    ((name, tensors),) = found
    assert (name, tensors.numpy()["w"].tolist()) == ("a", [1.0, 2.0, 3.0, 4.0])
    assert made.seen.status() == {"a": "ok"}
    await until(lambda: not is_alive(again))


async def test_a_site_ends_its_trainer_when_it_gives_its_server_up(tmp_path):
    """Killed: after ``session_grace``, here two seconds, the task is over and so is its process."""
    async with process("server", "a") as server:
        (address,) = await server.words()
        words = ("waits-for", tmp_path / "pids", tmp_path / "go")
        async with process("site", "a", address, *words) as site:
            await site.words()
            (pid,) = await pids_in(tmp_path / "pids", 1)
            server.kill()
            while await site.words() != ["over"]:  # it logs that it redials
                pass
            assert await site.ended() == 0
            assert not is_alive(pid)
