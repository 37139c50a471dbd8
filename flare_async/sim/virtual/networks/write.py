"""A network profile as TOML."""

from __future__ import annotations

from collections.abc import Sequence

from flare_async.testing.profile import Line, Profile
from flare_async.testing.spread import Spread

__all__ = ["profile_text"]


def profile_text(profile: Profile, notes: Sequence[str] = ()) -> str:
    """Return what ``read_profile`` reads, with notes as comments at its head."""
    lines = [f"# {note}".rstrip() for note in notes]
    for side, line in (("up", profile.up), ("down", profile.down)):
        lines += ["", f"[{side}]", *_line(line)] if lines else [f"[{side}]", *_line(line)]
    return "\n".join(lines) + "\n"


def _line(line: Line) -> list[str]:
    rows = [
        f"latency_ms = {_spread(line.latency.scaled(1e3), 'p95')}",
        f"jitter_ms = {line.jitter * 1e3:.6g}",
    ]
    if line.bandwidth is not None:
        rows.append(f"bandwidth_mbit = {_spread(line.bandwidth.scaled(8e-6), 'p5')}")
    return [*rows, f"loss_percent = {line.loss * 100:.6g}"]


def _spread(spread: Spread, far: str) -> str:
    if spread.far == spread.median:
        return f"{spread.median:.6g}"
    return f"{{ median = {spread.median:.6g}, {far} = {spread.far:.6g} }}"
