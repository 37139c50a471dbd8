"""Slots: what sites answer where that is no model of the kind that they were sent.

A slot is a companion without a value: zeros of the answer's type. Sites do not see it; what they
return as ``params`` under its name goes into it. A slot with one dimension is room for an array of
any shape: the shape travels in ``meta``, and the server cuts the rest off. So every way that an
update can take, through workers, relays and reducers, knows the bytes of an answer beforehand.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from flare_async.errors import TrainingFailed, UpdateRefused
from flare_async.jobs.companions import RESERVED, Companion, companion_names, parted
from flare_async.model import FLModel, ParamsType
from flare_async.roles.messages import Scalar
from flare_async.transfer.capture import Array
from flare_async.transfer.dtypes import numpy_dtype
from flare_async.transfer.spec import MAX_NDIM, TensorSpec
from flare_async.transfer.tensors import TensorSet

__all__ = ["SLOTS", "answers_of", "check_shapes", "filled", "has_model", "slots"]

SLOTS: Final = Companion(answer="flare.params")
SHAPE: Final = "shape."  # before a slot's name, in meta
SIZES: Final = re.compile(r"[0-9]{1,10}(,[0-9]{1,10})*")
NUMBERS: Final = "biuf"


def slots(**shapes: tuple[int, ...]) -> dict[Companion, TensorSet]:
    """Return slots of float64 to send beside a model; a single dimension is room for values."""
    zeros = {name: np.zeros(shape) for name, shape in shapes.items()}
    return {SLOTS: TensorSet.from_params(zeros)}


def has_model(sent: TensorSet) -> bool:
    """Return whether there is anything to evaluate, besides companions."""
    return any(not name.startswith(RESERVED) for name in sent)


def filled(site: str, model: FLModel, sent: TensorSet) -> FLModel:
    """Return what user code returned, as the answer to the slots in ``sent``.

    In place of the model's own tensors, which nobody asked for, stand zeros. Without slots the
    model is returned as it is.

    Raises:
        TrainingFailed: an answer is missing, is no array of numbers, or has no room in its slot.
    """
    names = companion_names(spec.name for spec in sent.specs).get(SLOTS)
    if names is None:
        return model
    given, meta = model.params or {}, dict(model.meta)
    if model.params_type is ParamsType.DIFF:
        raise TrainingFailed(site, f"return {sorted(names)} as they are, not as a difference")
    answers: dict[str, object] = {}
    for name, wire in names.items():
        if name not in given:
            raise TrainingFailed(site, f"params lack {name!r}: return {sorted(names)}")
        array = _numbers(site, name, given[name])
        spec = sent.spec(wire)
        if len(spec.shape) == 1:
            meta[SHAPE + name] = ",".join(str(size) for size in array.shape)
        answers[name] = _fitted(site, name, array, spec)
    taken = {
        wire
        for of in companion_names(spec.name for spec in sent.specs).values()
        for wire in of.values()
    }
    zeros: dict[str, object] = {
        spec.name: np.zeros(spec.shape, numpy_dtype(spec.dtype))
        for spec in sent.specs
        if spec.name not in taken
    }
    return replace(model, params=zeros, meta={**meta, SLOTS.answer: answers})


def _numbers(site: str, name: str, value: object) -> Array:
    try:
        array = np.asarray(value)
    except Exception as exc:
        raise TrainingFailed(site, f"params[{name!r}] is no array: {exc}") from exc
    if array.dtype.kind not in NUMBERS:
        raise TrainingFailed(site, f"params[{name!r}] has {array.dtype}, numbers are needed")
    return array


def _fitted(site: str, name: str, array: Array, spec: TensorSpec) -> Array:
    values = array.astype(numpy_dtype(spec.dtype))
    if len(spec.shape) != 1:
        if array.shape == spec.shape:
            return values
        shapes = f"{list(array.shape)}, not {list(spec.shape)}"
        raise TrainingFailed(site, f"params[{name!r}] has the shape {shapes}")
    if array.size > spec.elements or array.ndim == 0:
        problem = f"{list(array.shape)} are {array.size} values, there is room for {spec.elements}"
        raise TrainingFailed(site, f"params[{name!r}]: {problem}; see max_values= of the recipe")
    room = np.zeros(spec.shape, numpy_dtype(spec.dtype))
    room[: array.size] = values.reshape(-1)
    return room


def check_shapes(site: str, meta: Mapping[str, Scalar], room: Mapping[str, int]) -> None:
    """Check the shapes that a site says its answers have, before anything is pulled.

    Raises:
        UpdateRefused: one is missing, is no shape, or has more values than there is room for.
    """
    for name, most in room.items():
        _shape(site, name, meta, most)


def _shape(site: str, name: str, meta: Mapping[str, Scalar], most: int) -> tuple[int, ...]:
    text = meta.get(SHAPE + name)
    if not isinstance(text, str) or not SIZES.fullmatch(text):
        raise UpdateRefused(site, f"meta {SHAPE + name!r} is {text!r:.40}, no shape", name)
    shape = tuple(int(size) for size in text.split(","))
    if len(shape) > MAX_NDIM or math.prod(shape) > most:
        raise UpdateRefused(site, f"shape {text:.40} has no room in {most} values", name)
    return shape


def answers_of(site: str, tensors: TensorSet, meta: Mapping[str, Scalar]) -> dict[str, Array]:
    """Return what a site answered, in arrays of their own without what is cut off.

    Raises:
        UpdateRefused: the site's shapes do not fit.
    """
    found = parted(tensors)[1].get(SLOTS)
    if found is None:
        return {}
    arrays: dict[str, Array] = {}
    for name, array in found.numpy().items():
        shape = array.shape
        if array.ndim == 1:
            shape = _shape(site, name, meta, array.size)
        arrays[name] = array.reshape(-1)[: math.prod(shape)].reshape(shape).copy()
    return arrays
