"""Rules inside the Scheduler: what a metric does to the rates that are applied."""

import json
import math

import pytest
import torch

import ratewise as rw
from ratewise.errors import AdapterError, ScheduleError
from ratewise.torch import Scheduler

NAN = math.nan
METRICS = [1.0, 0.9, 0.91, 0.92, 0.90, NAN]
LR = (rw.Constant(1.0) * rw.Plateau(0.5, patience=2)).warmup(5)


def reference(lr, metrics, every):
    """The rates that should be used: ``every`` updates, then a metric, and so on."""
    state, rates = lr.init(), []
    for i, metric in enumerate(metrics):
        rates += [lr.at(i * every + k, lr.factor(state)) for k in range(every)]
        state = lr.observe(state, metric, (i + 1) * every)
    return rates


def train(optimizer, scheduler, applied, metrics, every):
    used = []
    for metric in metrics:
        used += applied(optimizer, every)
        scheduler.observe(metric)
    return used


@pytest.mark.parametrize("like", [None, "torch", "keras", "optax", "paddle"])
@pytest.mark.filterwarnings("ignore:torch adapter. the metric at update:UserWarning")
def test_the_applied_rates_are_those_of_the_rule(like, sgd, applied):
    lr = rw.Cosine(1.0, 0.1, 40) * rw.Plateau(0.5, patience=2, like=like)
    optimizer = sgd()
    scheduler = Scheduler(optimizer, lr)
    metrics = [9.0, *METRICS, 0.95, 0.94, 0.94, 0.95]
    assert train(optimizer, scheduler, applied, metrics, 3) == reference(lr, metrics, 3)


@pytest.mark.parametrize("rule", [rw.Greedy(0.5, patience=1), rw.NewBob(0.5, rtol=0.0025)])
def test_every_rule_is_followed(rule, sgd, applied):
    lr = rw.fixed(0.1) * rule
    optimizer, metrics = sgd(), [1.0, 0.8, 0.9, 0.7, 0.6, 0.65, 0.66, 0.66]
    assert train(optimizer, Scheduler(optimizer, lr), applied, metrics, 2) == reference(lr, metrics, 2)


def test_a_plateau_behind_a_warm_up_is_cut_after_the_second_bad_evaluation(sgd, applied):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, LR)
    scheduler.observe(0.1)  # before the warm-up is over: passed over
    applied(optimizer, 5)
    factors = []
    for metric in METRICS[:-1]:
        scheduler.observe(metric)
        factors.append(scheduler.next_lr["0"])
    assert factors == [1.0, 1.0, 1.0, 0.5, 0.5]
    with pytest.warns(UserWarning, match="the metric at update 5 is nan; it counts as no improvement"):
        scheduler.observe(NAN)
    assert scheduler.next_lr == {"0": 0.25}
    assert applied(optimizer) == [0.25]
    first, second = scheduler.history
    assert (first["at"], first["old"], first["new"]) == (5, {"0": 1.0}, {"0": 0.5})
    assert "Plateau" in first["what"]
    assert "after the metric 0.92" in first["what"]
    assert "nan" in second["what"]


@pytest.mark.parametrize("k", range(len(METRICS)))
@pytest.mark.filterwarnings("ignore:torch adapter. the metric at update:UserWarning")
def test_killed_between_two_evaluations_the_rest_is_the_same(k, sgd, applied):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, LR)
    expected = train(optimizer, scheduler, applied, METRICS, 5)

    optimizer = sgd()
    scheduler = Scheduler(optimizer, LR)
    used = train(optimizer, scheduler, applied, METRICS[:k], 5)
    state = json.loads(json.dumps(scheduler.state_dict(), allow_nan=False))
    optimizer = sgd()
    scheduler = Scheduler(optimizer, LR)
    scheduler.load_state_dict(state)
    scheduler.load_state_dict(state)
    assert used + train(optimizer, scheduler, applied, METRICS[k:], 5) == expected


def test_step_with_a_metric_observes_and_counts_no_update(sgd, applied):
    for clock in ("hooks", "step"):
        optimizer = sgd()
        scheduler = Scheduler(optimizer, rw.fixed(0.1) * rw.Plateau(0.5, patience=1), clock=clock)
        scheduler.step(1.0)
        scheduler.step(1.0)
        assert scheduler.position == 0
        assert scheduler.next_lr == {"0": 0.05}
        assert applied(optimizer) == [0.05]


def test_every_group_may_have_its_own_rule(sgd, applied):
    optimizer = sgd({"name": "a"}, {"name": "b"})
    lr = {"a": rw.fixed(1.0) * rw.Plateau(0.5, patience=1), "b": rw.fixed(1.0) * rw.Plateau(0.1, patience=2)}
    scheduler = Scheduler(optimizer, lr)
    for _ in range(3):
        scheduler.observe(1.0)
    assert applied(optimizer) == [[0.25, 0.1]]
    other = Scheduler(sgd({"name": "b"}, {"name": "a"}), {"b": lr["b"], "a": lr["a"]})
    other.load_state_dict(scheduler.state_dict())
    assert other.next_lr == {"b": 0.1, "a": 0.25}


