"""Stands between a client and the command that it starts: leads the group, and leaves nobody.

It runs as a program of its own: ``python -I -S supervisor.py LINK PARENT SETTINGS COMMAND...``,
with nothing but the standard library, so that it costs a few milliseconds and megabytes. ``LINK``
is the number of its end of a socket. Up go lines: ``started PID``, ``failed ERRNO``,
``exit STATUS`` (negative for a signal), ``gone``. Down come letters: ``t`` ends the command
(SIGTERM, after the grace SIGKILL), ``k`` kills it. When the socket ends, so has the client, and
everything is ended at once.

On Linux it is the subreaper of all that the command starts: whoever leaves the process group, or
outlives its parent, becomes its child and is found in ``/proc``. Elsewhere the process group is all
that it reaches.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from contextlib import suppress

__all__ = ["Supervisor", "family", "main"]

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
ORPHANED_GRACE = 2.0  # seconds, where the client is gone and nobody waits for anything good
KILL_SECONDS = 5.0  # a process that the system cannot end is left to it
GONE_SECONDS = 3.0  # of a process with much memory, between its socket's end and its own
TICK = 0.02
LINUX = sys.platform == "linux"


def family(root: int) -> dict[int, int]:
    """Return the live processes below ``root``, itself included, and their clock ticks of CPU.

    The ticks of a child that ended belong to whoever waited for it. Empty where the system has no
    ``/proc`` or the process is gone.
    """
    parents, ticks = processes()
    found = {root: ticks[root]} if root in ticks else {}
    more = True
    while more:
        new = {pid: ticks[pid] for pid, up in parents.items() if up in found and pid not in found}
        found |= new
        more = bool(new)
    return found


def processes() -> tuple[dict[int, int], dict[int, int]]:
    """Return the parent and the CPU ticks of every process that has not ended."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    with suppress(OSError):
        for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib would be half of the start
            if not name.isdigit():
                continue
            with suppress(OSError, ValueError, IndexError):
                fields = stat_of(name)
                if fields[0] not in {b"Z", b"X"}:
                    parents[int(name)] = int(fields[1])
                    ticks[int(name)] = sum(map(int, fields[11:15]))
    return parents, ticks


def stat_of(name: str) -> list[bytes]:
    """Return a process's status fields behind its name: state, parent, and so on."""
    fd = os.open(f"/proc/{name}/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096).rpartition(b")")[2].split()
    finally:
        os.close(fd)


def process_control(option: int, value: int) -> None:
    """Set an attribute of this process that only Linux has."""
    if LINUX:
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


