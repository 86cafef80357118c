"""Metric-driven rules: what ours mean, which defects they do not have, and what they are as values."""

import json
import math
import pickle
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest

import ratewise as rw
from ratewise.core.ruled import Rule
from ratewise.errors import ScheduleError

NAN, INF = math.nan, math.inf
RULES: dict[str, Rule] = {
    "plateau": rw.Plateau(0.5, 2),
    "plateau max": rw.Plateau(0.5, 1, mode="max", atol=0.25, cooldown=2, min_scale=0.1),
    "plateau window": rw.Plateau(0.5, 1, window=2, rtol=0.25, atol=0.125),
    "greedy": rw.Greedy(0.5, 2, cooldown=1, warmup=2),
    "greedy window": rw.Greedy(0.5, 1, window=4, reset=2, min_scale=0.5, mode="max"),
    "newbob": rw.NewBob(rtol=0.25),
    "torch": rw.Plateau(0.5, 1, cooldown=1, like="torch", mode="max"),
    "keras": rw.Plateau(0.5, 1, cooldown=3, like="keras"),
    "optax": rw.Plateau(0.5, 0, rtol=0.125, like="optax"),
    "paddle": rw.Plateau(0.5, 1, cooldown=2, like="paddle"),
    "hf": rw.Greedy(0.5, 1, window=2, cooldown=1, like="hf"),
    "speechbrain": rw.NewBob(patience=1, like="speechbrain"),
}
METRICS = [4.0, 3.0, 3.0, 3.5, NAN, 3.0, 2.0, 0.0, -1.0, -1.0, INF, -2.0, -1.5, -1.5, -1.5, -8.0, 1.0, 1.0, 1.0, 1.0]


# -- scenario 8 ----------------------------------------------------------------------------------------------


SCENARIO = [1.0, 0.9, 0.91, 0.92, 0.90, NAN]


def test_two_evaluations_without_improvement_halve_the_rate_and_nan_is_one() -> None:
    assert rw.Plateau(0.5, patience=2).scales(SCENARIO) == [1.0, 1.0, 1.0, 0.5, 0.5, 0.25]


def test_torchs_patience_is_one_evaluation_longer() -> None:
    assert rw.Plateau(0.5, patience=2, like="torch").scales(SCENARIO) == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5]


def test_after_a_warm_up_the_rule_sees_only_what_came_behind_it() -> None:
    lr = (rw.Constant(1.0) * rw.Plateau(0.5, patience=2)).warmup(5)
    state = lr.init()
    for t in range(5):  # a metric that would be the best ever, and then bad ones
        state = lr.observe(state, -100.0 + t, t)
    assert state == lr.init()
    rates = []
    for t, metric in enumerate(SCENARIO, start=5):
        state = lr.observe(state, metric, t)
        rates.append(lr.at(t + 1, lr.factor(state)))
    assert [lr(t) for t in range(5)] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert rates == [1.0, 1.0, 1.0, 0.5, 0.5, 0.25]
    assert lr.rules[0].nans(state[0]) == 1.0


@pytest.mark.parametrize("k", range(len(SCENARIO)))
def test_killed_at_any_evaluation_it_goes_on_from_json(k: int) -> None:
    lr = (rw.Constant(1.0) * rw.Plateau(0.5, patience=2)).warmup(5)
    whole, part = lr.init(), lr.init()
    for metric in SCENARIO:
        whole = lr.observe(whole, metric, 5)
    for i, metric in enumerate(SCENARIO):
        if i == k:
            lr, part = rw.parse(repr(lr)), json.loads(json.dumps(part, allow_nan=False))
        part = lr.observe(part, metric, 5)
    assert part == whole
    assert lr.factor(part) == 0.25


# -- what ours mean ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 5])
def test_patience_n_cuts_at_the_nth_evaluation_without_improvement(n: int) -> None:
    assert rw.Plateau(0.5, n).scales([1.0] * (n + 1)) == [1.0] * n + [0.5]


@pytest.mark.parametrize("c", range(4))
def test_a_cooldown_of_c_passes_over_c_evaluations(c: int) -> None:
    assert rw.Plateau(0.5, 1, cooldown=c).scales([1.0] * (c + 4)).count(0.5) == c + 1


