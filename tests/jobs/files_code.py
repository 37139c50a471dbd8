"""Code that looks for the files of its site; other processes load it by its path."""

from __future__ import annotations

import numpy as np

from flare_async import FLModel


def train(model, site):
    """Return the numbers in a file that every site has."""
    assert "flare_async.files" not in site.config
    return FLModel(params={"w": np.loadtxt(site.file("numbers.txt"), np.float32)})
