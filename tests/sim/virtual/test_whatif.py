"""What-if: figures that can be computed by hand, the command line, and fitting a network."""

from __future__ import annotations

import io
import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest

from flare_async.errors import ConfigError, RunFailed, WorkspaceError
from flare_async.recipes import FedAvgRecipe, FedBuffRecipe, FedEvalRecipe
from flare_async.sim.cli import run_command_line
from flare_async.sim.virtual import VirtualSetting, play_virtual
from flare_async.sim.virtual.fit import fit_network
from flare_async.sim.virtual.networks import read_profile
from flare_async.sim.virtual.parameters import SPREAD
from flare_async.sim.virtual.whatif import percentile, sites_of, what_if
from flare_async.testing.profile import Line, Profile
from flare_async.testing.spread import Spread
from flare_async.testing.trainer import TrainerModel

MEGABYTE = 1_000_000
JOB = """
import numpy as np
from flare_async.recipes import FedAvgRecipe

def train(model, site):
    raise AssertionError("nobody trains in what-if")

recipe = FedAvgRecipe(
    name="job", model={"w": np.zeros(25_000, np.float32)}, num_rounds=2, min_clients=2, train=train
)
"""


def recipe(clients: int, **given) -> FedAvgRecipe:
    """Return a recipe with a model of a megabyte."""
    model = {"w": np.zeros(MEGABYTE // 4, np.float32)}
    given = {"num_rounds": 2, "min_clients": clients, "train": lambda model, site: model, **given}
    return FedAvgRecipe(name="whatif", model=model, **given)


def setting(clients: int, **given) -> VirtualSetting:
    """Return a federation of which every site has 1 MB/s each way and trains for 10 s."""
    line = Line(Spread.constant(0.0), Spread.constant(1.0 * MEGABYTE))
    given = {"trainer": TrainerModel(Spread.constant(10.0)), "seed": 1, **given}
    return VirtualSetting(
        clients=clients, profile=Profile("line", line, line), payload="sizes", **given
    )


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Return the path of a job file, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "job.py"
    path.write_text(JOB)
    return str(path)


def test_a_round_is_a_megabyte_down_ten_seconds_and_a_megabyte_up():
    """Everything is the same for every site, so every figure is."""
    found = what_if(recipe(5), setting(5))
    assert all(12 <= seconds < 12.1 for seconds in (*found.round_seconds, *found.site_seconds))
    assert (found.updates, found.missing, found.model_bytes) == (10, 0, MEGABYTE)
    assert 10 * MEGABYTE <= found.egress < 10 * MEGABYTE + 20_000
    assert [late.training for late in found.stragglers] == [10.0] * 5


def test_relays_take_the_egress_and_keep_the_ingress():
    """Two caching relays: two models a round leave the server, ten come back."""
    found = what_if(recipe(10), setting(10, relays=2))
    assert 4 * MEGABYTE <= found.egress < 4.1 * MEGABYTE
    assert 20 * MEGABYTE <= found.ingress < 20.1 * MEGABYTE
    assert found.relay.cached >= MEGABYTE


def test_the_best_quorum_leaves_a_straggler_out():
    """Half of the sites train for much longer than the median: waiting for all is not worth it."""
    slow = TrainerModel(Spread(10.0, 100.0))
    found = what_if(recipe(40), setting(40, trainer=slow))
    seconds = [arrival.seconds for arrival in found.arrivals]
    assert seconds == sorted(seconds)
    assert found.best_quorum.quorum < 1.0
    assert found.arrivals[-1].updates == 40
    assert found.stragglers[0].seconds == pytest.approx(max(found.site_seconds), rel=0.5)


def test_a_part_of_an_asynchronous_run_is_as_long_as_its_training_at_least():
    """It begins before the version does in which it is; and no quorum could close that earlier."""
    model = {"w": np.zeros(MEGABYTE // 4, np.float32)}
    usual = {"min_clients": 6, "num_rounds": 6, "train": lambda model, site: model}
    made = FedBuffRecipe(name="buffered", model=model, buffer_size=2, **usual)
    found = what_if(made, setting(6, trainer=TrainerModel(Spread(10.0, 40.0))))
    assert found.updates == 12
    assert all(late.seconds >= late.training > 0 for late in found.stragglers)
    assert found.arrivals == ()


def test_drop_outs_are_missing_and_no_quorum_counts_them():
    """Arrivals are told for shares that every round has reached."""
    found = what_if(recipe(5, round_timeout=30.0), setting(20, dropout=0.25))
    assert found.missing > 0
    assert found.updates + found.missing == 40
    assert max(arrival.quorum for arrival in found.arrivals) < 1.0


@pytest.mark.sweep
def test_the_size_of_the_model_can_be_another_one():
    """A job is asked about a model that does not exist yet; 1 GB of it takes no memory."""
    found = what_if(recipe(2, num_rounds=1), setting(2, model_bytes=1000 * MEGABYTE))
    assert found.model_bytes == 1000 * MEGABYTE
    assert 2010 <= found.round_seconds[0] < 2011


def test_a_run_that_would_fail_is_told_as_such():
    """No figures of a run that does not end well."""
    with pytest.raises(RunFailed, match="quorum"):
        what_if(recipe(10), setting(10, dropout=0.5))
    with pytest.raises(ConfigError, match="payload"):
        what_if(recipe(2), VirtualSetting(clients=2))
    judging = FedEvalRecipe(name="judging", model={"w": np.zeros(8)}, evaluate=lambda *_: {})
    with pytest.raises(ConfigError, match="job='judging': has no rounds of training"):
        what_if(judging, setting(2))


def test_percentiles_are_between_neighbours():
    """As NumPy's are."""
    values = [4.0, 1.0, 3.0, 2.0]
    for share in (0, 10, 50, 90, 100):
        assert percentile(values, share) == pytest.approx(np.percentile(values, share))
    assert percentile([], 50) == 0.0


def test_the_command_prints_one_json_document(job, capsys):
    """The same seed prints the same document, with all that was asked for."""
    arguments = ["what-if", job, "--clients", "6", "--network", "lan", "--json", "--seed", "5"]
    documents = []
    for _ in range(2):
        assert run_command_line(arguments) == 0
        documents.append(json.loads(capsys.readouterr().out))
    (case,) = documents[0]["data"]["cases"]
    assert documents[0] == documents[1]
    assert (documents[0]["ok"], case["clients"], case["updates"]) == (True, 6, 12)
    assert set(case["round_seconds"]) == {"p10", "p50", "p90", "p99", "max"}


def test_a_reader_that_has_had_enough_is_no_bug(job, capsys, monkeypatch):
    """``| head`` closes its end; the status is what a shell says of such a program."""

    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    assert run_command_line(["what-if", job, "--clients", "2", "--json"]) == 141
    assert capsys.readouterr().err == ""


def test_a_sweep_names_the_best_and_draws_a_picture(job, capsys, tmp_path):
    """A row for each value, and the shortest median round marked."""
    picture = tmp_path / "whatif.png"
    arguments = ["what-if", job, "--clients", "8", "--sweep", "relays=0,2", "--dropout", "0%"]
    assert run_command_line([*arguments, "--picture", str(picture)]) == 0
    told = capsys.readouterr().out
    assert "shortest median round: relays=" in told
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--network", "nowhere"], 2, "no such profile"),
        (["--sweep", "colour=red"], 2, "write NAME=VALUE"),
        (["--sweep", "relays=many"], 2, "is no number"),
        (["--train-time", "90s..30s"], 2, "median first"),
        (["--sweep", "relays=0,11"], 2, "relays=11: a number from 1 to that of the sites, 10"),
        (["--sweep", "clients=0"], 2, "sweep clients=0: a whole number from 1 on"),
        (["--server-mbit", "-1"], 2, "server_mbit=-1.0"),
        (["--relays", "1", "--relay-memory", "1"], 2, "relay_memory=1: at least 4194304"),
        (["--picture", "nowhere/x.png"], 2, "there is no folder 'nowhere'"),
        (["--picture", "picture.xyz"], 2, "no ending of a picture"),
        (["--dropout", "90%", "--quorum", "100%"], 6, "error: round 0: "),
    ],
)
def test_what_cannot_be_asked_is_refused(job, capsys, arguments, status, said):
    """The exit status and the message say what is wrong."""
    assert run_command_line(["what-if", job, "--clients", "10", *arguments]) == status
    told = capsys.readouterr()
    assert said in told.err
    assert "simulated-disk" not in told.err
    assert told.out == ""


def test_a_share_of_a_hundred_sites_is_as_many_of_them():
    """55 hundredths of 100 are a little more than 55 in floating point."""
    assert [sites_of(share * 0.01, 100) for share in range(1, 101)] == list(range(1, 101))


def recorded(tmp_path, profile: Profile) -> None:
    """Write the history of a virtual run over ``profile`` into a folder."""
    made = VirtualSetting(
        clients=40, profile=profile, payload="sizes", trainer=TrainerModel(Spread(5.0, 9.0))
    )
    run = play_virtual(recipe(40, num_rounds=3), made)
    (tmp_path / "history.jsonl").write_bytes(run.files["history.jsonl"])


def test_a_fitted_network_is_the_one_that_was(tmp_path):
    """Bandwidths of a recorded run come back, and how long its sites trained."""
    line = Line(Spread.constant(0.02), Spread(2.0 * MEGABYTE, 0.5 * MEGABYTE))
    recorded(tmp_path, Profile("true", line, line))
    fitted = fit_network(tmp_path, latency=0.02)
    bandwidth = fitted.profile.up.bandwidth
    assert bandwidth.median == pytest.approx(2.0 * MEGABYTE, rel=0.25)
    assert 0.4 * MEGABYTE < bandwidth.far < MEGABYTE  # a site is seldom slow both ways
    assert fitted.training.median == pytest.approx(5.0, rel=0.2)
    assert (fitted.sites, fitted.tasks) == (40, 120)


@pytest.mark.parametrize(("rounds", "nbytes"), [(1, 100_000), (2, 100_000), (2, MEGABYTE)])
def test_round_trips_are_no_part_of_a_fitted_bandwidth(tmp_path, rounds, nbytes):
    """A small model is one and a large one three, a site's first task one more."""
    line = Line(Spread.constant(0.05), Spread.constant(10.0 * MEGABYTE))
    made = setting(3, model_bytes=nbytes)
    run = play_virtual(
        recipe(3, num_rounds=rounds), replace(made, profile=Profile("p", line, line))
    )
    (tmp_path / "history.jsonl").write_bytes(run.files["history.jsonl"])
    fitted = fit_network(tmp_path, latency=0.05).profile.up.bandwidth
    assert fitted.median == pytest.approx(10.0 * MEGABYTE, rel=0.02)


@pytest.mark.parametrize("seconds", [0.0, 1e-5, 0.25, 5.0, 99.96, 4321.5, 90_000.0])
def test_how_long_training_took_is_told_as_the_option_reads_it(tmp_path, capsys, seconds):
    """No exponents: the line is there to be pasted."""
    row = {"site": "a", "status": "ok", "started": 0.0, "ended": seconds + 1.0}
    row |= {"train_seconds": seconds, "bytes_down": 1000, "bytes_up": 1000}
    (tmp_path / "history.jsonl").write_text(json.dumps({"sites": [row]}) + '\n{"sites": 3}\n')
    assert run_command_line(["fit-network", str(tmp_path)]) == 0
    told = re.search(r"--train-time (\S+)", capsys.readouterr().out)[1]
    assert SPREAD.convert(told, None, None).median == pytest.approx(seconds, rel=0.005)


def test_a_latency_that_leaves_nothing_is_told(tmp_path, capsys):
    """What was given may be what is wrong."""
    recorded(tmp_path, read_profile("lan"))
    assert run_command_line(["fit-network", str(tmp_path), "--latency", "9s"]) == 2
    assert "round trips of 18 s" in capsys.readouterr().err


def test_the_command_writes_what_what_if_reads(tmp_path, capsys, monkeypatch):
    """fit-network RUN -o FILE, then --network FILE."""
    monkeypatch.chdir(tmp_path)
    recorded(tmp_path, read_profile("wan"))
    assert run_command_line(["fit-network", str(tmp_path), "-o", "mine.toml"]) == 0
    assert "120 tasks of 40 sites" in capsys.readouterr().out
    assert read_profile("mine.toml").up.latency.median == 0.0


def test_a_folder_without_a_history_cannot_be_fitted(tmp_path):
    """The error names the folder."""
    with pytest.raises(WorkspaceError, match=r"no readable history\.jsonl"):
        fit_network(tmp_path)
