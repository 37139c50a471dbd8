"""A patched trainer answers tasks: what it receives, keeps from round to round, and sends."""

from __future__ import annotations

import pytest

pytestmark = [
    pytest.mark.lightning,
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("default"),  # Lightning's own
]
RATE = 0.5
ADAM = ["exp_avg", "exp_avg_sq", "max_exp_avg_sq", "step"]


@pytest.fixture
def made():
    """Return a function that makes (desk, context, module) for tasks."""
    import torch

    from flare_async.client.api import APIContext
    from tests.client.lightning.desk import HandMade, make_module

    def make(*tasks):
        desk = HandMade(tasks, {"layer.weight": torch.tensor([[1.0]])})
        return desk, APIContext(desk, 0), make_module()

    return make


def patched(ctx, *, trainer=None, restore_state=True, update_fit_loop=True, **options):
    """Return a patched trainer."""
    import flare_async.client.lightning as flare
    from tests.client.lightning.desk import make_trainer

    trainer = trainer or make_trainer(**options)
    flare.patch(trainer, restore_state, update_fit_loop=update_fit_loop, ctx=ctx)
    return trainer


def data():
    """Return eight batches."""
    from tests.client.lightning.desk import loader

    return loader()


def weights(desk):
    """Return the weight of each result."""
    return [model.params["layer.weight"].item() for model in desk.results]


def steps(desk):
    """Return the steps that each result tells."""
    return [model.meta["NUM_STEPS_CURRENT_ROUND"] for model in desk.results]


def test_each_fit_answers_a_task_with_the_steps_of_its_round(made):
    """Neither the first round nor a later one counts what came before."""
    desk, ctx, module = made("train", "train", "train")
    trainer = patched(ctx, max_epochs=2)
    while ctx.is_running():
        trainer.fit(module, data())
    assert steps(desk) == [16, 16, 16]
    assert trainer.current_epoch == 6
    assert len(set(weights(desk))) == 3


@pytest.mark.parametrize("options", [{"max_steps": 5, "max_epochs": -1}, {"max_steps": 5}])
def test_steps_bound_a_round_as_epochs_do(made, options):
    """Whichever limit comes first, in every round anew."""
    desk, ctx, module = made("train", "train", "train")
    trainer = patched(ctx, **options)
    while ctx.is_running():
        trainer.fit(module, data())
    assert steps(desk) == [5, 5, 5]


def test_optimizer_and_scheduler_go_on_where_they_were(made):
    """The rate is halved each epoch, and the momentum is there in the next round."""
    desk, ctx, module = made("train", "train", "train")
    trainer = patched(ctx)
    while ctx.is_running():
        trainer.fit(module, data())
    assert module.rates == [RATE, RATE / 2, RATE / 4]
    assert module.momenta[0] == 0
    assert module.momenta[1] == pytest.approx(sum(0.9**k for k in range(8)))
    assert len(desk.results) == 3


def test_without_restoring_every_round_begins_anew(made):
    """As asked for."""
    _, ctx, module = made("train", "train")
    trainer = patched(ctx, restore_state=False)
    while ctx.is_running():
        trainer.fit(module, data())
    assert (module.rates, module.momenta) == ([RATE, RATE], [0, 0])


def test_validating_first_gives_the_metrics_of_the_received_model(made):
    """Neither the sanity check nor the validation within the fit takes their place."""
    desk, ctx, module = made("train", "train")
    trainer = patched(ctx, num_sanity_val_steps=2)
    while ctx.is_running():
        trainer.validate(module, data(), verbose=False)
        trainer.fit(module, data(), data())
    assert [model.metrics["weight"] for model in desk.results] == [1.0, 101.0]
    assert weights(desk) != [1.0, 101.0]


def test_a_fit_alone_sends_no_metrics(made):
    """Those of the training are not those of the received model."""
    desk, ctx, module = made("train")
    patched(ctx).fit(module, data(), data())
    assert [model.metrics for model in desk.results] == [None]


def test_a_task_for_metrics_is_answered_by_the_validation_alone(made):
    """The fit that follows in the same loop is left out; the next task is trained."""
    desk, ctx, module = made("validate", "train", "validate")
    trainer = patched(ctx)
    while ctx.is_running():
        trainer.validate(module, data(), verbose=False)
        trainer.fit(module, data())
    first, second, third = desk.results
    assert (first.params, first.metrics) == (None, {"weight": 1.0})
    assert (second.metrics, third.metrics) == ({"weight": 101.0}, {"weight": 201.0})
    assert (second.meta["NUM_STEPS_CURRENT_ROUND"], third.params) == (8, None)
    assert trainer.limit_train_batches == 1.0


def test_a_task_for_the_sites_own_model_is_answered_with_it(made):
    """Nothing is loaded and nothing trained; the next task goes on."""
    desk, ctx, module = made("train", "submit_model", "train")
    trainer = patched(ctx)
    while ctx.is_running():
        trainer.validate(module, data(), verbose=False)
        trainer.fit(module, data())
    first, own, last = desk.results
    assert own.params["layer.weight"] == first.params["layer.weight"]
    assert (own.metrics, last.metrics) == (None, {"weight": 201.0})
    assert [one.meta.get("NUM_STEPS_CURRENT_ROUND") for one in desk.results] == [8, None, 8]


