"""What a relay says is in its sum, beside what has to be."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeAlias

from flare_async.errors import RemoteProtocolError
from flare_async.roles.partial_messages import Added, Contributor, PartialReady

__all__ = ["Due", "PartialReport"]

Due: TypeAlias = tuple[str, int, float]  # site, attempt and weight


class PartialReport:
    """The contributors of one sum, which come in several messages; ``epoch`` is the sum's."""

    __slots__ = ("_epoch", "_given")

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._given: list[Contributor] = []

    def note(self, added: Added, most: int) -> None:
        """Take some contributors; ``most`` is how many there may be.

        Raises:
            RemoteProtocolError: there are more.
        """
        self._given += added.contributors
        if len(self._given) > most:
            raise RemoteProtocolError("bad_partial", f"more than {most} sites in a sum")

    def check(self, ready: PartialReady, due: Collection[Due]) -> None:
        """Take the last contributors, and compare all of them with what is due.

        Raises:
            RemoteProtocolError: the sum is another one; the text lists the sites that differ.
        """
        if ready.epoch != self._epoch:
            problem = f"a sum of epoch {ready.epoch}, {self._epoch} was asked for"
            raise RemoteProtocolError("bad_partial", problem)
        given = [(one.site, one.attempt, one.weight) for one in (*self._given, *ready.contributors)]
        if set(given) != set(due) or len(given) != len(due):
            wrong = sorted({site for site, *_ in set(given) ^ set(due)})
            problem = f"not what was to be kept, or assigned elsewhere: {', '.join(wrong)[:500]}"
            raise RemoteProtocolError("bad_partial", problem)
