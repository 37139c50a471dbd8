"""Sites that answer the server's pulls with anything: each fails alone, and ends no round."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flare_async.limits import Limits
from flare_async.testing.loop import run_sim
from flare_async.transfer.digest import tensor_digest
from flare_async.transfer.mean import WeightedMean
from flare_async.transfer.repull import RepulledMean
from flare_async.wire.frames import ResetCode
from tests.hostile.answers import GOOD, Answers
from tests.roles.federation import MODEL, SCHEMES, Trains, federation
from tests.roles.rogue import joined, round_of

LIMITS = Limits(max_resends=1, stall_timeout=5.0)
REDUCERS = {"staged": WeightedMean, "repulled": RepulledMean, "none": None}


def played(scheme, rogue, reducer="staged", seed=1):
    """Run a round of a good site and this one; return who came and how the other one ended."""

    async def main():
        workers = {"a": Trains(1)}
        async with (
            federation(workers, scheme=scheme, limits=LIMITS) as made,
            joined(made, rogue),
        ):
            sites, kind = ["a", "rogue"], REDUCERS[reducer]
            mean = None if kind is None else kind(MODEL, order=sites)
            arrived = await round_of(made, sites, quorum=1, reducer=mean)
            return arrived, made.seen.records[0, "rogue"]

    return run_sim(main, seed=seed)


@pytest.mark.parametrize("reducer", REDUCERS)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    "pieces",
    [[GOOD + b"x"], [GOOD, b"x"], [GOOD * 1000], [b"x" * 25], [GOOD[:23], b"yy"], [GOOD[:-1]], []],
    ids=["one more", "one later", "a thousand", "other", "across", "one less", "nothing"],
)
def test_b13_more_or_less_than_was_asked_for_fails_the_site_and_not_the_round(
    scheme, reducer, pieces
):
    """It is the site's fault and not this side's disk, whatever the update is staged into."""
    arrived, record = played(scheme, Answers(pieces, tensor_digest(memoryview(GOOD))), reducer)
    assert (arrived, record.status) == (["a"], "failed")
    assert "too_long" in record.reason or "short" in record.reason


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("code", list(ResetCode))
def test_b33_whatever_code_a_pull_is_reset_with_the_site_fails_alone(scheme, code):
    """After a bounded number of further tries, and with the code's meaning in the reason."""
    rogue = Answers([GOOD[:10]], b"", code)
    arrived, record = played(scheme, rogue)
    assert (arrived, record.status) == (["a"], "failed")
    assert len(rogue.pulls) <= 2 * (1 + LIMITS.max_resends)


parts = st.lists(st.binary(max_size=40) | st.just(GOOD) | st.just(GOOD[:10]), max_size=4)
trailers = st.binary(max_size=40) | st.just(tensor_digest(memoryview(GOOD)))


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(SCHEMES),
    st.sampled_from(sorted(REDUCERS)),
    parts,
    trailers,
    st.none() | st.sampled_from(list(ResetCode)),
)
def test_any_answer_to_a_pull_is_an_update_or_the_failure_of_one_site(
    scheme, reducer, pieces, trailer, reset
):
    """What came whole with its digest counts; nothing else does, and nothing ends the round."""
    arrived, record = played(scheme, Answers(pieces, trailer, reset), reducer)
    whole = reset is None and len(b"".join(pieces)) == len(GOOD)
    assert "a" in arrived
    # What is no number is refused as soon as it has come, before the length is known.
    assert record.status in ({"ok", "failed", "refused"} if whole else {"failed", "refused"})
