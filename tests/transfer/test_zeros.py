"""The zero page: what is left out for it changes no result."""

from __future__ import annotations

import numpy as np
import pytest
from blake3 import blake3

from flare_async.model import ParamsType
from flare_async.net.zeros import is_zeros, zeros
from flare_async.transfer.digest import chunk_digests, tensor_digest, tensor_hasher
from flare_async.transfer.mean import WeightedMean
from flare_async.transfer.sink import MemorySink
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.tensors import TensorSet

SIZE = 3_000_000


def update(value: float) -> TensorSet:
    """Return a tensor of one value; 0 is of the zero page."""
    spec = TensorSpec("w", "F32", (SIZE // 4,))
    view = zeros(SIZE) if value == 0 else np.full(SIZE // 4, value, np.float32).view(np.uint8).data
    return TensorSet.from_views([spec], {"w": view})


def mean_of(values: list[float], kind: ParamsType, *, real: bool) -> TensorSet:
    """Return the mean of updates that come in pieces; ``real`` zeros are zeros elsewhere."""
    model = TensorSet.from_params({"w": np.full(SIZE // 4, 3.0, np.float32)})
    with WeightedMean(model, order=[str(at) for at in range(len(values))]) as mean:
        for at, value in enumerate(values):
            tensors = update(value)
            data = memoryview(bytes(tensors["w"])) if real else tensors["w"]
            sink = mean.stage(str(at), at + 1.0, kind)
            sink.begin(tensors.specs)
            for start in range(0, SIZE, 262_144):
                sink.write("w", start, data[start : start + 262_144])
            sink.finish()
            mean.commit(str(at))
        return mean.finish()


def test_only_views_of_the_zero_page_are_known():
    """Slices and casts are; equal bytes elsewhere are not looked at."""
    view = zeros(100)
    assert is_zeros(view[5:50].cast("B").toreadonly())
    assert not is_zeros(memoryview(bytes(100)))
    assert (len(zeros(0)), view.readonly, zeros(100) is view) == (0, True, True)


def test_nobody_can_write_to_it():
    """It is mapped without the permission, so that not even NumPy can."""
    array = np.frombuffer(zeros(100), np.uint8)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    with pytest.raises(TypeError):
        zeros(100)[0] = 1


def test_digests_are_those_of_zeros():
    """Of all of them, of chunks, and of zeros with something else behind them."""
    plain = bytes(SIZE)
    assert tensor_digest(zeros(SIZE)) == blake3(plain).digest()
    assert chunk_digests(zeros(SIZE)) == chunk_digests(plain)
    hasher = tensor_hasher()
    for piece in (zeros(SIZE)[:1000], b"abc", zeros(SIZE)[:10]):
        hasher.update(piece)
    assert hasher.digest() == blake3(bytes(1000) + b"abc" + bytes(10)).digest()


@pytest.mark.parametrize("kind", [ParamsType.FULL, ParamsType.DIFF])
@pytest.mark.parametrize("values", [[0.0, 0.0], [0.0, 2.0, 0.0], [5.0, 0.0]])
def test_a_mean_has_the_same_bits_as_with_other_zeros(values, kind):
    """What is not added is nothing."""
    left_out = mean_of(values, kind, real=False)
    assert left_out.model_digest() == mean_of(values, kind, real=True).model_digest()


def test_a_mean_of_zeros_alone_is_of_the_zero_page():
    """So a federation of sizes only stays one, round after round."""
    assert is_zeros(mean_of([0.0, 0.0], ParamsType.FULL, real=False)["w"])


def test_a_sink_takes_zeros_without_a_copy_and_real_bytes_among_them():
    """Zeros that came before are there as zeros, when memory is needed after all."""
    sink = MemorySink()
    sink.begin([TensorSpec("w", "U8", (30,))])
    sink.write("w", 0, zeros(30)[:10])
    sink.write("w", 10, memoryview(b"x" * 10))
    sink.write("w", 20, zeros(30)[:10])
    sink.finish()
    assert bytes(sink.tensors["w"]) == bytes(10) + b"x" * 10 + bytes(10)
