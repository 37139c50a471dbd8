"""What a library writes of tensors is kept as the tensors' own memory, and nothing else is."""

from __future__ import annotations

import io

import numpy as np
import pytest

from flare_async.jobs.pieces import Pieces


def content(file):
    """Return all that was written."""
    return b"".join(bytes(chunk) for chunk in file.chunks)


def copied(file):
    """Return how many bytes were copied."""
    return sum(len(chunk) for chunk in file.chunks if isinstance(chunk, bytes))


def views(*arrays):
    """Return the bytes of arrays."""
    return [array.reshape(-1).view(np.uint8).data for array in arrays]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_a_numpy_file_has_the_same_bytes_and_only_its_header_is_copied(dtype):
    """An array above NumPy's buffer of 16 MiB comes in two writes."""
    array = np.arange(5_000_000).astype(dtype)
    file, expected = Pieces(views(array)), io.BytesIO()

    np.save(file, array)
    np.save(expected, array)

    assert content(file) == expected.getvalue()
    assert file.tell() == len(expected.getvalue())
    assert copied(file) < 200


def test_a_joblib_file_has_the_same_bytes_and_only_its_frame_is_copied():
    """Two arrays of the same values are told apart by nothing, and need not be."""
    joblib = pytest.importorskip("joblib")
    values = {"a": np.ones(9_000), "b": np.ones(9_000), "c": np.arange(9_000), "loss": "hinge"}
    file, expected = Pieces(views(*(values[name] for name in "abc"))), io.BytesIO()

    joblib.dump(values, file)
    joblib.dump(values, expected)

    assert content(file) == expected.getvalue()
    assert copied(file) < 2_000


def test_a_pytorch_file_has_the_same_bytes_and_only_its_frame_is_copied():
    """Tensors that begin alike are told apart by what follows."""
    torch = pytest.importorskip("torch")
    arrays = [np.zeros(9_000, np.float32), np.zeros(9_000, np.float32)]
    arrays[1][-1] = 1
    state = {str(at): torch.from_numpy(array) for at, array in enumerate(arrays)}
    file, expected = Pieces(views(*reversed(arrays))), io.BytesIO()

    torch.save({"model": state}, file)
    torch.save({"model": state}, expected)

    assert content(file) == expected.getvalue()
    assert copied(file) < 4_000


def test_what_is_not_of_the_tensors_is_copied():
    """Bytes that are written may be changed afterwards; those of no tensor are kept as they are."""
    array, other = np.zeros(8_192, np.uint8), bytearray(b"x" * 8_192)
    file = Pieces(views(array))

    file.write(other)
    other[:] = b"y" * 8_192
    file.write(array.data)
    file.write(array.data)

    assert content(file) == b"x" * 8_192 + bytes(16_384)
    assert copied(file) == 16_384
