"""The largest length that a tensor of an update may have."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from flare_async.errors import ConfigError, UpdateRefused
from flare_async.transfer.kernel import is_summable, widen
from flare_async.transfer.source import TensorSource
from flare_async.transfer.spec import TensorSpec

__all__ = ["NormLimit"]


class NormLimit:
    """Refuses an update with a tensor whose Euclidean norm is above ``most``.

    Finite values can be as useless as infinite ones: a single 1e30 is all that a mean then has.

    Raises:
        ConfigError: ``most`` is no positive number.
    """

    __slots__ = ("most",)

    def __init__(self, most: float) -> None:
        if not 0 < most < math.inf:
            raise ConfigError("max_norm", most, "a positive number is needed")
        self.most = most

    def checking(
        self, site: str, source: TensorSource, ignored: frozenset[str] = frozenset()
    ) -> Iterator[None]:
        """Check a whole update, yielding after every chunk.

        Raises:
            UpdateRefused: naming the tensor and its norm.
        """
        for spec in source.specs:
            if spec.name in source.aliases or spec.name in ignored or not is_summable(spec.dtype):
                continue
            squares = 0.0
            for chunk in source.chunks(spec.name):
                squares += self.squares(spec, chunk)
                yield
            self.check(site, spec.name, squares)

    def squares(self, spec: TensorSpec, chunk: memoryview) -> float:
        """Return the sum of the squares of a chunk's values."""
        values = widen(spec.dtype, chunk).astype(np.float64)
        return float(np.dot(values, values))

    def check(self, site: str, name: str, squares: float) -> None:
        """Check one tensor.

        Raises:
            UpdateRefused: naming the tensor and its norm.
        """
        norm = math.sqrt(squares)
        if not norm <= self.most:
            raise UpdateRefused(site, f"its norm {norm:.3g} is above {self.most:.3g}", name)
