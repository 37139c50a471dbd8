"""Load tests: real sockets and processes, counts that the seed decides."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from flare_async.errors import ConfigError
from flare_async.net.rng import SeededRandom
from flare_async.sim.cli import run_command_line
from flare_async.sim.loadtest.certificates import credentials_in
from flare_async.sim.loadtest.figures import LoadFigures
from flare_async.sim.loadtest.files import raise_file_limit
from flare_async.sim.loadtest.host import HostFigures
from flare_async.sim.loadtest.setting import Behaviour, LoadSetting

CLIENTS, ROUNDS, NBYTES = 12, 2, 4000

pytestmark = pytest.mark.timeout(60)


def command(*words):
    return [sys.executable, "-m", "flare_async.sim", "load", *words]


def child_of(pid):
    """Return the child of a process; waits until there is one that runs its own program."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    while True:
        for child in children.read_text().split():
            if b"loadtest.host" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
        time.sleep(0.01)


def is_running(pid):
    """Say whether a process is there and is not only waiting for somebody to see its end."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def load(tmp_path, *words):
    """Run a load test and return its document."""
    size = ("--clients", str(CLIENTS), "--rounds", str(ROUNDS), "--model-size", "4KB")
    where = ("--workspace", str(tmp_path), "--json")
    done = subprocess.run(
        command(*size, *where, *words), check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def drawn(share, seed, skipped=0):
    """Count the tasks that are drawn, as the clients do."""
    random = SeededRandom(seed)
    found = 0
    for site in (f"site-{number}" for number in range(1, CLIENTS + 1)):
        for number in range(ROUNDS):
            dice = random.once(f"{site}, round {number}")
            draws = [dice.random() for _ in range(skipped + 1)]
            found += draws[-1] < share
    return found


@pytest.mark.sweep
@pytest.mark.parametrize("words", [("--transport", "tcp"), ("--transport", "unix"), ("--tls",)])
def test_every_task_is_counted_with_its_bytes(tmp_path, words):
    """Down and up, in a process of clients beside the server's."""
    found = load(tmp_path, *words)
    assert (found["tasks_ok"], found["failures"], found["correct"]) == (24, {}, True)
    assert found["bytes_down"] == found["bytes_up"] == CLIENTS * ROUNDS * NBYTES
    assert (found["processes"], found["clients_lost"], found["links_cut"]) == (2, 0, 0)
    assert set(found["task_latency_ms"]) == {"p50", "p90", "p99", "max"}
    written = json.loads((tmp_path / "load-1" / "load.json").read_text())
    assert written == {name: value for name, value in found.items() if name != "folder"}
    assert (tmp_path / "load-1" / "latency.png").stat().st_size > 1000


@pytest.mark.sweep
def test_links_are_cut_as_the_seed_says_and_cost_no_task(tmp_path):
    """The sessions go on over other links."""
    found = load(tmp_path, "--drop", "30%", "--train-time", "50ms", "--seed", "3")
    assert found["links_cut"] == drawn(0.3, 3) > 0
    assert (found["tasks_ok"], found["failures"], found["correct"]) == (24, {}, True)


@pytest.mark.sweep
def test_failures_are_counted_by_kind(tmp_path):
    """The others make up the quorum; the mean is theirs."""
    found = load(tmp_path, "--fail", "20%", "--processes", "1", "--seed", "3")
    failed = drawn(0.2, 3, skipped=1)
    assert found["failures"] == {"failed: training_failed": failed}
    assert (found["tasks_ok"], found["correct"]) == (CLIENTS * ROUNDS - failed, True)
    assert failed > 0


