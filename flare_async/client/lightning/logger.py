"""A Lightning logger whose records go to the job's server."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping

from flare_async.client.api import APIContext, current
from flare_async.client.data_types import AnalyticsDataType
from flare_async.client.lightning.base import Logger

__all__ = ["ClientLogger", "logger"]


class ClientLogger(Logger):  # type: ignore[misc, unused-ignore]
    """Sends what a module logs; ``Trainer(logger=ClientLogger())``. Only rank 0 sends."""

    def __init__(self, ctx: APIContext | None = None) -> None:
        super().__init__()
        self._ctx = ctx

    @property
    def name(self) -> str:
        """The name of the logger."""
        return "flare_async"

    @property
    def version(self) -> str:
        """The id of the job."""
        return current(self._ctx).get_job_id()

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Send numbers.

        Raises:
            ConfigError: a value is no number; the error names the key.
        """
        ctx = current(self._ctx)
        for key, value in metrics.items() if ctx.rank == 0 else ():
            ctx.log(key, value, AnalyticsDataType.SCALAR, global_step=step)

    def log_hyperparams(
        self, params: Mapping[str, object] | Namespace, *args: object, **kwargs: object
    ) -> None:
        """Send parameters; what is no plain value is sent as its text."""
        del args, kwargs
        ctx, values = current(self._ctx), vars(params) if isinstance(params, Namespace) else params
        if ctx.rank == 0 and values:
            ctx.log("params", values, AnalyticsDataType.PARAMETERS)


def logger(ctx: APIContext | None = None) -> ClientLogger:
    """Return a logger for ``Trainer(logger=...)``."""
    return ClientLogger(ctx)
