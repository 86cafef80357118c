"""One example of everything that the doctor says of other libraries, and beside each a near miss that it lets pass.

The catalogue in docs/doctor.md is made from these.
"""

# ruff: noqa: E501 - a row is an example, and reads best in one piece

from typing import NamedTuple


class Example(NamedTuple):
    """A text with a defect, and one almost like it without.

    Args:
        code: What the finding is called.
        says: What it says, in part.
        bad: The text with the defect.
        good: The near miss.
        file: What the text is saved as.
    """

    code: str
    says: str
    bad: str
    good: str
    file: str = "train.py"


TORCH = """\
import torch
from torch.optim.lr_scheduler import *
from torch.optim.swa_utils import SWALR
plain = torch.optim.SGD(model.parameters(), lr=0.1)
opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
"""
KERAS = "import keras\nfrom keras.callbacks import *\nfrom keras.optimizers.schedules import *\n"
OPTAX = "import optax\n"
HF = """\
import torch
from transformers import *
opt = torch.optim.AdamW(model.parameters(), lr=0.1)
"""
OTHERS = """\
import paddle
from composer.optim import *
from diffusers.optimization import get_scheduler
from fvcore.common.param_scheduler import *
from ignite.handlers import CosineAnnealingScheduler, LinearCyclicalScheduler, PiecewiseLinear
from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler
from mindspore.nn import CosineDecayLR, NaturalExpDecayLR
from nanotron.config import LRSchedulerArgs
from olmo_core.optim import ConstantScheduler as Flat, CosWithWarmup, ExponentialScheduler
from pl_bolts.optimizers.lr_scheduler import LinearWarmupCosineAnnealingLR
from pytorch_warmup import LinearWarmup, UntunedLinearWarmup
"""
KOZISTR = "from pytorch_optimizer import *\nfrom pytorch_optimizer.lr_scheduler import *\n"
TIMM = "from timm.scheduler import *\n"


def _loop(inside: str, before: str = "", epochs: str = "3") -> str:
    """A training loop over epochs and batches."""
    return f"{before}for epoch in range({epochs}):\n    for batch in loader:\n        opt.step()\n{inside}"


