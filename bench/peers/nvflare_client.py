"""What a site of NVFlare does: adds one to what it receives, and notes when that was if told to."""

import argparse
import time
from pathlib import Path

import nvflare.client as flare
from nvflare.app_common.abstract.fl_model import FLModel

KEY = "numpy_key"


def main():
    """Work until the job ends."""
    found = argparse.ArgumentParser()
    found.add_argument("--stamps", type=Path)
    options = found.parse_args()
    flare.init()
    site = flare.get_site_name()
    while flare.is_running():
        model = flare.receive()
        if model is None:
            break
        if options.stamps is not None:
            with (options.stamps / f"{site}.txt").open("a") as file:
                file.write(f"{time.time()}\n")
        made = model.params[KEY] + 1
        flare.send(FLModel(params={KEY: made}, meta={"NUM_STEPS_CURRENT_ROUND": 1}))


main()
