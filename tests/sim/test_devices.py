"""Devices for the training processes of sites."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare_async import SimEnv
from flare_async.errors import ConfigError
from flare_async.recipes import FedAvgRecipe
from flare_async.sim.devices import gpu_groups

SCRIPT = Path(__file__).parents[1] / "client" / "scripts" / "numpy_client.py"


@pytest.mark.parametrize(
    ("config", "groups"),
    [
        (None, ()),
        ("[0],[1]", (("0",), ("1",))),
        ("[0,1],[2, 3]", (("0", "1"), ("2", "3"))),
        ("0,1", (("0",), ("1",))),
        ("[0]", (("0",),)),
        ("3", (("3",),)),
    ],
)
def test_groups_are_read_as_nvflare_writes_them(config, groups):
    """A number alone is a group of one."""
    assert gpu_groups(config) == groups


@given(st.integers() | st.text("[]0, x", max_size=8))
def test_whatever_is_given_is_groups_or_a_typed_error(config):
    """No group is empty, and no device is anything but a number."""
    try:
        groups = gpu_groups(config)
    except ConfigError:
        return
    assert groups
    assert all(device.isdecimal() for group in groups for device in group)


def made(**options):
    """Return a recipe."""
    return FedAvgRecipe(model=np.zeros(2), min_clients=1, **options)


@pytest.mark.parametrize(
    "options", [{"train": lambda model, site: model}, {"train_script": SCRIPT}]
)
def test_devices_that_nobody_could_be_given_are_refused(options):
    """Functions and scripts in threads share this process's; they were given none, silently."""
    with pytest.raises(ConfigError, match=r"gpu_config.*no site trains in a process of its own"):
        SimEnv(num_clients=2, gpu_config="[0],[1]").works(made(**options))


def test_sites_get_the_groups_in_turn():
    """More sites than groups share them."""
    recipe = made(train_script=SCRIPT, launch_external_process=True)
    works = SimEnv(num_clients=3, gpu_config="[0],[1,2]").works(recipe)
    found = {site: work.script.gpus for site, work in works.items()}
    assert found == {"site-1": ("0",), "site-2": ("1", "2"), "site-3": ("0",)}
