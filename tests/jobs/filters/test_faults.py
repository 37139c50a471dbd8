"""What becomes of a filter with a fault, and of one that cannot be added."""

from __future__ import annotations

import numpy as np
import pytest

from flare_async.errors import ConfigError, RunFailed
from flare_async.recipes import FedAvgRecipe
from flare_async.transfer.filters import GaussianDP, ModelDequantizer, ModelQuantizer, SVTPrivacy
from tests.jobs.filters.functions import Broken, Cuts, Doubles, Forgets, train


def recipe(**options):
    """Return a recipe of a small model."""
    model = {"w": np.zeros(4, np.float32)}
    return FedAvgRecipe(train=train, model=model, min_clients=2, **options)


@pytest.mark.parametrize(
    ("filter_", "words"),
    [
        (
            Broken(),
            ("filter Broken: LookupError: nothing is known of site-1", "functions.py:", "apply"),
        ),
        (Forgets(), ("filter Forgets: apply() returned NoneType",)),
        (Cuts(), ("filter Cuts", "'w' is F32[3], not F32[1000]")),
    ],
)
@pytest.mark.parametrize("place", ["client_input", "client_output", "server_input"])
def test_a_filter_with_a_fault_fails_its_site(play, place, filter_, words):
    """With its name and its line; here it is everybody's, so the round fails."""
    with pytest.raises(RunFailed) as caught:
        play((place, filter_))
    for word in words:
        assert word in str(caught.value)


def test_a_fault_at_one_site_leaves_the_others(play):
    """They are enough for the quorum."""
    run = play(("client_output", Broken(), None, ["site-1"]))
    first = run.history.rounds[0].sites[0]
    assert str(first.status) == "failed"
    assert "nothing is known of site-1" in first.reason


def test_a_fault_with_the_model_fails_the_run(play):
    """Nobody could be sent anything."""
    with pytest.raises(RunFailed, match="nothing is known"):
        play(("server_output", Broken()))


def test_quantised_updates_without_a_dequantiser_are_refused(play):
    """The message shows what came."""
    with pytest.raises(RunFailed, match="@quantized/float16"):
        play(("client_output", ModelQuantizer()))


def test_updates_that_are_pulled_again_cannot_be_filtered_at_the_server(play):
    """They are kept nowhere."""
    with pytest.raises(RunFailed, match="repull"):
        play(("server_input", ModelDequantizer()), recipe=recipe(staging="repull"))


@pytest.mark.parametrize(
    ("place", "args", "words"),
    [
        ("client_output", (len,), "is no filter"),
        ("client_input", (GaussianDP(1.0, 1.0),), "what sites have changed"),
        ("server_output", (SVTPrivacy(),), "what sites have changed"),
        ("client_output", (Doubles(), "train"), "a list of names"),
    ],
)
def test_what_cannot_be_added_is_named(place, args, words):
    """When it is added."""
    with pytest.raises(ConfigError, match=words):
        getattr(recipe(), f"add_{place}_filter")(*args)


def test_a_site_that_does_not_exist_is_named(play):
    """Before the run begins."""
    with pytest.raises(ConfigError, match="no such sites"):
        play(("client_output", Doubles(), None, ["site-9"]))
