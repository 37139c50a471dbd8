"""FedAvg against its definition, written down in NumPy, and every argument of the recipe."""

from __future__ import annotations

import json

import numpy as np
import pytest

from flare_async import SimEnv
from flare_async.errors import ConfigError
from flare_async.model import FLModel, ParamsType
from flare_async.recipes import FedAvgRecipe
from flare_async.transfer.files import file_chunks, read_file
from flare_async.transfer.tensors import TensorSet

SIZE = 50


def start_model():
    """Return a model whose values are no round numbers."""
    rng = np.random.default_rng(1)
    return {name: rng.normal(size=SIZE).astype(np.float32) for name in ("w", "bn.mean")}


class Noisy:
    """A train function that adds noise and keeps what it returned."""

    def __init__(self, kind=ParamsType.FULL, *, steps=True):
        self.kind, self.steps, self.returned = kind, steps, {}

    def __call__(self, model, site):
        noise = {name: site.rng.normal(size=SIZE).astype(np.float32) for name in model.params}
        new = noise
        if self.kind is ParamsType.FULL:
            new = {name: model.params[name] + noise[name] for name in noise}
        self.returned[site.round_number, site.name] = {name: a.copy() for name, a in new.items()}
        meta = {"NUM_STEPS_CURRENT_ROUND": 3 * site.index + 1} if self.steps else {}
        return FLModel(params=new, params_type=self.kind, meta=meta)

    def reference(self, number, model, weights, *, diff=False):
        """Return the next model: float64 sums in the order of the sites."""
        total, result = sum(weights), {}
        for name, old in model.items():
            acc = np.zeros(SIZE, np.float64)
            for index, weight in enumerate(weights, 1):
                value = self.returned[number, f"site-{index}"][name]
                if diff and self.kind is ParamsType.FULL:
                    value = value - old
                acc += value.astype(np.float64) * weight
            acc /= total
            if diff:
                acc += old.astype(np.float64) * 1.0
            result[name] = acc.astype(np.float32)
        return result


@pytest.fixture
def play(tmp_path):
    """Return a function that runs a recipe inline and returns its run."""

    def run(recipe, *, clients=3, check=True, **options):
        settings = {"workers": "inline", "seed": 5, "workspace_root": tmp_path, **options}
        return recipe.execute(SimEnv(num_clients=clients, **settings), check=check)

    return run


def recipe_of(train, **options):
    """Return a recipe with the usual arguments."""
    settings = {"model": start_model(), "min_clients": 3, "num_rounds": 2, **options}
    return FedAvgRecipe(train=train, **settings)


def assert_bits(tensors, expected):
    """Compare a run's model with arrays, to the bit."""
    assert {name: bytes(view) for name, view in tensors.items()} == {
        name: array.tobytes() for name, array in expected.items()
    }


def counting(model, site):
    """Add one to every value."""
    return FLModel(params={name: value + 1 for name, value in model.params.items()})


class Scores:
    """An evaluate function that reads a model's score off a table, by its version."""

    def __init__(self, *scores, key="accuracy"):
        self.scores, self.key = scores, key

    def __call__(self, model, site):
        return {self.key: self.scores[int(model.params["v"][0])]}


def versions(train, evaluate, **options):
    """Return a recipe whose model holds its own version."""
    model = {"v": np.zeros(2, np.float32)}
    return FedAvgRecipe(train=train, evaluate=evaluate, model=model, min_clients=2, **options)


@pytest.mark.parametrize(
    ("kind", "transfer"),
    [(ParamsType.FULL, "FULL"), (ParamsType.FULL, "DIFF"), (ParamsType.DIFF, "FULL")],
)
def test_two_rounds_equal_the_definition_to_the_bit(play, kind, transfer):
    """Whole models, differences taken by the runtime, and differences that a site returns."""
    train = Noisy(kind)
    diff = ParamsType.DIFF in {kind, transfer}
    run = play(recipe_of(train, params_transfer_type=transfer))
    first = train.reference(0, start_model(), (1, 4, 7), diff=diff)
    assert_bits(run.model, train.reference(1, first, (1, 4, 7), diff=diff))


def test_a_site_without_steps_counts_once(play):
    """Then the mean is the plain one."""
    train = Noisy(steps=False)
    run = play(recipe_of(train, num_rounds=1))
    assert_bits(run.model, train.reference(0, start_model(), (1, 1, 1)))


