"""A script as NVFlare's users write it for Keras, with a stand-in for the network."""

from __future__ import annotations

import numpy as np

import flare_async.client as flare
from flare_async.client import FLModel


class Layer:
    """A layer with the methods of Keras's."""

    def __init__(self, name, *shapes):
        self.name = name
        self.arrays = [np.zeros(shape, np.float32) for shape in shapes]

    def get_weights(self):
        """Return copies of the arrays."""
        return [array.copy() for array in self.arrays]

    def set_weights(self, arrays):
        """Take as many arrays of the same shapes."""
        assert [a.shape for a in arrays] == [a.shape for a in self.arrays]
        self.arrays = [np.array(array) for array in arrays]


def main():
    """Add one to every weight, a round after the other."""
    layers = [Layer("dense", (2, 3), (3,)), Layer("flatten"), Layer("top", (3, 1))]
    flare.init()
    while flare.is_running():
        input_model = flare.receive()
        for layer in layers:
            layer.set_weights(input_model.params[layer.name])
        for layer in layers:
            layer.set_weights([array + 1 for array in layer.get_weights()])
        flare.send(
            FLModel(
                params={layer.name: layer.get_weights() for layer in layers},
                metrics={"layers": len(input_model.params)},
            )
        )


if __name__ == "__main__":
    main()
