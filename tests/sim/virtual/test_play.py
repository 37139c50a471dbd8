"""Recipes in virtual time: the real roles on simulated ports, exact bytes and seconds."""

from __future__ import annotations

import json

import numpy as np
import pytest

from flare_async import SimEnv
from flare_async.errors import ConfigError, QuorumNotReached, SimDeadlock
from flare_async.jobs.run import GLOBAL_MODEL
from flare_async.limits import MIB
from flare_async.model import FLModel
from flare_async.recipes import FedAvgRecipe, SwarmRecipe, add_cross_site_evaluation
from flare_async.sim.virtual import VirtualSetting, play_virtual
from flare_async.testing.profile import Line, Profile
from flare_async.testing.spread import Spread
from flare_async.testing.trainer import TrainerModel

MEGABYTE = 1_000_000


def train(model: FLModel, site) -> FLModel:
    """Add the site's number."""
    params = {name: value + site.index for name, value in model.params.items()}
    return FLModel(params=params, meta={"NUM_STEPS_CURRENT_ROUND": 1 + site.index})


def recipe(clients: int = 4, nbytes: int = 4096, **given) -> FedAvgRecipe:
    """Return a recipe whose model has so many bytes."""
    model = {"w": np.zeros(nbytes // 4, np.float32)}
    given = {"num_rounds": 2, "min_clients": clients, "train": train, **given}
    return FedAvgRecipe(name="virtual", model=model, **given)


def steady(megabytes: float, latency: float = 0.0) -> Profile:
    """Return a network of which every site has the same, so much a second each way."""
    line = Line(Spread.constant(latency), Spread.constant(megabytes * MEGABYTE))
    return Profile("steady", line, line)


def test_the_model_has_the_bits_of_a_run_in_real_time(tmp_path):
    """S11: ports change nothing of what is computed."""
    virtual = play_virtual(recipe(), VirtualSetting(clients=4, seed=3))
    real = recipe().execute(SimEnv(num_clients=4, seed=3, workspace_root=tmp_path))
    assert virtual.model.model_digest() == real.model.model_digest()
    assert virtual.run.status == "completed"


def test_records_are_on_the_simulated_disk_and_nowhere_else(tmp_path, monkeypatch):
    """No run folder is made: what a run keeps is in the result."""
    monkeypatch.chdir(tmp_path)
    run = play_virtual(recipe(), VirtualSetting(clients=4))
    assert sorted(run.files) == ["FL_global_model.safetensors", "history.jsonl", "run.json"]
    assert [json.loads(line)["round"] for line in run.files["history.jsonl"].splitlines()] == [0, 1]
    assert list(tmp_path.iterdir()) == []


def test_files_of_a_recipes_own_are_in_the_result_and_nowhere_else(tmp_path, monkeypatch):
    """Cross-site evaluation finds the best model by its path, and writes its matrix by one."""
    monkeypatch.chdir(tmp_path)
    made = recipe(2, evaluate=lambda model, site: {"accuracy": float(model.params["w"].mean())})
    add_cross_site_evaluation(made)
    run = play_virtual(made, VirtualSetting(clients=2, seed=3))
    assert run.run.status == "completed"
    matrix = json.loads(run.files["cross_site_val/cross_val_results.json"])
    assert {"SRV_server", "SRV_best_server", "site-1", "site-2"} == set(matrix["site-1"])
    assert list(tmp_path.iterdir()) == []
    assert play_virtual(made, VirtualSetting(clients=2, seed=3)).trace_hash == run.trace_hash


def test_the_model_of_a_swarm_is_that_of_its_sites():
    """Their files lie on the simulated disk; the run shows one site's, as a real one does."""
    model = {"w": np.zeros(8, np.float32)}
    made = SwarmRecipe(name="swarm", model=model, num_rounds=2, min_clients=3, train=train)
    run = play_virtual(made, VirtualSetting(clients=3, seed=3))
    assert run.model is not None
    assert run.files["FL_global_model.safetensors"] == run.files[f"site-1/{GLOBAL_MODEL}"]


def test_a_model_of_which_only_the_size_counts_is_not_kept_either():
    """A gigabyte of zeros would be a gigabyte of memory: the disk has its header."""
    setting = VirtualSetting(clients=2, payload="sizes", model_bytes=1_000 * MEGABYTE)
    run = play_virtual(recipe(2, num_rounds=1), setting)
    assert run.model.nbytes == 1_000 * MEGABYTE
    assert 0 < len(run.files[GLOBAL_MODEL]) < 1000


def test_without_relays_the_server_sends_every_site_the_model():
    """Payload out is clients x model, and a little for receipts; payload in is the same."""
    setting = VirtualSetting(clients=10, payload="sizes")
    server = play_virtual(recipe(10, MIB, num_rounds=1), setting).hosts["server"]
    for payload in (server.payload_out, server.payload_in):
        assert 10 * MIB <= payload < 10 * MIB + 10_000


def test_caching_relays_are_sent_one_model_each():
    """Payload out is relays x model; what comes in is still every site's."""
    setting = VirtualSetting(clients=20, relays=4, payload="sizes")
    server = play_virtual(recipe(20, MIB, num_rounds=1), setting).hosts["server"]
    assert 4 * MIB <= server.payload_out < 4 * MIB + 20_000
    assert 20 * MIB <= server.payload_in < 20 * MIB + 20_000


def test_reducing_relays_send_one_sum_each():
    """Payload in is relays x the sum of a small model: float64, twice its bytes at most."""
    setting = VirtualSetting(clients=20, relays=4, relay_mode="reduce", payload="sizes")
    server = play_virtual(recipe(20, MIB, num_rounds=1), setting).hosts["server"]
    assert 4 * MIB <= server.payload_in < 9 * MIB


def test_a_round_takes_what_the_bytes_take_on_the_line():
    """1 MB down and up at 1 MB/s is 2 s: exact but for the control frames' bytes."""
    setting = VirtualSetting(clients=3, profile=steady(1), payload="sizes")
    (record,) = play_virtual(recipe(3, MEGABYTE, num_rounds=1), setting).history.rounds
    assert 2.0 <= record.seconds < 2.01


def test_a_round_takes_what_training_takes_on_a_free_network():
    """Trainings go on side by side, so the longest one is the round."""
    trainer = TrainerModel(duration=Spread.constant(600.0))
    setting = VirtualSetting(clients=5, trainer=trainer)
    run = play_virtual(recipe(5), setting)
    assert [600 <= record.seconds < 600.1 for record in run.history.rounds] == [True, True]
    assert {site.train_seconds for site in run.history.rounds[0].sites} == {600.0}


def test_the_servers_port_is_shared_by_all_its_links():
    """Ten sites with 10 MB/s each get 10 MB/s together from a server that has no more."""
    setting = VirtualSetting(
        clients=10, profile=steady(10), server_rate=10 * MEGABYTE, payload="sizes"
    )
    (record,) = play_virtual(recipe(10, MEGABYTE, num_rounds=1), setting).history.rounds
    assert 1.0 <= record.seconds < 2.2


def test_sites_that_drop_out_leave_a_quorum():
    """With a deadline they say nothing more, and the round closes with who is left."""
    setting = VirtualSetting(
        clients=20, dropout=0.3, payload="sizes", trainer=TrainerModel(Spread.constant(10.0))
    )
    run = play_virtual(recipe(5, round_timeout=60.0), setting)
    arrived = [record.arrived for record in run.history.rounds]
    assert all(5 <= count < 20 for count in arrived)
    assert [59.9 < record.seconds < 60.1 for record in run.history.rounds] == [True, True]


def test_too_many_drop_outs_fail_the_run_with_the_quorum():
    """Without a deadline they report failures, and the round cannot be waited for any longer."""
    setting = VirtualSetting(clients=10, dropout=0.5, payload="sizes")
    run = play_virtual(recipe(10), setting)
    assert run.run.status == "failed"
    assert isinstance(run.run.cause, QuorumNotReached)


def test_a_hang_that_nothing_ends_is_a_deadlock_that_names_who_waits():
    """No virtual time-out can save a round that has none."""
    setting = VirtualSetting(clients=2, trainer=TrainerModel(hang=1.0), horizon=10_000.0)
    with pytest.raises(SimDeadlock, match=r"site-2: .*Client\._train"):
        play_virtual(recipe(2), setting)


def test_user_code_that_reaches_for_the_real_world_fails_the_run():
    """A thread or a socket would break the seed's promise."""

    async def away(model, site):
        import anyio.to_thread

        return await anyio.to_thread.run_sync(lambda: model)

    run = play_virtual(recipe(2, train=away), VirtualSetting(clients=2))
    assert run.run.status == "failed"
    assert all("simulation fence" in reason for reason in run.history.failed_sites().values())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("clients", 0),
        ("dropout", 1.0),
        ("payload", "none"),
        ("server_rate", 0),
        ("frame_bytes", 10),
        ("model_bytes", 100),
    ],
)
def test_a_setting_that_cannot_be_is_refused(field, value):
    """The error names the argument."""
    with pytest.raises(ConfigError, match=field.replace("clients", "num_clients|clients")):
        play_virtual(recipe(1), VirtualSetting(**{"clients": 2, field: value}))


def test_a_script_needs_sizes_only(tmp_path):
    """A script's thread cannot be simulated, and its sizes can."""
    script = tmp_path / "client.py"
    script.write_text("raise SystemExit(1)\n")
    made = recipe(2, train=None, train_script=str(script))
    with pytest.raises(ConfigError, match="no script runs in virtual time"):
        play_virtual(made, VirtualSetting(clients=2))
    run = play_virtual(made, VirtualSetting(clients=2, payload="sizes"))
    assert [record.arrived for record in run.history.rounds] == [2, 2]
