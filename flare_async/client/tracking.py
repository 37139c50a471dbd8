"""Writers in the manner of TensorBoard, MLflow and Weights & Biases, for training scripts.

What they write travels to the server, whatever tracker is attached there: the name of a writer
says only how its calls look. Numbers may be whatever ``float()`` takes; steps are optional.
Nothing waits for the server.
"""

from __future__ import annotations

from collections.abc import Mapping

from flare_async.client.api import APIContext, current
from flare_async.client.data_types import AnalyticsDataType

__all__ = ["MLflowWriter", "SummaryWriter", "WandBWriter"]


class _Writer:
    """What the writers have in common: the context that they log to."""

    def __init__(self, ctx: APIContext | None = None) -> None:
        self._ctx = ctx

    def write(
        self, key: str, value: object, kind: AnalyticsDataType, step: int | None, **extra: object
    ) -> None:
        """Log one record. Raises ConfigError for a value that is none."""
        current(self._ctx).log(key, value, kind, global_step=step, **extra)

    def flush(self) -> None:
        """Do nothing: records leave at once."""

    def close(self) -> None:
        """Do nothing: the script's context is what is closed."""


class SummaryWriter(_Writer):
    """Writes as TensorBoard's ``SummaryWriter`` does.

    Raises:
        ConfigError: (all methods) a value is no number; the error names the tag.
    """

    def add_scalar(
        self, tag: str, scalar: object, global_step: int | None = None, **kwargs: object
    ) -> None:
        """Log one number."""
        self.write(tag, scalar, AnalyticsDataType.SCALAR, global_step, **kwargs)

    def add_scalars(
        self,
        tag: str,
        scalars: Mapping[str, object],
        global_step: int | None = None,
        **kwargs: object,
    ) -> None:
        """Log several numbers that belong together, by their names."""
        self.write(tag, scalars, AnalyticsDataType.SCALARS, global_step, **kwargs)


class MLflowWriter(_Writer):
    """Writes as the functions of ``mlflow`` do.

    Raises:
        ConfigError: (metrics) a value is no number; the error names the key.
    """

    def log_param(self, key: str, value: object) -> None:
        """Log a parameter; what is no plain value is logged as its text."""
        self.write(key, value, AnalyticsDataType.PARAMETER, None)

    def log_params(self, values: Mapping[str, object]) -> None:
        """Log several parameters."""
        self.write("params", values, AnalyticsDataType.PARAMETERS, None)

    def log_metric(self, key: str, value: object, step: int | None = None) -> None:
        """Log one number."""
        self.write(key, value, AnalyticsDataType.METRIC, step)

    def log_metrics(self, metrics: Mapping[str, object], step: int | None = None) -> None:
        """Log several numbers."""
        self.write("metrics", metrics, AnalyticsDataType.METRICS, step)

    def log_text(self, text: str, artifact_file_path: str) -> None:
        """Log a text, to be kept under a relative path."""
        self.write(artifact_file_path, text, AnalyticsDataType.TEXT, None, path=artifact_file_path)

    def set_tag(self, key: str, tag: object) -> None:
        """Set a tag of the run."""
        self.write(key, tag, AnalyticsDataType.TAG, None)

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set several tags of the run."""
        self.write("tags", tags, AnalyticsDataType.TAGS, None)


class WandBWriter(_Writer):
    """Writes as ``wandb.log`` does.

    Raises:
        ConfigError: a value is no number; the error names the key.
    """

    def log(self, metrics: Mapping[str, object], step: int | None = None) -> None:
        """Log several numbers."""
        self.write("metrics", metrics, AnalyticsDataType.METRICS, step)
