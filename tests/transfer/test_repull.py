"""A mean without a disk: the bits of a staged one, whoever is lost on the way."""

from __future__ import annotations

from contextlib import asynccontextmanager

import numpy as np
import pytest

from flare_async.errors import (
    ConfigError,
    LocalProtocolError,
    OfferGone,
    TransferError,
    UpdateRefused,
)
from flare_async.limits import MIB, Limits
from flare_async.model import ParamsType
from flare_async.testing import BitFlip
from flare_async.transfer.mean import MeanOptions, WeightedMean
from flare_async.transfer.repull import RepulledMean
from flare_async.transfer.tensors import TensorSet
from tests.transfer.helpers import fill, numbers
from tests.transfer.pulling import pulling, real_links, run, sim_links

ORDER = ["a", "b", "c"]
WEIGHTS = {"a": 1.0, "b": 2.5, "c": 0.3}
SMALL = Limits(staging_bytes=800)  # of four tensors two groups


def update(seed):
    """Return four tensors, two of them tied, one of whole numbers."""
    tie = numbers(seed, (11, 3))
    steps = np.array([seed, 7], np.int64)
    return TensorSet.from_params(
        {"w": numbers(seed + 10), "in": tie, "out": tie, "half": numbers(seed, 9, np.float16)}
        | {"steps": steps}
    )


UPDATES = {site: update(number) for number, site in enumerate(ORDER)}
MODEL = update(99)


def staged(sites, kind=ParamsType.FULL):
    """Return the digest of the mean that stages its updates."""
    with WeightedMean(MODEL, order=ORDER, options=MeanOptions(params_type=kind)) as mean:
        for site in sites:
            fill(mean.stage(site, WEIGHTS[site]), UPDATES[site])
            mean.commit(site)
        return mean.finish().model_digest()


class Federation:
    """A mean whose sites have their updates on one shelf."""

    def __init__(self, world, options=None, limits=SMALL):
        self.world = world
        self.mean = RepulledMean(MODEL, order=ORDER, limits=limits, options=options)
        self.offers = {site: world.shelf.put(UPDATES[site]) for site in ORDER}
        self.asked = []

    async def first(self, *sites):
        """Let updates pass and commit them."""
        for site in sites:
            ref, sink = self.offers[site].ref, self.mean.stage(site, WEIGHTS[site])
            await self.world.downloader.fetch(self.world.pair.here, ref, sink)
            self.mean.commit(site)

    async def pull(self, site, names, sink):
        """Fetch tensors of an update again."""
        self.asked.append((site, len(names)))
        ref = self.offers[site].ref
        await self.world.downloader.fetch(self.world.pair.here, ref, sink, only=names)


@asynccontextmanager
async def federation(make, **options):
    """Yield a federation over a new connection."""
    async with pulling(make) as world:
        yield Federation(world, **options)


@pytest.mark.parametrize("scheme", ["memory", "tcp"])
@pytest.mark.parametrize("kind", [ParamsType.FULL, ParamsType.DIFF])
def test_it_has_the_bits_of_a_staged_mean(scheme, kind):
    """Whatever the order of arrival; tied and narrow tensors, whole numbers, diffs."""

    async def main():
        options = MeanOptions(params_type=kind)
        async with federation(real_links(scheme), options=options) as fed:
            await fed.first("c", "a", "b")
            found = await fed.mean.pull_again(fed.pull)
            assert fed.mean._pool.leased == 0
            return found.model_digest(), dict(found.aliases), fed.asked, fed.mean.sites

    digest, aliases, asked, sites = run(main)
    assert digest == staged(ORDER, kind)
    assert aliases == {"out": "in"}
    assert asked == [("a", 1), ("b", 1), ("c", 1), ("a", 3), ("b", 3), ("c", 3)]
    assert sites == tuple(WEIGHTS.items())


@pytest.mark.parametrize("lost", ["a", "b", "c"])
@pytest.mark.parametrize("after", [0, 2, 3])
def test_a_site_that_is_lost_is_in_no_sum(sim, lost, after):
    """F28: the mean begins anew without it, and has the bits of a round without it."""

    async def main():
        async with federation(sim_links()) as fed:
            await fed.first(*ORDER)

            async def pull(site, names, sink):
                if len(fed.asked) >= after:
                    fed.world.shelf.withdraw(fed.offers[lost])
                await fed.pull(site, names, sink)

            found = await fed.mean.pull_again(pull)
            return found.model_digest(), {s: type(e) for s, e in fed.mean.lost.items()}

    digest, errors = sim(main)
    assert errors == {lost: OfferGone}
    assert digest == staged([site for site in ORDER if site != lost])


def test_a_site_that_offers_other_bytes_is_left_out(sim):
    """What was admitted is what is added, or nothing."""

    async def main():
        async with federation(sim_links()) as fed:
            await fed.first(*ORDER)
            fed.offers["b"] = fed.world.shelf.put(UPDATES["a"])
            found = await fed.mean.pull_again(fed.pull)
            return found.model_digest(), str(fed.mean.lost["b"])

    digest, problem = sim(main)
    assert digest == staged(["a", "c"])
    assert "b, tensor 'w': has other bytes than when it was admitted" in problem


