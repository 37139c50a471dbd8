"""Values that are made many times a client-round: frozen for the type checkers alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

__all__ = ["hot_value"]

ClassT = TypeVar("ClassT")

# A frozen dataclass assigns each field through a call: one of twelve fields takes 880 ns to make,
# and 150 ns without. The type checkers, which run over all of this package, see a frozen dataclass
# here, so nothing assigns to a field of one; what users are handed stays frozen at run time, too.
if TYPE_CHECKING:
    from dataclasses import dataclass as hot_value
else:

    def hot_value(*, frozen: bool, slots: bool) -> Callable[[type[ClassT]], type[ClassT]]:
        """Return the decorator of a value with these options of ``dataclass``."""
        return dataclass(slots=slots, unsafe_hash=frozen)