def test_a_fit_without_a_validation_does_not_train_for_another_task(made):
    """Its message says which call is missing."""
    _, ctx, module = made("submit_model")
    with pytest.raises(RuntimeError, match=r"submit_model: call trainer\.validate\(\) before"):
        patched(ctx).fit(module, data())


def test_a_validation_after_the_last_task_is_the_scripts_own(made):
    """Scripts look at what they have at the end; there is nothing to answer."""
    desk, ctx, module = made("train")
    trainer = patched(ctx)
    trainer.fit(module, data())
    trainer.validate(module, data(), verbose=False)
    assert len(desk.results) == 1
    assert trainer.callback_metrics["weight"] == desk.results[0].params["layer.weight"]


def test_a_validation_after_a_fit_is_of_the_next_tasks_model(made):
    """And its metrics are sent with what the next fit makes of it."""
    desk, ctx, module = made("train", "train")
    trainer = patched(ctx)
    while ctx.is_running():
        trainer.fit(module, data())
        trainer.validate(module, data(), verbose=False)
    assert [model.metrics for model in desk.results] == [None, {"weight": 101.0}]


def test_moments_are_the_same_bit_by_bit(made):
    """Adam's, at the end of one fit and at the start of the next."""
    import torch

    _, ctx, module = made("train", "train", "train")
    module.configure_optimizers = lambda: torch.optim.AdamW(module.parameters(), amsgrad=True)
    seen = []

    def note():
        state = module.optimizers().optimizer.state_dict()["state"]
        seen.append({name: value.clone() for name, value in state.get(0, {}).items()})

    module.on_train_start = module.on_train_end = note
    trainer = patched(ctx)
    while ctx.is_running():
        trainer.fit(module, data())
    assert (len(seen), seen[0], sorted(seen[1])) == (6, {}, ADAM)
    for before, after in (seen[1:3], seen[3:5]):
        assert all(torch.equal(before[name], after[name]) for name in ADAM)


@pytest.mark.parametrize(
    ("options", "counts"),
    [
        ({"accumulate_grad_batches": 3}, [3, 3, 3]),
        ({"accumulate_grad_batches": 3, "max_epochs": 2}, [6, 6, 6]),
        ({"limit_train_batches": 3}, [3, 3, 3]),
        ({"max_steps": 12, "max_epochs": -1}, [12, 12, 12]),
        ({"max_steps": 5, "max_epochs": 2}, [5, 5, 5]),
    ],
    ids=str,
)
def test_steps_are_those_of_the_optimizer_in_every_round(made, options, counts):
    """However the trainer was told to make fewer of them."""
    desk, ctx, module = made("train", "train", "train")
    trainer = patched(ctx, **options)
    while ctx.is_running():
        trainer.fit(module, data())
    assert steps(desk) == counts


def test_early_stopping_ends_a_round_and_not_the_next_ones(made):
    """The trainer's wish to stop is over with its fit."""
    from pytorch_lightning.callbacks import EarlyStopping

    desk, ctx, module = made("train", "train", "train")
    stop = EarlyStopping("weight", mode="max", patience=1)
    trainer = patched(ctx, max_epochs=5, callbacks=[stop])
    while ctx.is_running():
        trainer.fit(module, data(), data())
    assert steps(desk) == [16, 16, 16]


def test_a_module_that_steps_by_hand_takes_part(made):
    """Two optimizers count twice, as Lightning counts them; both go on."""
    import torch

    desk, ctx, module = made("train", "train")
    module.automatic_optimization = False
    module.configure_optimizers = lambda: [
        torch.optim.SGD(module.parameters(), lr=0.1),
        torch.optim.Adam(module.parameters(), lr=0.1),
    ]
    ages = []

    def on_train_start():
        state = module.optimizers()[1].optimizer.state_dict()["state"]
        ages.append(float(state[0]["step"]) if state else 0.0)

    def training_step(batch, batch_idx):
        for optimizer in module.optimizers():
            optimizer.zero_grad()
            module.manual_backward(module.layer(batch[0]).mean())
            optimizer.step()

    module.on_train_start, module.training_step = on_train_start, training_step
    trainer = patched(ctx)
    while ctx.is_running():
        trainer.fit(module, data())
    assert (steps(desk), ages) == ([16, 16], [0.0, 8.0])


def test_an_error_in_training_is_the_scripts_and_the_task_stays_open(made):
    """What a script catches it may try again; nothing was sent in between."""
    desk, ctx, module = made("train", "train")
    trainer, train, calls = patched(ctx), module.training_step, []

    def training_step(batch, batch_idx):
        calls.append(batch_idx)
        if len(calls) == 12:
            raise ValueError("once")
        return train(batch, batch_idx)

    module.training_step = training_step
    trainer.fit(module, data())
    with pytest.raises(ValueError, match="once"):
        trainer.fit(module, data())
    assert len(desk.results) == 1
    trainer.fit(module, data())
    assert steps(desk) == [8, 8]


