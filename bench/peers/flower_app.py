"""The exchange in Flower's simulation, as its documents set it up.

The message API with ``FedAvg`` and Ray's back end; each client has one core, so as many work at
once as there are cores. Evaluation is off.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation


def client_app(folder: str, *, silent: bool) -> ClientApp:
    """Return what a client does: add one, and note when unless it is silent."""
    app = ClientApp()

    @app.train()
    def train(msg: Message, context: Context) -> Message:
        if not silent:
            site = context.node_config.get("partition-id", context.node_id)
            with (Path(folder) / f"{site}.txt").open("a") as file:
                file.write(f"{time.time()}\n")
        made = [array + np.float32(1) for array in msg.content["arrays"].to_numpy_ndarrays()]
        content = {"arrays": ArrayRecord(made), "metrics": MetricRecord({"num-examples": 1})}
        return Message(content=RecordDict(content), reply_to=msg)

    return app


def server_app(options: argparse.Namespace, folder: str) -> ServerApp:
    """Return what the server does: rounds of FedAvg; the last value of the model is kept."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        first = ArrayRecord([np.full(options.nbytes // 4, 0.5, np.float32)])
        strategy = FedAvg(
            fraction_evaluate=0.0,
            min_train_nodes=options.clients,
            min_available_nodes=options.clients,
        )
        result = strategy.start(grid=grid, initial_arrays=first, num_rounds=options.rounds)
        values = [float(array.flat[-1]) for array in result.arrays.to_numpy_ndarrays()]
        kept = Path(folder) / "values.part"
        kept.write_text(json.dumps(values))
        kept.replace(Path(folder) / "values.json")

    return app


def main() -> None:
    """Run as the command line says, and print what came of it."""
    found = argparse.ArgumentParser()
    found.add_argument("--folder", required=True)
    found.add_argument("--nbytes", type=int, required=True)
    found.add_argument("--clients", type=int, required=True)
    found.add_argument("--rounds", type=int, required=True)
    found.add_argument("--silent", action="store_true", help="clients do not note when they train")
    options = found.parse_args()
    run_simulation(
        server_app=server_app(options, options.folder),
        client_app=client_app(options.folder, silent=options.silent),
        num_supernodes=options.clients,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )
    values = json.loads((Path(options.folder) / "values.json").read_text())
    # Its mean is a sum of weighted float32: with many clients it is right to some digits only.
    ok = len(values) == 1 and abs(values[0] - 0.5 - options.rounds) < 1e-3
    print(json.dumps({"ok": ok, "values": values}))
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
