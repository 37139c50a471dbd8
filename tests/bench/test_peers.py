"""``bench.peers`` watches whole trees of processes, and a failure is never a ratio."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.peers import tree
from bench.peers.__main__ import rows_of
from bench.peers.exchange import Exchange, Figures, figures_of, run_peer, steady_round
from bench.peers.tree import Watched, tree_of, watch

SLEEP = "import time; time.sleep(60)"
CHILD = f"import subprocess as s, sys; s.Popen([sys.executable, '-c', {SLEEP!r}])"
OURS = Figures(wall=2.0, round=0.5, peak=100, largest=90)


def test_a_failed_peer_has_no_ratio() -> None:
    """It has one row, which says so."""
    found = {"nvflare": Figures(problem="status 1"), "flower": Figures(8.0, 2.0, 800, 1)}
    rows = rows_of("case", {**found, "ours": OURS})
    nvflare = [row.metric for row in rows if row.metric.startswith("nvflare")]
    assert nvflare == ["nvflare: failed"]
    ratios = {row.metric: row.value for row in rows if "/ ours" in row.metric}
    assert ratios == {
        "flower / ours: wall": 4.0,
        "flower / ours: a round": 4.0,
        "flower / ours: memory of all": 8.0,
    }


def test_nobody_is_compared_with_a_failure_of_ours() -> None:
    """Figures stand alone then."""
    rows = rows_of("case", {"flower": Figures(8.0, 2.0, 8, 1), "ours": Figures(problem="wrong")})
    assert not any("/ ours" in row.metric for row in rows)
    assert "ours: failed" in {row.metric for row in rows}


def test_a_steady_round_is_the_median_between_trainings() -> None:
    """Of all sites; the first training begins no interval."""
    assert steady_round([[0.0, 10.0, 11.0], [0.0, 1.0, 3.0]]) == 1.5
    assert steady_round([[1.0]]) == 0.0


@pytest.mark.parametrize(
    ("status", "output"),
    [(1, '{"ok": true}'), (0, '{"ok": false, "values": [2]}'), (0, "no line of ours")],
)
def test_a_wrong_result_is_a_failure(tmp_path: Path, status: int, output: str) -> None:
    """Whatever the exit status says."""
    (tmp_path / "site-1.txt").write_text("1\n2\n")
    assert figures_of(Watched(status, output, 1.0, 1, 1), tmp_path, 2).problem


def test_children_that_outlive_their_parent_are_seen_and_ended(tmp_path: Path) -> None:
    """They carry the mark of the tree."""
    log = tmp_path / "log"
    done = watch([sys.executable, "-c", CHILD], "mark-of-a-test", log, timeout=30, env={})
    assert done.status == 0
    assert done.peak >= done.largest > 0
    assert not [pid for pid in tree_of("mark-of-a-test") if is_running(pid)]


def test_a_program_whose_time_is_up_is_ended_and_told(tmp_path: Path) -> None:
    """A hang is a problem with a number, and not the status of the kill."""
    command = [sys.executable, "-c", SLEEP]
    done = watch(command, "late-mark", tmp_path / "log", timeout=0.3, env={})
    assert done.late
    assert figures_of(done, tmp_path, 0).problem.startswith("not done after")
    assert not [pid for pid in tree_of("late-mark") if is_running(pid)]


def test_an_interrupt_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does any other error of the watcher."""

    def interrupted(pid: int) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(tree, "resident", interrupted)
    command = [sys.executable, "-c", CHILD + f"; {SLEEP}"]
    with pytest.raises(KeyboardInterrupt):
        watch(command, "interrupted-mark", tmp_path / "log", timeout=30, env={})
    assert not [pid for pid in tree_of("interrupted-mark") if is_running(pid)]


def test_memory_that_no_sample_saw_counts(tmp_path: Path) -> None:
    """The kernel keeps the peak of each process."""
    brief = "import time; held = bytearray(60_000_000); del held; time.sleep(1)"
    done = watch([sys.executable, "-c", brief], "brief-mark", tmp_path / "log", timeout=30, env={})
    assert done.status == 0
    assert done.peak >= done.largest > 60_000_000


def is_running(pid: int) -> bool:
    """Whether a process is more than an entry that nobody has read."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.sweep
@pytest.mark.parametrize("name", ["ours", pytest.param("ours, deployed", marks=pytest.mark.sweep)])
def test_our_own_programs_pass_their_check(tmp_path: Path, name: str) -> None:
    """The same programs that stand beside the peers."""
    exchange = Exchange(2, 2, 1_000_000, 60.0, tmp_path, tmp_path)
    found = run_peer(name, exchange)
    assert found.problem == ""
    assert found.round > 0
