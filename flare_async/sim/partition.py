"""How labelled samples are divided among sites that do not look alike.

The draw is the usual one of the field: for each class ``k`` a vector of shares is drawn over the
``N`` sites, ``p_k ~ Dirichlet_N(alpha)``, and site ``j`` receives the fraction ``p_kj`` of the
class's samples. A small alpha gives each class to few sites, a large one gives every site the same
mixture. Measuring how unlike the sites are by the alpha of a Dirichlet distribution is due to
Hsu, Qi and Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
Classification" (2019, arXiv:1909.06335); drawing over sites within a class, so that their sizes
differ too, is the form of Yurochkin et al. (2019, arXiv:1905.12022).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from flare_async.errors import ConfigError

__all__ = ["Indices", "Seed", "dirichlet_partition"]

Indices: TypeAlias = npt.NDArray[np.int64]
Seed: TypeAlias = int | Sequence[int]

REDRAWS: Final = 20
SMALLEST_ALPHA: Final = 1e-3  # below it the draw underflows
LARGEST_ALPHA: Final = 1e6


def dirichlet_partition(
    labels: npt.NDArray[np.int64],
    num_sites: int,
    alpha: float,
    seed: Seed,
    *,
    minimum: int = 1,
) -> list[Indices]:
    """Divide all samples among the sites, each sample once; return each site's sorted indices.

    Draws again, at most twenty times, until every site has ``minimum`` samples; where that does not
    help (many sites, few samples) the largest sites give samples to the smallest.

    Raises:
        ConfigError: alpha is out of range, or there are too few samples for so many sites.
    """
    _check(labels, num_sites, alpha, minimum)
    rng = np.random.default_rng(seed)
    sites = _draw(labels, num_sites, alpha, rng)
    for _ in range(REDRAWS - 1):
        if min(map(len, sites)) >= minimum:
            break
        sites = _draw(labels, num_sites, alpha, rng)
    _level(sites, minimum)
    return [np.sort(np.array(site, dtype=np.int64)) for site in sites]


def _check(labels: npt.NDArray[np.int64], num_sites: int, alpha: float, minimum: int) -> None:
    if labels.ndim != 1:
        raise ConfigError("labels", labels.shape, "one label a sample is needed")
    if num_sites < 1:
        raise ConfigError("num_sites", num_sites, "at least one site is needed")
    if minimum < 1:
        raise ConfigError("minimum", minimum, "a site without samples cannot train")
    if not (math.isfinite(alpha) and SMALLEST_ALPHA <= alpha <= LARGEST_ALPHA):
        raise ConfigError("alpha", alpha, f"must lie between {SMALLEST_ALPHA} and {LARGEST_ALPHA}")
    if num_sites * minimum > len(labels):
        raise ConfigError(
            "num_sites",
            num_sites,
            f"{len(labels)} samples do not suffice for {minimum} at each site",
            f"use at most {len(labels) // minimum} sites",
        )


def _draw(
    labels: npt.NDArray[np.int64], num_sites: int, alpha: float, rng: np.random.Generator
) -> list[list[int]]:
    sites: list[list[int]] = [[] for _ in range(num_sites)]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        shares = rng.dirichlet(np.full(num_sites, alpha))
        cuts = np.rint(np.cumsum(shares)[:-1] * len(members)).astype(np.int64)
        for site, part in zip(sites, np.split(members, cuts), strict=True):
            site.extend(part.tolist())
    return sites


def _level(sites: list[list[int]], minimum: int) -> None:
    # Ends because a site with more than the minimum exists as long as another lacks samples.
    sizes = np.array([len(site) for site in sites])
    while int(sizes.min()) < minimum:
        rich, poor = int(sizes.argmax()), int(sizes.argmin())
        sites[poor].append(sites[rich].pop())
        sizes[rich] -= 1
        sizes[poor] += 1
