"""Updates that differ from the model or would poison it (B30, B31), and compression (B32)."""

from __future__ import annotations

import contextlib
import math
import zlib

import numpy as np
import pytest

from flare_async.errors import RemoteProtocolError, UpdateRefused
from flare_async.model import FLModel
from flare_async.transfer.admission import Admission
from flare_async.transfer.mean import WeightedMean
from flare_async.transfer.tensors import TensorSet
from flare_async.wire.codec import PREAMBLE
from flare_async.wire.head import FLAG_END, FLAG_OPTIONAL, Kind
from tests.hostile.cost import refused
from tests.hostile.machines import Victim, reason_of
from tests.test_layers import everywhere
from tests.transfer.helpers import adopt, params
from tests.wire.strategies import forged

MODEL = TensorSet.from_params({f"w{at}": np.ones((2, 3), np.float32) for at in range(8)})


def changed(**values: object) -> TensorSet:
    """Return the model with some tensors replaced, added, or left out (None)."""
    arrays: dict[str, object] = {**MODEL.numpy(), **values}
    return TensorSet.from_params({name: v for name, v in arrays.items() if v is not None})


@pytest.mark.parametrize(
    ("update", "count"),
    [
        (changed(w3=None), 1),
        (changed(extra=np.ones(1)), 1),
        (changed(w0=np.ones((3, 2), np.float32)), 1),
        (changed(w0=np.ones((2, 3), np.float64), w1=None, extra=np.ones(1)), 3),
        (TensorSet.from_params({f"x{at}": np.ones(1) for at in range(1000)}), 5),
        (TensorSet.from_params({}), 5),
    ],
)
def test_b30_a_set_of_other_tensors_is_refused_with_five_differences(
    update: TensorSet, count: int
) -> None:
    """Missing, additional, of another shape or type; nothing of it touches the sum."""
    admission = Admission(MODEL.specs)
    error = refused(lambda: admission.check("site-1", update, 1.0), UpdateRefused, "site-1: ")
    assert str(error).count("; ") == count - 1


def test_b30_a_refused_update_leaves_the_mean_as_it_was() -> None:
    """The sink says so before the first byte is written."""
    with WeightedMean(MODEL, order=["bad", "good"]) as mean:
        with pytest.raises(UpdateRefused):
            adopt(mean.stage("bad", 1.0), changed(w0=np.ones(6, np.float32)))
        mean.discard("bad")
        adopt(mean.stage("good", 1.0), MODEL)
        mean.commit("good")
        assert mean.finish().model_digest() == MODEL.model_digest()


def mean_of(*values: np.ndarray, weights: tuple[float, ...] = ()) -> np.ndarray:
    """Return the weighted mean of updates of one tensor."""
    sites = [f"site-{at}" for at in range(len(values))]
    with WeightedMean(params(w=np.zeros_like(values[0])), order=sites) as mean:
        for site, value, weight in zip(sites, values, weights or [1.0] * len(sites), strict=True):
            adopt(mean.stage(site, weight), params(w=value))
            mean.commit(site)
        return mean.finish().numpy()["w"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.complex64])
def test_b31_a_value_that_is_not_finite_is_refused(value: float, dtype: type) -> None:
    """One in a million, with the tensor's name."""
    values = np.zeros(100_000, dtype)
    values[77_777] = value
    update = params(w=values)
    error = refused(lambda: Admission(update.specs).check("s", update, 1.0), UpdateRefused)
    assert "'w'" in str(error)


@pytest.mark.parametrize(
    "value",
    [5e-324, 2.2e-308, -0.0, 1e30, -1e30, 3e38],
    ids=["denormal", "smallest normal", "minus zero", "1e30", "-1e30", "near the end of float32"],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_b31_strange_but_finite_values_never_make_a_mean_that_is_not(
    value: float, dtype: type
) -> None:
    """Denormals, signed zeros and huge norms are admitted; their sum does not overflow."""
    values = np.full(1000, value, dtype)
    result = mean_of(values, values, values, weights=(1.0, 2.0**53, 0.5))
    assert np.isfinite(result).all()
    np.testing.assert_allclose(result, values, rtol=1e-6)


@pytest.mark.parametrize(
    "weight", [0, 0.0, -0.0, -1, -1e-300, math.nan, math.inf, 2**53 + 1, 2**63, 2**64, 10**400]
)
def test_b31_a_count_of_examples_that_is_none_is_refused(weight: float) -> None:
    """Zero, negative, NaN, so large that it swallows the others."""
    refused(lambda: Admission(MODEL.specs).check("s", MODEL, weight), UpdateRefused, "weight")


@pytest.mark.parametrize("weight", [True, "100", None, b"1", [1], 1j])
def test_b31_a_count_of_another_type_is_refused(weight: object) -> None:
    """A bool is no count."""
    refused(lambda: Admission(MODEL.specs).check("s", MODEL, weight), UpdateRefused, "weight")


def test_b31_the_smallest_and_the_largest_weight_make_a_finite_mean() -> None:
    """Beside each other."""
    values = np.ones(10, np.float32)
    found = mean_of(values, 3 * values, weights=(2.0**-53, 2.0**53))
    np.testing.assert_array_equal(found, 3 * values)
    np.testing.assert_array_equal(mean_of(values, weights=(2.0**-53,)), values)


def test_b31_a_weight_of_which_nothing_is_left_is_refused_or_harmless() -> None:
    """The smallest number there is: the mean is never one that is not."""
    values = np.ones(10, np.float32)
    with contextlib.suppress(UpdateRefused):
        assert np.isfinite(mean_of(values, values, weights=(5e-324, 2.0**53))).all()


@pytest.mark.parametrize("number", [-1, -(2**63), True, 1.5, "3", math.nan])
def test_b25_a_round_of_a_model_is_a_count(number: object) -> None:
    """What user code returns is checked like what comes from a peer."""
    with pytest.raises((TypeError, ValueError), match="current_round"):
        FLModel(params={}, current_round=number)


INFLATES = {
    "bz2",
    "gzip",
    "lzma",
    "tarfile",
    "zipfile",
    "zlib.decompress",
    "zlib.decompressobj",
    "zstandard",
}


def test_b32_nothing_is_ever_inflated() -> None:
    """No frame, no flag and no module: what a peer sends is as long as it is on the wire."""
    assert {kind.name for kind in Kind} <= {
        *("HELLO", "OPEN", "DATA", "ACK", "RESET", "PING", "PONG", "GOODBYE", "RESUME")
    }
    assert (FLAG_END, FLAG_OPTIONAL) == (1, 0x80)
    assert list(everywhere(INFLATES)) == []


@pytest.mark.parametrize("flag", [0x02, 0x04, 0x08, 0x10, 0x20, 0x40])
def test_b32_a_flag_that_might_mean_compressed_is_refused(flag: int) -> None:
    """For payload and for control frames; a thousandfold bomb is bytes like any others."""
    bomb = zlib.compress(bytes(1_000_000))
    for kind in (Kind.DATA, Kind.OPEN):
        data = forged(kind, bomb, flags=flag, place=(1, 0))
        refused(lambda data=data: Victim().feed(data), RemoteProtocolError, "bad_flags")
    opened = forged(Kind.OPEN, bomb, place=(1, 0))
    assert reason_of(Victim().feed, opened) in {"bad_body", "bad_message"}
    assert PREAMBLE.startswith(b"\x89FLARE")
