"""What may be given as a model, and what is said of everything else."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from flare_async.errors import ConfigError, TensorFormatError, WorkspaceError
from flare_async.jobs.models import load_model
from flare_async.transfer.files import file_chunks
from flare_async.transfer.tensors import TensorSet


class Pair:
    """A class that is named by its path; not a model."""

    def __init__(self, left, right=2):
        self.left, self.right = left, right


def make_params(value, *, size=3):
    """Return a model, for a class path that is a function."""
    return {"w": np.full(size, value, np.float32)}


def saved(path, **params):
    """Write a safetensors file; return its path."""
    path.write_bytes(b"".join(map(bytes, file_chunks(TensorSet.from_params(params)))))
    return path


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ({"w": np.zeros(2), "b": np.float32(1)}, ["w", "b"]),
        (np.zeros((2, 2), np.int64), ["numpy_key"]),
        ([[1, 2], [3, 4]], ["numpy_key"]),
        ({"class_path": f"{__name__}.make_params", "args": {"value": 3, "size": 2}}, ["w"]),
        ({"path": f"{__name__}.make_params", "args": {"value": 3}}, ["w"]),
    ],
)
def test_every_numpy_form_is_taken(model, names):
    """Dicts of arrays, one array, nested lists, and a class or function by its path."""
    tensors, framework = load_model(model)
    assert (list(tensors), framework) == (names, "numpy")


def test_the_model_is_a_private_copy():
    """What the caller does with its array afterwards changes nothing."""
    array = np.ones(4, np.float32)
    tensors, _ = load_model({"w": array})
    array[:] = 7
    assert tensors.numpy()["w"].tolist() == [1, 1, 1, 1]


def test_a_torch_module_is_its_state_dict():
    """Buffers included; tied parameters stay tied."""
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 2))
    net[2].weight = net[0].weight
    tensors, framework = load_model(net)
    assert (list(tensors), framework) == (list(net.state_dict()), "torch")
    assert tensors.spec("1.num_batches_tracked").dtype == "I64"
    assert dict(tensors.aliases) == {"2.weight": "0.weight"}


def test_a_torch_class_path_is_built_with_its_arguments():
    """The class is imported on this side, never on a peer's word."""
    pytest.importorskip("torch")
    config = {"class_path": "torch.nn.Linear", "args": {"in_features": 3, "out_features": 2}}
    tensors, framework = load_model(config)
    assert (tensors.spec("weight").shape, framework) == ((2, 3), "torch")


@pytest.mark.parametrize(
    ("model", "field"),
    [
        (None, "model"),
        (42, "model"),
        ("model.pt", "model"),
        ({}, "model"),
        (object(), "model"),
        ({"w": "text"}, "model"),
        ({"w": np.array(["a"], object)}, "model"),
        ({1: np.zeros(2)}, "model"),
        ({"class_path": "nodots"}, "model.class_path"),
        ({"class_path": "no.such.module.Class"}, "model.class_path"),
        ({"class_path": "collections.NoSuchClass"}, "model.class_path"),
        ({"class_path": 3}, "model.class_path"),
        ({"class_path": f"{__name__}.Pair", "args": {"middle": 1}}, "model.args"),
        ({"class_path": f"{__name__}.Pair", "args": [1]}, "model.class_path"),
        ({"class_path": f"{__name__}.Pair", "args": {"left": 1}}, "model"),
    ],
)
def test_what_is_no_model_is_refused_with_its_field(model, field):
    """The hint lists what is one."""
    with pytest.raises(ConfigError) as caught:
        load_model(model)
    assert caught.value.field == field


def test_a_checkpoint_replaces_the_models_tensors(tmp_path):
    """Names, types and shapes must be the model's."""
    path = saved(tmp_path / "a.safetensors", w=np.full(3, 5, np.float32))
    tensors, framework = load_model({"w": np.zeros(3, np.float32)}, path)
    assert (tensors.numpy()["w"].tolist(), framework) == ([5, 5, 5], "numpy")


def test_a_checkpoint_alone_is_a_model(tmp_path):
    """A NumPy one."""
    path = saved(tmp_path / "a.safetensors", w=np.full(3, 5, np.float32))
    tensors, framework = load_model(None, str(path))
    assert (tensors.numpy()["w"].tolist(), framework) == ([5, 5, 5], "numpy")


def test_a_checkpoint_of_another_model_is_refused_with_the_difference(tmp_path):
    """The file is named, and the tensor."""
    path = saved(tmp_path / "a.safetensors", w=np.zeros(4, np.float32))
    with pytest.raises(ConfigError, match="does not fit the model") as caught:
        load_model({"w": np.zeros(3, np.float32)}, path)
    assert caught.value.field == "initial_ckpt"
    assert "'w'" in str(caught.value)


def test_a_checkpoint_that_is_none_is_a_typed_error(tmp_path):
    """Missing or garbage."""
    with pytest.raises(WorkspaceError):
        load_model(None, tmp_path / "gone.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"not a model at all")
    with pytest.raises(TensorFormatError, match=r"bad\.safetensors"):
        load_model(None, tmp_path / "bad.safetensors")


def test_a_numpy_model_does_not_import_torch(tmp_path):
    """It would take seconds and a hundred megabytes."""
    import subprocess

    code = (
        "import sys, numpy as np; from flare_async.jobs.models import load_model; "
        "load_model({'w': np.zeros(2)}); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("said", "framework"),
    [({"format": "pt"}, "torch"), ({"format": "np"}, "numpy"), ({"format": "?"}, "numpy")],
)
def test_a_safetensors_file_says_whose_tensors_it_has(tmp_path, said, framework):
    """As the libraries that write such files do; one without metadata has NumPy's."""
    save_file({"w": np.ones(2, np.float32)}, tmp_path / "a.safetensors", said)
    assert load_model(None, tmp_path / "a.safetensors")[1] == framework
    save_file({"w": np.ones(2, np.float32)}, tmp_path / "b.safetensors")
    assert load_model(None, tmp_path / "b.safetensors")[1] == "numpy"
