"""F38 in whole rounds: what would poison the model is refused by its tensor; the others go on."""

from __future__ import annotations

import re

import numpy as np
import pytest

from flare_async.jobs.repull import Repull
from flare_async.roles.round import RoundTask
from flare_async.transfer.mean import MeanOptions, WeightedMean
from flare_async.transfer.repull import RepulledMean
from flare_async.transfer.tensors import TensorSet
from tests.faults.world import SMALL_WINDOWS
from tests.roles.federation import SCHEMES, Trains, federation, settle

SIZE = 100_000  # of the second tensor: a hundred KiB are before the bad value
MODEL = TensorSet.from_params(
    {"first": np.ones(7, np.float32), "w": np.arange(SIZE, dtype=np.float32)}
)
ORDER = ["before", "bad", "after"]
OPTIONS = MeanOptions(max_norm=1e9)


def with_value(value):
    """Return what replaces one value of the second tensor."""

    def change(arrays):
        arrays["w"][SIZE - 3] = value

    return change


def as_type(dtype):
    """Return what changes the second tensor's type."""

    def change(arrays):
        arrays["w"] = arrays["w"].astype(dtype)

    return change


def reshaped(arrays):
    """Turn the second tensor."""
    arrays["w"] = arrays["w"].reshape(2, -1)


def huge(arrays):
    """Be finite, and useless."""
    arrays["w"][:] = 1e30


def lacking(arrays):
    """Lose a tensor."""
    del arrays["w"]


CASES = {
    "nan": (with_value(np.nan), r"bad, tensor 'w': a value in bytes \d+ to \d+ is not finite"),
    "inf": (with_value(np.inf), r"bad, tensor 'w': a value in bytes \d+ to \d+ is not finite"),
    "-inf": (with_value(-np.inf), r"bad, tensor 'w': a value in bytes \d+ to \d+ is not finite"),
    "shape": (reshaped, r"bad: .*'w' is F32\[2, 50000\], not F32\[100000\]"),
    "double": (as_type(np.float64), r"bad: .*'w' is F64\[100000\], not F32\[100000\]"),
    "half": (as_type(np.float16), r"bad: .*'w' is F16\[100000\], not F32\[100000\]"),
    "int": (as_type(np.int32), r"bad: .*'w' is I32\[100000\], not F32\[100000\]"),
    "norm": (huge, r"bad, tensor 'w': its norm 3\.16e\+32 is above 1e\+09"),
    "missing": (lacking, r"bad: .*'w'.*"),
}


class Poisons(Trains):
    """A worker whose first update is changed by ``poison``."""

    def __init__(self, poison):
        super().__init__(0.5)
        self.poison = poison

    async def run(self, task):
        """Work on one task."""
        result = await super().run(task)
        if len(self.tasks) == 1:
            arrays = {name: np.array(array) for name, array in result.tensors.numpy().items()}
            with np.errstate(over="ignore"):
                self.poison(arrays)
            object.__setattr__(result, "tensors", TensorSet.from_params(arrays))
        return result


def rounds(sim, scheme, kind, bad):
    """Run two rounds; return both models' digests and the records."""
    workers = {"before": Trains(0.1, weight=3.0), "bad": bad, "after": Trains(0.7, weight=0.3)}

    async def play(made, number, sites):
        mean = kind(MODEL, order=ORDER, options=OPTIONS)
        async with made.cohort.round(
            RoundTask("job", number, 2),
            MODEL,
            sites=sites,
            quorum=2,
            reducer=mean,
            weigh=lambda _, meta: meta["weight"],
        ) as updates:
            found = [update async for _, update in updates]
            if kind is WeightedMean:
                return mean.finish().model_digest()
            return (await mean.pull_again(Repull(made.server, found))).model_digest()

    async def main():
        async with federation(workers, scheme=scheme, limits=SMALL_WINDOWS) as made:
            found = [await play(made, number, ORDER) for number in range(2)]
            calm = await play(made, 2, ["before", "after"])
            await settle()
            return *found, calm, made.seen

    return sim(main)


@pytest.mark.parametrize("kind", [WeightedMean, RepulledMean])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("case", CASES)
def test_f38_a_poisoned_update_is_refused_by_its_tensor(sim, scheme, kind, case):
    """The bits are those of the round without the site, which takes part in the next one."""
    poison, reason = CASES[case]
    first, second, calm, seen = rounds(sim, scheme, kind, Poisons(poison))
    assert seen.status(0) == {"before": "ok", "bad": "refused", "after": "ok"}
    assert re.fullmatch(reason, seen.records[0, "bad"].reason)
    assert seen.status(1) == dict.fromkeys(ORDER, "ok")
    assert first == calm != second
