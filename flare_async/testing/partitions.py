"""Who cannot reach whom in a simulated network."""

from __future__ import annotations

from flare_async.testing.waiters import Waiters

__all__ = ["Partitions"]


class Partitions:
    """Pairs of names between which nothing passes, in the direction from the first to the second.

    ``None`` as a name stands for everybody.
    """

    def __init__(self) -> None:
        self._cut: set[tuple[str | None, str | None]] = set()
        self.healed = Waiters()

    def add(self, sender: str | None, receiver: str | None) -> None:
        """Let nothing pass from one to the other."""
        self._cut.add((sender, receiver))

    def remove(self, one: str | None, other: str | None) -> None:
        """Heal both directions between two; those of a name, or all, where None is given."""
        wanted = {one, other} - {None}
        self._cut = {pair for pair in self._cut if not wanted <= set(pair)}
        self.healed.wake()

    def severs(self, sender: str | None, receiver: str | None) -> bool:
        """Return whether nothing passes from one to the other."""
        if not self._cut:
            return False
        ways = ((sender, receiver), (sender, None), (None, receiver))
        return any(way in self._cut for way in ways)
