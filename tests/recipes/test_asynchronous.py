"""FedBuff and asynchronous FedAvg against their papers, on whatever order a run has taken."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from flare_async import SimEnv
from flare_async.errors import ConfigError, RunFailed
from flare_async.model import FLModel, ParamsType
from flare_async.recipes import AsyncFedAvgRecipe, FedBuffRecipe
from flare_async.testing import Cut, Slice, run_sim
from tests.recipes.async_sites import (
    accuracy,
    change,
    first,
    moved,
    moved_at_the_second_try,
    moved_unless_bad,
    never,
    timed,
)
from tests.references.asynchronous import fed_async, fed_buff

KINDS = {"fedbuff": (FedBuffRecipe, {"buffer_size": 3}), "async": (AsyncFedAvgRecipe, {})}
RECORDED = [
    [("site-1", 0, 0), ("site-3", 0, 0), ("site-1", 1, 0)],
    [("site-2", 0, 0), ("site-4", 0, 0), ("site-3", 1, 1)],
    [("site-1", 2, 1), ("site-3", 2, 2), ("site-4", 1, 2)],
]
WHERE = {
    "threads": {"workers": "thread", "num_threads": 3},
    "processes": {"workers": "process", "num_threads": 2},
    "tcp": {"transport": "tcp"},
    "relays": {"relays": 2},
    "adding": {"relays": 2, "relay_mode": "reduce", "transport": "tcp"},
}


def recipe(kind, **options):
    """Return a recipe of one kind with the usual arguments."""
    made, own = KINDS[kind]
    usual = {"model": first(), "train": moved, "min_clients": 2, "num_rounds": 6}
    return made(**{**usual, **own, **options})


def env(folder, clients=4, **options):
    """Return an environment that keeps its runs in a folder."""
    settings = {"workers": "inline", "seed": 5, "workspace_root": folder, **options}
    return SimEnv(num_clients=clients, **settings)


def versions_of(run):
    """Return what a run has written of its versions."""
    lines = (run.folder / "versions.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["version"] for row in rows] == list(range(1, len(rows) + 1))
    return [[(one["site"], one["task"], one["from"]) for one in row["updates"]] for row in rows]


def record(folder, versions):
    """Write versions as a run does; return the file."""
    keys = ("site", "task", "from")
    lines = [
        {"version": at, "updates": [dict(zip(keys, one, strict=True)) for one in version]}
        for at, version in enumerate(versions, 1)
    ]
    path = folder / "recorded.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines), "utf-8")
    return path


def close(run, expected):
    """Compare a run's model with a reference: what differs is float32's rounding of versions."""
    np.testing.assert_allclose(run.model.numpy()["w"], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("workers", ["inline", "thread"])
def test_fedbuff_is_the_paper_on_the_order_that_the_run_has_taken(tmp_path, workers):
    """Differences, divided by the buffer's size, less the older they are."""
    run = recipe("fedbuff", global_lr=0.7).execute(env(tmp_path, workers=workers, num_threads=4))
    versions = versions_of(run)
    assert [len(version) for version in versions] == [3] * 6
    close(run, fed_buff(first()["w"], versions, change, rate=0.7)[-1])


@pytest.mark.parametrize("workers", ["inline", "thread"])
def test_asynchronous_fedavg_is_the_paper_on_the_order_that_the_run_has_taken(tmp_path, workers):
    """Models are mixed, less the older they are."""
    made = recipe("async", alpha=0.5, num_rounds=9)
    run = made.execute(env(tmp_path, workers=workers, num_threads=4))
    close(run, fed_async(first()["w"], versions_of(run), change, alpha=0.5)[-1])


def test_a_recorded_order_with_old_updates_is_played_as_it_stands(tmp_path):
    """The staleness of each is that of the record, also where a machine would have done other."""
    made = recipe("fedbuff", replay=record(tmp_path, RECORDED), num_rounds=3)
    run = made.execute(env(tmp_path))
    close(run, fed_buff(first()["w"], RECORDED, change)[-1])
    assert [sorted(one) for one in versions_of(run)] == [sorted(one) for one in RECORDED]


