"""One run of ``bench.workers``: ``python -m bench.workers_run SETTING``."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile

import structlog

from bench.workers_site import network, train
from flare_async import SimEnv
from flare_async.recipes import FedAvgRecipe

__all__: list[str] = []


def main() -> None:
    """Run as the command line says; the first round starts the workers and does not count."""
    setting = json.loads(sys.argv[1])
    sites, rounds = int(setting["sites"]), int(setting["rounds"])
    recipe = FedAvgRecipe(
        name="workers", model=network(), num_rounds=rounds, min_clients=sites, train=train
    )
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        env = SimEnv(
            num_clients=sites,
            workers=setting["workers"],
            num_threads=int(setting["slots"]),
            workspace_root=folder,
        )
        run = recipe.execute(env)
        records = run.history.rounds
        digest = "" if run.model is None else run.model.model_digest()
    tasks = [site.train_seconds for record in records[1:] for site in record.sites]
    seconds = [record.seconds for record in records[1:]]
    figures = {
        "round_s": statistics.median(seconds),
        "task_ms": statistics.median(tasks) * 1e3,
        "bits": int(digest[:12], 16),  # enough to tell models apart
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # answers alone
    main()
