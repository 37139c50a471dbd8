"""The command line of a load test: what contradicts itself, what a bad end leaves, the document."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from flare_async.errors import ConfigError
from flare_async.sim.cli import run_command_line
from flare_async.sim.loadtest.asked import SECURE
from flare_async.sim.loadtest.figures import LoadFigures
from flare_async.sim.loadtest.server import first_model
from flare_async.sim.loadtest.setting import LoadSetting
from tests.sim.loadtest.test_load import command

PAGE = Path(__file__).parents[3] / "docs" / "load-tests.md"
SETTING = LoadSetting(clients=4, rounds=1, nbytes=4, address="tcp://x:1")

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--tls", "--transport", "unix"), "--tls: unix has no TLS"),
        (("--tls", "--listen", "tcp://127.0.0.1:0"), "tcp://127.0.0.1:0 has no TLS"),
        (("--tls", "--join", "ws://127.0.0.1:1"), "ws://127.0.0.1:1 has no TLS"),
        (("--transport", "ws", "--listen", "tcp://127.0.0.1:0"), "--transport ws is not that of"),
        (("--join", "tcp://127.0.0.1:1", "--rounds", "3"), "--rounds is the server's to say"),
        (("--join", "tcp://127.0.0.1:1", "--listen", "tcp://x:1"), "--listen is the server's"),
        (("--first", "3"), "--first goes with --join"),
    ],
)
def test_options_without_effect_are_refused(capsys, words, said):
    """Least of all is ``--tls`` ignored: who asks for it must get it."""
    assert run_command_line(["load", *words]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err


def test_tls_keeps_the_kind_of_transport():
    """WebSocket stays WebSocket."""
    assert (SECURE["tcp"], SECURE["ws"], SECURE.get("unix")) == ("tls", "wss", None)


def test_a_model_that_no_memory_holds_is_no_bug_of_ours():
    """The option is named."""
    with pytest.raises(ConfigError, match="model_size=4611686018427387904"):
        first_model(2**62)


def test_figures_of_hosts_elsewhere_are_unknown_and_not_zero():
    """They tell them where they run."""
    away = LoadSetting(clients=4, rounds=1, nbytes=4, address="tls://x:1", processes=0, away=True)
    found = LoadFigures(away).document()
    unknown = ("host_bytes_a_client", "links_cut", "clients_lost")
    assert {found[key] for key in unknown} == {None}
    assert found["processes"] == 0
    assert "have joined" in dict(LoadFigures(away).rows())["links cut"]


def test_the_page_has_every_key_of_the_document():
    """And no other one."""
    _, _, below = PAGE.read_text("utf-8").partition("| key | value |")
    rows = below.partition("\n\n")[0].splitlines()[2:]
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert told == {*LoadFigures(SETTING).document(), "folder"}


@pytest.mark.slow
def test_a_round_without_quorum_leaves_its_figures(tmp_path):
    """Failures by kind are what one wants to see then; with the others they are all tasks."""
    words = ("--clients", "6", "--rounds", "3", "--model-size", "4KB", "--processes", "1")
    done = subprocess.run(
        command(*words, "--fail", "100%", "--json", "--workspace", str(tmp_path)),
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 6
    found = json.loads((tmp_path / "load-1" / "load.json").read_text())
    assert (found["rounds"], found["tasks_ok"], found["correct"]) == (1, 0, False)
    assert sum(found["failures"].values()) == 6
    assert "quorum is 3" in found["problem"]
    assert f"figures up to then: {tmp_path}" in json.loads(done.stdout)["error"]["message"]


@pytest.mark.slow
def test_another_process_joins_over_tls_as_it_is_told(tmp_path):
    """With the words that the server prints; the figures are one document."""
    size = ("--clients", "3", "--rounds", "1", "--model-size", "4KB", "--json", "--processes", "0")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    where = ("--listen", "tls://127.0.0.1:0", "--tls", "--workspace", str(tmp_path))
    with subprocess.Popen(command(*size, *where), **pipes) as server:
        told = server.stderr.readline().split(" with ")[1].split()
        host = subprocess.run(
            command(*told, "--tls", "--clients", "3", "--json"),
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        document = json.loads(server.communicate(timeout=40)[0])
    assert (host.returncode, json.loads(host.stdout)["lost"]) == (0, 0)
    assert (document["tasks_ok"], document["correct"], document["transport"]) == (3, True, "tls")
