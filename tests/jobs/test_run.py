"""What a caller holds of a run: final states, their errors, and a way to end it."""

from __future__ import annotations

import asyncio

import pytest

from flare_async.errors import QuorumNotReached, RunAborted, RunFailed
from flare_async.jobs.history import History, RoundRecord
from flare_async.jobs.run import BEST_MODEL, Run, RunStatistics, RunStatus
from flare_async.roles.outcome import SiteRecord, SiteStatus
from flare_async.transfer.files import file_chunks
from flare_async.transfer.tensors import TensorSet


@pytest.fixture
def run(tmp_path):
    """Return a run that goes on."""
    return Run("fedavg-1", "fedavg", tmp_path)


def record(number, ended, task="train"):
    """Return a round of two sites."""
    sites = [SiteRecord(name, SiteStatus.OK, 0.0, 1.0, bytes_down=5, bytes_up=7) for name in "ab"]
    return RoundRecord(number, float(number), ended, 1, sites, task=task)


def test_a_new_run_goes_on(run, tmp_path):
    """Its result is its folder, from the first moment on."""
    assert (run.get_status(), run.get_job_id()) == ("running", "fedavg-1")
    assert run.get_result() == run.get_result(timeout=10) == tmp_path
    assert repr(run) == "<Run fedavg-1 running>"


@pytest.mark.parametrize("second", [RunStatus.FAILED, RunStatus.ABORTED, RunStatus.COMPLETED])
def test_a_final_status_is_final(run, second):
    """Whatever comes later (S7)."""
    run.end(RunStatus.COMPLETED)
    run.end(second, ValueError("too late"))
    run.abort()
    assert (run.status, run.cause) == ("completed", None)


def test_a_failed_run_raises_with_its_cause(run, tmp_path):
    """The message has the run, the problem and the folder."""
    cause = QuorumNotReached(3, 1, 2, {"a": "no data"})
    run.end(RunStatus.FAILED, cause)
    with pytest.raises(RunFailed, match=r"fedavg-1 failed: round 3: 1 updates") as caught:
        run.check()
    assert caught.value.__cause__ is cause
    assert caught.value.folder == str(tmp_path)


def test_a_bug_is_shown_with_its_type(run):
    """``KeyError('x')`` says more than ``'x'``."""
    run.end(RunStatus.FAILED, KeyError("x"))
    with pytest.raises(RunFailed, match=r"KeyError\('x'\)"):
        run.get_result()


def test_an_aborted_run_raises(run, tmp_path):
    """It has no result, but a folder."""
    run.end(RunStatus.ABORTED)
    with pytest.raises(RunAborted) as caught:
        run.check()
    assert caught.value.folder == str(tmp_path)


def test_abort_before_a_run_is_bound_is_kept(run):
    """Whoever binds it later is told to stop at once."""
    stops = []
    run.abort()

    async def main():
        run.bind(asyncio.get_running_loop(), lambda: stops.append("now"))

    asyncio.run(main())
    assert (stops, run.was_aborted) == (["now"], True)


def test_abort_stops_on_the_loop_and_not_in_the_caller(run):
    """So it may be called from any thread."""
    stops = []

    async def main():
        run.bind(asyncio.get_running_loop(), lambda: stops.append(asyncio.get_running_loop()))
        await asyncio.to_thread(run.abort)
        await asyncio.sleep(0)
        return stops == [asyncio.get_running_loop()]

    assert asyncio.run(main())


def test_abort_when_the_loop_is_closed_is_harmless(run):
    """The run has ended, though nobody has said so."""

    async def main():
        run.bind(asyncio.get_running_loop(), lambda: None)

    asyncio.run(main())
    run.abort()
    assert run.status == "running"


def test_the_best_model_is_read_from_its_file(run, tmp_path):
    """None where nothing was evaluated."""
    assert run.best_model is None
    best = TensorSet.from_params({"w": __import__("numpy").arange(3.0)})
    (tmp_path / BEST_MODEL).write_bytes(b"".join(map(bytes, file_chunks(best))))
    assert run.best_model.model_digest() == best.model_digest()


def test_statistics_count_all_tasks_and_the_median_of_training():
    """Evaluations cost bytes and time too, but are no rounds."""
    history = History([record(0, 2.0), record(1, 5.0), record(2, 12.0, "validate")])
    figures = RunStatistics.of(history, wall_s=20.0, peak_rss_mb=99.5, clients=2, seed=4)
    assert figures.round_s_median == 3.0
    assert figures.client_round_us == pytest.approx((2 + 4 + 10) / 6 * 1e6)
    assert (figures.bytes_down, figures.bytes_up) == (30, 42)
    assert (figures.wall_s, figures.clients, figures.seed) == (20.0, 2, 4)


def test_statistics_of_nothing_are_zero():
    """A run that failed at its start has figures as well."""
    figures = RunStatistics.of(History(), wall_s=0.1, peak_rss_mb=1.0, clients=2, seed=0)
    assert (figures.round_s_median, figures.client_round_us, figures.bytes_up) == (0.0, 0.0, 0)


def test_explain_says_what_went_wrong(run, tmp_path):
    """Cause, sites and folder in a few lines."""
    bad = SiteRecord("b", SiteStatus.FAILED, 0.0, 1.0, reason="no data")
    run.history.rounds.append(RoundRecord(0, 0.0, 1.0, 1, [bad]))
    run.end(RunStatus.FAILED, QuorumNotReached(1, 0, 1, {"b": "no data"}))
    lines = run.explain().splitlines()
    assert lines[0] == "fedavg-1 (fedavg): failed"
    assert "cause: QuorumNotReached: round 1" in lines[2]
    assert lines[3:] == ["b: no data", f"folder: {tmp_path}"]
