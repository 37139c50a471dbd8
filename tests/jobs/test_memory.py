"""Memory is given back to the system when it is due, by whatever the allocator has for it."""

from __future__ import annotations

import ctypes
import gc
import tracemalloc

import numpy as np
import pytest

from flare_async import FLModel, SimEnv
from flare_async.errors import ConfigError
from flare_async.jobs.events import RoundFinished
from flare_async.jobs.measure import peak_rss_mb, resident_bytes
from flare_async.jobs.memory import (
    LARGE_MODEL,
    checked_gc_rounds,
    is_due,
    return_memory,
    trim_allocator,
)
from flare_async.recipes import FedAvgRecipe

MODEL = 400_000  # bytes


class Functions:
    """The C functions that an allocator has; each call is kept."""

    def __init__(self, *names):
        self._names, self.calls = names, []

    def __getattr__(self, name):
        if name not in self._names:
            raise AttributeError(name)
        return lambda *arguments: self.calls.append((name, arguments))


@pytest.mark.parametrize("name", ["mallctl", "malloc_trim", "malloc_zone_pressure_relief"])
def test_each_allocator_has_its_own_call(name):
    """jemalloc, glibc, macOS."""
    library = Functions(name)
    assert trim_allocator(library)
    assert [called for called, _ in library.calls] == [name]


def test_jemalloc_comes_before_the_c_library_below_it():
    """Preloaded, it stands in front of a malloc_trim that has nothing to trim."""
    library = Functions("malloc_trim", "mallctl")
    assert trim_allocator(library)
    assert library.calls[0][0] == "mallctl"


def test_an_allocator_without_such_a_call_is_left_alone():
    """musl has none."""
    assert not trim_allocator(Functions())


def test_garbage_is_collected_first():
    """A cycle that holds memory is gone afterwards."""
    cycle = [np.zeros(10)]
    cycle.append(cycle)
    reference = ctypes.c_size_t(id(cycle)).value
    del cycle
    return_memory()
    assert all(id(found) != reference for found in gc.get_objects())


@pytest.mark.parametrize(
    ("every", "nbytes", "due"),
    [
        (0, 10**12, []),
        (1, 0, [0, 1, 2, 3, 4]),
        (2, 0, [1, 3]),
        (None, LARGE_MODEL - 1, []),
        (None, LARGE_MODEL, [0, 1, 2, 3, 4]),
    ],
)
def test_rounds_are_due(every, nbytes, due):
    """0 is never, n is every nth, None is each round of a large model."""
    assert [number for number in range(5) if is_due(number, every, nbytes)] == due


@pytest.mark.parametrize("value", [-1, 1.5, True, "1"])
def test_what_is_no_number_of_rounds_is_refused(value):
    """The argument is named."""
    with pytest.raises(ConfigError, match="server_memory_gc_rounds"):
        checked_gc_rounds("server_memory_gc_rounds", value)


def test_the_resident_size_is_below_its_peak(tmp_path):
    """And where the system does not tell it, the peak stands in; the kernel counts in batches."""
    peak = peak_rss_mb() * 1e6
    assert 1e6 < resident_bytes() < peak * 1.05
    assert resident_bytes(tmp_path / "absent") == pytest.approx(peak, rel=0.05)


def train(model, site):
    """Return new memory."""
    return FLModel(params={"w": model.params["w"] + np.float32(1)})


def recipe_of(rounds, **options):
    """Return a recipe of so many rounds."""
    model = {"w": np.zeros(MODEL // 4, np.float32)}
    return FedAvgRecipe(model=model, min_clients=2, num_rounds=rounds, train=train, **options)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 0),
        ({"server_memory_gc_rounds": 1}, 4),
        ({"server_memory_gc_rounds": 2, "client_memory_gc_rounds": 4}, 2),
        ({"client_memory_gc_rounds": 3}, 1),
    ],
)
def test_a_run_gives_memory_back_when_server_or_clients_ask(tmp_path, options, expected):
    """Counted by the collector: nothing else collects all generations meanwhile."""
    found = []

    def count(phase, info):
        if phase == "stop" and info["generation"] == 2:
            found.append(info)

    gc.disable()
    gc.callbacks.append(count)
    try:
        recipe_of(4, **options).execute(SimEnv(num_clients=2, workspace_root=tmp_path))
    finally:
        gc.callbacks.remove(count)
        gc.enable()
    assert len(found) == expected


@pytest.mark.parametrize("transport", ["memory", "tcp"])
def test_rounds_leave_nothing_behind(tmp_path, transport):
    """What is allocated after round 10 is what was after round 4, to a fraction of a model."""
    sizes = []

    def observe(event):
        if isinstance(event, RoundFinished):
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])

    env = SimEnv(num_clients=2, workspace_root=tmp_path, transport=transport, observer=observe)
    tracemalloc.start()
    try:
        recipe_of(11, server_memory_gc_rounds=1).execute(env)
    finally:
        tracemalloc.stop()
    assert abs(sizes[10] - sizes[4]) < MODEL / 8
