"""Relays that add: one update for all below one, each site once, the bits of the same groups."""

from __future__ import annotations

import anyio
import numpy as np
import pytest

from flare_async.limits import Limits
from flare_async.roles.client import SiteResult
from flare_async.roles.round import RoundTask
from flare_async.transfer.mean import MeanOptions, WeightedMean
from flare_async.transfer.tensors import TensorSet
from tests.roles.federation import MODEL, SCHEMES, Trains, expected, settle, values
from tests.roles.tree import ONE, tree

both = pytest.mark.parametrize("scheme", SCHEMES)
DEEP = {"r1": "server", "r2": "r1", "r3": "r2"}
TWO = {"r1": "server", "r2": "server"}
SHARES = {"a": (0.1, 3.0), "b": (2.7, 1.3), "c": (0.3, 7.0), "d": (5.1, 0.9), "e": (1.1, 2.0)}
BELOW = {"r1": ("a", "c"), "r2": ("b", "e"), "server": ("d",)}
GROUPS = (("a", "c"), ("b", "e"))


def workers(below=BELOW, **options):
    """Return a worker for each site, below its relay, in the order of the sites."""
    parents = {site: parent for parent, sites in below.items() for site in sites}
    return {
        (parents[site], site): Trains(step, weight=weight, **options.get(site, {}))
        for site, (step, weight) in SHARES.items()
        if site in parents
    }


async def play(made, options=None, number=0, model=MODEL, **rest):
    """Run a round; return the new model and the sites in the order of the sum."""
    order = made.cohort.sites
    with WeightedMean(model, order=order, options=options) as mean:
        async with made.cohort.round(
            RoundTask("job", number, 9),
            model,
            reducer=mean,
            weigh=lambda site, meta: meta["weight"],
            **rest,
        ) as updates:
            arrived = [site async for site, _ in updates]
            assert len(arrived) == len(set(arrived)), "S1: one contribution a site"
            result = mean.finish()
        return result.model_digest(), mean.statistics, result


def played(sim, relays, below=BELOW, options=None, scheme="sim", mode="reduce", **rest):
    """Return what ``play`` gives in a tree of its own."""

    async def main():
        async with tree(relays, workers(below), scheme=scheme, mode=mode) as made:
            found = await play(made, options, **rest)
            await settle()
            return *found, made.seen.status()

    return sim(main)


@both
def test_a_reduced_round_has_the_bits_of_a_flat_one_with_the_same_groups(sim, scheme):
    """Two relays and a site beside them; each site is there by itself, with its weight."""
    found, statistics, model, status = played(sim, TWO, scheme=scheme)
    flat = {"server": tuple(SHARES)}
    groups = MeanOptions(groups=GROUPS)
    expected_bits, plan, _, _ = played(sim, {}, flat, options=groups, scheme=scheme)
    _, _, plain, _ = played(sim, {}, flat, scheme=scheme)
    assert found == expected_bits
    assert statistics.sites == plan.sites
    assert status == dict.fromkeys(SHARES, "ok")
    assert np.allclose(model.numpy()["w"], plain.numpy()["w"], rtol=1e-6)


@both
def test_an_exact_sum_is_the_same_below_any_relays(sim, scheme):
    """Only that keeps its bits when sites change relays."""
    exact = MeanOptions(exact=True)
    flat, *_ = played(sim, {}, {"server": tuple(SHARES)}, options=exact, scheme=scheme)
    plans = [BELOW, {"r1": ("d", "b", "a"), "r2": ("c", "e")}, {"r1": tuple(SHARES)}]
    for below in plans:
        assert played(sim, TWO, below, options=exact, scheme=scheme)[0] == flat


def test_the_relay_at_the_top_adds_what_is_behind_those_below_it(sim):
    """A site three relays down is pulled through two and added by the first."""
    found, statistics, _, status = played(sim, DEEP, {"r3": ("a", "b", "c")})
    flat, *_ = played(
        sim, {}, {"server": ("a", "b", "c")}, options=MeanOptions(groups=[("a", "b", "c")])
    )
    assert found == flat
    assert status == dict.fromkeys("abc", "ok")
    assert [site for site, _ in statistics.sites] == ["a", "b", "c"]


def offered(shelf):
    """Return a list that gets what is put on a shelf from now on."""
    found, put = [], shelf.put

    def noted(*args, **options):
        found.append(put(*args, **options))
        return found[-1]

    shelf.put = noted
    return found


