"""Companions as filters see them: what a site answers, and not its difference to what it was sent.

The answer to a control variate is a change already. As a difference it travels less what was sent,
so that adding what was sent gives it back; a filter that clipped it in that form, or made zeros of
it, would leave the server with what it had sent in place of nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from flare_async.jobs.companions import companion_names
from flare_async.model import ParamsType
from flare_async.transfer.filters.differences import blanked, shifted
from flare_async.transfer.filters.filter import Filter, Passage
from flare_async.transfer.source import TensorSource

__all__ = ["as_compared", "with_answers", "with_answers_behind"]


@dataclass(frozen=True, slots=True)
class Shift(Filter):
    """Adds what was sent to the answers of a difference, or takes it away again."""

    sent: TensorSource
    names: frozenset[str]
    sign: Literal[-1, 1]

    def apply(self, source: TensorSource, passage: Passage) -> TensorSource:
        """Return the source with its answers shifted."""
        return shifted(source, self.sent, self.names, self.sign)


def answers_in(sent: TensorSource) -> frozenset[str]:
    """Return the tensors that sites see and answer with something else."""
    found = companion_names(spec.name for spec in sent.specs)
    return frozenset(
        name for of, names in found.items() if of.sent and of.answer for name in names.values()
    )


def as_compared(sent: TensorSource) -> TensorSource:
    """Return what an update is compared with: what was sent, and nothing in place of answers."""
    return blanked(sent, answers_in(sent))


def with_answers(
    chain: Sequence[Filter], sent: TensorSource, given: ParamsType, kind: ParamsType
) -> tuple[Filter, ...]:
    """Return a chain whose filters see answers as they are, up to the first that recodes tensors.

    ``given`` is the kind of update that enters, ``kind`` the one that leaves.
    """
    names = answers_in(sent)
    if not names or kind is ParamsType.FULL:
        return tuple(chain)
    at = next((number for number, one in enumerate(chain) if one.recodes), len(chain))
    before = (Shift(sent, names, 1),) if given is ParamsType.DIFF else ()
    return (*before, *chain[:at], Shift(sent, names, -1), *chain[at:])


def with_answers_behind(
    chain: Sequence[Filter], sent: TensorSource, kind: ParamsType
) -> tuple[Filter, ...]:
    """Return a chain whose filters see answers as they are, from the last that recodes tensors on.

    What such filters leave is of the ``kind`` that came.
    """
    at = max((number for number, one in enumerate(chain, 1) if one.recodes), default=0)
    return (*chain[:at], *(with_answers(chain[at:], sent, kind, kind) if chain[at:] else ()))
