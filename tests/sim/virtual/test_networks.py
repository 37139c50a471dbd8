"""Network profiles: those of the package, files, and what is wrong with a file."""

from __future__ import annotations

import random
import re
import statistics

import pytest

from flare_async.errors import ConfigError
from flare_async.sim.virtual.networks import NETWORKS, profile_text, read_profile

GOOD = """
[up]
latency_ms = 20
bandwidth_mbit = { median = 8, p5 = 2 }
[down]
latency_ms = { median = 30, p95 = 60 }
jitter_ms = 5
loss_percent = 1
"""


@pytest.mark.parametrize("name", NETWORKS)
def test_every_profile_of_the_package_can_be_read_and_written(name):
    """What is written is what was read, to six digits."""
    profile = read_profile(name)
    assert profile_text(read_profile(name)) == profile_text(profile)
    assert profile.down.bandwidth.median >= profile.up.bandwidth.median
    assert 0 < profile.up.latency.median <= profile.up.latency.far


def test_a_file_gives_seconds_and_bytes(tmp_path):
    """Milliseconds and megabits are for people."""
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    profile = read_profile(str(path))
    assert (profile.name, profile.up.latency.median, profile.down.jitter) == ("mine", 0.02, 0.005)
    assert (profile.up.bandwidth.median, profile.up.bandwidth.far) == (1e6, 0.25e6)
    assert (profile.down.bandwidth, profile.down.loss) == (None, 0.01)


def test_a_profile_that_was_written_is_read_again(tmp_path):
    """fit-network writes what what-if reads."""
    path = tmp_path / "again.toml"
    path.write_text(profile_text(read_profile("4g"), ["a note"]))
    again = read_profile(str(path))
    assert path.read_text().startswith("# a note\n\n[up]\n")
    assert again.up.bandwidth.median == pytest.approx(read_profile("4g").up.bandwidth.median)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("latency_ms = 20", "latenzy_ms = 20", r"bad\.up\.latenzy_ms.*did you mean latency_ms"),
        ("latency_ms = 20", "latency_ms = -1", r"bad\.up\.latency_ms"),
        ("latency_ms = 20", 'latency_ms = "fast"', r"bad\.up\.latency_ms"),
        ("median = 8, p5 = 2", "median = 8, p95 = 2", r"bad\.up\.bandwidth_mbit\.p95"),
        ("median = 8, p5 = 2", "median = 8, p5 = 9", r"bad\.up\.bandwidth_mbit\.p5"),
        ("median = 8, p5 = 2", "p5 = 2", r"bad\.up\.bandwidth_mbit.*no median"),
        ("median = 8, p5 = 2", "median = 0", r"bad\.up\.bandwidth_mbit.*positive"),
        ("loss_percent = 1", "loss_percent = 60", r"bad\.down\.loss_percent"),
        ("[down]", "[sideways]", r"bad\.sideways"),
        ("[down]", "[down", "no valid TOML"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path, old, new, key):
    """The error has the table and the key, and what was probably meant."""
    path = tmp_path / "bad.toml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        read_profile(str(path))
    assert re.search(key, f"{caught.value} {caught.value.hint}")


def test_a_name_that_is_no_profile_says_which_there_are():
    """A misspelt name is told at once."""
    with pytest.raises(ConfigError, match="no such profile") as caught:
        read_profile("lann")
    assert "did you mean lan?" in str(caught.value.hint)


def test_a_lost_packet_costs_round_trips_and_no_byte():
    """Of frames of ten packets with 5 % loss, 1 - .95**10 are late, by a round trip at least."""
    course = read_profile("4g").up.drawn(random.Random(1))
    lossy = type(course)(latency=0.1, rate=1e6, loss=0.05)
    dice = random.Random(2)
    delays = [lossy.delay(14_480, dice) for _ in range(4000)]
    late = [delay for delay in delays if delay > 0.1]
    assert len(late) / 4000 == pytest.approx(1 - 0.95**10, abs=0.03)
    assert min(late) == pytest.approx(0.3)
    assert statistics.median(delays) == 0.1
