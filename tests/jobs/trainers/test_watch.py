"""When processes count as idle, at times and processor times that are given."""

import pytest

from flare_async.jobs.trainers.watch import Idleness


def first_idle(looks, seconds=16.0):
    """Return the time of the first look that finds the processes idle."""
    idleness = Idleness(seconds, 0.0, 0)
    return next((at for at, used, signs in looks if idleness.is_idle(at, used, signs)), None)


@pytest.mark.parametrize(
    ("looks", "idle_at"),
    [
        ([(t, 5.0, 0) for t in range(1, 40)], 17),
        ([(t, t * 0.5, 0) for t in range(1, 40)], None),
        ([(t, t * 0.0005, 0) for t in range(1, 40)], 17),
        ([(t, 5.0, t // 9) for t in range(1, 40)], None),
        ([(1, 1000.0, 0), *((t, t * 0.5, 0) for t in range(2, 40))], None),
        ([(1, 5.0, 0), *((t, 5.0, 0) for t in range(100, 130))], 116),
    ],
    ids=["nothing", "computes", "polls", "says something", "a child has ended", "nobody looked"],
)
def test_processes_are_idle_that_neither_compute_nor_say_anything(looks, idle_at):
    """A child that ended takes its processor time along; a stopped watcher judges nobody."""
    assert first_idle(looks) == idle_at
