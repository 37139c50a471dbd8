"""Debian's nginx on this machine: its own configuration, in a folder of the test's."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEBIAN = Path("/etc/nginx/nginx.conf")
PATIENCE = 500  # looks of 20 ms
FOLDERS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
PLAIN = """
server {{
    listen 127.0.0.1:{port};
    location / {{
        proxy_pass http://{upstream};
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection "upgrade";
    }}
}}
"""


def plain_site(port: int, upstream: str) -> str:
    """Return a site with nginx's defaults and the two headers of an upgrade."""
    return PLAIN.format(port=port, upstream=upstream)


def documented_site(port: int, upstream: str) -> str:
    """Return the site of docs/websocket.md with the test's own addresses."""
    text = (ROOT / "docs" / "websocket.md").read_text("utf-8")
    (site,) = re.findall(r"```nginx\n(.*?)```", text, re.DOTALL)
    assert site.count("listen 8080;") == site.count("server 127.0.0.1:8765;") == 1
    site = site.replace("listen 8080;", f"listen 127.0.0.1:{port};")
    return site.replace("server 127.0.0.1:8765;", f"server {upstream};")


def free_port() -> int:
    """Return a port that was free a moment ago: nginx cannot choose one."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def nginx(folder: Path, site, upstream: str):
    """Run nginx before ``upstream`` (host:port) and yield its own host:port.

    Its configuration is Debian's, in which only user and places are changed.
    """
    port = free_port()
    (folder / "site.conf").write_text(places(folder) + site(port, upstream))
    (folder / "nginx.conf").write_text(debian_configuration(folder))
    command = ["nginx", "-p", folder, "-c", folder / "nginx.conf", "-g", "daemon off;"]
    process = subprocess.Popen([*command, "-e", folder / "error.log"])
    try:
        wait_until_it_listens(process, port)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def debian_configuration(folder: Path) -> str:
    """Return Debian's file with the places that an ordinary user may not write replaced."""
    user = "user root;" if os.geteuid() == 0 else ""
    text = DEBIAN.read_text("utf-8")
    for line, instead in (
        (r"user .*;", user),
        (r"pid .*;", f"pid {folder}/nginx.pid;"),
        (r"error_log .*;", f"error_log {folder}/error.log;"),
        (r"access_log .*;", f"access_log {folder}/access.log;"),
        (r"include /etc/nginx/sites-enabled/\*;", f"include {folder}/site.conf;"),
    ):
        text, count = re.subn(rf"(?m)^(\s*){line}", rf"\g<1>{instead}", text)
        assert count == 1, f"{line} occurs {count} times in {DEBIAN}"
    return text


def places(folder: Path) -> str:
    """Return directives for the folders of bodies and answers, which are never needed."""
    return "".join(f"{name}_temp_path {folder}/{name};\n" for name in FOLDERS)


def wait_until_it_listens(process: subprocess.Popen, port: int) -> None:
    """Look until somebody listens at the port; an nginx that ends is a failure."""
    for _ in range(PATIENCE):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        try:
            raise AssertionError(f"nginx has ended with {process.wait(0.02)}")
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError(f"nginx does not listen on {port}")
