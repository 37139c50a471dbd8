"""When each site worked in each round, as inline SVG.

Up to forty sites have a row each; more are drawn a row a round: from the round's start to its end,
with the middle four fifths of its sites' ends marked.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from flare_async.jobs.history import RoundRecord, SiteRecord
from flare_async.sim.charts import svg, ticks
from flare_async.sim.words import clean, duration, number

__all__ = ["draw_timeline", "drawn_by_site"]

MOST_SITES: Final = 40
MOST_BARS: Final = 4000
MOST_ROUNDS: Final = 60
WIDTH: Final = 1140
LEFT, RIGHT = 110, 16
ROW: Final = 18
HEAD: Final = 20


def drawn_by_site(rounds: Sequence[RoundRecord]) -> bool:
    """Say whether every site has a row of its own, or every round."""
    sites = {site.site for record in rounds for site in record.sites}
    bars = sum(len(record.sites) for record in rounds)
    return len(sites) <= MOST_SITES and bars <= MOST_BARS


def draw_timeline(rounds: Sequence[RoundRecord]) -> str:
    """Return the timeline of these rounds; the last sixty where a round has a row."""
    if drawn_by_site(rounds):
        return _by_site(rounds)
    return _by_round(rounds[-MOST_ROUNDS:])


class _Scale:
    """Seconds of the run as places in the picture."""

    __slots__ = ("_end", "_start")

    def __init__(self, rounds: Sequence[RoundRecord]) -> None:
        self._start = min(record.started for record in rounds)
        self._end = max(
            [self._start + 1e-6, *(record.ended for record in rounds)],
        )

    def at(self, seconds: float) -> float:
        share = (min(max(seconds, self._start), self._end) - self._start) / (
            self._end - self._start
        )
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def axis(self, height: float) -> str:
        parts = []
        for second in ticks(self._start, self._end, 8):
            if self._start <= second <= self._end:
                x = self.at(second)
                parts.append(f'<path class="grid" d="M{x} {HEAD}V{height - 24}"/>')
                label = f"{number(second)} s"
                parts.append(f'<text class="mid" x="{x}" y="{height - 8}">{label}</text>')
        return "".join(parts)


def _by_site(rounds: Sequence[RoundRecord]) -> str:
    scale = _Scale(rounds)
    names = list(dict.fromkeys(site.site for record in rounds for site in record.sites))
    rows = {name: HEAD + place * ROW for place, name in enumerate(names)}
    height = HEAD + len(names) * ROW + 28
    parts = [scale.axis(height), _round_marks(rounds, scale, height)]
    parts.extend(_name(name, top) for name, top in rows.items())
    parts.extend(
        _bar(record, site, rows[site.site], scale) for record in rounds for site in record.sites
    )
    return svg((WIDTH, height), "when each site worked, round by round", "".join(parts))


def _name(name: str, top: float) -> str:
    shown = clean(name, 16)
    return f'<text class="end" x="{LEFT - 8}" y="{top + 13}">{escape(shown)}</text>'


def _round_marks(rounds: Sequence[RoundRecord], scale: _Scale, height: float) -> str:
    parts = []
    free = 0.0
    for record in rounds:
        x = scale.at(record.started)
        parts.append(f'<path class="round" d="M{x} {HEAD - 4}V{height - 24}"/>')
        if x >= free:
            parts.append(f'<text x="{x + 2}" y="{HEAD - 8}">{record.number}</text>')
            free = x + 22
    return "".join(parts)


def _bar(record: RoundRecord, site: SiteRecord, top: float, scale: _Scale) -> str:
    left, right = scale.at(site.started), scale.at(site.ended)
    style = f"{site.status} {'validate' if record.task != 'train' else ''}".strip()
    said = f"{site.site}, round {record.number} ({record.task}): {site.status}"
    reason = f", {clean(site.reason)}" if site.reason else ""
    title = f"{said}, {duration(site.ended - site.started)}{reason}"
    trained = min(max(scale.at(site.ended - site.train_seconds), left), right)
    solid = trained if site.train_seconds > 0 else left  # nothing is known: all of it
    return (
        f"<g><title>{escape(title)}</title>"
        f"{_rect(style + ' whole', (left, right), top + 3, ROW - 6)}"
        f"{_rect(style, (solid, right), top + 3, ROW - 6)}</g>"
    )


def _rect(style: str, across: tuple[float, float], top: float, height: float) -> str:
    width = max(1.0, across[1] - across[0])
    return (
        f'<rect class="span {style}" x="{across[0]}" y="{top}" width="{width:.1f}" '
        f'height="{height}"/>'
    )


def _by_round(rounds: Sequence[RoundRecord]) -> str:
    scale = _Scale(rounds)
    height = HEAD + len(rounds) * ROW + 28
    parts = [scale.axis(height)]
    for place, record in enumerate(rounds):
        top = HEAD + place * ROW
        parts.append(_name(f"round {record.number}", top))
        parts.append(_summary_bar(record, top, scale))
    return svg((WIDTH, height), "when each round ran", "".join(parts))


def _summary_bar(record: RoundRecord, top: float, scale: _Scale) -> str:
    ends = sorted(site.ended for site in record.sites) or [record.ended]
    early, late = ends[len(ends) // 10], ends[-1 - len(ends) // 10]
    left, right = scale.at(record.started), scale.at(record.ended)
    inner, outer = scale.at(early), scale.at(late)
    failed = len(record.sites) - record.arrived
    title = (
        f"round {record.number} ({record.task}): {record.arrived} of {len(record.sites)} sites, "
        f"{duration(record.seconds)}; the median site ended after "
        f"{duration(ends[len(ends) // 2] - record.started)}"
    )
    style = "failed" if failed else "ok"
    return (
        f"<g><title>{escape(title)}</title>"
        f"{_rect(style + ' whole', (left, right), top + 3, ROW - 6)}"
        f"{_rect(style, (inner, outer), top + 6, ROW - 12)}</g>"
    )