def test_what_is_best_during_a_cooldown_counts_as_the_best() -> None:
    assert rw.Plateau(0.5, 1, cooldown=2).scales([1.0, 1.0, 0.2, 0.3, 0.5]) == [1.0, 0.5, 0.5, 0.5, 0.25]


def test_margins_add_up() -> None:
    rule = rw.Plateau(0.5, 1, rtol=0.25, atol=0.5)
    assert rule.scales([4.0, 2.49]) == [1.0, 1.0]
    assert rule.scales([4.0, 2.5]) == [1.0, 0.5]
    assert rule.scales([-4.0, -5.51]) == [1.0, 1.0]
    assert rule.scales([-4.0, -5.5]) == [1.0, 0.5]


def test_one_margin_given_is_the_only_one() -> None:
    assert rw.Plateau(0.5, 1, atol=0.0).scales([1.0, 0.99999]) == [1.0, 1.0]
    assert rw.Plateau(0.5, 1).scales([1.0, 0.99999]) == [1.0, 0.5]


def test_the_scale_stops_at_its_floor() -> None:
    assert rw.Plateau(0.5, 1, min_scale=0.3).scales([1.0] * 4) == [1.0, 0.5, 0.3, 0.3]


def test_a_cut_smaller_than_eps_is_not_made() -> None:
    assert rw.Plateau(0.5, 1, eps=0.25).scales([1.0] * 4) == [1.0, 0.5, 0.5, 0.5]


def test_a_window_makes_one_evaluation_of_several_metrics() -> None:
    rule = rw.Plateau(0.5, 1, window=3)
    assert rule.scales([3.0, 1.0, 2.0, 0.0, 4.0, 2.0, 1.0, 1.0, 1.0]) == [1.0] * 5 + [0.5] * 4


def test_infinite_metrics_are_no_improvement_and_are_counted() -> None:
    rule = rw.Plateau(0.5, 1)
    assert rule.scales([1.0, -INF, 0.5]) == [1.0, 0.5, 0.5]
    state = rule.init()
    for metric in (1.0, NAN, INF, -INF, 2.0):
        state = rule.update(state, metric)
    assert rule.nans(state) == 3.0


def test_greedy_starts_again_after_so_many_cuts_at_the_floor() -> None:
    rule = rw.Greedy(0.5, 1, min_scale=0.5, reset=3)
    assert rule.scales([1.0] + [2.0] * 5) == [2.0, 1.0, 0.5, 0.5, 1.0, 2.0]


def test_greedy_averages_over_a_window_and_leaves_nan_out_of_it() -> None:
    rule = rw.Greedy(0.5, 1, window=2)  # means: 4, 3, nan, 2, 3
    assert rule.scales([4.0, 2.0, NAN, 2.0, 4.0]) == [2.0, 4.0, 2.0, 4.0, 2.0]


def test_newbob_compares_with_the_metric_before() -> None:
    assert rw.NewBob().scales([10.0, 12.0, 11.0, 11.0]) == [1.0, 0.5, 0.5, 0.25]
    assert rw.NewBob(patience=2).scales([10.0, 10.0, 9.0, 9.0, 9.0]) == [1.0, 1.0, 1.0, 1.0, 0.5]
    assert rw.NewBob().scales([10.0, NAN, 9.0]) == [1.0, 0.5, 0.5]


# -- defects of others that ours do not have (schedules.md, section 3) -----------------------------------------


@pytest.mark.parametrize("metrics", [[-1.0] * 4, [-10.0, -9.5, -9.0, -8.5]], ids=["constant", "rising"])
def test_t26_o9_a_negative_metric_that_does_not_improve_cuts(metrics: list[float]) -> None:
    assert rw.Plateau(0.5, 1, rtol=0.1).scales(metrics) == [1.0, 0.5, 0.25, 0.125]
    assert rw.Plateau(0.5, 1, rtol=0.1, mode="max").scales([-m for m in metrics]) == [1.0, 0.5, 0.25, 0.125]
    assert rw.Plateau(0.5, 0, rtol=0.1, like="torch").scales(metrics) == [1.0] * 4
    assert rw.Plateau(0.5, 1, rtol=0.1, like="optax").scales(metrics) == [1.0] * 4


def test_t27_a_first_nan_is_one_evaluation_without_improvement_and_no_more() -> None:
    assert rw.Plateau(0.5, 2).scales([NAN, 1.0, 0.5]) == [1.0, 1.0, 1.0]
    assert rw.Plateau(0.5, 2).scales([NAN, NAN]) == [1.0, 0.5]


