"""What Ctrl-C does, without sending a signal."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from flare_async.jobs.run import Run, RunStatus
from flare_async.sim.interrupt import Interrupts


def test_before_a_run_there_is_nothing_to_abort() -> None:
    """The interrupt reaches whatever is being prepared."""
    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        interrupts.on_interrupt(None)


def test_a_run_is_aborted_and_the_loop_goes_on(tmp_path: Path) -> None:
    """Outside user code nothing is raised: the run ends in its own way."""
    run = Run("r-1", "r", tmp_path)
    with Interrupts() as interrupts:
        interrupts.watch(run)
        assert not run.was_aborted
        interrupts.on_interrupt(None)
    assert run.was_aborted


def test_after_the_run_the_process_ends_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A report can be left undone; the folder is named."""
    run, left = Run("r-1", "r", tmp_path), list[int]()
    run.end(RunStatus.COMPLETED)
    with Interrupts(left.append) as interrupts:
        interrupts.watch(run)
        interrupts.on_interrupt(None)
    assert left == [130]
    assert str(tmp_path) in capsys.readouterr().err


def test_the_second_signal_waits_for_nothing(tmp_path: Path) -> None:
    """The first one asks, the second one leaves; the timer does not outlive the block."""
    run, left = Run("r-1", "r", tmp_path), list[int]()
    with Interrupts(left.append) as interrupts:
        interrupts.watch(run)
        signal.raise_signal(signal.SIGINT)
        assert (interrupts.count, left) == (1, [])
        signal.raise_signal(signal.SIGINT)
        assert (interrupts.count, left) == (2, [130])
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
