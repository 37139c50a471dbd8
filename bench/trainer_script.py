"""The script of ``bench.trainer``: adds one to the model, in place, and writes down its memory."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

import flare_async.client as flare
from bench.memory_server import peak_figures_kept
from bench.peak import peak_figures

flare.init()
flare.get_task_name()  # everything is imported, and nothing received
base = peak_figures()["rss"]
peaks = []
while flare.is_running():
    model = flare.receive()
    assert model is not None
    for array in (model.params or {}).values():
        assert isinstance(array, np.ndarray)
        np.add(array, np.float32(1), out=array)
    flare.send(model)
    del model, array
    peaks.append(peak_figures_kept()["peak"] - base)
    Path(sys.argv[1]).write_text(json.dumps({"base": base, "peaks": peaks}), encoding="ascii")
