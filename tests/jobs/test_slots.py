"""Slots: answers of any shape in room that was there before, and what a peer may say of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from flare_async.errors import TrainingFailed, UpdateRefused
from flare_async.jobs.companions import answered, joined
from flare_async.jobs.slots import SLOTS, answers_of, check_shapes, filled, has_model, slots
from flare_async.model import FLModel, ParamsType
from flare_async.transfer.tensors import TensorSet

ROOM = 64
MODEL = TensorSet.from_params({"w": np.ones(2), "n": np.arange(3)})
SENT = joined(MODEL, slots(x=(ROOM,), h=(2, 2)))


def travelled(params, sent=SENT):
    """Return what arrives at the server, and the meta with it."""
    model, wanted = answered("site-1", filled("site-1", FLModel(params=params), sent), sent)
    tensors = TensorSet.from_params(model.params)
    assert tensors.same_specs(wanted) == []
    return tensors, model.meta


@given(arrays.arrays(np.float64, arrays.array_shapes(max_dims=4, max_side=3, min_side=0)))
def test_an_array_of_any_shape_comes_as_it_was(values):
    """Wherever it finds room; what user code says of the model does not matter."""
    if values.size > ROOM:
        values = values.reshape(-1)[:ROOM]
    tensors, meta = travelled({"x": values, "h": np.eye(2), "w": "ignored"})
    found = answers_of("site-1", tensors, meta)
    np.testing.assert_array_equal(found["x"], values)
    np.testing.assert_array_equal(found["h"], np.eye(2))
    np.testing.assert_array_equal(tensors.numpy()["w"], np.zeros(2))


@given(st.none() | st.text(max_size=12) | st.integers() | st.from_regex(r"[0-9,x ]{0,20}"))
def test_any_shape_of_a_peer_is_a_shape_or_refused(said):
    """And never larger than the room."""
    tensors, meta = travelled({"x": np.zeros(2), "h": np.eye(2)})
    meta["shape.x"] = said
    try:
        check_shapes("site-1", meta, {"x": ROOM})
    except UpdateRefused:
        with pytest.raises(UpdateRefused):
            answers_of("site-1", tensors, meta)
        return
    assert answers_of("site-1", tensors, meta)["x"].size <= ROOM


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"h": np.eye(2)}, "params lack 'x'"),
        ({"x": np.zeros(ROOM + 1), "h": np.eye(2)}, "room for 64"),
        ({"x": 1.0, "h": np.eye(2)}, "1 values"),
        ({"x": np.zeros(1), "h": np.eye(3)}, r"\[3, 3\], not \[2, 2\]"),
        ({"x": ["a"], "h": np.eye(2)}, "numbers are needed"),
        ({"x": [[1], [1, 2]], "h": np.eye(2)}, "no array"),
    ],
)
def test_what_has_no_room_is_told(params, words):
    """To whoever wrote the training function."""
    with pytest.raises(TrainingFailed, match=words):
        filled("site-1", FLModel(params=params), SENT)


def test_answers_are_no_differences():
    """There is nothing that they could differ from."""
    model = FLModel(params={"x": np.zeros(1), "h": np.eye(2)}, params_type=ParamsType.DIFF)
    with pytest.raises(TrainingFailed, match="not as a difference"):
        filled("site-1", model, SENT)


def test_without_slots_nothing_changes():
    """The usual case."""
    model = FLModel(params={"w": np.ones(2)})
    assert filled("site-1", model, MODEL) is model
    assert answers_of("site-1", MODEL, {}) == {}


def test_companions_alone_are_no_model():
    """Nobody is asked to evaluate them."""
    assert has_model(SENT)
    assert not has_model(joined(TensorSet.from_params({}), slots(x=(1,))))
    assert SLOTS.answer
