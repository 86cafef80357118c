"""Real comparisons on small real tasks: results, durability, pairing, and what is said about them."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from ratewise import Constant, Cosine, Custom, Linear, Strategy, Task, epochs
from ratewise.errors import LabError, ScheduleError, StoreError, TaskError, UnknownName
from ratewise.lab.compare import compare as compare_with_control, reported
from ratewise.lab.plan import Budget
from ratewise.lab.store import Store

compare = partial(compare_with_control, control=False)
SMALL = Budget(steps=40, rates=3, tuning_seeds=2, fresh_seeds=7)
VOLATILE = ("seconds", "started", "host")


def stable(value):
    """A result without what may differ between two executions of the same comparison."""
    if isinstance(value, dict):
        return {key: stable(item) for key, item in value.items() if key not in VOLATILE}
    return [stable(item) for item in value] if isinstance(value, list) else value


@pytest.fixture
def store(tmp_path):
    return tmp_path / "runs.journal"


def test_a_comparison_has_the_shape_that_the_json_promises(store):
    result = compare("wine", ["cosine", "fixed"], SMALL, store, workers=1)
    assert {"task", "budget", "strategies", "reference", "verdict", "recommended", "code"} <= set(result)
    for row in result["strategies"]:
        assert {"name", "optimizer", "peak_lr", "spec", "test", "diverged", "runs", "edge", "verdict"} <= set(row)
        assert not any(key.startswith("_") for key in row)
        assert {"metric", "mean", "low", "high", "n", "loss"} <= set(row["test"])
        assert {"mean", "low", "high"} <= set(row["test"]["loss"])
    json.dumps(result, allow_nan=False)


def test_the_reference_has_the_best_tuning_score_and_every_rival_a_verdict(store):
    result = compare("wine", ["cosine", "fixed", "adam"], SMALL, store, workers=1)
    best = min(result["strategies"], key=lambda row: min(x["loss"] for x in row["fan"] if x["diverged"] == 0))
    assert result["reference"] == best["name"]
    verdicts = {row["name"]: row["verdict"] for row in result["strategies"]}
    assert verdicts.pop(result["reference"]) == "reference"
    assert set(verdicts.values()) <= {"tie", "better", "worse", "unresolved"}


def test_the_same_strategy_twice_under_two_names_is_an_exact_tie(store):
    """Runs are paired: the same settings on the same seeds give the same losses to the last bit."""
    twins = [Strategy(name, "sgd", Cosine(0.1, 0.0), momentum=0.9) for name in ("one", "two")]
    one, two = compare("wine", twins, SMALL, store, workers=1)["strategies"]
    assert one["losses"] == two["losses"]
    assert {one["verdict"], two["verdict"]} == {"reference", "tie"}


def test_two_workers_find_what_one_finds(tmp_path):
    alone = compare("wine", ["cosine", "adam"], SMALL, tmp_path / "a", workers=1)
    together = compare("wine", ["cosine", "adam"], SMALL, tmp_path / "b", workers=2)
    assert stable(alone) == stable(together)


def test_finished_runs_are_not_executed_again(store, monkeypatch):
    first = compare("wine", ["cosine", "fixed"], SMALL, store, workers=1)
    monkeypatch.setattr("ratewise.lab.pools.execute", lambda job: pytest.fail("executed again"))
    assert compare("wine", ["cosine", "fixed"], SMALL, store, workers=1) == first
    assert reported("wine", store) == first


def test_more_strategies_and_seeds_reuse_the_runs_that_are_there(store, monkeypatch):
    compare("wine", ["cosine", "fixed"], SMALL, store, workers=1)
    executed = []
    import ratewise.lab.pools as module

    real = module.execute
    monkeypatch.setattr(module, "execute", lambda cohort: executed.extend(cohort.runs) or real(cohort))
    larger = Budget(steps=40, rates=3, tuning_seeds=2, fresh_seeds=8)
    compare("wine", ["cosine", "fixed", "linear"], larger, store, workers=1)
    assert sum(run.strategy == "cosine" for run in executed) == 1


def test_an_unfinished_study_can_be_reported(store, monkeypatch):
    import ratewise.lab.pools as module

    real, count = module.execute, iter(range(20))

    def interrupted(cohort):
        if next(count) == 3:
            raise KeyboardInterrupt
        return real(cohort)

    monkeypatch.setattr(module, "execute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare("wine", ["cosine", "fixed"], SMALL, store, workers=1, cohort=3)
    partial = reported("wine", store)
    assert (partial["finished"], partial["verdict"], partial["recommended"]) == (False, None, None)
    assert sum(row["runs"] for row in partial["strategies"]) == 9


def test_divergence_is_data_and_not_a_crash(store):
    wild = Strategy("wild", "sgd", Constant(1e6), momentum=0.9)
    result = compare(
        "wine", ["cosine", wild], Budget(steps=20, rates=3, tuning_seeds=2, fresh_seeds=6, slides=1), store, workers=1
    )
    row = next(row for row in result["strategies"] if row["name"] == "wild")
    assert (row["verdict"], row["peak_lr"], row["test"]["mean"]) == ("diverged", None, None)
    assert row["diverged"] == row["runs"] == 8
    assert result["recommended"] == "cosine"
    assert "wild diverged at every rate" in result["verdict"]


def test_when_everything_diverges_nothing_is_recommended(store):
    wild = [Strategy(name, "sgd", Constant(1e9), momentum=0.9) for name in ("a", "b")]
    result = compare("wine", wild, Budget(steps=20, rates=3, tuning_seeds=1, fresh_seeds=6, slides=0), store, workers=1)
    assert (result["reference"], result["recommended"], result["code"]) == (None, None, None)
    assert "every strategy diverged" in result["verdict"]


def linear_task(**changes):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 4)).astype("float32")
    y = (x @ np.array([1.0, -2.0, 0.5, 0.0]) + 0.1 * rng.normal(size=120)).astype("float32")
    settings = {"data": (x, y), "model": lambda: torch.nn.Linear(4, 1), "loss": "mse", "steps": 60}
    return Task("plane", **{**settings, **changes})


def test_a_task_defined_in_the_program_itself_trains_in_worker_processes(store):
    result = compare(linear_task(), ["fixed", "adam"], SMALL, store, workers=2)
    assert result["metric"] == "mse"
    assert min(row["test"]["loss"]["mean"] for row in result["strategies"]) < 0.1


def test_a_custom_loss_is_used(store):
    def flat(output, target):
        return 0 * (output.squeeze(-1) - target).sum() + 0.125

    result = compare(linear_task(loss=flat), ["cosine", "linear"], SMALL, store, workers=1)
    assert result["metric"] == "loss"
    assert {loss for row in result["strategies"] for loss in row["losses"]} == {0.125}


def test_training_follows_the_schedule_to_the_last_digit(store):
    """One run by hand, with a plain optimizer and a rate written by hand, has the loss that the lab reports."""
    task = linear_task()
    result = compare(task, ["cosine", "fixed"], SMALL, store, workers=1, engine="one-by-one")
    row = result["strategies"][0]
    torch.manual_seed(1000)
    model = task.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    x, y = (torch.tensor(part) for part in task.splits["train"])
    for t, batch in enumerate(torch.tensor(task.order(1000, 40))):
        optimizer.param_groups[0]["lr"] = Cosine(row["peak_lr"], 0.0, 40)(t)
        optimizer.zero_grad()
        ((model(x[batch]).reshape(-1) - y[batch]) ** 2).mean().backward()
        optimizer.step()
    x, y = (torch.tensor(part) for part in task.splits["test"])
    with torch.no_grad():
        expected = float(torch.nn.functional.mse_loss(model(x).reshape(-1), y))
    assert row["losses"][0] == expected


def test_comparing_leaves_the_random_state_of_the_program_alone(store):
    before = torch.random.get_rng_state()
    compare(linear_task(), ["fixed", "adam"], SMALL, store, workers=1)
    assert (torch.random.get_rng_state() == before).all()


def test_progress_counts_the_runs_of_this_plan_alone(store):
    compare("wine", ["cosine", "fixed"], SMALL, store, workers=1)
    seen = []
    other = Budget(steps=30, rates=3, tuning_seeds=1, fresh_seeds=6)
    compare("wine", ["adam", "linear"], other, store, workers=1, progress=lambda *counts: seen.append(counts))
    assert seen[0] == (0, 18)
    assert seen[-1][0] == seen[-1][1] >= 18
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_study_whose_settings_are_lists_is_read_back(store):
    mine = Strategy("mine", "adam", Cosine(0.01, 0.0), settings=(("betas", [0.8, 0.99]),))
    found = compare("wine", ["cosine", mine], SMALL, store, workers=1)
    assert reported("wine", store) == found


def test_a_schedule_that_cannot_be_written_down_is_refused_before_anything_runs(store):
    mine = Strategy("mine", "sgd", Custom(lambda t: 0.1))
    with pytest.raises(ScheduleError, match="is not registered in this process"):
        compare("wine", ["cosine", mine], SMALL, store, workers=1)
    assert not store.exists()


def test_a_negative_rate_is_refused_before_anything_runs(store):
    mine = Strategy("mine", "sgd", Linear(0.1, -0.1))
    with pytest.raises(ScheduleError, match=r"Strategy 'mine': a learning rate must be at least 0, update 21"):
        compare("wine", ["cosine", mine], SMALL, store, workers=1)


def test_comparing_leaves_the_number_of_threads_alone(store):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        compare("wine", ["cosine", "fixed"], SMALL, store, workers=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("workers", [0, -1, 1.5, True])
def test_a_number_of_workers_that_makes_no_sense_is_refused(store, workers):
    with pytest.raises(LabError, match="workers must be an integer of at least 1"):
        compare("wine", ["cosine", "fixed"], SMALL, store, workers=workers)


@pytest.mark.parametrize(
    ("strategies", "budget", "error", "message"),
    [
        (["cosine", "cosine"], SMALL, LabError, "strategy 'cosine' is there twice"),
        (["cosine", "cosin"], SMALL, UnknownName, "Did you mean 'cosine'"),
        (["cosine", "fixed"], Budget(steps=9, fresh_seeds=5), LabError, "Use at least 6 fresh seeds"),
    ],
)
def test_plans_that_make_no_sense_are_refused_before_anything_runs(store, strategies, budget, error, message):
    with pytest.raises(error, match=message):
        compare("wine", strategies, budget, store)
    assert not store.exists()


def test_an_unknown_engine_and_a_task_without_a_model_are_refused(store):
    with pytest.raises(UnknownName, match=r"unknown engine 'troch'\. Did you mean 'torch'"):
        compare("wine", ["cosine", "fixed"], SMALL, store, engine="troch")
    with pytest.raises(TaskError, match="needs keras_model="):
        compare(linear_task(), ["cosine", "fixed"], SMALL, store, engine="keras", workers=1)


def test_a_model_that_raises_is_one_sentence(store):
    with pytest.raises(TaskError, match=r"cannot take a batch of inputs of shape \(8, 4\)"):
        compare(linear_task(model=lambda: torch.nn.Linear(7, 1)), ["cosine", "fixed"], SMALL, store, workers=1)


def test_a_task_without_a_store_is_not_found(tmp_path):
    with pytest.raises(StoreError, match="no such file"):
        reported("wine", tmp_path / "none.journal")


KILLED = Budget(steps=60, rates=3, tuning_seeds=2, fresh_seeds=7)
COMMAND = (
    "from ratewise.lab.compare import compare; from ratewise.lab.plan import Budget; "
    f"compare('wine', ['cosine', 'fixed', 'adam'], {KILLED!r}, {{store!r}}, workers={{workers}})"
)


def test_means_and_intervals_are_those_of_the_losses_shown(store):
    row = compare("wine", ["cosine", "fixed"], SMALL, store, workers=1)["strategies"][0]
    losses = np.array(row["losses"])
    half = 2.4469 * losses.std(ddof=1) / math.sqrt(7)  # t quantile of 6 degrees of freedom
    assert row["test"]["loss"]["mean"] == pytest.approx(losses.mean())
    assert row["test"]["loss"]["high"] == pytest.approx(losses.mean() + half, rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": torch.nn.Linear(4, 1)},
            r"must be a function that makes a new module, got a module\. Write model=lambda",
        ),
        ({"model": lambda: 3}, "must return a torch.nn.Module, it returned int"),
        ({"model": torch.nn.ReLU}, "has no parameters to train"),
        ({"loss": lambda o, t: (o.squeeze(-1) - t) ** 2}, r"the loss must be one number.* Add \.mean\(\)"),
        (
            {"loss": "cross_entropy", "data": (np.zeros((50, 4)), np.arange(50) % 3)},
            r"from 0 to 0 .* they go from 0 to 2",
        ),
        ({"data": (np.zeros((50, 4)), np.full(50, np.nan))}, "the targets of data contain nan"),
        ({"model": lambda: 1 / 0}, "its model raised ZeroDivisionError"),
    ],
)
def test_the_commonest_mistakes_in_a_task_are_found_before_training_and_named(store, changes, message):
    with pytest.raises(TaskError, match=message) as caught:
        compare(linear_task(**changes), ["cosine", "fixed"], SMALL, store)
    assert str(caught.value).startswith("Task 'plane': ")
    assert not store.exists()


def test_a_model_that_changed_is_trained_again(store):
    """Whatever the change hides behind: here a closure, and a number in another module."""

    def task(width):
        return linear_task(model=lambda: torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.Linear(width, 1)))

    first, second = (compare(task(width), ["cosine", "fixed"], SMALL, store, workers=1) for width in (2, 16))
    assert first["strategies"][0]["losses"] != second["strategies"][0]["losses"]


def test_strategies_may_speak_of_epochs(store):
    mine = Strategy("mine", "sgd", Cosine(0.1, 0.0).warmup(epochs(1)))
    result = compare("wine", ["cosine", mine], SMALL, store, workers=1)
    assert re.match(r"Linear\(0\.0, [\d.]+, 6, ends=", result["strategies"][1]["spec"])  # 90 examples in batches of 16


@pytest.mark.slow
def test_workers_end_when_the_program_they_work_for_is_killed(tmp_path):
    command = [sys.executable, "-c", COMMAND.format(store=str(tmp_path / "runs"), workers=2)]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE)
    path = tmp_path / "runs"
    while process.poll() is None and not (path.exists() and path.stat().st_size > 5000):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    started = time.monotonic()
    process.communicate(timeout=30)  # returns when every process that holds the pipe has ended
    assert time.monotonic() - started < 10


def test_a_limit_on_time_is_kept_and_gone_on_with(store):
    """A plan is made to fit once; the same command goes on with it, and has nothing to do where all is done."""
    budget = Budget(steps=30, rates=3, tuning_seeds=2, fresh_seeds=7)
    first = compare(linear_task(), ["cosine", "fixed"], budget, store, workers=2, seconds=120)
    assert first["finished"]
    assert first["budget"]["limit"] > first["cost"]["updates"]
    started = time.monotonic()
    again = compare(linear_task(), ["cosine", "fixed"], budget, store, workers=2, seconds=120)
    assert again == first
    assert time.monotonic() - started < 60
    assert "--budget 120" in first["provenance"]["command"]


def test_too_little_time_is_refused_with_how_much_it_takes(store):
    with pytest.raises(
        LabError, match=r"too little time: 13 strategies of 100000 updates need at least [\d,]+ updates"
    ):
        compare(linear_task(), None, Budget(steps=100_000), store, workers=2, seconds=60)
    with pytest.raises(LabError, match="time was over before"):
        compare(linear_task(), ["cosine", "fixed"], SMALL, store, workers=2, seconds=0.01)


def test_what_finished_beside_a_run_that_raises_is_kept(tmp_path):
    """Seed 1003 raises on the test split's batches; everything before it stays in the store."""
    torch.manual_seed(0)

    class Moody(torch.nn.Linear):
        def forward(self, x):
            if torch.initial_seed() == 1003:
                raise ArithmeticError("not on this seed")
            return super().forward(x)

    task = replace(linear_task(), model=lambda: Moody(4, 1))
    with pytest.raises(TaskError, match="not on this seed"):
        compare(task, ["cosine", "fixed"], SMALL, tmp_path / "a", workers=2, cohort=4, engine="one-by-one")
    partial = reported(task.name, tmp_path / "a")
    assert sum(row["runs"] for row in partial["strategies"]) >= 12


def test_a_task_that_cannot_be_sent_says_what_to_do(store):
    lock = threading.Lock()
    task = replace(linear_task(), model=lambda: (lock, torch.nn.Linear(4, 1))[1])
    with pytest.raises(TaskError, match=r"cannot be sent to worker processes .* workers=1"):
        compare(task, ["cosine", "fixed"], SMALL, store, workers=2)


def test_a_plan_of_another_version_is_one_sentence(store):
    compare("wine", ["cosine", "fixed"], SMALL, store, workers=1)
    with Store(store, write=True) as kept:
        kept.open_study("wine")
        plan = kept.plan()
        kept.set_plan({**plan, "engine": "torch", "news": 1, "budget": {**plan["budget"], "more": 2}})
    assert reported("wine", store)["finished"]  # an unknown field, and what the engine used to be called
    with Store(store, write=True) as kept:
        kept.open_study("wine")
        kept.set_plan({**plan, "facts": {}})
    with pytest.raises(StoreError, match="was made by another version of Ratewise"):
        reported("wine", store)
