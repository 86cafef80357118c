"""Strategies as values: the catalogue, scaling, round trips, code to paste."""

import json

import pytest

import ratewise
from ratewise import Constant, Cosine, Linear, Schedule
from ratewise.errors import ScheduleError, UnknownName
from ratewise.lab.catalogue import CATALOGUE, DEFAULT, strategy
from ratewise.lab.strategy import Strategy, scaled

CLASSICAL = [
    *("fixed", "time_based", "step_decay", "exponential_decay", "adagrad", "rmsprop", "adam"),
    *("warmup", "cyclical", "one_cycle", "cosine", "linear", "adamw"),
]
NAMES = [
    *CLASSICAL,
    *("warmup_cosine", "wsd", "inverse_sqrt", "rex", "nadam", "radam", "plateau", "greedy"),
    *("schedule_free_sgd", "schedule_free_adamw", "prodigy"),
]
RULED = ("plateau", "greedy")


def test_the_catalogue_holds_the_classical_strategies_and_others_that_are_compared_when_named():
    assert list(CATALOGUE) == NAMES
    assert list(DEFAULT) == CLASSICAL


def test_the_control_warms_up_decays_to_zero_and_is_an_optimizer_that_adapts():
    control = strategy("adamw").over(200)
    rates = control.lr.values(0, 201)
    assert (rates.index(max(rates)), rates[0], rates[200]) == (9, max(rates) / 10, 0.0)
    assert (control.optimizer, control.weight_decay) == ("adamw", 0.01)


@pytest.mark.parametrize("name", NAMES)
def test_every_card_is_complete(name):
    card = strategy(name).card
    assert all((card.what, card.formula, card.pros, card.cons, card.use_case, card.defaults, card.paper))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("factor", [2.0**-5, 0.25, 1.0, 8.0])
def test_with_peak_scales_every_rate(name, factor):
    entry = strategy(name)
    peak = entry.peak(300)
    expected = [factor * value for value in entry.lr.over(300).values(0, 320)]
    assert entry.with_peak(peak * factor, 300).lr.values(0, 320) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_with_peak_changes_nothing_but_the_rate(name):
    entry = strategy(name)
    scaled_entry = entry.with_peak(0.5, 300)
    assert scaled_entry.settings_given().keys() == entry.settings_given().keys()
    assert scaled_entry.momentum == entry.over(300).momentum


@pytest.mark.parametrize("name", NAMES)
def test_strategies_survive_json(name):
    entry = strategy(name)
    assert Strategy.from_dict(json.loads(json.dumps(entry.to_dict()))) == entry


def test_time_based_is_hyperbolic():
    lr = strategy("time_based").lr.over(300)
    assert lr.values(0, 300) == pytest.approx([0.1 / (1 + 9 * t / 300) for t in range(300)], rel=1e-15)


def test_one_cycle_moves_momentum_against_the_rate():
    entry = strategy("one_cycle").over(100)
    assert isinstance(entry.momentum, Schedule)
    rates, momenta = entry.lr.values(0, 100), entry.momentum.values(0, 100)
    assert (rates.index(max(rates)), momenta.index(min(momenta))) == (30, 30)
    assert (momenta[0], min(momenta)) == (0.95, 0.85)


@pytest.mark.parametrize(
    "text",
    [
        "Constant(0.1)",
        "Exponential(0.1, 0.9)",
        "InverseTime(0.1, 0.5).stairs(3)",
        "Piecewise([0.1, 0.05, 0.2], [3, 7])",
        "Linear(0.0, 0.1, 5) >> Cosine(0.1, 0.01, 9)",
        "0.1 + 0.2 * Linear(1.0, 0.0, 7)",
        "Cosine(0.2, 0.1, 10).repeat(3, gamma=0.5).clip(0.05, 0.15)",
        "Linear(0.2, 0.1, 10).stretch(2.0).after(3).until(9)",
    ],
)
def test_scaled_is_multiplication_worked_into_the_numbers(text):
    schedule = ratewise.parse(text)
    again = scaled(schedule, 4.0)
    assert again.values(0, 60) == pytest.approx([4 * v for v in schedule.values(0, 60)], rel=1e-14)
    assert not repr(again).startswith("4.0 *")


