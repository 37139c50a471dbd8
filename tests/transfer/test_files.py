"""Safetensors files, both ways, and files that lie."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flare_async.errors import TensorFormatError, WorkspaceError
from flare_async.transfer.files import file_chunks, read_file
from flare_async.transfer.manifest import Manifest
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.tensors import TensorSet
from tests.transfer.helpers import numbers, params

MODEL = params(w=numbers(1, (3, 5)), b=np.float64(2), e=np.zeros((0, 2)), n=np.int64(7))


def write(path, tensors, metadata=None):
    """Write a file as a store does."""
    path.write_bytes(b"".join(file_chunks(tensors, metadata)))
    return path


def test_a_file_round_trips(tmp_path):
    """Names, types, shapes and bytes."""
    back = read_file(write(tmp_path / "m.safetensors", MODEL, {"format": "pt"}))
    assert back.same_specs(MODEL) == []
    assert back.model_digest() == MODEL.model_digest()


def test_safetensors_reads_the_file(tmp_path):
    """With NumPy and with torch."""
    path = write(tmp_path / "m.safetensors", MODEL)
    arrays = safetensors.numpy.load_file(path)
    assert {name: array.tobytes() for name, array in arrays.items()} == {
        name: bytes(view) for name, view in MODEL.items()
    }
    assert safetensors.torch.load_file(path)["w"].shape == (3, 5)


def test_the_file_of_safetensors_is_the_same(tmp_path):
    """Byte for byte."""
    values = {"w": torch.randn(3, 4), "h": torch.ones(2, dtype=torch.bfloat16)}
    safetensors.torch.save_file(values, tmp_path / "theirs")
    ours = write(tmp_path / "ours", TensorSet.from_params(values))
    assert ours.read_bytes() == (tmp_path / "theirs").read_bytes()
    assert torch.equal(read_file(tmp_path / "theirs").torch()["w"], values["w"])


def test_chunks_are_the_memory_itself():
    """Writing a model needs no second one."""
    chunks = list(file_chunks(MODEL))
    assert all(isinstance(chunk, memoryview) for chunk in chunks[1:])
    assert sum(map(len, chunks[1:])) == MODEL.nbytes


def test_tied_tensors_are_written_once_and_tied_again(tmp_path):
    """Their names are in the metadata."""
    shared = numbers(2, 9)
    tied = TensorSet.from_params({"a": shared, "b": shared})
    path = write(tmp_path / "m.safetensors", tied)
    assert list(safetensors.numpy.load_file(path)) == ["a"]
    back = read_file(str(path))
    assert back.aliases == {"b": "a"}
    assert back.model_digest() == tied.model_digest()


@pytest.mark.parametrize("text", ["x", "[]", "[" * 9999, '{"w":"x"}', '{"v":1}', '{"v":"x"}'])
def test_metadata_of_others_ties_nothing(tmp_path, text):
    """The key is no secret."""
    path = tmp_path / "m"
    header = Manifest((TensorSpec("w", "U8", (2,)),), {"aliases": text}).header()
    path.write_bytes(header + b"ab")
    assert list(read_file(path)) == ["w"]


def test_a_file_of_another_size_is_refused(tmp_path):
    """Short, long, and without a whole header."""
    data = write(tmp_path / "m", MODEL).read_bytes()
    for wrong in (data[:-1], data + b"x", data[:7], data[:20], b""):
        (tmp_path / "m").write_bytes(wrong)
        with pytest.raises(TensorFormatError):
            read_file(tmp_path / "m")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    """Absent, or a folder."""
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(WorkspaceError, match=path.name):
            read_file(path)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=64))
def test_garbage_raises_the_typed_error_only(tmp_path, data):
    """With a plausible length in front."""
    path = tmp_path / "m"
    path.write_bytes(len(data).to_bytes(8, "little") + data)
    try:
        read_file(path)
    except TensorFormatError:
        return
