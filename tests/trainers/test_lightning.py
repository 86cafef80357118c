"""Lightning's Trainer: its loop, its accumulation, its checkpoints, its monitor."""

from functools import partial

import pytest
from trainers.launch import launch
from trainers.probe import CUT, LR, RATES, scalars, sgd

import ratewise as rw
from ratewise.errors import ScheduleChanged, ScheduleDetached
from ratewise.torch import Scheduler

pytestmark = [
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning"),  # torch 2.13
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended"),
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
]


@pytest.fixture(scope="module")
def lit():
    """The modules to fit."""
    from trainers import lit

    return lit


@pytest.fixture
def fit(lit, tmp_path):
    """Fits a module in the test's own folder."""
    return partial(lit.fit, tmp_path)


@pytest.mark.parametrize("accumulated", [1, 2, 4])
@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_every_update_uses_its_rate(interval, accumulated, fit, lit):
    module = lit.Module(interval=interval, micro=accumulated)
    trainer = fit(module, batches=4 * accumulated, accumulate_grad_batches=accumulated)
    assert module.probe.used == RATES
    assert trainer.lr_scheduler_configs[0].scheduler.position == 8


def test_the_last_incomplete_accumulation_of_an_epoch_is_an_update_like_the_others(fit, lit):
    module = lit.Module(updates=9)
    trainer = fit(module, batches=3, epochs=3, accumulate_grad_batches=2)  # 2 + 1 batches make two updates
    assert trainer.global_step == 6
    halves = [rate / 2 for update in range(6) for rate in [LR(update)] * (2 - update % 2)]
    assert module.probe.used == halves


@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize("stop", range(1, 8))
def test_a_run_killed_at_any_update_goes_on_from_its_checkpoint(stop, accumulated, fit, tmp_path, lit):
    settings = {**lit.saving(tmp_path), "batches": 4 * accumulated, "accumulate_grad_batches": accumulated}
    with pytest.raises(lit.Power):
        fit(lit.Killed(stop, micro=accumulated), **settings)
    module = lit.Module(micro=accumulated)
    trainer = fit(module, ckpt_path=tmp_path / f"step={stop}.ckpt", **settings)
    assert module.probe.used == RATES
    assert trainer.lr_scheduler_configs[0].scheduler.position == 8


def test_another_schedule_than_the_saved_one_is_an_error_unless_a_policy_is_given(fit, tmp_path, lit):
    fit(lit.Module(), max_steps=3, **lit.saving(tmp_path))
    resumed = {"ckpt_path": tmp_path / "step=3.ckpt", **lit.saving(tmp_path)}
    half = rw.Linear(0.5, 0.0, 8)
    with pytest.raises(ScheduleChanged, match=r"position 3 .*\n.*\n +3  6\.25.* 3\.125"):
        fit(lit.Module(half), **resumed)

    class Switched(lit.Module):
        def configure_optimizers(self):
            optimizer = sgd(self)
            return [optimizer], [{"scheduler": Scheduler(optimizer, half, on_change="switch"), "interval": "step"}]

    module = Switched()
    fit(module, **resumed)
    assert module.probe.used == RATES[:3] + half.values(3, 8)


@pytest.mark.parametrize("kind", ["Monitored", "Observed"])
def test_a_rule_gets_the_metric_of_every_epoch_and_cuts_the_schedule(kind, fit, lit):
    module = getattr(lit, kind)()
    trainer = fit(module, batches=1, epochs=8)
    assert module.probe.used == CUT
    (cut,) = trainer.lr_scheduler_configs[0].scheduler.history
    assert (cut["at"], cut["old"], cut["new"]) == (4, {"0": 0.5}, {"0": 0.25})


def resumed(kind, fit, lit, folder):
    """Killed in the middle of the rule's patience, after the first of two evaluations without improvement."""
    first, module = getattr(lit, kind)(), getattr(lit, kind)()
    first.stop = 3
    settings = {**lit.saving(folder, every_n_epochs=1, save_on_train_epoch_end=True), "batches": 1, "epochs": 8}
    with pytest.raises(lit.Power):
        fit(first, **settings)
    fit(module, ckpt_path=folder / "step=3.ckpt", **settings)
    return module.probe.used


def test_a_run_killed_in_the_middle_of_the_patience_cuts_at_the_same_update(fit, lit, tmp_path):
    assert resumed("Observed", fit, lit, tmp_path) == CUT


