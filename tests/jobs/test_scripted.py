"""What recipes say of scripts: for all sites, for single ones, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flare_async import SimEnv
from flare_async.errors import ConfigError
from flare_async.model import ParamsType
from flare_async.recipes import FedAvgRecipe

SCRIPT = Path(__file__).parents[1] / "client" / "scripts" / "numpy_client.py"


def train(model, site):
    """Return the model."""
    return model


def recipe_of(**options):
    """Return a recipe with a script."""
    settings = {"model": np.zeros(2), "min_clients": 1, "train_script": str(SCRIPT), **options}
    return FedAvgRecipe(**settings)


def test_every_site_has_the_script_of_the_recipe():
    """With its words, as a shell would split them."""
    work = recipe_of(train_args="--name 'two words'", train_config={"rate": 1}).work("site-9")
    assert work.train is None
    assert work.script.argv() == [str(SCRIPT), "--name", "two words"]
    assert (work.script.external, dict(work.config)) == (False, {"rate": 1})


def test_a_site_may_have_values_of_its_own():
    """NVFlare's keys are taken out, all others are the site's options."""
    own = {
        "train_args": "--delta 5",
        "launch_external_process": True,
        "command": "torchrun --nproc_per_node=2",
        "launch_once": False,
        "shutdown_timeout": 3.0,
        "framework": "pytorch",
        "params_transfer_type": "DIFF",
        "server_expected_format": "pytorch",
        "batch": 16,
    }
    recipe = recipe_of(per_site_config={"site-2": own}, train_config={"rate": 1, "batch": 8})
    work, other = recipe.work("site-2"), recipe.work("site-1")
    words = ["torchrun", "--nproc_per_node=2", str(SCRIPT), "--delta", "5"]
    assert work.script.command_line() == words
    assert (work.script.external, work.script.launch_once) == (True, False)
    assert work.script.shutdown_timeout == 3.0
    assert (work.framework, work.transfer) == ("torch", ParamsType.DIFF)
    assert dict(work.config) == {"rate": 1, "batch": 16}
    assert (other.framework, other.transfer) == ("numpy", ParamsType.FULL)
    assert dict(other.config) == {"rate": 1, "batch": 8}


def test_a_site_may_have_a_script_where_others_have_a_function():
    """Function and script are never both there."""
    own = {"site-2": {"train_script": str(SCRIPT)}}
    recipe = recipe_of(train_script=None, train=train, per_site_config=own)
    assert (recipe.work("site-1").train, recipe.work("site-1").script) == (train, None)
    assert recipe.work("site-2").train is None
    assert recipe.work("site-2").script.path == SCRIPT


def test_sites_without_a_script_are_refused_at_the_start():
    """When each has to have one of its own."""
    own = {"site-1": {"train_script": str(SCRIPT)}}
    recipe = recipe_of(train_script=None, per_site_config=own)
    with pytest.raises(ConfigError, match="site-2 has no script"):
        recipe.execute(SimEnv(num_clients=2))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"train_script": "nowhere.py"}, "train_script"),
        ({"train_script": ""}, "train_script"),
        ({"train_script": None}, "train"),
        ({"train": train}, "train"),
        ({"evaluate": train}, "evaluate"),
        ({"train_args": "'"}, "train_args"),
        ({"train_args": ["--x"]}, "train_args"),
        ({"command": " "}, "command"),
        ({"launch_external_process": 1}, "launch_external_process"),
        ({"shutdown_timeout": -1}, "shutdown_timeout"),
        ({"framework": "caffe"}, "framework"),
        ({"server_expected_format": "pickle"}, "server_expected_format"),
        ({"params_transfer_type": "HALF"}, "params_transfer_type"),
        ({"per_site_config": {"server": {}}}, "per_site_config"),
        ({"per_site_config": {"@ALL": {}}}, "per_site_config"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_named(options, field):
    """When the recipe is made."""
    with pytest.raises(ConfigError) as caught:
        recipe_of(**options)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("own", "field"),
    [
        ({"train_script": "nowhere.py"}, "train_script"),
        ({"framework": "caffe"}, "framework"),
        ({"launch_once": "yes"}, "launch_once"),
        ({"shutdown_timeout": "1"}, "shutdown_timeout"),
    ],
)
def test_a_site_s_parameter_is_named_with_the_site(own, field):
    """So that it is found among many."""
    with pytest.raises(ConfigError) as caught:
        recipe_of(per_site_config={"site-7": own})
    assert caught.value.field == f"per_site_config.site-7.{field}"


def test_parameters_of_scripts_are_refused_for_functions():
    """They would have no effect."""
    with pytest.raises(ConfigError, match="is for scripts"):
        recipe_of(train_script=None, train=train, per_site_config={"a": {"train_args": "-x"}})
