"""Updates that are held, and the models that are made of them."""

from __future__ import annotations

import numpy as np
import pytest

from flare_async.errors import LocalProtocolError, TransferError, UpdateRefused
from flare_async.model import ParamsType
from flare_async.transfer.held import Combination, HeldArea, Term
from flare_async.transfer.mean_options import MeanOptions
from flare_async.transfer.reducer import SteppedReducer
from flare_async.transfer.tensors import TensorSet
from tests.transfer.helpers import adopt, fill, numbers, params, staging

MODEL = params(w=numbers(0), n=np.array([5, 250], np.uint8), tied=numbers(9, 4))
UPDATES = [
    params(w=numbers(at), n=np.array([at, 2], np.uint8), tied=numbers(at, 4)) for at in (1, 2)
]


def area(budget=1 << 20, kind=None, **options):
    """Return an area with that much memory."""
    return HeldArea(MODEL, staging(budget), MeanOptions(**options), kind)


def held(found, update, kind=ParamsType.FULL, give=fill):
    """Return an admitted update."""
    slot = found.slot()
    give(slot.stage("a", 1.0, kind), update)
    slot.commit("a")
    return slot


def made(found, factors, keep, kind=ParamsType.FULL, give=fill):
    """Return a combination of both updates, as arrays."""
    slots = [held(found, update, kind, give) for update in UPDATES]
    terms = [Term(slot.contribution, by) for slot, by in zip(slots, factors, strict=True)]
    combination = Combination(found, MODEL, terms, keep)
    assert len(list(combination.making())) >= 3
    return combination.result().numpy()


@pytest.mark.parametrize("give", [fill, adopt])
@pytest.mark.parametrize("budget", [1 << 20, 0])
def test_a_combination_is_the_weighted_sum(budget, give):
    """Of models in memory, by reference or in the spool, computed in float64."""
    with area(budget) as found:
        result = made(found, (0.25, 0.5), 0.25, give=give)
    old, (first, second) = MODEL.numpy(), (update.numpy() for update in UPDATES)
    for name in ("w", "tied"):
        wide = (array[name].astype(np.float64) for array in (old, first, second))
        total = sum(by * array for by, array in zip((0.25, 0.25, 0.5), wide, strict=True))
        np.testing.assert_allclose(result[name], total.astype(np.float32), rtol=1e-6)
    assert result["n"].tolist() == [2, 64]


def test_differences_of_unsigned_integers_go_down_too():
    """-2 is stored as 254."""
    update = params(w=numbers(1), n=np.array([0, 254], np.uint8), tied=numbers(1, 4))
    with area() as found:
        slot = held(found, update, ParamsType.DIFF)
        combination = Combination(found, MODEL, [Term(slot.contribution, 1.0)])
        list(combination.making())
    assert combination.result().numpy()["n"].tolist() == [5, 248]


def test_excluded_tensors_keep_the_value_of_the_model():
    """Whatever an update says of them."""
    with area(exclude="tied") as found:
        result = made(found, (1.0, 0.0), 0.0)
    assert np.array_equal(result["tied"], MODEL.numpy()["tied"])
    assert np.array_equal(result["w"], UPDATES[0].numpy()["w"])


def test_tied_tensors_of_the_model_stay_tied():
    """They are made once."""
    w = numbers(1)
    model = TensorSet.from_params({"a": w, "b": w})
    found = HeldArea(model, staging(1000), MeanOptions())
    slot = found.slot()
    fill(slot.stage("s", 1.0), model)
    slot.commit("s")
    combination = Combination(found, model, [Term(slot.contribution, 1.0)])
    list(combination.making())
    assert combination.result().aliases == {"b": "a"}


def test_releasing_gives_memory_and_file_space_back():
    """So what waits is all that is held."""
    with area() as found:
        slot = held(found, UPDATES[0])
        assert found.area.memory_bytes == MODEL.nbytes
        slot.release()
        slot.release()
        assert found.area.memory_bytes == 0
        with pytest.raises(LocalProtocolError, match="no update"):
            _ = slot.contribution


def test_only_what_is_whole_finite_and_of_the_kind_is_admitted():
    """Discarding an admitted update has no effect, any other gives its memory back."""
    with area(kind=ParamsType.FULL) as found:
        slot = found.slot()
        assert isinstance(slot, SteppedReducer)
        with pytest.raises(LocalProtocolError, match="nothing is staged"):
            slot.commit("a")
        with pytest.raises(UpdateRefused, match="params_type is DIFF"):
            slot.stage("a", 1.0, ParamsType.DIFF)
        slot.stage("a", 1.0)
        with pytest.raises(TransferError, match="not whole"):
            slot.commit("a")
        bad = UPDATES[0].numpy() | {"w": numbers(1) * np.float32(np.inf)}
        fill(slot.stage("a", 1.0), TensorSet.from_params(bad))
        with pytest.raises(UpdateRefused, match="not finite"):
            slot.commit("a")
        slot.discard("a")
        assert found.area.memory_bytes == 0
        kept = held(found, UPDATES[0])
        kept.discard("a")
        assert kept.contribution.site == "a"
        with pytest.raises(LocalProtocolError, match="committed"):
            kept.stage("a", 1.0)
        with pytest.raises(LocalProtocolError, match="combined"):
            kept.finish()
