"""Which line of whose file: so that a message about user code says where to look."""

from __future__ import annotations

import functools
import inspect
import sys
import sysconfig
import traceback
from pathlib import Path
from types import FrameType
from typing import Final

import flare_async

__all__ = ["code_root", "has_module", "is_users", "place_of", "place_of_caller", "place_of_error"]

NO_FILES: Final = ("<frozen", "<string>")  # the interpreter's own, and what dataclasses write
LIBRARIES: Final = ("stdlib", "platstdlib", "purelib", "platlib")


def _not_users() -> tuple[str, ...]:
    """Return the folders of this package and of what is installed."""
    ours = Path(flare_async.__file__).parent
    folders = {str(ours), str(ours.resolve()), str((ours / "recipes").resolve())}
    known = sysconfig.get_paths()
    return tuple(f"{folder}/" for folder in {*folders, *(known[name] for name in LIBRARIES)})


NOT_USERS: Final = _not_users()  # asked for once: it looks at the disk, and errors come on the loop


def place_of(function: object) -> str | None:
    """Return where a user's function is: ``path, line N, in name``; None if it is ours."""
    while isinstance(function, functools.partial):
        function = function.func
    code = getattr(inspect.unwrap(function) if callable(function) else None, "__code__", None)
    if code is None:  # an instance that can be called
        code = getattr(getattr(type(function), "__call__", None), "__code__", None)  # noqa: B004
    if code is None or not is_users(code.co_filename):
        return None
    return f"{code.co_filename}, line {code.co_firstlineno}, in {code.co_qualname}"


def place_of_error(error: BaseException) -> str | None:
    """Return the last line of a user's file that an error came through; None if there is none."""
    if isinstance(error, BaseExceptionGroup):
        inner = next(filter(None, map(place_of_error, error.exceptions)), None)
        if inner is not None:
            return inner
    found = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        code = frame.f_code
        if is_users(code.co_filename):
            found = f"{code.co_filename}, line {line}, in {code.co_qualname}"
    return found


def place_of_caller() -> str:
    """Return the line of a user's file that has led here, as ``path:line``; empty if none has."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if is_users(frame.f_code.co_filename):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def is_users(filename: str) -> bool:
    """Return whether a file is neither of this package nor of an installed library."""
    return not filename.startswith(NO_FILES) and not filename.startswith(NOT_USERS)


def code_root(path: Path, package: str = "") -> Path:
    """Return the folder from which the imports of a script, or of a module in a package, count."""
    return path.parents[package.count(".") + 1 if package else 0]


def has_module(place: Path, name: str) -> bool:
    """Return whether a folder has a module or package of that name, with or without __init__."""
    return (place / f"{name}.py").is_file() or any((place / name).glob("*.py"))
