"""FedProx's and SCAFFOLD's helpers with Keras itself, where it is installed.

TensorFlow has an environment of its own: this is no part of the suite but a stage of ``.ci/run``.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest

from flare_async import FLModel, SimEnv
from flare_async.client.fedprox import TFFedProxLoss
from flare_async.client.scaffold_tf import ScaffoldCallback, TFScaffoldHelper, get_lr_values
from flare_async.recipes import FedOptRecipe, ScaffoldRecipe
from flare_async.transfer.keras_weights import load_weights, weights_of

pytestmark = [pytest.mark.timeout(120), pytest.mark.filterwarnings("ignore")]
RATE, MU = 0.05, 0.7


def net_of(frozen=False):
    """Return a linear net behind a normalisation, whose first layer may be frozen."""
    keras.utils.set_random_seed(3)
    first = keras.layers.Dense(3, trainable=not frozen)
    layers = [keras.Input((3,)), first, keras.layers.BatchNormalization(), keras.layers.Dense(1)]
    net = keras.Sequential(layers)
    net.compile(optimizer=keras.optimizers.SGD(RATE), loss="mse")
    return net


def rows_of(index):
    """Return the points of a site, on a plane of its own."""
    points = np.random.default_rng(index).normal(size=(32, 3)).astype(np.float32)
    return points, points @ np.array([[1.0], [-2.0], [index]], np.float32)


def gradient_steps(net, points, values, batches):
    """Yield the net after each step by plain gradients, to be corrected."""
    import tensorflow as tf

    size = len(points) // batches
    for at in range(batches):
        here = slice(at * size, (at + 1) * size)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((net(points[here], training=True) - values[here]) ** 2)
        for weight, gradient in zip(
            net.trainable_weights, tape.gradient(loss, net.trainable_weights), strict=True
        ):
            weight.assign(weight - RATE * gradient)
        yield


@pytest.mark.parametrize("frozen", [False, True])
def test_the_callback_takes_the_steps_of_the_paper(frozen):
    """``fit`` with it, against steps by hand, also where a layer is frozen."""
    points, values = rows_of(1)
    by_fit, by_hand, received = net_of(frozen), net_of(frozen), net_of(frozen)
    for net in (by_hand, received):
        net.set_weights(by_fit.get_weights())
    helper, rng = TFScaffoldHelper(), np.random.default_rng(5)
    helper.init(by_fit)
    control = [rng.normal(size=w.shape).astype(np.float32) for w in by_fit.trainable_weights]
    trained = {id(w) for w in by_fit.trainable_weights}
    names = [
        name for name, w in zip(weights_of(by_fit), by_fit.weights, strict=True) if id(w) in trained
    ]
    helper.load_global_controls(dict(zip(names, control, strict=True)))
    controls, callback = helper.get_params(), ScaffoldCallback(helper)
    by_fit.fit(points, values, batch_size=8, shuffle=False, verbose=0, callbacks=[callback])
    for _ in gradient_steps(by_hand, points, values, 4):
        for weight, c in zip(by_hand.trainable_weights, control, strict=True):
            weight.assign(weight - RATE * c)
    for found, wanted in zip(by_fit.get_weights(), by_hand.get_weights(), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    assert (helper.cnt, get_lr_values(by_fit.optimizer)) == (4, [pytest.approx(RATE)])
    helper.terms_update(by_fit, RATE, *controls, received)
    changes = helper.get_delta_controls()
    assert changes.keys() == set(names)
    moved = zip(received.trainable_weights, by_fit.trainable_weights, control, names, strict=True)
    for x, y, c, name in moved:
        wanted = -c + (x.numpy() - y.numpy()) / (4 * RATE)
        np.testing.assert_allclose(changes[name], wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("layered", [False, True])
def test_the_term_of_fedprox_pulls_towards_the_received_model(layered):
    """One step of ``fit`` is that of the loss, and of mu times the distance."""
    points, values = rows_of(2)
    net = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    fixed = [w.numpy() + 0.5 for w in net.trainable_weights]
    loss = TFFedProxLoss(net.trainable_weights, fixed, MU, keras.losses.MeanSquaredError())
    if layered:  # the global model is a net, as NVFlare's scripts have it
        other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        other.set_weights(fixed)
        loss = TFFedProxLoss(net.trainable_weights, other.trainable_weights, MU, loss.loss_fun)
    net.compile(optimizer=keras.optimizers.SGD(RATE), loss=loss)
    start = [w.numpy() for w in net.trainable_weights]
    off = points @ start[0] + start[1] - values
    plain = [2 * points.T @ off / len(points), 2 * off.mean(axis=0)]
    net.fit(points, values, batch_size=len(points), verbose=0)
    for w, first, gradient, there in zip(net.trainable_weights, start, plain, fixed, strict=True):
        wanted = first - RATE * (gradient + MU * (first - there))
        np.testing.assert_allclose(w.numpy(), wanted, rtol=0, atol=1e-5)


def controlled(model, site):
    """Train with SCAFFOLD in a net that is built anew in every round."""
    net, received = net_of(), net_of()
    for one in (net, received):
        load_weights(one, model.params)
    helper = TFScaffoldHelper()
    helper.init(net)
    if "control" in site.state:
        helper.load_state_dict(site.state["control"])
    helper.receive(model, site.name)
    controls, callback = helper.get_params(), ScaffoldCallback(helper)
    net.fit(*rows_of(site.index), batch_size=8, shuffle=False, verbose=0, callbacks=[callback])
    helper.terms_update(net, RATE, *controls, received)
    site.state["control"] = helper.state_dict()
    changes = helper.get_delta_controls()
    return FLModel(params=weights_of(net, model.params), meta={"scaffold_c_diff": changes})


def test_scaffold_learns_with_keras_at_every_site(tmp_path):
    """Sites on planes of their own; the controls are those of what is trained alone."""
    recipe = ScaffoldRecipe(model=net_of(), min_clients=3, num_rounds=4, train=controlled)
    run = recipe.execute(SimEnv(num_clients=3, workers="inline", workspace_root=tmp_path))
    assert [record.arrived for record in run.history.rounds] == [3] * 4
    assert {name.rpartition("/")[2] for name in recipe.stepped} == {
        "kernel",
        "bias",
        "gamma",
        "beta",
    }
    before, after = net_of(), net_of()
    load_weights(after, run.model)
    losses = [
        sum(net.evaluate(*rows_of(at), verbose=0) for at in range(3)) for net in (before, after)
    ]
    assert losses[1] < losses[0] / 2


def test_a_frozen_layer_is_not_stepped():
    """By paths and by layers."""
    for options in ({"train": controlled}, {"train": controlled, "framework": "tensorflow"}):
        recipe = FedOptRecipe(model=net_of(frozen=True), min_clients=1, **options)
        assert len(recipe.stepped) == 4
        assert len(recipe.initial) == 8
