"""Hugging Face's Trainer: its loop, its accumulation, its checkpoints, its log."""

from functools import partial

import pytest
import torch
from trainers.probe import CUT, LR, METRICS, RATES, RULED, scalars, sgd

import ratewise as rw
from ratewise.errors import ScheduleChanged
from ratewise.torch import Scheduler

pytestmark = [
    pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true but no accelerator is found"),
]


@pytest.fixture(scope="module")
def hug():
    """The models and settings."""
    from trainers import hug

    return hug


@pytest.fixture
def train(hug, tmp_path):
    """Trains in the test's own folder."""
    return partial(hug.train, tmp_path)


@pytest.mark.parametrize("accumulated", [1, 2, 4])
def test_every_update_uses_its_rate(accumulated, train, hug):
    model = hug.Model(micro=accumulated)
    trainer = train(model, gradient_accumulation_steps=accumulated)
    assert model.probe.used == RATES
    assert trainer.lr_scheduler.position == trainer.state.global_step == 8


def test_the_rate_used_by_update_t_is_logged_at_step_t_plus_1_also_at_a_restart(train, hug, tmp_path, monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    lr = rw.sgdr(1.0, 4)  # a restart at update 4
    model = hug.Model()
    trainer = train(model, lr, report_to="tensorboard")
    assert model.probe.used == lr.values(0, 8)
    assert hug.logged(trainer) == [(t + 1, rate) for t, rate in enumerate(model.probe.used)]
    written = scalars(tmp_path / "board", "train/learning_rate")
    assert written == [(t + 1, pytest.approx(rate, rel=1e-7)) for t, rate in enumerate(model.probe.used)]


@pytest.mark.parametrize(("stop", "accumulated"), [(1, 1), (4, 1), (7, 1), (3, 2)])
def test_a_run_killed_at_any_update_goes_on_from_its_checkpoint(stop, accumulated, train, hug, tmp_path):
    settings = {"gradient_accumulation_steps": accumulated, "save_strategy": "steps", "save_steps": 1}
    with pytest.raises(hug.Power):
        train(hug.Model(micro=accumulated), callbacks=[hug.Killed(stop)], **settings)
    model = hug.Model(micro=accumulated)
    trainer = train(model, resume=tmp_path / f"checkpoint-{stop}", **settings)
    assert model.probe.used == RATES
    assert hug.logged(trainer) == [(t + 1, rate) for t, rate in enumerate(RATES)]


def test_another_schedule_than_the_saved_one_is_an_error_unless_a_policy_is_given(train, hug, tmp_path):
    train(hug.Model(), max_steps=3, save_strategy="steps", save_steps=3)
    half, saved = rw.Linear(0.5, 0.0, 8), tmp_path / "checkpoint-3"
    with pytest.raises(ScheduleChanged, match=r"position 3 "):
        train(hug.Model(), half, resume=saved)
    model = hug.Model()
    train(model, half, resume=saved, on_change="switch")
    assert model.probe.used == RATES[:3] + half.values(3, 8)


@pytest.mark.parametrize("stop", [None, 3])
def test_a_callback_gives_the_metric_of_every_evaluation_to_the_rule(stop, hug, tmp_path):
    class Evaluated(hug.Trainer):
        def evaluate(self, *_, **__):
            metrics = {"eval_score": METRICS[self.state.global_step - 1]}
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
            return metrics

    def train(*callbacks, resume=None):
        model = hug.Model()
        scheduler = Scheduler(sgd(model), RULED)
        steps = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
        Evaluated(
            model, hug.arguments(tmp_path, **steps), train_dataset=hug.rows(4), eval_dataset=hug.rows(1),
            optimizers=(scheduler.optimizer, scheduler), callbacks=[hug.Feed(), *callbacks],
        ).train(resume_from_checkpoint=resume)  # fmt: skip
        return model.probe.used

    if stop:
        with pytest.raises(hug.Power):
            train(hug.Killed(stop))
    assert train(resume=str(tmp_path / f"checkpoint-{stop}") if stop else None) == CUT


def test_the_norm_of_gradients_is_clipped_and_the_rate_is_untouched(train, hug):
    model = hug.Model(gradient=64.0)
    train(model, max_grad_norm=1.0)
    assert model.probe.used == pytest.approx(RATES, rel=1e-6)


def test_bfloat16_does_not_touch_the_rate(train, hug):
    model = hug.Model()
    train(model, bf16=True)
    assert model.probe.used == RATES


def test_the_first_group_is_the_one_that_is_logged(train, hug):
    model = hug.Model()
    model.head = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    groups = [{"params": [model.head], "name": "head"}, {"params": model.probe.parameters(), "name": "body"}]
    scheduler = Scheduler(torch.optim.SGD(groups, lr=0.7), {"body": LR, "head": rw.Constant(0.25)})
    trainer = train(model, scheduler=scheduler)
    assert model.probe.used == RATES
    assert hug.logged(trainer) == [(t, 0.25) for t in range(1, 9)]


def test_the_trainers_own_optimizer_follows_with_a_schedule_of_the_length_that_it_worked_out(hug, tmp_path):
    class Ours(hug.Trainer):
        def create_scheduler(self, num_training_steps, optimizer=None):
            self.lr_scheduler = Scheduler(optimizer or self.optimizer, rw.Linear(1.0, 0.0), horizon=num_training_steps)
            return self.lr_scheduler

    model = hug.Model()
    trainer = Ours(model, hug.arguments(tmp_path, optim="sgd", learning_rate=0.7), train_dataset=hug.rows(4))
    trainer.train()
    assert model.probe.used == RATES
    assert len(trainer.lr_scheduler.next_lr) == 2  # with weight decay and without


def test_an_optimizer_may_be_made_by_the_trainer_too(hug, tmp_path):
    class Ours(hug.Trainer):
        def create_optimizer(self, model=None):
            self.optimizer = sgd(self.model)
            self.lr_scheduler = Scheduler(self.optimizer, LR)
            return self.optimizer

    model = hug.Model()
    Ours(model, hug.arguments(tmp_path), train_dataset=hug.rows(4)).train()
    assert model.probe.used == RATES


def test_a_transformer_of_their_library_follows(hug, tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=8, n_positions=4, n_embd=4, n_layer=1, n_head=1)).double()
    weight, used = model.transformer.wte.weight, []

    class Ruler(hug.TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, **_):
            self.before, self.gradient = weight.detach().clone(), weight.grad.clone()

        def on_optimizer_step(self, args, state, control, **_):
            used.append(((self.before - weight).detach() / self.gradient).median().item())

    scheduler = Scheduler(sgd(model), rw.Linear(0.1, 0.0), horizon=8)
    tokens = torch.tensor([1, 2, 3, 4])
    hug.Trainer(
        model, hug.arguments(tmp_path), train_dataset=[{"input_ids": tokens, "labels": tokens}] * 4,
        optimizers=(scheduler.optimizer, scheduler), callbacks=[Ruler()],
    ).train()  # fmt: skip
    assert used == pytest.approx(rw.Linear(0.1, 0.0, 8).values(0, 8), rel=1e-9)
