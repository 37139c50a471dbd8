"""Sites that rest after a failure, while nobody who is there has anything else to do."""

from __future__ import annotations

import pytest

from flare_async.errors import TrainingFailed
from tests.roles.federation import SCHEMES, Trains, crash, federation
from tests.roles.test_task_stream import Free, Tasks

pytestmark = pytest.mark.parametrize("scheme", SCHEMES)


class Shares(Tasks):
    """Gives every site as many tasks as it says."""

    def __init__(self, **most):
        super().__init__()
        self.share = most

    def __call__(self, site):
        """Return the site's next task, if it has one left."""
        self.most = self.share[site]
        return super().__call__(site)


async def sites_of(made, tasks, gone):
    """Return whose updates came; a site dies when the first one did."""
    made.cohort._observer = Free()
    found = []
    async with made.cohort.stream(tasks) as updates:
        async for site, _ in updates:
            found.append(site)
            if gone is not None and len(found) == 1:
                crash(made, gone)
    return found


@pytest.mark.parametrize("gone", [None, "gone"])
def test_who_rests_is_asked_again_before_a_stream_ends(sim, scheme, gone):
    """The others are done, and one may have left: they would wait for it, or end, in vain."""
    bad = Trains(seconds=500, error=TrainingFailed("bad", "no data"))
    workers = {"done": Trains(1, seconds=1), "bad": bad, "gone": Trains(2, seconds=2)}

    async def main():
        async with federation(workers, scheme=scheme) as made:
            return await sites_of(made, Shares(done=1, bad=9, gone=1), gone)

    found = sim(main)
    assert set(found) == ({"done"} if gone else {"done", "gone"})
    assert len(bad.tasks) == 3
