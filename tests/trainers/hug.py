"""Hugging Face's Trainer around probes; imported by fixtures only, as it takes seconds."""

import torch
from trainers.probe import LR, Probe, sgd
from transformers import Trainer, TrainerCallback, TrainingArguments

from ratewise.torch import Scheduler


class Model(torch.nn.Module):
    """A probe that returns its loss as Hugging Face's models do."""

    def __init__(self, **probe):
        super().__init__()
        self.probe = Probe(**probe)

    def forward(self, x=None):
        return {"loss": self.probe(x)}


class Power(RuntimeError):
    """It went out."""


class Killed(TrainerCallback):
    """Dies before update ``stop``."""

    def __init__(self, stop):
        self.stop = stop

    def on_step_begin(self, args, state, control, **_):
        if state.global_step == self.stop:
            raise Power


class Feed(TrainerCallback):
    """What a person writes: the rule gets the metric of every evaluation."""

    def on_evaluate(self, args, state, control, lr_scheduler, metrics, **_):
        lr_scheduler.observe(metrics["eval_score"])


def rows(n):
    """A data set of ``n`` rows that say nothing."""
    return [{"x": torch.zeros(1)}] * n


def arguments(folder, **settings):
    """Quiet settings on the CPU, two epochs, every update logged, no clipping."""
    quiet = {"report_to": "none", "disable_tqdm": True, "save_strategy": "no", "logging_steps": 1, "use_cpu": True}
    run = {"per_device_train_batch_size": 1, "num_train_epochs": 2, "max_grad_norm": 0.0}
    return TrainingArguments(str(folder), **{**quiet, **run, **settings})


def train(folder, model, lr=LR, updates=8, callbacks=(), resume=None, on_change=None, scheduler=None, **settings):
    """Train ``model`` for two epochs of ``updates / 2``; returns the trainer."""
    scheduler = scheduler or Scheduler(sgd(model), lr, on_change=on_change)
    args = arguments(folder, **settings)
    trainer = Trainer(
        model, args, train_dataset=rows(updates * args.gradient_accumulation_steps // 2), callbacks=list(callbacks),
        optimizers=(scheduler.optimizer, scheduler), eval_dataset=rows(1),
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resume and str(resume))
    return trainer


def logged(trainer):
    """What the trainer's own log says: (index, rate)."""
    return [(line["step"], line["learning_rate"]) for line in trainer.state.log_history if "learning_rate" in line]
