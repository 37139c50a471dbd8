"""What user code returned: checked against what it received, and cut loose from its memory.

A returned update outlives the training slot and is shared by reference, so nobody may still write
to it. An array is taken as it is only when its memory belongs to NumPy and nothing but the returned
dict refers to it; all else (a view of the slot's own memory, torch tensors, arrays that user code
keeps in ``site.state``) is copied.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final, cast

import numpy as np

from flare_async.errors import FlareError, TrainingFailed
from flare_async.jobs.site import WORD, Scalar
from flare_async.model import FLModel
from flare_async.transfer.dtypes import numpy_dtype, torch_dtype
from flare_async.transfer.pool import SlotPool
from flare_async.transfer.spec import differences
from flare_async.transfer.tensors import TensorSet

if TYPE_CHECKING:
    import torch

__all__ = [
    "checked_evaluation",
    "checked_meta",
    "checked_metrics",
    "checked_model",
    "checked_tensors",
]

FLOATS: Final = frozenset({"F16", "BF16", "F32", "F64"})


def checked_model(site: str, result: object) -> FLModel:
    """Return what user code returned as a model.

    Raises:
        TrainingFailed: it is no ``FLModel``, or contradicts itself.
    """
    if result is None:
        raise TrainingFailed(site, "the train function returned None, return an FLModel")
    if not isinstance(result, FLModel):
        kind = type(result).__name__
        raise TrainingFailed(site, f"the train function returned {kind}, return an FLModel")
    try:
        result.validate()
    except (TypeError, ValueError) as exc:
        raise TrainingFailed(site, f"the returned FLModel is not valid: {exc}") from exc
    return result


def checked_evaluation(site: str, result: object) -> dict[str, float]:
    """Return the metrics that an evaluate function returned, as a mapping or in an ``FLModel``.

    Raises:
        TrainingFailed: there are none, or one is no number.
    """
    metrics = result.metrics if isinstance(result, FLModel) else result
    if not isinstance(metrics, Mapping) or not metrics:
        kind = type(result).__name__
        raise TrainingFailed(site, f"evaluate returned {kind}, return a dict of metrics")
    return checked_metrics(site, dict(metrics))


def checked_tensors(
    site: str, model: FLModel, expected: TensorSet, pool: SlotPool, *, detach: bool
) -> TensorSet:
    """Return the params, with the names, shapes and types of ``expected``, in its order.

    A float of another width (NumPy computes in float64 soon enough) is cast to the model's; any
    other difference is refused. With ``detach``, memory that somebody else may write to is copied.

    Raises:
        TrainingFailed: no params, params that cannot travel, or the first differences.
    """
    params = model.params
    if not params:
        raise TrainingFailed(site, "the returned FLModel has no params")
    live = {name for name in params if not _is_fresh(params, name)} if detach else set()
    tensors = _captured(site, params)
    if tensors.specs == expected.specs:
        return _arranged(tensors, expected, live, pool if detach else None)
    wanted = {spec.name: spec for spec in expected.specs}
    loose = {
        spec.name: wanted[spec.name].dtype
        for spec in tensors.specs
        if spec.name in wanted and {spec.dtype, wanted[spec.name].dtype} <= FLOATS
        if spec.dtype != wanted[spec.name].dtype
    }
    given = [replace(spec, dtype=loose.get(spec.name, spec.dtype)) for spec in tensors.specs]
    wrong = differences(expected.specs, given)
    if wrong:
        raise TrainingFailed(site, "the params differ from those received: " + "; ".join(wrong))
    if loose:
        tensors = _captured(site, _cast(params, loose))
        live -= loose.keys()
    return _arranged(tensors, expected, live, pool if detach else None)


def _captured(site: str, params: Mapping[str, object]) -> TensorSet:
    try:
        return TensorSet.from_params(params)
    except FlareError as exc:
        raise TrainingFailed(site, f"the params cannot travel: {exc}") from exc


def _cast(params: Mapping[str, object], dtypes: Mapping[str, str]) -> dict[str, object]:
    done: dict[int, object] = {}  # tied values stay tied
    cast = dict(params)
    for name, dtype in dtypes.items():
        value = params[name]
        if id(value) not in done:
            done[id(value)] = _cast_value(value, dtype)
        cast[name] = done[id(value)]
    return cast


def _cast_value(value: object, dtype: str) -> object:
    torch_module = sys.modules.get("torch")
    if torch_module is not None and isinstance(value, torch_module.Tensor):
        tensor = cast("torch.Tensor", value)
        return tensor.detach().to(torch_dtype(dtype))
    with np.errstate(over="ignore"):  # infinity is what admission refuses, with the site's name
        return np.asarray(value).astype(numpy_dtype(dtype))


def _arranged(
    tensors: TensorSet, expected: TensorSet, live: set[str], pool: SlotPool | None
) -> TensorSet:
    if not live and not tensors.aliases and pool is not None:
        return tensors  # what nobody else can reach is not the slot's memory either
    shared = {tensors.aliases.get(name, name) for name in live}
    views: dict[str, memoryview] = {}
    aliases: dict[str, str] = {}
    first: dict[str, str] = {}
    for spec in expected.specs:
        known = tensors.aliases.get(spec.name, spec.name)
        if known in first:
            aliases[spec.name] = first[known]
            continue
        first[known] = spec.name
        flat = np.frombuffer(tensors[known], np.uint8)
        live_here = known in shared or (pool is not None and pool.owns(flat))
        views[spec.name] = flat.copy().data if live_here else tensors[known]
    return TensorSet.from_views(expected.specs, views, aliases)


def _is_fresh(params: Mapping[str, object], name: str) -> bool:
    """Return whether nothing but ``params`` can reach the memory of one of its values.

    References are counted as for a value that certainly is fresh, so that the interpreter's own
    share (which differs between versions) cancels out. A wrong guess costs a copy.
    """
    value = params[name]
    if type(value) is not np.ndarray:
        return isinstance(value, np.generic)
    base = value.base
    del value
    if base is None:
        return _references(params, name) <= _references({name: np.empty(1)}, name)
    if type(base) is not np.ndarray or base.base is not None:
        return False
    del base
    probe: dict[str, object] = {name: np.empty(2)[:1]}
    return _references(params, name) <= _references(probe, name) and _base_references(
        params, name
    ) <= _base_references(probe, name)


def _references(params: Mapping[str, object], name: str) -> int:
    return sys.getrefcount(params[name])


def _base_references(params: Mapping[str, object], name: str) -> int:
    return sys.getrefcount(getattr(params[name], "base", None))


def checked_metrics(site: str, metrics: Mapping[str, object] | None) -> dict[str, float]:
    """Return the metrics as plain floats: whatever ``float()`` accepts, 0-d tensors included.

    Raises:
        TrainingFailed: a key is no text, or a value is no number; the message names the key.
    """
    return {
        _checked_key(site, "metrics", key): _number(site, key, value)
        for key, value in (metrics or {}).items()
    }


def _number(site: str, key: str, value: object) -> float:
    try:
        detach = getattr(value, "detach", None)  # torch warns when a gradient is cut in silence
        number = value if detach is None else detach()
        item = getattr(number, "item", None)  # NumPy warns for an array of one element
        return float(number if item is None else item())  # type: ignore[arg-type]
    except Exception as exc:
        raise TrainingFailed(
            site, f"metric {key!r} is {type(value).__name__}, no number ({exc})"
        ) from exc


def checked_meta(site: str, meta: Mapping[str, object]) -> dict[str, Scalar]:
    """Return the metadata as plain scalars.

    Raises:
        TrainingFailed: a key is no text, or a value is no scalar or an integer beyond 64 bits.
    """
    return {
        _checked_key(site, "meta", key): _scalar(site, key, value) for key, value in meta.items()
    }


def _scalar(site: str, key: str, value: object) -> Scalar:
    if getattr(value, "ndim", None) == 0:
        value = getattr(value, "item", lambda: value)()
    if value is None or isinstance(value, str | bool | float):
        return _exact(value)
    if isinstance(value, int) and -WORD <= value < WORD:
        return int(value)
    raise TrainingFailed(site, f"meta {key!r} is {type(value).__name__}, no scalar of 64 bits")


def _exact(value: str | bool | float | None) -> Scalar:
    """Return an instance of the very type: an enumeration's member would not travel."""
    if isinstance(value, str):
        return str.__str__(value)
    return float(value) if isinstance(value, float) else value


def _checked_key(site: str, where: str, key: object) -> str:
    if not isinstance(key, str):
        raise TrainingFailed(site, f"{where} key {key!r} is {type(key).__name__}, use text")
    return str.__str__(key)
