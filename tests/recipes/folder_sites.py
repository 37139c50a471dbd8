"""What sites do in the tests of job folders; a folder has a copy of this file."""

from __future__ import annotations

from flare_async import FLModel
from flare_async.recipes.statistics import DataType, Feature, Statistics


def evaluate(model, site):
    """Return the sum of the model's values, and a weight."""
    total = sum(float(value.sum()) for value in model.params.values())
    return {"total": total, "num_examples": site.index + 1}


def add_half(model, site):
    """Add a half to everything."""
    return FLModel(params={name: value + 0.5 for name, value in model.params.items()})


def add_half_to_arrays(model, site):
    """Add a half to what is averaged; the loss is told with it."""
    assert model.params["loss"] == "log_loss"
    return FLModel(params={name: model.params[name] + 0.5 for name in ("coef", "intercept")})


def torch_add(model, site):
    """Add one to tensors of PyTorch."""
    return FLModel(params={name: value + 1 for name, value in model.params.items()})


class Ages(Statistics):
    """As many ages at every site, the first of which is given."""

    def __init__(self, first):
        self.ages = list(range(first, first + 40))

    def features(self):
        """Return the one feature."""
        return {"train": [Feature("age", DataType.INT)]}

    def count(self, dataset_name, feature_name):
        """Return how many there are."""
        return len(self.ages)

    def sum(self, dataset_name, feature_name):
        """Return what they come to."""
        return float(sum(self.ages))
