"""Parts of a decoded message as the types that they must be: who sent it runs user code."""

from __future__ import annotations

from typing import TypeVar

from flare_async.jobs.site import Scalar

__all__ = ["is_of", "scalar", "scalars", "texts"]

T = TypeVar("T")


def is_of(kind: type[T], value: object) -> T:
    """Return ``value``, which must be of just this type. Raises TypeError."""
    if type(value) is not kind:
        raise TypeError(f"{kind.__name__} is needed, got {type(value).__name__}")
    return value


def texts(value: object) -> dict[str, str]:
    """Return a dict of texts. Raises TypeError."""
    return {is_of(str, key): is_of(str, item) for key, item in is_of(dict, value).items()}


def scalars(value: object) -> dict[str, Scalar]:
    """Return a dict of scalars by text. Raises TypeError."""
    return {is_of(str, key): scalar(item) for key, item in is_of(dict, value).items()}


def scalar(value: object) -> Scalar:
    """Return a scalar. Raises TypeError."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"a scalar is needed, got {type(value).__name__}")
