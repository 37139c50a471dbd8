"""The report's tables: what each site holds, and what it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from flare_async.jobs.history import History
from flare_async.sim.facts import Extras
from flare_async.sim.tally import SiteTally, tally
from flare_async.sim.words import byte_count, clean, duration, number, percent

__all__ = ["heat_table", "site_table"]

MOST_ROWS: Final = 200  # a table of thousands is no longer read; the rest is in history.jsonl
MOST_METRICS: Final = 3


def heat_table(extras: Extras) -> str:
    """Return a row a site and a column a class, the more samples the stronger the colour."""
    counts = list(extras.class_counts.items())
    peak = max((count for _, row in counts for count in row), default=0) or 1
    heads = "".join(f"<th class=mid>{escape(clean(name, 20))}</th>" for name in extras.classes)
    rows = "".join(_heat_row(site, row, peak) for site, row in counts[:MOST_ROWS])
    return _table(f"<th>site</th>{heads}<th>all</th><th>missing</th>", rows, len(counts))


def _heat_row(site: str, counts: Sequence[int], peak: int) -> str:
    cells = "".join(
        f'<td class="heat" style="--v:{0.08 + 0.62 * count / peak:.3f}">{count}</td>'
        if count
        else '<td class="heat none" style="--v:0">&ndash;</td>'
        for count in counts
    )
    missing = sum(count == 0 for count in counts)
    name = escape(clean(site, 40))
    return f"<tr><th>{name}</th>{cells}<td>{sum(counts)}</td><td>{missing}</td></tr>"


def site_table(history: History, extras: Extras) -> str:
    """Return a row a site: its data, its rounds, its last figures, and why it failed."""
    tallies = tally(history)
    names = list(dict.fromkeys(name for row in tallies for name in row.metrics))[:MOST_METRICS]
    troubled = any(row.reason or row.failed or row.late for row in tallies)
    data = "<th>samples</th><th>classes missing</th>" if extras.class_counts else ""
    metrics = "".join(f"<th>last {escape(clean(name, 30))}</th>" for name in names)
    head = (
        f"<th>site</th>{data}<th>rounds ok</th><th>failed</th><th>late</th><th>last weight</th>"
        f"<th>share</th><th>mean training</th>{metrics}<th>down</th><th>up</th>"
        f"{'<th class=left>reason</th>' if troubled else ''}"
    )
    shown = sorted(tallies, key=lambda row: row.failed == 0)[:MOST_ROWS]
    rows = "".join(_site_row(row, names, extras.class_counts, troubled) for row in shown)
    return _table(head, rows, len(tallies))


def _site_row(
    row: SiteTally, names: Sequence[str], counts: Mapping[str, Sequence[int]], troubled: bool
) -> str:
    cells = []
    if counts:
        mine = counts.get(row.site, ())
        cells += [str(sum(mine)), str(sum(count == 0 for count in mine))]
    cells += [str(row.completed), str(row.failed), str(row.late), number(row.weight)]
    cells += [percent(row.share), duration(row.train_seconds)]
    cells += [number(row.metrics[name]) if name in row.metrics else "-" for name in names]
    cells += [byte_count(row.bytes_down), byte_count(row.bytes_up)]
    body = "".join(f"<td>{cell}</td>" for cell in cells)
    reason = f'<td class="reason">{escape(clean(row.reason))}</td>' if troubled else ""
    style = ' class="trouble"' if row.failed else ""
    return f"<tr{style}><th>{escape(clean(row.site, 40))}</th>{body}{reason}</tr>"


def _table(head: str, rows: str, count: int) -> str:
    more = ""
    if count > MOST_ROWS:
        more = f'<p class="soft">{count - MOST_ROWS} more sites are in history.jsonl.</p>'
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{more}"
    )
