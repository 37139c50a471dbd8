"""``sys.argv`` for scripts that share a process: each thread sees its own words."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, MutableSequence
from contextvars import ContextVar
from typing import Final, overload

__all__ = ["ARGV", "SiteArgv", "install_argv"]

ARGV: Final[ContextVar[list[str] | None]] = ContextVar("flare_async.argv", default=None)


class SiteArgv(MutableSequence[str]):
    """Stands for ``sys.argv``: a list that depends on who looks at it.

    Threads without words of their own see the ``original``. Slices and sums are plain lists.
    """

    __slots__ = ("original", "users")

    def __init__(self, original: list[str]) -> None:
        self.original = original
        self.users = 0

    def _words(self) -> list[str]:
        own = ARGV.get()
        return self.original if own is None else own

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        return self._words()[index]

    @overload
    def __setitem__(self, index: int, value: str) -> None: ...
    @overload
    def __setitem__(self, index: slice, value: Iterable[str]) -> None: ...
    def __setitem__(self, index: int | slice, value: str | Iterable[str]) -> None:
        self._words()[index] = value  # type: ignore[index, assignment]

    def __delitem__(self, index: int | slice) -> None:
        del self._words()[index]

    def __len__(self) -> int:
        return len(self._words())

    def insert(self, index: int, value: str) -> None:
        """Insert a word before ``index``."""
        self._words().insert(index, value)

    def copy(self) -> list[str]:
        """Return the words as a plain list."""
        return list(self._words())

    def __eq__(self, other: object) -> bool:
        return self._words() == (other.copy() if isinstance(other, SiteArgv) else other)

    __hash__: None  # type: ignore[assignment]

    def __add__(self, other: Iterable[str]) -> list[str]:
        return [*self._words(), *other]

    def __radd__(self, other: Iterable[str]) -> list[str]:
        return [*other, *self._words()]

    def __repr__(self) -> str:
        return repr(self._words())

    def __reduce__(self) -> tuple[type[list[str]], tuple[list[str]]]:
        return list, (self.copy(),)  # what another process gets is a list


def install_argv() -> Callable[[], None]:
    """Put a ``SiteArgv`` in the place of ``sys.argv``; return what puts the list back.

    Runs of one process may overlap: the last one that ends puts it back.
    """
    found: object = sys.argv
    proxy = found if isinstance(found, SiteArgv) else SiteArgv(sys.argv)
    proxy.users += 1
    sys.argv = proxy  # type: ignore[assignment]

    def restore() -> None:
        proxy.users -= 1
        current: object = sys.argv
        if proxy.users == 0 and current is proxy:
            sys.argv = proxy.original

    return restore
