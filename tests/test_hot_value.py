"""Values that are made many times a client-round."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass

import pytest

from flare_async.hot_value import hot_value
from flare_async.roles.outcome import SiteRecord, SiteStatus
from flare_async.wire.frames import Ack


def test_hot_values_compare_and_hash_by_their_fields_and_hold_nothing_else() -> None:
    """They differ from frozen dataclasses in what assigning does at run time, and in that alone."""
    first, same, other = Ack(1, 2, 3), Ack(1, 2, 3), Ack(1, 2, 4)
    assert first == same != other
    assert len({first, same, other}) == 2
    assert repr(first) == "Ack(channel=1, consumed=2, limit=3)"
    assert not hasattr(first, "__dict__")


def test_a_hot_value_hashes_as_the_frozen_one_does() -> None:
    """Sets and traces do not change with the decorator."""

    @hot_value(frozen=True, slots=True)
    class Hot:
        site: str
        count: int = 0

    @dataclass(frozen=True, slots=True)
    class Cold:
        site: str
        count: int = 0

    assert hash(Hot("a", 1)) == hash(Cold("a", 1))
    assert Hot("a") == Hot("a", 0)


def test_what_users_are_handed_stays_frozen() -> None:
    """An observer cannot change the record of a site for others."""
    record = SiteRecord("a", SiteStatus.OK, 0.0, 1.0)
    with pytest.raises(FrozenInstanceError):
        record.reason = "mine"  # type: ignore[misc]