_TORCH = [
    ("T1", "0 updates long", "OneCycleLR(opt, 1.0, total_steps=10, pct_start=0.1)",
     "OneCycleLR(opt, 1.0, total_steps=10, pct_start=0.2)"),
    ("T2", "leaves no update", "OneCycleLR(opt, 1.0, total_steps=10, pct_start=1.0)",
     "OneCycleLR(opt, 1.0, total_steps=10, pct_start=0.9)"),
    ("T3", "never used", "OneCycleLR(opt, 1.0, total_steps=10, pct_start=0.0)",
     "OneCycleLR(opt, 1.0, total_steps=10, pct_start=0.1)"),
    ("T4", "between two updates", "OneCycleLR(opt, 1.0, total_steps=7)", "OneCycleLR(opt, 1.0, total_steps=10)"),
    ("T5", "outside the curve", "OneCycleLR(opt, 1.0, total_steps=10)", "CosineAnnealingLR(opt, 10)"),
    ("T6", "more than total_steps times", "OneCycleLR(opt, 1.0, total_steps=10)", "CosineAnnealingLR(opt, 10)"),
    ("T6", "the loop steps 11 times", "s = OneCycleLR(opt, 1.0, total_steps=10)\nfor i in range(11):\n    opt.step(); s.step()",
     "s = OneCycleLR(opt, 1.0, total_steps=10)\nfor i in range(10):\n    opt.step(); s.step()"),
    ("T7", "more than the run", "OneCycleLR(opt, 1.0, total_steps=10, pct_start=0.6, three_phase=True)",
     "OneCycleLR(opt, 1.0, total_steps=10, pct_start=0.5, three_phase=True)"),
    ("T8", "from 0 into", "OneCycleLR(plain, 1.0, total_steps=10)", "OneCycleLR(plain, 1.0, total_steps=10, cycle_momentum=False)"),
    ("T8", "no momentum", "CyclicLR(torch.optim.Adagrad(p), 0.1, 1.0)", "CyclicLR(torch.optim.AdamW(p), 0.1, 1.0)"),
    ("T9", "has used before", "OneCycleLR(opt, 1.0, total_steps=10)\nCosineAnnealingLR(opt, 10)",
     "OneCycleLR(opt, 1.0, total_steps=10)\nCosineAnnealingLR(plain, 10)"),
    ("T10", "total_iters=0", "LinearLR(opt, total_iters=0)", "LinearLR(opt, total_iters=1)"),
    ("T11", "factor=0", "ConstantLR(opt, factor=0.0)", "ConstantLR(opt, factor=0.1)"),
    ("T11", "end_factor=2.0", "LinearLR(opt, start_factor=0.5, end_factor=2.0)", "LinearLR(opt, start_factor=0.5, end_factor=1.0)"),
    ("T12", "after update 10 the rate rises again", "CosineAnnealingLR(opt, 10)", "LinearLR(opt, 1.0, 0.0, total_iters=10)"),
    ("T12", "the loop steps 100 times", "s = CosineAnnealingLR(opt, T_max=10)\nfor i in range(100):\n    opt.step(); s.step()",
     "s = CosineAnnealingLR(opt, T_max=100)\nfor i in range(100):\n    opt.step(); s.step()"),
    ("T12", "has a longer span", "SequentialLR(opt, [CosineAnnealingLR(opt, 5), ConstantLR(opt, 0.1)], milestones=[8])",
     "SequentialLR(opt, [CosineAnnealingLR(opt, 8), ConstantLR(opt, 0.1)], milestones=[8])"),
    ("T13", "not as the first", "SequentialLR(opt, [StepLR(opt, 2), ChainedScheduler([StepLR(opt, 2)])], milestones=[8])",
     "SequentialLR(opt, [ChainedScheduler([StepLR(opt, 2)]), StepLR(opt, 2)], milestones=[8])"),
    ("T14", "MultiplicativeLR", "SequentialLR(opt, [LinearLR(opt), MultiplicativeLR(opt, f)], milestones=[5])",
     "SequentialLR(opt, [LinearLR(opt), LambdaLR(opt, f)], milestones=[5])"),
    ("T15", "the milestone 4 does not fit", "SequentialLR(opt, [LinearLR(opt, 0.1, total_iters=5), StepLR(opt, 9)], milestones=[4])",
     "SequentialLR(opt, [LinearLR(opt, 0.1, total_iters=5), StepLR(opt, 9)], milestones=[5])"),
    ("T16", "do not rise", "SequentialLR(opt, [StepLR(opt, 2), StepLR(opt, 3), StepLR(opt, 4)], milestones=[9, 5])",
     "SequentialLR(opt, [StepLR(opt, 2), StepLR(opt, 3), StepLR(opt, 4)], milestones=[5, 9])"),
    ("T17", "last_epoch=7", "SequentialLR(opt, [StepLR(opt, 2), StepLR(opt, 3)], [5], last_epoch=7)",
     "SequentialLR(opt, [StepLR(opt, 2), StepLR(opt, 3)], [5])"),
    ("T18", "OneCycleLR inside", "SequentialLR(opt, [LinearLR(opt), OneCycleLR(opt, 1.0, 10)], milestones=[5])",
     "SequentialLR(opt, [LinearLR(opt), CosineAnnealingLR(opt, 10)], milestones=[5])"),
    ("T19", "eta_min=0.1", "ChainedScheduler([LinearLR(opt), CosineAnnealingLR(opt, 10, eta_min=0.1)])",
     "ChainedScheduler([LinearLR(opt), CosineAnnealingLR(opt, 10)])"),
    ("T20", "is loaded, then", "opt.load_state_dict(a)\ns = LinearLR(opt)\ns.load_state_dict(b)",
     "s = LinearLR(opt)\nopt.load_state_dict(a)\ns.load_state_dict(b)"),
    ("T21", "right before a milestone", "MultiStepLR(opt, [30, 60], last_epoch=29)", "MultiStepLR(opt, [30, 60], last_epoch=31)"),
    ("T21", "the last update of the factor", "ConstantLR(opt, 0.1, total_iters=5, last_epoch=4)", "ConstantLR(opt, 0.1, total_iters=5)"),
    ("T22", "misses the restart at epoch 121", "s = CosineAnnealingWarmRestarts(opt, 1, 3)\ns.step(epoch)",
     "s = CosineAnnealingWarmRestarts(opt, 1, 3)\ns.step()"),
    ("T23", "behind the first cycle", "CosineAnnealingWarmRestarts(opt, 5, 2, last_epoch=9)", "CosineAnnealingWarmRestarts(opt, 5, 2, last_epoch=8)"),
    ("T24", "T_mult=1.5", "CosineAnnealingWarmRestarts(opt, 5, 1.5)", "CosineAnnealingWarmRestarts(opt, 5, 2)"),
    ("T25", "from the start of training", "CyclicLR(opt, 0.1, 1.0, mode='exp_range', gamma=0.9)", "CyclicLR(opt, 0.1, 1.0, mode='triangular2')"),
    ("T27", "one nan cuts", "ReduceLROnPlateau(opt, patience=0)", "ReduceLROnPlateau(opt, patience=1)"),
    ("T28", "less than eps", "ReduceLROnPlateau(torch.optim.SGD(p, lr=1e-8))", "ReduceLROnPlateau(torch.optim.SGD(p, lr=1e-6))"),
    ("T33", "whatever rate the group holds", "SWALR(opt, swa_lr=0.05)", "StepLR(opt, 5)"),
    ("plateau-in-sequence", "among other schedulers", "SequentialLR(opt, [LinearLR(opt), ReduceLROnPlateau(opt)], milestones=[5])",
     "SequentialLR(opt, [LinearLR(opt), StepLR(opt, 5)], milestones=[5])"),
    ("floor-above-rate", "is above the rate 0.1", "CosineAnnealingLR(opt, 10, eta_min=1.0)", "CosineAnnealingLR(opt, 10, eta_min=0.01)"),
    ("group-ratios-lost", "one max_lr", "OneCycleLR(torch.optim.SGD([{'params': a, 'lr': 0.1}, {'params': b, 'lr': 0.01}]), 1.0, 10)",
     "OneCycleLR(torch.optim.SGD([{'params': a, 'lr': 0.1}, {'params': b, 'lr': 0.01}]), [1.0, 0.1], 10)"),
    ("scheduler-before-optimizer", "s.step() stands before opt.step()", "s = StepLR(opt, 30)\nfor epoch in range(90):\n    s.step()\n    for x in loader:\n        opt.step()",
     "s = StepLR(opt, 30)\nfor epoch in range(90):\n    for x in loader:\n        opt.step()\n    s.step()"),
    ("stepped-per-epoch", "once per epoch", _loop("    s.step()", "s = OneCycleLR(opt, 1.0, epochs=3, steps_per_epoch=len(loader))\n"),
     _loop("        s.step()", "s = OneCycleLR(opt, 1.0, epochs=3, steps_per_epoch=len(loader))\n")),
    ("stepped-per-update", "built for 3 epochs", _loop("        s.step()", "s = CosineAnnealingLR(opt, 3)\n"), _loop("    s.step()", "s = CosineAnnealingLR(opt, 3)\n")),
    ("optimizer-rebuilt", "is built again", "s = StepLR(opt, 5)\nopt = torch.optim.SGD(p, lr=1.0)\nfor i in range(9):\n    s.step()",
     "opt = torch.optim.SGD(p, lr=1.0)\ns = StepLR(opt, 5)\nfor i in range(9):\n    s.step()"),
    ("floor-never-reached", "steps 100 times", "s = OneCycleLR(opt, 1.0, total_steps=1000)\nfor i in range(100):\n    opt.step(); s.step()",
     "s = OneCycleLR(opt, 1.0, total_steps=100)\nfor i in range(100):\n    opt.step(); s.step()"),
    ("never-stepped", "s is built and never used", _loop("", "s = StepLR(opt, 5)\n"), _loop("    s.step()", "s = StepLR(opt, 5)\n")),
    ("metric-missing", "without a metric", "s = ReduceLROnPlateau(opt)\ns.step()", "s = ReduceLROnPlateau(opt)\ns.step(loss)"),
]  # fmt: skip

