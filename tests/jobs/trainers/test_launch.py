"""What a trainer process gets: this interpreter, our modules, and no secret of ours."""

import sys
from pathlib import Path

import pytest

from flare_async.errors import ConfigError
from flare_async.jobs.scripts.script import Script
from flare_async.jobs.trainers.launch import ALLOWED, is_allowed, launch_of
from tests.jobs.trainers.helpers import SCRIPT, script_of

ROOT = Path(__file__).resolve().parents[3]
ENVIRON = {
    "PATH": "/usr/bin",
    "HOME": "/home/u",
    "AWS_SECRET_ACCESS_KEY": "s",
    "FLARE_ASYNC_X": "x",
    "RANK": "1",
    "https_proxy": "p",
    "HTTP_PROXY": "p",
    "CUDA_VISIBLE_DEVICES": "0,1",
}


def test_only_what_is_allowed_is_passed_on():
    """A rank of ours would make the script a follower."""
    launch = launch_of(script_of("x"), "/run/s", "t", ENVIRON)
    names = {"PATH", "HOME", "https_proxy", "HTTP_PROXY", "CUDA_VISIBLE_DEVICES", "PYTHONPATH"}
    ours = {"FLARE_ASYNC_TRAINER", "FLARE_ASYNC_TRAINER_TOKEN", "OMP_NUM_THREADS"}
    assert set(launch.environment) == names | ours
    assert launch.environment["FLARE_ASYNC_TRAINER"] == "/run/s"
    assert launch.environment["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_a_script_computes_with_one_thread_unless_somebody_says_otherwise():
    """The client's own variable counts, and the script's more."""
    threads = [
        launch_of(script_of("x", **more), "/run/s", "t", environ).environment["OMP_NUM_THREADS"]
        for more, environ in (
            ({}, {}),
            ({}, {"OMP_NUM_THREADS": "3"}),
            ({"environment": {"OMP_NUM_THREADS": "4"}}, {"OMP_NUM_THREADS": "3"}),
        )
    ]
    assert threads == ["1", "3", "4"]


def test_the_script_has_the_last_word_on_its_environment():
    """Devices that were assigned win over all."""
    script = script_of("x", environment={"HOME": "/h", "A": "b"}, gpus=("2", "3"))
    found = launch_of(script, "/run/s", "t", ENVIRON).environment
    assert (found["HOME"], found["A"], found["CUDA_VISIBLE_DEVICES"]) == ("/h", "b", "2,3")


@pytest.mark.parametrize("command", ["python3 -u", "python -u"])
def test_python_is_this_interpreter(command):
    """Programs beside it, such as torchrun, are found first."""
    launch = launch_of(script_of("x", command=command), "/run/s", "t", ENVIRON)
    assert launch.command == (sys.executable, "-u", str(SCRIPT), "x")
    assert launch.environment["PATH"] == f"{Path(sys.executable).parent}:/usr/bin"


def test_other_commands_stay_as_they_are():
    """Quoting follows the shell."""
    script = script_of("x", command="env 'A B=c d' torchrun --nproc_per_node=2")
    launch = launch_of(script, "/run/s", "t", ENVIRON)
    assert launch.command[:4] == ("env", "A B=c d", "torchrun", "--nproc_per_node=2")


def test_modules_are_found_without_the_interpreters_own(monkeypatch):
    """Another interpreter has a library and packages of its own."""
    monkeypatch.setattr(sys, "path", ["", "/somewhere", *sys.path])
    path = launch_of(script_of("x"), "/run/s", "t", ENVIRON).environment["PYTHONPATH"].split(":")
    assert path[0] == str(ROOT)
    assert "/somewhere" in path
    assert str(Path.cwd()) in path
    assert not [entry for entry in path if "site-packages" in entry or "lib-dynload" in entry]


def test_the_docs_list_what_is_allowed():
    """The table and the code agree."""
    text = (ROOT / "docs" / "trainers.md").read_text("utf-8")
    assert all(f"`{entry}`" in text for entry in ALLOWED)
    assert not is_allowed("SECRET")


@pytest.mark.parametrize("rlimits", [{"pages": 1}, {"as": -1}, {"as": 1.5}])
def test_a_limit_that_does_not_exist_is_refused(rlimits):
    """Before anything is started."""
    with pytest.raises(ConfigError, match="rlimits"):
        Script(path=SCRIPT, rlimits=rlimits)
