"""A script that adds a number to the model."""

import argparse

import flare_async.client as flare

parser = argparse.ArgumentParser()
parser.add_argument("--by", type=float)
by = parser.parse_args().by

flare.init()
while flare.is_running():
    model = flare.receive()
    flare.send(flare.FLModel(params={name: value + by for name, value in model.params.items()}))
