"""Living schedulers of peers: what the doctor reads from the objects themselves, and near misses."""

import importlib
import math
import os
import re

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import pytest
import torch
from keras.callbacks import LearningRateScheduler, ReduceLROnPlateau
from keras.optimizers import SGD, schedules
from parity.living import living
from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR
from transformers import get_scheduler
from transformers.optimization import GreedyLR, get_polynomial_decay_schedule_with_warmup

from ratewise import Cosine, Plateau
from ratewise.doctor import examine
from ratewise.doctor.defects import DEFECTS
from ratewise.errors import ScheduleError

pytestmark = [
    pytest.mark.filterwarnings("ignore:Detected call of:UserWarning"),
    pytest.mark.filterwarnings("ignore:PlateauLRScheduler is deprecated:FutureWarning"),
]


def sgd(lr=0.1, momentum=0.9):
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr, momentum=momentum)


def codes(thing, level=("error", "warning", "note")):
    return [finding.code for finding in examine(thing) if finding.level in level]


def of_torch(name, *args, momentum=0.9, lr=0.1, **kwargs):
    return getattr(lr_scheduler, name)(sgd(lr, momentum), *args, **kwargs)


def sequence(first, second, milestone):
    optimizer = sgd()
    pieces = [getattr(lr_scheduler, name)(optimizer, **kwargs) for name, kwargs in (first, second)]
    return lr_scheduler.SequentialLR(optimizer, pieces, [milestone])


TORCH = [
    ("T3", lambda: of_torch("OneCycleLR", 1.0, 10, pct_start=0.0), lambda: of_torch("OneCycleLR", 1.0, 10)),
    ("T4", lambda: of_torch("OneCycleLR", 1.0, 7), lambda: of_torch("OneCycleLR", 1.0, 10)),
    (
        "T7",
        lambda: of_torch("OneCycleLR", 1.0, 10, pct_start=0.6, three_phase=True),
        lambda: of_torch("OneCycleLR", 1.0, 10, pct_start=0.4, three_phase=True),
    ),
    ("T10", lambda: of_torch("LinearLR", total_iters=0), lambda: of_torch("LinearLR", total_iters=1)),
    ("T12", lambda: of_torch("CosineAnnealingLR", 10), lambda: of_torch("PolynomialLR", 10)),
    (
        "T15",
        lambda: sequence(("LinearLR", {"total_iters": 5}), ("StepLR", {"step_size": 9}), 4),
        lambda: sequence(("LinearLR", {"total_iters": 5}), ("StepLR", {"step_size": 9}), 5),
    ),
    ("T25", lambda: of_torch("CyclicLR", 0.1, 1.0, mode="exp_range"), lambda: of_torch("CyclicLR", 0.1, 1.0)),
    ("T27", lambda: of_torch("ReduceLROnPlateau", patience=0), lambda: of_torch("ReduceLROnPlateau")),
    ("T28", lambda: of_torch("ReduceLROnPlateau", lr=1e-8), lambda: of_torch("ReduceLROnPlateau", lr=1e-3)),
    ("T33", lambda: SWALR(sgd(), 0.05), lambda: of_torch("StepLR", 5)),
    (
        "floor-above-rate",
        lambda: of_torch("CosineAnnealingLR", 10, eta_min=1.0),
        lambda: of_torch("CosineAnnealingLR", 10, eta_min=0.01),
    ),
]


@pytest.mark.parametrize(("code", "bad", "good"), TORCH, ids=lambda x: x if isinstance(x, str) else "")
def test_torch(code, bad, good):
    assert code in codes(bad())
    assert code not in codes(good())


def test_a_scheduler_after_a_one_cycle():
    optimizer = sgd()
    assert "T9" not in codes(lr_scheduler.CosineAnnealingLR(optimizer, 10))
    lr_scheduler.OneCycleLR(optimizer, 1.0, 10)
    assert "T9" in codes(lr_scheduler.CosineAnnealingLR(optimizer, 10))


