"""The HTML report."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from flare_async.errors import QuorumNotReached, WorkspaceError
from flare_async.jobs.history import History
from flare_async.sim.facts import Extras, Figure
from flare_async.sim.report import render_report, write_report
from tests.sim.story import NASTY, extras, facts, history

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Balance(HTMLParser):
    """Checks that every element is closed, in order, and collects names and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def checked(page: str) -> Balance:
    """Return the page's elements; they are balanced and reach for nothing outside."""
    balance = Balance()
    balance.feed(page)
    assert balance.open == []
    assert not {"script", "link", "img", "iframe"} & set(balance.seen)
    assert not {"src", "href", "onclick", "onload"} & {name for name, _ in balance.attributes}
    assert "url(" not in page
    assert "@import" not in page
    return balance


def headings(page: str) -> list[str]:
    """Return the titles of the sections."""
    return re.findall(r"<h2>(.*?)</h2>", page)


def test_a_full_report_has_every_section(tmp_path: Path) -> None:
    """Curves, comparison, classes, sites, timeline, facts, next commands."""
    page = render_report(facts(tmp_path, history()), extras())
    checked(page)
    assert headings(page) == [
        "Learning curves",
        "Comparison",
        "Data by site and class",
        "Sites",
        "Round timeline",
        "Memory",
        "Run facts",
        "What to try next",
    ]
    assert "ab" * 32 in page
    assert "94.0 %" in page


def test_a_report_without_extras_leaves_their_sections_out(tmp_path: Path) -> None:
    """The report works for every recipe."""
    page = render_report(facts(tmp_path, history()), Extras())
    checked(page)
    assert "Comparison" not in headings(page)
    assert "classes missing" not in page


def test_a_run_that_failed_before_its_first_round_has_a_report(tmp_path: Path) -> None:
    """It says why, and draws nothing."""
    cause = QuorumNotReached(0, 1, 2, {"site-1": NASTY})
    page = render_report(facts(tmp_path, History(), status="failed", cause=cause), Extras())
    checked(page)
    assert headings(page) == ["Memory", "Run facts", "What to try next"]
    assert "quorum is 2" in page


def test_text_from_a_run_is_escaped_everywhere(tmp_path: Path) -> None:
    """Site names, reasons, metrics, labels and notes are foreign text."""
    made = history(bad=NASTY, name=NASTY)
    made.models[-1] = type(made.models[-1])(3, {NASTY: 0.5}, best=True)
    nasty = Extras(
        classes=[NASTY],
        class_counts={NASTY: [1]},
        comparison=[Figure(NASTY, 0.5, NASTY)],
        comparison_title=NASTY,
        data_note=NASTY,
        again=NASTY,
    )
    page = render_report(facts(tmp_path, made, status=NASTY), nasty)
    checked(page)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_the_pictures_are_well_formed(tmp_path: Path) -> None:
    """Each is XML of its own and has a label for those who cannot see it."""
    page = render_report(facts(tmp_path, history(bad="broken")), extras())
    pictures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(pictures) == 4
    for picture in pictures:
        assert ET.fromstring(picture).attrib["aria-label"]


def test_values_that_are_not_finite_are_shown_as_missing(tmp_path: Path) -> None:
    """A metric of NaN neither breaks the axes nor appears as a number."""
    made = history()
    made.models[1] = type(made.models[1])(1, {"accuracy": float("nan")}, best=False)
    made.models[2] = type(made.models[2])(2, {"accuracy": float("inf")}, best=False)
    page = render_report(facts(tmp_path, made), extras())
    checked(page)
    assert "nan" not in re.sub(r"<[^>]*>", "", page).lower().split()
    assert not re.search(r'="[^"]*\b(nan|inf)\b', page)


def test_a_failed_site_is_named_with_its_reason(tmp_path: Path) -> None:
    """The table has a column for it, and the site comes first."""
    page = render_report(facts(tmp_path, history(bad="disk is full")), extras())
    assert page.count('<tr class="trouble">') == 1
    assert page.index('<tr class="trouble"><th>site-4') < page.index("<th>site-1</th><td>10")
    assert "disk is full" in page


@pytest.mark.parametrize(("sites", "rows"), [(40, "site-40"), (41, "round 2")])
def test_above_forty_sites_the_timeline_has_a_row_a_round(
    tmp_path: Path, sites: int, rows: str
) -> None:
    """A row a site would no longer be read."""
    page = render_report(facts(tmp_path, history(sites)), Extras())
    timeline = page[page.index("Round timeline") : page.index("Run facts")]
    assert f">{rows}</text>" in timeline


def test_a_thousand_sites_stay_a_readable_page(tmp_path: Path) -> None:
    """Tables stop at two hundred rows and say so."""
    page = render_report(facts(tmp_path, history(1000, 5)), extras(1000))
    checked(page)
    assert len(page) < 400_000
    assert page.count("800 more sites are in history.jsonl") == 2


def test_the_report_is_written_into_the_run_folder(tmp_path: Path) -> None:
    """Its name is report.html."""
    path = write_report(facts(tmp_path, history()), extras())
    assert path == tmp_path / "report.html"
    assert path.read_text("utf-8").startswith("<!doctype html>")


def test_a_folder_that_is_gone_is_a_typed_error(tmp_path: Path) -> None:
    """The error names the path."""
    with pytest.raises(WorkspaceError, match="nowhere"):
        write_report(facts(tmp_path / "nowhere", history()))