def test_the_parent_of_a_relay_that_adds_receives_one_update(sim):
    """Counted in bytes: each site gives its update once, to the relay, and the relay gives one."""
    model = TensorSet.from_params({"w": np.ones(250_000, np.float32)})

    async def main():
        async with tree(ONE, workers({"r1": ("a", "b", "c")}), mode="reduce") as made:
            sums = offered(made.relays["r1"]._reducing._setting.shelf)
            updates = [offered(made.clients[site].shelf) for site in "abc"]
            await play(made, model=model)
            return [dict(o.served) for o in sums], [dict(o.served) for [o] in updates]

    sums, updates = sim(main)
    assert sums == [{"server": model.nbytes}]
    assert updates == [{"r1": model.nbytes}] * 3


def test_committed_comes_when_the_sum_is_in_and_sites_keep_their_offers_until_then(sim):
    """A site that is done early still holds its update while another one trains."""

    async def main():
        placed = workers({"r1": ("a", "b")}, b={"seconds": 30.0})
        async with tree(ONE, placed, mode="reduce") as made:
            counts = []

            async def look():
                await anyio.sleep(15)
                counts.append(len(made.clients["a"].shelf._offers))

            made.context.tasks.start_soon(look)
            await play(made)
            await settle()
            counts.append(len(made.clients["a"].shelf._offers))
            shelf = made.relays["r1"]._reducing._setting.shelf
            return counts, len(shelf._offers), len(made.server.shelf._offers)

    assert sim(main) == ([1, 0], 0, 0)


def test_a_window_smaller_than_a_group_holds_nobody_up(sim):
    """What a relay keeps needs no place in it."""

    async def main():
        async with tree(TWO, workers(), mode="reduce") as made:
            made.cohort._window = 1
            return (await play(made))[0]

    flat = played(sim, {}, {"server": tuple(SHARES)}, options=MeanOptions(groups=GROUPS))
    assert sim(main) == flat[0]


def test_a_deadline_gathers_what_relays_keep(sim):
    """The late site is late, by name; the others of its relay are in."""

    async def main():
        placed = workers(c={"seconds": 500.0})
        async with tree(TWO, placed, mode="reduce") as made:
            found = await play(made, quorum=4, deadline=60.0)
            return found[0], made.seen.status(), found[1].sites

    digest, status, sites = sim(main)
    assert status == dict.fromkeys(SHARES, "ok") | {"c": "late"}
    assert [site for site, _ in sites] == ["a", "b", "e", "d"]
    assert digest


def test_an_update_that_a_relay_refuses_is_named_and_the_others_are_in(sim):
    """Not finite: the site is refused, and its group is added without it."""

    async def main():
        placed = workers()
        placed["r1", "c"] = Trains(float("nan"))
        async with tree(TWO, placed, mode="reduce") as made:
            _, statistics, model = await play(made, quorum=4)
            record = made.seen.records[0, "c"]
            return values(model), record.status, record.reason, statistics.sites

    result, status, reason, sites = sim(main)
    assert np.allclose(result, expected(*(SHARES[site] for site in "abed")), rtol=1e-6)
    assert status == "refused"
    assert "c: tensor 'w'" in reason
    assert len(sites) == 4


class Brings(Trains):
    """A worker that brings a difference or a model, of every tensor in its own type."""

    kind = "FULL"

    async def run(self, task):
        """Work on one task."""
        full = self.kind == "FULL"
        params = {
            name: (array * full + array.dtype.type(self.step * 1.7)).astype(array.dtype)
            for name, array in task.tensors.numpy().items()
        }
        found = TensorSet.from_params(params)
        return SiteResult(found, self.kind, {}, {"weight": self.weight})


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("staging", [0, 64 * 1024])
def test_differences_and_excluded_tensors_have_the_bits_of_the_same_groups(sim, exact, staging):
    """Halves and integers, from memory and from the spool of both sides."""
    draw = np.random.default_rng(5)
    model = TensorSet.from_params(
        {
            "w": draw.normal(size=5000).astype(np.float32),
            "h": draw.normal(size=300).astype(np.float16),
            "n": draw.integers(0, 99, 7, np.uint8),
            "kept": draw.normal(size=9),
        }
    )

    async def main(relays, below, groups):
        options = MeanOptions(exclude="^kept", exact=exact, groups=groups)
        placed = {at: Brings(made.step, weight=made.weight) for at, made in workers(below).items()}
        for (_, site), worker in placed.items():
            worker.kind = "DIFF" if site in "ae" else "FULL"
        limits = Limits(staging_bytes=staging)
        async with tree(relays, placed, limits=limits, mode="reduce") as made:
            digest, statistics, result = await play(made, options, model=model)
            assert np.array_equal(result.numpy()["kept"], model.numpy()["kept"])
            return digest, statistics.weight

    flat = sim(lambda: main({}, {"server": tuple(SHARES)}, GROUPS))
    assert sim(lambda: main(TWO, BELOW, ())) == flat
