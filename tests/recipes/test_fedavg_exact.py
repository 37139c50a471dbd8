"""``exact=`` on the recipe: one model, whoever adds, in whatever tree."""

from __future__ import annotations

import numpy as np
import pytest

from flare_async import FLModel, SimEnv
from flare_async.errors import ConfigError
from flare_async.recipes import FedAvgRecipe

NAMES = [f"site-{number}" for number in range(1, 8)]
TREES = {
    "two": 2,
    "five": 5,
    "deep": {"r1": "server", "r2": "r1", **dict.fromkeys(NAMES[:5], "r2")},
    "uneven": {"r1": "server", "r2": "server", **dict.fromkeys(NAMES[1:6], "r2"), "site-7": "r1"},
}


def train(model, site):
    """Add noise to weights of two widths, and count."""
    noise = site.rng.normal(size=300)
    params = {
        "w": model.params["w"] + noise.astype(np.float32) * 10 ** (site.index - 3),
        "h": model.params["h"] + noise[:20].astype(np.float16),
        "count": model.params["count"] + site.index,
    }
    return FLModel(params=params, meta={"NUM_STEPS_CURRENT_ROUND": 1 + 3 * site.index})


def recipe(**options):
    """Return two rounds of FedAvg."""
    model = {
        "w": np.zeros(300, np.float32),
        "h": np.zeros(20, np.float16),
        "count": np.array(5, np.int64),
    }
    return FedAvgRecipe(**{"model": model, "train": train, "min_clients": 7, **options})


def digest(tmp_path, made, **options):
    """Return the digest of a run's model."""
    env = SimEnv(num_clients=7, seed=3, workers="inline", workspace_root=tmp_path, **options)
    return made.execute(env).model.model_digest()


@pytest.mark.parametrize("transfer", ["FULL", "DIFF"])
def test_an_exact_model_has_the_same_bits_flat_and_below_relays_of_any_shape(tmp_path, transfer):
    """Relays that add, over both kinds of links; the usual sum differs between the same trees."""
    found, usual = set(), set()
    for relays in (None, *TREES.values()):
        tree = {} if relays is None else {"relays": relays, "relay_mode": "reduce"}
        made = recipe(exact=True, params_transfer_type=transfer)
        found.add(digest(tmp_path, made, **tree))
        usual.add(digest(tmp_path, recipe(params_transfer_type=transfer), **tree))
    tree = {"relays": TREES["uneven"], "relay_mode": "reduce", "transport": "tcp"}
    found.add(digest(tmp_path, recipe(exact=True, params_transfer_type=transfer), **tree))
    assert len(found) == 1
    assert len(usual) > 1


def test_the_scale_is_part_of_the_sum(tmp_path):
    """Steps of a half leave little of small noise, steps of 2**-40 nearly all of it."""
    coarse, fine = (digest(tmp_path, recipe(exact=True, scale_bits=bits)) for bits in (1, 40))
    assert coarse != fine


def test_an_exact_run_plans_for_accumulators_of_eight_bytes_a_value():
    """float32 has twice its size, and the mean is made a tensor at a time."""
    demand = recipe(exact=True).demand()
    assert (demand.accumulator, demand.narrowed) == (8 * 321, 1200)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"exact": True, "accumulator": "float32"}, "accumulator"),
        ({"exact": True, "staging": "repull"}, "exact"),
        ({"exact": "yes"}, "exact"),
        ({"exact": True, "scale_bits": 61}, "scale_bits"),
        ({"scale_bits": 1.5}, "scale_bits"),
    ],
)
def test_what_cannot_be_exact_is_named_at_construction(options, field):
    """Nothing is started."""
    with pytest.raises(ConfigError) as caught:
        recipe(**options)
    assert caught.value.field == field
