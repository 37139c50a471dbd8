"""The reducer behind filters: what it takes, what it refuses, what it gives back."""

from __future__ import annotations

import numpy as np
import pytest

from flare_async.errors import LocalProtocolError, UpdateRefused
from flare_async.jobs.filters.reducer import FilteredReducer
from flare_async.model import ParamsType
from flare_async.transfer.filters import GaussianDP, ModelDequantizer, ModelQuantizer, Passage
from flare_async.transfer.filters.cells import gathered
from flare_async.transfer.mean import WeightedMean
from flare_async.transfer.reducer import GroupReducer, KeepingReducer, SteppedReducer
from flare_async.transfer.source import MemorySource
from flare_async.transfer.tensors import TensorSet

SITES = ("site-1", "site-2")
SIZE = 300_000
BUDGET = 200_000  # bytes: an update does not fit
MODEL = TensorSet.from_params({"w": np.zeros(SIZE, np.float32)})
HERE = Passage(task="train")


@pytest.fixture
def mean():
    """Return a mean of two sites."""
    with WeightedMean(MODEL, order=SITES) as found:
        yield found


@pytest.fixture
def behind(mean):
    """Return a function that puts the mean behind filters."""
    made = []

    def wrap(*chain):
        made.append(FilteredReducer(mean, chain, HERE, MODEL, BUDGET))
        return made[-1]

    yield wrap
    for reducer in made:
        reducer.close()


def update_of(value, kind="blockwise8"):
    """Return a quantised update."""
    source = MemorySource(TensorSet.from_params({"w": np.full(SIZE, value, np.float32)}))
    return gathered(ModelQuantizer(kind).apply(source, HERE))


def send(reducer, site, tensors, kind=ParamsType.FULL):
    """Bring an update in pieces, as a pull does."""
    sink = reducer.stage(site, 1.0, kind)
    sink.begin(tensors.specs, tensors.aliases)
    for name, view in tensors.items():
        for at in range(0, view.nbytes, 1 << 16):
            sink.write(name, at, view[at : at + (1 << 16)])
    sink.finish()


def test_updates_that_wait_in_a_file_are_added_in_steps(behind):
    """The file is gone when nobody waits in it any more."""
    reducer = behind(ModelDequantizer())
    for site, value in zip(SITES, (1.0, 3.0), strict=True):
        send(reducer, site, update_of(value))
    for site in SITES:
        assert sum(1 for _ in reducer.admitting(site)) >= 2
    for _ in reducer.summing():
        pass
    np.testing.assert_allclose(reducer.finish().numpy()["w"], np.full(SIZE, 2.0), rtol=1e-6)


def test_its_protocols_are_those_that_a_round_asks_for(behind):
    """In steps, and no partial sums: what relays hold is not filtered yet."""
    reducer = behind()
    assert isinstance(reducer, SteppedReducer)
    assert isinstance(reducer, KeepingReducer)
    assert not isinstance(reducer, GroupReducer)


def test_more_than_a_model_is_refused_before_a_byte_is_taken(behind):
    """In bytes, and in tensors."""
    reducer = behind(ModelDequantizer())
    large = TensorSet.from_params({"w": np.zeros(2 * SIZE, np.float32)})
    many = TensorSet.from_params({f"w{at}": np.zeros(1) for at in range(40)})
    for tensors in (large, many):
        with pytest.raises(UpdateRefused, match="are allowed"):
            reducer.stage("site-1", 1.0).begin(tensors.specs)


def test_an_update_of_another_shape_is_refused_behind_the_filter(mean, behind):
    """By the reducer proper; another one may be staged."""
    reducer = behind(ModelDequantizer())
    other = TensorSet.from_params({"v": np.zeros(9, np.float32)})
    send(reducer, "site-1", other)
    with pytest.raises(UpdateRefused, match="differs from the model"):
        reducer.commit("site-1")
    send(reducer, "site-1", update_of(1.0))
    reducer.commit("site-1")
    assert mean.statistics.sites == (("site-1", 1.0),)


def test_forged_codes_are_refused(behind):
    """A name that contradicts the tensor."""
    reducer = behind(ModelDequantizer())
    forged = TensorSet.from_params({"@quantized/float16/F32/9/w": np.zeros(8, np.float16)})
    send(reducer, "site-1", forged)
    with pytest.raises(UpdateRefused, match="its name says"):
        reducer.commit("site-1")


def test_values_that_are_not_finite_are_refused_behind_the_filter(behind):
    """A scale that is no number makes 256 of them."""
    reducer = behind(ModelDequantizer())
    send(reducer, "site-1", update_of(np.nan))
    with pytest.raises(UpdateRefused, match="not finite"):
        reducer.commit("site-1")


def test_filters_for_differences_take_no_weights_at_the_server(mean, behind):
    """A site knows what it received, the server need not."""
    reducer = behind(GaussianDP(1.0, 1e-9))
    plain = TensorSet.from_params({"w": np.ones(SIZE, np.float32)})
    send(reducer, "site-1", plain)
    with pytest.raises(UpdateRefused, match="is for differences"):
        reducer.commit("site-1")
    send(reducer, "site-1", plain, ParamsType.DIFF)
    reducer.commit("site-1")
    norm = np.linalg.norm(mean.finish().numpy()["w"].astype(np.float64))
    assert norm == pytest.approx(1.0, rel=1e-4)


def test_what_is_discarded_can_neither_be_committed_nor_counted(behind):
    """The others go on."""
    reducer = behind(ModelDequantizer())
    send(reducer, "site-1", update_of(1.0))
    reducer.discard("site-1")
    with pytest.raises(LocalProtocolError):
        reducer.commit("site-1")
    send(reducer, "site-2", update_of(5.0))
    reducer.commit("site-2")
    np.testing.assert_allclose(reducer.finish().numpy()["w"], np.full(SIZE, 5.0), rtol=1e-6)