def test_a_chained_cosine_with_a_floor():
    def chained(floor):
        optimizer = sgd()
        return lr_scheduler.ChainedScheduler(
            [lr_scheduler.LinearLR(optimizer), lr_scheduler.CosineAnnealingLR(optimizer, 10, eta_min=floor)]
        )

    assert "T19" in codes(chained(0.01))
    assert "T19" not in codes(chained(0.0))


def test_a_negative_metric_on_a_relative_plateau():
    for metric, found in ((-1.0, True), (1.0, False)):
        plateau = of_torch("ReduceLROnPlateau")
        plateau.step(metric)
        assert ("T26" in codes(plateau)) is found


def test_a_group_that_was_added_late():
    scheduler = of_torch("LinearLR")
    assert "T29" not in codes(scheduler)
    scheduler.optimizer.add_param_group({"params": [torch.zeros(1)]})
    assert "T29" in codes(scheduler)


def test_a_rate_that_somebody_else_wrote():
    scheduler = of_torch("CosineAnnealingLR", 10)
    for _ in range(3):
        scheduler.step()
    assert "T30" not in codes(scheduler)
    scheduler.optimizer.param_groups[0]["lr"] = 0.01
    assert "T30" in codes(scheduler)


@pytest.mark.parametrize("name", ["StepLR", "ExponentialLR", "PolynomialLR", "MultiStepLR", "LinearLR", "ConstantLR"])
def test_plain_schedulers_have_nothing(name):
    needs = {"StepLR": [5], "ExponentialLR": [0.9], "MultiStepLR": [[3, 6]]}
    assert codes(of_torch(name, *needs.get(name, []))) == []


def test_hugging_face():
    def scheduler(name, warmup=3, **special):
        return get_scheduler(name, sgd(), warmup, 10, scheduler_specific_kwargs=special)

    assert codes(scheduler("cosine", warmup=0)) == ["H1"]
    assert codes(scheduler("linear")) == ["H6"]
    assert codes(scheduler("linear", warmup=0)) == []
    assert codes(scheduler("cosine_warmup_with_min_lr", min_lr=0.01)) == ["H1", "H3"]
    assert codes(scheduler("warmup_stable_decay", num_decay_steps=12)) == ["H4"]
    assert codes(scheduler("warmup_stable_decay", num_decay_steps=2)) == []
    assert codes(scheduler("warmup_stable_decay", num_decay_steps=2, min_lr_ratio=0.1)) == ["H3"]
    assert codes(GreedyLR(sgd(5e-5))) == ["H5"]
    assert codes(GreedyLR(sgd(5e-5), min_lr=1e-6)) == []


def test_hugging_face_polynomial_over_groups_of_different_rates():
    def optimizer(second):
        groups = [{"params": [torch.zeros(1)], "lr": 0.1}, {"params": [torch.zeros(1)], "lr": second}]
        return torch.optim.SGD(groups, lr=0.1)

    assert "H2" in codes(get_polynomial_decay_schedule_with_warmup(optimizer(0.01), 0, 10))
    assert "H2" not in codes(get_polynomial_decay_schedule_with_warmup(optimizer(0.1), 0, 10))


KERAS = [
    ("K2", lambda: schedules.ExponentialDecay(1, 10, 0.5), lambda: schedules.ExponentialDecay(1.0, 10, 0.5)),
    (
        "K3",
        lambda: SGD(schedules.CosineDecay(0.1, 9), gradient_accumulation_steps=4),
        lambda: SGD(schedules.CosineDecay(0.1, 9)),
    ),
    ("K4", lambda: schedules.CosineDecay(0.1, 9, warmup_steps=5), lambda: schedules.CosineDecay(0.1, 9)),
    ("K7", lambda: SGD(schedules.PolynomialDecay(0.1, 9, cycle=True)), lambda: SGD(schedules.PolynomialDecay(0.1, 9))),
    ("K9", lambda: ReduceLROnPlateau(cooldown=1), lambda: ReduceLROnPlateau(cooldown=0)),
    ("K12", lambda: LearningRateScheduler(lambda t, lr=0.1: lr), lambda: LearningRateScheduler(lambda t, lr: lr)),
]


