"""The simulation of ``bench.scripts``: runs once and prints its figures."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.peak import peak_figures
from flare_async import SimEnv
from flare_async.recipes import FedAvgRecipe

__all__ = ["Setting"]

SCRIPT = Path(__file__).with_name("scripts_script.py")


@dataclass(frozen=True, slots=True)
class Setting:
    """How many sites, where their scripts run, and the folder for what is written."""

    sites: int
    rounds: int
    nbytes: int
    external: float
    folder: str


def main(setting: Setting) -> dict[str, float]:
    """Run and return the figures."""
    base = peak_figures()["rss"]
    recipe = FedAvgRecipe(
        model={"w": np.zeros(setting.nbytes // 4, np.float32)},
        num_rounds=setting.rounds,
        min_clients=setting.sites,
        train_script=SCRIPT,
        train_args=f"'{setting.folder}'" if setting.external else "",
        launch_external_process=bool(setting.external),
    )
    began = time.perf_counter()
    run = recipe.execute(SimEnv(num_clients=setting.sites, workspace_root=setting.folder))
    wall = time.perf_counter() - began
    peaks = [float(path.read_text("ascii")) for path in Path(setting.folder).glob("*.peak")]
    return {
        "wall_s": wall,
        "base": base,
        "peak": peak_figures()["peak"],
        "arrived": sum(record.arrived for record in run.history.rounds),
        "trainers": sum(peaks),
    }


if __name__ == "__main__":
    print(json.dumps(main(Setting(**json.loads(sys.argv[1])))))
