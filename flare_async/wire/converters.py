"""Converters between annotated values and msgpack values, made once per annotation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from flare_async.wire.fields import shown

__all__ = [
    "SCALARS",
    "Convert",
    "Converter",
    "Mismatch",
    "mapping_converter",
    "scalar_converter",
    "tuple_converter",
    "union_converter",
]

Convert: TypeAlias = Callable[[object], object]
SCALARS: Final[tuple[type, ...]] = (int, float, str, bytes, bool, type(None))


class Mismatch(Exception):
    """A value of another type than annotated; the path grows as it passes outwards."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.path: list[str] = []

    @classmethod
    def of(cls, value: object, expected: str) -> Mismatch:
        """Return the mismatch of a value."""
        return cls(f"{shown(value)} is {type(value).__name__}, not {expected}")

    def text(self, root: str) -> str:
        """Return where it is, below ``root``, and what it is."""
        return f"{root}{''.join(reversed(self.path))}: {self.problem}"


class Converter:
    """How values of one annotation travel: ``wire`` is their type in msgpack."""

    __slots__ = ("decode", "depth", "encode", "name", "python", "wire")

    def __init__(self, name: str, wire: type, encode: Convert, decode: Convert) -> None:
        self.name = name
        self.wire = wire
        self.encode = encode
        self.decode = decode
        self.python: tuple[type, ...] = (wire,)  # types of the values that encode takes
        self.depth = 0  # levels of containers


def scalar_converter(kind: type) -> Converter:
    """Return the converter of int, float, str, bytes, bool or None: exact on the way in.

    On the way out a subclass becomes the type itself (a StrEnum, a NumPy float), and an int
    becomes a float where one is annotated.
    """
    name = "None" if kind is type(None) else kind.__name__

    def decode(value: object) -> object:
        if type(value) is kind:
            return value
        raise Mismatch.of(value, name)

    def encode(value: object) -> object:
        if type(value) is kind:
            return value
        if type(value) is bool or not isinstance(value, _ENCODED_AS[kind]):
            raise Mismatch.of(value, name)
        return _plain(kind, value)

    return Converter(name, kind, encode, decode)


_ENCODED_AS: Final[dict[type, tuple[type, ...]]] = {
    kind: (int, float) if kind is float else (kind,) for kind in SCALARS
}


def _plain(kind: type, value: object) -> object:
    if isinstance(value, str):
        return str.__str__(value)
    try:
        plain: object = kind(value)
    except OverflowError:
        raise Mismatch.of(value, kind.__name__) from None
    return plain


def tuple_converter(inner: Converter) -> Converter:
    """Return the converter of ``tuple[T, ...]``; lists are taken on the way out as well."""
    name = f"tuple of {inner.name}"

    def decode(value: object) -> object:
        if type(value) is not list:
            raise Mismatch.of(value, name)
        return tuple(_each(inner.decode, value))

    def encode(value: object) -> object:
        if not isinstance(value, tuple | list):
            raise Mismatch.of(value, name)
        return _each(inner.encode, value)

    made = Converter(name, list, encode, decode)
    made.python = (tuple, list)
    made.depth = inner.depth + 1
    return made


def _each(convert: Convert, values: tuple[object, ...] | list[object]) -> list[object]:
    done: list[object] = []
    try:
        for value in values:
            done.append(convert(value))  # noqa: PERF401 - its length locates a mismatch
    except Mismatch as error:
        error.path.append(f"[{len(done)}]")
        raise
    return done


def mapping_converter(inner: Converter) -> Converter:
    """Return the converter of ``Mapping[str, T]``; ``unpack`` has checked keys on the way in."""
    name = f"mapping of {inner.name}"

    def decode(value: object) -> object:
        if type(value) is not dict:
            raise Mismatch.of(value, name)
        return _items(inner.decode, value) if value else value

    def encode(value: object) -> object:
        if value == {} and type(value) is dict:
            return {}
        if not isinstance(value, Mapping):
            raise Mismatch.of(value, name)
        for key in value:
            if not isinstance(key, str):
                raise Mismatch.of(key, "a text key")
        return _items(inner.encode, value)

    made = Converter(name, dict, encode, decode)
    made.python = (Mapping,)
    made.depth = inner.depth + 1
    return made


def _items(convert: Convert, values: Mapping[str, object]) -> dict[str, object]:
    done: dict[str, object] = {}
    key = ""
    try:
        for key, value in values.items():
            done[key] = convert(value)
    except Mismatch as error:
        error.path.append(f"[{shown(key)}]")
        raise
    return done


def union_converter(members: list[Converter]) -> Converter:
    """Return the converter of a union whose members differ in their type on the wire."""
    name = " or ".join(member.name for member in members)
    by_wire = {member.wire: member for member in members}
    exact = {kind: member for member in members for kind in member.python}
    plain = by_wire.keys() & set(SCALARS)  # taken as they are, without a call

    def decode(value: object) -> object:
        if type(value) in plain:
            return value
        member = by_wire.get(type(value))
        if member is None:
            raise Mismatch.of(value, name)
        return member.decode(value)

    def encode(value: object) -> object:
        if type(value) in plain:
            return value
        member = exact.get(type(value)) or _nearest(members, value)
        if member is None:
            raise Mismatch.of(value, name)
        return member.encode(value)

    made = Converter(name, object, encode, decode)
    made.python = tuple(exact)
    made.depth = max(member.depth for member in members)
    return made


def _nearest(members: list[Converter], value: object) -> Converter | None:
    """Return the member for a subclass of what it takes; a float takes an int as well."""
    for member in members:
        if isinstance(value, member.python):
            return member
    return next((member for member in members if member.wire is float), None)
