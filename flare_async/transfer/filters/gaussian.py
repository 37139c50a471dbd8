"""Gaussian differential privacy: a site's change, clipped to a norm, with Gaussian noise.

With C = ``clip_norm``, d the difference of all floats of the model as one vector:

    d' = d * min(1, C / |d|) + N(0, (C z)^2)

as in Abadi et al. 2016 and McMahan et al. 2018, at each site. ``epsilon`` and ``delta`` give the
least z by the analytic Gaussian mechanism (Balle and Wang, ICML 2018, theorem 8):

    delta(z) = Phi(1/(2z) - epsilon z) - exp(epsilon) Phi(-1/(2z) - epsilon z).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from flare_async.errors import ConfigError, TensorFormatError
from flare_async.transfer.filters.cells import Floats, cellwise, float_values
from flare_async.transfer.filters.filter import Filter, Passage
from flare_async.transfer.filters.percentile import positive_number
from flare_async.transfer.source import TensorSource

__all__ = ["GaussianDP", "delta_of", "noise_for"]

MOST_EPSILON: Final = 100.0
HALVINGS: Final = 200


class GaussianDP(Filter):
    """Clips what a site has changed to ``clip_norm`` and adds noise to every float of it.

    Give ``noise_multiplier``, or ``epsilon`` and ``delta``. They hold for **one** update of one
    site, between a site that takes part and one that sends zeros; there is no accountant: rounds
    add up. The steps that a site reports as its weight, its metrics, and tensors that are no floats
    are not covered. The generator is no cryptographic one, and floats are discrete: this is no
    defence against whoever looks at the last bits. Reads the update once more for its norm and
    holds a cell of it.

    Raises:
        ConfigError: a parameter is out of range, or there are both or none of the two ways.
    """

    differences = True

    def __init__(
        self,
        clip_norm: float = 1.0,
        noise_multiplier: float | None = None,
        *,
        epsilon: float | None = None,
        delta: float | None = None,
    ) -> None:
        self.clip_norm = positive_number("clip_norm", clip_norm)
        if noise_multiplier is not None and epsilon is None and delta is None:
            self.noise_multiplier = positive_number("noise_multiplier", noise_multiplier)
        elif noise_multiplier is None and epsilon is not None and delta is not None:
            self.noise_multiplier = noise_for(epsilon, delta)
        else:
            problem = "give noise_multiplier=, or epsilon= and delta="
            raise ConfigError("noise_multiplier", noise_multiplier, problem)

    def apply(self, source: TensorSource, passage: Passage) -> TensorSource:
        """Return the clipped difference with noise; the same noise whenever it is read.

        Raises:
            TensorFormatError: a value is not finite.
        """
        norm = math.sqrt(sum(_squares(values) for values in float_values(source)))
        if not math.isfinite(norm):
            raise TensorFormatError(f"the norm of the difference is {norm}")
        factor = min(1.0, self.clip_norm / norm) if norm else 1.0
        spread = self.clip_norm * self.noise_multiplier

        def change(tensor: int, cell: int, values: Floats) -> Floats:
            noise = passage.generator(tensor, cell).standard_normal(values.size)
            return (values * factor + noise * spread).astype(values.dtype, copy=False)

        return cellwise(source, change)


def _squares(values: Floats) -> float:
    wide = values.astype(np.float64)
    return float(np.dot(wide, wide))


def noise_for(epsilon: float, delta: float) -> float:
    """Return the least noise, as a multiple of the norm, that is (epsilon, delta)-private.

    Raises:
        ConfigError: epsilon is not above 0 and up to 100, or delta not between 0 and 1.
    """
    if positive_number("epsilon", epsilon) > MOST_EPSILON:
        raise ConfigError("epsilon", epsilon, f"at most {MOST_EPSILON:g} is a bound at all")
    if positive_number("delta", delta) >= 1:
        raise ConfigError("delta", delta, "less than 1 is needed")
    low, high = 1e-6, 1.0
    while delta_of(high, epsilon) > delta:
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if delta_of(middle, epsilon) > delta:
            low = middle
        else:
            high = middle
    return high


def delta_of(noise_multiplier: float, epsilon: float) -> float:
    """Return the least delta with which noise of that size is (epsilon, delta)-private."""
    half, shift = 1 / (2 * noise_multiplier), epsilon * noise_multiplier
    return _normal(half - shift) - math.exp(epsilon) * _normal(-half - shift)


def _normal(value: float) -> float:
    return math.erfc(-value / math.sqrt(2)) / 2
