"""FedBN: which layers stay local, and that they do."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from flare_async import FLModel, SimEnv
from flare_async.client.fedbn import LocalTensors
from flare_async.errors import ConfigError
from flare_async.recipes.fedbn import FedBNRecipe, normalisation_layers


def network():
    """Return a network with two kinds of normalisation."""
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3),
        torch.nn.BatchNorm2d(2),
        torch.nn.Sequential(torch.nn.InstanceNorm2d(2, affine=True), torch.nn.LayerNorm(2)),
    )


class BatchNormalization:
    """A Keras layer, known by the name of its class."""

    name = "norm"


def test_layers_are_found_in_every_kind_of_model():
    """Batch and instance normalisation, but not that of layers."""
    keras = SimpleNamespace(
        layers=[BatchNormalization(), SimpleNamespace(name="dense")],
        get_weights=list,
        set_weights=list,
    )
    assert normalisation_layers(network()) == {"1", "2.0"}
    assert normalisation_layers(keras) == {"norm"}
    assert normalisation_layers({"a.bn.running_mean": 0, "a.bn.weight": 0, "a.w": 0}) == {"a.bn"}
    assert normalisation_layers(np.zeros(3)) == set()


def train(model, site):
    """Add the site's number to its own tensors, and return them."""
    local = LocalTensors(site.config["local_vars"], site.state)
    local.restore(model.params)
    new = {name: value + site.index + 1 for name, value in model.params.items()}
    local.keep(new)
    return FLModel(params=new, metrics={"own": float(new["bn.weight"][0])})


def recipe(**options):
    """Return three rounds of FedBN."""
    names = ("w", "bn.weight", "bn.running_mean")
    model = {name: np.zeros(2, np.float32) for name in names}
    settings = {"model": model, "train": train, "min_clients": 2, "num_rounds": 3}
    return FedBNRecipe(**{**settings, **options})


@pytest.mark.parametrize("relays", [None, 1])
def test_normalisation_stays_at_the_sites_and_all_else_is_averaged(tmp_path, relays):
    """The server's values are the first ones; each site goes on from its own."""
    options = {} if relays is None else {"relays": relays, "relay_mode": "reduce"}
    env = SimEnv(num_clients=2, workers="inline", workspace_root=tmp_path, **options)
    run = recipe().execute(env)
    found = {name: value.max() for name, value in run.model.numpy().items()}
    assert found == {"w": 4.5, "bn.weight": 0.0, "bn.running_mean": 0.0}
    last = run.history.rounds[-1].sites
    assert [site.metrics["own"] for site in last] == [3.0, 6.0]


def test_other_tensors_can_stay_local_too():
    """``exclude_vars`` is added to what is found."""
    model = {name: np.zeros(2, np.float32) for name in ("v", "w", "bn.running_mean")}
    made = recipe(model=model, exclude_vars="^w$")
    assert made.exclude_vars == r"^bn(?:[./]|$)|(?:^w$)"
    assert made.work("site-1").config == {"local_vars": made.exclude_vars}


def test_a_model_without_normalisation_is_refused():
    """It would be FedAvg under another name."""
    with pytest.raises(ConfigError, match="has no layer for batch normalisation"):
        recipe(model={"w": np.zeros(2)})


def test_what_is_kept_is_a_copy():
    """Training goes on with its own arrays; lists are those of a Keras layer."""
    state, tensor, arrays = {}, torch.ones(2), [np.ones(2)]
    local = LocalTensors("^n", state)
    local.keep({"n": tensor, "nn": arrays, "other": tensor})
    tensor += 1
    arrays[0] += 1
    params = {"n": None, "nn": None, "other": None}
    LocalTensors("^n", state).restore(params)
    assert params["n"].tolist() == params["nn"][0].tolist() == [1.0, 1.0]
    assert params["other"] is None


def test_a_state_that_is_taken_is_refused():
    """Something else of the user's stands there."""
    with pytest.raises(TypeError, match="state\\['local_tensors'\\] is int"):
        LocalTensors("n", {"local_tensors": 1})
