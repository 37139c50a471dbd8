"""A job and its script, which forks as a DataLoader with workers does."""

import os
import sys

import numpy as np

import flare_async.client as flare
from flare_async import SimEnv
from flare_async.errors import ScriptStopped
from flare_async.recipes import FedAvgRecipe


def child():
    """Try everything that could reach the client; return 0 when nothing did."""
    try:
        flare.send(flare.FLModel(params={"w": np.ones(3, np.float32)}))
    except ScriptStopped:
        flare.shutdown()
        return 0
    return 1


def script():
    flare.init()
    model = flare.receive()
    pid = os.fork()
    if pid == 0:
        os._exit(child())
    refused = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    print("the child was refused:", refused)
    flare.send(flare.FLModel(params=model.params))


def job(folder):
    model = {"w": np.zeros(3, np.float32)}
    recipe = FedAvgRecipe(model=model, num_rounds=1, min_clients=1, train_script=__file__)
    recipe.execute(SimEnv(num_clients=1, workspace_root=folder))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        job(sys.argv[1])
    else:
        script()
