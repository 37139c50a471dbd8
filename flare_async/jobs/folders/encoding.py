"""Arguments as data: JSON, with references to files of the folder for what JSON has not."""

from __future__ import annotations

import dataclasses
import functools
import math
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from flare_async.errors import ConfigError, FlareError
from flare_async.jobs.folders.draft import Draft
from flare_async.jobs.models import is_torch
from flare_async.jobs.places import is_users
from flare_async.jobs.work import code_of, package_of
from flare_async.transfer.tensors import TensorSet

__all__ = ["Encoder", "own_fields"]

DEF: Final = "define it with def at the top of a .py file"
CLASS: Final = "make its class a dataclass at the top of a .py file, or give a name instead"
SCRIPTS: Final = frozenset({"train_script", "eval_script"})
FILES: Final = frozenset({"eval_ckpt", "initial_ckpt", "model_dir", "model_path", "replay"})


class Encoder:
    """Turns arguments into JSON; code and files that they name go into the draft."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft

    def argument(self, name: str, value: object) -> object:
        """Return what stands for an argument of that name; some names mean files.

        Raises:
            ConfigError: it cannot be written down; the error names it and says what to do.
        """
        key = name.rpartition(".")[2]
        if isinstance(value, str | Path) and value and key in SCRIPTS | FILES:
            path = Path(value).expanduser()
            if key in SCRIPTS:
                return {"$file": self._draft.code(name, path)}
            if not path.exists():
                raise ConfigError(name, str(value), "there is no such file")
            return {"$file": self._draft.file(name, path)}
        return self.value(name, value)

    def value(self, name: str, value: object) -> object:
        """Return what stands for any other value. Raises ConfigError."""
        value = value.item() if isinstance(value, np.generic) else value
        if value is None or isinstance(value, bool | int | float | str):
            infinite = isinstance(value, float) and not math.isfinite(value)
            return {"$float": str(value)} if infinite else value
        if isinstance(value, Mapping):
            return self._mapping(name, value)
        if isinstance(value, list | tuple):
            return [self.value(f"{name}[{at}]", item) for at, item in enumerate(value)]
        return self._referred(name, value)

    def _referred(self, name: str, value: object) -> object:
        if isinstance(value, Path):
            return {"$file": self._draft.file(name, value.expanduser())}
        if is_array(value):
            said = {"as": "torch" if is_torch(value) else "numpy"}
            return {"$array": self._arrays(name, {"array": value}), **said}
        if isinstance(value, types.FunctionType | functools.partial):
            return self._function(name, value)
        return self._object(name, value)

    def _mapping(self, name: str, value: Mapping[object, object]) -> object:
        strange = [key for key in value if not isinstance(key, str) or key.startswith("$")]
        if strange:
            problem = "keys are text and do not begin with '$'"
            raise ConfigError(name, strange[:5], problem, "give them other names")
        if value and all(map(is_array, value.values())):
            kinds = {"torch" if is_torch(item) else "numpy" for item in value.values()}
            if len(kinds) == 1:
                arrays = {str(key): item for key, item in value.items()}
                return {"$arrays": self._arrays(name, arrays), "as": kinds.pop()}
        # Other options of a site may be called like arguments of ours, and are texts.
        own = SCRIPTS if name.startswith("per_site_config.") else ()
        return {
            str(key): (self.argument if key in own else self.value)(f"{name}.{key}", item)
            for key, item in value.items()
        }

    def _arrays(self, name: str, arrays: Mapping[str, object]) -> str:
        try:
            tensors = TensorSet.from_params(arrays)
        except FlareError as exc:
            raise ConfigError(name, f"<{type(arrays).__name__}>", str(exc)) from exc
        return self._draft.tensors(name, f"files/{name}.safetensors", tensors, {})

    def _function(self, name: str, value: object) -> object:
        try:
            code = code_of(value)  # type: ignore[arg-type]  # it looks at what it is given
        except ConfigError as exc:
            function = value.func if isinstance(value, functools.partial) else value
            problem = str(exc).partition(": ")[2].partition(": another process")[0]
            text = f"cannot be exported: {problem.partition('; ')[0]}"
            raise ConfigError(name, getattr(function, "__qualname__", "..."), text, DEF) from exc
        self._check_users(name, code.qualname, code.path)
        found: dict[str, object] = {
            "file": self._draft.code(name, Path(code.path), code.package),
            "name": code.qualname,
        }
        extra = {"package": code.package, "args": list(code.args), "keywords": dict(code.keywords)}
        return {"$function": found | {key: item for key, item in extra.items() if item}}

    def class_of(self, name: str, cls: type[object]) -> dict[str, object]:
        """Return where a class is found: by its name alone if it is ours. Raises ConfigError."""
        module = sys.modules.get(cls.__module__)
        path = getattr(module, "__file__", None)
        if cls.__module__.startswith("flare_async."):
            return {"name": cls.__name__}
        if "<" in cls.__qualname__ or getattr(module, cls.__qualname__, None) is not cls:
            problem = "its class does not stand at the top of a file"
            raise ConfigError(name, cls.__qualname__, f"cannot be exported: {problem}", CLASS)
        if module is None or path is None:
            raise ConfigError(name, cls.__qualname__, f"its module {cls.__module__} has no file")
        self._check_users(name, cls.__qualname__, path)
        package = package_of(module)
        found: dict[str, object] = {
            "file": self._draft.code(name, Path(path), package),
            "name": cls.__qualname__,
        }
        return found | ({"package": package} if package else {})

    def _object(self, name: str, value: object) -> object:
        made_with = getattr(value, "made_with", None)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            args: list[object] = []
            keywords = own_fields(value)
        elif isinstance(made_with, tuple) and len(made_with) == 2:
            args, keywords = list(made_with[0]), dict(made_with[1])
        else:
            problem = "cannot be exported: how this object was made is not known"
            hint = DEF if callable(value) else CLASS
            raise ConfigError(name, f"<{type(value).__name__}>", problem, hint)
        found = self.class_of(name, type(value))
        if args:
            found["args"] = [self.value(f"{name}[{at}]", item) for at, item in enumerate(args)]
        if keywords:
            found["keywords"] = {k: self.value(f"{name}.{k}", v) for k, v in keywords.items()}
        return {"$object": found}

    def _check_users(self, name: str, what: str, path: str) -> None:
        if not is_users(path):
            hint = "call it from a function in a file of your own"
            raise ConfigError(name, what, "cannot be exported: it is an installed library's", hint)


def own_fields(value: object) -> dict[str, object]:
    """Return the arguments of a dataclass that have another value than their default."""
    found: dict[str, object] = {}
    for field in dataclasses.fields(value):  # type: ignore[arg-type]  # the caller has looked
        given = getattr(value, field.name)
        if field.init and not is_default(field, given):
            found[field.name] = given
    return found


def is_default(field: dataclasses.Field[object], given: object) -> bool:
    """Return whether a value is certainly that of an argument that was left out."""
    if given is field.default:
        return True
    plain = isinstance(given, bool | int | float | str)
    return plain and type(given) is type(field.default) and given == field.default


def is_array(value: object) -> bool:
    """Return whether a value is an array or a tensor."""
    return isinstance(value, np.ndarray) or is_torch(value)
