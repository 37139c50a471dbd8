"""Lists of arrays under the names of layers, as Keras users write them, and the arrays' own names.

The first array of the layer ``dense`` travels as ``dense/0``, the second as ``dense/1``.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["LayerWeights", "flattened", "grouped"]

MAX_DIGITS = 6


class LayerWeights(dict[str, object]):
    """Params by the names of layers; a layer without weights has an empty list."""

    def __missing__(self, name: str) -> list[object]:
        return []


def grouped(params: Mapping[str, object]) -> LayerWeights:
    """Return the arrays ``layer/0``, ``layer/1`` as one list under ``layer``; others as they are.

    Arrays whose numbers do not count from 0 keep their names.
    """
    numbered: dict[str, dict[int, object]] = {}
    for name, value in params.items():
        layer, number = _split(name)
        if number is not None:
            numbered.setdefault(layer, {})[number] = value
    found = LayerWeights()
    for name, value in params.items():
        layer, number = _split(name)
        arrays = numbered.get(layer, {})
        if number is None or layer in params or set(arrays) != set(range(len(arrays))):
            found[name] = value
        elif layer not in found:
            found[layer] = [arrays[at] for at in range(len(arrays))]
    return found


def flattened(params: Mapping[str, object]) -> dict[str, object]:
    """Return params in which every list has become arrays with names of their own."""
    found: dict[str, object] = {}
    for name, value in params.items():
        if isinstance(value, list | tuple) and isinstance(name, str):
            found |= {f"{name}/{at}": array for at, array in enumerate(value)}
        else:
            found[name] = value
    return found


def _split(name: str) -> tuple[str, int | None]:
    layer, slash, digits = name.rpartition("/")
    plain = digits.isascii() and digits.isdigit() and len(digits) <= MAX_DIGITS
    if not slash or not plain or str(int(digits)) != digits:
        return name, None
    return layer, int(digits)
