"""``bench.workers``: a gain is a ratio of throughputs, and bits that differ are told."""

from __future__ import annotations

import pytest

from bench.child import run_child
from bench.workers import rows_of


def figures(seconds, bits=5):
    return {"round_s": seconds, "task_ms": 50.0, "bits": bits}


def test_the_gain_is_the_median_of_pairs():
    """A pair shares the machine's mood."""
    pairs = [
        (figures(8.0), figures(4.0)),
        (figures(2.0), figures(1.0)),
        (figures(9.0), figures(9.0)),
    ]
    rows = {row.metric: row for row in rows_of("case", figures(7.0), pairs)}
    assert rows["gain of the second"].value == 2.0
    assert rows["models with the same bits"].value == 1


def test_other_bits_are_told():
    """Of one run among many."""
    pairs = [(figures(8.0), figures(4.0, bits=6))]
    assert rows_of("case", figures(7.0), pairs)[-1].value == 0


@pytest.mark.sweep
@pytest.mark.timeout(120)
def test_processes_give_the_bits_of_inline():
    """With the sites that the bench trains."""
    sizes = {"sites": 4, "rounds": 2}
    runs = [("inline", 1), ("process", 2)]
    found = [run_child("bench.workers_run", {**sizes, "workers": w, "slots": n}) for w, n in runs]
    assert found[0]["bits"] == found[1]["bits"]
    assert found[0]["round_s"] > 0
