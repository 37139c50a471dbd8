"""Keras weights by name, with stand-ins that have a Keras model's methods and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare_async.errors import ConfigError, TensorFormatError
from flare_async.transfer.keras_weights import has_weights, load_weights, weights_of
from flare_async.transfer.tensors import TensorSet

PATHS = st.lists(st.text(st.sampled_from("ab/_2"), min_size=1, max_size=6), max_size=8)


class Variable:
    """A weight with the path, or the name, that Keras gives it."""

    def __init__(self, path=None, *, name="", shape=(2,)):
        self.name, self.value = name, np.zeros(shape, np.float32)
        if path is not None:
            self.path = path


class Layer:
    """A layer's name and weights."""

    def __init__(self, name, *weights):
        self.name, self.weights = name, list(weights)


class Net:
    """A model of variables, possibly in layers."""

    def __init__(self, *weights, name="net", layers=None):
        self.name, self.weights = name, list(weights)
        if layers is not None:
            self.layers = layers

    def get_weights(self):
        """Return the arrays."""
        return [variable.value for variable in self.weights]

    def set_weights(self, weights):
        """Take arrays in the same order."""
        for variable, value in zip(self.weights, weights, strict=True):
            variable.value = np.array(value)


def named(*paths, **options):
    """Return the names under which the weights of these paths travel."""
    return list(weights_of(Net(*map(Variable, paths), **options)))


def test_names_are_the_paths_of_the_weights_in_the_models_order():
    """Not the order of the alphabet: ``set_weights`` takes the values back as they are."""
    assert named("dense/kernel", "dense/bias", "a/kernel") == [
        "dense/kernel",
        "dense/bias",
        "a/kernel",
    ]


def test_the_models_own_name_is_left_out():
    """Keras counts models in a process, so it would differ from one to the next."""
    assert named("net/dense/kernel", "net/dense/bias") == ["dense/kernel", "dense/bias"]
    assert named("net/dense/kernel", "other/bias") == ["net/dense/kernel", "other/bias"]


def test_an_outer_layer_is_put_before_the_weights_that_it_owns():
    """Models inside a model may call their layers alike."""
    inner, second = Variable("d/kernel"), Variable("d/kernel")
    layers = [Layer("encoder", inner), Layer("decoder", second)]
    net = Net(inner, second, layers=layers)
    assert list(weights_of(net)) == ["encoder/d/kernel", "decoder/d/kernel"]


def test_names_that_come_twice_are_numbered():
    """A number that is taken already is passed over."""
    assert named("d/k", "d/k", "d/k_2", "d/k") == ["d/k", "d/k_3", "d/k_2", "d/k_4"]


def test_names_of_older_versions_lose_their_output_number():
    """They have no path."""
    net = Net(Variable(name="dense/kernel:0"), Variable(name="dense/bias:0"))
    assert list(weights_of(net)) == ["dense/kernel", "dense/bias"]


def test_weights_without_names_are_called_by_their_position():
    """A list of arrays, and a model that lists no variables."""
    arrays = [np.zeros((2, 2)), np.zeros(3)]
    net = Net(Variable("a"), Variable("b"))
    net.weights, net.get_weights = None, lambda: arrays
    assert list(weights_of(arrays)) == list(weights_of(net)) == ["0", "1"]


@pytest.mark.parametrize("model", [[], [[1.0]], [np.zeros(1), 2], {"w": np.zeros(1)}, Net, None])
def test_what_is_neither_is_left_to_others(model):
    """Nested numbers are one array, a class is no model."""
    assert not has_weights(model)


def test_a_model_that_is_not_built_is_refused_with_what_to_do():
    """Keras makes weights when it knows the input's shape."""
    with pytest.raises(ConfigError, match="no weights yet; build it") as caught:
        weights_of(Net())
    assert caught.value.field == "model"


