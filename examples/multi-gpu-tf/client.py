"""The training script of a site: one network on several devices, by Keras's MirroredStrategy.

Where there are fewer GPUs than replicas it makes that many devices of the processor. A process can
do so once, before it computes anything: several replicas need ``launch_external_process``.
"""

from __future__ import annotations

import argparse

import numpy as np
import tensorflow as tf
from model import make_net
from sklearn.datasets import load_digits

import flare_async.client as flare
from flare_async.client import FLModel

__all__ = ["main"]

HELD_OUT = 297  # of 1797 pictures, to judge the model with; the others are shared out


def strategy_of(replicas: int) -> tf.distribute.Strategy:
    """Return what spreads each batch over the devices."""
    if replicas == 1:
        return tf.distribute.get_strategy()
    if len(tf.config.list_physical_devices("GPU")) >= replicas:
        return tf.distribute.MirroredStrategy([f"GPU:{at}" for at in range(replicas)])
    processor = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration() for _ in range(replicas)]
    tf.config.set_logical_device_configuration(processor, parts)
    return tf.distribute.MirroredStrategy([f"CPU:{at}" for at in range(replicas)])


def data_of(site: int, sites: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return a site's pictures and labels, and those that are held out."""
    pictures, labels = load_digits(return_X_y=True)
    pictures = pictures.astype(np.float32) / 16
    own = slice(HELD_OUT + site, None, sites)
    return pictures[own], labels[own], pictures[:HELD_OUT], labels[:HELD_OUT]


def main() -> None:
    """Take part in the job, a round after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n_clients", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--replicas", type=int, default=2)
    args = parser.parse_args()

    strategy = strategy_of(args.replicas)
    flare.init()
    site = int(flare.get_site_name().removeprefix("site-")) - 1
    pictures, labels, held_out, expected = data_of(site, args.n_clients)
    with strategy.scope():
        net = make_net()
    print(f"{strategy.num_replicas_in_sync} replicas")
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
            batches = tf.data.Dataset.from_tensor_slices((pictures[order], labels[order]))
            batches = batches.batch(args.batch_size, drop_remainder=True)
            net.fit(batches, shuffle=False, verbose=0)
        flare.send(
            FLModel(
                params={layer.name: layer.get_weights() for layer in net.layers},
                metrics={"accuracy": accuracy},
                meta={"NUM_STEPS_CURRENT_ROUND": args.epochs * (len(labels) // args.batch_size)},
            )
        )


if __name__ == "__main__":
    main()