def test_nobody_left_is_an_error(sim):
    """All were lost, or none came."""

    async def main():
        async with federation(sim_links()) as fed:
            await fed.first("a")
            fed.world.shelf.withdraw(fed.offers["a"])
            with pytest.raises(LocalProtocolError, match="1 were lost"):
                await fed.mean.pull_again(fed.pull)
            with pytest.raises(LocalProtocolError, match="pull_again"):
                fed.mean.finish()

    sim(main)


def test_a_damaged_tensor_passes_again(sim):
    """Nothing was kept, so all of it is asked for."""
    big = TensorSet.from_params({"w": np.arange(400_000, dtype=np.float32)})

    async def main():
        faults = [BitFlip(MIB + 7, payload=True, direction="down")]
        async with pulling(sim_links(faults=faults)) as world:
            mean = RepulledMean(big, order=["a"])
            ref, sink = world.shelf.put(big).ref, mean.stage("a", 1)
            report = await world.downloader.fetch(world.pair.here, ref, sink)
            mean.commit("a")
            return report.repulled_bytes

    assert sim(main) == 1_600_000


BAD = {
    "not finite": ({"w": np.full((37, 5), np.nan, np.float32)}, "site.*'w'.*not finite"),
    "another shape": ({"w": np.zeros((5, 37), np.float32)}, "'w' is F32.5, 37., not F32.37, 5."),
    "another type": ({"w": np.zeros((37, 5), np.float64)}, "'w' is F64.37, 5., not F32.37, 5."),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("piece", [3, 64])
def test_a_bad_update_is_refused_by_the_tensors_name(case, piece):
    """F38: at the first look, also when a value is cut in two; it has touched nothing."""
    bad, problem = BAD[case]
    model = TensorSet.from_params({"w": np.ones((37, 5), np.float32)})
    mean = RepulledMean(model, order=["site"])
    with pytest.raises(UpdateRefused, match=problem):
        fill(mean.stage("site", 1.0), TensorSet.from_params(bad), piece=piece)
    with pytest.raises(TransferError, match="not whole"):
        mean.commit("site")


@pytest.mark.parametrize("made", [WeightedMean, RepulledMean])
@pytest.mark.parametrize("kind", [ParamsType.FULL, ParamsType.DIFF])
def test_a_tensor_of_1e30_is_refused_by_its_name_and_has_touched_nothing(made, kind):
    """F38: finite, and useless: the others' mean is the one of a round without that site."""
    model = TensorSet.from_params({"w": np.ones((37, 5), np.float32), "n": np.ones(3, np.int64)})
    good = TensorSet.from_params({"w": numbers(1), "n": np.arange(3)})
    bad = TensorSet.from_params({"w": np.full((37, 5), 1e30, np.float32), "n": np.arange(3)})
    options = MeanOptions(params_type=kind, max_norm=1e6)
    mean = made(model, order=["bad", "good"], options=options)

    def commit(site, update):
        fill(mean.stage(site, 1.0), update, piece=61)
        mean.commit(site)

    with pytest.raises(
        UpdateRefused, match=r"bad, tensor 'w': its norm 1\.36e\+31 is above 1e\+06"
    ):
        commit("bad", bad)
    mean.discard("bad")
    commit("good", good)
    if made is WeightedMean:
        expected = good.numpy()["w"] + (kind is ParamsType.DIFF)
        assert np.array_equal(mean.finish().numpy()["w"], expected.astype(np.float32))


def test_a_norm_that_is_none_is_a_wrong_option():
    """Zero, negative, infinite or no number."""
    for most in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ConfigError, match="max_norm"):
            WeightedMean(MODEL, order=["a"], options=MeanOptions(max_norm=most))


def test_a_weight_or_a_tie_that_is_wrong_discards_the_site():
    """Untied tensors may come untied, with the same bytes."""
    mean = RepulledMean(MODEL, order=["a", "b", "c"])
    fill(mean.stage("a", -1.0), UPDATES["a"])
    with pytest.raises(UpdateRefused, match=r"weight -1\.0"):
        mean.commit("a")
    views = {name: np.array(array) for name, array in UPDATES["b"].numpy().items()}
    fill(mean.stage("b", 1.0), TensorSet.from_params(views))
    mean.commit("b")
    views["out"] = views["out"] + 1
    fill(mean.stage("c", 1.0), TensorSet.from_params(views))
    with pytest.raises(UpdateRefused, match="'out': has other bytes than 'in'"):
        mean.commit("c")
    with pytest.raises(LocalProtocolError, match="discarded already"):
        mean.commit("c")
    assert mean.sites == (("b", 1.0),)


def test_ranges_pass_in_order():
    """It looks at what passes and keeps nothing."""
    sink = RepulledMean(MODEL, order=["a"]).stage("a", 1.0)
    sink.begin(MODEL.specs, MODEL.aliases)
    sink.destination("w", 8, 8)[:] = bytes(8)
    with pytest.raises(TransferError, match="8 come, 0 are the next"):
        sink.landed("w", 8, 8)
    with pytest.raises(TransferError, match="nowhere"):
        sink.landed("w", 0, 4)
    sink.write("w", 0, memoryview(bytes(8)))
    assert bytes(sink.read("w", 0, 8)) == b""
    with pytest.raises(TransferError, match="cannot pass again from 4"):
        sink.reject("w", 4, 4)
    sink.discard()
