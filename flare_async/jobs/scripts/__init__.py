"""Training scripts: what a recipe says of them, and the threads where they run.

Theory of operation
===================

A **script** is a file that calls ``flare_async.client``. Those calls go to a **desk**, which has
one task at a time. In a simulation the script runs in a thread of its own (``ScriptThreads``): the
thread is started with the site's first task and lives until the job has ended, so what the script
loads it loads once. Loop and thread share no lock. The loop puts errands into the desk's queue;
the thread takes the model, hands the result in, and has the loop called for it.

A thread cannot be stopped. What is taken back (a round that has ended, an aborted run, a hang) is
therefore *revoked*: the desk raises ``ScriptStopped`` at the script's next call, the site's next
task starts another thread, and the old one is a daemon that nobody waits for.

Threads share their process. ``sys.argv`` and the output streams are replaced for the run by stands
that ask a context variable whose thread it is; the script's folder is put on ``sys.path``. The
working directory, the environment, imported modules and the global random generators are the
process's, and threads that a script starts itself have no site.
"""

from __future__ import annotations

from flare_async.jobs.scripts.desk import Desk, Place, TaskFacts
from flare_async.jobs.scripts.script import Script

__all__ = ["Desk", "Place", "Script", "TaskFacts"]
