"""Train functions as users write them, in a file that a worker process can load by its path."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from flare_async.model import FLModel, ParamsType


def numpy_step(model, site):
    """Take one noisy step with every generator that is seeded for user code."""
    noise = site.rng.normal(size=4) + np.random.normal(size=4) + random.random()
    params = {"w": model.params["w"] - 0.1 * noise, "n": model.params["n"] + 1}
    return FLModel(params=params, metrics={"loss": np.float32(noise.sum())}, meta={"steps": 3})


def private_rng_step(model, site):
    """Take one noisy step with the site's own generator only."""
    params = {"w": model.params["w"] + site.rng.normal(size=4), "n": model.params["n"]}
    return FLModel(params=params)


async def async_step(model, site):
    """Do the same in a coroutine that gives way once."""
    await asyncio.sleep(0)
    return private_rng_step(model, site)


def torch_step(model, site):
    """Take one SGD step of a small linear layer."""
    import torch

    net = torch.nn.Linear(8, 3)
    net.load_state_dict(model.params)
    inputs = torch.randn(16, 8, generator=site.torch_rng())
    loss = net(inputs).square().mean()
    loss.backward()
    with torch.no_grad():  # plain SGD; torch.optim would import its compiler, a second a process
        for weight in net.parameters():
            weight.sub_(0.1 * weight.grad)
    return FLModel(params=net.state_dict(), metrics={"loss": loss})


def counting(model, site):
    """Count this site's rounds in its state."""
    site.state["rounds"] = site.state.get("rounds", 0) + 1
    return FLModel(
        params=model.params, metrics={"rounds": site.state["rounds"], "pid": os.getpid()}
    )


def scaled(model, site, *, factor=1.0):
    """Multiply the weights; made for functools.partial."""
    return FLModel(params={"w": model.params["w"] * factor, "n": model.params["n"]})


def configured(model, site):
    """Report one of the site's options."""
    return FLModel(params=model.params, metrics={"rate": site.config["rates"][1]})


def difference(model, site):
    """Return a change rather than weights."""
    change = {name: np.ones_like(value) for name, value in model.params.items()}
    return FLModel(params=change, params_type=ParamsType.DIFF)


def evaluated(model, site):
    """Return metrics of the model as it came."""
    return {"sum": model.params["w"].sum(), "num_examples": 4}


def raising(model, site):
    """Fail as user code does."""
    raise ValueError("no data")


def exiting(model, site):
    """Leave the way scripts do."""
    sys.exit(4)


def returning_none(model, site):
    """Forget to return."""


def killing_itself(model, site):
    """Die in the first round as the kernel's memory killer would have it, train afterwards."""
    if site.round_number == 0:
        print("the last words", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return FLModel(params=model.params)


def dying_once(model, site):
    """Die the first time, and tell the second one through a file."""
    mark = Path(site.config["mark"])
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return FLModel(params={name: value + 1 for name, value in model.params.items()})


def leaving_a_child(model, site):
    """Start a program, tell both process ids through a named pipe, and do not come back."""
    child = os.posix_spawn("/bin/sleep", ["sleep", "600"], os.environ)
    with Path(site.config["pipe"]).open("w") as pipe:
        pipe.write(f"{os.getpid()} {child}")
    time.sleep(600)


def tracks(model, site):
    """Track two numbers a round."""
    for step in (0, 1):
        site.track("loss", np.float32(10 * site.round_number + step), step=step)
    return FLModel(params=model.params)


def tracks_and_fails(model, site):
    """Track a number, then raise."""
    site.track("loss", 1.5)
    raise ValueError("no")
