"""A user's own loader as the training data: its shuffling and augmentation stay, fixed by the seed alone."""

import random
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, TensorDataset, WeightedRandomSampler

from ratewise import epochs, step_decay
from ratewise.errors import TaskError
from ratewise.lab.compare import planned
from ratewise.lab.plan import Budget
from ratewise.lab.strategy import Strategy
from ratewise.lab.task import Task

X, Y = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), torch.arange(50) % 2


class Augmented(Dataset):
    """Every example is moved at random each time it is read, by all three generators."""

    def __len__(self):
        return 50

    def __getitem__(self, i):
        return X[i] + torch.randn(3) + np.random.rand() + random.random(), Y[i]


def task_of(train, **changes):
    held = TensorDataset(X[:9], Y[:9])
    data = {"train": train, "valid": DataLoader(held, batch_size=4), "test": (X, Y)}
    return Task(**{"name": "toy", "data": data, "model": None, **changes})


def same(a, b):
    return all((x == u).all() and (y == v).all() for (x, y), (u, v) in zip(a, b, strict=True))


class Shuffled(Sampler):
    """Draws from a generator of its own, which it may hide in a list."""

    def __init__(self, rng, hidden=False):
        self.rng = [rng] if hidden else rng

    def __iter__(self):
        rng = self.rng[0] if isinstance(self.rng, list) else self.rng
        order = list(range(50))
        rng.shuffle(order)
        return iter(order)

    def __len__(self):
        return 50


LOADERS = {
    "shuffle": {"shuffle": True},
    "generator": {"shuffle": True, "generator": torch.Generator().manual_seed(7)},
    "sampler": {"sampler": WeightedRandomSampler(torch.ones(50), 50, generator=torch.Generator())},
    "numpy generator": {"sampler": Shuffled(np.random.Generator(np.random.Philox(5)))},
    "numpy state": {"sampler": Shuffled(np.random.RandomState(5))},
    "random": {"sampler": Shuffled(random.Random(5))},
}


@pytest.mark.parametrize("kind", LOADERS)
def test_the_batches_of_a_loader_depend_on_the_seed_alone_whatever_happens_between_them(kind):
    task = task_of(DataLoader(Augmented(), batch_size=16, **LOADERS[kind]))
    alone = list(task.stream(3, 40))
    ours, others, mixed = task.stream(3, 40), task.stream(4, 40), []
    for _ in range(40):
        mixed.append(next(ours))
        torch.randn(2), np.random.rand(), random.random(), next(others)
    assert same(alone, mixed)
    assert not same(alone[:1], task.stream(4, 1))
    assert [len(x) for x, _ in alone[:5]] == [16, 16, 16, 2, 16]  # epoch after epoch, the last batch is short
    assert not same(alone[:1], alone[4:5])  # drawn anew in each epoch


WITH_WORKERS = """
import torch
from torch.utils.data import DataLoader, Dataset
from ratewise import Task


class Noisy(Dataset):
    def __len__(self):
        return 50

    def __getitem__(self, i):
        return torch.full((3,), float(i)) + torch.randn(3), torch.tensor(i % 2)


held = (torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64))
loader = DataLoader(Noisy(), batch_size=16, shuffle=True, num_workers=1)
task = Task("t", data={"train": loader, "valid": held, "test": held}, model=None)
runs = [[x for x, _ in task.stream(seed, 9)] for seed in (3, 3, 4)]
print(all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(runs[0], runs[1])))
print(any(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(runs[0], runs[2])))
"""


def test_the_batches_of_a_loader_with_worker_processes_depend_on_the_seed_alone():
    """In a process of its own: other tests load JAX, beside which no process may be forked."""
    command = [sys.executable, "-c", WITH_WORKERS]
    found = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert found.stdout.split() == ["True", "False"], found.stderr


def test_a_loader_takes_nothing_from_the_generators_of_the_model():
    task = task_of(DataLoader(Augmented(), batch_size=16, shuffle=True))
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    expected = torch.rand(1), np.random.rand(), random.random()
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    assert len(list(task.stream(0, 5))) == 5
    assert (torch.rand(1), np.random.rand(), random.random()) == expected


def test_splits_of_a_loader_are_its_first_epoch_and_every_held_out_example():
    task = task_of(DataLoader(TensorDataset(X, Y), batch_size=16, shuffle=True))
    assert {name: len(x) for name, (x, _) in task.splits.items()} == {"train": 50, "valid": 9, "test": 50}
    assert task.streamed
    assert sorted(task.splits["train"][0].ravel()) == sorted(X.numpy().ravel())
    assert len(task_of(task.data["train"], steps=2).splits["train"][0]) == 32  # an epoch may have no end


