"""The random port: the system's entropy in production, a seed in simulation.

Every user of random numbers draws from a stream of its own name. One more draw in one place then
changes nothing elsewhere, which keeps a seed's story the same while the code around it grows.
"""

from __future__ import annotations

import random
import secrets

__all__ = ["SeededRandom", "SystemRandom"]


class SystemRandom:
    """Streams that start from the system's entropy, and unpredictable tokens."""

    __slots__ = ("_streams",)

    def __init__(self) -> None:
        self._streams: dict[str, random.Random] = {}

    def stream(self, name: str) -> random.Random:
        """Return the generator of that name; the same object at every call."""
        found = self._streams.get(name)
        if found is None:
            found = self._streams[name] = self.once(name)
        return found

    def once(self, name: str) -> random.Random:
        """Return a new generator; nothing is kept."""
        return random.Random(secrets.token_bytes(32))

    def token(self, nbytes: int) -> bytes:
        """Return bytes that nobody can predict."""
        return secrets.token_bytes(nbytes)

    def buggify(self, point: str) -> bool:
        """Return False: nothing unlikely is made to happen."""
        return False


class SeededRandom:
    """Streams and tokens that depend on a seed and a name only, for simulation and replay."""

    __slots__ = ("_streams", "seed")

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._streams: dict[str, random.Random] = {}

    def stream(self, name: str) -> random.Random:
        """Return the generator of that name; the same object at every call."""
        found = self._streams.get(name)
        if found is None:
            found = self._streams[name] = self.once(name)
        return found

    def once(self, name: str) -> random.Random:
        """Return a new generator that depends on seed and name only; nothing is kept."""
        # A string seed is hashed with SHA-512, so PYTHONHASHSEED has no say in it.
        return random.Random(f"{self.seed}:{name}")

    def token(self, nbytes: int) -> bytes:
        """Return the next reproducible bytes; worthless as a secret."""
        return self.stream("token").randbytes(nbytes)

    def buggify(self, point: str) -> bool:
        """Return False; ``flare_async.testing.BuggyRandom`` draws."""
        return False
