"""Train functions and filters; other processes load them by this file's path."""

from __future__ import annotations

from flare_async import FLModel
from flare_async.transfer.filters import Filter
from flare_async.transfer.filters.cells import cellwise


def train(model, site):
    """Add noise of the site's own to every value."""
    new = {
        name: value + (0.1 * site.rng.normal(size=value.shape)).astype(value.dtype)
        for name, value in sorted(model.params.items())
    }
    return FLModel(params=new, meta={"NUM_STEPS_CURRENT_ROUND": site.index + 1})


def mean_of(model, site):
    """Return the mean of the received model as a metric."""
    return {"accuracy": float(model.params["w"].mean())}


class Adds(Filter):
    """Adds a number to every float; remembers who passed."""

    def __init__(self, number):
        self.number, self.passed = number, []

    def apply(self, source, passage):
        self.passed.append((passage.task, passage.site, passage.round_number, str(passage.kind)))
        return cellwise(source, lambda _tensor, _cell, values: values + self.number)


class Doubles(Filter):
    """Doubles every float."""

    def apply(self, source, passage):
        return cellwise(source, lambda _tensor, _cell, values: values * 2)


class Broken(Filter):
    """Raises."""

    def apply(self, source, passage):
        raise LookupError(f"nothing is known of {passage.site}")


class Forgets(Filter):
    """Returns nothing."""

    def apply(self, source, passage):
        return None


class Cuts(Filter):
    """Returns another shape than it got."""

    def apply(self, source, passage):
        import numpy as np

        from flare_async.transfer.tensors import TensorSet

        return TensorSet.from_params({"w": np.zeros(3, np.float32)})
