"""A web application that trains in the background and shows the progress at /status.

    python examples/async_app.py
    curl http://127.0.0.1:8080/status

The run lives on the application's own event loop: no second loop, no signal handler, no logging
set-up. Its task group is the ``async with`` block below, so it cannot outlive the application.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import numpy as np
from aiohttp import web

from flare_async import FLModel, Run, SimEnv
from flare_async.jobs.site import Site
from flare_async.recipes import FedAvgRecipe

__all__ = ["application", "main", "recipe"]

RUN = web.AppKey("run", Run)
ROUNDS = 2_000


def train(model: FLModel, site: Site) -> FLModel:
    """Fit a line to this round's points; runs in a thread, so requests are answered meanwhile."""
    points = site.rng.normal(size=(500, 8))
    targets = points @ np.arange(8.0) + site.index
    weights = model.params["weights"]
    weights -= 0.1 * points.T @ (points @ weights - targets) / len(points)
    return FLModel(
        params={"weights": weights},
        metrics={"loss": float(np.mean((points @ weights - targets) ** 2))},
    )


def recipe() -> FedAvgRecipe:
    """Return the job: for ``hunt`` and ``what-if``, too."""
    return FedAvgRecipe(
        name="background",
        model={"weights": np.zeros(8)},
        min_clients=3,
        num_rounds=ROUNDS,
        train=train,
        key_metric="loss",
        lower_is_better=True,
    )


async def background_run(app: web.Application) -> AsyncIterator[None]:
    """Start the run with the application, and end it with the application."""
    async with recipe().start(SimEnv(num_clients=4, seed=7)) as run:
        app[RUN] = run
        yield
        run.abort()  # harmless when it has ended; leaving the block waits for the end


async def status(request: web.Request) -> web.Response:
    """Answer with what is known of the run by now."""
    run = request.app[RUN]
    best = run.history.best()
    return web.json_response(
        {
            "run": run.run_id,
            "status": run.get_status(),
            "rounds": len(run.history.rounds),
            "of": ROUNDS,
            "best": None if best is None else dict(best.metrics),
            "failed_sites": run.history.failed_sites(),
        }
    )


def application() -> web.Application:
    """Return the application; the run starts when the application does."""
    app = web.Application()
    app.cleanup_ctx.append(background_run)
    app.router.add_get("/status", status)
    return app


def main() -> None:
    """Serve until interrupted."""
    web.run_app(application(), host="127.0.0.1", port=8080)


if __name__ == "__main__":
    main()