def test_lightning_itself_loses_the_metric_of_the_epoch_that_it_saved(fit, lit, tmp_path):
    """It saves before it gives the metric away, and does not make up for that; torch's own rule loses it too."""
    assert resumed("Monitored", fit, lit, tmp_path) == RATES[:5] + [rate / 2 for rate in RATES[5:]]


def test_the_monitor_logs_the_rate_of_update_t_at_index_t(fit, tmp_path, lit):
    lr = rw.sgdr(1.0, 4)  # a restart at update 4
    module = lit.Module(lr)
    fit(module, **lit.monitored(tmp_path))
    assert lit.logged(tmp_path, "lr-SGD") == list(enumerate(module.probe.used)) == list(enumerate(lr.values(0, 8)))
    written = scalars(tmp_path / "board/version_0", "lr-SGD")
    assert written == [(t, pytest.approx(rate, rel=1e-7)) for t, rate in enumerate(lr.values(0, 8))]


def test_at_interval_epoch_the_monitor_logs_one_rate_per_epoch_though_the_rate_moves(fit, tmp_path, lit):
    module = lit.Module(interval="epoch")
    fit(module, **lit.monitored(tmp_path))
    assert lit.logged(tmp_path, "lr-SGD") == [(0, 1.0), (4, 0.5)]
    assert module.probe.used == RATES


def test_named_groups_follow_their_schedules_and_the_monitor_calls_them_by_name(fit, tmp_path, lit):
    module = lit.Grouped()
    fit(module, **lit.monitored(tmp_path))
    assert lit.logged(tmp_path, "lr-SGD/body") == list(enumerate(module.probe.used)) == list(enumerate(RATES))
    assert lit.logged(tmp_path, "lr-SGD/head") == list(enumerate(module.head.used)) == list(enumerate([0.25] * 8))


def test_two_optimizers_in_manual_optimization_each_move_at_their_own_pace(fit, lit):
    module = lit.Adversaries()
    fit(module)
    assert module.critic.used == RATES
    assert module.generator.used == [1.0, 0.75, 0.5, 0.25]
    assert [s.position for s in module.lr_schedulers()] == [8, 4]


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_clipped_gradients_are_clipped_and_the_rate_is_untouched(algorithm, fit, lit):
    module = lit.Module(gradient=64.0)
    fit(module, gradient_clip_val=1.0, gradient_clip_algorithm=algorithm)
    assert module.probe.used == pytest.approx(RATES, rel=1e-6)


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_precision_does_not_touch_the_rate(precision, fit, lit):
    module = lit.Module()
    fit(module, precision=precision)
    assert module.probe.used == RATES


def test_a_second_fit_makes_the_optimizer_again_and_begins_again(fit, lit):
    module = lit.Module(updates=16)
    fit(module)
    fit(module)
    assert module.probe.used == RATES + RATES


def test_stochastic_weight_averaging_brings_its_own_schedule_and_is_reported(fit, lit):
    averaging = lit.callbacks.StochasticWeightAveraging(0.05, swa_epoch_start=2)
    with pytest.raises(ScheduleDetached, match="another scheduler") as caught:
        fit(lit.Module(rw.Linear(1.0, 0.0, 16), updates=16, interval="epoch"), epochs=4, callbacks=[averaging])
    assert caught.value.intended == 0.5


def test_after_detach_stochastic_weight_averaging_has_its_way(fit, lit):
    used = []

    class Handed(lit.Module):
        def on_train_batch_end(self, *_):
            used[:] = self.probe.used

        def on_train_epoch_end(self):
            if self.current_epoch == 0:
                self.lr_schedulers().detach()

    averaging = lit.callbacks.StochasticWeightAveraging(0.05, swa_epoch_start=2, annealing_epochs=1)
    fit(Handed(interval="epoch", updates=16), epochs=4, callbacks=[averaging])
    assert used == RATES[:4] + [0.7] * 4 + [pytest.approx(0.05)] * 8


def test_averaging_that_leaves_the_rate_alone_works(fit, lit):
    used = []

    class Noted(lit.Module):
        def on_train_batch_end(self, *_):
            used[:] = self.probe.used

    fit(Noted(), callbacks=[lit.callbacks.WeightAveraging()])
    assert used == RATES


@pytest.mark.slow
def test_two_processes_use_the_same_rates_also_under_a_rule_that_gets_the_mean_metric(tmp_path):
    found = launch("ranks_lightning.py", 2, tmp_path)
    assert found == [{"ruled": [CUT, 8], "1": [RATES, 8], "2": [RATES, 8]}] * 2
