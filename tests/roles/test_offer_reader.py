"""The sites of one process read the same offer once, and none of them can change it."""

from __future__ import annotations

import pytest

from flare_async.errors import RemoteProtocolError
from flare_async.limits import Limits
from flare_async.roles.messages import OFFER_SCHEMA, OfferReader, TaskOffer
from flare_async.transfer.pull import TensorRef


def offer(number: int) -> bytes:
    """Return the header of a round's task."""
    model = TensorRef("server", "key", number, b"layout", 4)
    return OFFER_SCHEMA.encode(TaskOffer("job", "train", number, 2, 0, 0, model, meta={"lr": 0.1}))


def test_an_equal_header_is_the_same_offer_and_another_one_is_not() -> None:
    """Equal bytes count, not the object: over tcp each site has its own."""
    reader = OfferReader()
    first = reader.read(offer(0), Limits())
    assert reader.read(bytes(bytearray(offer(0))), Limits()) is first
    assert reader.read(offer(1), Limits()).round_number == 1
    assert reader.read(offer(0), Limits()) == first


def test_what_is_shared_cannot_be_changed() -> None:
    """What one site writes into its meta would reach all others."""
    read = OfferReader().read(offer(0), Limits())
    with pytest.raises(TypeError):
        read.meta["lr"] = 1.0  # type: ignore[index]
    assert dict(read.meta) == {"lr": 0.1}


def test_what_is_no_offer_is_refused_and_forgotten() -> None:
    """The last good one stays what its own header says."""
    reader = OfferReader()
    good = reader.read(offer(0), Limits())
    with pytest.raises(RemoteProtocolError):
        reader.read(b"\x01", Limits())
    assert reader.read(offer(0), Limits()) is good
