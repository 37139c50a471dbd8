"""A training script that does what its first argument says; each is one way to end, or not to."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

from flare_async.errors import ScriptStopped, TrainingFailed
from flare_async.jobs.trainers.desk import open_desk
from flare_async.model import FLModel
from flare_async.roles.log_record import LogRecord

WAY, *REST = sys.argv[1:]
SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(100)"]


def add_one(desk):
    """Do one task as it should be done."""
    model = desk.take()
    model.params["w"] += 1
    desk.hand_in(FLModel(params=model.params, metrics={"loss": np.float32(0.5)}))


def whole_job(desk):
    """Do every task."""
    while (facts := desk.wait()) is not None:
        desk.log(LogRecord("round", facts.round_number, "METRIC", facts.round_number))
        add_one(desk)
    print("no more tasks")


def bad_then_good(desk):
    """Hand in what cannot be used, then what can."""
    desk.wait()
    try:
        desk.hand_in(FLModel(params={"x": np.zeros(1)}, metrics={}))
    except TrainingFailed as error:
        print(f"refused: {error}")
    add_one(desk)
    desk.wait()


def facts_only(desk):
    """Follow: write down each task's number."""
    seen = []
    while (facts := desk.wait()) is not None:
        seen.append(facts.number)
    Path(REST[0]).write_text(f"{desk.place.rank}: {seen}")


def two_ranks(desk):
    """Start another process of rank 1 beside this one."""
    other = subprocess.Popen([sys.executable, __file__, "rank-1", *REST])
    whole_job(desk)
    desk.close()
    other.wait()


def twice_first(desk):
    """Connect again as rank 0."""
    desk.wait()
    try:
        open_desk(os.environ, 0)
    except ScriptStopped as error:
        print(error)
    add_one(desk)
    desk.wait()


def flood(desk):
    """Print far more than is ever shown, for so many seconds, then do the task."""
    block = (b"x" * 99 + b"\n") * 600
    ended, written = time.monotonic() + float(REST[0]), 0
    while time.monotonic() < ended:
        written += os.write(1, block)
    desk.wait()
    model = desk.take()
    desk.hand_in(FLModel(params=model.params, metrics={"written": written}))
    desk.wait()


def grandchild(desk):
    """Leave a process behind that has left the session and the group."""
    desk.wait()
    child = subprocess.Popen(SLEEP, start_new_session=True)
    Path(REST[0]).write_text(f"{child.pid}")
    if REST[1] == "sleep":
        time.sleep(100)
    add_one(desk)


