"""The exchange in NVFlare's simulator, as its documents set it up.

``NumpyFedAvgRecipe`` (results are aggregated as they come), clients in threads of the simulator
with one thread each, scripts in the client's process, the first model from a file: as a list in
the job's configuration, which is the other way, it would be text.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from nvflare.app_common.np.recipes import NumpyFedAvgRecipe
from nvflare.recipe import SimEnv


def main():
    """Run as the command line says, and print what came of it."""
    found = argparse.ArgumentParser()
    found.add_argument("--folder", type=Path, required=True)
    found.add_argument("--nbytes", type=int, required=True)
    found.add_argument("--clients", type=int, required=True)
    found.add_argument("--rounds", type=int, required=True)
    found.add_argument("--silent", action="store_true", help="sites do not note when they train")
    options = found.parse_args()
    first = options.folder / "first.npy"
    np.save(first, np.full(options.nbytes // 4, 0.5, np.float32))
    recipe = NumpyFedAvgRecipe(
        name="peers",
        initial_ckpt=str(first),
        min_clients=options.clients,
        num_rounds=options.rounds,
        train_script=str(Path(__file__).with_name("nvflare_client.py")),
        train_args="" if options.silent else f"--stamps {options.folder}",
    )
    env = SimEnv(
        num_clients=options.clients,
        num_threads=options.clients,
        workspace_root=str(options.folder / "workspace"),
    )
    run = recipe.execute(env)
    results = [Path(found) for found in Path(run.get_result()).rglob("*.npy")]
    values = {str(np.load(path, mmap_mode="r").flat[-1]) for path in results}
    expected = str(np.float32(0.5 + options.rounds))
    print(json.dumps({"ok": expected in values, "values": sorted(values)}))
    sys.exit(0 if expected in values else 1)


if __name__ == "__main__":
    main()
