"""Keyword arguments of what users configure: every problem is told at once, misspelt names too."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from types import FrameType
from typing import Any, TypeVar, cast

from flare_async.errors import ConfigError, ConfigErrors, UnknownArgument

__all__ = ["configured"]

ConfiguredT = TypeVar("ConfiguredT")
MOST = 50  # problems of one call


def configured(
    *, elsewhere: Mapping[str, str] | None = None, **harmless: object
) -> Callable[[type[ConfiguredT]], type[ConfiguredT]]:
    """Let a class with keyword arguments tell all that is wrong with a call, and where it stands.

    A class checks its arguments one after the other and raises at the first that is wrong. Here
    that argument is left out and the rest is tried, so each check is written once, where it was.
    ``elsewhere`` says of arguments that others have what to do here.
    ``harmless`` are values to try with for arguments that have no default, or none that passes.
    A call without a problem costs nothing but a look at its names.
    """

    def decorate(cls: type[ConfiguredT]) -> type[ConfiguredT]:
        plain = cast("Callable[..., None]", cls.__init__)
        known = [name for name in inspect.signature(plain).parameters if name != "self"]

        @functools.wraps(plain)
        def checked(self: object, *args: Any, **given: Any) -> None:  # noqa: ANN401 - passed on
            wrong = [
                unknown(cls.__name__, name, given.pop(name), known, elsewhere or {})
                for name in [name for name in given if name not in known]
            ]
            make = functools.partial(plain, self, *args)
            error = error_of(make, given, anyhow=not wrong)
            if wrong or error is not None:
                meant = {one.near: one.value for one in wrong if one.near}
                found = problems_of(make, {**meant, **given}, harmless)
                raise_all(cls.__name__, [*wrong, *found], inspect.currentframe())

        cls.__init__ = checked  # type: ignore[method-assign]
        return cls

    return decorate


def problems_of(
    make: Callable[..., None], given: Mapping[str, object], harmless: Mapping[str, object]
) -> list[ConfigError]:
    """Return what is wrong with a call: each time one is found, it is made without that argument.

    The search ends where nothing can be tried without what is wrong.
    """
    left, found = dict(given), list[ConfigError]()
    tried: set[str] = set()
    while (error := error_of(make, left)) is not None and len(found) < MOST:
        name = error.field.partition(".")[0]
        if name in tried:  # neither its default passes nor what is harmless
            break
        found += error.problems if isinstance(error, ConfigErrors) else [error]
        tried.add(name)
        if name not in left and name not in harmless:
            break
        left.pop(name, None)
        if name in harmless:
            left[name] = harmless[name]
    return found


def error_of(
    make: Callable[..., None], given: Mapping[str, object], *, anyhow: bool = False
) -> ConfigError | None:
    """Return why a call cannot be made; None if it can.

    One that lacks what it must have, as Python sees it, is no problem of a value: unless it has to
    be made ``anyhow``, that is left to the call without the others.
    """
    try:
        make(**given)
    except ConfigError as exc:
        return exc
    except TypeError:
        if anyhow:
            raise
    return None


def raise_all(owner: str, problems: list[ConfigError], frame: FrameType | None) -> None:
    """Raise one problem as it is, several as one error that says in which line the call is."""
    if len(problems) == 1:
        raise problems[0]
    if problems:
        caller = None if frame is None else frame.f_back
        line = "" if caller is None else f"{caller.f_code.co_filename}:{caller.f_lineno}"
        raise ConfigErrors(owner, problems, line)


def unknown(
    owner: str, name: str, value: object, known: Collection[str], elsewhere: Mapping[str, str]
) -> UnknownArgument:
    """Return the error of an argument that a class does not have."""
    if name in elsewhere:
        return UnknownArgument(owner, name, value, hint=elsewhere[name])
    return UnknownArgument(owner, name, value, near(name, known))


def near(name: str, known: Collection[str]) -> str:
    """Return the known name that was probably meant, or an empty one."""
    return next(iter(get_close_matches(name, known, n=1)), "")
