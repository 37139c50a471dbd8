"""Exits with a status in the middle of its task."""

import sys

import flare_async.client as flare

flare.init()
flare.receive()
sys.exit(3)
