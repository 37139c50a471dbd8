"""Charts as inline SVG, drawn for a page whose style sheet gives the colours.

Every text that comes from a run is escaped here, at the last moment, and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from flare_async.jobs.curves import Curve
from flare_async.sim.facts import Figure
from flare_async.sim.words import number, percent

__all__ = ["Frame", "bar_chart", "line_chart", "svg", "ticks"]

WIDTH: Final = 560
HEIGHT: Final = 300
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 46  # room for tick labels and the axis title
FEW_POINTS: Final = 40  # more are drawn without markers
BAR: Final = 34


@dataclass(frozen=True, slots=True)
class Frame:
    """The ranges of two axes and where they lie in the picture."""

    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return the picture's coordinates of a point."""
        across = (x - self.x[0]) / ((self.x[1] - self.x[0]) or 1)
        up = (y - self.y[0]) / ((self.y[1] - self.y[0]) or 1)
        return (
            round(LEFT + across * (WIDTH - LEFT - RIGHT), 1),
            round(HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM), 1),
        )


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round numbers (1, 2 or 5 times a power of ten apart) that cover the range."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low]
    rough = span / max(1, count)
    if rough == 0:  # the smallest number there is, divided
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((s * power for s in (1, 2, 5) if s * power >= rough * 0.999), 10 * power)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def svg(size: tuple[float, float], label: str, body: str) -> str:
    """Return a picture that scales with the page and says to a screen reader what it is."""
    width, height = size
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">'
        f"{body}</svg>"
    )


def line_chart(title: str, curves: Sequence[Curve], mark: int | None = None) -> str:
    """Return curves over the rounds as a figure with axes and legend; ``mark`` is a round."""
    frame, down = _frame(curves)
    parts = [_axes(frame, down)]
    if mark is not None:
        x, bottom = frame.at(mark, frame.y[0])
        parts.append(f'<path class="mark" d="M{x} {bottom}V{TOP}"/>')
    parts.extend(_line(curve, place, frame) for place, curve in enumerate(curves))
    keys = "".join(
        f'<span><i class="key k{place} {_dash(curve)}"></i>{escape(curve.label)}</span>'
        for place, curve in enumerate(curves)
    )
    best = '<span><i class="key mark"></i>best model</span>' if mark is not None else ""
    picture = svg((WIDTH, HEIGHT), f"{title} by round", "".join(parts))
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>{picture}"
        f'<div class="legend">{keys}{best}</div></figure>'
    )


def _frame(curves: Sequence[Curve]) -> tuple[Frame, list[float]]:
    points = [point for curve in curves for point in curve.points]
    values = [value for _, value in points]
    low, high = min(values), max(values)
    if low >= 0 and (high <= 1 or low < high / 2):
        low = 0.0  # a curve that starts near zero is read more honestly from zero
    if 0.5 < high <= 1:
        high = 1.0
    down = ticks(low, high if high > low else low + 1)
    last = max(1.0, *(at for at, _ in points))
    return Frame((0.0, last), (down[0], down[-1])), down


def _axes(frame: Frame, down: Sequence[float]) -> str:
    parts = []
    for value in down:
        x, y = frame.at(frame.x[0], value)
        parts.append(f'<path class="grid" d="M{x} {y}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="end" x="{x - 8}" y="{y + 4}">{number(value)}</text>')
    for at in ticks(*frame.x, count=10):
        if at > frame.x[1] or at != int(at):
            continue
        x, y = frame.at(at, frame.y[0])
        parts.append(f'<path class="axis" d="M{x} {y}v4"/>')
        parts.append(f'<text class="mid" x="{x}" y="{y + 18}">{at:g}</text>')
    x, y = frame.at(frame.x[0], frame.y[0])
    parts.append(f'<path class="axis" d="M{x} {y}H{WIDTH - RIGHT}"/>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="mid" x="{middle}" y="{HEIGHT - 8}">rounds completed</text>')
    return "".join(parts)


def _dash(curve: Curve) -> str:
    return "dash" if curve.label.startswith("training") else ""


def _line(curve: Curve, place: int, frame: Frame) -> str:
    places = [(*frame.at(at, value), at, value) for at, value in curve.points]
    path = "L".join(f"{x} {y}" for x, y, _, _ in places)
    parts = [f'<path class="line k{place} {_dash(curve)}" d="M{path}"/>']
    if len(places) <= FEW_POINTS:
        parts.extend(
            f'<circle class="dot k{place}" cx="{x}" cy="{y}" r="3">'
            f"<title>{escape(curve.label)}, {at:g} rounds: {number(value)}</title></circle>"
            for x, y, at, value in places
        )
    return "".join(parts)


def bar_chart(title: str, figures: Sequence[Figure]) -> str:
    """Return labelled horizontal bars from 0 to 100 percent, the first one emphasised."""
    parts = []
    start, end = 190, WIDTH - 70
    for place, figure in enumerate(figures):
        top = place * BAR
        value = figure.value if math.isfinite(figure.value) else 0.0
        width = round(min(1.0, max(0.0, value)) * (end - start), 1)
        style = "first" if place == 0 else "other"
        label = escape(figure.label)
        parts.append(
            f'<text class="end strong" x="{start - 10}" y="{top + 20}">{label}</text>'
            f'<rect class="track" x="{start}" y="{top + 6}" width="{end - start}" height="20"/>'
            f'<rect class="bar {style}" x="{start}" y="{top + 6}" width="{width}" height="20"/>'
            f'<text class="strong" x="{end + 8}" y="{top + 20}">{percent(figure.value)}</text>'
        )
    return svg((WIDTH, BAR * len(figures) + 4), title, "".join(parts))
