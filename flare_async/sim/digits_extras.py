"""What only the digits job has to say about its run: who held which digits, and the comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from flare_async.sim.baselines import Comparison, Setting, compare, one_thread
from flare_async.sim.dataset import NUM_CLASSES, Part
from flare_async.sim.digits import fit, network
from flare_async.sim.facts import Extras, Figure

if TYPE_CHECKING:
    from flare_async.jobs.run import Run

__all__ = ["digits_extras", "warm_up"]

TITLE: Final = "Test accuracy beside its two neighbours"


def digits_extras(run: Run, setting: Setting, sites: Sequence[str], again: str = "") -> Extras:
    """Describe the sites' data; where the run has a best model, compare it on the test set."""
    data = setting.sites()
    counts = {site: part.class_counts() for site, part in zip(sites, data, strict=True)}
    lacking = sum(row.count(0) >= 3 for row in counts.values())
    best = run.best_model if run.get_status() == "completed" else None
    comparison = None if best is None else compare(best.torch(), setting)
    return Extras(
        classes=[str(digit) for digit in range(NUM_CLASSES)],
        class_counts=counts,
        comparison=() if comparison is None else _figures(comparison, sites),
        comparison_title=TITLE,
        data_note=(
            f"Handwritten digits, divided by a Dirichlet draw with alpha {setting.alpha:g} that is "
            f"repeated (at most 50 times) until a site lacks three digits: {lacking} of "
            f"{len(sites)} sites lack at least three. Each site keeps a sixth "
            "of its images for validation; the test set is nobody's and was read once, at the end."
        ),
        fields=_fields(comparison),
        again=again,
    )


def warm_up() -> None:
    """Train one image once: torch imports half of itself at the first step, and no round is that.

    Worker processes import for themselves.
    """
    image = Part(np.zeros((1, 64), dtype=np.float32), np.zeros(1, dtype=np.int64))
    with one_thread():
        fit(network(), image, np.random.default_rng(0))


def _fields(comparison: Comparison | None) -> dict[str, object]:
    return {
        "test_accuracy": None if comparison is None else comparison.federated,
        "single_site_accuracy": None if comparison is None else comparison.best_alone,
        "pooled_accuracy": None if comparison is None else comparison.pooled,
    }


def _figures(comparison: Comparison, sites: Sequence[str]) -> tuple[Figure, ...]:
    ordered = sorted(comparison.alone)
    median = ordered[len(ordered) // 2]
    best = sites[comparison.best_site]
    return (
        Figure(
            "federated",
            comparison.federated,
            "the best global model, chosen by the sites' validation parts; no image left its site",
        ),
        Figure(
            "best single site",
            comparison.best_alone,
            f"{best} on its own, as many epochs; picked with hindsight, the median site has "
            f"{100 * median:.1f} %",
        ),
        Figure(
            "pooled",
            comparison.pooled,
            "one party with all images, as many epochs: what sharing the data would give",
        ),
    )
