"""Finding a rate for a task: the finder's answer is that of a loop written by hand over the task's own data."""

import random

import numpy as np
import pytest
import torch

from ratewise import Constant, Cosine, epochs, fixed, linear_decay
from ratewise.errors import FinderError, TaskError, UnknownName
from ratewise.finder.batches import shuffled
from ratewise.lab.find import find
from ratewise.lab.loading import load
from ratewise.lab.strategy import Strategy
from ratewise.lab.task import Task

SGD = Strategy("mine", "sgd", linear_decay(1.0), momentum=0.9)


def test_a_candidate_is_a_short_run_scored_on_the_validation_split():
    found = find("wine", SGD, seeds=1)
    task = load("wine")
    (x, y), (x_valid, y_valid) = (map(torch.as_tensor, task.splits[name]) for name in ("train", "valid"))
    torch.manual_seed(0)
    model = task.model()
    initial = {name: value.clone() for name, value in model.state_dict().items()}
    for rate, (score, *_) in zip(found.curve.rates, found.curve.scores, strict=True):
        model.load_state_dict(initial)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
        torch.manual_seed(0)
        pool = torch.randperm(90)[:80].split(16)
        batches = shuffled([*pool[:2], *pool[3:], pool[2]], seed=0)  # the middle one was aside, and not needed there
        for t, batch in zip(range(50), batches, strict=False):
            optimizer.param_groups[0]["lr"] = rate * (1 - (3 * t + 1) / 150)  # the mean of three updates of 150
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            expected = float(torch.nn.functional.cross_entropy(model(x_valid), y_valid))
        assert score == pytest.approx(expected, rel=2e-3)
    assert found.curve.start == pytest.approx(1.0, abs=0.3)


def test_the_peak_of_the_schedule_does_not_matter_but_its_shape_does():
    rates = [find("wine", Strategy("a", "sgd", lr), seeds=1).suggestion for lr in (linear_decay(0.001), SGD.lr)]
    assert rates[0] == pytest.approx(rates[1], rel=1e-9)
    other = find("wine", Strategy("a", "sgd", fixed(1.0)), seeds=1).suggestion
    assert other < 0.9 * rates[0]


def test_it_leaves_the_generators_and_the_task_as_they_were():
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    task = load("wine")
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist(), task.splits["train"][0].copy()
    find(task, SGD, seeds=1)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert before[2] == np.random.get_state()[1].tolist()
    assert (before[3] == task.splits["train"][0]).all()


def test_the_same_seed_gives_the_same_finding_and_another_seed_another():
    one, same, other = (find("wine", SGD, seeds=1, seed=seed) for seed in (3, 3, 4))
    assert one.to_dict() == same.to_dict()
    assert one.curve.scores != other.curve.scores


def test_lengths_in_epochs_are_those_of_the_task():
    adam = Strategy("a", "adam", Cosine(1.0, 0.0).warmup(epochs(2)))
    found = find("wine", adam, 300, seeds=1)
    assert found.valid_for["horizon"] == 300
    assert found.valid_for["schedule"] == 'Linear(0.0, 1.0, 12, ends="(]") >> Cosine(1.0, 0.0, 288)'


def test_regression_and_a_loss_of_ones_own_are_scored_by_that_loss():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    data = x, x @ np.ones((3, 1)) + rng.normal(size=(200, 1))

    def doubled(output, target):
        return 2 * torch.nn.functional.mse_loss(output, target)

    tasks = [Task("t", data=data, model=lambda: torch.nn.Linear(3, 1), loss=loss) for loss in ("mse", doubled)]
    plain, twice = (find(task, Strategy("a", "adam", linear_decay(1.0)), 100, seeds=1) for task in tasks)
    assert twice.curve.start == pytest.approx(2 * plain.curve.start, rel=1e-5)


def test_a_batch_that_is_larger_than_the_data_is_the_data():
    x = np.random.default_rng(0).normal(size=(60, 2))
    task = Task("t", data=(x, (x[:, 0] > 0).astype(int)), model=lambda: torch.nn.Linear(2, 2), batch_size=500)
    with pytest.raises(FinderError, match="one batch only"):
        find(task, SGD, 60, seeds=1)


def test_a_range_test_knows_no_run():
    found = find("wine", Strategy("a", "sgd", Constant(1.0)), 40, method="range", high=100.0)
    assert found.curve.planned == 40
    assert "horizon" not in found.valid_for


def test_what_does_not_exist_is_named():
    with pytest.raises(UnknownName, match=r"unknown engine 'troch'\. Did you mean 'torch'\?"):
        find("wine", SGD, engine="troch")
    with pytest.raises(UnknownName, match=r"unknown optimizer 'adamm'\. Did you mean"):
        find("wine", Strategy("a", "adamm", linear_decay(1.0)))
    with pytest.raises(UnknownName, match=r"unknown task 'wines'\. Did you mean 'wine'"):
        find("wines", SGD)


def test_a_model_that_raises_in_training_is_the_tasks_mistake():
    class Breaks(torch.nn.Linear):
        def forward(self, x):
            if len(x) == 16:
                raise ValueError("no")
            return super().forward(x)

    x = np.random.default_rng(0).normal(size=(100, 2))
    task = Task("broken", data=(x, np.arange(100) % 2), model=lambda: Breaks(2, 2))
    with pytest.raises(TaskError, match=r"Task 'broken': find_lr: update 0, .* raised ValueError: no"):
        find(task, SGD)