class Supervisor:
    """Starts one command, watches it and its client, and ends what is left of the command."""

    def __init__(self, link: int, grace: float, limits: dict[str, int]) -> None:
        self._link = link
        self._grace = grace
        self._limits = limits
        self._child = 0
        self._told = False
        self.is_alone = False  # the client has closed its end of the link
        self._kill_at: float | None = None
        self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK) if LINUX else os.pipe()
        os.set_blocking(self._wake[1], False)
        signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)  # a handler, not SIG_IGN: exec would keep that
        signal.signal(signal.SIGTERM, lambda *_: self._end(ORPHANED_GRACE))

    def run(self, command: list[str]) -> int:
        """Start the command and stay until nothing of it is left; return this program's status."""
        if not self._start(command):
            return 1
        poll = select.poll()
        poll.register(self._link, select.POLLIN)
        poll.register(self._wake[0], select.POLLIN)
        while not self._reap() and not self._given_up():
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                self._signal(signal.SIGKILL)
            for fd, _ in poll.poll(None if self._kill_at is None else 1000 * TICK):
                self._heed(fd, poll)
        self._look_for_client()
        self._tell("gone")
        return 0

    def _look_for_client(self) -> None:
        """Take note if the client is gone: a script may end by that before we have heard of it."""
        if not self.is_alone:
            poll = select.poll()
            poll.register(self._link, select.POLLIN)
            for fd, _ in poll.poll(1000 * TICK):
                self._heed(fd, poll)

    def _heed(self, fd: int, poll: select.poll) -> None:
        data = b""
        with suppress(OSError):
            data = os.read(fd, 64)
        if fd != self._link:
            return
        if not data:
            poll.unregister(fd)
            self.is_alone = True
            self._end(min(self._grace, ORPHANED_GRACE))
        elif b"k" in data:
            self._end(0.0)
        else:
            self._end(self._grace)

    def _start(self, command: list[str]) -> bool:
        reading, writing = os.pipe()  # neither end survives an exec
        self._child = os.fork()
        if self._child == 0:
            self._become(command, writing)
        os.close(writing)
        failed = os.read(reading, 16)
        os.close(reading)
        self._tell(f"failed {failed.decode()}" if failed else f"started {self._child}")
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - no pathlib here
            for number in (1, 2):  # the command's output ends with the command
                os.dup2(nowhere.fileno(), number)
        return not failed

    def _become(self, command: list[str], failed: int) -> None:
        """Become the command, in the new process; never returns."""
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            process_control(PR_SET_PDEATHSIG, signal.SIGKILL)
            for name, most in self._limits.items():
                resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (most, most))
            os.execvp(command[0], command)
        except OSError as exc:
            os.write(failed, str(exc.errno or 0).encode())
        except ValueError:  # a limit above the one that is set already
            os.write(failed, b"22")
        finally:
            os._exit(127)

    def _reap(self) -> bool:
        """Take note of who has ended; return whether nobody is left."""
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return False
                if pid == self._child:
                    self._told = True
                    self._tell(f"exit {os.waitstatus_to_exitcode(status)}")
                    self._end(self._grace)  # what it started and left behind
        return True

    def _end(self, grace: float) -> None:
        now = time.monotonic()
        if self._kill_at is None:
            self._signal(signal.SIGTERM)
            self._kill_at = now + grace
        self._kill_at = min(self._kill_at, now + grace)

    def _given_up(self) -> bool:
        return self._kill_at is not None and time.monotonic() > self._kill_at + KILL_SECONDS

    def _signal(self, number: int) -> None:
        own = os.getpid()
        found = family(own)
        for pid in found:
            if pid != own:
                with suppress(OSError):
                    os.kill(pid, number)
        if not found:  # no /proc: the group is all that there is, and we are in it
            if number == signal.SIGKILL:
                self._tell("gone")
            with suppress(OSError):
                os.killpg(0, number)

    def _tell(self, line: str) -> None:
        with suppress(OSError):  # nobody listens any more
            os.write(self._link, f"{line}\n".encode())


def client_is_gone(pid: int, patience: float) -> bool:
    """Return whether the client ends; one that was killed closes its socket a little before."""
    ended = time.monotonic() + patience
    while os.getppid() == pid:
        if time.monotonic() > ended:
            return False
        time.sleep(TICK)  # noqa: TID251 - no loop is here
    return True


def remove_socket() -> None:
    """Remove what the client cannot remove any more."""
    path = os.environ.get("FLARE_ASYNC_TRAINER", "")
    if path:
        with suppress(OSError):
            os.unlink(path)  # noqa: PTH108 - no pathlib here
        with suppress(OSError):
            os.rmdir(os.path.dirname(path))  # noqa: PTH106, PTH120 - no pathlib here


def main(arguments: list[str]) -> int:
    """Supervise as the command line says; return the status to exit with."""
    link, parent = int(arguments[0]), int(arguments[1])
    settings = json.loads(arguments[2])
    os.set_inheritable(link, False)
    process_control(PR_SET_CHILD_SUBREAPER, 1)
    supervisor = Supervisor(link, settings["grace"], settings["limits"])
    # The second net, after the handler is there: the socket's end may be held by another process.
    process_control(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        return 1
    status = supervisor.run(arguments[3:])
    if client_is_gone(parent, GONE_SECONDS if supervisor.is_alone else 0.0):
        remove_socket()
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
