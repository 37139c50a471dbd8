"""What scripts print, with the name of their site before every line."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final, Literal, TextIO, cast

__all__ = ["OUTPUT", "PrefixStream", "SiteOutput", "install_output"]

MAX_LINE: Final = 8192  # characters that wait for the end of their line
StreamName = Literal["stdout", "stderr"]


class SiteOutput:
    """One script's unfinished lines. What follows a carriage return replaces what was before it."""

    __slots__ = ("_partial", "_prefix")

    def __init__(self, site: str) -> None:
        self._prefix = f"[{site}] "
        self._partial = {"stdout": "", "stderr": ""}

    def take(self, name: str, text: str) -> str:
        """Return the lines that ``text`` finishes, each with its prefix."""
        *lines, rest = (self._partial[name] + text).split("\n")
        if len(rest) > MAX_LINE:
            rest = rest.rpartition("\r")[2]
        if len(rest) > MAX_LINE:
            lines.append(rest)
            rest = ""
        self._partial[name] = rest
        return "".join(f"{self._prefix}{_shown(line)}\n" for line in lines)

    def finish(self) -> dict[str, str]:
        """Return what is left of each stream, as lines."""
        return {name: self.take(name, "\n") for name, rest in self._partial.items() if rest}


def _shown(line: str) -> str:
    return line.rstrip("\r").rpartition("\r")[2]


OUTPUT: Final[ContextVar[SiteOutput | None]] = ContextVar("flare_async.output", default=None)


class PrefixStream:
    """Stands for ``sys.stdout`` or ``sys.stderr``; who has no site writes through it unchanged."""

    def __init__(self, original: TextIO, name: StreamName) -> None:
        self.original = original
        self.users = 0
        self._name = name

    def write(self, text: str) -> int:
        """Write; a script's text leaves in whole lines."""
        site = OUTPUT.get()
        if site is None:
            return self.original.write(text)
        lines = site.take(self._name, text)
        if lines:
            self.original.write(lines)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush what has been written; an unfinished line stays."""
        self.original.flush()

    def isatty(self) -> bool:
        """Return False to scripts: several of them cannot draw on one terminal."""
        return OUTPUT.get() is None and self.original.isatty()

    def __getattr__(self, name: str) -> object:
        return getattr(self.original, name)


def install_output() -> Callable[[], None]:
    """Put a ``PrefixStream`` in the place of each stream; return what puts them back.

    Log handlers that hold one of the streams follow. Runs of one process may overlap: the last
    one that ends puts the streams back.
    """
    undone = [_install(name) for name in ("stdout", "stderr")]

    def restore() -> None:
        for undo in undone:
            undo()

    return restore


def _install(name: StreamName) -> Callable[[], None]:
    found: object = getattr(sys, name)
    if found is None:  # a program without a console
        return _nothing
    stream = found if isinstance(found, PrefixStream) else PrefixStream(cast("TextIO", found), name)
    stream.users += 1
    setattr(sys, name, stream)
    _redirect(stream.original, stream)

    def restore() -> None:
        stream.users -= 1
        if stream.users:
            return
        if getattr(sys, name) is stream:
            setattr(sys, name, stream.original)
        _redirect(stream, stream.original)

    return restore


def _redirect(before: object, after: object) -> None:
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is before:
            handler.setStream(after)


def _nothing() -> None:
    pass
