"""What is seen of a run while it goes on."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from rich.live import Live

from flare_async.jobs.events import RoundStarted, SiteFinished
from flare_async.sim.live import LiveView, PlainLines, watching
from flare_async.sim.progress import Progress, SiteState
from flare_async.sim.screen import screen, sparkline
from tests.sim.story import NASTY, events_of, history, site_record


def progress_of(sites: int, folder: Path) -> Progress:
    """Return the progress at the end of a made-up run."""
    progress = Progress()
    for event in events_of(history(sites), folder):
        progress.see(event)
    return progress


def drawn(progress: Progress, width: int = 110) -> str:
    """Return the view as text."""
    out = io.StringIO()
    Console(file=out, width=width).print(screen(progress, 12.0))
    return out.getvalue()


def test_progress_adds_up_the_events(tmp_path: Path) -> None:
    """Rounds, bytes, scores and the best model."""
    progress = progress_of(4, tmp_path)
    assert (progress.completed, progress.rounds, progress.status) == (3, 3, "completed")
    assert (progress.bytes_down, progress.bytes_up) == (12_000, 10_800)
    assert progress.scores() == [0.5, 0.6, 0.7]
    assert progress.best_version == 3
    assert progress.counts() == {SiteState.DONE: 4}


def test_a_site_that_was_never_announced_is_no_error() -> None:
    """A site may come later than the start."""
    progress = Progress()
    progress.see(RoundStarted(0, "train", ("a",)))
    progress.see(SiteFinished(0, site_record(0, 4, reason="broken")))
    assert progress.sites["site-5"].state is SiteState.FAILED


def test_a_validation_keeps_the_figures_of_training(tmp_path: Path) -> None:
    """It has no training time of its own to show."""
    progress = progress_of(2, tmp_path)
    progress.see(RoundStarted(3, "validate", ("site-1",)))
    progress.see(SiteFinished(3, site_record(3, 0)))
    last = progress.sites["site-1"].last
    assert last is not None
    assert last.metrics == {"loss": 1 / 3}


@pytest.mark.parametrize(("sites", "listed"), [(12, 12), (13, 10), (1000, 10)])
def test_twelve_sites_have_rows_and_more_are_counted(
    tmp_path: Path, sites: int, listed: int
) -> None:
    """The view fits a terminal whatever the number of sites."""
    text = drawn(progress_of(sites, tmp_path))
    assert sum(line.startswith("site-") for line in text.splitlines()) == listed
    assert ("the slowest" in text) == (sites > 12)
    assert len(text.splitlines()) <= 20


def test_the_view_shows_round_bytes_and_score(tmp_path: Path) -> None:
    """What the issue asks for."""
    text = drawn(progress_of(4, tmp_path))
    for part in ("3 of 3 rounds", "12.0 KB down, 10.8 KB up", "accuracy 0.7", "best: model 3"):
        assert part in text


def test_foreign_text_is_neither_markup_nor_control(tmp_path: Path) -> None:
    """A site may be called [red] and fail with an escape sequence."""
    progress = Progress()
    for event in events_of(history(2, bad=NASTY, name="[red]x"), tmp_path):
        progress.see(event)
    text = drawn(progress, 200)
    assert "\x1b" not in text
    assert "[red]x" in text


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], ""), ([1.0], "▁"), ([0.0, 1.0], "▁█"), ([0.0, 0.5, 1.0], "▁▅█"), ([2.0, 2.0], "▁▁")],
)
def test_a_sparkline_reaches_from_least_to_greatest(values: list[float], expected: str) -> None:
    """A constant row stays low."""
    assert sparkline(values) == expected


def test_a_sparkline_keeps_the_last_values() -> None:
    """Long runs do not overflow the line."""
    assert len(sparkline([float(value) for value in range(500)])) == 40


def test_the_live_view_draws_at_most_eight_times_a_second(tmp_path: Path) -> None:
    """A thousand events within a second cost eight drawings, on a clock of our own."""
    now = 0.0
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with Live(console=console, auto_refresh=False) as live:
        view = LiveView(live, console, now=lambda: now)
        for event in events_of(history(250, 2), tmp_path)[:1000]:
            view(event)
            now += 0.001
        assert 7 <= view.drawn <= 9


def test_elsewhere_a_run_is_plain_lines(tmp_path: Path) -> None:
    """One at the start, one a round and a model, one at the end; failures by name."""
    out = io.StringIO()
    with watching(out) as observer:
        assert isinstance(observer, PlainLines)
        for event in events_of(history(7, 2, bad="broken"), tmp_path):
            observer(event)
    lines = out.getvalue().splitlines()
    assert lines[0] == f"digits: 7 sites, 2 rounds, {tmp_path}"
    assert lines[1].startswith("round 0 (train): 6 of 7 sites, 900 ms, 7.0 KB down, 5.4 KB up")
    assert lines[2:4] == [
        "  site-7 failed: broken",
        "model 1: accuracy 0.5, loss 1, best so far",
    ]
    assert lines[-1] == "completed"


def test_many_failures_are_not_all_listed(tmp_path: Path) -> None:
    """Five are shown and the rest counted."""
    made = history(1, 1)
    failed = [site_record(0, index, reason="broken") for index in range(20)]
    made.rounds[0] = type(made.rounds[0])(0, 0.0, 1.0, 1, failed)
    out = io.StringIO()
    for event in events_of(made, tmp_path):
        PlainLines(out)(event)
    assert out.getvalue().count("failed: broken") == 5
    assert "and 15 more" in out.getvalue()


def test_quiet_says_nothing(tmp_path: Path) -> None:
    """Not a byte."""
    out = io.StringIO()
    with watching(out, quiet=True) as observer:
        for event in events_of(history(), tmp_path):
            observer(event)
    assert out.getvalue() == ""
