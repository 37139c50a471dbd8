"""The digits job's functions, without a federation around them."""

from __future__ import annotations

import pytest

pytest.importorskip("sklearn")
torch = pytest.importorskip("torch")

from flare_async.jobs.site import Site, SiteInfo  # noqa: E402
from flare_async.model import FLModel  # noqa: E402
from flare_async.sim.baselines import (  # noqa: E402
    Comparison,
    Setting,
    compare,
    one_thread,
    train_pooled,
)
from flare_async.sim.digits import evaluate, network, recipe, train  # noqa: E402


def site(index: int = 0, round_number: int = 0) -> Site:
    """Return one of eight sites."""
    info = SiteInfo(
        name=f"site-{index + 1}",
        index=index,
        num_sites=8,
        seed=7,
        round_number=round_number,
        config={"alpha": 0.5},
    )
    return Site(info, {})


def params(seed: int = 7) -> dict[str, object]:
    """Return the weights of a fresh network."""
    return dict(network(seed).state_dict())


def test_the_first_weights_depend_on_the_seed_only() -> None:
    """Torch's global generator plays no part."""
    torch.manual_seed(1)
    first = params(3)
    torch.manual_seed(2)
    assert all(torch.equal(first[name], value) for name, value in params(3).items())
    assert not torch.equal(first["0.weight"], params(4)["0.weight"])


def test_the_network_is_small() -> None:
    """A few thousand weights: a round moves kilobytes."""
    assert sum(p.numel() for p in network().parameters()) == 4810


def test_training_twice_gives_the_same_bits() -> None:
    """All randomness comes from the site."""
    with one_thread():
        first, again = (train(FLModel(params=params()), site(2)) for _ in range(2))
    assert first.metrics == again.metrics
    assert all(torch.equal(first.params[name], again.params[name]) for name in first.params)


def test_training_helps_and_says_how_many_steps_it_took() -> None:
    """The weight of an update is its number of steps: two epochs of batches of eight."""
    before = evaluate(FLModel(params=params()), site(4))
    update = train(FLModel(params=params()), site(4))
    after = evaluate(FLModel(params=update.params), site(4))
    assert after["accuracy"] > before["accuracy"] + 0.3
    assert update.meta["NUM_STEPS_CURRENT_ROUND"] == 66


def test_an_alpha_that_is_no_number_is_refused() -> None:
    """The message names it."""
    info = SiteInfo(name="site-1", num_sites=8, config={"alpha": "low"})
    with pytest.raises(TypeError, match="alpha='low'"):
        train(FLModel(params=params()), Site(info, {}))


def test_the_recipe_is_that_of_the_main_job() -> None:
    """Ten rounds, eight sites, chosen by accuracy."""
    made = recipe(seed=3, alpha=0.1)
    assert (made.name, made.num_rounds, made.min_clients) == ("digits", 10, 6)
    assert made.key_metric == "accuracy"
    assert made.train_config == {"alpha": 0.1}


def test_pooled_training_is_deterministic_and_good() -> None:
    """One party with all images does well after few epochs."""
    setting = Setting(num_sites=8, rounds=2, alpha=0.5, seed=7)
    with one_thread():
        first, again = train_pooled(setting), train_pooled(setting)
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_the_comparison_reads_every_model_on_the_test_set() -> None:
    """A fresh network knows nothing, a site alone knows its digits, pooled training knows most."""
    comparison = compare(network(7).state_dict(), Setting(4, 1, 0.5, 7))
    assert len(comparison.alone) == 4
    assert comparison.federated < 0.3 < comparison.best_alone < comparison.pooled


def test_the_best_site_is_the_one_with_the_highest_test_accuracy() -> None:
    """It is picked with hindsight, which flatters it."""
    comparison = Comparison(federated=0.9, alone=(0.2, 0.7, 0.5), pooled=0.95)
    assert (comparison.best_site, comparison.best_alone) == (1, 0.7)
