"""The same seed gives the same bits: whatever transport, worker, threads and order of arrival."""

from __future__ import annotations

import random

import anyio
import pytest

from flare_async.jobs.events import RoundStarted, SiteFinished
from tests.sim import jobs_small
from tests.sim.jobs_small import SITES, recipe_of, run_of


@pytest.fixture(scope="module")
def digest(tmp_path_factory):
    """Return the digest that a small job must have, run the simplest way."""
    found = {}

    def of(kind):
        if kind not in found:
            run = run_of(job(kind), tmp_path_factory.mktemp("plain"), check=True)
            found[kind] = run.model.model_digest()
        return found[kind]

    return of


def job(kind):
    """Return the recipe of a small job."""
    if kind == "torch":
        pytest.importorskip("torch")
        return recipe_of(jobs_small.torch_train, model=jobs_small.torch_model())
    return recipe_of()


@pytest.mark.parametrize(
    ("kind", "transport", "workers", "threads"),
    [
        ("numpy", "tcp", "inline", 1),
        ("numpy", "unix", "inline", 3),
        ("numpy", "memory", "thread", 1),
        ("numpy", "tcp", "thread", 4),
        ("numpy", "unix", "thread", 2),
        ("numpy", "memory", "process", 2),
        ("torch", "tcp", "inline", 1),
        ("torch", "memory", "thread", 2),
        ("torch", "unix", "process", 1),
    ],
)
def test_the_seed_alone_decides_the_model(tmp_path, digest, kind, transport, workers, threads):
    """Whatever moves it and wherever it is trained."""
    options = {"transport": transport, "workers": workers, "num_threads": threads}
    run = run_of(job(kind), tmp_path, check=True, **options)
    assert run.model.model_digest() == digest(kind)
    assert run.statistics.bytes_up == 2 * 4 * run.model.nbytes


def test_another_seed_gives_another_model(tmp_path, digest):
    """Otherwise the tests above would prove nothing."""
    assert run_of(recipe_of(), tmp_path, seed=8).model.model_digest() != digest("numpy")


class Turnstile:
    """Lets the sites of a round finish in a given order, each when the one before has arrived."""

    def __init__(self, order):
        self.order, self.waiting, self.arrived, self.most = order, {}, [], 0

    async def train(self, model, site):
        """Train, then wait for this site's turn."""
        result = jobs_small.numpy_train(model, site)
        self.waiting[site.name] = anyio.Event()
        self.most = max(self.most, len(self.waiting))
        if len(self.waiting) == len(self.order):
            self.waiting[self.order[0]].set()
        await self.waiting[site.name].wait()
        return result

    def observe(self, event):
        """Let the next one go."""
        if isinstance(event, RoundStarted):
            self.waiting.clear()
        if isinstance(event, SiteFinished):
            self.arrived.append(event.record.site)
            following = len(self.arrived) % len(self.order)
            if following:
                self.waiting[self.order[following]].set()


def arrivals():
    """Return twenty orders of arrival, the cohort's own and its reverse among them."""
    orders = [list(SITES), SITES[::-1]]
    dice = random.Random(11)
    while len(orders) < 20:
        orders.append(dice.sample(SITES, len(SITES)))
    return orders


def digest_of_arrival(order, root, transport, workers):
    """Return the model's digest when updates arrive in that order, with all sites in flight."""
    gate = Turnstile(order)
    recipe = recipe_of(gate.train, min_clients=6)
    options = {"workers": workers, "num_threads": 8, "transport": transport}
    run = run_of(recipe, root, check=True, num_clients=6, observer=gate.observe, **options)
    assert gate.arrived == [*order, *order]
    assert gate.most == 6
    return run.model.model_digest()


@pytest.mark.parametrize(
    ("transport", "workers"), [("memory", "inline"), ("tcp", "inline"), ("memory", "thread")]
)
def test_the_order_of_arrival_changes_no_bit(tmp_path, transport, workers):
    """Twenty permuted orders with six sites in flight give one digest."""
    orders = arrivals() if (transport, workers) == ("memory", "inline") else arrivals()[:5]
    found = {digest_of_arrival(order, tmp_path, transport, workers) for order in orders}
    plain = run_of(recipe_of(min_clients=6), tmp_path, num_clients=6).model.model_digest()
    assert found == {plain}
