import subprocess
import sys

import pytest
import torch

import ratewise as rw
from ratewise.errors import AdapterError, MissingDependency, ScheduleDetached
from ratewise.torch import OPTIMIZERS, Scheduler, build
from ratewise.torch.optimizers import optimizer_class

OTHERS = {"lbfgs", "muon", "schedule_free_adamw", "schedule_free_sgd"}
"""They ask for more than a step: a closure, a matrix, train()."""


@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS) - OTHERS))
def test_every_named_optimizer_is_built_and_scheduled(name, weight, applied):
    optimizer, scheduler = build(name, [weight()], rw.one_cycle(0.1), horizon=20)
    lr = rw.one_cycle(0.1).over(20)
    assert type(optimizer) is optimizer_class(name)
    assert isinstance(scheduler, Scheduler)
    assert optimizer.defaults["lr"] == optimizer.param_groups[0]["lr"] == lr(0)
    applied(optimizer, 20)
    assert scheduler.last_lr == {"0": lr(19)}


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_optimizers_that_ask_for_more_than_a_step_follow_too(name):
    torch.manual_seed(0)
    layer, lr = torch.nn.Linear(3, 2, bias=False), rw.one_cycle(0.1)
    inputs = torch.randn(8, 3)
    optimizer, scheduler = build(name, layer.parameters(), lr, horizon=20)
    getattr(optimizer, "train", int)()
    before = [p.clone() for p in layer.parameters()]

    def loss():
        optimizer.zero_grad()
        value = layer(inputs).square().mean()
        value.backward()
        return value

    for _ in range(20):
        loss()
        optimizer.step(loss if name == "lbfgs" else None)
    assert scheduler.position == 20
    assert scheduler.last_lr == {"0": lr.over(20)(19)}
    assert all((p != q).any() for p, q in zip(before, layer.parameters(), strict=True))


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
def test_any_torch_optimizer_is_built_by_where_it_is(weight):
    optimizer, scheduler = build("torch.optim.sgd:SGD", [weight()], rw.cosine(0.1), horizon=20, momentum=0.5)
    assert (type(optimizer), optimizer.param_groups[0]["momentum"]) == (torch.optim.SGD, 0.5)
    assert scheduler.next_lr == {"0": 0.1}
    optimizer, _ = build("prodigyopt:Prodigy", [weight()], rw.cosine(0.1), horizon=20, momentum=0.8)
    assert (type(optimizer).__name__, optimizer.param_groups[0]["betas"]) == ("Prodigy", (0.8, 0.999))


def test_a_rule_is_built_and_told_the_metric(weight, applied):
    optimizer, scheduler = build("sgd", [weight()], rw.Constant(0.5) * rw.Plateau(0.5, patience=1), horizon=20)
    used = []
    for loss in (1.0, 0.9, 0.95, 0.95):
        used += applied(optimizer, 1)
        scheduler.observe(loss)
    assert used == [0.5, 0.5, 0.5, 0.25]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("adagrd", r"unknown optimizer 'adagrd'\. Did you mean 'adagrad'\? Your own: module:Class"),
        ("nowhere_at_all:Lamb", r"nowhere_at_all:Lamb cannot be imported: No module named 'nowhere_at_all'"),
        ("torch.optim:SDG", r"there is no SDG in torch\.optim\.$"),
        ("torch.nn:Linear", "torch.nn:Linear is not a class of torch optimizers"),
    ],
)
def test_an_optimizer_that_is_not_there_is_named(name, message, weight):
    with pytest.raises(AdapterError, match=message):
        build(name, [weight()], 0.1, horizon=10)


def test_a_package_that_is_missing_is_named_with_its_extra(weight, monkeypatch):
    monkeypatch.setitem(sys.modules, "prodigyopt", None)
    with pytest.raises(MissingDependency, match=r"optimizer 'prodigy': prodigyopt is not installed\. .*\[optimizers\]"):
        build("prodigy", [weight()], 1.0, horizon=10)


def test_the_rates_of_a_built_sgd_are_applied(weight, applied):
    optimizer, _ = build("sgd", [weight()], rw.cosine(0.1), horizon=20)
    assert applied(optimizer, 20) == rw.cosine(0.1).over(20).values(0, 20)


def test_a_number_sets_momentum_and_a_schedule_drives_it(weight):
    set_, _ = build("sgd", [weight()], 0.1, horizon=20, momentum=0.8)
    set_.param_groups[0]["momentum"] = 0.7  # nobody drives it
    set_.step()
    driven, _ = build("sgd", [weight()], 0.1, horizon=20, momentum=rw.one_cycle_momentum(), nesterov=True)
    assert driven.param_groups[0]["momentum"] == driven.defaults["momentum"] == 0.95
    driven.param_groups[0]["momentum"] = 0.7
    with pytest.raises(ScheduleDetached, match=r"intended 0.95"):
        driven.step()


def test_momentum_and_beta2_become_betas(weight):
    optimizer, _ = build("adamw", [weight()], 0.1, horizon=20, momentum=0.8, beta2=rw.Linear(0.9, 0.99))
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.9)
    optimizer, _ = build("adam", [weight()], 0.1, horizon=20, momentum=0.8)
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.999)


def test_weight_decay_and_settings_reach_the_optimizer(weight):
    optimizer, _ = build("adamw", [weight()], 0.1, horizon=20, weight_decay=0.02, eps=1e-3)
    assert (optimizer.param_groups[0]["weight_decay"], optimizer.param_groups[0]["eps"]) == (0.02, 1e-3)


def test_a_schedule_that_starts_at_zero_is_fine(weight, applied):
    lr = rw.cosine(0.1).warmup(2, start=0.0)
    optimizer, _ = build("sgd", [weight()], lr, horizon=20)
    assert applied(optimizer, 3) == lr.over(20).values(0, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optimizer": "adamm"}, "build: unknown optimizer 'adamm'. Did you mean 'adam'"),
        ({"optimizer": "adagrad", "momentum": 0.9}, "build: Adagrad has no momentum"),
        ({"optimizer": "sgd", "beta2": 0.9}, "build: SGD has no beta2"),
        ({"optimizer": "sgd", "nesterof": True}, "build: SGD has no setting 'nesterof'. Did you mean 'nesterov'"),
        ({"optimizer": "sgd", "lr": "cosine"}, "lr must be a Schedule, a number"),
    ],
)
def test_what_cannot_be_built_is_named(arguments, message, weight):
    with pytest.raises(AdapterError, match=message):
        build(**{"params": [weight()], "lr": 0.1, "horizon": 20, **arguments})


def test_without_torch_the_adapter_says_what_to_install():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from ratewise.errors import MissingDependency\n"
        "try: import ratewise.torch\n"
        "except MissingDependency as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == 'torch adapter: PyTorch is not installed. Run: pip install "ratewise[torch]".'