@pytest.mark.sweep
def test_clients_of_other_machines_join(tmp_path):
    """The server tells where; each host brings clients of other numbers."""
    size = ("--clients", "6", "--rounds", "1", "--model-size", "4KB", "--json")
    where = ("--processes", "0", "--listen", "tcp://127.0.0.1:0", "--workspace", str(tmp_path))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command(*size, *where), **pipes) as server:
        address = server.stderr.readline().split()[-1]
        hosts = [
            subprocess.Popen(
                command("--join", address, "--clients", "3", "--first", first), **pipes
            )
            for first in ("1", "4")
        ]
        told = [host.communicate(timeout=40)[1] for host in hosts]
        document = json.loads(server.communicate(timeout=40)[0])
    assert [host.returncode for host in hosts] == [0, 0]
    assert [json.loads(text.splitlines()[-1])["clients"] for text in told] == [3, 3]
    assert (document["tasks_ok"], document["correct"]) == (6, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--drop", "150%"), "above 1"),
        (("--model-size", "large"), "write 100KB"),
        (("--train-time", "5 weeks"), "write 0.5s"),
        (("--clients", "0"), "--clients"),
    ],
)
def test_what_cannot_be_used_is_exit_status_2(capsys, words, said):
    """With words that tell what to write."""
    assert run_command_line(["load", *words]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err


def test_more_connections_than_the_system_allows_are_refused():
    """Before the first of them."""
    with pytest.raises(ConfigError, match="a process may open"):
        raise_file_limit(10**9)


def test_one_process_has_both_ends_of_every_connection():
    """So it needs a file for each of them."""
    setting = LoadSetting(clients=10, rounds=1, nbytes=4, address="tcp://x:1", processes=1)
    assert setting.connections == 20
    assert replace(setting, processes=2).connections == 10


@pytest.mark.sweep
def test_too_few_files_for_both_ends_are_told_at_once(tmp_path):
    """And not after the patience with clients that cannot come."""
    words = command("--clients", "180", "--processes", "1", "--workspace", str(tmp_path))
    limited = ("import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300)); "
               "os.execv(sys.executable, sys.argv[1:])")  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", limited, *words], check=False, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "a process may open 300 files, 460 are needed" in done.stderr


@pytest.mark.sweep
@pytest.mark.parametrize("address", ["nonsense", "tls://127.0.0.1:9"])
def test_what_no_client_can_join_is_told_once(capsys, address):
    """However many clients there are."""
    assert run_command_line(["load", "--join", address, "--clients", "50"]) == 2
    assert capsys.readouterr().err.count("error:") == 1


def test_memory_of_a_process_is_counted_once():
    """A process that is server and clients grows by both; nobody knows by which."""
    setting = LoadSetting(clients=10, rounds=1, nbytes=4, address="tcp://x:1", processes=1)
    host = HostFigures(10, base=1000, peak=3000)
    figures = LoadFigures(setting, server_grown=5000, hosts=[host])
    alone, shared = (
        figures.document(),
        LoadFigures(replace(setting, processes=2), server_grown=5000, hosts=[host]).document(),
    )
    assert (alone["server_bytes_a_client"], alone["host_bytes_a_client"]) == (500, None)
    assert (shared["server_bytes_a_client"], shared["host_bytes_a_client"]) == (500, 200)
    assert dict(figures.rows())["memory a client"] == "500 B, at the server and as a client"


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("number", "status", "said"),
    [
        (signal.SIGINT, 130, "error: interrupted\n"),
        (signal.SIGTERM, 3, "their process was killed by signal 15"),
        (signal.SIGKILL, -signal.SIGKILL, ""),
    ],
)
def test_an_end_from_outside_leaves_no_process(tmp_path, number, status, said):
    """Ctrl-C or a kill for the server, or the end of its clients' process."""
    words = ("--clients", "6", "--rounds", "1000", "--train-time", "100ms")
    server = subprocess.Popen(
        command(*words, "--workspace", str(tmp_path)), stderr=subprocess.PIPE, text=True
    )
    host = child_of(server.pid)
    os.kill(server.pid if number != signal.SIGTERM else host, number)
    printed = server.communicate(timeout=40)[1]
    assert (server.returncode, said in printed) == (status, True), printed
    while is_running(host):
        time.sleep(0.01)


def test_who_joins_needs_the_authority_alone(tmp_path):
    """The server's key stays with the server, which has no use for the authority."""
    (tmp_path / "authority.pem").touch()
    found = credentials_in(str(tmp_path), joins=True)
    assert found is not None
    assert found.authority == tmp_path / "authority.pem"
    with pytest.raises(ConfigError, match=r"has no certificate\.pem"):
        credentials_in(str(tmp_path))


@pytest.mark.parametrize(
    ("processes", "parts"), [(1, [10]), (2, [10]), (4, [3, 3, 4]), (20, [1] * 10)]
)
def test_clients_are_shared_out_evenly(processes, parts):
    """Each is hosted once, whatever the number of processes."""
    setting = LoadSetting(clients=10, rounds=1, nbytes=4, address="tcp://x:1", processes=processes)
    hostings = setting.hostings("tcp://x:1")
    assert [hosting.count for hosting in hostings] == parts
    assert sum((hosting.names for hosting in hostings), ()) == setting.names


def test_what_a_process_is_told_survives_the_command_line():
    """Behaviour included."""
    setting = LoadSetting(
        clients=2, rounds=1, nbytes=4, address="tcp://x:1", behaviour=Behaviour(drop=0.25, seed=9)
    )
    (hosting,) = setting.hostings("tcp://x:2")
    assert type(hosting).decoded(hosting.encoded()) == hosting
