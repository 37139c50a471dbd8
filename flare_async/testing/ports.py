"""The seeded random port, and the simulated disk by its first name."""

from __future__ import annotations

from flare_async.net.rng import SeededRandom
from flare_async.testing.disk import SimDisk

__all__ = ["SeededRandom", "SimStore"]

SimStore = SimDisk
