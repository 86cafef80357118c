"""Rules: fed now and then to ``inject``, or with every update to ``scale_by_rule``."""

import math
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ratewise as rw
import ratewise.optax as ro
from ratewise.errors import AdapterError, ScheduleError

NAN = math.nan
BUMPY = [1.0, 0.9, 0.95, 0.95, NAN, 0.8, 0.81, math.inf, 0.82, 0.83, 0.5, 0.6, -math.inf, 0.6, 0.4, 0.4, 0.4, 0.4]
RULES = [
    rw.Plateau(0.5, patience=2),
    rw.Plateau(0.5, patience=1, mode="max", cooldown=1),
    rw.Plateau(0.25, patience=1, window=2, min_scale=0.1),
    rw.Greedy(0.5, patience=2, window=3),
    rw.NewBob(0.5),
    *(rw.Plateau(0.5, patience=2, like=like) for like in ("torch", "keras", "paddle")),
    rw.Greedy(0.5, patience=1, like="hf"),
]


def step(optimizer, state):
    """The change that one update made to a weight with gradient 1, and the next state."""
    change, state = jax.jit(optimizer.update)(jnp.ones(()), state)
    return -float(change), state


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_the_rate_is_that_of_the_schedule_times_what_the_rule_made_of_the_metrics(rule):
    optimizer = ro.inject(optax.sgd, learning_rate=rw.Linear(0.5, 0.0, 40) * rule)

    def run(state, metric):
        state = optimizer.observe(state, metric)
        change, state = optimizer.update(jnp.ones(()), state)
        return state, (-change, ro.rate(state))

    state, (used, shown) = jax.jit(lambda s, m: jax.lax.scan(run, s, m))(optimizer.init(0.0), jnp.array(BUMPY))
    expected = [rw.Linear(0.5, 0.0, 40)(t) * scale for t, scale in enumerate(rule.scales(BUMPY))]
    assert pytest.approx(expected, rel=1e-6) == used.tolist() == shown.tolist()
    assert state.rules[0].nans == 3


EVALUATIONS = [1.0, 0.9, 0.91, 0.92, 0.90, NAN]


@pytest.mark.parametrize("killed", [None, 0, 2, 3, 5])
def test_scenario_8_a_plateau_after_a_warmup_killed_at_any_evaluation(killed):
    lr = (rw.Constant(1.0) * rw.Plateau(0.5, patience=2)).warmup(5)

    def make():
        optimizer = ro.inject(optax.sgd, learning_rate=lr)
        return optimizer, optimizer.init(jnp.zeros(()))

    optimizer, state = make()
    used = []
    for _ in range(5):
        rate, state = step(optimizer, optimizer.observe(state, 0.001))  # passed over: the rule starts after the warm-up
        used.append(rate)
    for i, metric in enumerate(EVALUATIONS):
        state = optimizer.observe(state, metric)
        if i == killed:
            kept = pickle.dumps(jax.tree.map(np.asarray, state))
            optimizer, _ = make()
            state = jax.tree.map(jnp.asarray, pickle.loads(kept))
        rate, state = step(optimizer, state)
        used.append(rate)
    assert pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.25]) == used
    assert int(state.rules[0].nans) == 1


def test_scenario_8_in_torchs_way():
    optimizer = ro.inject(optax.sgd, learning_rate=1.0 * rw.Plateau(0.5, patience=2, like="torch"))
    state, used = optimizer.init(jnp.zeros(())), []
    for metric in EVALUATIONS[:5]:
        rate, state = step(optimizer, optimizer.observe(state, metric))
        used.append(rate)
    assert used == [1.0, 1.0, 1.0, 1.0, 0.5]


def test_a_metric_counts_no_update_and_leaves_what_is_shown():
    optimizer = ro.inject(optax.sgd, learning_rate=rw.Linear(1.0, 0.0, 4) * rw.Plateau(0.5, patience=1))
    state = optimizer.observe(optimizer.init(jnp.zeros(())), 1.0)
    _, state = step(optimizer, state)
    seen = optimizer.observe(state, 2.0)
    assert (float(ro.rate(seen)), int(ro.position(seen))) == (1.0, 1)
    assert step(optimizer, seen)[0] == 0.375


def test_before_the_first_update_the_coming_rate_is_shown():
    optimizer = ro.inject(optax.sgd, learning_rate=1.0 * rw.Plateau(0.5, patience=1))
    state = optimizer.init(jnp.zeros(()))
    for metric in [1.0, 2.0]:
        state = optimizer.observe(state, metric)
    assert float(ro.rate(state)) == 0.5 == step(optimizer, state)[0]