def test_aggregation_weights_multiply_the_steps(play):
    """A site that is not listed has the factor 1."""
    train = Noisy()
    weights = {"site-1": 10.0, "site-3": 0.5}
    run = play(recipe_of(train, num_rounds=1, aggregation_weights=weights))
    assert_bits(run.model, train.reference(0, start_model(), (10.0, 4.0, 3.5)))
    assert [site.weight for site in run.history.rounds[0].sites] == [10.0, 4.0, 3.5]


def test_a_float32_accumulator_can_be_asked_for(play):
    """Its sums differ from those in float64."""
    models = [
        play(recipe_of(Noisy(), accumulator=kind)).model.model_digest()
        for kind in ("float32", "float64", None)
    ]
    assert models[0] != models[1] == models[2]


def test_excluded_tensors_keep_the_global_value(play):
    """The pattern is searched in names; all others are averaged."""
    train = Noisy()
    run = play(recipe_of(train, num_rounds=1, exclude_vars=r"^bn\."))
    expected = train.reference(0, start_model(), (1, 4, 7))
    assert_bits(run.model, {"w": expected["w"], "bn.mean": start_model()["bn.mean"]})


def test_the_recipe_can_run_again_and_gives_the_same(play):
    """Nothing of the first run is left in it."""
    recipe = recipe_of(Noisy())
    assert play(recipe).model.model_digest() == play(recipe).model.model_digest()


@pytest.mark.parametrize(("lower", "best"), [(False, 1), (True, 2)])
def test_the_best_model_is_the_evaluated_one(play, lower, best):
    """Every version is evaluated before it is trained on, the last one at the end."""
    evaluate = Scores(0.3, 0.9, 0.1, 0.5, key="score")
    recipe = versions(counting, evaluate, num_rounds=3, key_metric="score", lower_is_better=lower)
    run = play(recipe, clients=2)
    found = [(model.version, model.metrics["score"]) for model in run.history.models]
    assert found == [(0, 0.3), (1, 0.9), (2, 0.1), (3, 0.5)]
    assert run.history.best().version == best
    assert run.best_model.numpy()["v"].tolist() == [best, best]
    assert run.model.numpy()["v"].tolist() == [3, 3]


def test_metrics_of_train_are_those_of_the_received_model(play):
    """Without evaluate= there is no score of the last version."""

    def train(model, site):
        result = counting(model, site)
        result.metrics = {"accuracy": (0.2, 0.8, 0.4)[int(model.params["v"][0])]}
        return result

    run = play(versions(train, None, num_rounds=3), clients=2)
    assert [(model.version, model.best) for model in run.history.models] == [
        (0, True),
        (1, True),
        (2, False),
    ]
    assert run.best_model.numpy()["v"].tolist() == [1, 1]


def test_a_run_without_metrics_has_no_best_model(play):
    """And none of its files."""
    run = play(versions(counting, None), clients=2)
    assert (run.history.models, run.best_model) == ([], None)
    assert not (run.folder / "best_FL_global_model.safetensors").exists()


def test_a_condition_ends_the_run(play):
    """The model that meets it was received in round 2; that round is still finished."""
    evaluate = Scores(0.1, 0.5, 0.9, 0.95, 0.99, 0.99)
    recipe = versions(counting, evaluate, num_rounds=5, stop_cond="accuracy >= 0.9")
    run = play(recipe, clients=2)
    assert run.status == "completed"
    assert [record.task for record in run.history.rounds] == ["train"] * 3 + ["validate"]
    assert run.model.numpy()["v"][0] == 3


def test_patience_ends_the_run(play):
    """Two evaluations in a row that are not better than the best."""
    evaluate = Scores(0.5, 0.6, 0.6, 0.55, 0.9, 0.9, 0.9)
    run = play(versions(counting, evaluate, num_rounds=6, patience=2), clients=2)
    trained = [record.number for record in run.history.rounds if record.task == "train"]
    assert trained == [0, 1, 2, 3]


def test_evaluations_are_weighted_by_their_examples(play):
    """A site without examples does not count; ``num_examples`` is no metric."""

    def evaluate(model, site):
        counts = (1, 3, 0)
        return {"accuracy": (0.0, 1.0, 77.0)[site.index], "num_examples": counts[site.index]}

    run = play(recipe_of(counting, evaluate=evaluate, num_rounds=1))
    assert [dict(model.metrics) for model in run.history.models] == [{"accuracy": 0.75}] * 2


def test_sites_without_any_example_leave_the_model_unjudged(play):
    """A run does not fail for it."""

    def evaluate(model, site):
        return {"accuracy": 1.0, "num_examples": 0}

    run = play(recipe_of(counting, evaluate=evaluate, num_rounds=1))
    assert (run.status, run.history.models) == ("completed", [])


