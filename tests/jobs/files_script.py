"""A script that finds its file in two ways."""

import sys

import numpy as np

import flare_async.client as flare

flare.init()
while flare.is_running():
    flare.receive()
    path = flare.get_file("numbers.txt")
    assert str(path) == sys.argv[1], sys.argv
    assert "flare_async.files" not in flare.get_config()
    flare.send(flare.FLModel(params={"w": np.loadtxt(path, np.float32)}))
