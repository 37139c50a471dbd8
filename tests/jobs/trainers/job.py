"""A user's program: ``python job.py FOLDER EXTERNAL exit|sleep``."""

import sys
from pathlib import Path

import numpy as np

from flare_async import Limits, SimEnv
from flare_async.recipes import FedAvgRecipe

FOLDER, EXTERNAL, WAY = sys.argv[1:]
SCRIPTS = {"exit": "exiting_script.py", "sleep": "sleeping_script.py"}

if __name__ == "__main__":
    recipe = FedAvgRecipe(
        model={"w": np.zeros(4, np.float32)},
        num_rounds=1,
        min_clients=1,
        train_script=Path(__file__).with_name(SCRIPTS[WAY]),
        train_args=f"{FOLDER}/pid",
        launch_external_process=EXTERNAL == "True",
    )
    limits = Limits(shutdown_timeout=1.0)
    recipe.execute(SimEnv(num_clients=1, workspace_root=FOLDER, limits=limits))