def test_a_checkpoint_is_the_first_model(play, tmp_path):
    """The model gives the form, the file the values."""
    path = tmp_path / "start.safetensors"
    first = TensorSet.from_params({name: array * 3 for name, array in start_model().items()})
    path.write_bytes(b"".join(map(bytes, file_chunks(first))))
    train = Noisy()
    run = play(recipe_of(train, num_rounds=1, initial_ckpt=path))
    assert_bits(run.model, train.reference(0, first.numpy(), (1, 4, 7)))


def test_a_class_path_makes_the_model(play):
    """As NVFlare's configurations write it."""
    config = {"class_path": "numpy.zeros", "args": {"shape": 3}}
    run = play(recipe_of(counting, model=config, num_rounds=1))
    assert run.model.numpy()["numpy_key"].tolist() == [1, 1, 1]


def test_options_of_all_sites_and_of_one(play):
    """The site's own come first; other sites do not see them."""
    seen = {}

    def train(model, site):
        seen[site.name] = dict(site.config)
        return counting(model, site)

    own = {"site-2": {"rate": 0.5, "name": ["x"]}}
    play(recipe_of(train, num_rounds=1, train_config={"rate": 0.1, "k": 1}, per_site_config=own))
    assert seen["site-1"] == seen["site-3"] == {"rate": 0.1, "k": 1}
    assert seen["site-2"] == {"rate": 0.5, "k": 1, "name": ["x"]}


def test_a_round_asks_more_sites_than_it_needs(play):
    """Of ten sites four are asked in each round and three make the model."""
    recipe = recipe_of(counting, clients_per_round=3, over_select=1.3, min_clients=2, num_rounds=4)
    run = play(recipe, clients=10)
    asked = [tuple(site.site for site in record.sites) for record in run.history.rounds]
    assert [len(sites) for sites in asked] == [4] * 4
    assert len(set(asked)) > 1
    assert [record.arrived for record in run.history.rounds] == [3] * 4
    again = play(recipe, clients=10).history.rounds
    assert asked == [tuple(site.site for site in record.sites) for record in again]


def test_the_mean_of_the_training_metrics_is_in_the_history(play):
    """Weighted as the update was."""

    def train(model, site):
        result = counting(model, site)
        result.metrics = {"loss": float(site.index)}
        result.meta = {"NUM_STEPS_CURRENT_ROUND": site.index + 1}
        return result

    run = play(recipe_of(train, num_rounds=1))
    assert run.history.rounds[0].metrics == {"loss": pytest.approx((0 + 2 + 6) / 6)}


