"""Sinks that take all of their tensors at once, by reference, with the checks of the slow way."""

from __future__ import annotations

import numpy as np
import pytest

from flare_async.errors import ResourceLimit, TensorFormatError, TransferError, UpdateRefused
from flare_async.roles.like_model import LikeModel
from flare_async.transfer.admission import Admission
from flare_async.transfer.carried import whole_views
from flare_async.transfer.sink import MemorySink
from flare_async.transfer.sink_protocols import whole_of
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.staging import StagedUpdate, StagingArea
from flare_async.transfer.tensors import TensorSet
from tests.transfer.helpers import params

MODEL = params(a=np.arange(4, dtype=np.float32), b=np.arange(6, dtype=np.float64))
OTHER = params(a=np.arange(4, dtype=np.float32), c=np.arange(6, dtype=np.float64))
KINDS = ("memory", "like the model", "staged")


def sink_of(kind):
    """Return a new sink; all but the first take the model's tensors only."""
    admission = Admission(MODEL.specs)
    if kind == "memory":
        return MemorySink()
    if kind == "staged":
        return StagedUpdate(StagingArea(0), lambda specs: admission.check_specs("a", specs))
    return LikeModel("a", admission, None)


def taken(sink, name):
    """Return a tensor's bytes as the sink gives them away."""
    return next(sink.chunks(name)) if isinstance(sink, StagedUpdate) else sink.tensors[name]


@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_at_once_is_whole_and_not_copied(kind):
    """It is the owner's memory, read-only; of a budget nothing is taken."""
    sink = sink_of(kind)
    whole_of(sink).adopt_all(MODEL.specs, {}, dict(MODEL))
    for name in ("a", "b"):
        assert np.shares_memory(np.frombuffer(taken(sink, name)), np.frombuffer(MODEL[name]))
        assert taken(sink, name).readonly


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lost", [1, None])
def test_a_tensor_that_is_short_or_missing_is_refused(kind, lost):
    """The sink is not whole then, whatever else came."""
    sink, views = sink_of(kind), dict(MODEL)
    views["b"] = views["b"][lost:]
    if lost is None:
        del views["b"]
    with pytest.raises(TensorFormatError, match="'b'"):
        sink.adopt_all(MODEL.specs, {}, views)
    with pytest.raises(TransferError):
        taken(sink, "a")


@pytest.mark.parametrize("kind", KINDS)
def test_a_sink_that_has_begun_takes_nothing_at_once(kind):
    """Nor does one that is whole already."""
    begun, whole = sink_of(kind), sink_of(kind)
    begun.begin(MODEL.specs)
    whole.adopt_all(MODEL.specs, {}, dict(MODEL))
    for sink in (begun, whole):
        with pytest.raises(TransferError, match="not new"):
            sink.adopt_all(MODEL.specs, {}, dict(MODEL))


@pytest.mark.parametrize("kind", KINDS[1:])
def test_what_is_not_the_models_is_refused_at_once_as_well(kind):
    """Nothing is there afterwards."""
    sink = sink_of(kind)
    with pytest.raises(UpdateRefused, match="'c' is unexpected"):
        sink.adopt_all(OTHER.specs, {}, dict(OTHER))
    with pytest.raises(TransferError):
        taken(sink, "a")


def test_memory_bytes_bound_what_comes_at_once():
    """A peer says how large its tensors are, on this way too."""
    sink = MemorySink(memory_bytes=MODEL.nbytes - 1)
    with pytest.raises(ResourceLimit, match="memory_bytes"):
        sink.adopt_all(MODEL.specs, {}, dict(MODEL))


def test_tied_tensors_come_once():
    """Their other names have the first one's bytes."""
    specs = (TensorSpec("a", "F32", (4,)), TensorSpec("tied", "F32", (4,)))
    sink, staged = MemorySink(), StagedUpdate(StagingArea(0))
    for one in (sink, staged):
        one.adopt_all(specs, {"tied": "a"}, {"a": MODEL["a"]})
    assert sink.tensors.aliases == staged.aliases == {"tied": "a"}
    assert sink.tensors["tied"] == next(staged.chunks("tied")) == MODEL["a"]


def test_discarding_lets_go_of_it():
    """What was referred to counts as before: it was never of the budget."""
    area = StagingArea(0)
    staged = StagedUpdate(area)
    staged.adopt_all(MODEL.specs, {}, dict(MODEL))
    staged.discard()
    assert (area.referenced_bytes, area.peak_bytes, area.spilled_bytes) == (MODEL.nbytes, 0, 0)
    with pytest.raises(TransferError):
        staged.chunks("a")


@pytest.mark.parametrize("cut", [None, 7, 16, 17])
def test_only_pieces_that_are_tensors_are_views_of_them(cut):
    """Borders of chunks carry no meaning, so whoever cuts elsewhere is written as it comes."""
    views = [bytes(MODEL["a"]), bytes(MODEL["b"])]
    row = b"".join(views)
    chunks = views if cut is None else [row[:cut], row[cut:]]
    found = whole_views(chunks, MODEL.specs)
    whole = cut in {None, 16}
    assert (found is not None) is whole
    assert not whole or TensorSet.from_views(MODEL.specs, found).same_specs(MODEL) == []
    assert whole_views([*chunks, b"x"], MODEL.specs) is None
