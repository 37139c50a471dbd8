"""Writes down what a script finds around it, as metrics and lines."""

import argparse
import logging
import sys
from pathlib import Path

import flare_async.client as flare

assert __name__ == "__main__"
assert __file__.endswith("probing.py")
parser = argparse.ArgumentParser()
parser.add_argument("--number", type=int)
parser.add_argument("words", nargs="*")
args = parser.parse_args()
assert len(sys.argv) == 3 + len(args.words)
assert sys.argv == [sys.argv[0], "--number", str(args.number), *args.words]
assert [*sys.argv] == sys.argv[:] == list(sys.argv)
print("half a line,", end=" ")
print("whole", flush=True)
print("to the other stream", file=sys.stderr)
print("no newline", end="")
logging.getLogger("probe").warning("logged by %s", flare.get_site_name())

with flare.init() as context:
    config = flare.get_config()
    while flare.is_running():
        model = context.receive()
        assert context.receive() is model
        model.metrics = {"number": args.number, "folder": len(str(Path.cwd()))}
        model.metrics["bonus"] = config.get("bonus", 0)
        flare.send(model)
        assert model.params is None