def test_t28_tiny_rates_are_cut_too() -> None:
    lr = rw.Constant(1e-8) * rw.Plateau(0.1, 1)
    state = lr.init()
    for t in range(3):
        state = lr.observe(state, 1.0, t)
    assert lr.at(3, lr.factor(state)) == pytest.approx(1e-10, rel=1e-12)
    assert rw.Plateau(0.1, 0, eps=1e-8 / 1e-8, like="torch").scales([1.0] * 3) == [1.0] * 3  # what torch does


def test_k8_a_patience_of_zero_is_refused_and_one_is_not_two() -> None:
    with pytest.raises(ScheduleError, match="patience=1 acts at every evaluation without improvement"):
        rw.Plateau(0.5, 0)
    keras = [rw.Plateau(0.5, p, like="keras").scales([1.0] * 4) for p in (0, 1)]
    assert keras[0] == keras[1] == rw.Plateau(0.5, 1).scales([1.0] * 4)


def test_k9_a_cooldown_of_one_passes_over_one_evaluation() -> None:
    assert rw.Plateau(0.5, 1, cooldown=1).scales([1.0] * 4) == [1.0, 0.5, 0.5, 0.25]
    assert rw.Plateau(0.5, 1, cooldown=1, like="keras").scales([1.0] * 4) == [1.0, 0.5, 0.25, 0.125]


def test_k10_a_first_nan_does_not_poison_the_best() -> None:
    falling = [NAN, 4.0, 3.0, 2.0, 1.0]
    assert rw.Plateau(0.5, 2).scales(falling) == [1.0] * 5
    assert rw.Plateau(0.5, 1, like="keras").scales(falling) == [1.0, 0.5, 0.25, 0.125, 0.0625]


def test_o8_improvements_are_never_punished() -> None:
    assert rw.Plateau(0.5, 1).scales([1.0, 0.9, 0.8]) == [1.0] * 3
    assert rw.Plateau(0.5, 0, like="optax").scales([1.0, 0.9, 0.8, 0.8, 0.8]) == [0.5, 0.25, 0.125, 0.125, 0.125]


def test_h5_greedy_goes_down_whatever_the_rate_is() -> None:
    lr = rw.Constant(5e-5) * rw.Greedy(0.5, 2)
    state = lr.init()
    for t in range(9):
        state = lr.observe(state, 1.0, t)
    assert lr.at(9, lr.factor(state)) == 5e-5 / 16


# -- dialects ------------------------------------------------------------------------------------------------

FIRST_CUT: dict[str | None, list[int]] = {  # appendix C, for patience 0, 1, 2
    None: [0, 2, 3], "torch": [2, 3, 4], "mmengine": [2, 3, 4], "timm": [2, 3, 4], "ignite": [2, 3, 4],
    "fairseq": [2, 3, 4], "tinygrad": [2, 3, 4], "keras": [2, 2, 3], "optax": [1, 2, 3], "paddle": [2, 3, 4],
}  # fmt: skip


@pytest.mark.parametrize("like", FIRST_CUT, ids=str)
def test_the_first_cut_of_a_constant_metric_is_that_of_the_dialect(like: str | None) -> None:
    for patience, wanted in enumerate(FIRST_CUT[like]):
        if wanted:
            scales = rw.Plateau(0.5, patience, like=like).scales([1.0] * 6)
            assert scales.index(0.5) + 1 == wanted


SKIPPED = {None: 3, "torch": 3, "keras": 2, "optax": 3, "paddle": 3}


@pytest.mark.parametrize("like", SKIPPED, ids=str)
def test_a_cooldown_of_three_skips_as_many_as_the_dialect_does(like: str | None) -> None:
    patience = 1 if like in (None, "keras", "optax") else 0
    scales = rw.Plateau(0.5, patience, cooldown=3, like=like).scales([1.0] * 8)
    assert scales.count(0.5) - 1 == SKIPPED[like]


