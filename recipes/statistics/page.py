"""The result as one HTML page that needs nothing else: tables, and histograms as drawings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Final

from flare_async.recipes.statistics.document import GLOBAL, Document, Value

__all__ = ["page_of"]

WIDTH, HEIGHT, FOOT = 420, 150, 18
STYLE: Final = """
:root { --page: #fff; --card: #f6f7f9; --ink: #1c2128; --soft: #5b6470; --bar: #0067b0; }
@media (prefers-color-scheme: dark) {
  :root { --page: #14171c; --card: #1d2128; --ink: #e6e9ee; --soft: #a0a9b6; --bar: #5eb3f3; }
}
body { margin: 0 auto; max-width: 1100px; padding: 24px; background: var(--page);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 26px; } h2 { font-size: 18px; margin: 32px 0 8px; }
.wide { overflow-x: auto; } .soft { color: var(--soft); }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 12px; text-align: right; border-bottom: 1px solid var(--card); }
th:first-child, td:first-child { text-align: left; } tr.all td { font-weight: 600; }
.charts { display: flex; flex-wrap: wrap; gap: 16px; margin: 12px 0; }
figure { margin: 0; padding: 10px 12px; background: var(--card); border-radius: 8px; }
svg { display: block; } rect { fill: var(--bar); } text { fill: var(--soft); font-size: 11px; }
"""
POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


def page_of(document: Document, title: str) -> str:
    """Return the page; names come from sites and are escaped."""
    body = "\n".join(section(feature, found) for feature, found in document.items())
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n"
        '<p class="soft">A dash is what a site did not tell, or what nothing can be said of.</p>\n'
        f"{body}\n</body>\n</html>\n"
    )


def section(feature: str, found: Mapping[str, Mapping[str, Mapping[str, Value]]]) -> str:
    """Return a feature's tables and drawings."""
    datasets = dict.fromkeys(
        dataset for sites in found.values() for values in sites.values() for dataset in values
    )
    parts = [f"<h2>{escape(feature)}</h2>"]
    if not datasets:
        parts.append('<p class="soft">No site told anything of it.</p>')
    for dataset in datasets:
        parts += [table(dataset, found), charts(dataset, found.get("histogram", {}))]
    return "\n".join(part for part in parts if part)


def table(dataset: str, found: Mapping[str, Mapping[str, Mapping[str, Value]]]) -> str:
    """Return the numbers of a data set, a row a site."""
    columns = dict(columns_of(dataset, found))
    sites = dict.fromkeys(site for by_site in found.values() for site in by_site)
    ordered = [site for site in sites if site != GLOBAL] + [GLOBAL] * (GLOBAL in sites)
    if not columns:
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in (dataset, *columns))
    rows = [
        f"<tr{' class=all' * (site == GLOBAL)}><td>{escape(site)}</td>"
        + "".join(f"<td>{shown(values.get(site))}</td>" for values in columns.values())
        + "</tr>"
        for site in ordered
    ]
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def columns_of(
    dataset: str, found: Mapping[str, Mapping[str, Mapping[str, Value]]]
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield each statistic's name with its numbers by site; every quantile is one of its own."""
    for name, by_site in found.items():
        values = {site: one[dataset] for site, one in by_site.items() if dataset in one}
        numbers = {site: one for site, one in values.items() if isinstance(one, int | float)}
        if numbers:
            yield name, numbers
        maps = {site: one for site, one in values.items() if isinstance(one, dict)}
        for share in dict.fromkeys(key for one in maps.values() for key in one):
            told = {site: one[share] for site, one in maps.items() if share in one}
            yield f"quantile {share}", told


def charts(dataset: str, by_site: Mapping[str, Mapping[str, Value]]) -> str:
    """Return a drawing a site of its histogram, of all together first."""
    ordered = sorted(by_site, key=lambda site: site != GLOBAL)
    figures = [
        figure(f"{site}, {dataset}", bins)
        for site in ordered
        if isinstance(bins := by_site[site].get(dataset), list)
    ]
    return f'<div class="charts">{"".join(figures)}</div>' if figures else ""


def figure(title: str, bins: list[list[float]]) -> str:
    """Return one histogram."""
    most = max((row[2] for row in bins), default=0) or 1
    step = WIDTH / max(1, len(bins))
    bars = "".join(
        f'<rect x="{at * step:.1f}" y="{HEIGHT - HEIGHT * row[2] / most:.1f}"'
        f' width="{max(1.0, step - 1):.1f}" height="{HEIGHT * row[2] / most:.1f}">'
        f"<title>{row[0]:g} to {row[1]:g}: {row[2]:g}</title></rect>"
        for at, row in enumerate(bins)
    )
    low, high = bins[0][0], bins[-1][1]
    ends = (
        f'<text x="0" y="{HEIGHT + FOOT - 4}">{low:g}</text>'
        f'<text x="{WIDTH}" y="{HEIGHT + FOOT - 4}" text-anchor="end">{high:g}</text>'
    )
    drawing = f'<svg width="{WIDTH}" height="{HEIGHT + FOOT}" role="img">{bars}{ends}</svg>'
    return f"<figure><figcaption>{escape(title)}</figcaption>{drawing}</figure>"


def shown(value: float | None) -> str:
    """Return a number as text."""
    return "-" if value is None else f"{value:.10g}"
