"""The report of a run: one HTML file that needs nothing else, readable in light and dark.

It works for every recipe. What only one job knows (its data, a comparison) comes in as ``Extras``,
and a section without data is left out. Text from a run is foreign: it is escaped where it enters.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final

from flare_async.errors import WorkspaceError
from flare_async.jobs.curves import CurveKind, curves_of
from flare_async.sim.charts import bar_chart, line_chart
from flare_async.sim.facts import Extras, RunFacts
from flare_async.sim.next_steps import next_steps
from flare_async.sim.report_memory import memory_table
from flare_async.sim.report_tables import heat_table, site_table
from flare_async.sim.timeline import draw_timeline, drawn_by_site
from flare_async.sim.words import byte_count, clean, duration, number, percent

__all__ = ["REPORT_FILE", "render_report", "write_report"]

REPORT_FILE: Final = "report.html"
TIMELINE_KEYS: Final = (
    ("ok", "training"),
    ("validate", "validation only"),
    ("failed", "failed or refused"),
    ("late", "late"),
)
STATUSES: Final = ("completed", "failed", "aborted")


def write_report(facts: RunFacts, extras: Extras | None = None) -> Path:
    """Write the report into the run folder; return its path.

    Raises:
        WorkspaceError: the file cannot be written.
    """
    path = facts.folder / REPORT_FILE
    try:
        path.write_text(render_report(facts, extras or Extras()), encoding="utf-8")
    except OSError as exc:
        raise WorkspaceError("workspace", str(path), f"cannot write: {exc.strerror}") from exc
    return path


def render_report(facts: RunFacts, extras: Extras) -> str:
    """Return the report as one HTML document."""
    sections = (
        _head(facts, extras),
        _curves(facts),
        _comparison(extras),
        _classes(extras),
        _sites(facts, extras),
        _timeline(facts),
        memory_table(facts),
        _details(facts),
        _next(facts, extras),
    )
    template = files("flare_async.sim").joinpath(REPORT_FILE).read_text(encoding="utf-8")
    return Template(template).substitute(
        title=escape(f"{clean(facts.recipe)}: {facts.run_id}"),
        body="\n".join(section for section in sections if section),
    )


def _head(facts: RunFacts, extras: Extras) -> str:
    status = facts.status if facts.status in STATUSES else "failed"
    tiles = "".join(
        f"<div><b>{escape(value)}</b><span>{escape(label)}</span></div>"
        for value, label in _key_figures(facts, extras)
    )
    cause = str(facts.cause) if facts.cause is not None else ""
    problem = f'<p class="problem">{escape(clean(cause, 2000))}</p>' if cause else ""
    return (
        f'<h1>{escape(clean(facts.recipe))} <span class="badge {status}">'
        f"{escape(facts.status)}</span></h1>"
        f'<p class="soft">Run {escape(facts.run_id)}: {facts.clients} sites, '
        f"{facts.rounds} rounds, seed {facts.seed}.</p>{problem}"
        f'<div class="tiles">{tiles}</div>'
    )


def _key_figures(facts: RunFacts, extras: Extras) -> list[tuple[str, str]]:
    figures = []
    if extras.comparison:
        first = extras.comparison[0]
        figures.append((percent(first.value), f"test accuracy, {first.label}"))
    best = facts.history.best()
    if best is not None:
        after = f"after {best.version} rounds"
        figures += [
            (number(value), f"{clean(name, 40)} of the best model, {after}")
            for name, value in list(best.metrics.items())[:2]
        ]
    return [
        *figures,
        (duration(facts.wall_s), "whole run"),
        (duration(facts.round_s_median), "a round (median)"),
        (byte_count(facts.bytes_down), "down to the sites"),
        (byte_count(facts.bytes_up), "up from the sites"),
    ]


def _curves(facts: RunFacts) -> str:
    curves = curves_of(facts.history)
    best = facts.history.best()
    charts = []
    for kind in CurveKind:
        chosen = [curve for curve in curves if curve.kind is kind]
        if chosen:
            names = {curve.label.partition(" ")[2] for curve in chosen}
            title = names.pop().capitalize() if len(names) == 1 else f"{kind.capitalize()}s"
            charts.append(line_chart(clean(title), chosen, best.version if best else None))
    if not charts:
        return ""
    return (
        f'<h2>Learning curves</h2><div class="pair">{"".join(charts)}</div>'
        '<p class="soft">Model: each global model as the sites measured it when they received it '
        "(0 rounds: the initial model). Training: what the sites reported of their own training. "
        "Both are means over the sites.</p>"
    )


def _comparison(extras: Extras) -> str:
    if not extras.comparison:
        return ""
    notes = "".join(
        f"<dt>{escape(figure.label)}</dt><dd>{escape(figure.note)}</dd>"
        for figure in extras.comparison
        if figure.note
    )
    chart = bar_chart(extras.comparison_title, extras.comparison)
    return (
        f"<h2>{escape(extras.comparison_title)}</h2>"
        f'<div class="pair"><figure>{chart}</figure><dl>{notes}</dl></div>'
    )


def _classes(extras: Extras) -> str:
    if not extras.class_counts:
        return ""
    note = f'<p class="soft">{escape(extras.data_note)}</p>' if extras.data_note else ""
    return f"<h2>Data by site and class</h2>{note}{heat_table(extras)}"


def _sites(facts: RunFacts, extras: Extras) -> str:
    return f"<h2>Sites</h2>{site_table(facts.history, extras)}" if facts.history.rounds else ""


def _timeline(facts: RunFacts) -> str:
    if not facts.history.rounds:
        return ""
    by_site = drawn_by_site(facts.history.rounds)
    about = (
        "A bar reaches from a site's task to its update; its solid part is as long as training "
        "took. The figures on top are round numbers, from 0."
        if by_site
        else "A row is a round; the solid part is when the middle four fifths of its sites ended."
    )
    keys = "".join(
        f'<span><i class="key box {style}"></i>{label}</span>' for style, label in TIMELINE_KEYS
    )
    return (
        f'<h2>Round timeline</h2><p class="soft">{about}</p>'
        f"<figure>{draw_timeline(facts.history.rounds)}"
        f'<div class="legend">{keys}</div></figure>'
    )


def _details(facts: RunFacts) -> str:
    rows: Sequence[tuple[str, str]] = (
        ("run", facts.run_id),
        ("recipe", facts.recipe),
        ("status", facts.status),
        ("sites, rounds, seed", f"{facts.clients}, {facts.rounds}, {facts.seed}"),
        ("model digest (SHA-256)", facts.model_digest or "no model"),
        ("bytes down, up", f"{facts.bytes_down:,}, {facts.bytes_up:,}"),
        ("runtime a client and round", duration(facts.client_round_us / 1e6)),
        ("peak memory of the process", f"{facts.peak_rss_mb:.0f} MB"),
    )
    items = "".join(f"<dt>{escape(k)}</dt><dd>{escape(clean(v))}</dd>" for k, v in rows)
    return f"<h2>Run facts</h2><dl>{items}</dl>"


def _next(facts: RunFacts, extras: Extras) -> str:
    lines = "\n".join(
        f"{escape(step.command)}\n    # {escape(step.purpose)}"
        for step in next_steps(facts, extras)
    )
    return f"<h2>What to try next</h2><pre>{lines}</pre>"
