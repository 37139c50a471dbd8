"""A user's project on disk: files that import each other, and the recipe that one of them makes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

from flare_async.jobs.jobfile import UserCode

HELPER = '''
def shift(value, by=1):
    """Return the value and a bit."""
    return value + by
'''
JOB = '''
import functools
import json
from dataclasses import dataclass

import numpy as np

import helper
from flare_async import FLModel
from flare_async.jobs.recipe import Recipe
from flare_async.recipes import FedAvgRecipe
from flare_async.transfer.filters import ArrayFilter


def train(model, site, by=1):
    """Add to the model."""
    return FLModel(params={"w": helper.shift(model.params["w"], by)})


class Halved(ArrayFilter):
    def __init__(self, times):
        self.times = times

    def array(self, name, array, passage):
        return array / 2**self.times


@dataclass
class Mean:
    """Aggregates by hand."""

    bias: float = 0.0

    def __post_init__(self):
        self.reset_stats()

    def accept_model(self, model):
        self.found.append(model)

    def aggregate_model(self):
        mean = sum(one.params["w"] for one in self.found) / len(self.found)
        return FLModel(params={"w": (mean + self.bias).astype(np.float32)})

    def reset_stats(self):
        self.found = []


@dataclass(kw_only=True, eq=False)
class Mine(FedAvgRecipe):
    """A recipe of the user's."""

    extra: float = 1.0


def made(**options):
    given = {"model": {"w": np.zeros(3, np.float32)}, "train": train, "min_clients": 2}
    return FedAvgRecipe(**{**given, **options})


def mine(**options):
    given = {"model": {"w": np.zeros(3, np.float32)}, "train": train, "min_clients": 2}
    return Mine(**{**given, **options})
'''


def project(folder: Path) -> ModuleType:
    """Write the project and return the module of its job."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "helper.py").write_text(HELPER)
    (folder / "job.py").write_text(JOB)
    return UserCode().module(folder / "job.py")


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m flare_async.sim`` elsewhere, as another user of the folder does."""
    words = [sys.executable, "-m", "flare_async.sim", *arguments]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
