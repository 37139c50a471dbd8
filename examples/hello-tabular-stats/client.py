"""The data of one site, as pandas frames: all that federated statistics need to know."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_breast_cancer

from flare_async.jobs.site import Site
from flare_async.recipes.statistics import DFStatisticsCore

__all__ = ["CancerStatistics"]


class CancerStatistics(DFStatisticsCore):
    """Some columns of scikit-learn's breast cancer data, shared out among the sites."""

    def __init__(self, columns: list[str]) -> None:
        super().__init__()
        self.columns = columns

    def initialize(self, site: Site) -> None:
        """Load this site's rows; every tenth "mean smoothness" is missing."""
        frame = load_breast_cancer(as_frame=True).frame[self.columns]
        own = frame.iloc[site.index :: site.num_sites].copy()
        own.iloc[::10, own.columns.get_loc("mean smoothness")] = np.nan
        self.data = {"train": own.iloc[20:], "test": own.iloc[:20]}
