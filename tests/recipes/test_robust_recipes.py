"""Robust means as ``aggregator=`` of FedAvg: the same bits everywhere, and one site that lies."""

from __future__ import annotations

import numpy as np
import pytest

from flare_async import FLModel, Limits, SimEnv
from flare_async.errors import ConfigError
from flare_async.recipes import FedAvgRecipe, Krum, TrimmedMean
from tests.references import robust as reference

RULES = {"median": "median", "trimmed": TrimmedMean(0.2), "krum": Krum(f=1), "multi": Krum(1, 2)}
SIZE = 60


def noisy(model, site):
    """Add the site's noise, in an order of magnitude of its own; one site sends nonsense."""
    noise = site.rng.normal(size=SIZE) * (1 + site.index)
    if site.config.get("fails"):
        raise RuntimeError("no data here")
    if site.config.get("lies"):
        noise = noise * 1e6
    w = (model.params["w"].astype(np.float64) + noise).astype(np.float32)
    return FLModel(params={"w": w}, meta={"NUM_STEPS_CURRENT_ROUND": 1 + site.index})


def recipe(rule, **options):
    """Return two rounds of FedAvg with a rule in place of the mean."""
    usual = {"model": {"w": np.zeros(SIZE, np.float32)}, "train": noisy, "min_clients": 5}
    return FedAvgRecipe(**{**usual, "aggregator": rule, **options})


def env(folder, clients=6, **options):
    """Return an environment of six sites."""
    settings = {"workers": "inline", "seed": 3, "workspace_root": folder, **options}
    return SimEnv(num_clients=clients, **settings)


def expected(rule, sites):
    """Return two rounds of the reference, with the noise of those sites."""
    model = np.zeros(SIZE, np.float32)
    for number in range(2):
        updates = [with_noise(model, number, index) for index in sites]
        if rule == "median":
            model = reference.median(updates)
        elif isinstance(rule, TrimmedMean):
            model = reference.trimmed_mean(updates, rule.beta)
        else:
            model = reference.multi_krum(updates, rule.f, rule.m)
        model = model.astype(np.float32)
    return model


def with_noise(model, number, index):
    """Return what ``noisy`` makes of a model, from the documented entropy of ``site.rng``."""
    sequence = np.random.SeedSequence(3, spawn_key=(number, index, 0))
    noise = np.random.Generator(np.random.PCG64(sequence)).normal(size=SIZE) * (1 + index)
    return (model.astype(np.float64) + noise).astype(np.float32)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_in_place_of_the_mean_equals_its_reference(tmp_path, name):
    """Two rounds, whatever weights the sites report."""
    run = recipe(RULES[name]).execute(env(tmp_path))
    found = run.model.numpy()["w"]
    np.testing.assert_allclose(found, expected(RULES[name], range(6)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", RULES)
def test_bits_are_the_same_everywhere(tmp_path, name):
    """Over sockets with a spool, behind relays that would add, in threads."""
    digests = set()
    for options in (
        {},
        {"workers": "thread", "num_threads": 4},
        {"transport": "tcp", "limits": Limits(staging_bytes=100)},
        {"relays": 2, "relay_mode": "reduce"},
        {"relays": 2, "relay_mode": "reduce", "transport": "tcp"},
    ):
        digests.add(recipe(RULES[name]).execute(env(tmp_path, **options)).model.model_digest())
    assert len(digests) == 1


@pytest.mark.slow
def test_bits_are_the_same_in_processes(tmp_path):
    """Two of them, for six sites."""
    digests = {
        recipe("median").execute(env(tmp_path, **options)).model.model_digest()
        for options in ({}, {"workers": "process", "num_threads": 2})
    }
    assert len(digests) == 1


@pytest.mark.parametrize("name", RULES)
def test_a_site_that_fails_is_left_out(tmp_path, name):
    """The others' updates are combined as if it were not there."""
    made = recipe(RULES[name], per_site_config={"site-2": {"fails": True}})
    run = made.execute(env(tmp_path))
    wanted = expected(RULES[name], [0, 2, 3, 4, 5])
    np.testing.assert_allclose(run.model.numpy()["w"], wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", RULES)
def test_a_site_that_lies_moves_the_model_no_further_than_the_others(tmp_path, name):
    """The mean would be off by a million."""
    lies = {"per_site_config": {"site-6": {"lies": True}}}
    run = recipe(RULES[name], **lies).execute(env(tmp_path))
    assert np.abs(run.model.numpy()["w"]).max() < 60
    mean = recipe(None, **lies).execute(env(tmp_path))
    assert np.abs(mean.model.numpy()["w"]).max() > 1e5


def test_a_rule_needs_as_many_clients_as_it_says():
    """Krum with two liars needs seven."""
    with pytest.raises(ConfigError, match="needs 7 updates") as caught:
        recipe(Krum(f=2))
    assert caught.value.field == "min_clients"


def test_the_plan_holds_the_updates_of_all_sites():
    """They wait in the staging area; a weighted mean adds them as they come."""
    assert recipe("median").demand().waiting(9) == 9
    assert recipe("median", clients_per_round=6, over_select=1.5).demand().waiting(99) == 9
    assert recipe(None).demand().waiting(9) == 0
