"""The learning curves of a run: which numbers a picture or a report draws against the rounds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from flare_async.jobs.history import History, SiteStatus

__all__ = ["Curve", "CurveKind", "curves_of"]

MOST_CURVES: Final = 6  # of a kind; more colours cannot be told apart
LOSS_WORDS: Final = ("loss", "error", "perplexity")


class CurveKind(StrEnum):
    """Whether more is better (a score) or less (a loss); guessed from the metric's name."""

    SCORE = "score"
    LOSS = "loss"


@dataclass(frozen=True, slots=True)
class Curve:
    """One metric against the number of rounds that were completed; only finite values."""

    label: str
    kind: CurveKind
    points: tuple[tuple[float, float], ...]


def curves_of(history: History) -> list[Curve]:
    """Return what the sites measured of each global model, then what they reported of training."""
    evaluated = _series((model.version, model.metrics) for model in history.models)
    trained = _series(
        (record.number + 1, record.metrics)
        for record in history.rounds
        if record.task == "train" and any(s.status is SiteStatus.OK for s in record.sites)
    )
    curves = [
        *_curves("model", evaluated),
        *_curves("training", trained),
    ]
    return [curve for kind in CurveKind for curve in _first_of(kind, curves)]


def _series(
    rows: Iterable[tuple[int, Mapping[str, float]]],
) -> dict[str, list[tuple[float, float]]]:
    series: dict[str, list[tuple[float, float]]] = {}
    for at, metrics in rows:
        for name, value in metrics.items():
            if math.isfinite(value):
                series.setdefault(name, []).append((float(at), float(value)))
    return series


def _curves(source: str, series: Mapping[str, list[tuple[float, float]]]) -> Iterator[Curve]:
    for name, points in series.items():
        loss = any(word in name.lower() for word in LOSS_WORDS)
        kind = CurveKind.LOSS if loss else CurveKind.SCORE
        yield Curve(f"{source} {name}", kind, tuple(sorted(points)))


def _first_of(kind: CurveKind, curves: Iterable[Curve]) -> list[Curve]:
    return [curve for curve in curves if curve.kind is kind][:MOST_CURVES]
