"""A small convolutional network for pictures of 8 by 8 pixels; job and sites share it."""

from __future__ import annotations

import keras

__all__ = ["make_net"]


def make_net() -> keras.Model:
    """Return a network that has not been trained; Keras names its layers."""
    net = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    net.compile(
        optimizer=keras.optimizers.SGD(0.05, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return net
