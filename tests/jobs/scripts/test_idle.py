"""When a script counts as hanging, at times and processor times that are given."""

from __future__ import annotations

import threading

import pytest

from flare_async.jobs.scripts.idle import IdleWatch, cpu_clock, cpu_seconds, standing_at


def first_idle(samples, timeout=8.0):
    """Return the time of the first sample at which a watch finds the script idle."""
    watch = IdleWatch(timeout)
    return next((at for at, cpu, calls in samples if watch.is_idle(at, cpu, calls)), None)


@pytest.mark.parametrize(
    ("samples", "idle_at"),
    [
        ([(t, 0.0, 0) for t in range(20)], 8),
        ([(t, t * 0.5, 0) for t in range(20)], None),
        ([(t, t * 0.009, 0) for t in range(20)], 8),
        ([(t, t * 0.02, 0) for t in range(20)], None),
        ([(t, 0.0, t) for t in range(20)], None),
        ([(t, min(t, 5), 0) for t in range(20)], 13),
        ([(t, 0.0, t // 6) for t in range(13)], None),
        ([(t, None, 0) for t in range(20)], None),
        ([(0, 0.0, 0), *((t, 0.0, 0) for t in range(100, 120))], 108),
    ],
    ids=[
        *("sleeps", "computes", "polls", "computes little", "calls", "stops computing"),
        *("calls now and then", "unknown", "nobody looked"),
    ],
)
def test_a_script_is_idle_that_neither_computes_nor_calls(samples, idle_at):
    """Over the timeout; an eighth of it is the time between two looks."""
    assert first_idle(samples) == idle_at
    assert IdleWatch(8.0).interval == 1.0


def test_the_clock_of_a_thread_that_has_ended_is_harmless():
    """Asking the system by a thread that is gone would end the process."""
    found = []
    thread = threading.Thread(target=lambda: found.append(cpu_clock()))
    thread.start()
    thread.join()
    assert cpu_seconds(None) is None
    for clock in (found[0], cpu_clock()):
        seconds = cpu_seconds(clock)  # the system may take a moment to forget a thread
        assert seconds is None or seconds >= 0


def test_a_thread_is_found_in_the_file_that_is_asked_for():
    """The innermost line of the script, not of what it called."""
    where = standing_at(threading.get_ident(), __file__)
    assert where.startswith(__file__)
    assert where.endswith("in test_a_thread_is_found_in_the_file_that_is_asked_for")
    assert standing_at(0, __file__) == "an unknown line"
    assert "in standing_at" in standing_at(threading.get_ident(), "other.py")
