"""Every transport against the conformance kit, on both event loops and in simulation."""

from __future__ import annotations

import tempfile
from collections import Counter

import pytest

from flare_async.limits import Limits
from flare_async.net.clock import LoopClock
from flare_async.net.registry import Transports
from flare_async.net.rng import SeededRandom
from flare_async.testing.conformance import CHECKS, check_name, link_pair, run_check
from flare_async.testing.network import SimNetwork
from tests.transports.certificates import Authority
from tests.transports.loops import LOOPS, run_on

TRANSPORTS = ("memory", "tcp", "unix", "tls")
SEEDS = (1, 2)
CASES = [(scheme, loop, check) for scheme in TRANSPORTS for loop in LOOPS for check in CHECKS]
SIMULATED = [("sim", seed, check) for seed in SEEDS for check in CHECKS]


def case_id(value):
    """Return what a case is called."""
    return value if isinstance(value, str) else getattr(value, "__name__", str(value))


@pytest.fixture
def address(request):
    """Return a function from a scheme to a free address; a socket's path must be short."""
    with tempfile.TemporaryDirectory(prefix="fl") as folder:
        addresses = {
            "memory": "memory://there",
            "tcp": "tcp://127.0.0.1:0",
            "unix": f"unix://{folder}/s",
            "tls": "tls://127.0.0.1:0",
        }
        yield addresses.__getitem__


@pytest.fixture(scope="module")
def credentials(tmp_path_factory):
    """Return credentials that both ends use: of a host and a site at once."""
    return Authority(tmp_path_factory.mktemp("authority")).server()


@pytest.mark.parametrize(("scheme", "loop", "check"), CASES, ids=case_id)
def test_a_transport_conforms(scheme, loop, check, address, credentials):
    """Each check holds on each transport and each loop."""

    async def main():
        network = Transports(Limits(), credentials)
        await run_check(check, lambda: link_pair(network, address(scheme)))

    run_on(LOOPS[loop], main)


@pytest.mark.parametrize(("scheme", "seed", "check"), SIMULATED, ids=case_id)
def test_the_simulated_network_conforms(scheme, seed, check, sim):
    """The same checks hold in virtual time, in whatever order tasks run."""

    async def main():
        network = SimNetwork(LoopClock(), SeededRandom(seed))
        await run_check(check, lambda: link_pair(network, f"{scheme}://there"))

    sim(main, seed=seed)


def test_all_transports_have_as_many_cases():
    """No transport is let off a check, on no loop."""
    counts = Counter((scheme, loop) for scheme, loop, _ in [*CASES, *SIMULATED])
    assert set(counts.values()) == {len(CHECKS)}
    assert len(counts) == len(TRANSPORTS) * len(LOOPS) + len(SEEDS)


def test_checks_have_names_and_sentences_of_their_own():
    """What fails says what was expected."""
    assert len({check_name(check) for check in CHECKS}) == len(CHECKS)
    assert all(check.__doc__.strip().endswith(".") for check in CHECKS)