_KERAS = [
    ("K1", "the old value still holds", "PiecewiseConstantDecay([10], [0.1, 0.01])", "CosineDecay(0.1, 10)"),
    ("K1", "do not rise", "PiecewiseConstantDecay([20, 10], [0.1, 0.01, 0.001])", "PiecewiseConstantDecay([10, 20], [0.1, 0.01, 0.001])"),
    ("K2", "is an int", "ExponentialDecay(1, 10, 0.5)", "ExponentialDecay(1.0, 10, 0.5)"),
    ("K2", "the first of the values", "PiecewiseConstantDecay([10], [1, 0.1])", "PiecewiseConstantDecay([10], [1.0, 0.1])"),
    ("K3", "gradient_accumulation_steps=4", "keras.optimizers.SGD(CosineDecay(0.1, 100), gradient_accumulation_steps=4)",
     "keras.optimizers.SGD(CosineDecay(0.1, 100))"),
    ("K4", "without warmup_target", "CosineDecay(0.1, 100, warmup_steps=10)", "CosineDecay(0.0, 100, warmup_target=0.1, warmup_steps=10)"),
    ("K5", "from the end of the warm-up", "CosineDecay(0.0, 100, warmup_target=0.1, warmup_steps=10)", "CosineDecay(0.1, 100)"),
    ("K6", "instead of the peak", "CosineDecayRestarts(0.1, 10)", "CosineDecayRestarts(0.1, 1000)"),
    ("K7", "each saw tooth", "PolynomialDecay(0.1, 100, cycle=True)", "PolynomialDecay(0.1, 100)"),
    ("K8", "torch: one later", "ReduceLROnPlateau(patience=3)", "EarlyStopping(patience=3)"),
    ("K9", "cooldown=1 does nothing", "ReduceLROnPlateau(cooldown=1)", "ReduceLROnPlateau(cooldown=0)"),
    ("K9", "one epoch less", "ReduceLROnPlateau(cooldown=3)", "ReduceLROnPlateau(cooldown=0)"),
    ("K11", "a LearningRateSchedule", "model.compile(keras.optimizers.SGD(CosineDecay(0.1, 9)))\nmodel.fit(x, callbacks=[ReduceLROnPlateau()])",
     "model.compile(keras.optimizers.SGD(0.1))\nmodel.fit(x, callbacks=[ReduceLROnPlateau()])"),
    ("K12", "has a default", "def rate(epoch, lr=0.1):\n    return lr\nLearningRateScheduler(rate)", "def rate(epoch, lr):\n    return lr\nLearningRateScheduler(rate)"),
    ("K13", "decay=0.01", "keras.optimizers.SGD(0.1, decay=0.01)", "keras.optimizers.SGD(0.1, weight_decay=0.01)"),
    ("steps-look-like-epochs", "Keras counts batches", "rate = CosineDecay(0.1, decay_steps=EPOCHS)\nmodel.compile(keras.optimizers.SGD(rate))\nmodel.fit(x, epochs=EPOCHS)",
     "rate = CosineDecay(0.1, decay_steps=EPOCHS * len(x))\nmodel.compile(keras.optimizers.SGD(rate))\nmodel.fit(x, epochs=EPOCHS)"),
    ("K14", "2**24", "CosineDecay(0.1, 20_000_000)", "CosineDecay(0.1, 2_000_000)"),
]  # fmt: skip

