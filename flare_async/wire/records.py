"""Converters of dataclasses: their annotations, resolved once, and their fields in order."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from operator import attrgetter
from typing import Final, Union, get_args, get_origin, get_type_hints

from flare_async.errors import FlareError, LocalProtocolError
from flare_async.wire.converters import (
    SCALARS,
    Converter,
    Mismatch,
    mapping_converter,
    scalar_converter,
    tuple_converter,
    union_converter,
)

__all__ = ["Record", "Registry"]

_UNIONS: Final = (Union, types.UnionType)
_MAPPINGS: Final = (Mapping, dict)


class Record:
    """A dataclass as an array of its fields."""

    __slots__ = ("_converters", "_made", "_names", "_plain", "_values", "depth", "name")

    def __init__(self, made: type, converters: Mapping[str, Converter]) -> None:
        self.name = made.__name__
        self._made = made
        self._names = tuple(converters)
        self._converters = tuple(converters.values())
        self._values = getter(self._names)
        # A value of exactly the annotated scalar type is taken as it is, without a call.
        self._plain = tuple(
            converter.wire if converter.wire in SCALARS else None for converter in self._converters
        )
        self.depth = 1 + max((converter.depth for converter in self._converters), default=0)

    def encode(self, message: object) -> list[object]:
        """Return the fields of a message as msgpack values.

        Raises:
            Mismatch: a field has another type than annotated.
        """
        values = self._values(message)
        if tuple(map(type, values)) == self._plain:
            return [*values]
        done: list[object] = []
        try:
            for value, plain, converter in zip(values, self._plain, self._converters, strict=True):
                done.append(value if type(value) is plain else converter.encode(value))
        except Mismatch as error:
            error.path.append(f".{self._names[len(done)]}")
            raise
        return done

    def decode(self, values: list[object]) -> object:
        """Return the message that has these fields.

        Raises:
            Mismatch: too few or too many, one of another type, or one that the class refuses.
        """
        if len(values) != len(self._names):
            raise Mismatch(f"{len(values)} fields, {len(self._names)} expected")
        done = values if tuple(map(type, values)) == self._plain else self._decoded(values)
        try:
            message: object = self._made(*done)
        except (ValueError, TypeError, FlareError) as error:
            raise Mismatch(f"refused: {str(error)!a}") from error
        return message

    def _decoded(self, values: list[object]) -> list[object]:
        done: list[object] = []
        try:
            for value, plain, converter in zip(values, self._plain, self._converters, strict=True):
                done.append(value if type(value) is plain else converter.decode(value))
        except Mismatch as error:
            error.path.append(f".{self._names[len(done)]}")
            raise
        return done


def getter(names: tuple[str, ...]) -> Callable[[object], tuple[object, ...]]:
    """Return what reads so many fields at once."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda message: tuple(getattr(message, name) for name in names)


class Registry:
    """Makes converters; knows the tags of the registered classes."""

    def __init__(self, tags: Mapping[type, int]) -> None:
        self._tags = tags
        self._records: dict[type, Record] = {}
        self._open: list[type] = []

    def record(self, made: type) -> Record:
        """Return the record of a dataclass.

        Raises:
            LocalProtocolError: it contains itself, or has a field that is not supported.
        """
        if made in self._records:
            return self._records[made]
        if made in self._open:
            raise LocalProtocolError(f"{made.__name__} contains itself")
        self._open.append(made)
        try:
            hints = get_type_hints(made)
        except NameError as error:
            raise LocalProtocolError(f"{made.__name__}: {error}") from error
        converters: dict[str, Converter] = {}
        for field in fields(made):
            if not field.init or field.kw_only:
                raise LocalProtocolError(f"{made.__name__}.{field.name} is not positional")
            converters[field.name] = self._converter(
                hints[field.name], f"{made.__name__}.{field.name}"
            )
        self._open.pop()
        self._records[made] = Record(made, converters)
        return self._records[made]

    def _converter(self, hint: object, where: str) -> Converter:
        hint = getattr(hint, "__supertype__", hint)
        origin, arguments = get_origin(hint), get_args(hint)
        if isinstance(hint, type) and hint in SCALARS:
            return scalar_converter(hint)
        if isinstance(hint, type) and is_dataclass(hint):
            return self._nested(hint)
        if origin in _UNIONS:
            return self._union(arguments, where)
        if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple_converter(self._converter(arguments[0], where))
        if origin in _MAPPINGS and arguments[0] is str:
            return mapping_converter(self._converter(arguments[1], where))
        raise LocalProtocolError(f"{where}: {hint!r} is not supported in a message")

    def _nested(self, made: type) -> Converter:
        record = self.record(made)

        def decode(value: object) -> object:
            if type(value) is not list:
                raise Mismatch.of(value, record.name)
            return record.decode(value)

        def encode(value: object) -> object:
            if type(value) is not made:
                raise Mismatch.of(value, record.name)
            return record.encode(value)

        converter = Converter(record.name, list, encode, decode)
        converter.python = (made,)
        converter.depth = record.depth
        return converter

    def _union(self, hints: tuple[object, ...], where: str) -> Converter:
        classes = [hint for hint in hints if isinstance(hint, type) and is_dataclass(hint)]
        members = [
            self._converter(hint, where)
            for hint in hints
            if len(classes) < 2 or hint not in classes
        ]
        if len(classes) > 1:
            members.append(self._tagged(classes, where))
        if len({member.wire for member in members}) != len(members):
            raise LocalProtocolError(f"{where}: members of a union look alike on the wire")
        return union_converter(members)

    def _tagged(self, classes: list[type], where: str) -> Converter:
        missing = [made.__name__ for made in classes if made not in self._tags]
        if missing:
            raise LocalProtocolError(f"{where}: {', '.join(missing)} must have a tag in the schema")
        by_tag = {self._tags[made]: self.record(made) for made in classes}
        name = " or ".join(made.__name__ for made in classes)

        def decode(value: object) -> object:
            tag: object = value[0] if type(value) is list and value else None
            record = by_tag.get(tag) if type(tag) is int else None
            if record is None or type(value) is not list:
                raise Mismatch.of(value, name)
            return record.decode(value[1:])

        def encode(value: object) -> object:
            tag = self._tags[type(value)]
            return [tag, *by_tag[tag].encode(value)]

        converter = Converter(name, list, encode, decode)
        converter.python = tuple(classes)
        converter.depth = max(record.depth for record in by_tag.values())
        return converter
