"""scikit-learn's bundled handwritten digits, divided among sites.

1,797 images of 8 x 8 pixels. A fixed, stratified fifth is the test set; nothing but
``read_test_set`` touches it. The rest goes to the sites by a Dirichlet draw over the classes, and
each site keeps about a sixth of its images for validation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from flare_async.errors import MissingExtra
from flare_async.sim.partition import Indices, dirichlet_partition

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["NUM_CLASSES", "Part", "SiteData", "pooled", "read_test_set", "split_digits"]

NUM_CLASSES: Final = 10
TEST_SHARE: Final = 0.2
VALIDATION_SHARE: Final = 0.17
LACKING: Final = 3  # so many classes are unknown to at least one site
DRAWS: Final = 50
SMALLEST_SITE: Final = 2  # one image to train on, one to validate with

Pixels: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Images as rows of 64 numbers from -1 to 1, and their digits."""

    images: Pixels
    digits: Indices

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.digits)


@dataclass(frozen=True, slots=True, eq=False)
class SiteData:
    """What one site holds."""

    train: Part
    validation: Part

    def class_counts(self) -> list[int]:
        """Return how many images of each digit the site has, both parts together."""
        digits = np.concatenate([self.train.digits, self.validation.digits])
        return [int(count) for count in np.bincount(digits, minlength=NUM_CLASSES)]


@lru_cache(maxsize=4)
def split_digits(num_sites: int, alpha: float, seed: int) -> tuple[SiteData, ...]:
    """Return each site's images; the same arguments give the same images everywhere.

    Takes the first draw in which some site lacks at least three classes; with 8 sites and alpha 0.5
    a good half of the draws do (168 of 300). Where none of fifty does (large alpha, few sites) it
    is the first draw.

    Raises:
        ConfigError: alpha is out of range, or there are more sites than images allow.
        MissingExtra: scikit-learn is not installed.
    """
    everything = _load()
    rest = np.setdiff1d(np.arange(len(everything)), _test_indices(everything.digits))
    labels = everything.digits[rest]
    return tuple(
        _divide(_take(everything, rest[part]), seed, index)
        for index, part in enumerate(_unlike_parts(labels, num_sites, alpha, seed))
    )


def read_test_set() -> Part:
    """Return the test set. It is for the final figures only: read it once, at the end.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    everything = _load()
    return _take(everything, _test_indices(everything.digits))


def pooled(sites: Sequence[SiteData]) -> SiteData:
    """Return what one party would hold that had the images of all sites."""
    return SiteData(
        _join([site.train for site in sites]), _join([site.validation for site in sites])
    )


@lru_cache(maxsize=1)
def _load() -> Part:
    try:
        from sklearn.datasets import load_digits
    except ImportError as exc:
        raise MissingExtra("scikit-learn", "sklearn") from exc
    found = load_digits(return_X_y=True)  # it would be frames only with as_frame
    images, digits = cast("tuple[Pixels, Indices]", found)
    return Part((images / 8 - 1).astype(np.float32), digits.astype(np.int64))


def _unlike_parts(labels: Indices, num_sites: int, alpha: float, seed: int) -> list[Indices]:
    first = None
    for draw in range(DRAWS):
        parts = dirichlet_partition(labels, num_sites, alpha, (seed, draw), minimum=SMALLEST_SITE)
        if min(len(np.unique(labels[part])) for part in parts) <= NUM_CLASSES - LACKING:
            return parts
        first = first or parts
    return first or []


def _divide(part: Part, seed: int, index: int) -> SiteData:
    order = np.random.default_rng((seed, DRAWS, index)).permutation(len(part))
    kept = max(1, round(VALIDATION_SHARE * len(part)))
    return SiteData(train=_take(part, order[kept:]), validation=_take(part, order[:kept]))


def _test_indices(digits: Indices) -> Indices:
    rng = np.random.default_rng(0)  # one test set whatever the run's seed
    chosen = []
    for label in range(NUM_CLASSES):
        members = rng.permutation(np.flatnonzero(digits == label))
        chosen.append(members[: round(TEST_SHARE * len(members))])
    return np.sort(np.concatenate(chosen))


def _take(part: Part, indices: Indices) -> Part:
    return Part(part.images[indices], part.digits[indices])


def _join(parts: Sequence[Part]) -> Part:
    return Part(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.digits for part in parts]),
    )
