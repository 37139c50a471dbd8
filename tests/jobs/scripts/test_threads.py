"""The spawner of scripts in threads: slots, revoked tasks, ends, hangs, and what is left."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import types
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress

import numpy as np
import pytest

from flare_async.errors import ConfigError, LocalProtocolError, ScriptStopped, TrainingFailed
from flare_async.jobs.scripts import Script
from flare_async.jobs.scripts.threads import ScriptThreads
from flare_async.jobs.site import SiteInfo
from flare_async.jobs.training import TrainTask
from flare_async.jobs.work import Work
from flare_async.limits import Limits
from flare_async.transfer.tensors import TensorSet
from tests.jobs.trainers.helpers import until

LOOP = """
import flare_async.client as flare
import gate
gate.reached("started")
try:
    while flare.is_running():
        model = flare.receive()
        gate.reached("received")
        model.params["w"] += 1
        flare.send(model)
        gate.reached("sent")
except BaseException as error:
    gate.errors.append(type(error))
    raise
gate.reached("ended")
"""
OTHER_NAMES = """
import flare_async.client as flare
model = flare.receive()
model.params = {"v": model.params["w"]}
flare.send(model)
"""
DEEP = """
def deep(n):
    return n if n == 0 else sorted([n], key=lambda x: deep(n - 1))

deep(100_000)
"""
QUICK = Limits(shutdown_timeout=0.05)


class Gate(types.ModuleType):
    """What a script tells the test, and where it waits for it."""

    def __init__(self):
        super().__init__("gate")
        self.closed, self.there = {}, {}
        self.errors, self.seen, self.inside, self.most = [], [], 0, 0

    def reached(self, name):
        """Note where the script is; wait there where the test has closed the gate."""
        self.seen.append(name)
        if name in self.there:
            self.there[name].set()
        if name in self.closed:
            self.closed[name].wait(10)

    def close(self, name):
        """Let scripts wait there."""
        self.closed[name], self.there[name] = threading.Event(), threading.Event()

    async def waited_at(self, name):
        """Wait until a script is there."""
        assert await asyncio.to_thread(self.there[name].wait, 10)

    def open(self):
        """Let all go on."""
        for event in self.closed.values():
            event.set()


@pytest.fixture
def gate(monkeypatch):
    """Return the gate that scripts import."""
    made = Gate()
    monkeypatch.setitem(sys.modules, "gate", made)
    yield made
    made.open()


@pytest.fixture
def task_of(tmp_path):
    """Return a function that makes tasks for sites that run a text as their script."""

    def make(text=LOOP, site="site-1", number=0, args=""):
        path = tmp_path / f"client_{abs(hash(text))}.py"
        path.write_text(text)
        with ThreadPoolExecutor(1) as aside:  # recipes look for the file before there is a loop
            script = aside.submit(Script, path=path, args=args).result()
        work = Work(script=script)
        tensors = TensorSet.from_params({"w": np.zeros(2, np.float32)})
        return TrainTask(work, tensors, SiteInfo(name=site, job_id="job", round_number=number))

    return make


def alive():
    """Return how many script threads there are."""
    return sum(thread.name.startswith("flare-script") for thread in threading.enumerate())


@pytest.mark.asyncio
async def test_a_script_lives_from_task_to_task_and_ends_with_the_job(gate, task_of):
    """One thread a site; it finds that the job has ended."""
    async with ScriptThreads(1) as scripts:
        for number in range(3):
            outcome = await scripts.run(task_of(number=number))
            assert outcome.tensors.numpy()["w"].tolist() == [1, 1]
        assert alive() == 1
    assert (gate.seen.count("started"), gate.seen[-1], alive()) == (1, "ended", 0)


@pytest.mark.asyncio
async def test_no_more_scripts_compute_than_there_are_slots(gate, task_of):
    """The others wait, and every site gets its turn."""
    text = LOOP.replace(
        "model.params", "gate.inside += 1; gate.most = max(gate.most, gate.inside); model.params"
    ).replace("    flare.send", "    gate.inside -= 1; flare.send")
    async with ScriptThreads(2) as scripts, asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(scripts.run(task_of(text, f"site-{number}")))
    assert gate.most <= 2
    assert gate.seen.count("sent") == 20


@pytest.mark.asyncio
async def test_a_task_that_was_taken_back_stops_the_script_at_its_next_call(gate, task_of):
    """The next task starts the script anew, at once and beside the old thread."""
    gate.close("received")
    async with ScriptThreads(1, QUICK) as scripts:
        first = asyncio.ensure_future(scripts.run(task_of()))
        await gate.waited_at("received")
        first.cancel()
        await asyncio.wait([first])
        assert (first.cancelled(), scripts.abandoned) == (True, 1)
        second = asyncio.ensure_future(scripts.run(task_of(number=1)))
        gate.open()
        assert (await second).tensors is not None
    assert gate.errors == [ScriptStopped]
    assert gate.seen.count("started") == 2


@pytest.mark.asyncio
async def test_a_task_that_the_script_has_not_seen_is_taken_back_without_harm(gate, task_of):
    """It is still starting, or busy after its last result."""
    gate.close("started")
    async with ScriptThreads(1) as scripts:
        first = asyncio.ensure_future(scripts.run(task_of()))
        await gate.waited_at("started")
        first.cancel()
        await asyncio.wait([first])
        gate.open()
        assert (await scripts.run(task_of(number=1))).tensors is not None
    assert (gate.errors, gate.seen.count("started")) == ([], 1)


@pytest.mark.asyncio
async def test_an_aborted_run_stops_the_scripts_that_wait(gate, task_of):
    """Leaving the block with an error is an abort."""
    scripts = ScriptThreads(1)
    async with AsyncExitStack() as stack:
        stack.enter_context(suppress(KeyError))
        await stack.enter_async_context(scripts)
        await scripts.run(task_of())
        raise KeyError
    assert (gate.errors, alive()) == ([ScriptStopped], 0)


@pytest.mark.asyncio
async def test_a_script_that_does_not_end_keeps_nobody_waiting(gate, task_of):
    """It is abandoned after ``shutdown_timeout``, and its next call raises."""
    gate.close("sent")
    async with ScriptThreads(1, QUICK) as scripts:
        await scripts.run(task_of())
        await gate.waited_at("sent")
    assert scripts.abandoned == 1
    (thread,) = [t for t in threading.enumerate() if t.name == "flare-script site-1"]
    gate.open()
    await asyncio.to_thread(thread.join, 10)
    assert gate.errors == [ScriptStopped]


@pytest.mark.asyncio
async def test_closing_fails_the_tasks_under_way(gate, task_of):
    """Those that run, and those that wait for a slot."""
    gate.close("received")
    scripts = ScriptThreads(1, QUICK)
    runs = [asyncio.ensure_future(scripts.run(task_of(site=f"site-{n}"))) for n in range(2)]
    await gate.waited_at("received")
    await scripts.aclose(stop=True)
    results = await asyncio.gather(*runs, return_exceptions=True)
    assert [type(result) for result in results] == [LocalProtocolError] * 2


@pytest.mark.asyncio
async def test_an_idle_script_holds_no_model(gate, task_of):
    """Five hundred sites that wait cost their threads."""
    async with ScriptThreads(1) as scripts:
        task = task_of()
        outcome = await scripts.run(task)
        model, update = weakref.ref(task.tensors["w"].obj), weakref.ref(outcome.tensors["w"].obj)
        del task, outcome
        await until(lambda: gc.collect() >= 0 and model() is None and update() is None)


@pytest.mark.asyncio
async def test_a_failure_tells_the_line_of_the_script(gate, task_of):
    """The traceback begins in the script."""
    async with ScriptThreads(1) as scripts:
        with pytest.raises(TrainingFailed, match="ZeroDivisionError") as caught:
            await scripts.run(task_of("def f():\n    1 / 0\n\nf()\n"))
    lines = caught.value.details.splitlines()
    assert "client_" in lines[1]
    assert "line 4, in <module>" in lines[1]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def f(:", "SyntaxError"),
        ("pass", "ended without a result"),
        ("import flare_async.client as flare\nflare.receive()", "ended without a result"),
        ("import flare_async.client as flare\nflare.shutdown()", "ended without a result"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("import flare_async.client as f\nf.receive()\nf.send(3)", "an FLModel is needed, got int"),
        ("import flare_async.client as f\nf.send(f.FLModel(metrics={'a': 1}))", "was received"),
        (OTHER_NAMES, "the params differ"),
        (DEEP, "RecursionError"),
    ],
)
async def test_a_script_without_a_result_says_why(gate, task_of, text, reason):
    """A typed failure of the site, whatever the script does."""
    async with ScriptThreads(1) as scripts:
        with pytest.raises(TrainingFailed, match=reason):
            await scripts.run(task_of(text))
    assert alive() == 0


@pytest.mark.asyncio
async def test_a_busy_script_is_not_idle(gate, task_of):
    """It computes for several times the timeout, and calls nothing."""
    busy = "import time\n        end = time.thread_time() + 0.3\n        "
    busy += "while time.thread_time() < end: pass"
    text = LOOP.replace('gate.reached("received")', busy)
    async with ScriptThreads(1, Limits(trainer_idle_timeout=0.1)) as scripts:
        assert (await scripts.run(task_of(text))).seconds > 0.3


@pytest.mark.asyncio
async def test_a_script_that_hangs_is_abandoned_and_started_anew(gate, task_of):
    """Its late result is nobody's."""
    gate.close("received")
    limits = Limits(trainer_idle_timeout=0.4, shutdown_timeout=0.05)
    async with ScriptThreads(1, limits) as scripts:
        with pytest.raises(TrainingFailed, match=r"did nothing for 0.4 s.*flare\.receive, at"):
            await scripts.run(task_of())
        gate.open()
        assert (await scripts.run(task_of(number=1))).tensors is not None
    assert gate.errors == [ScriptStopped]


