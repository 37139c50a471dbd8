"""Every recipe that ``flare_async.recipes`` has comes out of its job folder as it went in."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import flare_async.recipes as library
from flare_async import SimEnv
from flare_async.errors import ConfigErrors
from flare_async.jobs.recipe import Recipe
from flare_async.recipes.schedules import CosineDecay
from flare_async.recipes.server_optimizers import Yogi
from tests.recipes import folder_sites as own
from tests.recipes import pooled_sites as pooled
from tests.recipes import sites
from tests.references.pooled_sklearn import FEATURES

SITES = ["site-1", "site-2", "site-3"]
SCRIPT = str(Path(own.__file__).with_name("folder_script.py"))


def model():
    """Return a model of the shape that the reference sites know."""
    return {"w": np.full(3, 0.25, np.float32)}


MODEL = {"min_clients": 2, "num_rounds": 2}
CASES = {
    "AsyncFedAvgRecipe": {"train": sites.average, "concurrency": 1, "staleness": "hinge"},
    "ClientCyclicRecipe": {"train": sites.average},
    "CyclicRecipe": {"train": sites.average, "order": ["site-2", "site-1"]},
    "DittoRecipe": {"train": sites.personal, "ditto_lambda": 0.3},
    "FedAvgRecipe": {
        "train_script": SCRIPT,
        "train_args": "--by 2",
        "aggregator": library.Median(),
    },
    "FedBNRecipe": {"train": sites.average, "exclude_vars": "^b", "model": None},
    "FedBuffRecipe": {"train": sites.average, "buffer_size": 2, "concurrency": 1},
    "FedEvalRecipe": {"evaluate": own.evaluate, "num_rounds": 1},
    "FedOptRecipe": {
        "train": sites.average,
        "optimizer_args": Yogi(lr=0.3),
        "lr_scheduler_args": CosineDecay(4),
    },
    "FedProxRecipe": {"train": sites.near, "mu": 0.2, "aggregation_weights": {"site-1": 2.0}},
    "SwarmRecipe": {"train": sites.average, "progress_timeout": 60.0},
    "NumpyFedAvgRecipe": {"train": own.add_half, "model": [[1.0, 2.0]]},
    "QFedAvgRecipe": {"train": sites.fair, "q": 0.5, "lr": 0.1},
    "ScaffoldRecipe": {"train": sites.controlled},
    "SklearnFedAvgRecipe": {
        "train": own.add_half_to_arrays,
        "model": None,
        "model_params": {"coef": np.ones((1, 3)), "intercept": np.zeros(1), "loss": "log_loss"},
    },
    "FedAvgLrRecipe": {"train": pooled.slopes, "num_features": FEATURES, "model": None},
    "KMeansFedAvgRecipe": {"train": pooled.clusters, "model": None},
    "SVMFedAvgRecipe": {"train": pooled.vectors, "model": None, "num_rounds": None},
    "FedStatsRecipe": None,
    "NumpyCrossSiteEvalRecipe": None,
}


def made(name, tmp_path):
    """Return a recipe of that class, with arguments of many kinds."""
    cls = getattr(library, name)
    if name == "FedStatsRecipe":
        configs = {"count": {}, "sum": {}}
        return cls("stats", "out/stats.json", SITES, configs, own.Ages(7), min_count=2)
    if name == "NumpyCrossSiteEvalRecipe":
        np.save(tmp_path / "server.npy", np.arange(3.0))
        return cls(model_dir=tmp_path, model_name={"a": "server.npy"}, evaluate=own.evaluate)
    options = {"model": model(), **MODEL, **CASES[name]}
    if name == "FedBNRecipe":
        save_file({**model(), "b": np.ones(2, np.float32)}, tmp_path / "first.safetensors")
        options["initial_ckpt"] = tmp_path / "first.safetensors"
    return cls(**{key: value for key, value in options.items() if value is not None})


def played(recipe, root):
    """Return a finished run; its files are below the root."""
    env = SimEnv(clients=SITES, workers="thread", num_threads=1, seed=11, workspace_root=root)
    return recipe.execute(env)


@pytest.mark.parametrize("name", CASES)
def test_a_recipe_makes_the_same_bits_out_of_its_folder(tmp_path, name):
    """Model, history of metrics, and all that was written down about it."""
    recipe = made(name, tmp_path)
    folder = recipe.export(tmp_path / "jobs")
    loaded = Recipe.load(folder)
    assert type(loaded) is type(recipe)
    first, second = played(recipe, tmp_path / "a"), played(loaded, tmp_path / "b")
    digests = [run.model and run.model.model_digest() for run in (first, second)]
    assert digests[0] == digests[1]
    assert (digests[0] is None) == (name == "FedStatsRecipe")
    metrics = [[record.metrics for record in run.history.rounds] for run in (first, second)]
    assert metrics[0] == metrics[1]
    again = loaded.export(tmp_path / "again")
    assert json.loads((again / "job.json").read_text()) == json.loads(
        (folder / "job.json").read_text()
    )


def test_every_recipe_is_among_the_cases():
    """A new one has to be exported, too."""
    recipes = {
        name
        for name in library.__all__
        if name.endswith("Recipe") and dataclasses.is_dataclass(getattr(library, name))
    }
    assert recipes == set(CASES)


def test_a_folder_has_no_pickle_and_what_is_in_it_is_readable(tmp_path):
    """Whatever the first model came as."""
    import torch

    torch.save({"w": torch.ones(4)}, tmp_path / "first.pt")
    recipe = library.FedAvgRecipe(initial_ckpt=tmp_path / "first.pt", train=own.torch_add, **MODEL)
    folder = recipe.export(tmp_path)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
    assert not [name for name in files if not name.endswith((".py", ".json", ".safetensors"))]
    loaded = Recipe.load(folder)
    assert loaded.torch_filename == recipe.torch_filename == "FL_global_model.pt"
    assert played(loaded, tmp_path / "a").model.torch()["w"].tolist() == [3.0] * 4


def test_what_is_not_trained_stays_so(tmp_path):
    """A PyTorch model knows it; its tensors alone do not."""
    import torch

    net = torch.nn.Linear(2, 2)
    net.bias.requires_grad = False
    recipe = library.FedOptRecipe(model=net, train=own.torch_add, **MODEL)
    loaded = Recipe.load(recipe.export(tmp_path))
    assert loaded.stepped == recipe.stepped == ("weight",)
    assert list(loaded.initial) == list(recipe.initial) == ["weight", "bias"]
    runs = [played(one, tmp_path / "runs") for one in (recipe, loaded)]
    assert runs[0].model.model_digest() == runs[1].model.model_digest()


def test_a_wrong_argument_in_a_folder_is_told_with_all_others(tmp_path):
    """As in a call; somebody has edited the file."""
    folder = made("FedProxRecipe", tmp_path).export(tmp_path)
    document = json.loads((folder / "job.json").read_text())
    document["arguments"] |= {"num_rounds": 0, "mu": -1, "exclude_var": "x"}
    (folder / "job.json").write_text(json.dumps(document))
    with pytest.raises(ConfigErrors) as caught:
        Recipe.load(folder)
    for words in ("num_rounds=0", "mu=-1", "did you mean exclude_vars?"):
        assert words in str(caught.value)


def test_the_first_weights_of_a_class_are_those_of_the_recipe(tmp_path):
    """They are random: another instance would have others. Tied tensors stay tied, too."""
    given = {"class_path": "torch.nn.Linear", "args": {"in_features": 3, "out_features": 2}}
    recipe = library.FedAvgRecipe(model=given, train=own.torch_add, **MODEL)
    loaded = Recipe.load(recipe.export(tmp_path))
    assert loaded.initial.model_digest() == recipe.initial.model_digest()
    shared = np.ones(2, np.float32)
    tied = library.FedAvgRecipe(
        name="tied", model={"z": shared, "a": np.zeros(1), "b": shared}, train=own.add_half, **MODEL
    )
    again = Recipe.load(tied.export(tmp_path)).initial
    assert (list(again), again.aliases) == (["z", "a", "b"], {"b": "z"})
