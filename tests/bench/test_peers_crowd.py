"""``bench.peers.crowd``: marginal costs, ratios in our favour, and failures that are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.peers import crowd
from bench.peers.chart import draw, figure_of
from bench.peers.contestants import CONTESTANTS, OURS, OURS_SGD, sizes_of
from bench.peers.crowd_page import BEGIN, END, PAGE, PICTURE, read, renew, tables_of
from bench.peers.crowd_rows import marginal_ms, medians_of, rows_of
from bench.peers.environments import versions_in
from bench.peers.exchange import Exchange, Figures, run_peer

FLOOR_MS = 0.01


def test_the_marginal_cost_is_between_the_two_largest_sizes() -> None:
    """Start-up falls out; a size that failed does not count."""
    runs = {2: Figures(99.0), 100: Figures(2.0), 1000: Figures(2.9), 9999: Figures(problem="no")}
    found = marginal_ms(runs, rounds=3)
    assert found == pytest.approx(0.9 / (900 * 3) * 1e3)
    assert marginal_ms({2: Figures(1.0)}, rounds=3) is None


def test_peers_stand_beside_the_row_that_does_the_same_work() -> None:
    """A step of SGD beside a step of SGD, what adds one beside what adds one."""
    measured = {
        "nvflare": {8: Figures(10.0, peak=900), 50: Figures(52.0, peak=900)},
        "pfl, a step of SGD": {8: Figures(1.0, peak=400), 50: Figures(1.42, peak=400)},
        OURS: {8: Figures(1.0, peak=100), 50: Figures(1.42, peak=300)},
        OURS_SGD: {8: Figures(1.0, peak=100), 50: Figures(1.84, peak=800)},
    }
    found = {
        row.metric: row.value for row in rows_of(measured, 3, FLOOR_MS) if row.case == "ratios"
    }
    assert found[f"nvflare / {OURS}: a client-round more"] == pytest.approx(100.0)
    assert found[f"nvflare / {OURS}: memory, 50 clients"] == 3.0
    assert found[f"pfl, a step of SGD / {OURS_SGD}: a client-round more"] == pytest.approx(0.5)
    assert found[f"pfl, a step of SGD / {OURS_SGD}: memory, 50 clients"] == 0.5


def test_a_failed_peer_has_no_ratio() -> None:
    """Neither for the size it failed with, nor for a cost that takes two of them."""
    measured = {
        "nvflare": {2: Figures(10.0, peak=900), 8: Figures(problem="status 1")},
        OURS: {2: Figures(1.0, peak=100), 8: Figures(1.1, peak=100)},
    }
    rows = rows_of(measured, 3, FLOOR_MS)
    assert [row.metric for row in rows if "failed" in row.metric] == ["nvflare: failed"]
    ratios = [row.metric for row in rows if row.case == "ratios"]
    assert ratios == [f"nvflare / {OURS}: memory, 2 clients"]


def test_a_cost_that_is_lost_in_noise_has_no_ratio() -> None:
    """It may come out negative; the memory is compared all the same."""
    runs = {2: Figures(3.0, peak=9), 8: Figures(2.0, peak=9)}
    rows = rows_of({"flower": runs, OURS: {2: Figures(1.0, peak=3), 8: Figures(2.0, peak=3)}}, 3, 1)
    ratios = [row.metric for row in rows if row.case == "ratios"]
    assert len(ratios) == 2
    assert all("memory" in metric for metric in ratios)


def test_marginal_costs_name_their_sizes_and_stand_beside_the_floor() -> None:
    """The sizes of two programs may differ."""
    rows = rows_of({OURS: {100: Figures(1.0), 1000: Figures(1.9)}}, 3, FLOOR_MS)
    (row,) = [row for row in rows if row.case == "a client-round more"]
    assert row.metric == f"{OURS}, 100 to 1000 clients"
    assert (row.reference_value, row.unit) == (FLOOR_MS, "ms")


def test_medians_are_of_all_runs_and_one_failure_is_one_too_many() -> None:
    """What fails now and then is told as that."""
    good = [Figures(wall, peak=int(wall)) for wall in (5.0, 1.0, 2.0)]
    found = medians_of({"flower": {2: good, 8: [*good, Figures(problem="status 1")]}})["flower"]
    assert (found[2].wall, found[2].peak) == (2.0, 2)
    assert found[8].problem == "1 of 4 runs: status 1"


def test_what_failed_has_a_cross_in_the_picture(tmp_path: Path) -> None:
    """A missing point alone would look like a size that nobody tried."""
    good = {2: Figures(1.0, peak=9), 8: Figures(2.0, peak=9)}
    assert crosses(good) == 0
    assert crosses({**good, 100: Figures(problem="hangs")}) == 2
    draw({"nvflare": good}, 3, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def crosses(found: dict[int, Figures]) -> int:
    """Count the crosses of a picture with one program."""
    axes = figure_of({"nvflare": found}, 3).axes
    return sum(line.get_marker() == "x" for one in axes for line in one.lines)


def test_what_a_program_fails_with_is_run_when_asked_for() -> None:
    """And told as not run otherwise."""
    (nvflare,) = [one for one in CONTESTANTS if one.beyond]
    assert sizes_of(nvflare, 10_000, beyond=False) == (2, 8, 50)
    assert sizes_of(nvflare, 10_000, beyond=True) == (2, 8, 50, 100)
    assert sizes_of(nvflare, 8, beyond=True) == (2, 8)


def test_versions_of_an_environment_that_cannot_be_made_are_none(tmp_path: Path) -> None:
    """After minutes of measuring this must not be what ends the bench."""
    (tmp_path / "flower").touch()
    assert versions_in("flower", tmp_path) == {}
    assert set(versions_in("ours", tmp_path)) >= {"Python", "flare-async", "numpy"}


def test_the_page_has_what_was_measured() -> None:
    """Its tables are those of the kept document, whose every run has passed its check."""
    text = PAGE.read_text("utf-8")
    assert text.partition(BEGIN)[2].partition(END)[0] == tables_of(read())
    assert PICTURE.stat().st_size > 10_000
    assert set(read()["runs"]) == {one.name for one in CONTESTANTS}


@pytest.mark.slow
def test_a_run_of_ours_becomes_a_document_a_page_and_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With one command; text around the tables stays."""
    page, data, picture = (tmp_path / name for name in ("page.md", "data.json", "picture.png"))
    page.write_text(f"above\n{BEGIN}old\n{END}below\n")
    for name, path in (("PAGE", page), ("DATA", data), ("PICTURE", picture)):
        monkeypatch.setattr(crowd, name, path)
    small = ("--most", "2", "--rounds", "2", "--size", "4KB", "--envs", str(tmp_path))
    crowd.main([*small, "--only", OURS, "--write", "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert printed == read(data)
    assert [run["problem"] for run in printed["runs"][OURS]["2"]] == [""]
    assert page.read_text() == f"above\n{BEGIN}{tables_of(printed)}{END}below\n"
    assert picture.read_bytes().startswith(b"\x89PNG")
    renew(page, printed)
    assert page.read_text().count(BEGIN) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ("--work", "add", "--workers", "inline"),
        pytest.param(("--work", "sgd", "--workers", "inline"), marks=pytest.mark.sweep),
    ],
)
def test_our_programs_pass_their_check(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Each adds one a round, and is checked for it."""
    exchange = Exchange(3, 2, 4000, 60.0, tmp_path, tmp_path, noted=False)
    found = run_peer("ours", exchange, *options)
    assert found.problem == ""
    assert found.peak > 0
