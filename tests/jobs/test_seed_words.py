"""The seeds of a site's streams are those of NumPy's own spawn keys."""

from __future__ import annotations

import numpy as np
import pytest

from flare_async.jobs.site import Site, SiteInfo


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1, 2**32, 2**63 - 1])
@pytest.mark.parametrize(("number", "index"), [(0, 0), (5, 9999), (2**33, 2**32)])
@pytest.mark.parametrize("stream", [0, 1, 2])
def test_a_stream_is_that_of_numpys_spawn_key(
    seed: int, number: int, index: int, stream: int
) -> None:
    """Numbers of one word and of two, in every place."""
    site = Site(SiteInfo(name="a", seed=seed, round_number=number, index=index), {})
    ours = site.seed_sequence(stream).generate_state(8)
    theirs = np.random.SeedSequence(seed, spawn_key=(number, index, stream)).generate_state(8)
    assert ours.tolist() == theirs.tolist()
