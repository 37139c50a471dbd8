"""SCAFFOLD at a site, for Keras; the equations are those of ``flare_async.client.scaffold``.

Keras is not imported for it: a model is known by its layers, and a layer by its weights. Controls
come and go as the model's arrays do, in lists by the names of the layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["ScaffoldCallback", "TFScaffoldHelper", "get_lr_values"]

Arrays: TypeAlias = list[npt.NDArray[np.floating]]
Controls: TypeAlias = dict[str, Arrays]


class Variable(Protocol):
    """One weight of a layer."""

    def numpy(self) -> npt.NDArray[np.floating]:
        """Return its value."""
        ...

    def assign(self, value: npt.NDArray[np.floating]) -> object:
        """Give it another one."""
        ...


class Layer(Protocol):
    """A layer; ``weights`` has the order of ``get_weights``."""

    @property
    def name(self) -> str:
        """What params and controls are listed under."""

    @property
    def weights(self) -> Sequence[Variable]:
        """All weights."""

    @property
    def trainable_weights(self) -> Sequence[Variable]:
        """Those that have a gradient."""


class Model(Protocol):
    """A Keras model."""

    @property
    def layers(self) -> Sequence[Layer]:
        """Its layers."""


class TFScaffoldHelper:
    """A site's control and the steps of a round; used as ``PTScaffoldHelper`` is.

    Only trainable weights are corrected.
    """

    def __init__(self) -> None:
        self.cnt = 0
        self._rates = 0.0
        self.model: Model | None = None
        self._global: Controls = {}
        self._local: Controls = {}
        self._delta: Controls | None = None

    def init(self, model: Model) -> None:
        """Begin with controls of zero for the weights of ``model``."""
        self.model = model
        self._global = {name: [v * 0 for v in values] for name, values in values_of(model).items()}
        self._local = {name: [v.copy() for v in zeros] for name, zeros in self._global.items()}

    def load_global_controls(self, weights: Mapping[str, Sequence[object]]) -> None:
        """Take the server's controls, as ``model.meta`` has them.

        Raises:
            ValueError: a layer is missing, or has other weights.
        """
        for name, own in self._global.items():
            given = [np.array(value, dtype=own[0].dtype) for value in weights.get(name, ())]
            if [value.shape for value in given] != [value.shape for value in own]:
                raise ValueError(f"layer {name!r}: {len(given)} controls for {len(own)} weights")
            self._global[name] = given

    def get_params(self) -> tuple[Controls, Controls]:
        """Begin a round; return the server's control and the site's own.

        Raises:
            ValueError: ``init`` was not called.
        """
        if self.model is None:
            raise ValueError("call init(model) before the first round")
        self.cnt, self._rates, self._delta = 0, 0.0, None
        return self._global, self._local

    def model_update(
        self, model: Model, curr_lr: object, c_global_para: Controls, c_local_para: Controls
    ) -> None:
        """Correct the step that the optimizer has just taken with the rate ``curr_lr``."""
        rate = rate_of(curr_lr)
        for layer in layers_of(model):
            trained = {id(weight) for weight in layer.trainable_weights}
            controls = zip(c_global_para[layer.name], c_local_para[layer.name], strict=True)
            for weight, (server, own) in zip(layer.weights, controls, strict=True):
                if id(weight) in trained:
                    weight.assign(weight.numpy() - rate * (server - own))
        self.cnt += 1
        self._rates += rate

    def terms_update(
        self,
        model: Model,
        curr_lr: object,
        c_global_para: Controls,
        c_local_para: Controls,
        model_global: Model | Mapping[str, Sequence[npt.NDArray[np.floating]]],
    ) -> None:
        """Renew the site's control; ``model_global`` is the model, or the params, as received.

        Raises:
            ValueError: no step was taken with a rate above 0.
        """
        if not self._rates > 0:
            raise ValueError(f"{self.cnt} steps with a rate of {curr_lr}: nothing was learnt")
        start = model_global if isinstance(model_global, Mapping) else values_of(model_global)
        new: Controls = {}
        for layer in layers_of(model):
            name = layer.name
            trained = {id(weight) for weight in layer.trainable_weights}
            rows = zip(layer.weights, start[name], strict=True)
            moved = [
                (np.asarray(old) - weight.numpy()) * (id(weight) in trained) / self._rates
                for weight, old in rows
            ]
            controls = zip(c_local_para[name], c_global_para[name], moved, strict=True)
            new[name] = [(c - server + m).astype(c.dtype) for c, server, m in controls]
        self._delta = {
            name: [
                after - before for after, before in zip(new[name], c_local_para[name], strict=True)
            ]
            for name in new
        }
        self._local = new

    def get_delta_controls(self) -> Controls:
        """Return what to send: how the site's control has changed.

        Raises:
            ValueError: ``terms_update`` was not called in this round.
        """
        if self._delta is None:
            raise ValueError("call terms_update after the last step of the round")
        return self._delta


def ScaffoldCallback(scaffold_helper: TFScaffoldHelper) -> object:
    """Return a callback for ``fit`` that corrects every step, as the algorithm has it.

    Make one for each round, after ``load_global_controls``.

    Raises:
        ValueError: the helper's ``init`` was not called.
    """
    from keras.callbacks import LambdaCallback  # type: ignore[import-not-found]

    server, own = scaffold_helper.get_params()

    def correct(batch: int, logs: object = None) -> None:
        del batch, logs
        model = scaffold_helper.model
        if model is not None:
            rate = get_lr_values(getattr(model, "optimizer", None))[0]
            scaffold_helper.model_update(model, rate, server, own)

    made: object = LambdaCallback(on_train_batch_end=correct)
    return made


def get_lr_values(optimizer: object) -> list[float]:
    """Return the optimizer's learning rate, in a list as PyTorch's optimizers have several."""
    return [rate_of(getattr(optimizer, "learning_rate"))]  # noqa: B009 - of any optimizer


def rate_of(value: object) -> float:
    """Return a rate that is a number or a variable."""
    return float(np.asarray(value))


def layers_of(model: Model) -> list[Layer]:
    """Return the layers that have weights."""
    return [layer for layer in model.layers if layer.weights]


def values_of(model: Model) -> Controls:
    """Return the arrays of each layer that has any."""
    return {
        layer.name: [np.array(weight.numpy()) for weight in layer.weights]
        for layer in layers_of(model)
    }
