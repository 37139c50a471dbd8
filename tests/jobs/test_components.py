"""What job files written for NVFlare put into ``recipe.job``, and what is said to them."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare_async import FLModel, SimEnv
from flare_async.errors import ConfigError
from flare_async.jobs.components import REPLACEMENTS
from flare_async.recipes import (
    ExchangeFormat,
    FedAvgRecipe,
    TensorClientStreamer,
    TensorServerStreamer,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "migrating-from-nvflare.md"

# The parameters that NVFlare's page about tensor streaming documents, with their defaults.
DOCUMENTED = {
    TensorClientStreamer: {"format": "pytorch", "tasks": None, "tensor_send_timeout": 30.0},
    TensorServerStreamer: {
        "format": "pytorch",
        "tasks": None,
        "tensor_send_timeout": 30.0,
        "wait_send_task_data_all_clients_timeout": 300.0,
    },
}


class ScriptRunner:
    """Named as one of NVFlare's components."""


class Whatever:
    """Named as none."""


def train(model, site):
    """Add one."""
    return FLModel(params={"w": model.params["w"] + 1})


def recipe_of(**options):
    """Return a recipe of one tensor."""
    return FedAvgRecipe(model={"w": np.zeros(2)}, min_clients=2, train=train, **options)


def table(first):
    """Return the rows of the page's table whose first column is called ``first``."""
    lines = PAGE.read_text("utf-8").splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("| ").split(" | ")])
    return rows


def test_a_job_file_with_streamers_runs_and_is_warned_once(tmp_path):
    """However many it adds, and whatever their parameters; the model is what it is without."""
    recipe = recipe_of(name="streamed")
    with pytest.warns(UserWarning, match="'streamed': every tensor is streamed already") as caught:
        recipe.job.to_server(TensorServerStreamer(), "tensor_server_streamer")
    recipe.job.to_clients(TensorClientStreamer(), id="tensor_client_streamer")
    recipe.job.to_clients(TensorClientStreamer(tensor_send_timeout=60.0))
    assert [warning.filename for warning in caught] == [__file__]
    env = SimEnv(num_clients=2, workers="inline", workspace_root=tmp_path)
    assert recipe.execute(env).model.numpy()["w"].tolist() == [2, 2]


def test_every_recipe_warns_for_itself():
    """The warning names the recipe."""
    for name in ("first", "second"):
        with pytest.warns(UserWarning, match=f"'{name}'"):
            recipe_of(name=name).job.to_clients(TensorClientStreamer())


def test_a_recipe_without_streamers_is_not_warned():
    """Asking for ``job`` is no mistake."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert recipe_of().job is not None
    assert caught == []


def test_the_warning_says_what_stands_for_a_changed_parameter():
    """Only for those that differ from their default."""
    streamer = TensorServerStreamer(tasks=["train", "validate"], tensor_send_timeout=90)
    with pytest.warns(UserWarning, match="streamers change nothing") as caught:
        recipe_of().job.to_server(streamer)
    text = str(caught[0].message)
    assert "tasks=['train', 'validate']: nothing to list" in text
    assert "tensor_send_timeout=90: Limits.stall_timeout" in text
    assert "format=" not in text


@pytest.mark.parametrize("kind", DOCUMENTED)
def test_a_streamer_has_the_documented_parameters_and_defaults(kind):
    """In their order, so that positional arguments mean what they meant."""
    assert {f.name: f.default for f in dataclasses.fields(kind)} == DOCUMENTED[kind]
    assert list(DOCUMENTED[kind]) == [field.name for field in dataclasses.fields(kind)]


@pytest.mark.parametrize("kind", DOCUMENTED)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", "pickle"),
        ("format", None),
        ("tasks", "train"),
        ("tasks", [1]),
        ("tensor_send_timeout", 0),
        ("tensor_send_timeout", "30"),
        ("tensor_send_timeout", True),
        ("tensor_send_timeout", float("inf")),
    ],
)
def test_a_parameter_of_another_type_is_refused(kind, name, value):
    """The error names the streamer, the parameter and the value."""
    with pytest.raises(ConfigError) as caught:
        kind(**{name: value})
    assert (caught.value.field, caught.value.value) == (f"{kind.__name__}.{name}", value)


def test_the_servers_own_timeout_is_checked_too():
    """It is the only parameter that the site's streamer has not."""
    with pytest.raises(ConfigError, match="wait_send_task_data_all_clients_timeout=-1"):
        TensorServerStreamer(wait_send_task_data_all_clients_timeout=-1)


@given(
    st.sampled_from([*ExchangeFormat, *map(str, ExchangeFormat)]),
    st.none() | st.lists(st.text()) | st.tuples(st.text()),
    st.integers(1, 10**9) | st.floats(1e-3, 1e9),
)
def test_every_value_of_the_right_type_is_taken(form, tasks, timeout):
    """Nothing of it changes how tensors travel."""
    streamer = TensorServerStreamer(form, tasks, timeout, timeout)
    assert TensorClientStreamer(form, tasks, timeout).tasks == streamer.tasks


@pytest.mark.parametrize(
    ("component", "hint"),
    [
        (ScriptRunner(), "train="),
        (ScriptRunner, "train="),
        ("client.py", "imports and reads its files itself"),
        (Whatever(), "docs/recipes.md"),
        (None, "docs/recipes.md"),
    ],
)
@pytest.mark.parametrize("method", ["to_server", "to_clients"])
def test_any_other_component_is_refused_with_what_to_use(component, hint, method):
    """Nothing is dropped in silence."""
    with pytest.raises(ConfigError, match="a recipe has no components") as caught:
        getattr(recipe_of().job, method)(component)
    assert caught.value.field == f"job.{method}"
    assert hint in caught.value.hint


def test_a_streamer_in_the_wrong_place_is_refused_with_the_right_one():
    """The server's is no site's."""
    job = recipe_of().job
    with pytest.raises(ConfigError, match="use to_server"):
        job.to_clients(TensorServerStreamer())
    with pytest.raises(ConfigError, match="use to_clients"):
        job.to_server(TensorClientStreamer())
    with pytest.raises(ConfigError, match=r"job\.to_server\.id=3"):
        job.to_server(TensorServerStreamer(), 3)


def test_the_page_has_a_row_for_every_documented_parameter():
    """The row says what stands in its place and why, in the words that the warning uses."""
    shown = {row[0].strip("`"): row[1:] for row in table("parameter")}
    names = {name for parameters in DOCUMENTED.values() for name in parameters}
    assert set(shown) == names == set(REPLACEMENTS)
    for name, (_, here, why) in shown.items():
        assert (here, why) == (REPLACEMENTS[name].here, REPLACEMENTS[name].why)


def test_the_page_says_which_streamer_has_a_parameter():
    """Three are both's, one is the server's."""
    for name, streamers, *_ in table("parameter"):
        having = [kind.__name__ for kind in DOCUMENTED if name.strip("`") in DOCUMENTED[kind]]
        assert [text.strip("`") for text in streamers.split(", ")] == having


def test_the_streamers_are_imported_when_they_are_used():
    """They cost a program that has none nothing."""
    code = (
        "import sys, flare_async.recipes as r; before = 'flare_async.jobs.components' in "
        "sys.modules; r.TensorServerStreamer; sys.exit(before)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