def torch_net():
    """Return a net with integer buffers and tied weights."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 3))
    net[2].weight = net[0].weight
    return net


def torch_train(model, site):
    """Take one step and count it in the integer buffer."""
    import torch

    net = torch_net()
    net.load_state_dict(model.params)
    net.train()
    inputs = torch.randn(8, 3, generator=site.torch_rng())
    net(inputs).square().mean().backward()
    with torch.no_grad():
        for weight in net.parameters():
            weight.sub_(0.1 * weight.grad)
    return FLModel(params=net.state_dict(), metrics={"accuracy": 0.5})


@pytest.mark.parametrize("transfer", ["FULL", "DIFF"])
def test_a_torch_model_with_integer_buffers_and_ties_is_trained_and_kept(play, transfer):
    """The file is loaded as any PyTorch user would, without pickled code."""
    torch = pytest.importorskip("torch")
    recipe = recipe_of(
        torch_train, model=torch_net(), save_filename="net.pt", params_transfer_type=transfer
    )
    run = play(recipe)
    loaded = torch.load(run.folder / "net.pt", weights_only=True)["model"]
    assert torch.load(run.folder / "best_net.pt", weights_only=True).keys() == {"model"}
    net = torch_net()
    net.load_state_dict(loaded)
    assert loaded["1.num_batches_tracked"].item() == 2
    assert run.model.aliases == {"2.weight": "0.weight"}
    assert torch.equal(loaded["2.weight"], run.model.torch()["0.weight"])
    assert not torch.equal(loaded["0.weight"], torch_net().state_dict()["0.weight"])
    kept = read_file(run.folder / "FL_global_model.safetensors")
    assert kept.model_digest() == run.model.model_digest()


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"min_clients": 0}, "min_clients"),
        ({"min_clients": 2.0}, "min_clients"),
        ({"num_rounds": 0}, "num_rounds"),
        ({"num_rounds": True}, "num_rounds"),
        ({"name": "../up"}, "name"),
        ({"name": ""}, "name"),
        ({"model": 42}, "model"),
        ({"model": None}, "model"),
        ({"model": {"w": np.zeros(2, object)}}, "model"),
        ({"train": None}, "train"),
        ({"train": "client.py"}, "train"),
        ({"train_script": "client.py"}, "train"),
        ({"evaluate": 3}, "evaluate"),
        ({"round_timeout": 0}, "round_timeout"),
        ({"round_timeout": float("nan")}, "round_timeout"),
        ({"round_timeout": "60"}, "round_timeout"),
        ({"clients_per_round": 0}, "clients_per_round"),
        ({"clients_per_round": 2}, "clients_per_round"),
        ({"over_select": 0.9}, "over_select"),
        ({"over_select": float("nan")}, "over_select"),
        ({"over_select": "2"}, "over_select"),
        ({"params_transfer_type": "HALF"}, "params_transfer_type"),
        ({"exclude_vars": "("}, "exclude_vars"),
        ({"accumulator": "float16"}, "accumulator"),
        ({"stop_cond": "accuracy"}, "stop_cond"),
        ({"stop_cond": "accuracy >= much"}, "stop_cond"),
        ({"stop_cond": 0.9}, "stop_cond"),
        ({"patience": 0}, "patience"),
        ({"patience": 1.5}, "patience"),
    ],
)
def test_an_argument_that_cannot_be_used_is_named(options, field):
    """Nothing is started: the constructor refuses it."""
    with pytest.raises(ConfigError) as caught:
        FedAvgRecipe(**{"model": start_model(), "min_clients": 3, "train": counting, **options})
    assert caught.value.field == field


def test_weights_that_are_no_weights_are_refused_at_their_site(play):
    """The quorum decides whether the run goes on."""

    def train(model, site):
        result = counting(model, site)
        result.meta = {"NUM_STEPS_CURRENT_ROUND": ["many", 0, 2][site.index]}
        return result

    recipe = recipe_of(train, num_rounds=1, min_clients=1)
    run = play(recipe)
    assert run.history.rounds[0].arrived == 1
    failed = run.history.failed_sites()
    assert "NUM_STEPS_CURRENT_ROUND is 'many'" in failed["site-1"]
    assert "weight 0.0 is not above 0" in failed["site-2"]


def test_a_failing_evaluation_ends_the_run_and_keeps_the_model(play):
    """The last model was trained: it is in the folder."""

    def evaluate(model, site):
        if model.params["w"][0] > start_model()["w"][0]:
            raise ValueError("no validation data")
        return {"accuracy": 0.5}

    run = play(recipe_of(counting, evaluate=evaluate, num_rounds=1), check=False)
    assert run.status == "failed"
    assert "no validation data" in str(run.cause)
    kept = read_file(run.folder / "FL_global_model.safetensors")
    assert kept.model_digest() == run.model.model_digest()
    assert json.loads((run.folder / "run.json").read_text())["status"] == "failed"


@pytest.mark.parametrize("name", ["per_site_config", "aggregation_weights"])
def test_options_of_a_site_that_does_not_exist_are_refused(tmp_path, name):
    """A misspelt site would otherwise train with the defaults, and nobody would notice."""
    options = {name: {"site-1": {}, "site-9": {}} if name == "per_site_config" else {"site-9": 2.0}}
    recipe = FedAvgRecipe(
        model={"w": np.zeros(2, np.float32)},
        train=lambda model, site: model,
        min_clients=1,
        **options,
    )
    with pytest.raises(ConfigError, match=f"{name}=.*site-9.*no such sites"):
        recipe.execute(SimEnv(num_clients=2, workspace_root=tmp_path))


def test_a_large_model_is_averaged_off_the_loop_with_the_same_bits(tmp_path):
    """Above four megabytes the last arithmetic happens in a worker thread."""
    model = {"w": np.linspace(0, 1, 2 << 20, dtype=np.float32)}

    def add(received, site):
        return FLModel(params={"w": received.params["w"] + np.float32(site.index)})

    recipe = FedAvgRecipe(model=model, train=add, min_clients=3, num_rounds=1)
    run = recipe.execute(SimEnv(num_clients=3, workspace_root=tmp_path))
    sums = sum((model["w"] + np.float32(index)).astype(np.float64) for index in range(3))
    assert np.array_equal(run.model.numpy()["w"], (sums / 3).astype(np.float32))
