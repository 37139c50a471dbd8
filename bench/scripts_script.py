"""The script of ``bench.scripts``: adds one to the model."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import flare_async.client as flare
from bench.peak import peak_figures

flare.init()
while flare.is_running():
    model = flare.receive()
    assert model is not None
    array = (model.params or {})["w"]
    assert isinstance(array, np.ndarray)
    np.add(array, np.float32(1), out=array)
    del array  # a site that waits shall hold no model
    flare.send(model)
if len(sys.argv) > 1:
    peak = peak_figures()["peak"]
    Path(sys.argv[1], f"{flare.get_site_name()}.peak").write_text(str(peak), encoding="ascii")
