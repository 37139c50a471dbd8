"""What a mean of a model needs on the server, from the model's types alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from flare_async.transfer.kernel import values_nbytes
from flare_async.transfer.precision import excluded_names, precisions
from flare_async.transfer.sums import adds_in_place
from flare_async.transfer.tensors import TensorSet

__all__ = ["STAGINGS", "ModelDemand", "Staging"]

Staging = Literal["spool", "repull"]

STAGINGS: Final = ("spool", "repull")
WIDTHS: Final = {"float32": 4, "float64": 8}
INT64: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDemand:
    """What a recipe asks of the server's memory, in bytes.

    ``versions`` of the ``model`` are held beside the accumulator and the first one, which is there
    before the run; ``narrowed`` is the largest tensor whose mean needs memory of its own,
    ``largest`` the largest of all. ``held`` updates wait until all of them are there, where the sum
    cannot take them as they come; None is those of all sites; ``buffered`` ones wait beside those
    that are under way. Whoever combines them needs ``per_update`` more for each. ``answers`` of
    each site stay at the server until the round ends, where there is no sum. ``filters`` are held
    at the server, ``slot_filters`` at every slot.
    """

    model: int
    accumulator: int
    narrowed: int = 0
    largest: int = 0
    versions: int = 1
    staging: Staging = "spool"
    held: int | None = 0
    buffered: int = 0
    per_update: int = 0
    answers: int = 0
    filters: int = 0
    slot_filters: int = 0

    def waiting(self, sites: int) -> int:
        """Return how many updates of so many sites wait until they are combined."""
        return self.buffered + (sites if self.held is None else self.held)

    @classmethod
    def of_mean(
        cls,
        model: TensorSet,
        *,
        accumulator: str | None = None,
        exclude: str | None = None,
        versions: int = 1,
        staging: Staging = "spool",
        exact: bool = False,
    ) -> ModelDemand:
        """Return what a weighted mean of such models needs; an ``exact`` one adds in int64.

        Raises:
            ConfigError: ``accumulator`` or ``exclude`` cannot be used with this model.
        """
        kinds = precisions(model, accumulator, excluded_names(model, exclude))
        needed, narrowed = 0, 0
        for name, kind in kinds.items():
            spec, width = model.spec(name), INT64 if exact else WIDTHS[kind]
            needed += spec.nbytes // values_nbytes(spec.dtype) * width
            if exact or not adds_in_place(spec, kind):
                narrowed = max(narrowed, spec.nbytes)
        return cls(
            model=model.nbytes,
            accumulator=needed,
            narrowed=narrowed,
            largest=max((spec.nbytes for spec in model.specs), default=0),
            versions=versions,
            staging=staging,
        )
