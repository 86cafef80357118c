import pytest
import torch

import ratewise as rw
from ratewise.errors import AdapterError, ScheduleDetached
from ratewise.torch import Scheduler


def sgd_momenta(optimizer, updates):
    """The momentum that each update of SGD used: with gradient 0 the buffer is multiplied by it."""
    (p,) = optimizer.param_groups[0]["params"]
    p.grad = torch.ones_like(p)
    optimizer.step()
    used = []
    for _ in range(updates - 1):
        buffer = optimizer.state[p]["momentum_buffer"]
        buffer.fill_(1.0)
        p.grad = torch.zeros_like(p)
        optimizer.step()
        used.append(buffer.item())
    return used


def adam_betas(optimizer, updates):
    """The betas that each update of Adam used: with gradient 0 the moments are multiplied by them."""
    (p,) = optimizer.param_groups[0]["params"]
    p.grad = torch.ones_like(p)
    optimizer.step()
    used = []
    for _ in range(updates - 1):
        for key in ("exp_avg", "exp_avg_sq"):
            optimizer.state[p][key].fill_(1.0)
        p.grad = torch.zeros_like(p)
        optimizer.step()
        used.append([optimizer.state[p][key].item() for key in ("exp_avg", "exp_avg_sq")])
    return used


def test_one_cycle_momentum_reaches_the_update_of_sgd(weight):
    optimizer = torch.optim.SGD([weight()], lr=0.1, momentum=0.9)
    Scheduler(optimizer, rw.one_cycle(0.1), momentum=rw.one_cycle_momentum(), horizon=30)
    assert sgd_momenta(optimizer, 30) == rw.one_cycle_momentum().over(30).values(1, 30)


def test_momentum_drives_the_first_beta_of_adam_and_beta2_the_second(weight):
    optimizer = torch.optim.Adam([weight()], lr=0.1, betas=(0.9, 0.999))
    beta2 = rw.Linear(0.9, 0.99)
    Scheduler(optimizer, 0.1, momentum=rw.one_cycle_momentum(), beta2=beta2, horizon=30)
    pairs = zip(rw.one_cycle_momentum().over(30).values(1, 30), beta2.over(30).values(1, 30), strict=True)
    for used, intended in zip(adam_betas(optimizer, 30), pairs, strict=True):
        assert used == pytest.approx(intended, rel=1e-15)


def test_tensor_betas_are_filled_in_place(weight):
    betas = (torch.tensor(0.9), torch.tensor(0.999))
    optimizer = torch.optim.Adam([weight()], lr=torch.tensor(0.1), betas=betas, capturable=False, foreach=False)
    Scheduler(optimizer, 0.1, momentum=rw.Linear(0.5, 0.0, 2))
    optimizer.param_groups[0]["params"][0].grad = torch.ones(1, dtype=torch.float64)
    optimizer.step()
    assert optimizer.param_groups[0]["betas"] == (0.25, torch.tensor(0.999))
    assert optimizer.param_groups[0]["betas"][0] is betas[0]


def test_weight_decay_reaches_the_update(weight, sgd):
    optimizer = sgd(lr=1.0)
    (p,) = optimizer.param_groups[0]["params"]
    decay = rw.linear_decay(0.5, steps=4)
    Scheduler(optimizer, 1.0, weight_decay=decay)
    used = []
    for _ in range(4):
        p.data.fill_(1.0)
        p.grad = torch.zeros_like(p)
        optimizer.step()
        used.append(1.0 - p.item())
    assert used == decay.values(0, 4)


def test_eps_reaches_the_update(weight):
    optimizer = torch.optim.Adagrad([weight()], lr=1.0)
    (p,) = optimizer.param_groups[0]["params"]
    Scheduler(optimizer, 1.0, eps=rw.Piecewise([1.0, 3.0], [1]))
    used = []
    for _ in range(2):
        optimizer.state[p]["sum"].zero_()
        p.data.zero_()
        p.grad = torch.ones_like(p)
        optimizer.step()
        used.append(-p.item())
    assert used == [0.5, 0.25]


def test_each_group_may_have_its_own_momentum(weight):
    groups = [{"params": [weight()], "name": "a"}, {"params": [weight()], "name": "b"}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    Scheduler(optimizer, 0.1, momentum={"a": 0.5, "b": 0.8})
    assert [group["momentum"] for group in optimizer.param_groups] == [0.5, 0.8]


def test_without_a_rate_the_base_rates_stay(sgd, applied):
    optimizer = sgd({"lr": 0.1}, {"lr": 0.2})
    Scheduler(optimizer, weight_decay=rw.fixed(0.5))
    assert applied(optimizer, 3) == [[0.1, 0.2]] * 3


@pytest.mark.parametrize(
    ("kind", "driven", "message"),
    [
        (torch.optim.Adagrad, {"momentum": 0.9}, "momentum= needs parameter groups with 'momentum' or 'betas'"),
        (torch.optim.SGD, {"beta2": 0.9}, "beta2= needs parameter groups with 'betas'"),
        (torch.optim.SGD, {"eps": 0.9}, "eps= needs parameter groups with 'eps'; these have 'lr'"),
        (torch.optim.Adam, {"momentum": 1.0}, r"momentum must be at least 0 and below 1, but .* gives 1.0"),
        (torch.optim.Adam, {"weight_decay": -1.0}, "weight_decay must be at least 0 and finite"),
    ],
)
def test_a_hyperparameter_that_the_optimizer_cannot_take_is_refused(kind, driven, message, weight):
    optimizer = kind([weight()], lr=0.1)
    with pytest.raises(AdapterError, match=message):
        Scheduler(optimizer, 0.1, **driven)
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_an_edited_momentum_is_caught(weight, applied):
    optimizer = torch.optim.SGD([weight()], lr=0.1, momentum=0.9)
    Scheduler(optimizer, 0.1, momentum=0.8)
    optimizer.param_groups[0]["momentum"] = 0.7
    with pytest.raises(ScheduleDetached, match=r"intended 0.8, the optimizer holds 0.7.*group\['momentum'\]"):
        applied(optimizer)


def test_detach_gives_every_hyperparameter_back(weight):
    optimizer = torch.optim.Adam([weight()], lr=0.1, betas=(0.9, 0.99), weight_decay=0.01)
    before = dict(optimizer.param_groups[0])
    scheduler = Scheduler(optimizer, 0.5, momentum=0.5, beta2=0.5, weight_decay=0.5, eps=0.5)
    assert optimizer.param_groups[0]["betas"] == (0.5, 0.5)
    scheduler.detach()
    assert optimizer.param_groups[0] == before
