"""What an FLModel accepts, and what it makes of what is left out."""

from __future__ import annotations

import subprocess
import sys

import pytest

from flare_async.model import FLModel, MetaKey, NPConstants, ParamsType


def test_params_without_a_type_are_full():
    """Scripts mostly give params alone."""
    assert FLModel(params={"w": 1}).params_type is ParamsType.FULL


def test_an_empty_model_is_allowed():
    """A site may answer with metadata only."""
    model = FLModel()
    assert model.params_type is None
    assert model.meta == {}


def test_a_type_may_be_given_as_text():
    """Old scripts pass the plain string."""
    assert FLModel("DIFF", {"w": 1}).params_type is ParamsType.DIFF


def test_meta_none_becomes_an_empty_dict():
    """Old scripts pass None."""
    assert FLModel(meta=None).meta == {}


@pytest.mark.parametrize("kind", ["DIFF", "FULL"])
def test_a_type_without_params_is_refused(kind):
    """A type says something about params that are not there."""
    with pytest.raises(ValueError, match="params are missing"):
        FLModel(params_type=kind)


def test_an_unknown_type_is_refused():
    """Only FULL and DIFF exist."""
    with pytest.raises(ValueError, match="HALF"):
        FLModel("HALF", {"w": 1})


@pytest.mark.parametrize("name", ["params", "metrics", "meta"])
def test_a_list_is_no_dict(name):
    """Each of these is a dict."""
    with pytest.raises(TypeError, match=name):
        FLModel(**{name: [1]})


@pytest.mark.parametrize("name", ["start_round", "current_round", "total_rounds"])
def test_a_negative_round_is_refused(name):
    """Rounds count from zero."""
    with pytest.raises(ValueError, match="negative"):
        FLModel(**{name: -1})


@pytest.mark.parametrize("value", [1.5, "1", True])
def test_a_round_is_an_integer(value):
    """Floats, text and truth values are no round numbers."""
    with pytest.raises(TypeError, match="integer"):
        FLModel(current_round=value)


def test_validate_checks_what_was_assigned_later():
    """Attributes are plain, so a check comes before sending."""
    model = FLModel(params={"w": 1})
    model.params = None
    with pytest.raises(ValueError, match="missing"):
        model.validate()


def test_a_repr_has_no_parameters():
    """A log line must not hold a model."""
    assert "12345" not in repr(FLModel(params={"w": 12345}))


def test_names_are_those_that_scripts_use():
    """These strings are in other people's scripts."""
    assert NPConstants.NUMPY_KEY == "numpy_key"
    assert MetaKey.NUM_STEPS_CURRENT_ROUND == "NUM_STEPS_CURRENT_ROUND"
    assert {MetaKey.JOB_ID: 1}["job_id"] == 1


def test_neither_numpy_nor_torch_is_imported():
    """The record is used where neither is wanted; transfer must not pull torch in."""
    code = (
        "import sys, flare_async.model; assert 'numpy' not in sys.modules;"
        "import flare_async.transfer, flare_async.transfer.mean, flare_async.transfer.files;"
        "assert not {'torch', 'ml_dtypes'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
