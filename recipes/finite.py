"""A look at what the server itself has computed: a model that is not finite is nobody's update."""

from __future__ import annotations

from collections.abc import Collection

from flare_async.errors import TrainingFailed
from flare_async.transfer.kernel import CHUNK, is_summable, not_finite
from flare_async.transfer.tensors import TensorSet

__all__ = ["check_finite"]


def check_finite(model: TensorSet, whose: str, spared: Collection[str] = ()) -> None:
    """Look at every tensor but those that are ``spared``, which nobody has computed.

    Raises:
        TrainingFailed: a value is infinite or no number; the message names the tensor.
    """
    for spec in model.specs:
        if spec.name in spared or spec.name in model.aliases or not is_summable(spec.dtype):
            continue
        view = model[spec.name]
        for at in range(0, spec.nbytes, CHUNK):
            if not_finite(spec.dtype, view[at : at + CHUNK]):
                raise TrainingFailed(whose, f"tensor {spec.name!r} of the new model is not finite")
