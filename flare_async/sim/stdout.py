"""Standard output that carries results only, whatever user code prints meanwhile."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO

__all__ = ["only_results"]


@contextlib.contextmanager
def only_results() -> Iterator[TextIO]:
    """Give the real standard output; all else that is written there goes to standard error.

    That includes what libraries and child processes write to the file descriptor itself.
    """
    with contextlib.ExitStack() as stack:
        results = stack.enter_context(_descriptor())
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield results


@contextlib.contextmanager
def _descriptor() -> Iterator[TextIO]:
    out = sys.stdout
    try:
        number, aside = out.fileno(), sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # replaced by a host that has no descriptor
        yield out
        return
    out.flush()
    kept = os.dup(number)
    os.dup2(aside, number)
    try:
        with os.fdopen(os.dup(kept), "w", encoding=out.encoding, errors="replace") as results:
            yield results
    finally:
        os.dup2(kept, number)
        os.close(kept)
