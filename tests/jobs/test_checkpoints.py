"""The file with a recipe's first model: safetensors or PyTorch's, and nothing that runs."""

from __future__ import annotations

import builtins

import numpy as np
import pytest

from flare_async.errors import ConfigError, FlareError, TensorFormatError, WorkspaceError
from flare_async.jobs.checkpoints import read_checkpoint
from flare_async.jobs.models import load_model
from flare_async.transfer.files import file_chunks
from flare_async.transfer.tensors import TensorSet

torch = pytest.importorskip("torch")
STATE = {"w": torch.arange(3.0), "n": torch.tensor(4)}


@pytest.mark.parametrize("inner", [None, "model", "state_dict", "model_state_dict"])
def test_a_state_dict_is_found_where_others_put_it(tmp_path, inner):
    """NVFlare has it under ``model``, with its configuration beside it."""
    path = tmp_path / "FL_global_model.pt"
    torch.save(STATE if inner is None else {inner: STATE, "train_conf": {"a": 1}}, path)
    found, framework = load_model(None, path)
    assert framework == "torch"
    assert found.torch()["w"].tolist() == [0.0, 1.0, 2.0]
    assert found.torch()["n"].tolist() == 4


def test_a_safetensors_file_is_one(tmp_path):
    """The other form, by its name."""
    path = tmp_path / "model.safetensors"
    tensors = TensorSet.from_params({"w": np.arange(3.0)})
    path.write_bytes(b"".join(file_chunks(tensors, {})))
    assert dict(read_checkpoint(path)) == dict(tensors)


class Runs:
    """What an unpickler would run."""

    def __reduce__(self):
        return exec, ("import builtins; builtins.flare_was_here = True",)


def test_a_file_with_code_is_refused_and_runs_nothing(tmp_path):
    """``weights_only=True``: what is no tensor is not made."""
    path = tmp_path / "model.pt"
    torch.save({"model": STATE, "more": Runs()}, path)
    with pytest.raises(TensorFormatError, match="tensors only"):
        read_checkpoint(path)
    assert not hasattr(builtins, "flare_was_here")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02}q\x00.", b"nonsense" * 9])
def test_garbage_is_a_typed_error(tmp_path, content):
    """Whatever torch makes of it."""
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    with pytest.raises(FlareError):
        read_checkpoint(path)


def test_a_missing_file_and_a_list_are_told_apart(tmp_path):
    """One cannot be read, the other is no state dict."""
    with pytest.raises(WorkspaceError, match=r"none\.pt"):
        read_checkpoint(tmp_path / "none.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(TensorFormatError, match="holds list"):
        read_checkpoint(tmp_path / "list.pt")


def test_a_checkpoint_must_fit_the_model(tmp_path):
    """The first differences are named."""
    torch.save(STATE, tmp_path / "model.pt")
    with pytest.raises(ConfigError, match="initial_ckpt"):
        load_model({"w": np.zeros(2, np.float32)}, tmp_path / "model.pt")
