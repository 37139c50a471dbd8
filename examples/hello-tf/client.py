"""The training script of a site: a convolutional network, trained with Keras on TensorFlow."""

from __future__ import annotations

import argparse

import numpy as np
from model import make_net
from sklearn.datasets import load_digits

import flare_async.client as flare
from flare_async.client import FLModel

__all__ = ["main"]

HELD_OUT = 297  # of 1797 pictures, to judge the model with; the others are shared out


def data_of(site: int, sites: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return a site's pictures and labels, and those that are held out."""
    found = load_digits()
    pictures = found.images[..., np.newaxis].astype(np.float32) / 16
    own = slice(HELD_OUT + site, None, sites)
    return pictures[own], found.target[own], pictures[:HELD_OUT], found.target[:HELD_OUT]


def main() -> None:
    """Take part in the job, a round after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n_clients", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch_size", type=int, default=16)
    args = parser.parse_args()

    flare.init()
    site = int(flare.get_site_name().removeprefix("site-")) - 1
    pictures, labels, held_out, expected = data_of(site, args.n_clients)
    net = make_net()
    while flare.is_running():
        input_model = flare.receive()
        number = input_model.current_round
        for k, v in input_model.params.items():
            net.get_layer(k).set_weights(v)
        _, accuracy = net.evaluate(held_out, expected, verbose=0)  # of the model as it came
        print(f"round {number}: accuracy {accuracy:.3f}")

        # What a site draws depends on site and round only, so a run can be repeated.
        draw = np.random.default_rng([site, number])
        for _ in range(args.epochs):
            order = draw.permutation(len(labels))
            net.fit(
                pictures[order],
                labels[order],
                batch_size=args.batch_size,
                shuffle=False,
                verbose=0,
            )
        flare.send(
            FLModel(
                params={layer.name: layer.get_weights() for layer in net.layers},
                metrics={"accuracy": accuracy},
                meta={"NUM_STEPS_CURRENT_ROUND": args.epochs * len(labels) // args.batch_size},
            )
        )


if __name__ == "__main__":
    main()
