"""Keras weights as named arrays, and back, without importing Keras.

A model is known by what it can do: ``get_weights``, ``set_weights`` and a list of ``weights``. Its
arrays travel under the paths that Keras gives them, such as ``dense/kernel``. Models travel in an
order of their own, so it is names that say where an array belongs, never positions.

Keras numbers the layers of a process: what is ``dense`` in one is ``dense_4`` where four were
made before. Where names differ, numbers are therefore compared by their rank among their like.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol, TypeAlias, TypeGuard, cast

import numpy as np

from flare_async.errors import ConfigError, TensorFormatError
from flare_async.transfer.capture import Array
from flare_async.transfer.layers import flattened
from flare_async.transfer.tensors import TensorSet

__all__ = [
    "KerasModel",
    "has_weights",
    "layer_weights_of",
    "load_weights",
    "places_of",
    "weights_of",
]

NUMBERED: Final = re.compile(r"(.*?)(?:_([0-9]{1,9}))?", re.DOTALL)
SHOWN: Final = 3  # names in a message

Number: TypeAlias = tuple[int, str]
Part: TypeAlias = tuple[str, int]


class KerasModel(Protocol):
    """What is needed of a Keras model; Keras has this whatever its backend."""

    def get_weights(self) -> list[Array]:
        """Return the arrays, in the model's order."""
        ...

    def set_weights(self, weights: list[Array]) -> object:
        """Take arrays in the same order."""
        ...


def has_weights(model: object) -> TypeGuard[KerasModel | Sequence[Array]]:
    """Return whether ``model`` is a Keras model, or arrays as its ``get_weights`` returns them."""
    if isinstance(model, list | tuple):
        return bool(model) and all(isinstance(array, np.ndarray) for array in model)
    methods = (getattr(model, name, None) for name in ("get_weights", "set_weights"))
    return not isinstance(model, type) and all(callable(method) for method in methods)


def weights_of(
    model: KerasModel | Sequence[Array], like: Iterable[str] | None = None
) -> dict[str, object]:
    """Return copies of the model's weights by name, in its order; arrays alone by position.

    ``like`` are the names to use, those of the params that a train function received.

    Raises:
        ConfigError: the model has no weights yet.
        TensorFormatError: ``like`` has names of another model.
    """
    if isinstance(model, Sequence):
        arrays, names = list(model), [str(at) for at in range(len(model))]
    else:
        arrays = model.get_weights()
        names = _names(model, len(arrays))
    if not arrays:
        shown = f"<{type(model).__name__}>"
        raise ConfigError("model", shown, "has no weights yet", "build it, or call it once")
    if like is not None:
        given = list(flattened(like) if isinstance(like, Mapping) else like)
        names = _matched(names, _layered(model) or names, given)
    return dict(zip(names, arrays, strict=True))


def layer_weights_of(model: KerasModel) -> dict[str, object]:
    """Return copies of the model's weights, named by layer and position, such as ``dense/0``.

    Raises:
        ConfigError: the model has no weights yet, or some that belong to no layer or to several.
    """
    arrays = weights_of(model)
    names = _layered(model)
    if not names:
        shown = f"<{type(model).__name__}>"
        hint = 'give framework="numpy" and use weights_of and load_weights in the script'
        raise ConfigError("model", shown, "has weights that are not those of one layer", hint)
    return dict(zip(names, arrays.values(), strict=True))


def load_weights(model: KerasModel, params: Mapping[str, object]) -> None:
    """Set the model's weights to those of ``params``, or of a run's ``TensorSet``, by name.

    Raises:
        ConfigError: the model has no weights yet.
        TensorFormatError: they have the names of another model.
    """
    names = weights_of(model, params)
    arrays = params.numpy() if isinstance(params, TensorSet) else flattened(params)
    model.set_weights([cast("Array", arrays[name]) for name in names])


def places_of(model: KerasModel, names: Sequence[str]) -> dict[str, int]:
    """Return where each of some names, of all params or of a part, stands in ``model.weights``.

    Names of another numbering are known only where all that is trained is named.

    Raises:
        ConfigError: the model has no weights yet.
        TensorFormatError: they are names of another model.
    """
    own = list(weights_of(model))
    styles = [own, _layered(model), [str(at) for at in range(len(own))]]
    for style in styles:
        if set(names) <= set(style):
            return {name: style.index(name) for name in names}
    trained = {id(weight) for weight in _listed(model, "trainable_weights")}
    places = [at for at, weight in enumerate(_listed(model, "weights")) if id(weight) in trained]
    by_path, by_layer = ([style[at] for at in places] if style else [] for style in styles[:2])
    matched = _matched(by_path, by_layer, list(names))
    return dict(zip(matched, places, strict=True))


