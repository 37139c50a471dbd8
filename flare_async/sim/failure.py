"""How an error reaches the person or the program that called: text, document, exit status."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from flare_async.errors import ConfigErrors, FlareError, RunAborted, RunFailed
from flare_async.sim.words import clean

__all__ = ["BUG", "INTERRUPTED", "Failure", "failure_of"]

BUG: Final = 70
INTERRUPTED: Final = 130
LONGEST_CHAIN: Final = 10
LONGEST_TEXT: Final = 2000


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as it is shown; ``status`` is the process's exit status."""

    code: str
    message: str
    hint: str
    cause: tuple[str, ...]
    status: int

    def document(self) -> dict[str, object]:
        """Return the ``error`` of a ``--json`` document."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "cause": list(self.cause),
        }

    def lines(self) -> Iterator[str]:
        """Yield what goes to standard error."""
        yield f"error: {self.message}"
        for cause in self.cause:
            if cause.partition(": ")[2] not in self.message:
                yield f"  because: {cause}"
        if self.hint:
            yield f"hint: {self.hint}"


def failure_of(error: BaseException) -> Failure:
    """Return how ``error`` is shown; one that is not a ``FlareError`` is a bug of ours.

    A failed run shows the code and the status of what made it fail.
    """
    if isinstance(error, FlareError):
        cause = error.__cause__ if isinstance(error, RunFailed) else None
        root = cause if isinstance(cause, FlareError) else error
        return Failure(root.code, _message(error), root.hint, _chain(error), root.exit_status)
    message = f"unexpected {type(error).__name__}: {clean(str(error), LONGEST_TEXT)}"
    hint = "this is a bug of flare_async: please report it with the command and this message"
    return Failure("bug", message, hint, _chain(error), BUG)


def _message(error: FlareError) -> str:
    if isinstance(error, ConfigErrors):
        return clean(str(error).partition("\n")[0].removesuffix(":"), LONGEST_TEXT)
    text = clean(str(error), LONGEST_TEXT)
    hint = clean(error.hint, LONGEST_TEXT)
    text = text.removesuffix(f"; {hint}") if hint else text  # the hint has a line of its own
    notes: Sequence[str] = getattr(error, "__notes__", ())
    return " ".join([text, *(f"({clean(said, LONGEST_TEXT)})" for said in notes)])


def _chain(error: BaseException) -> tuple[str, ...]:
    if isinstance(error, ConfigErrors):
        return tuple(f"{type(one).__name__}: {clean(str(one), 500)}" for one in error.problems)
    causes: list[str] = []
    seen = {id(error)}
    current = error.__cause__
    while current is not None and id(current) not in seen and len(causes) < LONGEST_CHAIN:
        seen.add(id(current))
        causes.append(f"{type(current).__name__}: {clean(str(current), LONGEST_TEXT)}")
        current = current.__cause__
    return tuple(causes)


def aborted(run_id: str, folder: str) -> Failure:
    """Return how an interrupted run is shown."""
    error = RunAborted(run_id, folder)
    return Failure(error.code, str(error), "", (), INTERRUPTED)