_OPTAX = [
    ("O1", "transition_steps=0", "optax.linear_schedule(0.0, 0.1, 0)", "optax.linear_schedule(0.0, 0.1, 1)"),
    ("O1", "warmup_steps=0", "optax.warmup_constant_schedule(0.0, 0.1, 0)", "optax.warmup_constant_schedule(0.0, 0.1, 1)"),
    ("O2", "on the same update", "optax.linear_onecycle_schedule(100, 0.1, pct_final=1.0)", "optax.linear_onecycle_schedule(100, 0.1, pct_final=0.99)"),
    ("O3", "0 updates long", "optax.cosine_onecycle_schedule(3, 0.1)", "optax.cosine_onecycle_schedule(4, 0.1)"),
    ("O5", "one less than that of schedules", "optax.join_schedules([a, b, c], [10])", "optax.join_schedules([a, b, c], [10, 20])"),
    ("O5", "do not rise", "optax.join_schedules([a, b, c], [20, 10])", "optax.join_schedules([a, b, c], [10, 20])"),
    ("O6", "peak_value=0.0", "optax.warmup_cosine_decay_schedule(0.0, 0.0, 5, 10, end_value=0.1)", "optax.warmup_cosine_decay_schedule(0.0, 0.2, 5, 10, end_value=0.1)"),
    ("O7", "decay_rate=0", "optax.exponential_decay(0.1, 10, 0.0)", "optax.exponential_decay(0.1, 10, 0.5)"),
    ("O8", "patience=0", "optax.contrib.reduce_on_plateau(patience=0)", "optax.contrib.reduce_on_plateau(patience=1)"),
    ("O9", "must not be negative", "optax.contrib.reduce_on_plateau()", "optax.scale(0.1)"),
    ("O10", "no cycle", "optax.sgdr_schedule([])", "optax.sgdr_schedule([dict(init_value=0.0, peak_value=0.1, decay_steps=9, warmup_steps=2)])"),
    ("O11", "int(pct_start * T)", "optax.cosine_onecycle_schedule(100, 0.1)", "optax.linear_onecycle_schedule(100, 0.1)"),
    ("O12", "not the next", "optax.inject_hyperparams(optax.adamw)(learning_rate=s)", "optax.adamw(learning_rate=s)"),
    ("O13", "2**24", "optax.cosine_decay_schedule(0.1, 20_000_000)", "optax.cosine_decay_schedule(0.1, 2_000_000)"),
    ("warmup-longer-than-run", "the whole schedule 10", "optax.warmup_cosine_decay_schedule(0.0, 0.1, 10, 10)", "optax.warmup_cosine_decay_schedule(0.0, 0.1, 9, 10)"),
]  # fmt: skip