def _names(model: object, count: int) -> list[str]:
    """Return the variables' paths, each beginning with the layer that the model lists.

    Keras puts the model's own name before them where the model was built as a whole, and leaves
    out the outer layer's where a model is a layer of another one.
    """
    variables = _listed(model, "weights")
    if len(variables) != count:
        return [str(at) for at in range(count)]
    owner: dict[int, str] = {}
    for layer in _listed(model, "layers"):
        for variable in _listed(layer, "weights"):
            owner.setdefault(id(variable), str(getattr(layer, "name", "")))
    paths = [_path(variable) for variable in variables]
    own = f"{getattr(model, 'name', '')}/"
    if all(path.startswith(own) for path in paths):
        paths = [path.removeprefix(own) for path in paths]
    owners = [owner.get(id(variable), "") for variable in variables]
    return _unique([_below(*pair) for pair in zip(owners, paths, strict=True)])


def _layered(model: object) -> list[str]:
    """Return the variables' names by layer and position; none unless each has just one."""
    owned: list[tuple[int, str]] = []
    for layer in _listed(model, "layers"):
        weights = enumerate(_listed(layer, "weights"))
        owned += [(id(weight), f"{getattr(layer, 'name', '')}/{at}") for at, weight in weights]
    names, variables = dict(owned), _listed(model, "weights")
    alone = len(names) == len(owned) == len(variables) == len(set(names.values()))
    if not alone or any(id(variable) not in names for variable in variables):
        return []
    return [names[id(variable)] for variable in variables]


def _listed(owner: object, name: str) -> Sequence[object]:
    return cast("Sequence[object]", getattr(owner, name, None) or ())


def _path(variable: object) -> str:
    path = getattr(variable, "path", None) or getattr(variable, "name", None)
    return str(path or "weight").removesuffix(":0")


def _below(layer: str, path: str) -> str:
    return path if not layer or path.partition("/")[0] == layer else f"{layer}/{path}"


def _unique(names: Sequence[str]) -> list[str]:
    taken = set(names)
    seen: set[str] = set()
    found: list[str] = []
    for name in names:
        number, free = 1, name
        while free in seen or (number > 1 and free in taken):
            number += 1
            free = f"{name}_{number}"
        seen.add(free)
        found.append(free)
    return found


def _matched(own: list[str], layered: list[str], given: list[str]) -> list[str]:
    """Return the name among ``given`` of each of ``own``, or of ``layered``.

    Raises:
        TensorFormatError: there are others.
    """
    if set(own) == set(given):
        return own
    if len(layered) == len(given) and set(_ranked(layered)) == set(_ranked(given)):
        own = layered
    positions = [str(at) for at in range(len(own))]
    if set(positions) == set(given):
        return positions
    ranked = dict(zip(_ranked(given), given, strict=True))
    found = [ranked.get(name) for name in _ranked(own)]
    matched = [name for name in found if name is not None]
    if len(matched) == len(own) == len(given):
        return matched
    lacking = [f"{name!r} is missing" for name in given if name not in matched]
    more = [f"{name!r} is unexpected" for name, at in zip(own, found, strict=True) if at is None]
    raise TensorFormatError(
        f"{len(own)} weights, {len(given)} received: "
        + "; ".join([*lacking[:SHOWN], *more[:SHOWN]])
    )


def _ranked(names: Sequence[str]) -> list[tuple[Part, ...]]:
    """Return the names' parts, each with its number's rank among parts that differ only by it."""
    split = [[_number(part) for part in name.split("/")] for name in names]
    ranked: list[tuple[Part, ...]] = [() for _ in names]
    for depth in range(max(map(len, split), default=0)):
        longer = [at for at, parts in enumerate(split) if depth < len(parts)]
        numbers: dict[object, set[Number]] = {}
        for at in longer:
            base, number = split[at][depth]
            numbers.setdefault((ranked[at], base), set()).add(number)
        ranks = {
            key: {number: rank for rank, number in enumerate(sorted(found))}
            for key, found in numbers.items()
        }
        for at in longer:
            base, number = split[at][depth]
            ranked[at] = (*ranked[at], (base, ranks[ranked[at], base][number]))
    return ranked


def _number(part: str) -> tuple[str, Number]:
    found = NUMBERED.fullmatch(part)
    base, digits = found.groups() if found else (part, None)
    return base, (-1 if digits is None else int(digits), digits or "")
