"""Lightning's Trainer: its loop, its accumulation, its checkpoints, its monitor."""

import csv

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, StochasticWeightAveraging, WeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader
from trainers.probe import LR, RATES, Probe, sgd

import ratewise as rw
from ratewise.errors import ScheduleChanged, ScheduleDetached
from ratewise.torch import Scheduler

pytestmark = [
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning"),  # torch 2.13
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended"),
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
]


class Module(lightning.LightningModule):
    """A probe as users write their modules."""

    def __init__(self, lr=LR, interval="step", **probe):
        super().__init__()
        self.probe, self.lr, self.interval = Probe(**probe), lr, interval

    def training_step(self, batch, index):
        return self.probe(batch)

    def configure_optimizers(self):
        optimizer = sgd(self)
        scheduler = Scheduler(optimizer, self.lr)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": self.interval}}


@pytest.fixture
def fit(tmp_path):
    """Fits a module; returns the trainer."""

    def run(module, batches=4, epochs=2, ckpt_path=None, **settings):
        settings = {"logger": False, "enable_checkpointing": False, **settings}
        trainer = lightning.Trainer(
            accelerator="cpu", default_root_dir=tmp_path, max_epochs=epochs, enable_progress_bar=False,
            enable_model_summary=False, **settings,
        )  # fmt: skip
        trainer.fit(module, DataLoader(range(batches)), ckpt_path=ckpt_path)
        return trainer

    return run


@pytest.mark.parametrize("accumulated", [1, 2, 4])
@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_every_update_uses_its_rate(interval, accumulated, fit):
    module = Module(interval=interval, micro=accumulated)
    trainer = fit(module, batches=4 * accumulated, accumulate_grad_batches=accumulated)
    assert module.probe.used == RATES
    assert trainer.lr_scheduler_configs[0].scheduler.position == 8


def test_the_last_incomplete_accumulation_of_an_epoch_is_an_update_like_the_others(fit):
    module = Module(updates=9)
    trainer = fit(module, batches=3, epochs=3, accumulate_grad_batches=2)  # 2 + 1 batches make two updates
    assert trainer.global_step == 6
    halves = [rate / 2 for update in range(6) for rate in [LR(update)] * (2 - update % 2)]
    assert module.probe.used == halves


class Power(RuntimeError):
    """It went out."""


class Killed(Module):
    """Dies in the forward pass of update ``stop``."""

    def __init__(self, stop, **settings):
        super().__init__(**settings)
        self.stop = stop

    def training_step(self, batch, index):
        if self.global_step == self.stop:
            raise Power
        return super().training_step(batch, index)


def saving(folder):
    """Settings that save a checkpoint after every update."""
    every = ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1, save_on_train_epoch_end=False)
    return {"enable_checkpointing": True, "callbacks": [every]}


@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize("stop", range(1, 8))
def test_a_run_killed_at_any_update_goes_on_from_its_checkpoint(stop, accumulated, fit, tmp_path):
    settings = {**saving(tmp_path), "batches": 4 * accumulated, "accumulate_grad_batches": accumulated}
    with pytest.raises(Power):
        fit(Killed(stop, micro=accumulated), **settings)
    module = Module(micro=accumulated)
    trainer = fit(module, ckpt_path=tmp_path / f"step={stop}.ckpt", **settings)
    assert module.probe.used == RATES
    assert trainer.lr_scheduler_configs[0].scheduler.position == 8


def test_another_schedule_than_the_saved_one_is_an_error_unless_a_policy_is_given(fit, tmp_path):
    fit(Module(), max_steps=3, **saving(tmp_path))
    resumed = {"ckpt_path": tmp_path / "step=3.ckpt", **saving(tmp_path)}
    half = rw.Linear(0.5, 0.0, 8)
    with pytest.raises(ScheduleChanged, match=r"position 3 .* saved 6.25.* here 3.125"):
        fit(Module(half), **resumed)

    class Switched(Module):
        def configure_optimizers(self):
            optimizer = sgd(self)
            return [optimizer], [{"scheduler": Scheduler(optimizer, half, on_change="switch"), "interval": "step"}]

    module = Switched()
    fit(module, **resumed)
    assert module.probe.used == RATES[:3] + half.values(3, 8)


def test_the_monitor_logs_the_rate_of_update_t_at_index_t(fit, tmp_path):
    lr = rw.sgdr(1.0, 4)  # a restart at update 4
    loggers = [CSVLogger(tmp_path, "csv"), TensorBoardLogger(tmp_path, "board")]
    module = Module(lr)
    fit(module, logger=loggers, log_every_n_steps=1, callbacks=[LearningRateMonitor()])
    with open(tmp_path / "csv/version_0/metrics.csv", newline="") as file:
        written = [(int(row["step"]), float(row["lr-SGD"])) for row in csv.DictReader(file)]
    assert written == list(enumerate(module.probe.used)) == list(enumerate(lr.values(0, 8)))
    board = EventAccumulator(str(tmp_path / "board/version_0")).Reload().Scalars("lr-SGD")
    assert [(e.step, e.value) for e in board] == [(t, pytest.approx(rate, rel=1e-7)) for t, rate in written]


