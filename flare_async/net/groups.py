"""One error out of a task group's: the boundary to callers knows no exception groups."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["single_error", "sole_error"]


def sole_error(error: BaseException) -> BaseException:
    """Return the error that a group stands for.

    Of several the first one counts: the others followed from the cancellation that it caused.
    """
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return error


@contextmanager
def single_error() -> Iterator[None]:
    """Let a group of errors leave the block as the one error that it stands for."""
    try:
        yield
    except BaseExceptionGroup as group:
        error = sole_error(group)
        raise error from error.__cause__
