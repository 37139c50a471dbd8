"""A large model's file is written while the sites go on, and is there when the run has ended."""

from __future__ import annotations

import json

import numpy as np
import pytest

from flare_async import FLModel, SimEnv
from flare_async.errors import WorkspaceError
from flare_async.jobs.events import RunStarted
from flare_async.recipes import FedAvgRecipe
from flare_async.transfer.files import read_file

LARGE = 1_200_000  # float32 values: more than is written on the loop
FILE = "FL_global_model.safetensors"


def train(model, site):
    """Add one, until the round in which it fails."""
    if model.current_round == site.config.get("fails_in"):
        raise ValueError("no more")
    return FLModel(params={"w": model.params["w"] + np.float32(1)})


def play(tmp_path, fails_in=None, observer=None, size=LARGE, rounds=3):
    """Run rounds of two sites."""
    recipe = FedAvgRecipe(
        model={"w": np.zeros(size, np.float32)},
        train=train,
        min_clients=2,
        num_rounds=rounds,
        train_config={"fails_in": fails_in},
    )
    seen = {} if observer is None else {"observer": observer}
    return recipe.execute(SimEnv(num_clients=2, workspace_root=tmp_path, **seen), check=False)


def version_in(path):
    """Return which version a file says that it is."""
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return int(header["__metadata__"]["version"])


@pytest.mark.parametrize(("fails_in", "version"), [(None, 3), (2, 2), (1, 1), (0, 0)])
@pytest.mark.parametrize("size", [LARGE, 10])
def test_the_newest_model_is_in_the_file_however_the_run_ends(tmp_path, fails_in, version, size):
    """Also the first one, which is written only when there is no other."""
    run = play(tmp_path, fails_in, size=size)
    assert str(run.status) == ("completed" if fails_in is None else "failed")
    assert version_in(run.folder / FILE) == version
    kept = read_file(run.folder / FILE)
    assert kept.numpy()["w"][0] == version
    assert kept.model_digest() == run.model.model_digest()


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("size", [LARGE, 10])
def test_a_file_that_cannot_be_written_fails_the_run(tmp_path, rounds, size):
    """By the next checkpoint, or at the latest by the end, with a typed error."""

    def block(event):
        if isinstance(event, RunStarted):
            (event.folder / f".{FILE}.part").mkdir()

    run = play(tmp_path, observer=block, size=size, rounds=rounds)
    assert isinstance(run.cause, WorkspaceError)
    assert not (run.folder / FILE).exists()
