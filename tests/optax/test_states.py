"""The rate is read from a state however it is nested, by label where there are several."""

import jax
import jax.numpy as jnp
import optax
import pytest

import ratewise as rw
import ratewise.optax as ro
from ratewise.errors import AdapterError

LR = rw.Linear(0.5, 0.0, 8)


def injected(factor=1.0):
    return ro.inject(optax.sgd, learning_rate=factor * LR)


NESTED = {
    "alone": injected,
    "chain": lambda: optax.chain(optax.clip(1.0), optax.chain(injected(), optax.scale(1.0))),
    "named_chain": lambda: optax.named_chain(("clip", optax.clip(1.0)), ("sgd", injected())),
    "masked": lambda: optax.masked(injected(), {"head": True, "body": False}),
    "multi_transform": lambda: optax.multi_transform(
        {"a": injected(), "b": optax.adam(0.1)}, {"head": "a", "body": "b"}
    ),
    "apply_if_finite": lambda: optax.apply_if_finite(injected(), 3),
    "flatten": lambda: optax.flatten(injected()),
    "in itself": lambda: ro.inject(lambda learning_rate: injected(), learning_rate=LR),
}
PARAMETERS = {"head": jnp.zeros(2), "body": jnp.zeros(3)}


def passed(optimizer, updates):
    """The state before the first call of update and after each."""
    state, gradients = optimizer.init(PARAMETERS), jax.tree.map(jnp.ones_like, PARAMETERS)
    step = jax.jit(lambda state: optimizer.update(gradients, state, PARAMETERS)[1])
    return [state, *((state := step(state)) for _ in range(updates))]


def trained(optimizer, updates):
    return passed(optimizer, updates)[-1]


@pytest.mark.parametrize("name", NESTED)
def test_the_rate_is_found_in(name):
    state = trained(NESTED[name](), 3)
    assert float(ro.rate(state)) == LR(2)
    assert {"learning_rate": LR(2)} == {label: float(rate) for label, rate in ro.rates(state).items()}
    assert int(ro.position(state)) == 3


@pytest.mark.parametrize("name", NESTED)
def test_a_scale_is_set_in(name):
    assert float(ro.rate(ro.scaled(NESTED[name]().init(PARAMETERS), 0.5))) == LR(0) / 2


def test_mini_steps_change_nothing():
    seen = passed(optax.MultiSteps(injected(), 4), 12)
    assert [LR(0)] * 8 + [LR(1)] * 4 + [LR(2)] == [float(ro.rate(state)) for state in seen]
    assert [int(ro.position(state)) for state in seen] == [0] * 4 + [1] * 4 + [2] * 4 + [3]


def test_updates_that_are_not_finite_do_not_count():
    optimizer = optax.apply_if_finite(injected(), 5)
    state = optimizer.init(jnp.zeros(()))
    rates = []
    for gradient in [1.0, float("nan"), float("inf"), 1.0]:
        change, state = optimizer.update(jnp.float32(gradient), state)
        rates.append(-float(change))
    assert rates == [LR(0), 0.0, 0.0, LR(1)]
    assert int(ro.position(state)) == 2


SEVERAL = {
    "multi_transform": (
        lambda: optax.multi_transform(
            {"fast": injected(2.0), "slow": optax.chain(optax.clip(1.0), injected())}, {"head": "fast", "body": "slow"}
        ),
        {"fast": 2.0, "slow": 1.0},
    ),
    "inside a chain": (
        lambda: optax.chain(
            optax.clip(1.0),
            optax.multi_transform({"a": injected(), "b": injected(2.0)}, {"head": "a", "body": "b"}),
        ),
        {"a": 1.0, "b": 2.0},
    ),
    "chain": (lambda: optax.chain(injected(2.0), injected()), {"0": 2.0, "1": 1.0}),
    "named_chain": (lambda: optax.named_chain(("x", injected()), ("y", injected(2.0))), {"x": 1.0, "y": 2.0}),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_several_rates_have_labels(name):
    make, factors = SEVERAL[name]
    state = trained(make(), 3)
    assert {label: k * LR(2) for label, k in factors.items()} == {k: float(v) for k, v in ro.rates(state).items()}
    for label, factor in factors.items():
        assert float(ro.rate(state, label)) == factor * LR(2)
        assert int(ro.position(state, label)) == 3


def test_two_optimizers_in_one_tree_have_the_names_of_their_places():
    states = {"generator": {"opt": injected().init(0.0)}, "critic": {"opt": injected(2.0).init(0.0)}}
    assert {label: float(rate) for label, rate in ro.rates(states).items()} == {"generator": 0.5, "critic": 1.0}


def test_a_scale_is_for_all_or_for_one():
    state = trained(SEVERAL["multi_transform"][0](), 0)
    assert {k: float(v) for k, v in ro.rates(ro.scaled(state, 0.5)).items()} == {"fast": 0.5, "slow": 0.25}
    assert {k: float(v) for k, v in ro.rates(ro.scaled(state, 0.5, "slow")).items()} == {"fast": 1.0, "slow": 0.25}


def test_reading_traces():
    optimizer = optax.chain(optax.clip(1.0), injected())

    def step(state, _):
        _, state = optimizer.update(jnp.ones(()), state)
        return state, (ro.rate(state), ro.position(state))

    _, (rates, positions) = jax.lax.scan(step, optimizer.init(jnp.zeros(())), None, 4)
    assert LR.values(0, 4) == rates.tolist()
    assert positions.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("read", [ro.rate, ro.rates, ro.position, lambda state: ro.scaled(state, 2.0)])
@pytest.mark.parametrize("state", [optax.adam(0.1).init(0.0), optax.sgd(ro.schedule(LR)).init(0.0), {"count": 3}, None])
def test_a_state_without_rates_is_refused_with_what_to_write(read, state):
    with pytest.raises(
        AdapterError, match=r": no state of inject .* inject\(optax.adamw, learning_rate=lr\)\. A restored"
    ):
        read(state)


def test_an_optimizer_without_a_learning_rate_has_none():
    state = ro.inject(optax.scale_by_adam, b1=rw.Linear(0.9, 0.8, 4)).init(0.0)
    assert int(ro.position(state)) == 0
    with pytest.raises(AdapterError, match="rate"):
        ro.rate(state)


@pytest.mark.parametrize("read", [ro.rate, ro.position])
def test_several_need_a_label(read):
    state = SEVERAL["multi_transform"][0]().init(PARAMETERS)
    with pytest.raises(AdapterError, match=r": the state holds 2 learning rates\. Give label= one of 'fast', 'slow'\."):
        read(state)
    with pytest.raises(AdapterError, match=r"nothing has the label 'slwo'\. Did you mean 'slow'\?"):
        read(state, "slwo")


def test_a_scale_for_an_unknown_label_is_refused():
    with pytest.raises(AdapterError, match=r"scaled: nothing has the label 'x'\. Known: learning_rate\."):
        ro.scaled(injected().init(0.0), 2.0, "x")


def test_optax_finds_the_rate_by_its_name_too():
    assert float(optax.tree.get(trained(NESTED["chain"](), 2), "learning_rate")) == LR(1)