def stubborn(desk):
    """Ignore SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    desk.wait()
    Path(REST[0]).write_text(f"{os.getpid()}")
    while True:
        time.sleep(10)


def busy(desk):
    """Hold the interpreter in one call of C for longer than anybody is patient."""
    desk.wait()
    ended = time.monotonic() + float(REST[0])
    while time.monotonic() < ended:
        sum(range(10**7))
    add_one(desk)
    desk.wait()


def deaf(desk):
    """Never read the socket again."""
    desk.wait()
    add_one(desk)
    time.sleep(100)


def torn(desk):
    """Say what is no message."""
    desk.wait()
    desk._wire._socket.send(b"\x00\x00\x00\x01\xc1")
    time.sleep(100)


def chatty(desk):
    """Log more than there is room for."""
    desk.wait()
    for number in range(4000):
        desk.log(LogRecord("n" * 100, number, "METRIC"))
    print(f"dropped {desk._dropped}")
    add_one(desk)
    desk.wait()


def raises(desk):
    """Raise in the middle of a task."""
    desk.wait()
    raise ValueError("the data are gone")


def lacks_memory(desk):
    """Run out of memory as Python reports it."""
    desk.wait()
    raise MemoryError("no room for 99 GB")


def hogs(desk):
    """Take more memory than there is."""
    desk.wait()
    kept = []
    while True:
        kept.append(np.ones(4_000_000))


def exits(desk):
    """Exit with a status."""
    desk.wait()
    print("about to exit", file=sys.stderr)
    sys.exit(int(REST[0]))


def killed(desk):
    """End by SIGKILL."""
    desk.wait()
    print("last words", file=sys.stderr)
    os.kill(os.getpid(), signal.SIGKILL)


def asleep(desk):
    """Sleep for ever after the model was taken."""
    desk.wait()
    desk.take()
    print("asleep", file=sys.stderr)
    time.sleep(100)


def dies_later(desk):
    """End as soon as the first result was taken."""
    desk.wait()
    add_one(desk)
    os.kill(os.getpid(), signal.SIGKILL)


def dies_on_word(desk):
    """Do one task, and end badly as soon as a file is there."""
    desk.wait()
    add_one(desk)
    while not Path(REST[0]).exists():
        time.sleep(0.01)
    os._exit(5)


def leaves(desk):
    """Shut the context down in the middle of a task, or after it, and stay."""
    desk.wait()
    if REST[0] == "after":
        add_one(desk)
    desk.close()
    time.sleep(100)


def restarts(desk):
    """Be started again in the middle of a task, as a launcher does it."""
    desk.wait()
    desk.take().params["w"] += 100
    desk.close = None
    os.execv(sys.executable, [sys.executable, __file__, "whole-job"])


def threads_log(desk):
    """Let threads log while results are handed in."""
    pool = ThreadPoolExecutor(4)
    record = LogRecord("k" * 1000, 1.0, "METRIC")
    while desk.wait() is not None:
        logs = [pool.submit(lambda: [desk.log(record) for _ in range(300)]) for _ in range(4)]
        add_one(desk)
        for done in logs:
            done.result()


def forks(desk):
    """Let a forked child try to talk."""
    desk.wait()
    child = os.fork()
    if child == 0:
        try:
            desk.log(LogRecord("from the child", 1.0, "METRIC"))
        except ScriptStopped:
            desk.close()
            os._exit(7)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    whole_job(desk)


def interrupted(desk):
    """Hand in a result twice, because the first call was interrupted."""
    desk.wait()
    told = desk._await_taken

    def interrupt(number):
        raise KeyboardInterrupt

    desk._await_taken = interrupt
    with suppress(KeyboardInterrupt):
        add_one(desk)
    desk._await_taken = told
    desk.hand_in(FLModel(params=desk.take().params, metrics={}))
    whole_job(desk)


def sent(desk):
    """Tell when the result was handed in."""
    desk.wait()
    add_one(desk)
    Path(REST[0]).write_text(f"{os.getpid()}")
    time.sleep(100)


def waits_for(desk):
    """Train until a file is there."""
    desk.wait()
    desk.take()
    with Path(REST[0]).open("a") as pids:
        pids.write(f"{os.getpid()}\n")
    while not Path(REST[1]).exists():
        time.sleep(0.02)
    add_one(desk)
    desk.wait()


WAYS = {
    "asleep": asleep,
    "bad-then-good": bad_then_good,
    "busy": busy,
    "chatty": chatty,
    "deaf": deaf,
    "dies-later": dies_later,
    "dies-on-word": dies_on_word,
    "exits": exits,
    "flood": flood,
    "forks": forks,
    "grandchild": grandchild,
    "hogs": hogs,
    "interrupted": interrupted,
    "killed": killed,
    "lacks-memory": lacks_memory,
    "leaves": leaves,
    "raises": raises,
    "restarts": restarts,
    "stubborn": stubborn,
    "sent": sent,
    "threads-log": threads_log,
    "torn": torn,
    "twice-first": twice_first,
    "two-ranks": two_ranks,
    "waits-for": waits_for,
    "whole-job": whole_job,
}

if __name__ == "__main__":
    if WAY == "rank-1":
        facts_only(open_desk(os.environ, 1))
    elif WAY == "environment":
        Path(REST[0]).write_text("\n".join(sorted(os.environ)))
    elif WAY == "no-init":
        print("nothing to do")
    elif WAY == "never-init":
        time.sleep(100)
    else:
        WAYS[WAY](open_desk(os.environ, 0))
