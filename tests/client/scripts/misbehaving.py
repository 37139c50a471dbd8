"""Does in its second round, or between rounds, what its argument says."""

import signal
import sys
import time

import numpy as np
from helper_beside_the_scripts import one

import flare_async.client as flare


def misbehave(kind, model):
    """End, or do not end."""
    match kind:
        case "raise":
            raise ValueError("the data set is empty")
        case "exit-3":
            sys.exit(3)
        case "exit-text":
            sys.exit("no licence")
        case "exit-0":
            sys.exit(0)
        case "sleep":
            time.sleep(3600)
        case "sigpending":
            signal.sigwait({signal.SIGUSR2})
        case "nan":
            model.params["w"][:] = np.nan


def main():
    flare.init()
    kind, when = sys.argv[1], int(sys.argv[2])
    while flare.is_running():
        model = flare.receive()
        if model.current_round == when:
            misbehave(kind, model)
        model.params["w"] += one()
        flare.send(model)
        if kind == "end-after-each":
            return
        if kind == "raise-after-send" and flare.get_site_name() == "site-1":
            raise ValueError("after the result")


main()