def test_metrics_may_come_under_cond():
    optimizer = optax.chain(optax.clip(1.0), inner := ro.inject(optax.sgd, learning_rate=1.0 * rw.Plateau(0.5, 1)))

    @jax.jit
    def run(state, t):
        state = jax.lax.cond(t % 3 == 2, lambda s: inner.observe(s, 1.0), lambda s: s, state)
        change, state = optimizer.update(jnp.ones(()), state)
        return state, -change

    _, used = jax.lax.scan(run, optimizer.init(jnp.zeros(())), jnp.arange(10))
    assert used.tolist() == [1.0] * 5 + [0.5] * 3 + [0.25] * 2


def test_metrics_of_runs_side_by_side_are_kept_apart():
    optimizer = ro.inject(optax.sgd, learning_rate=1.0 * rw.Plateau(0.5, patience=1))
    states, observe = jax.vmap(optimizer.init)(jnp.zeros(3)), jax.jit(jax.vmap(optimizer.observe))
    for metrics in ([1.0, 1.0, 1.0], [0.5, 2.0, NAN], [0.4, 0.3, NAN]):
        states = observe(states, jnp.array(metrics))
    changes, states = jax.jit(jax.vmap(optimizer.update))(jnp.ones(3), states)
    assert (-changes).tolist() == [1.0, 0.5, 0.25]
    assert states.rules[0].nans.tolist() == [0, 0, 2]


def test_rules_scale_and_schedule_multiply():
    lr = rw.Linear(1.0, 0.0, 4) * rw.Plateau(0.5, 1) * rw.Plateau(0.5, 2)
    optimizer = ro.inject(optax.sgd, learning_rate=lr)
    state = ro.scaled(optimizer.init(jnp.zeros(())), 2.0)
    for metric in [1.0, 2.0, 3.0]:  # two cuts of the first rule, one of the second
        state = optimizer.observe(state, metric)
    assert step(optimizer, step(optimizer, state)[1])[0] == 0.75 * 0.125 * 2.0


def test_one_of_several_is_fed_by_its_label():
    fast = ro.inject(optax.sgd, learning_rate=1.0 * rw.Plateau(0.5, 1))
    slow = ro.inject(optax.sgd, learning_rate=0.5 * rw.Plateau(0.5, 1))
    optimizer = optax.multi_transform({"fast": fast, "slow": slow}, {"head": "fast", "body": "slow"})
    state = optimizer.init({"head": jnp.zeros(()), "body": jnp.zeros(())})
    with pytest.raises(
        AdapterError, match=r"observe: the state holds 2 learning rates\. Give label= one of 'fast', 'slow'"
    ):
        fast.observe(state, 1.0)
    for metric in [1.0, 2.0]:
        state = fast.observe(state, metric, "fast")
    change, _ = optimizer.update({"head": jnp.ones(()), "body": jnp.ones(())}, state)
    assert (float(change["head"]), float(change["body"])) == (-0.5, -0.5)


def test_rules_go_with_accumulation():
    optimizer = optax.MultiSteps(inner := ro.inject(optax.sgd, learning_rate=1.0 * rw.Plateau(0.5, 1)), 2)
    optimizer = optimizer.gradient_transformation()
    state, used = optimizer.init(jnp.zeros(())), []
    for t in range(8):
        rate, state = step(optimizer, state)
        used.append(rate)
        state = inner.observe(state, 1.0) if t % 4 == 1 else state
    assert used == [0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.5]


def test_a_learning_rate_without_rules_is_told_how_to_have_them():
    optimizer = ro.inject(optax.sgd, learning_rate=0.1)
    with pytest.raises(
        AdapterError, match=r"has no rules, got Constant\(0\.1\)\. Write inject\(\.\.\., learning_rate=lr \* P"
    ):
        optimizer.observe(optimizer.init(0.0), 1.0)


def test_the_rules_of_another_optimizer_are_refused():
    state = ro.inject(optax.sgd, learning_rate=0.1 * rw.Plateau()).init(0.0)
    with pytest.raises(AdapterError, match=r"observe: the state holds other rules than .*Greedy"):
        ro.inject(optax.sgd, learning_rate=0.1 * rw.Greedy()).observe(state, 1.0)
    with pytest.raises(AdapterError, match=r"observe: no state of inject"):
        ro.inject(optax.sgd, learning_rate=0.1 * rw.Greedy()).observe(optax.sgd(0.1).init(0.0), 1.0)


