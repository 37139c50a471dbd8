"""The thin classes that NVFlare's users look for: one array, and scikit-learn's parameters."""

from __future__ import annotations

import numpy as np
import pytest

from flare_async import FLModel, SimEnv
from flare_async.errors import ConfigError, MissingExtra
from flare_async.recipes import FedAvgRecipe, NumpyFedAvgRecipe, SklearnFedAvgRecipe
from flare_async.transfer.files import file_chunks
from flare_async.transfer.tensors import TensorSet

HYPER = {"n_classes": 2, "loss": "log_loss", "eta0": 1e-4, "fit_intercept": 1, "penalty": None}


def add_one(model, site):
    """Add one to the array."""
    return FLModel(params={"numpy_key": model.params["numpy_key"] + 1})


def run_of(recipe, tmp_path, **options):
    """Run with two sites."""
    settings = {"num_clients": 2, "workers": "inline", "workspace_root": tmp_path, **options}
    return recipe.execute(SimEnv(**settings))


@pytest.mark.parametrize("model", [[[1, 2], [3, 4]], np.array([[1.0, 2.0], [3.0, 4.0]])])
def test_an_array_is_averaged_and_left_as_a_numpy_file(tmp_path, model):
    """A list or an array, in float32, under the name that scripts know."""
    run = run_of(NumpyFedAvgRecipe(model=model, min_clients=2, train=add_one), tmp_path)
    left = np.load(run.folder / "models" / "server.npy", allow_pickle=False)
    assert (left.dtype, left.tolist()) == (np.float32, [[3.0, 4.0], [5.0, 6.0]])
    assert [*run.model] == ["numpy_key"]


def test_a_numpy_file_is_a_first_model(tmp_path):
    """What a former run has left goes on."""
    np.save(tmp_path / "server.npy", np.ones(3, np.float32))
    recipe = NumpyFedAvgRecipe(
        initial_ckpt=tmp_path / "server.npy", min_clients=2, num_rounds=1, train=add_one
    )
    assert run_of(recipe, tmp_path).model.numpy()["numpy_key"].tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("recipe", [FedAvgRecipe, NumpyFedAvgRecipe])
def test_the_former_name_of_model_warns(recipe):
    """It works, and a second value is refused."""
    with pytest.warns(DeprecationWarning, match="model") as caught:
        made = recipe(initial_model=[1.0, 2.0], min_clients=1, train=add_one)
    assert {warning.filename for warning in caught} == {__file__}
    assert made.initial.numpy()["numpy_key"].tolist() == [1.0, 2.0]
    with pytest.raises(ConfigError, match="initial_model"):
        recipe(initial_model=[1.0], model=[2.0], min_clients=1, train=add_one)


def test_what_is_no_array_is_refused():
    """With the argument's name."""
    with pytest.raises(ConfigError, match="model"):
        NumpyFedAvgRecipe(model={"a": 1}, min_clients=1, train=add_one)


def fit(model, site):
    """Return what a linear model's script returns, and check what came."""
    params = model.params
    assert {name: params[name] for name in HYPER} == HYPER
    coef = params["coef"] + site.index + params["n_classes"]
    return FLModel(params={**params, "coef": coef, "intercept": params["intercept"]})


@pytest.mark.parametrize("env", [{}, {"transport": "tcp"}, {"workers": "process"}, {"relays": 2}])
def test_settled_parameters_come_among_the_params_in_every_round(tmp_path, env):
    """Arrays are averaged; loss and learning rate reach every site, and joblib has them all."""
    joblib = pytest.importorskip("joblib")
    recipe = SklearnFedAvgRecipe(model_params=HYPER, n_features=3, min_clients=2, train=fit)
    run = run_of(recipe, tmp_path, **env)
    assert run.model.numpy()["coef"].tolist() == [[5.0, 5.0, 5.0]]
    left = joblib.load(run.folder / "model_param.joblib")
    assert left["coef"].tolist() == [[5.0, 5.0, 5.0]]
    assert {name: left[name] for name in HYPER} == HYPER


@pytest.mark.parametrize(("classes", "rows"), [(2, 1), (3, 3)])
def test_shapes_are_those_of_scikit_learn(classes, rows):
    """Two classes have one row."""
    made = SklearnFedAvgRecipe(
        model_params={"n_classes": classes}, n_features=4, min_clients=1, train=fit
    )
    assert [spec.shape for spec in made.initial.specs] == [(rows, 4), (rows,)]


def test_arrays_of_model_params_are_the_model(tmp_path):
    """As given, or as a file has them."""
    arrays = {"coef": [[1.0, 2.0]], "intercept": np.zeros(1)}
    made = SklearnFedAvgRecipe(model_params={**HYPER, **arrays}, min_clients=1, train=fit)
    assert made.initial.numpy()["coef"].tolist() == [[1.0, 2.0]]
    path = tmp_path / "first.safetensors"
    path.write_bytes(b"".join(file_chunks(TensorSet.from_params({"coef": np.ones((1, 2))}), {})))
    made = SklearnFedAvgRecipe(model_params=HYPER, model_path=path, min_clients=1, train=fit)
    assert made.initial.numpy()["coef"].tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model_params": HYPER}, "no array to be averaged.*n_features"),
        ({"model_params": {"n_classes": 2, "x": object()}, "n_features": 2}, r"model_params\.x"),
        ({"model_params": HYPER, "model_path": "a.joblib"}, "runs what is in it"),
    ],
)
def test_what_sklearn_parameters_lack_is_said(options, words):
    """The server must know what it averages, and reads no joblib file."""
    with pytest.raises(ConfigError, match=words):
        SklearnFedAvgRecipe(min_clients=1, train=fit, **options)


def test_joblib_is_asked_for_when_the_recipe_is_made(monkeypatch):
    """Not when the run has ended."""
    monkeypatch.setitem(__import__("sys").modules, "joblib", None)
    with pytest.raises(MissingExtra, match="sklearn"):
        SklearnFedAvgRecipe(model_params=HYPER, n_features=2, min_clients=1, train=fit)