_HF = [
    ("H1", "rises again", "get_cosine_schedule_with_warmup(opt, 10, 100)", "get_linear_schedule_with_warmup(opt, 10, 100)"),
    ("H2", "equals num_training_steps", "get_polynomial_decay_schedule_with_warmup(opt, 100, 100)", "get_polynomial_decay_schedule_with_warmup(opt, 99, 100)"),
    ("H2", "not above lr_end", "get_polynomial_decay_schedule_with_warmup(opt, 9, 100, lr_end=0.1)", "get_polynomial_decay_schedule_with_warmup(opt, 9, 100, lr_end=0.01)"),
    ("H3", "starts at 1 / num_warmup_steps", "get_scheduler('cosine_warmup_with_min_lr', opt, 10, 100, {'min_lr': 0.01})", "get_scheduler('cosine_with_min_lr', opt, 10, 100, {'min_lr': 0.01})"),
    ("H3", "starts at min_lr_ratio", "get_wsd_schedule(opt, 10, 20, 100, min_lr_ratio=0.1)", "get_wsd_schedule(opt, 10, 20, 100)"),
    ("H4", "need 10 updates more", "get_wsd_schedule(opt, 50, 60, 100)", "get_wsd_schedule(opt, 40, 60, 100)"),
    ("H4", "num_decay_steps is missing", "get_scheduler('warmup_stable_decay', opt, 10, 100)", "get_scheduler('warmup_stable_decay', opt, 10, 100, scheduler_specific_kwargs={'num_decay_steps': 20})"),
    ("H5", "not below the rate", "GreedyLR(torch.optim.AdamW(p, lr=5e-5))", "GreedyLR(torch.optim.AdamW(p, lr=5e-5), min_lr=1e-6)"),
    ("H6", "the rate 0", "get_linear_schedule_with_warmup(opt, 10, 100)", "get_linear_schedule_with_warmup(opt, 0, 100)"),
    ("H7", "once per process", "from accelerate import Accelerator\nopt, s = Accelerator().prepare(opt, get_linear_schedule_with_warmup(opt, 0, 9))",
     "from accelerate import Accelerator\nopt = Accelerator().prepare(opt)"),
    ("warmup-ignored", "a warm-up of 500", "TrainingArguments('out', lr_scheduler_type='constant', warmup_steps=500)", "TrainingArguments('out', lr_scheduler_type='constant_with_warmup', warmup_steps=500)"),
    ("warmup-longer-than-run", "the run 100", "TrainingArguments('out', lr_scheduler_type=SchedulerType.COSINE, max_steps=100, warmup_steps=500)",
     "TrainingArguments('out', lr_scheduler_type=SchedulerType.COSINE, max_steps=1000, warmup_steps=500)"),
    ("unknown-scheduler", "no scheduler cosin", "get_scheduler('cosin', opt, 10, 100)", "get_scheduler('cosine', opt, 10, 100)"),
]  # fmt: skip

