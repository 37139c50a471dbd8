"""From data to arguments: what ``encoding`` has written, with the folder's files.

Classes and functions of the user are names in files of the folder. Those of ours are names of the
modules in ``OURS``: no other module is ever imported.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Final, cast

from flare_async.errors import ConfigError
from flare_async.jobs.folders.names import checked_name
from flare_async.jobs.jobfile import OURS, UserCode, our_module
from flare_async.transfer.files import read_file

__all__ = ["Decoder"]

MARKS: Final = ("$array", "$arrays", "$file", "$float", "$function", "$object")
FLOATS: Final = ("inf", "-inf", "nan")


class Decoder:
    """Turns JSON into arguments; ``files`` are those of the folder by their names."""

    def __init__(self, files: Mapping[str, Path], folder: Path) -> None:
        self._files = files
        self._folder = folder
        self._code = UserCode()

    def value(self, field: str, data: object) -> object:
        """Return the value that data stands for.

        Raises:
            ConfigError: it stands for nothing; the error names the key.
        """
        if isinstance(data, list):
            return [self.value(f"{field}[{at}]", item) for at, item in enumerate(data)]
        if not isinstance(data, dict):
            return data
        mark = next((key for key in data if key.startswith("$")), None)
        if mark is None:
            return {key: self.value(f"{field}.{key}", item) for key, item in data.items()}
        return self._marked(field, mark, data)

    def class_of(self, field: str, data: object) -> Callable[..., object]:
        """Return a class of ours by its name, or the user's of a file. Raises ConfigError."""
        if isinstance(data, str):
            data = {"name": data}
        keys = keys_of(field, data, ("name",), ("file", "package", "args", "keywords"))
        name = text(f"{field}.name", keys["name"])
        found = self._user_thing(field, keys) if "file" in keys else ours(field, name)
        if not isinstance(found, type):
            raise ConfigError(field, name, "is no class")
        return found

    def place(self, field: str, data: object) -> Path:
        """Return the file, or folder, of a name. Raises ConfigError."""
        name = checked_name(field, data)
        if name in self._files:
            return self._files[name]
        if any(one.startswith(f"{name}/") for one in self._files):
            return self._folder / name
        near = get_close_matches(name, self._files, n=1)
        hint = f"did you mean {near[0]}?" if near else ""
        raise ConfigError(field, name, "the folder has no such file", hint)

    def _marked(self, field: str, mark: str, data: Mapping[str, object]) -> object:
        inner = data[mark]
        match mark:
            case "$file":
                keys_of(field, data, (mark,))
                return self.place(field, inner)
            case "$float":
                keys_of(field, data, (mark,))
                if inner not in FLOATS:
                    raise ConfigError(field, inner, f"use one of {', '.join(FLOATS)}")
                return float(inner)
            case "$array" | "$arrays":
                keys = keys_of(field, data, (mark, "as"))
                return self._arrays(field, inner, keys["as"], single=mark == "$array")
            case "$function":
                return self._function(field, inner)
            case "$object":
                return self._object(field, inner)
            case _:
                near = get_close_matches(mark, MARKS, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(MARKS)}"
                raise ConfigError(field, mark, "stands for nothing", hint)

    def _arrays(self, field: str, name: object, kind: object, *, single: bool) -> object:
        tensors = read_file(self.place(field, name))
        if kind not in {"numpy", "torch"}:
            raise ConfigError(f"{field}.as", kind, "use numpy or torch")
        arrays = tensors.torch() if kind == "torch" else tensors.numpy()
        if not single:
            return dict(arrays)
        if list(arrays) != ["array"]:
            raise ConfigError(field, list(arrays)[:5], "one tensor with the name array is needed")
        return arrays["array"]

    def _function(self, field: str, data: object) -> object:
        keys = keys_of(field, data, ("file", "name"), ("package", "args", "keywords"))
        found = self._user_thing(field, keys)
        if not callable(found):
            raise ConfigError(field, keys["name"], f"is no function in {keys['file']}")
        args, keywords = self._call(field, keys)
        return functools.partial(found, *args, **keywords) if args or keywords else found

    def _object(self, field: str, data: object) -> object:
        make = self.class_of(field, data)
        args, keywords = self._call(field, cast("Mapping[str, object]", data))
        try:
            return make(*args, **keywords)
        except TypeError as exc:
            raise ConfigError(field, getattr(make, "__name__", "..."), str(exc)) from exc

    def _call(
        self, field: str, keys: Mapping[str, object]
    ) -> tuple[list[object], dict[str, object]]:
        args = self.value(f"{field}.args", keys.get("args", []))
        keywords = self.value(f"{field}.keywords", keys.get("keywords", {}))
        if not isinstance(args, list) or not isinstance(keywords, dict):
            raise ConfigError(field, [args, keywords], "args is a list, keywords an object")
        return args, keywords

    def _user_thing(self, field: str, keys: Mapping[str, object]) -> object:
        path = self.place(f"{field}.file", keys["file"])
        name = text(f"{field}.name", keys["name"])
        package = text(f"{field}.package", keys.get("package", ""))
        found: object = self._code.module(path, package)
        for part in name.split("."):
            if not part.isidentifier() or not hasattr(found, part):
                raise ConfigError(f"{field}.name", name, f"{path} has no such name")
            found = getattr(found, part)
        return found


def ours(field: str, name: str) -> object:
    """Return a class of ours. Raises ConfigError with the name that was probably meant."""
    known: dict[str, ModuleType] = {}
    for at in OURS:
        module = our_module(at)
        known.update(dict.fromkeys(module.__all__, module))
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "give the file it stands in, too"
        raise ConfigError(field, name, "flare_async has no such class", hint)
    return getattr(known[name], name)


def keys_of(
    field: str, data: object, needed: tuple[str, ...], others: tuple[str, ...] = ()
) -> Mapping[str, object]:
    """Return an object of JSON that has these keys and no others. Raises ConfigError."""
    if not isinstance(data, dict):
        raise ConfigError(field, data, "an object is needed")
    lacking = [key for key in needed if key not in data]
    if lacking:
        raise ConfigError(f"{field}.{lacking[0]}", None, "is missing")
    known = (*needed, *others)
    for key in data:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            raise ConfigError(f"{field}.{key}", data[key], "is no known key", hint)
    return data


def text(field: str, value: object) -> str:
    """Return a text. Raises ConfigError."""
    if not isinstance(value, str):
        raise ConfigError(field, value, "text is needed")
    return value
