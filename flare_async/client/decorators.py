"""The deprecated decorators ``train`` and ``evaluate``: a function instead of receive and send."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar, overload

from flare_async.client.api import APIContext, current
from flare_async.errors import ClientCallError, ClientTypeError
from flare_async.model import FLModel

__all__ = ["evaluate", "train"]

P = ParamSpec("P")
ResultT = TypeVar("ResultT")


@overload
def train(function: Callable[P, FLModel], /) -> Callable[P, FLModel]: ...
@overload
def train(
    *, ctx: APIContext | None = None
) -> Callable[[Callable[P, FLModel]], Callable[P, FLModel]]: ...
def train(
    function: Callable[P, FLModel] | None = None, /, *, ctx: APIContext | None = None
) -> Callable[P, FLModel] | Callable[[Callable[P, FLModel]], Callable[P, FLModel]]:
    """Let a function ``(model, ...) -> FLModel`` receive its first argument and send its result.

    Metrics that an ``evaluate`` function of the same task returned become those of the result.
    Deprecated: call ``receive`` and ``send``.
    """
    if function is None:
        return functools.partial(_train, ctx=ctx)
    return _train(function, ctx=ctx)


@overload
def evaluate(function: Callable[P, ResultT], /) -> Callable[P, ResultT]: ...
@overload
def evaluate(
    *, ctx: APIContext | None = None
) -> Callable[[Callable[P, ResultT]], Callable[P, ResultT]]: ...
def evaluate(
    function: Callable[P, ResultT] | None = None, /, *, ctx: APIContext | None = None
) -> Callable[P, ResultT] | Callable[[Callable[P, ResultT]], Callable[P, ResultT]]:
    """Let a function ``(model, ...) -> metrics`` receive its first argument.

    What it returns (a number, or a dict of numbers) goes with the model that ``train`` sends next.
    Deprecated: put metrics into the ``FLModel`` that is sent.
    """
    if function is None:
        return functools.partial(_evaluate, ctx=ctx)
    return _evaluate(function, ctx=ctx)


def _train(function: Callable[P, FLModel], *, ctx: APIContext | None) -> Callable[P, FLModel]:
    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> FLModel:
        context = current(ctx)
        model = _received(context, function)
        result: object = _with_first(function, model)(*args, **kwargs)
        if not isinstance(result, FLModel):
            kind = type(result).__name__
            problem = f"{function.__name__} returned {kind}; return an FLModel"
            raise ClientTypeError(f"train: {problem}")
        found = model.meta.pop(_EVALUATED, None)
        if isinstance(found, dict):
            result.metrics = found
        context.send(result)
        return result

    return call


def _evaluate(function: Callable[P, ResultT], *, ctx: APIContext | None) -> Callable[P, ResultT]:
    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> ResultT:
        model = _received(current(ctx), function)
        result = _with_first(function, model)(*args, **kwargs)
        metrics = result if isinstance(result, dict) else {"accuracy": result}
        model.meta[_EVALUATED] = metrics
        return result

    return call


_EVALUATED = "__evaluated__"  # in the received model's meta, which goes when the task is done


def _received(context: APIContext, function: Callable[..., object]) -> FLModel:
    model = context.receive()
    if model is None:
        name = getattr(function, "__name__", "the function")
        raise ClientCallError(f"{name}: there is no task; call it while is_running() is true")
    return model


def _with_first(function: Callable[P, ResultT], model: FLModel) -> Callable[P, ResultT]:
    """Return a caller that puts ``model`` in the place of the first argument."""
    first = next(iter(inspect.signature(function).parameters), None)
    if first is None:
        raise ClientTypeError(f"{function.__name__}: takes no argument; the model is its first")

    def call(*args: P.args, **kwargs: P.kwargs) -> ResultT:
        given: dict[str, object] = dict(kwargs)
        given.pop(first, None)
        return function(model, *args[1:], **given)  # type: ignore[arg-type]

    return call