_OTHERS = [
    ("H8", "positions, not lengths", "get_scheduler('piecewise_constant', opt, step_rules='1:10,0.1')", "get_scheduler('linear', opt, num_training_steps=9)"),
    ("H8", "num_cycles=3", "get_scheduler('cosine', opt, num_training_steps=9, num_cycles=3)", "get_scheduler('cosine_with_restarts', opt, num_training_steps=9, num_cycles=3)"),
    ("F1", "below 1.0 only", "CosineParamScheduler(0.1, 0.0)", "CosineDecayLR(0.0, 0.1, 9, 9)"),
    ("I1", "never used", "LinearCyclicalScheduler(opt, 'lr', 0.1, 0.0, 10)", "PiecewiseLinear(opt, 'lr', [(0, 0.1), (9, 0.0)])"),
    ("L3", "1999 for", "UntunedLinearWarmup(opt)", "LinearWarmup(opt, 2000)"),
    ("C1", "scale_warmup=True", "LinearWithWarmupScheduler('10ba', scale_warmup=True)", "LinearWithWarmupScheduler('10ba')"),
    ("C1", "goes back to 1.0", "ConstantScheduler(alpha=0.1, t_max='10ep')", "ConstantScheduler(alpha=0.1)"),
    ("G1", "falls to min_lr at once", "OptimizerParamScheduler(opt, 0.0, 0.1, 0.0, 10, 100, 'inverse-square-root', 0, 0, 0, 'constant')",
     "OptimizerParamScheduler(opt, 0.0, 0.1, 0.0, 10, 100, 'cosine', 0, 0, 0, 'constant')"),
    ("G1", "without lr_wsd_decay_style", "OptimizerParamScheduler(opt, 0.0, 0.1, 0.0, 10, 100, 'WSD', 0, 0, 0, 'constant', wsd_decay_steps=10)",
     "OptimizerParamScheduler(opt, 0.0, 0.1, 0.0, 10, 100, 'WSD', 0, 0, 0, 'constant', wsd_decay_steps=10, lr_wsd_decay_style='linear')"),
    ("E1", "start_factor=0", "param_scheduler = [dict(type='LinearLR', start_factor=0, end=500)]", "param_scheduler = [dict(type='LinearLR', start_factor=0.1, end=500)]"),
    ("E1", "eta_min is never reached", "param_scheduler = dict(type='CosineAnnealingLR', T_max=90, begin=10, end=100)", "param_scheduler = dict(type='CosineAnnealingLR', T_max=89, begin=10, end=100)"),
    ("E1", "a window of one update", "param_scheduler = dict(type='LinearLR', begin=0, end=1)", "param_scheduler = dict(type='LinearLR', begin=0, end=5)"),
    ("E1", "need as many restart_weights", "param_scheduler = dict(type='CosineRestartLR', periods=[5, 10], by_epoch=True)", "param_scheduler = dict(type='CosineRestartLR', periods=[5, 10], restart_weights=[1, 1], by_epoch=True)"),
    ("L1", "a warm-up of 0", "CosWithWarmup(warmup_steps=0)", "CosWithWarmup(warmup_steps=10)"),
    ("L1", "the rate grows", "ExponentialScheduler(lr_min=1e-6)", "Flat()"),
    ("L2", "lr_decay_starting_step=60", "LRSchedulerArgs(0.1, 10, lr_decay_starting_step=60)", "LRSchedulerArgs(0.1, 10, lr_decay_steps=40, lr_decay_starting_step=60)"),
    ("L4", "the rate 0", "paddle.optimizer.lr.NoamDecay(64, 100)", "paddle.optimizer.lr.StepDecay(0.1, 100)"),
    ("L5", "not divided by decay_steps=50", "NaturalExpDecayLR(0.1, 0.9, 50)", "CosineDecayLR(0.0, 0.1, 9, 9)"),
    ("L7", "used twice", "LinearWarmupCosineAnnealingLR(opt, 5, 50)", "CosineDecayLR(0.0, 0.1, 9, 9)"),
]  # fmt: skip

_KOZISTR = [
    ("P1", "max_lr=1.0 is never used", "REXScheduler(opt, 100)", "LinearScheduler(opt, t_max=100, max_lr=0.1)"),
    ("P2", "one update late", "LinearScheduler(opt, t_max=100, max_lr=0.1)", "REXScheduler(opt, 100)"),
    ("P2", "t_max equals warmup_steps", "CosineScheduler(opt, t_max=100, max_lr=0.1, warmup_steps=100)", "CosineScheduler(opt, t_max=100, max_lr=0.1, warmup_steps=10)"),
    ("P3", "without bound", "PolyScheduler(opt, t_max=100, max_lr=0.1)", "LinearScheduler(opt, t_max=100, max_lr=0.1)"),
    ("P4", "ignored during a 1-sqrt decay", "get_wsd_schedule(opt, 10, 50, 40, min_lr_ratio=0.1)", "get_wsd_schedule(opt, 10, 50, 40, min_lr_ratio=0.1, cooldown_type='cosine')"),
    ("P5", "17 times", "get_chebyshev_schedule(opt, 16)", "get_chebyshev_schedule(opt, 16, is_warmup=True)"),
    ("P6", "both 2.0", "ProportionScheduler(s, 1.0)", "ProportionScheduler(s, 1.0, 0.0, 2.0, 0.5)"),
]  # fmt: skip

