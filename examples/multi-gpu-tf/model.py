"""A small network for pictures of 8 by 8 pixels; job and sites share it."""

from __future__ import annotations

import keras

__all__ = ["make_net"]


def make_net() -> keras.Model:
    """Return a network that has not been trained; Keras names its layers."""
    net = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    net.compile(
        optimizer=keras.optimizers.SGD(0.1),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return net