def test_ages_as_nvflare_has_them(tmp_path):
    """One over one plus the square root."""
    made = recipe("fedbuff", replay=record(tmp_path, RECORDED), num_rounds=3, staleness="edge")
    age = lambda s: 1 / (1 + math.sqrt(s))  # noqa: E731
    run = made.execute(env(tmp_path))
    close(run, fed_buff(first()["w"], RECORDED, change, age=age)[-1])


def test_updates_may_count_by_their_steps(tmp_path):
    """Then the mean is weighted; sites report one step more than their index."""
    made = recipe("fedbuff", replay=record(tmp_path, RECORDED[:1]), num_rounds=1, weighted=True)
    run = made.execute(env(tmp_path))
    w = first()["w"].astype(np.float64)
    parts = [(1, change("site-1", 0, w)), (3, change("site-3", 0, w)), (1, change("site-1", 1, w))]
    close(run, w + sum(n * part for n, part in parts) / 5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_replay_has_the_same_bits_in_any_order_and_everywhere(tmp_path, kind):
    """Arrival is permuted, workers and transports differ, relays stand between."""
    options = {"num_rounds": 4, "accumulator": "float32"}  # which shows the order of a sum
    run = recipe(kind, **options).execute(env(tmp_path, workers="thread", num_threads=4))
    digests = {run.model.model_digest()}
    backwards = record(tmp_path, [version[::-1] for version in versions_of(run)])
    played = recipe(kind, **options, replay=backwards).execute(env(tmp_path))
    digests.add(played.model.model_digest())
    for where in WHERE.values():
        made = recipe(kind, **options, replay=run.folder)
        digests.add(made.execute(env(tmp_path, **where)).model.model_digest())
    assert len(digests) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_replay_has_the_same_bits_over_links_that_fail(tmp_path, kind):
    """Connections are cut again and again; who takes part is the same."""
    run = recipe(kind, num_rounds=4).execute(env(tmp_path, workers="thread", num_threads=4))
    faults = [Cut(after_bytes=1500, every=4000), Slice(50)]
    made = recipe(kind, num_rounds=4, replay=run.folder)
    played = made.execute(env(tmp_path, faults=faults))
    assert played.model.model_digest() == run.model.model_digest()


@pytest.mark.parametrize("kind", KINDS)
def test_a_replay_asks_again_for_what_has_failed(tmp_path, kind):
    """The same task from the same version, since the record has it; there may be a newer one."""
    run = recipe(kind, num_rounds=4).execute(env(tmp_path))
    made = recipe(kind, num_rounds=4, replay=run.folder, train=moved_at_the_second_try)
    assert made.execute(env(tmp_path)).model.model_digest() == run.model.model_digest()


@pytest.mark.parametrize("kind", KINDS)
def test_a_site_that_fails_is_left_out_after_three_tries(tmp_path, kind):
    """The run goes on without it, and says why."""
    run = recipe(kind, train=moved_unless_bad, num_rounds=9).execute(env(tmp_path))
    [(site, reason)] = run.history.failed_sites().items()
    assert (site, reason.partition(" (at ")[0]) == ("site-2", "RuntimeError: no data here")
    sites = {site for version in versions_of(run) for site, _, _ in version}
    assert sites == {"site-1", "site-3", "site-4"}
    statuses = [str(s.status) for r in run.history.rounds for s in r.sites if s.site == "site-2"]
    assert statuses.count("failed") == 3


def test_too_few_sites_that_work_end_the_run(tmp_path):
    """Fewer than ``min_clients`` that have not failed three times in a row."""
    with pytest.raises(RunFailed, match="no data here"):
        recipe("async", train=moved_unless_bad, min_clients=4, num_rounds=50).execute(env(tmp_path))


def test_a_slow_site_is_taken_back_when_its_version_is_too_old(tmp_path):
    """It begins anew from the newest one, and no more versions live than that."""
    config = {"site-1": {"seconds": 50.0}}
    made = recipe("async", train=timed, max_staleness=2, num_rounds=12, per_site_config=config)

    async def main():
        return await made.run(env(tmp_path, 3, num_threads=3))

    run = run_sim(main)
    assert max(at - base for at, [(_, _, base)] in enumerate(versions_of(run))) <= 2
    late = [s for record in run.history.rounds for s in record.sites if str(s.status) == "late"]
    assert {record.site for record in late} == {"site-1"}


def test_stale_updates_count_in_virtual_time(tmp_path):
    """A site five times slower than the others is in the model all the same."""
    config = {"site-1": {"seconds": 5.5}}
    made = recipe("fedbuff", train=timed, buffer_size=2, num_rounds=8, per_site_config=config)

    async def main():
        return await made.run(env(tmp_path, 3, num_threads=3))

    run = run_sim(main)
    versions = versions_of(run)
    assert ("site-1", 0, 0) in versions[5]
    close(run, fed_buff(first()["w"], versions, change)[-1])


def test_the_history_has_a_row_a_version_and_the_last_one_is_evaluated(tmp_path):
    """Versions are judged by the metrics of sites that began from them while they were new."""
    run = recipe("fedbuff", evaluate=accuracy, num_rounds=3).execute(env(tmp_path))
    trained = [record for record in run.history.rounds if record.task == "train"]
    assert [record.number for record in trained] == [0, 1, 2]
    assert [len(record.sites) for record in trained] == [3, 3, 3]
    assert all(record.metrics == {"loss": 1.0} for record in trained)
    assert run.history.models[0].version == 0
    assert run.history.models[-1].version == 3
    last = np.mean(run.model.numpy()["w"]) + 1.5
    assert run.history.models[-1].metrics["accuracy"] == pytest.approx(last, abs=1e-6)


def test_a_condition_ends_the_run(tmp_path):
    """As in FedAvg, by the metrics of a version."""
    made = recipe("fedbuff", evaluate=accuracy, num_rounds=50, stop_cond="accuracy > -100")
    assert len(versions_of(made.execute(env(tmp_path)))) == 1


def test_an_update_of_the_wrong_kind_is_refused(tmp_path):
    """Models cannot be mixed with a difference."""

    def differs(model, site):
        return FLModel(params=model.params, params_type=ParamsType.DIFF)

    with pytest.raises(RunFailed, match="params_type is DIFF, FULL is needed"):
        recipe("async", train=differs).execute(env(tmp_path))


def test_the_plan_has_the_live_versions_and_the_updates_that_wait():
    """At most concurrency and one, and no more than may be stale and one."""
    model = 160
    bounded = recipe("fedbuff", concurrency=4, num_rounds=99).demand()
    assert (bounded.versions, bounded.waiting(99), bounded.accumulator) == (5, 7, model)
    assert recipe("async", max_staleness=2, num_rounds=99).demand().versions == 3
    assert recipe("async", num_rounds=99).demand().waiting(4) == 5
    assert recipe("fedbuff", buffer_size=10, num_rounds=99).demand().waiting(4) == 14


@pytest.mark.parametrize(
    ("kind", "options", "field"),
    [
        ("fedbuff", {"buffer_size": 0}, "buffer_size"),
        ("fedbuff", {"global_lr": 0}, "global_lr"),
        ("fedbuff", {"staleness": "old"}, "staleness"),
        ("fedbuff", {"staleness": lambda s: -1}, "staleness"),
        ("fedbuff", {"concurrency": 0}, "concurrency"),
        ("fedbuff", {"max_staleness": -1}, "max_staleness"),
        ("fedbuff", {"clients_per_round": 2}, "clients_per_round"),
        ("fedbuff", {"exact": True}, "exact"),
        ("fedbuff", {"per_site_config": {"a": {"params_transfer_type": "FULL"}}}, None),
        ("fedbuff", {"replay": "nowhere.jsonl"}, "replay"),
        ("async", {"alpha": 0}, "alpha"),
        ("async", {"alpha": 1.5}, "alpha"),
        ("async", {"staging": "repull"}, "staging"),
    ],
)
def test_what_cannot_be_used_is_named_at_construction(kind, options, field):
    """Nothing is started."""
    with pytest.raises(ConfigError) as caught:
        recipe(kind, **options)
    assert caught.value.field == (field or "params_transfer_type")


def test_a_replay_needs_its_sites_and_enough_versions(tmp_path):
    """Else the run would wait for what cannot come."""
    path = record(tmp_path, RECORDED)
    with pytest.raises(ConfigError, match="3 versions"):
        recipe("fedbuff", replay=path, num_rounds=4)
    with pytest.raises(ConfigError, match="site-4"):
        recipe("fedbuff", replay=path, num_rounds=3, train=never).execute(env(tmp_path, 3))
