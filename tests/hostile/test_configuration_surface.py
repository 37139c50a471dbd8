"""B43 on what users configure: environments and recipes tell all problems of a call at once."""

from __future__ import annotations

import numpy as np
import pytest

import flare_async.recipes as library
from flare_async import SimEnv
from flare_async.errors import ConfigError, ConfigErrors, UnknownArgument
from flare_async.recipes import FedAvgRecipe


def nothing(model: object, site: object) -> None:
    """Train nothing."""


def fields(error: ConfigErrors) -> list[str]:
    """Return the arguments that an error names."""
    return [problem.field for problem in error.problems]


def test_b43_an_environment_tells_all_that_is_wrong() -> None:
    """With the name that was meant for the misspelt one."""
    with pytest.raises(ConfigErrors) as caught:
        SimEnv(num_client=3, workers="fibre", seed=-1, relay_mode="x", num_threads=0)  # type: ignore[arg-type,call-arg]
    assert fields(caught.value) == ["num_client", "num_threads", "workers", "seed", "relay_mode"]
    with pytest.raises(UnknownArgument, match="'wrokers'; did you mean workers"):
        SimEnv(num_clients=2, wrokers="thread")  # type: ignore[call-arg]


def test_b43_a_recipe_tells_all_that_is_wrong() -> None:
    """Also where what it needs is wrong."""
    wrong = {"min_clients": 0, "num_rounds": 0, "name": "a/b", "staging": "x", "max_norm": -1}
    with pytest.raises(ConfigErrors) as caught:
        FedAvgRecipe(model={"w": np.ones(3)}, train=nothing, key_metrc="f1", **wrong)
    assert sorted(fields(caught.value)) == sorted([*wrong, "key_metrc"])
    assert "did you mean key_metric?" in str(caught.value)


def recipe_of(**given: object) -> FedAvgRecipe:
    """Return a recipe whose sites train nothing."""
    return FedAvgRecipe(**{"model": {"w": np.ones(3)}, "train": nothing, "min_clients": 1} | given)


def test_b43_a_recipe_that_does_not_fit_tells_all_that_is_wrong() -> None:
    """More sites than there are, options of strangers, a wait that contradicts another."""
    recipe = recipe_of(min_clients=5, per_site_config={"site-9": {"rate": 1}})
    recipe.add_client_config({"streaming_per_request_timeout": 9, "min_download_timeout": 3})
    with pytest.raises(ConfigErrors) as caught:
        recipe.execute(SimEnv(num_clients=2))
    assert fields(caught.value) == ["min_clients", "per_site_config", "limits"]
    assert caught.value.where.startswith(f"{__file__}:")


@pytest.mark.parametrize(
    ("name", "given", "field"),
    [
        ("train_config", {"lr": float("nan")}, "train_config.lr"),
        ("train_config", {"opt": {"rates": [0.1, float("nan")]}}, "train_config.opt.rates[1]"),
        ("train_config", [("lr", 1)], "train_config"),
        ("per_site_config", {"site-1": {"lr": float("nan")}}, "per_site_config.site-1.lr"),
        ("aggregation_weights", {"site-1": float("nan")}, "aggregation_weights.site-1"),
        ("aggregation_weights", {"site-1": float("inf")}, "aggregation_weights.site-1"),
        ("aggregation_weights", {"site-1": -1.0}, "aggregation_weights.site-1"),
        ("aggregation_weights", {"site-1": 0.0}, "aggregation_weights.site-1"),
        ("aggregation_weights", {"site-1": True}, "aggregation_weights.site-1"),
    ],
)
def test_b43_what_is_no_number_is_refused(name: str, given: object, field: str) -> None:
    """Wherever it stands; infinity may be a bound and is left to the site."""
    with pytest.raises(ConfigError) as caught:
        recipe_of(**{name: given})
    assert caught.value.field == field
    recipe_of(train_config={"clip": float("inf")}, aggregation_weights={"site-1": 0.5})


@pytest.mark.parametrize(
    "name",
    ["password", "db_password", "api_key", "API-KEY", "token", "hf_token", "aws.secret", "apiKey"],
)
def test_b43_secrets_are_refused_and_not_shown(name: str) -> None:
    """At any depth, of all sites or of one, all at once."""
    own = {"site-1": {"store": [{name: "hunter2"}]}}
    with pytest.raises(ConfigErrors) as caught:
        recipe_of(train_config={name: "hunter2"}, per_site_config=own, min_clients=0)
    wrong = ["min_clients", f"train_config.{name}", f"per_site_config.site-1.store[0].{name}"]
    assert sorted(fields(caught.value)) == sorted(wrong)
    assert "hunter2" not in str(caught.value)


def test_b43_names_that_only_look_like_secrets_pass() -> None:
    """Vocabularies have tokens, optimizers keys; what is empty or a number is no secret."""
    harmless = {"pad_token": "<pad>", "max_tokens": 5, "tokenizer": "bpe", "password": ""}
    harmless |= {"key_metric": "f1", "secretary": "x", "token": None, "api_key_length": 4}
    assert recipe_of(train_config=harmless).train_config == harmless


def test_b43_a_secret_on_the_command_line_is_refused() -> None:
    """Other users of a machine see command lines."""
    with pytest.raises(ConfigError, match="--api-key") as caught:
        FedAvgRecipe(
            model=[1.0], min_clients=1, train_script=__file__, train_args="--api-key=hunter2"
        )
    assert "hunter2" not in str(caught.value)


def test_b43_a_missing_file_is_one_problem() -> None:
    """That there is no training function either is not said beside it."""
    with pytest.raises(ConfigErrors) as caught:
        FedAvgRecipe(model=[1.0], min_clients=1, train_script="absent.py", num_rounds=0)
    assert sorted(fields(caught.value)) == ["num_rounds", "train_script"]


@pytest.mark.parametrize("name", [name for name in library.__all__ if name.endswith("Recipe")])
def test_b43_every_recipe_names_what_was_meant(name: str) -> None:
    """Beside what is missing; a new recipe is decorated as the others are."""
    with pytest.raises(ConfigError) as caught:
        getattr(library, name)(min_client=2, model_locator=object())
    said = str(caught.value)
    assert f"{name} has no argument 'min_client'; did you mean min_clients?" in said
    assert f"{name} has no argument 'model_locator'; read run.model and run.best_model" in said
