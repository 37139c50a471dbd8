"""What server and sites tell each other is read as what a stranger says."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flare_async.errors import TensorFormatError
from flare_async.recipes.statistics.plan import (
    Cell,
    Common,
    Plan,
    features_from_bytes,
    features_to_bytes,
)
from flare_async.recipes.statistics.values import DataType, Feature

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
MAYBE = st.none() | FLOATS
CELLS = st.lists(
    st.tuples(st.builds(Cell, WORDS, WORDS), st.builds(Common, FLOATS, MAYBE, MAYBE, MAYBE)),
    max_size=5,
)
NUMERIC = st.sampled_from([DataType.INT, DataType.FLOAT])
FEATURES = st.dictionaries(
    WORDS,
    st.lists(st.builds(Feature, WORDS, NUMERIC), unique_by=lambda one: one[0], max_size=5),
    max_size=3,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from([1, 2]), CELLS)
def test_a_plan_is_what_it_was(step, rows):
    """Any names, any finite numbers."""
    plan = Plan(step, tuple(cell for cell, _ in rows), tuple(common for _, common in rows))
    assert Plan.from_bytes(plan.to_bytes()) == plan


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_garbage_is_no_plan(data):
    """It is refused with a typed error, or it is a plan."""
    try:
        plan = Plan.from_bytes(np.frombuffer(data, np.uint8))
    except TensorFormatError:
        return
    assert plan.step in {1, 2}


@settings(deadline=None, max_examples=60)
@given(JSON, JSON, JSON)
def test_garbage_in_the_fields_of_a_plan_is_refused(step, cells, common):
    """Every field is looked at."""
    text = json.dumps({"step": step, "cells": cells, "common": common}).encode()
    try:
        plan = Plan.from_bytes(np.frombuffer(text, np.uint8))
    except TensorFormatError:
        return
    assert len(plan.cells) == len(plan.common)


@pytest.mark.parametrize("data", [None, b"{}", np.zeros(3), np.zeros((2, 2), np.uint8)])
def test_what_is_no_tensor_of_bytes_is_no_plan(data):
    """Types and shapes are checked first."""
    with pytest.raises(TensorFormatError, match="no tensor of bytes"):
        Plan.from_bytes(data)


@settings(deadline=None, max_examples=60)
@given(FEATURES)
def test_features_are_what_they_were(features):
    """Any names."""
    assert features_from_bytes(features_to_bytes(features, 10_000)) == features


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()))
def test_garbage_is_no_features(data):
    """It is refused with a typed error, or it is a dict of lists."""
    try:
        found = features_from_bytes(np.frombuffer(data, np.uint8))
    except TensorFormatError:
        return
    assert all(isinstance(one, Feature) for listed in found.values() for one in listed)


def test_features_without_numbers_are_not_told():
    """Text has no statistics."""
    features = {"train": [Feature("a", DataType.STRING), Feature("b", DataType.INT)]}
    assert features_from_bytes(features_to_bytes(features, 10_000)) == {
        "train": features["train"][1:]
    }


def test_names_without_room_are_refused():
    """With how many bytes they have, how many there is room for, and the argument that says so."""
    many = {"train": [Feature(f"feature number {at}", DataType.INT) for at in range(2000)]}
    with pytest.raises(
        ValueError, match=r"2000 features take 5\d+ bytes, .*room for 40000.*max_feat"
    ):
        features_to_bytes(many, 40_000)
    assert features_from_bytes(features_to_bytes(many, 60_000)) == many
