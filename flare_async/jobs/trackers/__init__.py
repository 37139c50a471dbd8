"""TensorBoard, MLflow and Weights & Biases: where a run's records go beside its own folder.

``feed`` says what a tracker is and gives it its rows in worker threads. Each of the others is one
library behind that, and ``steps`` is the x-axis of what came without one.
"""

from __future__ import annotations

__all__: list[str] = []  # recipes name the trackers, the keeper of records the feed