def test_a_rule_multiplies_a_factor_and_keeps_ratios(sgd, applied):
    optimizer = sgd({"lr": 0.1}, {"lr": 0.001, "lr_scale": 0.5})
    scheduler = Scheduler(optimizer, factor=rw.fixed(1.0) * rw.Plateau(0.5, patience=1))
    scheduler.observe(1.0)
    scheduler.observe(1.0)
    assert applied(optimizer) == [[0.05, 0.001 * 0.5 * 0.5]]


def test_a_group_added_after_a_cut_uses_the_cut_rate(sgd, weight, applied):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, factor=rw.fixed(1.0) * rw.Plateau(0.5, patience=1))
    scheduler.observe(1.0)
    scheduler.observe(1.0)
    optimizer.add_param_group({"params": [weight()], "lr": 0.4})
    assert applied(optimizer) == [[0.05, 0.2]]


def test_a_rule_with_a_start_in_epochs_needs_the_run(sgd):
    lr = rw.fixed(0.1) * rw.Plateau(0.5, patience=1, start=rw.epochs(1))
    with pytest.raises(ScheduleError, match="Or give the Scheduler horizon"):
        Scheduler(sgd(), lr)
    run = rw.Horizon(epochs=4, dataset_size=10, batch_size=5)
    scheduler = Scheduler(sgd(), lr, horizon=run)
    scheduler.observe(1.0)
    scheduler.observe(1.0)
    assert scheduler.next_lr == {"0": 0.1}


@pytest.mark.parametrize("metric", [torch.tensor(1.0), torch.tensor(1), 1])
def test_a_metric_may_be_an_array_of_one_number(metric, sgd):
    scheduler = Scheduler(sgd(), rw.fixed(0.1) * rw.Plateau(0.5, patience=1))
    scheduler.observe(metric)
    scheduler.observe(metric)
    assert scheduler.next_lr == {"0": 0.05}


@pytest.mark.parametrize("metric", ["0.5", None, True, [1.0], torch.ones(2), 1j])
def test_a_metric_that_is_no_number_is_refused_and_changes_nothing(metric, sgd):
    scheduler = Scheduler(sgd(), rw.fixed(0.1) * rw.Plateau(0.5, patience=1))
    before = scheduler.state_dict()
    with pytest.raises(AdapterError, match="observe: metric must be a number, got"):
        scheduler.observe(metric)
    assert scheduler.state_dict() == before


def test_without_a_rule_a_metric_is_refused_with_the_way_to_give_one(sgd):
    with pytest.raises(AdapterError, match=r"no rule that reads a metric, got 0.5. Give lr=schedule \* Plateau"):
        Scheduler(sgd(), 0.1).observe(0.5)


def test_rules_are_for_the_rate_alone(sgd):
    with pytest.raises(AdapterError, match="rules act on the rate alone, momentum takes a plain schedule"):
        Scheduler(sgd(momentum=0.9), 0.1, momentum=rw.fixed(0.9) * rw.Plateau())
    with pytest.raises(AdapterError, match=r"a schedule times a rule, for example 0.1 \* Plateau"):
        Scheduler(sgd(), rw.Plateau())


def test_steering_keeps_the_rule_and_what_it_made(sgd, applied):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, rw.fixed(1.0) * rw.Plateau(0.5, patience=1))
    scheduler.observe(1.0)
    scheduler.observe(1.0)
    scheduler.decay_now(4, end=0.1, shape="linear")
    with pytest.warns(UserWarning, match="ends after 4 updates"):
        used = applied(optimizer, 5)
    assert used == pytest.approx([0.5, 0.4, 0.3, 0.2, 0.1])
    scheduler.scaled_from(2.0)
    scheduler.observe(1.0)
    assert applied(optimizer) == pytest.approx([0.1])


def test_a_change_that_keeps_the_rule_keeps_its_state(sgd):
    rule = rw.Plateau(0.5, patience=2)
    scheduler = Scheduler(sgd(), rw.fixed(1.0) * rule)
    for _ in range(4):
        scheduler.observe(1.0)
    assert scheduler.next_lr == {"0": 0.5}
    scheduler.change(rw.fixed(0.2) * rule, "switch")
    assert scheduler.next_lr == {"0": 0.1}
    scheduler.observe(1.0)  # the second bad one in a row
    assert scheduler.next_lr == {"0": 0.05}


def test_a_change_that_drops_the_rule_goes_on_from_the_rate_it_made(sgd, applied):
    optimizer = sgd()
    scheduler = Scheduler(optimizer, rw.fixed(1.0) * rw.Plateau(0.5, patience=1))
    scheduler.observe(1.0)
    scheduler.observe(1.0)
    applied(optimizer, 10)
    scheduler.change(rw.Linear(1.0, 0.0, 20), "replan")
    assert applied(optimizer, 2) == pytest.approx([0.5, 0.45])


def test_the_state_of_another_rule_is_refused(sgd):
    scheduler = Scheduler(sgd(), rw.fixed(1.0) * rw.Plateau(0.5, patience=1))
    state = scheduler.state_dict()
    with pytest.raises(AdapterError, match="damaged at 'rules'"):
        scheduler.load_state_dict(state | {"rules": '{"*": [[1.0, 2.0]]}'})
    with pytest.raises(AdapterError, match="damaged at 'rules'"):
        scheduler.load_state_dict(state | {"rules": '{"*": ["abcd"]}'})
