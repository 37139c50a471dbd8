"""The client of NVFlare's hello-numpy; only its import lines are changed."""

import argparse

import numpy as np

import flare_async.client as flare
from flare_async.client import FLModel, NPConstants, ParamsType


def train(input_arr, delta):
    """Add to every value, in place of training."""
    return input_arr + delta


def evaluate(data):
    """Return a NumPy scalar, as most scripts do."""
    return np.mean(data)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--update_type", choices=["full", "diff"], default="full")
    parser.add_argument("--delta", type=float, default=1.0)
    args = parser.parse_args()

    flare.init()
    sys_info = flare.system_info()
    print(f"Running client {sys_info['site_name']} of {sys_info['job_id']}", flush=True)

    while flare.is_running():
        input_model = flare.receive()
        print(f"received weights in round {input_model.current_round}")
        input_np_arr = input_model.params[NPConstants.NUMPY_KEY]
        new_params = train(input_np_arr, args.delta)
        metrics = {"weight_mean": evaluate(input_np_arr)}
        if args.update_type == "diff":
            params_to_send, kind = new_params - input_np_arr, ParamsType.DIFF
        else:
            params_to_send, kind = new_params, ParamsType.FULL
        flare.send(
            FLModel(
                params={NPConstants.NUMPY_KEY: params_to_send},
                params_type=kind,
                metrics=metrics,
                current_round=input_model.current_round,
            )
        )


if __name__ == "__main__":
    main()