def test_at_interval_epoch_the_monitor_logs_one_rate_per_epoch_though_the_rate_moves(fit, tmp_path):
    module = Module(interval="epoch")
    fit(module, logger=CSVLogger(tmp_path, ""), log_every_n_steps=1, callbacks=[LearningRateMonitor()])
    with open(tmp_path / "version_0/metrics.csv", newline="") as file:
        written = [(int(row["step"]), float(row["lr-SGD"])) for row in csv.DictReader(file)]
    assert written == [(0, 1.0), (4, 0.5)]
    assert module.probe.used == RATES


class Grouped(Module):
    """Two named groups, body and head."""

    def __init__(self):
        super().__init__()
        self.head = Probe()

    def training_step(self, batch, index):
        return self.probe(batch) + self.head(batch)

    def configure_optimizers(self):
        groups = [{"params": m.parameters(), "name": n} for m, n in ((self.probe, "body"), (self.head, "head"))]
        optimizer = torch.optim.SGD(groups, lr=0.7)
        scheduler = Scheduler(optimizer, {"body": LR, "head": rw.Constant(0.25)})
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


def test_named_groups_follow_their_schedules_and_the_monitor_calls_them_by_name(fit, tmp_path):
    module = Grouped()
    fit(module, logger=CSVLogger(tmp_path, ""), log_every_n_steps=1, callbacks=[LearningRateMonitor()])
    assert module.probe.used == RATES
    assert module.head.used == [0.25] * 8
    with open(tmp_path / "version_0/metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["lr-SGD/body"]) for row in rows] == RATES
    assert [float(row["lr-SGD/head"]) for row in rows] == [0.25] * 8


class Adversaries(lightning.LightningModule):
    """Manual optimization: a critic that makes two updates for every one of the generator."""

    automatic_optimization = False

    def __init__(self):
        super().__init__()
        self.critic, self.generator = Probe(), Probe(updates=4)

    def training_step(self, batch, index):
        critic, generator = self.optimizers()
        for model, optimizer, due in ((self.critic, critic, True), (self.generator, generator, index % 2)):
            if due:
                optimizer.zero_grad()
                self.manual_backward(model(batch))
                optimizer.step()

    def configure_optimizers(self):
        optimizers = [sgd(self.critic), sgd(self.generator)]
        return optimizers, [Scheduler(optimizers[0], LR), Scheduler(optimizers[1], rw.Linear(1.0, 0.0, 4))]


def test_two_optimizers_in_manual_optimization_each_move_at_their_own_pace(fit):
    module = Adversaries()
    fit(module)
    assert module.critic.used == RATES
    assert module.generator.used == [1.0, 0.75, 0.5, 0.25]
    assert [s.position for s in module.lr_schedulers()] == [8, 4]


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_clipped_gradients_are_clipped_and_the_rate_is_untouched(algorithm, fit):
    module = Module(gradient=64.0)
    fit(module, gradient_clip_val=1.0, gradient_clip_algorithm=algorithm)
    assert module.probe.used == pytest.approx(RATES, rel=1e-6)


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_precision_does_not_touch_the_rate(precision, fit):
    module = Module()
    fit(module, precision=precision)
    assert module.probe.used == RATES


def test_a_second_fit_makes_the_optimizer_again_and_begins_again(fit):
    module = Module(updates=16)
    fit(module)
    fit(module)
    assert module.probe.used == RATES + RATES


def test_stochastic_weight_averaging_brings_its_own_schedule_and_is_reported(fit):
    averaging = StochasticWeightAveraging(0.05, swa_epoch_start=2)
    with pytest.raises(ScheduleDetached, match="another scheduler") as caught:
        fit(Module(rw.Linear(1.0, 0.0, 16), updates=16, interval="epoch"), epochs=4, callbacks=[averaging])
    assert caught.value.intended == 0.5


def test_after_detach_stochastic_weight_averaging_has_its_way(fit):
    used = []

    class Handed(Module):
        def on_train_batch_end(self, *_):
            used[:] = self.probe.used

        def on_train_epoch_end(self):
            if self.current_epoch == 0:
                self.lr_schedulers().detach()

    fit(
        Handed(interval="epoch", updates=16),
        epochs=4,
        callbacks=[StochasticWeightAveraging(0.05, swa_epoch_start=2, annealing_epochs=1)],
    )
    assert used == RATES[:4] + [0.7] * 4 + [pytest.approx(0.05)] * 8


def test_averaging_that_leaves_the_rate_alone_works(fit):
    used = []

    class Noted(Module):
        def on_train_batch_end(self, *_):
            used[:] = self.probe.used

    fit(Noted(), callbacks=[WeightAveraging()])
    assert used == RATES
