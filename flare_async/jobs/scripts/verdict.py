"""What the end of a script means for the task that it had."""

from __future__ import annotations

from types import TracebackType

from flare_async.errors import TrainerExited, TrainerNoResult, TrainingFailed
from flare_async.jobs.training import failure_of

__all__ = ["EndedBefore", "is_normal", "verdict"]


class EndedBefore(Exception):
    """A script that had served its tasks ended before it saw this one; it is started anew."""


def is_normal(error: BaseException | None) -> bool:
    """Return whether a script ended as a program does that has succeeded."""
    return error is None or (isinstance(error, SystemExit) and error.code in {None, 0})


def verdict(site: str, error: BaseException | None, path: str) -> TrainingFailed:
    """Return the failure of a task whose script ended; ``details`` is the script's traceback."""
    if is_normal(error) or error is None:
        return TrainerNoResult(site, "the script ended without a result; it never called send()")
    if isinstance(error, SystemExit):
        status, said = (error.code, "") if isinstance(error.code, int) else (1, f": {error.code}")
        return TrainerExited(site, f"the script exited with status {status}{said}"[:1000])
    return failure_of(site, error.with_traceback(_from(error.__traceback__, path)))


def _from(trace: TracebackType | None, path: str) -> TracebackType | None:
    """Return the traceback from the last frame that is ours on; ``failure_of`` cuts that one."""
    before = step = trace
    while step is not None:
        if step.tb_frame.f_code.co_filename == path:
            return before
        before, step = step, step.tb_next
    return trace
