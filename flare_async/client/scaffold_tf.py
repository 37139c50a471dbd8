"""SCAFFOLD at a site, for Keras; the equations are those of ``flare_async.client.scaffold``.

Keras is not imported for it: a model is known by its weights. Controls come and go under the names
that the model's arrays have, by layers or by paths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from flare_async.client.scaffold_control import AlgorithmConstants, SiteControl
from flare_async.model import FLModel
from flare_async.transfer.keras_weights import KerasModel, places_of
from flare_async.transfer.layers import flattened

__all__ = ["ScaffoldCallback", "TFScaffoldHelper", "get_lr_values"]

Array: TypeAlias = npt.NDArray[np.floating]
Controls: TypeAlias = dict[str, Array]  # by the places of weights in ``model.weights``


class Variable(Protocol):
    """One weight of a model."""

    def numpy(self) -> Array:
        """Return its value."""
        ...

    def assign(self, value: Array) -> object:
        """Give it another one."""
        ...


class Model(KerasModel, Protocol):
    """A Keras model."""

    @property
    def weights(self) -> Sequence[Variable]:
        """All weights, in the order of ``get_weights``."""

    @property
    def trainable_weights(self) -> Sequence[Variable]:
        """Those that have a gradient."""


class TFScaffoldHelper:
    """A site's control and the steps of a round; used as ``PTScaffoldHelper`` is.

    Only trainable weights are corrected, and of these only what the server has controls for.
    """

    def __init__(self) -> None:
        self.cnt = 0
        self._rates = 0.0
        self.model: Model | None = None
        self._places: dict[str, int] = {}
        self._global: Controls = {}
        self._own: SiteControl[Array] = SiteControl({})
        self._delta: dict[str, Array] | None = None

    def init(self, model: Model) -> None:
        """Begin with controls of zero for the trainable weights of ``model``."""
        self.model = model
        trained = {id(weight) for weight in model.trainable_weights}
        numbered = enumerate(model.weights)
        self._own = SiteControl({str(at): w.numpy() * 0 for at, w in numbered if id(w) in trained})

    def receive(self, model: FLModel, site: str) -> None:
        """Take what a model brings: the server's controls, and what became of the last update.

        ``site`` is this site's name.

        Raises:
            ValueError: ``init`` was not called, or a control has another shape than its weight.
            TensorFormatError: they are named as the weights of another model.
        """
        controls = model.meta[AlgorithmConstants.SCAFFOLD_CTRL_GLOBAL]
        self._own.begin(model, site)
        self._load(cast("Mapping[str, object]", controls))

    def load_global_controls(self, weights: Mapping[str, object]) -> None:
        """Take the server's controls, as ``model.meta`` has them.

        What became of the last update is read from the script's current model.

        Raises:
            ValueError: as ``receive``, or no script calls.
            TensorFormatError: they are named as the weights of another model.
        """
        self._own.begin_script()
        self._load(weights)

    def _load(self, weights: Mapping[str, object]) -> None:
        if self.model is None:
            raise ValueError("call init(model) before the first round")
        given = flattened(weights)
        self._places = places_of(self.model, list(given))
        self._global = {}
        for name, at in self._places.items():
            own = self.model.weights[at].numpy()
            value = np.array(given[name], dtype=own.dtype)
            if value.shape != own.shape:
                raise ValueError(f"control {name!r} is {value.shape}, the weight is {own.shape}")
            if str(at) in self._own.value:
                self._global[str(at)] = value

    def get_params(self) -> tuple[Controls, Controls]:
        """Begin a round; return the server's control and the site's own.

        Raises:
            ValueError: ``init`` was not called.
        """
        if self.model is None:
            raise ValueError("call init(model) before the first round")
        self.cnt, self._rates, self._delta = 0, 0.0, None
        return self._global, dict(self._own.value)

    def model_update(
        self, model: Model, curr_lr: object, c_global_para: Controls, c_local_para: Controls
    ) -> None:
        """Correct the step that the optimizer has just taken with the rate ``curr_lr``."""
        rate = rate_of(curr_lr)
        for at, server in c_global_para.items():
            weight = model.weights[int(at)]
            weight.assign(weight.numpy() - rate * (server - c_local_para[at]))
        self.cnt += 1
        self._rates += rate

    def terms_update(
        self,
        model: Model,
        curr_lr: object,
        c_global_para: Controls,
        c_local_para: Controls,
        model_global: Model | Mapping[str, object],
    ) -> None:
        """Compute the site's new control; ``model_global`` is the model, or params, as received.

        Raises:
            ValueError: no step was taken with a rate above 0.
        """
        if not self._rates > 0:
            raise ValueError(f"{self.cnt} steps with a rate of {curr_lr}: nothing was learnt")
        names = {str(at): name for name, at in self._places.items()}
        delta = {name: np.zeros_like(model.weights[int(at)].numpy()) for at, name in names.items()}
        new = dict(c_local_para)
        for at, server in c_global_para.items():
            here, own = model.weights[int(at)].numpy(), c_local_para[at]
            moved = (value_of(model_global, int(at), names[at]) - here) / self._rates
            new[at] = (own - server + moved).astype(own.dtype)
            delta[names[at]] = new[at] - own
        self._own.renew(new)
        self._delta = delta

    def get_delta_controls(self) -> dict[str, Array]:
        """Return what to send: how the site's control has changed.

        Raises:
            ValueError: ``terms_update`` was not called in this round.
        """
        if self._delta is None:
            raise ValueError("call terms_update after the last step of the round")
        return self._delta

    def state_dict(self) -> dict[str, Array]:
        """Return the site's control, to be kept in a file where a process ends with its task."""
        return {name: value.copy() for name, value in self._own.state().items()}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Take the control that ``state_dict`` gave, after ``init``.

        Raises:
            ValueError: it is that of another model.
        """
        self._own = self._own.taking(state, lambda value, own: np.array(value, dtype=own.dtype))


def value_of(received: Model | Mapping[str, object], at: int, name: str) -> Array:
    """Return the value of a weight of a model, or of params."""
    if isinstance(received, Mapping):
        return np.asarray(flattened(received)[name])
    return received.weights[at].numpy()


def ScaffoldCallback(scaffold_helper: TFScaffoldHelper) -> object:
    """Return a callback for ``fit`` that corrects every step, as the algorithm has it.

    Make one for each round, after ``receive`` or ``load_global_controls``.

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
