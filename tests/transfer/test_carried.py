"""Tensors that a channel carried in a row: cut anywhere, adopted where they came whole."""

from __future__ import annotations

import numpy as np
import pytest

from flare_async.errors import RemoteProtocolError
from flare_async.transfer.carried import carried_digest, carried_views, fits_digest, pour
from flare_async.transfer.offer import Offer
from flare_async.transfer.pull import Printed, TensorRef
from flare_async.transfer.sink import MemorySink
from flare_async.transfer.source import MemorySource
from flare_async.transfer.tensors import TensorSet

TENSORS = TensorSet.from_params(
    {
        "small": np.arange(3, dtype=np.int8),
        "none": np.zeros(0, np.float32),
        "wide": np.arange(5, dtype=np.float64),
    }
)


def offered(params=None):
    """Return tensors on offer, and their specs in the manifest's order."""
    tensors = TENSORS if params is None else TensorSet.from_params(params)
    printed = Printed.of(tensors.specs, {})
    ref = TensorRef("owner", "key", 0, printed.digest, printed.nbytes)
    found = Offer(ref, MemorySource(tensors), printed.data, printed.sizes, None)
    specs = {spec.name: spec for spec in tensors.specs}
    return found, [specs[name] for name in printed.sizes]


def poured(chunks, specs, adopt=False):
    """Return what a sink has got of a row of bytes."""
    sink = MemorySink()
    sink.begin(specs)
    pour(chunks, specs, sink, adopt=adopt)
    sink.finish()
    return sink.tensors


def test_the_row_has_the_order_of_the_manifest():
    """Wide types stand first there, whatever order the model has."""
    offer, specs = offered()
    views = carried_views(offer, by_reference=True)
    assert [spec.name for spec in specs] == ["wide", "none", "small"]
    assert [len(view) for view in views] == [40, 3]


def test_tiny_tensors_leave_as_one_row_where_they_are_framed():
    """Ten thousand are one frame, of one copy for all readers; over memory they stay apart."""
    offer, specs = offered({f"t{at}": np.full(3, at, np.float64) for at in range(10_000)})
    (row,) = carried_views(offer, by_reference=False)
    assert len(row) == 240_000
    assert carried_views(offer, by_reference=False)[0] is row
    assert fits_digest([row], carried_digest(offer, by_reference=False))
    assert poured([row], specs).numpy()["t9999"].tolist() == [9999.0] * 3
    assert len(carried_views(offer, by_reference=True)) == 10_000


def test_tensors_that_are_not_tiny_are_never_copied():
    """Their frames are worth their heads."""
    params = {"a": np.zeros(64, np.float64), "b": np.ones(512, np.uint8)}
    offer, _ = offered(params)
    views = carried_views(offer, by_reference=False)
    assert [len(view) for view in views] == [512, 512]
    assert offer.row is None


@pytest.mark.parametrize("cut", [1, 7, 40, 41, 43])
def test_a_row_that_was_cut_anywhere_has_the_same_tensors(cut):
    """Borders of chunks carry no meaning, for the tensors and for their digest."""
    offer, specs = offered()
    row = b"".join(carried_views(offer, by_reference=True))
    chunks = [row[at : at + cut] for at in range(0, len(row), cut)]
    assert fits_digest(chunks, carried_digest(offer, by_reference=False))
    assert poured(chunks, specs).numpy()["wide"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_a_chunk_that_is_a_whole_tensor_is_adopted():
    """Over memory nothing is copied, and nothing hashed."""
    offer, specs = offered()
    found = poured(carried_views(offer, by_reference=True), specs, adopt=True)
    assert np.shares_memory(found.numpy()["wide"], TENSORS.numpy()["wide"])
    assert carried_digest(offer, by_reference=True) == b""
    assert offer.carried is None


def test_one_bit_more_or_less_is_another_digest():
    """It is computed once for all readers."""
    offer, _ = offered()
    digest = carried_digest(offer, by_reference=False)
    row = bytearray(b"".join(carried_views(offer, by_reference=True)))
    row[41] ^= 1
    assert not fits_digest([row], digest)
    assert offer.carried is digest is carried_digest(offer, by_reference=False)


@pytest.mark.parametrize(("length", "reason"), [(42, "short"), (44, "too_long"), (0, "short")])
def test_a_row_of_another_length_is_refused(length, reason):
    """No tensor gets what is not its own."""
    _, specs = offered()
    with pytest.raises(RemoteProtocolError) as error:
        poured([bytes(length)], specs)
    assert error.value.reason == reason
