"""How large a value may be so that no sum, whoever else is in it, becomes infinite."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from flare_async.errors import UpdateRefused
from flare_async.model import ParamsType
from flare_async.transfer.exact import FixedPoint
from flare_async.transfer.kernel import CHUNK, Precision, largest
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.sums import Contribution
from flare_async.transfer.tensors import TensorSet

__all__ = ["MIN_WEIGHT", "Bounds"]

MIN_WEIGHT: Final = 2.0**-53  # below, products are lost in float32, and with them the mean
_FLOAT32: Final = float(np.finfo(np.float32).max)
_FLOAT64: Final = float(np.finfo(np.float64).max)
_LARGEST: Final = {
    "F16": 65504.0,
    "BF16": float.fromhex("0x1.fep127"),
    "F32": _FLOAT32,
    "C64": _FLOAT32,
    "F64": _FLOAT64,
}  # eight-bit types and integers saturate
_HALF: Final = 0.5  # room for what adding rounds up
_PARTIAL: Final = 0.501  # and for what dividing and multiplying by a group's weight does


class Bounds:
    """The largest values of updates to a model, of which ``sites`` may be in one sum.

    Each site has its part of what a sum holds, so whether an update fits depends on nobody else.
    """

    def __init__(self, model: TensorSet, sites: int, fixed: FixedPoint | None) -> None:
        self._model = model
        self._sites = sites
        self._fixed = fixed
        self._found: dict[str, float] = {}

    def checking(
        self, contribution: Contribution, spec: TensorSpec, precision: Precision, top: float
    ) -> Iterator[None]:
        """Check a tensor whose largest value is ``top``; yields while it looks at the model.

        Raises:
            UpdateRefused: naming the tensor, its largest value and the most that there may be.
        """
        site = contribution.site
        if self._fixed is not None:
            self._fixed.check(contribution, spec, top)
        else:
            most = self._most(contribution, precision)
            if top > most:
                problem = (
                    f"its largest value {top:.3g} is above {most:.3g}: times the weight "
                    f"{contribution.weight:.3g}, a {precision} sum of {self._sites} sites may "
                    "become infinite"
                )
                raise UpdateRefused(site, problem, spec.name)
        held = _LARGEST.get(spec.dtype)
        if contribution.kind is ParamsType.DIFF and held is not None:
            yield from self._look_at_model(spec)
            if self._found[spec.name] + top > held:
                problem = f"its largest value {top:.3g}, added to the model, leaves {spec.dtype}"
                raise UpdateRefused(site, problem, spec.name)

    def _most(self, contribution: Contribution, precision: Precision) -> float:
        held = _FLOAT32 if precision == "float32" else _FLOAT64
        shares = len(contribution.shares)
        part = _PARTIAL * shares if shares else _HALF
        return held * (part / self._sites) / contribution.weight

    def _look_at_model(self, spec: TensorSpec) -> Iterator[None]:
        if spec.name in self._found:
            return
        view, top = self._model[spec.name], 0.0
        for at in range(0, view.nbytes, CHUNK):
            top = max(top, largest(spec.dtype, view[at : at + CHUNK]))
            yield
        self._found[spec.name] = top
