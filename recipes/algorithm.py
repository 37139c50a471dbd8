"""What an algorithm does beyond averaging, and what it is told of a round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flare_async.jobs.companions import Companion
from flare_async.roles.messages import Scalar
from flare_async.roles.round import Update
from flare_async.transfer.tensors import TensorSet

__all__ = ["Algorithm", "Averaged", "PlayedRound"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Averaged:
    """What the updates of a round come to: the mean model, the mean of each answer.

    ``sites`` are those of the round in the order of the sum, ``updates`` what arrived, without
    its tensors, in the order of arrival.
    """

    number: int
    model: TensorSet
    companions: Mapping[Companion, TensorSet]
    sites: Sequence[str]
    updates: Sequence[Update]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayedRound:
    """A round that is over: the new model, and whether the run should end with it.

    ``trained`` are the metrics that training returned, ``received`` those of the model that was
    sent, both as weighted means.
    """

    model: TensorSet
    updates: Sequence[Update]
    trained: Mapping[str, float]
    received: Mapping[str, float]
    ends: bool


class Algorithm:
    """The hooks of one run, with the state that a server keeps between rounds.

    As it stands it is federated averaging: the mean is the new model.
    """

    def companions(self, number: int) -> Mapping[Companion, TensorSet]:
        """Return what is sent beside the model in round ``number``, with the slots for answers."""
        del number
        return {}

    def meta(self, number: int) -> Mapping[str, Scalar]:
        """Return numbers and texts for ``FLModel.meta`` at every site."""
        del number
        return {}

    def step(self, model: TensorSet, average: Averaged) -> TensorSet:
        """Return the new model; may run in a thread, one call at a time.

        ``model`` is what was sent. What is returned must not be written to afterwards.
        """
        del model
        return average.model
