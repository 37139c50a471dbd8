"""A script that logs before its first task, in each, behind each, and when the job has ended."""

from __future__ import annotations

import numpy as np

import flare_async.client as flare
from flare_async.client.tracking import MLflowWriter, SummaryWriter


def main():
    """Answer every task."""
    flare.init()
    writer = SummaryWriter()
    MLflowWriter().log_param("rate", 0.1)
    while flare.is_running():
        model = flare.receive()
        number = model.current_round
        writer.add_scalar("loss", np.float32(number), number)
        flare.send(flare.FLModel(params=model.params, metrics={"loss": 1.0}))
        writer.add_scalar("sent", 1, number)
    MLflowWriter().log_metric("end", np.float64(7))


main()
