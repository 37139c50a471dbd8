"""NVFlare's names for waits and bounds, put into limits."""

from __future__ import annotations

import dataclasses
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare_async import SimEnv
from flare_async.errors import ConfigError, FlareError, LimitsError
from flare_async.jobs.client_config import COUNTERPARTS, checked_settings, limits_with
from flare_async.limits import Limits
from flare_async.recipes import FedAvgRecipe


def recipe():
    """Return a recipe that nothing was added to."""
    return FedAvgRecipe(model=np.zeros(2), min_clients=1, train=lambda model, site: model)


def test_every_name_has_a_field_of_limits_or_none():
    """The table names no field that does not exist."""
    fields = {field.name for field in dataclasses.fields(Limits)}
    assert {field for field in COUNTERPARTS.values() if field} <= fields
    assert all(name == name.lower() for name in COUNTERPARTS)


def test_the_page_about_limits_lists_every_name():
    """The table and the page agree."""
    text = (Path(__file__).parents[2] / "docs" / "limits.md").read_text("utf-8")
    rows = [line.split("|")[1:3] for line in text.splitlines() if line.count("|") == 3]
    shown = {
        name.strip(" `"): limit.strip(" `-") for limit, names in rows for name in names.split(",")
    }
    assert {name: shown.get(name) for name in COUNTERPARTS} == dict(COUNTERPARTS)


def test_the_settings_of_large_models_become_limits():
    """The values that NVFlare's release notes recommend."""
    made = recipe()
    made.add_client_config({"submit_result_timeout": 1800, "max_resends": 5})
    made.add_client_config({"tensor_min_download_timeout": 600, "EXTERNAL_PRE_INIT_TIMEOUT": 900})
    made.add_server_config({"download_complete_timeout": 7200})
    limits = made.limits(Limits(window_bytes=8 << 20))
    assert (limits.stall_timeout, limits.max_resends) == (1800, 5)
    assert limits.trainer_idle_timeout == 900
    made.add_client_config({"external_pre_init_timeout": 60})
    assert made.limits(Limits()).trainer_idle_timeout == Limits().trainer_idle_timeout
    assert limits.window_bytes == 8 << 20


def test_without_settings_the_limits_are_those_of_the_environment():
    """Nothing is made anew."""
    limits = Limits(stall_timeout=5)
    assert recipe().limits(limits) == limits


def test_an_unknown_name_is_refused_with_the_one_that_is_meant():
    """A misspelt setting would otherwise do nothing."""
    with pytest.raises(ConfigError, match=r"did you mean submit_result_timeout\?") as caught:
        recipe().add_client_config({"submit_results_timeout": 60})
    assert caught.value.field == "client_config.submit_results_timeout"
    with pytest.raises(ConfigError, match="a dict is needed"):
        recipe().add_server_config([("max_resends", 3)])


def test_settings_that_contradict_each_other_are_named_at_the_start(tmp_path):
    """All of them, theirs and ours, before a folder is made."""
    made = recipe()
    made.add_client_config(
        {
            "tensor_streaming_per_request_timeout": 900,
            "tensor_min_download_timeout": 600,
            "heartbeat_interval": -1,
        }
    )
    with pytest.raises(LimitsError) as caught:
        made.execute(SimEnv(num_clients=1, workspace_root=tmp_path))
    text = "; ".join(caught.value.problems)
    assert (
        "tensor_streaming_per_request_timeout=900 exceeds tensor_min_download_timeout=600" in text
    )
    assert "set by tensor_streaming_per_request_timeout" in text
    assert "heartbeat_interval=-1 must be positive and finite (set by heartbeat_interval)" in text
    assert list(tmp_path.iterdir()) == []


def test_a_run_has_the_limits_of_its_recipe(tmp_path):
    """The server's context is what counts."""
    found = []

    class Looking(FedAvgRecipe):
        async def coordinate(self, cohort):
            found.append(cohort.server.context.limits.stall_timeout)
            await super().coordinate(cohort)

    made = Looking(model=np.zeros(2), min_clients=1, train=lambda model, site: model)
    made.add_client_config({"get_task_timeout": 123})
    made.execute(SimEnv(num_clients=1, workspace_root=tmp_path))
    assert found == [123]


@given(
    st.dictionaries(
        st.sampled_from(sorted(COUNTERPARTS)) | st.text(max_size=8),
        st.none() | st.integers() | st.floats() | st.text(max_size=3),
    )
)
def test_whatever_is_set_gives_limits_or_a_typed_error(config):
    """No setting of a wrong type passes."""
    try:
        limits = limits_with(Limits(), checked_settings("client_config", config))
    except FlareError:
        return
    assert isinstance(limits, Limits)
    assert not [name for name in config if not get_close_matches(name.lower(), COUNTERPARTS)]
