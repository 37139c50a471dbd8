"""``aggregator=``: objects that are handed each update, and what is wrong with some of them."""

from __future__ import annotations

import numpy as np
import pytest

from flare_async import SimEnv
from flare_async.errors import ConfigError, LocalProtocolError, RunFailed
from flare_async.limits import Limits
from flare_async.model import FLModel, ParamsType
from flare_async.recipes import FedAvgRecipe
from flare_async.recipes.aggregators import AggregatedUpdates, Aggregating
from flare_async.transfer.mean import MeanOptions
from flare_async.transfer.tensors import TensorSet

START = {"w": np.arange(4, dtype=np.float32), "bn": np.ones(2, np.float32)}


class WeightedSum:
    """What a user writes: the mean by steps, kept between calls."""

    def __init__(self, kind=ParamsType.FULL):
        self.kind, self.seen, self.resets = kind, [], 0
        self.reset_stats()

    def reset_stats(self):
        self.sum, self.weight, self.resets = {}, 0.0, self.resets + 1

    def accept_model(self, model):
        weight = model.meta["NUM_STEPS_CURRENT_ROUND"]
        self.seen.append((model.current_round, model.meta["site_name"], sorted(model.params)))
        for name, value in model.params.items():
            self.sum[name] = self.sum.get(name, 0.0) + weight * np.asarray(value, np.float64)
        self.weight += weight

    def aggregate_model(self):
        mean = {name: value / self.weight for name, value in self.sum.items()}
        return FLModel(params=mean, params_type=self.kind)


def step(model, site):
    """Add what depends on the site and the round."""
    new = {name: value + site.index + 1 for name, value in model.params.items()}
    return FLModel(params=new, meta={"NUM_STEPS_CURRENT_ROUND": site.index + 1})


def failing(model, site):
    """Let one site fail."""
    if site.index == 1:
        raise ValueError("no")
    return step(model, site)


def run_of(aggregator, tmp_path, train=step, env=None, **options):
    """Run two rounds with three sites."""
    settings = {"model": dict(START), "min_clients": 2, "num_rounds": 2, **options}
    recipe = FedAvgRecipe(train=train, aggregator=aggregator, **settings)
    given = {"num_clients": 3, "workers": "inline", "workspace_root": tmp_path, **(env or {})}
    return recipe.execute(SimEnv(**given))


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"transport": "tcp"},
        {"relays": 2},
        {"relays": 2, "relay_mode": "reduce"},
        {"workers": "process"},
        {"limits": Limits(staging_bytes=0)},
    ],
)
def test_an_aggregator_gives_the_built_in_mean(tmp_path, env):
    """In the order of the cohort, over every link, with updates in memory or in a file."""
    mine = WeightedSum()
    run = run_of(mine, tmp_path / "mine", env=env)
    own = run_of(None, tmp_path / "own")
    assert dict(run.model) == dict(own.model)
    sites = ["site-1", "site-2", "site-3"]
    assert mine.seen == [(number, site, ["bn", "w"]) for number in range(2) for site in sites]


def test_one_failing_site_is_left_out(tmp_path):
    """The aggregator never hears of it."""
    mine = WeightedSum()
    run = run_of(mine, tmp_path / "mine", train=failing)
    own = run_of(None, tmp_path / "own", train=failing)
    assert {site for _, site, _ in mine.seen} == {"site-1", "site-3"}
    assert dict(run.model) == dict(own.model)


def test_differences_in_and_out(tmp_path):
    """It is handed what travels; what it returns as DIFF is added to the model."""
    mine = WeightedSum(ParamsType.DIFF)
    run = run_of(mine, tmp_path / "mine", params_transfer_type="DIFF")
    own = run_of(None, tmp_path / "own", params_transfer_type="DIFF")
    for name, array in own.model.numpy().items():  # its mean is rounded before it is added
        np.testing.assert_allclose(run.model.numpy()[name], array, rtol=1e-6)


def test_excluded_tensors_keep_their_value_and_are_not_handed_over(tmp_path):
    """As without an aggregator."""
    mine = WeightedSum()
    run = run_of(mine, tmp_path, exclude_vars="bn")
    assert run.model.numpy()["bn"].tolist() == [1.0, 1.0]
    assert {tuple(names) for _, _, names in mine.seen} == {("w",)}


def test_torch_models_come_as_tensors(tmp_path):
    """An aggregator for PyTorch computes with tensors."""
    torch = pytest.importorskip("torch")

    class First:
        def reset_stats(self):
            self.kept = None

        def accept_model(self, model):
            self.kept = self.kept or model

        def aggregate_model(self):
            assert all(isinstance(value, torch.Tensor) for value in self.kept.params.values())
            return self.kept

    run = run_of(First(), tmp_path, model={"w": torch.zeros(2)})
    assert run.model.numpy()["w"].tolist() == [2.0, 2.0]


def test_a_rule_by_name(tmp_path):
    """The robust rules are named in the same place."""
    run = run_of("median", tmp_path, num_rounds=1)
    assert run.model.numpy()["w"].tolist() == [2.0, 3.0, 4.0, 5.0]


class Wrong(WeightedSum):
    """Returns what its argument says."""

    def __init__(self, result):
        super().__init__()
        self.result = result

    def aggregate_model(self):  # the line that messages name
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (FLModel(params={"w": np.zeros(3)}), "differ"),
        (FLModel(params={"x": np.zeros(4)}), "differ"),
        (
            FLModel(params={"w": np.full(4, np.nan), "bn": np.ones(2)}),
            "'w' of the new model is not",
        ),
        ({"w": 1}, "returned dict"),
        (None, "returned None"),
        (ZeroDivisionError("mine"), "mine"),
    ],
)
def test_an_aggregator_with_a_bug_is_named_with_its_line(tmp_path, result, words):
    """A wrong shape, no model, an error of its own: the file and the line are in the message."""
    with pytest.raises(RunFailed, match=words) as caught:
        run_of(Wrong(result), tmp_path)
    assert "test_aggregators.py" in str(caught.value)
    assert "aggregate_model" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"aggregator": object()}, "has no accept_model, aggregate_model, reset_stats"),
        ({"aggregator": "modus"}, "modus"),
        ({"aggregator": WeightedSum(), "exact": True}, "exact"),
        ({"aggregator": WeightedSum(), "staging": "repull"}, "repull"),
        ({"aggregator_data_kind": "METRICS"}, "aggregator_data_kind"),
    ],
)
def test_what_cannot_be_used_is_refused_at_construction(options, words):
    """Before anything runs."""
    with pytest.raises(ConfigError, match=words):
        FedAvgRecipe(model=dict(START), min_clients=1, train=step, **options)


def test_updates_are_handed_over_by_the_round_only():
    """A reducer's other methods keep their contract."""
    setting = Aggregating(
        model=TensorSet.from_params(START),
        order=("a",),
        limits=None,
        options=MeanOptions(),
        framework="numpy",
    )
    with AggregatedUpdates(WeightedSum(), setting) as updates:
        with pytest.raises(LocalProtocolError, match="cohort"):
            updates.stage("b", 1.0)
        with pytest.raises(LocalProtocolError, match="nothing is staged"):
            updates.commit("a")
        updates.discard("a")
        with pytest.raises(LocalProtocolError, match="aggregated"):
            updates.finish()