@given(PATHS)
def test_names_are_unique_and_stand_for_every_weight(paths):
    """Whatever the paths are."""
    net = Net(*(Variable(path, shape=(at,)) for at, path in enumerate(paths)))
    if not paths:
        return
    params = weights_of(net)
    assert [array.size for array in params.values()] == list(range(len(paths)))


def numbered(net):
    """Give every weight another value."""
    for at, variable in enumerate(net.weights):
        variable.value[...] = at + 1
    return net


@given(PATHS.filter(len), st.randoms(use_true_random=False))
def test_weights_are_set_by_name_in_whatever_order_they_come(paths, random):
    """Models travel in an order of their own."""
    given_net, own = numbered(Net(*map(Variable, paths))), Net(*map(Variable, paths))
    items = list(weights_of(given_net).items())
    random.shuffle(items)
    load_weights(own, dict(items))
    assert [array[0] for array in own.get_weights()] == list(range(1, len(paths) + 1))


@pytest.mark.parametrize(
    ("received", "own"),
    [
        (["dense/kernel", "dense_1/kernel"], ["dense_9/kernel", "dense_10/kernel"]),
        (["dense_1/kernel", "dense/kernel"], ["dense_3/kernel", "dense_2/kernel"]),
        (["block_7/k", "block_9/k", "out/k"], ["block_7/k", "block_9/k", "out_1/k"]),
        (["a/d/k", "a/d_1/k", "b/d_2/k"], ["a_4/d_7/k", "a_4/d_8/k", "b_1/d_9/k"]),
        (["0", "1"], ["x/kernel", "x/bias"]),
    ],
)
def test_names_that_another_count_of_layers_made_are_matched(received, own):
    """In both directions; the result has the names that were received."""
    source, net = numbered(Net(*map(Variable, received))), Net(*map(Variable, own))
    load_weights(net, weights_of(source))
    assert [array[0] for array in net.get_weights()] == list(range(1, len(own) + 1))
    assert list(weights_of(net, weights_of(source))) == received


@pytest.mark.parametrize(
    ("received", "own", "problem"),
    [
        (["d/k", "d/b"], ["d/k"], "1 weights, 2 received: 'd/b' is missing"),
        (["d/k"], ["d/k", "d/b"], "2 weights, 1 received: 'd/b' is unexpected"),
        (["e/k"], ["d/k"], "'e/k' is missing; 'd/k' is unexpected"),
        (["d/k", "d_1/k"], ["d/k", "e/k"], "'d_1/k' is missing; 'e/k' is unexpected"),
    ],
)
def test_weights_of_another_model_are_refused(received, own, problem):
    """The error has the names that do not fit."""
    net, params = Net(*map(Variable, own)), dict.fromkeys(received, np.zeros(2))
    with pytest.raises(TensorFormatError, match=problem):
        load_weights(net, params)
    with pytest.raises(TensorFormatError, match=problem):
        weights_of(net, params)


@given(PATHS.filter(len), PATHS)
def test_whatever_the_names_they_match_or_raise_a_typed_error(own, received):
    """Nothing else is raised; what matches has each name once."""
    try:
        found = weights_of(Net(*map(Variable, own)), received)
    except TensorFormatError:
        return
    assert set(found) == set(received)


def test_a_runs_model_can_be_set():
    """A ``TensorSet`` holds bytes; arrays are set."""
    paths = ["d/kernel", "d/bias"]
    net = Net(*map(Variable, paths))
    load_weights(net, TensorSet.from_params(weights_of(numbered(Net(*map(Variable, paths))))))
    assert [array.tolist() for array in net.get_weights()] == [[1, 1], [2, 2]]


def test_keras_weights_travel_as_tensors():
    """Names, shapes, and scalars."""
    net = Net(Variable("d/kernel", shape=(2, 3)), Variable("d/scale", shape=()))
    tensors = TensorSet.from_params(weights_of(net))
    assert [(spec.name, spec.shape) for spec in tensors.specs] == [
        ("d/kernel", (2, 3)),
        ("d/scale", ()),
    ]
