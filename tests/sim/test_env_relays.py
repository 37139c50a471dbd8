"""Simulated trees: relays between server and sites change nothing but the way."""

from __future__ import annotations

import json

import numpy as np
import pytest

from flare_async import SimEnv
from flare_async.errors import ConfigError
from flare_async.model import FLModel
from flare_async.recipes import FedAvgRecipe


def train(model, site):
    """Add noise of the site's own."""
    return FLModel(params={"w": model.params["w"] + site.rng.normal(size=300).astype(np.float32)})


def recipe(**options):
    """Return two rounds of FedAvg."""
    first = {"w": np.zeros(300, np.float32)}
    return FedAvgRecipe(**{"model": first, "train": train, "min_clients": 9, **options})


TREES = {
    "three": 3,
    "deep": {"r1": "server", "r2": "r1", **{f"site-{n}": "r2" for n in range(1, 8)}},
    "wide": {"r2": "r1", "r1": "server", "r3": "r1", "site-1": "r2", "site-9": "r3"},
}


@pytest.mark.parametrize("transport", ["memory", "tcp", "unix"])
@pytest.mark.parametrize("relays", TREES.values(), ids=TREES)
def test_a_tree_gives_the_bits_of_a_flat_run(tmp_path, transport, relays):
    """Any number of relays, any depth, any transport; sites may be left at the server."""
    options = {"num_clients": 9, "seed": 3, "workers": "inline", "workspace_root": tmp_path}
    flat = recipe().execute(SimEnv(**options))
    run = recipe().execute(SimEnv(**options, relays=relays, transport=transport))
    assert run.model.model_digest() == flat.model.model_digest()
    assert [row["arrived"] for row in run.history.rows()] == [9, 9]
    assert run.history.rows()[0]["bytes_down"] == 9 * 1200
    setting = json.loads((run.folder / "run.json").read_text())
    assert setting["setting"]["relay_mode"] == "splice" if "setting" in setting else True


@pytest.mark.parametrize(
    ("relays", "problem"),
    [
        (0, "from 1 to"),
        (10, "from 1 to"),
        (True, "from 1 to"),
        ({"r1": "r2", "r2": "r1"}, "loop"),
        ({"site-1": "r7"}, "neither a relay"),
        ({"site-1": "site-2"}, "neither a relay"),
        ({"r 1": "server"}, "no names"),
    ],
)
def test_a_tree_that_cannot_be_is_refused(relays, problem):
    """The error names the argument."""
    with pytest.raises(ConfigError, match=problem) as caught:
        SimEnv(num_clients=9, relays=relays)
    assert caught.value.field == "relays"


def test_an_unknown_mode_is_refused():
    """The modes that there are stand in the message."""
    with pytest.raises(ConfigError, match="splice"):
        SimEnv(num_clients=2, relays=1, relay_mode="copy")


@pytest.mark.parametrize("relays", TREES.values(), ids=TREES)
def test_a_tree_that_adds_agrees_with_a_flat_run(tmp_path, relays):
    """To the last digits, with the same bits over any transport; sites count, not relays."""
    options = {"num_clients": 9, "seed": 3, "workers": "inline", "workspace_root": tmp_path}
    flat = recipe().execute(SimEnv(**options)).model.numpy()["w"]
    digests = set()
    for transport in ("memory", "tcp"):
        env = SimEnv(**options, relays=relays, transport=transport, relay_mode="reduce")
        run = recipe().execute(env)
        digests.add(run.model.model_digest())
        assert np.allclose(run.model.numpy()["w"], flat, rtol=1e-6, atol=1e-6)
        assert [row["arrived"] for row in run.history.rows()] == [9, 9]
    assert len(digests) == 1