def test_testing_and_predicting_are_the_scripts_own(made):
    """They neither receive nor send."""
    desk, ctx, module = made("train", "train")
    type(module).test_step = lambda self, batch, index: None
    type(module).predict_step = lambda self, batch, index: index
    trainer = patched(ctx)
    while ctx.is_running():
        trainer.fit(module, data())
        trainer.test(module, data(), verbose=False)
        trainer.predict(module, data())
    assert steps(desk) == [8, 8]


def test_what_the_module_adds_is_in_the_meta(made):
    """And may say how many steps count."""
    desk, ctx, module = made("train")
    module.__fl_meta__ = {"site": "x", "NUM_STEPS_CURRENT_ROUND": 3}
    patched(ctx).fit(module, data())
    assert desk.results[0].meta == {"site": "x", "NUM_STEPS_CURRENT_ROUND": 3}


def test_a_module_with_odd_meta_is_told(made):
    """Its name is in the message."""
    _, ctx, module = made("train")
    module.__fl_meta__ = [1]
    with pytest.raises(RuntimeError, match="__fl_meta__ of Line is a list"):
        patched(ctx).fit(module, data())


def test_a_model_that_does_not_fit_is_refused_by_name(made):
    """With strict loading; without it what fits is taken."""
    import flare_async.client.lightning as flare
    from tests.client.lightning.desk import make_trainer

    desk, ctx, module = made("train", "train")
    desk.params["other"] = desk.params["layer.weight"]
    with pytest.raises(RuntimeError, match="other"):
        patched(ctx).fit(module, data())
    trainer = make_trainer()
    flare.patch(trainer, load_state_dict_strict=False, ctx=ctx)
    trainer.fit(module, data())
    assert len(desk.results) == 1


def test_a_fit_that_trains_nothing_says_what_to_do(made):
    """Instead of a round that never ends."""
    desk, ctx, module = made("train", "train")
    trainer = patched(ctx, update_fit_loop=False)
    trainer.fit(module, data())
    with pytest.raises(RuntimeError, match=r"max_epochs=1.*update_fit_loop=True"):
        trainer.fit(module, data())
    assert len(desk.results) == 1


def test_a_fit_after_the_end_of_the_job_is_refused(made):
    """It would train for nobody."""
    _, ctx, module = made()
    with pytest.raises(RuntimeError, match="the job has ended"):
        patched(ctx).fit(module, data())


def test_a_fit_to_validate_without_a_validation_is_refused(made):
    """The message says which call is missing."""
    _, ctx, module = made("validate")
    with pytest.raises(RuntimeError, match=r"trainer\.validate\(\) before"):
        patched(ctx).fit(module, data())


def test_patching_twice_is_harmless(made):
    """One callback receives, one keeps the states."""
    desk, ctx, module = made("train")
    trainer = patched(ctx, trainer=patched(ctx))
    trainer.fit(module, data())
    assert len(desk.results) == 1


def test_the_scaler_goes_on_where_it_was():
    """Its scale has grown over many steps."""
    import torch

    from flare_async.client.lightning.state import RestoreState
    from tests.client.lightning.desk import make_trainer

    trainer = make_trainer()
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    trainer.precision_plugin.scaler = scaler
    trainer.strategy.optimizers, trainer.strategy.lr_scheduler_configs = [], []
    keeper = RestoreState()
    scaler.scale(torch.ones(()))
    keeper.on_train_end(trainer, None)
    trainer.precision_plugin.scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    keeper.on_train_start(trainer, None)
    assert trainer.precision_plugin.scaler.state_dict()["scale"] == 8.0


def test_the_logger_sends_what_the_module_logs(made):
    """With its steps; parameters once."""
    import flare_async.client.lightning as flare

    desk, ctx, module = made("train")
    module.save_hyperparameters({"width": 3, "kind": slice(2)})
    trainer = patched(ctx, logger=flare.logger(ctx), log_every_n_steps=4)
    trainer.fit(module, data())
    losses = [(one.key, one.kind, one.step) for one in desk.records if one.key == "train_loss"]
    assert losses == [("train_loss", "SCALAR", 3), ("train_loss", "SCALAR", 7)]
    (params,) = [one.value for one in desk.records if one.kind == "PARAMETERS"]
    assert params == {"width": 3, "kind": "slice(None, 2, None)"}
    assert (flare.logger(ctx).name, flare.logger(ctx).version) == ("flare_async", "job-1")


def test_everything_of_the_client_is_there():
    """A script imports this module in the client's place."""
    import flare_async.client.lightning as flare
    from flare_async import client

    elsewhere = {"lightning", "load_weights", "tasks", "tracking", "weights_of"}
    lacking = set(client.__all__) - set(flare.__all__) - elsewhere
    assert lacking == set()
    assert all(getattr(flare, name) is not None for name in flare.__all__)