@pytest.mark.asyncio
async def test_a_changed_file_is_compiled_again(gate, task_of, tmp_path):
    """A script that is started anew runs what the file says now."""
    task = task_of("raise ValueError(1)")
    async with ScriptThreads(1) as scripts:
        with pytest.raises(TrainingFailed, match="ValueError: 1"):
            await scripts.run(task)
        task.work.script.path.write_text("raise ValueError('two')")
        with pytest.raises(TrainingFailed, match="ValueError: two"):
            await scripts.run(task)


@pytest.mark.asyncio
async def test_torch_computes_with_one_thread_in_scripts(gate, task_of):
    """One and two threads add up in another order."""
    torch = pytest.importorskip("torch")
    text = LOOP.replace(
        "model.params", "import torch; gate.seen.append(torch.get_num_threads()); model.params"
    )
    before = torch.get_num_threads()
    async with ScriptThreads(1) as scripts:
        await scripts.run(task_of(text))
    assert 1 in gate.seen
    assert torch.get_num_threads() == before


@pytest.mark.asyncio
async def test_functions_are_not_for_this_spawner(task_of):
    """Nor scripts for a process of their own."""
    task = task_of()
    work = Work(lambda model, site: model)
    async with ScriptThreads(1) as scripts:
        with pytest.raises(ConfigError, match="train_script"):
            await scripts.run(TrainTask(work, task.tensors, task.site))
    with pytest.raises(ConfigError, match="slots"):
        ScriptThreads(0)
