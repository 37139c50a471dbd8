"""The sparse vector technique: a few noisy changes leave a site, chosen by noisy comparisons.

Lyu, Su and Li, "Understanding the sparse vector technique for differential privacy", VLDB 2017, as
Li et al. use it in "Privacy-preserving federated brain tumour segmentation", MLMI 2019. With d the
change of a value in one step, n of them to send (``fraction`` of all) and Lap(b) Laplace noise:

    t    = tau + Lap(2 gamma / e1)                                      with e1 = epsilon
    pass:  |clip(d, gamma)| + Lap(4 gamma n / e2) >= t                  with e2 = e1 (2n)^(2/3)
    sent:  clip(d + Lap(2 gamma / e3), gamma)                           with e3 = noise_var

Values are asked again until n have passed; n of those that passed are drawn. The rest is zero.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from flare_async.errors import ConfigError, TensorFormatError
from flare_async.transfer.filters.cells import FLOATS, as_bytes, float_values, gathered
from flare_async.transfer.filters.filter import Filter, Passage
from flare_async.transfer.filters.percentile import positive_number, steps_of
from flare_async.transfer.source import TensorSource
from flare_async.transfer.tensors import TensorSet

__all__ = ["SVTPrivacy"]

MOST_PASSES: Final = 1000

Doubles = npt.NDArray[np.float64]


class SVTPrivacy(Filter):
    """Sends a noisy ``fraction`` of the changes, each at most ``gamma`` a step.

    ``replace`` draws with replacement, so fewer different values may be sent. Holds the whole
    update in float64, its comparisons and the result: about 40 bytes a value while it works.

    Raises:
        ConfigError: a parameter is out of range.
    """

    differences = True
    holds = 10.5  # 42 bytes for each value of four

    def __init__(  # noqa: PLR0917 - the order in which NVFlare's users give them
        self,
        fraction: float = 0.1,
        epsilon: float = 0.1,
        noise_var: float = 0.1,
        gamma: float = 1e-5,
        tau: float = 1e-6,
        replace: bool = True,
    ) -> None:
        self.fraction = positive_number("fraction", fraction)
        if self.fraction > 1:
            raise ConfigError("fraction", fraction, "at most 1 is needed")
        self.epsilon = positive_number("epsilon", epsilon)
        self.noise_var = positive_number("noise_var", noise_var)
        self.gamma = positive_number("gamma", gamma)
        self.tau = tau
        self.replace = replace

    def apply(self, source: TensorSource, passage: Passage) -> TensorSet:
        """Return the difference with all but the chosen values zero.

        Raises:
            TensorFormatError: a value is not finite, the noisy threshold is so high that too few
                values ever pass it, or the steps are no number above 0.
        """
        steps, rng = steps_of(passage), passage.rng
        parts = [values.astype(np.float64).reshape(-1) for values in float_values(source)]
        if not parts:
            return gathered(source)
        changes = np.concatenate(parts) / steps
        del parts
        if not np.isfinite(changes).all():
            raise TensorFormatError(
                f"of {changes.size} values of the difference some are not finite"
            )
        sent = self._sent(changes, rng) * steps
        return self._put_back(source, sent)

    def _sent(self, changes: Doubles, rng: np.random.Generator) -> Doubles:
        count = min(math.ceil(changes.size * self.fraction), changes.size)
        chosen = rng.choice(self._passed(changes, count, rng), size=count, replace=self.replace)
        noise = rng.laplace(scale=2.0 * self.gamma / self.noise_var, size=count)
        sent = np.zeros_like(changes)
        sent[chosen] = np.clip(changes[chosen] + noise, -self.gamma, self.gamma)
        return sent

    def _passed(
        self, changes: Doubles, count: int, rng: np.random.Generator
    ) -> npt.NDArray[np.int64]:
        threshold = self.tau + rng.laplace(scale=2.0 * self.gamma / self.epsilon)
        budget = self.epsilon * (2.0 * count) ** (2.0 / 3.0)
        spread = 4.0 * self.gamma * count / budget
        sizes = np.minimum(np.abs(changes), self.gamma)
        passed = np.zeros(changes.size, np.bool_)
        for _ in range(MOST_PASSES):
            asked = np.flatnonzero(~passed)
            noise = rng.laplace(scale=spread, size=asked.size)
            passed[asked] = sizes[asked] + noise >= threshold
            if np.count_nonzero(passed) >= count:
                return np.flatnonzero(passed)
        found = np.count_nonzero(passed)
        problem = f"{found} of {count} values passed the threshold {threshold:.3g}"
        raise TensorFormatError(f"{problem} in {MOST_PASSES} passes: its noise is too small")

    def _put_back(self, source: TensorSource, sent: Doubles) -> TensorSet:
        views: dict[str, memoryview] = {}
        at = 0
        for spec in source.specs:
            if spec.name in source.aliases:
                continue
            if spec.dtype in FLOATS:
                views[spec.name] = as_bytes(spec, sent[at : at + spec.elements])
                at += spec.elements
            else:
                views[spec.name] = memoryview(b"".join(source.chunks(spec.name)))
        return TensorSet.from_views(source.specs, views, source.aliases)