@pytest.mark.parametrize("metric", ["1.0", None, [1.0]])
def test_a_metric_must_be_a_number(metric):
    optimizer = ro.inject(optax.sgd, learning_rate=0.1 * rw.Plateau())
    with pytest.raises(ScheduleError, match="observe: metric must be a number, got"):
        optimizer.observe(optimizer.init(0.0), metric)


def test_a_metric_must_be_one_number():
    optimizer = ro.inject(optax.sgd, learning_rate=0.1 * rw.Plateau())
    with pytest.raises(ScheduleError, match=r"metric must be one number, got an array of shape \(3,\)\. Take its mean"):
        optimizer.observe(optimizer.init(0.0), jnp.ones(3))


# -- scale_by_rule ---------------------------------------------------------------------------------------------------


def scales(optimizer, metrics):
    """What each update with gradient 1 was multiplied by."""

    def run(state, metric):
        change, state = optimizer.update(jnp.ones(()), state, value=metric)
        return state, change

    return jax.jit(lambda state, m: jax.lax.scan(run, state, m)[1])(optimizer.init(jnp.zeros(())), metrics).tolist()


@pytest.mark.parametrize("settings", [
    {"patience": 2}, {"patience": 0}, {"patience": 1, "cooldown": 2}, {"patience": 1, "min_scale": 0.3},
    {"patience": 2, "window": 3}, {"patience": 1, "rtol": 0.1, "atol": 0.01}, {"patience": 1, "factor": 0.3},
], ids=str)  # fmt: skip
def test_it_does_what_optax_does_to_the_last_bit(settings):
    noise = np.random.default_rng(0).normal(size=60)
    metrics = jnp.array(np.exp(-np.arange(60) / 30) + 0.1 * noise)
    metrics = metrics.at[20].set(jnp.nan)
    settings = {"factor": 0.5, "rtol": 1e-4, **settings}
    theirs = {"accumulation_size" if name == "window" else name: value for name, value in settings.items()}
    expected = scales(optax.contrib.reduce_on_plateau(**theirs), metrics)
    assert len(set(expected)) > 1
    assert scales(ro.scale_by_rule(rw.Plateau(like="optax", **settings)), metrics) == expected


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_every_rule_may_scale(rule):
    assert pytest.approx(rule.scales(BUMPY), rel=1e-6) == scales(ro.scale_by_rule(rule), jnp.array(BUMPY))


def test_a_rule_waits_for_its_start():
    rule = ro.scale_by_rule(rw.Plateau(0.5, 1, start=rw.fraction(0.5)), horizon=8)
    assert scales(rule, jnp.ones(8)) == [1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.25, 0.125]


def test_its_state_shows_scale_and_nans():
    optimizer = optax.chain(optax.sgd(0.5), ro.scale_by_rule(rw.Plateau(0.5, patience=1)))
    state = optimizer.init(jnp.zeros(()))
    for metric in [1.0, NAN]:
        _, state = optimizer.update(jnp.ones(()), state, value=metric)
    assert float(optax.tree.get(state, "scale")) == 0.5
    assert float(optax.tree.get(state, "nans")) == 1.0
    assert int(state[1].count) == 2


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_it_leaves_the_dtype_of_the_updates_as_it_is(dtype):
    optimizer = ro.scale_by_rule(rw.Plateau(0.5, patience=1))
    change, _ = optimizer.update(jnp.ones(2, dtype), optimizer.init(0.0), value=1.0)
    assert change.dtype == dtype


def test_it_needs_a_metric():
    optimizer = ro.scale_by_rule(rw.Plateau())
    with pytest.raises(AdapterError, match=r"needs the metric, as update\(grads, state, params, value=loss\)"):
        optimizer.update(jnp.ones(()), optimizer.init(0.0))
    with pytest.raises(ScheduleError, match=r"value must be one number, got an array of shape \(4,\)"):
        optimizer.update(jnp.ones(()), optimizer.init(0.0), value=jnp.ones(4))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            0.1 * rw.Plateau(),
            r"got Constant\(0.1\) \* Plateau.* Give its rule alone, and its schedule to the optimizer",
        ),
        (0.1, r"needs a rule such as Plateau\(0.5, patience=2\), got 0.1"),
        (rw.Plateau, "needs a rule such as"),
    ],
)
def test_what_is_no_rule_is_refused(rule, message):
    with pytest.raises(AdapterError, match=f"scale_by_rule: .*{message}"):
        ro.scale_by_rule(rule)


def test_a_start_that_is_not_known_is_refused():
    with pytest.raises(
        ScheduleError, match=r"scale_by_rule: rule: Plateau: its start .*scale_by_rule\(\.\.\., horizon="
    ):
        ro.scale_by_rule(rw.Plateau(start=rw.fraction(0.5)))
