"""The exchange by a deployment of Flower on one machine: a superlink and a supernode a client."""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).parent
PROJECT = """\
[project]
name = "peers"
version = "1.0.0"
description = "One exchange"
license = "Apache-2.0"
dependencies = ["flwr==1.41.0"]
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[tool.hatch.build.targets.wheel]
packages = ["."]
[tool.flwr.app]
publisher = "bench"
[tool.flwr.app.components]
serverapp = "peers_app.server:app"
clientapp = "peers_app.client:app"
[tool.flwr.app.config]
"""
CLIENT = "from peers_app.flower_app import client_app\n\napp = client_app({folder!r})\n"
SERVER = """\
import argparse

from peers_app.flower_app import server_app

setting = argparse.Namespace(nbytes={nbytes}, clients={clients}, rounds={rounds})
app = server_app(setting, {folder!r})
"""
POLL = 0.2


def make_app(options):
    """Write the application's folder and return it."""
    app = options.folder / "app"
    code = app / "peers_app"
    code.mkdir(parents=True)
    (app / "pyproject.toml").write_text(PROJECT)
    (code / "__init__.py").write_text("")
    shutil.copy(HERE / "flower_app.py", code / "flower_app.py")
    values = {**vars(options), "folder": str(options.folder)}
    (code / "client.py").write_text(CLIENT.format(**values))
    (code / "server.py").write_text(SERVER.format(**values))
    return app


def free_port():
    """Return a port that was free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def command(*words):
    """Return a command of the environment that this runs in."""
    return [str(Path(sys.executable).parent / words[0]), *words[1:]]


def start(stack, *words):
    """Start a process that ends with ``stack``."""
    process = subprocess.Popen(command(*words))
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return process


def wait_for(port):
    """Wait until somebody listens."""
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(POLL)


def write_home(port):
    """Say where the superlink is."""
    home = Path(os.environ["FLWR_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    lines = f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "127.0.0.1:{port}"\n'
    (home / "config.toml").write_text(lines + "insecure = true\n")


def main():
    """Run as the command line says, and print what came of it."""
    found = argparse.ArgumentParser()
    found.add_argument("--folder", type=Path, required=True)
    found.add_argument("--nbytes", type=int, required=True)
    found.add_argument("--clients", type=int, required=True)
    found.add_argument("--rounds", type=int, required=True)
    options = found.parse_args()
    app, port = make_app(options), free_port()
    write_home(port)
    result = options.folder / "values.json"
    with ExitStack() as stack:
        where = ("--host", "127.0.0.1", "--port", str(port))
        install = "--disable-runtime-dependency-installation"
        start(stack, "flower-superlink", "--insecure", *where, install)
        wait_for(port)
        for number in range(options.clients):
            setting = f"partition-id={number} num-partitions={options.clients}"
            link = ("--superlink", f"127.0.0.1:{port}", "--node-config", setting)
            start(stack, "flower-supernode", "--insecure", *link, "--port", str(free_port()))
        subprocess.run(command("flwr", "run", str(app), "here"), check=True)
        while not result.exists():
            time.sleep(POLL)
        values = json.loads(result.read_text())
    # Its mean is a sum of weighted float32: with many clients it is right to some digits only.
    ok = len(values) == 1 and abs(values[0] - 0.5 - options.rounds) < 1e-3
    print(json.dumps({"ok": ok, "values": values}))
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