@pytest.mark.parametrize(("code", "bad", "good"), KERAS, ids=lambda x: x if isinstance(x, str) else "")
def test_keras(code, bad, good):
    assert code in codes(bad())
    assert code not in codes(good())


def test_keras_callback_of_a_model_with_a_schedule():
    for rate, found in ((schedules.CosineDecay(0.1, 9), True), (0.1, False)):
        model = keras.Sequential([keras.layers.Dense(1)])
        model.compile(SGD(rate), loss="mse")
        callback = ReduceLROnPlateau()
        callback.set_model(model)
        assert ("K11" in codes(callback)) is found


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_keras_plateau_whose_first_metric_was_nan():
    for metric, found in ((math.nan, True), (1.0, False)):
        model = keras.Sequential([keras.layers.Dense(1)])
        model.compile(SGD(0.1), loss="mse")
        callback = ReduceLROnPlateau(monitor="loss", patience=3)
        callback.set_model(model)
        callback.on_train_begin()
        callback.on_epoch_end(0, {"loss": metric})
        assert ("K10" in codes(callback)) is found


def test_timm():
    cosine = living("timm.scheduler.cosine_lr").CosineLRScheduler
    assert codes(cosine(sgd(), 100, warmup_t=20)) == ["M1"]
    assert codes(cosine(sgd(), 100, warmup_t=20, warmup_prefix=True)) == []
    assert codes(cosine(sgd(), 1, cycle_mul=3, cycle_limit=9)) == ["M3"]
    assert codes(living("timm.scheduler.multistep_lr").MultiStepLRScheduler(sgd(), [30])) == ["M2"]
    assert codes(living("timm.scheduler.tanh_lr").TanhLRScheduler(sgd(), 30)) == ["M4"]
    assert codes(living("timm.scheduler.plateau_lr").PlateauLRScheduler(sgd())) == ["M5"]
    assert codes(living("timm.scheduler.step_lr").StepLRScheduler(sgd(), 30)) == []


def test_fvcore_ignite_and_kozistr():
    assert codes(living("fvcore.common.param_scheduler").CosineParamScheduler(0.1, 0.0)) == ["F1"]
    ignite = living("ignite.handlers.param_scheduler")
    assert codes(ignite.LinearCyclicalScheduler(sgd(), "lr", 0.1, 0.0, 10)) == ["I1"]
    linear = living("pytorch_optimizer.lr_scheduler.linear_warmup")
    assert codes(linear.LinearScheduler(sgd(), t_max=10, max_lr=0.1)) == ["P2"]
    assert codes(linear.PolyScheduler(sgd(), t_max=10, max_lr=0.1)) == ["P3"]
    assert codes(living("pytorch_optimizer.lr_scheduler.rex").REXScheduler(sgd(), 10)) == ["P1"]
    wsd = living("pytorch_optimizer.lr_scheduler.wsd").get_wsd_schedule
    assert codes(wsd(sgd(), 1, 2, 3, min_lr_ratio=0.1)) == ["P4"]
    assert codes(wsd(sgd(), 1, 2, 3)) == []
    proportion = living("pytorch_optimizer.lr_scheduler.proportion").ProportionScheduler
    assert codes(proportion(of_torch("StepLR", 5), 1.0)) == ["P6"]


def test_a_schedule_with_rules_is_examined_as_the_schedule():
    schedule = Cosine(0.1, 0.0, 50)
    assert [f.code for f in examine(schedule * Plateau(0.5, 3), 100)] == [f.code for f in examine(schedule, 100)] != []


@pytest.mark.parametrize("thing", [None, 0.1, "text", object(), print, [Cosine(0.1, 0.0)]])
def test_anything_else_is_an_error_of_one_line(thing):
    with pytest.raises(ScheduleError, match="is neither a schedule nor a scheduler"):
        examine(thing)


def test_what_is_recommended_exists():
    names = {name for row in DEFECTS for name in re.findall(r"ratewise\.[\w.]*\w", row.instead)}
    assert "ratewise.torch.Scheduler" in names
    for name in names:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name