def test_a_dialect_brings_its_own_margin() -> None:
    close = [1.0, 0.99995]  # 5e-5 better
    assert rw.Plateau(0.5, 1, like="keras").scales([x * 100 for x in close]) == [1.0, 1.0]  # 1e-4, absolute
    assert rw.Plateau(0.5, 1).scales([x * 100 for x in close]) == [1.0, 0.5]  # 1e-4 of 100
    assert rw.Greedy(0.5, 0, like="hf").scales(close) == [2.0, 4.0]  # 1e-6, absolute
    assert rw.Greedy(0.5, 1).scales(close) == [2.0, 1.0]


# -- traced, and for many runs at once -----------------------------------------------------------------------


def trajectory(rule: Rule) -> list[tuple[float, ...]]:
    state, states = rule.init(), []
    for metric in METRICS:
        state = rule.update(state, metric)
        states.append(state)
    return states


def same(expected: list[tuple[float, ...]], found: Any, rtol: float = 0.0) -> None:
    np.testing.assert_allclose(np.array(found), np.array(expected), rtol=rtol, atol=0.0)


@pytest.mark.parametrize("x64", [True, False], ids=["float64", "float32"])
@pytest.mark.parametrize("name", RULES)
def test_a_jax_scan_gives_the_scalar_trajectory(name: str, x64: bool) -> None:
    import jax

    rule = RULES[name]

    def run(metrics: Any) -> Any:
        def step(state: Any, metric: Any) -> Any:
            state = rule.update(state, metric)
            return state, state

        return jax.lax.scan(step, rule.init(), metrics)[1]

    with jax.enable_x64(x64):
        found = jax.jit(run)(jax.numpy.array(METRICS))
        assert found[0].dtype == (np.float64 if x64 else np.float32)
        same(trajectory(rule), np.stack(found, axis=-1), rtol=0.0 if x64 else 1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", RULES)
def test_a_tf_function_gives_the_scalar_trajectory(name: str, dtype: str) -> None:
    import tensorflow as tf

    rule = RULES[name]
    step = tf.function(rule.update, reduce_retracing=True)
    state, states = tuple(tf.constant(x, dtype) for x in rule.init()), []
    for metric in METRICS:
        state = step(state, tf.constant(metric, dtype))
        states.append([float(x) for x in state])
    same(trajectory(rule), states, rtol=0.0 if dtype == "float64" else 1e-7)
    assert step.experimental_get_tracing_count() == 1


def array_of(library: str, values: Any) -> Any:
    if library == "numpy":
        return np.array(values)
    if library == "torch":
        import torch

        return torch.tensor(values, dtype=torch.float64)
    import tensorflow as tf

    return tf.constant(values, tf.float64)


@pytest.mark.parametrize("library", ["numpy", "torch", "tensorflow"])
@pytest.mark.parametrize("name", RULES)
def test_an_array_of_metrics_drives_as_many_runs(name: str, library: str) -> None:
    rule, shifts = RULES[name], [0.0, 1.0, -2.0]
    state = rule.init()
    with np.errstate(invalid="ignore"):  # speechbrain divides infinities
        for metric in METRICS:
            state = rule.update(state, array_of(library, [metric + shift for shift in shifts]))
    for i, shift in enumerate(shifts):
        alone = rule.init()
        for metric in METRICS:
            alone = rule.update(alone, metric + shift)
        same([alone], [[float(x[i]) for x in state]])


@pytest.mark.parametrize("name", RULES)
def test_integers_and_scalars_of_other_libraries_are_metrics(name: str) -> None:
    import torch

    rule = RULES[name]
    kinds: list[Callable[[int], Any]] = [float, int, np.float64, np.int64, torch.tensor, lambda x: np.array(float(x))]
    for kind in kinds:
        state = rule.init()
        for metric in (4, 3, 3, 3):
            state = rule.update(state, kind(metric))
        assert float(rule.scale(state)) == rule.scales([4, 3, 3, 3])[-1]


def test_jax_traces_the_position_of_an_observation_too() -> None:
    import jax

    lr = rw.Constant(1.0) * rw.Plateau(0.5, 1, start=3)
    state = lr.init()
    observe = jax.jit(lr.observe)
    for t in range(6):
        state = observe(state, jax.numpy.float32(1.0), t)
    assert float(lr.factor(state)) == 0.25


# -- with a schedule -----------------------------------------------------------------------------------------


def test_a_rule_times_a_schedule_is_a_schedule_with_a_rule() -> None:
    a, rule, other = rw.Cosine(0.1, 0.0, 100), rw.Plateau(0.5, 2), rw.NewBob()
    assert a * rule == rule * a == rw.Ruled(a, (rule,))
    assert a * rule * other == rw.Ruled(a, (rule, other)) == (a * rule) * other
    assert 2.0 * (a * rule) == (2.0 * a) * rule == rw.Ruled(2.0 * a, (rule,))
    assert (a * rule) * 2.0 == rw.Ruled(a * 2.0, (rule,))
    assert 0.1 * rule == np.float64(0.1) * rule == rw.Constant(0.1) * rule
    assert (a * rule) * (a * other) == rw.Ruled(a * a, (rule, other))
    assert a * (rw.Constant(2.0) * rule) == rw.Ruled(a * rw.Constant(2.0), (rule,))
    assert rule * (a * other) == rw.Ruled(a, (rule, other))


def test_several_rules_multiply_and_each_keeps_its_own_state() -> None:
    lr = rw.Constant(1.0) * rw.Plateau(0.5, 1) * rw.Plateau(0.1, 2, start=2)
    state = lr.init()
    for t in range(5):  # the first cuts from the second evaluation on, the other at the fifth
        state = lr.observe(state, 1.0, t)
    assert lr.factor(state) == 0.5**4 * 0.1
    assert lr.factor(lr.init()) == 1.0


def test_without_metrics_it_is_its_schedule() -> None:
    a = rw.Cosine(0.1, 0.0, 100).warmup(10)
    lr = a * rw.Plateau()
    assert lr.steps == 110
    assert lr(50) == a(50) == lr.at(50, 1.0)
    assert lr.values(0, 120) == a.values(0, 120)
    assert lr.table() == a.table()
    assert lr.plot() == a.plot()


SPECS = [
    "Constant(0.1) * Plateau()",
    "Constant(0.1) * Plateau(factor=0.5, patience=2, mode='max', cooldown=3, start=5)",
    "(Linear(0.0, 0.1, 5, ends=\"(]\") >> Constant(0.1)) * Plateau(like='keras')",
    "(Constant(0.1) + Linear(0.1, 0.0, 10)) * Plateau(start=epochs(1)) * NewBob()",
    "2.0 * Cosine(0.1, 0.0) * Greedy(window=4)",
    "Cosine(0.1, 0.0, fraction(0.5)).repeat(2) * NewBob(patience=0, like='speechbrain')",
]


@pytest.mark.parametrize("spec", SPECS)
def test_it_goes_through_text_json_pickle_and_copies(spec: str) -> None:
    lr = rw.parse(spec)
    assert repr(lr) == spec
    assert eval(spec, vars(rw)) == lr
    assert rw.from_dict(json.loads(json.dumps(lr.to_dict(), allow_nan=False))) == lr
    assert pickle.loads(pickle.dumps(lr)) == deepcopy(lr) == lr
    assert hash(rw.parse(spec)) == hash(lr)


def test_parse_reads_its_methods() -> None:
    assert rw.parse("(Constant(0.1) * Plateau()).warmup(5)") == (rw.Constant(0.1) * rw.Plateau()).warmup(5)
    assert rw.parse("(Linear(0.1, 0.0) * Plateau()).over(5)") == rw.Linear(0.1, 0.0, 5) * rw.Plateau()
    with pytest.raises(ScheduleError, match="unknown method 'until'"):
        rw.parse("(Constant(0.1) * Plateau()).until(5)")
    with pytest.raises(ScheduleError, match="unknown method 'update'"):
        rw.parse("(Constant(0.1) * Plateau()).update(5)")


def test_over_settles_the_schedule_and_the_starts() -> None:
    run = rw.Horizon(epochs=4, dataset_size=100, batch_size=10)
    lr = (rw.Cosine(0.1, 0.0) * rw.Plateau(start=rw.epochs(1)) * rw.NewBob(start=rw.fraction(0.5))).over(run)
    assert lr == rw.Cosine(0.1, 0.0, 40) * rw.Plateau(start=10) * rw.NewBob(start=20)


def test_a_warm_up_moves_the_starts_behind_it() -> None:
    lr = rw.Constant(0.1) * rw.Plateau() * rw.NewBob(start=7)
    assert [rule.start for rule in lr.warmup(5).rules] == [5, 12]
    assert lr.warmup(0) is lr
    assert lr.warmup(5, start=0.0).schedule == lr.schedule.warmup(5, start=0.0)
    typed = (rw.Constant(0.1) * rw.Plateau()).warmup(rw.epochs(1))
    assert typed.rules[0].start == rw.epochs(1)
    run = rw.Horizon(epochs=4, dataset_size=100, batch_size=10)
    assert typed.over(run).rules[0].start == 10 == typed.over(run).schedule._starts[1]  # type: ignore[attr-defined]


def test_rules_and_ruled_schedules_cannot_be_changed() -> None:
    for value in (rw.Plateau(), rw.Constant(0.1) * rw.Plateau()):
        with pytest.raises(AttributeError):
            value.start = 3  # type: ignore[misc, union-attr]


# -- errors --------------------------------------------------------------------------------------------------


def refused(call: Callable[[], Any], match: str) -> None:
    with pytest.raises(ScheduleError, match=match) as caught:
        call()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert 20 < len(message) < 400
    assert ": " in message


NOT_NUMBERS: list[Any] = [True, "0.1", None, NAN, INF, 1j, [1], {}, object(), rw.Constant(0.1), np.array([1.0, 2.0])]
NUMBERS: dict[str, list[Any]] = {  # and values that are out of range
    "factor": [0, 1, -0.5, 2.0],
    "rtol": [-1e-9, 1.0],
    "atol": [-1e-9],
    "min_scale": [-0.1, 1.5],
    "max_scale": [0, -1],
    "eps": [-1.0],
}
COUNTS: dict[str, list[Any]] = {"patience": [0], "cooldown": [], "warmup": [], "window": [0], "reset": [0]}


@pytest.mark.parametrize("kind", [rw.Plateau, rw.Greedy, rw.NewBob])
@pytest.mark.parametrize("name", [*NUMBERS, *COUNTS])
def test_settings_out_of_range_are_refused(kind: Any, name: str) -> None:
    if name not in kind.__dataclass_fields__:
        return
    wrong = NUMBERS[name] if name in NUMBERS else [*COUNTS[name], -1, 1.5, 2.0, 2**60]
    unset = name in ("rtol", "atol", "patience")  # None means the default
    for value in [*wrong, *(x for x in NOT_NUMBERS if not (unset and x is None))]:
        refused(lambda value=value: kind(**{name: value}), f"^{kind.__name__}: .*{name} must be")  # type: ignore[misc]


@pytest.mark.parametrize("kind", [rw.Plateau, rw.Greedy, rw.NewBob])
def test_other_settings_are_checked_too(kind: Any) -> None:
    for value in (True, 3, None, "", "minimum", [], {}):
        refused(lambda value=value: kind(mode=value), f"^{kind.__name__}: unknown mode")  # type: ignore[misc]
    for value in (True, 3, "", "tourch", [], {}):
        refused(lambda value=value: kind(like=value), f"^{kind.__name__}: unknown like")  # type: ignore[misc]
    for value in (True, -1, "5", None, NAN, INF, [], {}):
        refused(lambda value=value: kind(start=value), f"^{kind.__name__}: start must be")  # type: ignore[misc]


A = rw.Constant(0.1)
P = rw.Plateau(0.5, 2)
MESSAGES: list[tuple[Callable[[], Any], str]] = [
    (lambda: rw.Plateau(like="kears"), "Did you mean 'keras'"),
    (lambda: rw.Plateau(0.5, -1, like="torch"), "patience must be an integer of at least 0"),
    (lambda: rw.Plateau(rtol=0.1, like="keras"), "Keras has no relative margin, got rtol=0.1. Give atol alone"),
    (lambda: rw.NewBob(mode="max", like="speechbrain"), "speechbrain knows mode='min' alone"),
    (lambda: rw.Greedy(min_scale=2.0), "min_scale must be at most 1 and max_scale at least 1, got 2.0 and 10.0"),
    (lambda: P * P, r"rules need a schedule to multiply, for example Constant\(0.1\) \* Plateau"),
    (lambda: P * "x", "a rule multiplies a Schedule or a number, got 'x'"),
    (lambda: P * True, "a rule multiplies a Schedule or a number, got True"),
    (lambda: None * P, "a rule multiplies a Schedule or a number, got None"),
    (lambda: A * P >> A, r"comes last: \(a >> b\) \* Plateau\(factor=0.5, patience=2\)"),
    (lambda: A * P + A, "comes last"),
    (lambda: 1.0 + A * P, "comes last"),
    (lambda: A * P * "x", "a Schedule or a finite number, got 'x'"),
    (lambda: A >> A * P, "then: needs a Schedule, got Constant"),
    (lambda: A >> P, "then: needs a Schedule, got Plateau"),
    (lambda: A + P, "a Schedule or a finite number, got Plateau"),
    (lambda: A + A * P, "a Schedule or a finite number, got Constant"),
    (lambda: rw.Ruled(A, ()), "at least one"),
    (lambda: rw.Ruled(A, P), "rules must be a list"),
    (lambda: rw.Ruled(A, (A,)), r"rules must be rules such as Plateau\(0.5, 2\), at least one, got Constant"),
    (lambda: rw.Ruled(P, (P,)), "a rule multiplies a Schedule or a number, got Plateau"),
    (lambda: rw.parse("Plateau()"), "must describe a schedule"),
    (lambda: rw.parse("Constant(0.1) >> Constant(0.1) * Plateau()"), "then: needs a Schedule|sequence: needs a"),
    (lambda: rw.parse("Plateau() * Plateau()"), "rules need a schedule to multiply"),
    (lambda: rw.parse("Constant(0.1) * Platau()"), "Did you mean 'Plateau'"),
    (lambda: rw.parse("Constant(0.1) * Plateau(patence=3)"), "it takes .factor=0.1, patience=10, mode='min'"),
    (lambda: rw.parse("Constant(0.1) * Plateau('x')"), "factor must be"),
    (lambda: rw.from_dict(P.__dict__ | {"type": "Plateau"}), "does not describe a schedule"),
    (lambda: rw.from_dict({"type": "Ruled", "schedule": A.to_dict(), "rules": []}), "at least one|has no 'version'"),
    (lambda: rw.from_dict({"type": "Ruled", "schedule": 3, "rules": [{"type": "Plateau"}]}), "multiplies a Schedule"),
    (lambda: rw.from_dict({"type": "Ruled", "rules": [{"type": "Plateau"}]}), "missing a required argument"),
    (lambda: rw.from_dict({"type": "Ruled", "schedule": 3, "rules": [{"type": "Plateau", "x": 1}]}), "has no 'x'"),
    (lambda: (A * rw.Plateau(start=rw.epochs(1))).over(5), "Horizon"),
    (lambda: (A * rw.Plateau(start=rw.epochs(1))).observe((P.init(),), 1.0, 3), r"epochs\(1\) is not resolved"),
    (lambda: (A * rw.Plateau(start=rw.epochs(1))).warmup(5), "can be added only once the run is known"),
    (lambda: (A * P).warmup(-1), "warmup: steps must be"),
    (lambda: P.update((1.0, 2.0), 1.0), r"must have the 5 numbers of init\(\)"),
    (lambda: P.update(3, 1.0), r"must have the 5 numbers of init\(\)"),
    (lambda: (A * P).observe(P.init(), 1.0, 3), r"must be what init\(\) or observe\(\) returned"),
    (lambda: (A * P).factor(None), r"must be what init\(\) or observe\(\) returned"),
    (lambda: (A * P).observe((A * P).init(), 1.0, "3"), "t must be the number of updates that happened, got '3'"),
]


@pytest.mark.parametrize(("call", "match"), MESSAGES, ids=[match[:40] for _, match in MESSAGES])
def test_messages_say_what_is_wrong_and_what_to_write(call: Callable[[], Any], match: str) -> None:
    refused(call, match)


@pytest.mark.parametrize("metric", [True, "x", None, [], {}, 1j, 10**400, np.array(["x"])], ids=str)
def test_what_is_no_metric_is_refused(metric: Any) -> None:
    refused(lambda: P.update(P.init(), metric), "Plateau: the metric must be a number, got")


def test_what_a_ruled_schedule_cannot_do_is_done_before_the_rule() -> None:
    lr = rw.Constant(0.1) * P
    refused(lambda: lr.clip(0.0, 1.0), r"clip: a rule multiplies a whole schedule: a.clip\(...\) \* Plateau")
    assert not hasattr(type(lr), "no_such_name")
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = lr.no_such_name
    refused(lambda: lr.at(3, "x"), "factor must be what factor")
    refused(lambda: lr.observe(lr.init(), 1.0, NAN), "t must be the number of updates")
