"""Training on a Ray cluster of two nodes: ``python -m pytest tests/sim/real_ray.py``.

Ray is large and has an environment of its own, so this is no part of the suite. The nodes are two
groups of processes of this machine that speak over loopback.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import ray
from ray._private.state import actors  # the public list needs a dashboard

from flare_async import SimEnv
from flare_async.errors import RunFailed, TrainingFailed
from flare_async.jobs.events import RoundFinished
from flare_async.jobs.site import SiteInfo
from flare_async.jobs.spawners.cluster import RaySpawner
from flare_async.jobs.training import TrainTask
from flare_async.jobs.work import Work
from flare_async.recipes import FedAvgRecipe
from flare_async.sim.digits import recipe as digits
from flare_async.transfer.filters import GaussianDP, ModelDequantizer, ModelQuantizer
from flare_async.transfer.tensors import TensorSet
from tests.sim import ray_sites

pytestmark = [pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]

ADDRESS = "127.0.0.1:6399"
RAY = str(Path(sys.executable).with_name("ray"))
CALM = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}  # thrown away, on loopback
SITES = 6


def start(*words):
    """Start a node with one CPU as a process group of its own."""
    common = ("--num-cpus=1", "--object-store-memory=200000000", "--block")
    environment = {**os.environ, **CALM, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [RAY, "start", *words, *common],
        stdout=subprocess.DEVNULL,
        env=environment,
    )


def end(node):
    """End a node with all that it has started."""
    node.terminate()
    node.wait(30)


def connect(cpus):
    """Connect to the cluster once it has so many CPUs."""
    until = time.monotonic() + 60
    while True:
        with suppress(ConnectionError):
            if not ray.is_initialized():
                ray.init(address=ADDRESS, log_to_driver=False, configure_logging=False)
            if ray.cluster_resources().get("CPU") == cpus:
                return
        assert time.monotonic() < until, "the cluster did not come up within 60 s"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    """Give a head and a second node, and a driver that is connected to them."""
    os.environ.update(CALM)
    folder = tmp_path_factory.mktemp("ray")
    head = start("--head", "--port=6399", "--include-dashboard=false", f"--temp-dir={folder}")
    second = None
    try:
        connect(1)
        second = start(f"--address={ADDRESS}")
        connect(2)
        yield head, second
    finally:
        ray.shutdown()
        for node in (second, head):
            if node is not None:
                end(node)


def alive():
    """Return how many actors the cluster has."""
    return sum(actor["State"] == "ALIVE" for actor in actors().values())


def recipe_of(train, rounds=3):
    model = {"w": np.zeros(1000, np.float32)}
    return FedAvgRecipe(model=model, min_clients=SITES, num_rounds=rounds, train=train)


def digest(recipe, workers, **options):
    env = SimEnv(num_clients=SITES, workers=workers, seed=5, **options)
    run = recipe.execute(env)
    return run.model.model_digest()


def task_of(index, tensors, round_number=0, train=ray_sites.train):
    site = SiteInfo(name=f"site-{index + 1}", index=index, seed=7, round_number=round_number)
    return TrainTask(Work(train, "numpy"), tensors, site)


def test_without_a_cluster_the_error_says_how_to_have_one():
    """Nothing is started behind the user's back."""
    with pytest.raises(RunFailed, match="ray start --head"):
        recipe_of(ray_sites.train).execute(SimEnv(num_clients=SITES, workers="ray"))


def test_one_actor_a_cpu_and_one_put_a_round(nodes):
    """However many sites there are; a site's state stays with it."""
    models = [TensorSet.from_params({"w": np.full(1000, n, np.float32)}) for n in range(3)]

    async def rounds():
        async with RaySpawner() as spawner:
            for number, model in enumerate(models):
                tasks = [task_of(index, model, number) for index in range(SITES)]
                outcomes = await asyncio.gather(*(spawner.run(task) for task in tasks))
                assert [one.meta["rounds"] for one in outcomes] == [number + 1] * SITES
                assert len({one.meta["pid"] for one in outcomes}) == 2
            return spawner.slots, spawner.hired, spawner.puts, spawner.retried

    assert asyncio.run(rounds()) == (2, 2, 3, 0)
    assert alive() == 0


def test_the_digits_job_gives_the_same_bits_as_inline(nodes):
    """With at most one actor a CPU alive at the end of every round."""
    counts = []

    def count(event):
        if isinstance(event, RoundFinished):
            counts.append(alive())

    runs = [digest(digits(7, 0.5), "ray", observer=count), digest(digits(7, 0.5), "inline")]
    assert runs[0] == runs[1]
    assert set(counts) == {2}


def test_filters_give_the_same_bits_as_inline(nodes, tmp_path):
    """They run where the coordinator is, around what actors train."""

    def filtered(workers):
        recipe = recipe_of(ray_sites.train)
        recipe.add_server_output_filter(ModelQuantizer())
        recipe.add_client_input_filter(ModelDequantizer())
        recipe.add_client_output_filter(GaussianDP(1.0, 0.01))
        return digest(recipe, workers, workspace_root=tmp_path)

    assert len({filtered(workers) for workers in ("ray", "process", "inline")}) == 1


def test_a_task_that_ends_three_actors_has_failed(nodes):
    """And the next one finds a new actor."""
    model = TensorSet.from_params({"w": np.zeros(4, np.float32)})

    async def run():
        async with RaySpawner(1) as spawner:
            with pytest.raises(TrainingFailed, match="its actor on the Ray cluster is gone"):
                await spawner.run(task_of(0, model, train=ray_sites.dying))
            assert (spawner.hired, spawner.retried) == (3, 2)
            return await spawner.run(task_of(0, model))

    assert asyncio.run(run()).meta["rounds"] == 1


def test_what_user_code_raises_arrives_with_its_line(nodes):
    """As from a worker process."""
    model = TensorSet.from_params({"x": np.zeros(4, np.float32)})

    async def run():
        async with RaySpawner(1) as spawner:
            await spawner.run(task_of(0, model))

    with pytest.raises(TrainingFailed, match="KeyError") as caught:
        asyncio.run(run())
    assert "ray_sites.py" in caught.value.details


def test_more_actors_than_cpus_are_refused(nodes):
    """The error says how many there are."""
    with pytest.raises(RunFailed, match="the Ray cluster has 2 CPUs"):
        recipe_of(ray_sites.train).execute(SimEnv(num_clients=SITES, workers="ray", num_threads=3))


def test_killing_a_node_costs_the_task_that_it_had(nodes, tmp_path):
    """One task is tried again, elsewhere; the model has the same bits."""
    head = ray.get_runtime_context().get_node_id()  # a driver belongs to its machine's first node
    train = partial(ray_sites.killing_the_node, folder=str(tmp_path), head=head)
    assert digest(recipe_of(train), "ray") == digest(recipe_of(ray_sites.train), "inline")
    begun = {path.stem: path.read_text().split() for path in tmp_path.glob("site-*.txt")}
    twice = {name: pids for name, pids in begun.items() if len(pids) > 1}
    assert len(begun) == 3 * SITES
    assert [len(pids) for pids in twice.values()] == [2]
    assert next(iter(twice)).endswith("-1")
    assert nodes[1].wait(60) != 0
