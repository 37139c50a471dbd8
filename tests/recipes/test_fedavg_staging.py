"""Where updates wait changes no bit, and what is refused is refused in both places."""

from __future__ import annotations

import numpy as np
import pytest

from flare_async import FLModel, SimEnv
from flare_async.errors import ConfigError, QuorumNotReached
from flare_async.recipes import FedAvgRecipe

TRANSPORTS = ["memory", "tcp"]


def train(model, site):
    """Add noise; the third site's is enormous where its options say so."""
    factor = site.config.get("factor", 1.0)
    noise = {name: site.rng.normal(size=a.size).astype(a.dtype) for name, a in model.params.items()}
    params = {name: array + noise[name] * factor for name, array in model.params.items()}
    return FLModel(params=params, meta={"NUM_STEPS_CURRENT_ROUND": site.index + 1})


def play(tmp_path, *, transport="memory", check=True, **options):
    """Run two rounds with three sites."""
    model = {name: np.ones(1000, np.float32) for name in ("a", "b", "c")}
    settings = {"min_clients": 2, "num_rounds": 2, "train": train, **options}
    env = SimEnv(num_clients=3, seed=3, transport=transport, workspace_root=tmp_path)
    return FedAvgRecipe(model=model, **settings).execute(env, check=check)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_pulling_again_gives_the_bits_of_staging(tmp_path, transport):
    """Sites keep their updates until the round is committed."""
    spool = play(tmp_path, transport=transport)
    again = play(tmp_path, transport=transport, staging="repull")
    assert again.model.model_digest() == spool.model.model_digest()
    assert [record.arrived for record in again.history.rounds] == [3, 3]


@pytest.mark.parametrize("staging", ["spool", "repull"])
def test_an_update_that_is_too_long_is_refused(tmp_path, staging):
    """The bits are those of a run without that site."""
    config = {"site-3": {"factor": 1e6}}
    run = play(tmp_path, max_norm=1e4, per_site_config=config, staging=staging)
    assert set(run.history.failed_sites()) == {"site-3"}
    alone = FedAvgRecipe(
        model={name: np.ones(1000, np.float32) for name in ("a", "b", "c")},
        min_clients=2,
        num_rounds=2,
        train=train,
    ).execute(SimEnv(num_clients=2, seed=3, workspace_root=tmp_path))
    assert run.model.model_digest() == alone.model.model_digest()


def test_too_few_updates_that_pass_the_norm_fail_the_run(tmp_path):
    """The quorum holds for what was admitted."""
    run = play(tmp_path, max_norm=1e-3, staging="repull", check=False)
    assert isinstance(run.cause, QuorumNotReached)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("staging", "disk"),
        ("max_norm", 0),
        ("max_norm", float("nan")),
        ("server_memory_gc_rounds", -1),
        ("client_memory_gc_rounds", 0.5),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, name, value):
    """At construction."""
    with pytest.raises(ConfigError, match=name):
        play(tmp_path, **{name: value})


def test_a_site_that_is_lost_when_it_is_pulled_again_is_a_failed_one(tmp_path):
    """Neither its metrics nor its weight count, and the history says why."""

    def boast(model, site):
        result = train(model, site)
        result.metrics = {"score": float(site.index)}
        if site.index == 2:  # passes once, and could make a float32 sum infinite
            result.params["a"][:] = 1e38
        return result

    options = {"accumulator": "float32", "num_rounds": 1, "train": boast}
    run = play(tmp_path, staging="repull", **options)
    (record,) = run.history.rounds
    assert record.arrived == 2
    assert record.metrics == {"score": pytest.approx(2 / 3)}
    assert "could not be pulled again" in run.history.failed_sites()["site-3"]
    spool = play(tmp_path, transport="tcp", **options)
    assert spool.model.model_digest() == run.model.model_digest()