_TIMM = [
    ("M1", "falls to", "CosineLRScheduler(opt, 100, warmup_t=20)", "CosineLRScheduler(opt, 100, warmup_t=20, warmup_prefix=True)"),
    ("M2", "takes effect at m - 1", "MultiStepLRScheduler(opt, [30, 60])", "StepLRScheduler(opt, 30)"),
    ("M3", "the restart at 121", "CosineLRScheduler(opt, 1, cycle_mul=3, cycle_limit=9)", "CosineLRScheduler(opt, 1, cycle_mul=3, cycle_limit=5)"),
    ("M4", "ends above lr_min", "TanhLRScheduler(opt, 100)", "CosineLRScheduler(opt, 100)"),
    ("M5", "not saved", "PlateauLRScheduler(opt)", "StepLRScheduler(opt, 30)"),
]  # fmt: skip


def _json(kind: str, **params: object) -> str:
    import json

    return json.dumps({"scheduler": {"type": kind, "params": params}})


_FILES = [
    ("D1", "decay_mom_rate=0.1", _json("OneCycle", decay_mom_rate=0.1), _json("OneCycle", decay_mom_rate=0.0), "ds.json"),
    ("D1", "beta2", _json("OneCycle"), _json("OneCycle", cycle_momentum=False), "ds.json"),
    ("D2", "never reached", _json("WarmupCosineLR", total_num_steps=100, warmup_num_steps=10), _json("WarmupLR"), "ds.json"),
    ("D2", "the first two updates", _json("WarmupLR", warmup_num_steps=10), _json("WarmupLR", warmup_min_lr=0.01), "ds.json"),
    ("warmup-longer-than-run", "the run 100", _json("WarmupDecayLR", total_num_steps=100, warmup_num_steps=500), _json("WarmupDecayLR", total_num_steps=1000, warmup_num_steps=500), "ds.json"),
    ("warmup-longer-than-run", "takes 500 updates", "lr_scheduler_type: cosine\nlearning_rate: 2.0e-5\nmax_steps: 100\nwarmup_steps: 500\n",
     "lr_scheduler_type: cosine\nlearning_rate: 2.0e-5\nmax_steps: 1000\nwarmup_steps: 500\n", "train.yaml"),
    ("number-is-text", "2e-5 is text", "lr_scheduler_type: cosine\nlearning_rate: 2e-5\n", "lr_scheduler_type: cosine\nlearning_rate: 2.0e-5\n", "train.yaml"),
    ("G2", "of its peak", "train-iters: 1000\nlr-decay-style: linear\nwarmup: 0.1\nmin_lr: 0.0\noptimizer: {params: {lr: 0.01}}\n",
     "train-iters: 1000\nlr-decay-style: linear\nwarmup: 0.0\nmin_lr: 0.0\noptimizer: {params: {lr: 0.01}}\n", "neox.yml"),
    ("N1", "from update 0", "optim: {sched: {name: SquareRootAnnealing, warmup_steps: 10, max_steps: 100}}\n", "optim: {sched: {name: SquareRootAnnealing, max_steps: 100}}\n", "nemo.yaml"),
    ("N1", "no hold_steps", "optim: {sched: {name: PolynomialHoldDecayAnnealing, warmup_steps: 10, max_steps: 100}}\n",
     "optim: {sched: {name: PolynomialHoldDecayAnnealing, warmup_steps: 10, hold_steps: 20, max_steps: 100}}\n", "nemo.yaml"),
    ("N2", "of the first", "optim: {sched: {name: WarmupAnnealing, warmup_steps: 10, max_steps: 100}}\n", "optim: {sched: {name: CosineAnnealing, warmup_steps: 10, max_steps: 100}}\n", "nemo.yaml"),
    ("N2", "constant_steps=20", "optim: {sched: {name: CosineAnnealing, constant_steps: 20, max_steps: 100}}\n", "optim: {sched: {name: CosineAnnealing, max_steps: 100}}\n", "nemo.yaml"),
    ("N2", "whatever lr is", "optim: {sched: {name: T5InverseSquareRootAnnealing, max_steps: 100}}\n", "optim: {sched: {name: CosineAnnealing, max_steps: 100}}\n", "nemo.yaml"),
    ("N2", "max_steps is not given", "optim: {sched: {name: WarmupHoldPolicy, warmup_steps: 10}}\n", "trainer: {max_steps: 9}\noptim: {sched: {name: WarmupHoldPolicy, warmup_steps: 10}}\n", "nemo.yaml"),
    ("L7b", "below training.steps=1000", "[lr_scheduler]\ntotal_steps = 800\n[training]\nsteps = 1000\n", "[lr_scheduler]\ntotal_steps = 1000\n[training]\nsteps = 1000\n", "titan.toml"),
    ("L9", "warmup_updates=0", "lr_scheduler: {_name: inverse_sqrt, warmup_updates: 0}\n", "lr_scheduler: {_name: inverse_sqrt, warmup_updates: 4000}\n", "fairseq.yaml"),
    ("L9", "decay_steps=0", "lr_scheduler: {_name: tri_stage, warmup_steps: 5}\n", "lr_scheduler: {_name: tri_stage, phase_ratio: [0.1, 0.4, 0.5]}\n", "fairseq.yaml"),
    ("L9", "is odd", "lr_scheduler: {_name: triangular, lr_period_updates: 5001}\n", "lr_scheduler: {_name: triangular, lr_period_updates: 5000}\n", "fairseq.yaml"),
    ("M1", "falls to 0.9045", "sched: cosine\nepochs: 50\nwarmup_epochs: 10\n", "sched: cosine\nepochs: 50\nwarmup_epochs: 10\nwarmup_prefix: true\n", "args.yaml"),
    ("T12", "after update 10", "model: {lr_scheduler: {_target_: torch.optim.lr_scheduler.CosineAnnealingLR, T_max: 10}}\n",
     "model: {lr_scheduler: {_target_: torch.optim.lr_scheduler.StepLR, step_size: 10}}\n", "hydra.yaml"),
    ("T10", "total_iters=0", "lr_scheduler:\n  class_path: torch.optim.lr_scheduler.LinearLR\n  init_args: {total_iters: 0}\n",
     "lr_scheduler:\n  class_path: torch.optim.lr_scheduler.LinearLR\n  init_args: {total_iters: 9}\n", "lightning.yaml"),
    ("K3", "gradient_accumulation_steps=4", '{"class_name": "SGD", "module": "keras.optimizers", "config": {"gradient_accumulation_steps": 4, "learning_rate": {"class_name": "CosineDecay", "module": "keras.optimizers.schedules", "config": {"initial_learning_rate": 0.1, "decay_steps": 9}}}}',
     '{"class_name": "SGD", "module": "keras.optimizers", "config": {"gradient_accumulation_steps": 4, "learning_rate": 0.1}}', "model.json"),
    ("C1", "scale_warmup=True", "scheduler: {name: cosine_with_warmup, t_warmup: 100ba, scale_warmup: true}\n", "scheduler: {name: cosine_with_warmup, t_warmup: 100ba}\n", "mpt.yaml"),
    ("L2", "lr_decay_starting_step=60", "optimizer: {learning_rate_scheduler: {learning_rate: 0.1, lr_warmup_steps: 10, lr_decay_starting_step: 60}}\n",
     "optimizer: {learning_rate_scheduler: {learning_rate: 0.1, lr_warmup_steps: 10, lr_decay_steps: 40, lr_decay_starting_step: 60}}\n", "nanotron.yaml"),
]  # fmt: skip

EXAMPLES = [
    *(
        Example(code, says, preamble + bad + "\n", preamble + good + "\n")
        for preamble, rows in (
            *((TORCH, _TORCH), (KERAS, _KERAS), (OPTAX, _OPTAX), (HF, _HF)),
            *((OTHERS, _OTHERS), (KOZISTR, _KOZISTR), (TIMM, _TIMM)),
        )
        for code, says, bad, good in rows
    ),
    *(Example(*row) for row in _FILES),
]