def test_code_to_paste_is_python_that_names_everything_it_uses():
    for entry in CATALOGUE.values():
        for framework in ("torch", "keras") if entry.name not in RULED else ("torch",):
            code = entry.with_peak(0.1, 300).code(framework, 300)
            compile(code, "<code>", "exec")
            imports = next(line for line in code.splitlines() if line.startswith("from ratewise"))
            namespace = {}
            exec(imports, namespace)
            line = next(line for line in code.splitlines() if line.startswith("lr ="))
            exec(line, namespace)
            assert namespace["lr"] == entry.with_peak(0.1, 300).lr


@pytest.mark.parametrize("name", RULED)
def test_rules_stay_when_the_rate_is_scaled_and_code_says_how_to_feed_them(name):
    entry = strategy(name).with_peak(0.4, 100)
    assert entry.lr == ratewise.Constant(0.4, 100) * strategy(name).lr.rules[0]
    assert "# after each evaluation: scheduler.observe(validation_loss)" in entry.code("torch", 100)
    for refused in (lambda: entry.code("keras", 100), lambda: entry.keras(100)):
        with pytest.raises(ScheduleError, match=r"cannot follow a rule by itself\. Train with ratewise\.keras\.Follow"):
            refused()


def test_code_for_schedule_free_says_that_it_has_two_modes():
    assert "optimizer.train() and optimizer.eval()" in strategy("schedule_free_adamw").code("torch", 100)


def test_an_optimizer_may_be_given_as_its_class():
    import torch

    mine = Strategy("mine", torch.optim.Adagrad, Constant(0.1))
    assert mine.optimizer == "torch.optim.adagrad:Adagrad"
    assert Strategy.from_dict(json.loads(json.dumps(mine.to_dict()))) == mine
    assert type(mine.torch([torch.zeros(1, requires_grad=True)], 10)[0]) is torch.optim.Adagrad


def test_an_unknown_strategy_suggests_the_nearest():
    with pytest.raises(UnknownName, match=r"unknown strategy 'one_cylce'\. Did you mean 'one_cycle'\?"):
        strategy("one_cylce")


def test_code_for_a_function_of_ones_own_imports_what_it_uses():
    import ratewise.lab.stats as somewhere

    code = Strategy("mine", "sgd", ratewise.Custom(somewhere.seeds_for)).code("torch", 10)
    assert "from ratewise import Custom\n" in code
    compile(code, "<code>", "exec")


@pytest.mark.parametrize("name", ["", "a=b", "a\nb"])
def test_a_name_that_tables_and_options_cannot_hold_is_refused(name):
    with pytest.raises(ScheduleError, match="name must be a word"):
        Strategy(name, "sgd", Constant(0.1))


def test_a_number_is_not_a_schedule():
    with pytest.raises(ScheduleError, match=r"lr must be a Schedule, got 0\.1\. .*Constant\(0\.1\)"):
        Strategy("mine", "sgd", 0.1)


@pytest.mark.parametrize("value", [{"a": 1}, {1}, [Constant(0.1)], print])
def test_a_setting_that_is_no_plain_value_is_refused(value):
    with pytest.raises(ScheduleError, match=r"setting 'foo' must be None, a bool, a number, text, or a tuple of these"):
        Strategy("mine", "sgd", Constant(0.1), settings=(("foo", value),))
    assert hash(Strategy("mine", "sgd", Constant(0.1), settings=(("foo", [None, True, 2, 0.5, "x", [1]]),)))


def test_a_schedule_of_zeros_cannot_be_scaled():
    with pytest.raises(ScheduleError, match="cannot scale a peak rate of 0"):
        Strategy("mine", "sgd", Constant(0.0)).with_peak(0.1, 10)


def test_strategies_compare_by_what_they_do():
    assert Strategy("a", "sgd", Cosine(0.1, 0.0)) == Strategy("a", "sgd", Cosine(0.1, 0.0))
    assert Strategy("a", "sgd", Cosine(0.1, 0.0)) != Strategy("a", "sgd", Linear(0.1, 0.0))