def test_fingerprints_follow_what_the_loader_gives():
    def of(**changes):
        return task_of(DataLoader(TensorDataset(X, Y), **{"batch_size": 16, "shuffle": True, **changes})).fingerprint

    assert of() == of() != of(shuffle=False)
    assert task_of(DataLoader(Augmented(), batch_size=16)).fingerprint != of()


def test_anything_that_iterates_over_batches_is_a_loader_and_arrays_are_none():
    task = task_of([(X[:8], Y[:8]), (X[8:16].numpy(), Y[8:16].tolist()), (X[16:24], Y[16:24])], batch_size=8)
    assert [x.shape for x, _ in task.stream(0, 4)] == [(8, 3)] * 4
    plain = task_of((X, Y), batch_size=10)
    assert (task.streamed, plain.streamed) == (True, False)
    assert same(plain.stream(2, 3), [(X.numpy()[i], Y.numpy()[i]) for i in plain.order(2, 3)])
    with pytest.raises(TaskError, match=r"its batches come from a loader\. Take them from stream"):
        task.order(0, 3)


@pytest.mark.parametrize("rng", [np.random.default_rng(5), np.random.RandomState(5), random.Random(5)])
def test_a_sampler_with_a_generator_of_its_own_gives_each_seed_another_order(rng):
    before = rng.random()
    task = task_of(DataLoader(TensorDataset(X, Y), batch_size=16, sampler=Shuffled(rng)))
    assert same(task.stream(0, 4), task.stream(0, 4))
    assert not same(task.stream(0, 4), task.stream(1, 4))
    assert before != rng.random()  # the user's own generator goes on by itself


@pytest.mark.parametrize("batches", [3, 12])
def test_an_epoch_has_the_examples_of_the_whole_loader_however_short_a_run_is(batches):
    loader = DataLoader(TensorDataset(X, Y), batch_size=50 // batches, drop_last=True)
    assert task_of(loader, batch_size=50 // batches, steps=6).examples == batches * (50 // batches)
    assert task_of(loader, batch_size=50 // batches, steps=100).examples == batches * (50 // batches)


def test_a_comparison_counts_whole_epochs_of_a_loader_though_the_task_is_shorter():
    loader = DataLoader(TensorDataset(X, Y), batch_size=5, shuffle=True)
    task = task_of(loader, batch_size=5, steps=4, model=partial(torch.nn.Linear, 3, 2))
    mine = Strategy("mine", "sgd", step_decay(0.1, every=epochs(1)))
    horizon = planned(task, [mine], Budget(steps=25), "one-by-one").horizon
    assert [t for t in range(1, 25) if mine.lr.over(horizon)(t) != mine.lr.over(horizon)(t - 1)] == [10, 20]


def test_an_epoch_without_a_known_length_has_the_examples_that_were_read():
    class Endless(IterableDataset):
        def __iter__(self):
            return iter(zip(X, Y, strict=True))

    assert task_of(DataLoader(Endless(), batch_size=10), batch_size=10, steps=2).examples == 20
    assert task_of((X, Y)).examples == 50


class Restless(Dataset):
    """Draws from a generator that nobody can seed."""

    rng = np.random.default_rng(0)

    def __len__(self):
        return 10

    def __getitem__(self, i):
        return X[i] + self.rng.random(), Y[i]


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (DataLoader(Restless()), "gives other batches under the same seed"),
        (
            DataLoader(TensorDataset(X, Y), batch_size=16, sampler=Shuffled(random.Random(5), hidden=True)),
            "shuffles, but gives the same order under every seed",
        ),
        (iter([(X, Y)] * 3), "Give the loader itself"),
        ([X, X, X], r"must give batches \(inputs, targets\), it gave Tensor"),
        ([(X, Y, Y)] * 3, "it gave tuple of 3 parts"),
        (DataLoader(TensorDataset(X, Y), batch_size=99, drop_last=True), "gave no batch"),
        ([(X, Y), (X[:, :2], Y), (X, Y)], "the same shape in every batch"),
        ([(X, Y), (X, Y * 0.5), (X, Y)], "whole numbers as targets"),
        ([(X, Y)] * 3, r"gives batches of 50, and batch_size, .* is 16\. Write batch_size=50"),
    ],
)
def test_a_loader_that_cannot_be_trained_from_is_refused(train, message):
    with pytest.raises(TaskError, match=message):
        _ = task_of(train).splits
