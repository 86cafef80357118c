"""``inject``: every hyperparameter follows its schedule, and the state shows what the last update used."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ratewise as rw
import ratewise.optax as ro
from ratewise.errors import AdapterError, ScheduleError

LR = rw.Cosine(0.1, 0.0).warmup(3).over(12)
MOMENTUM = rw.Linear(0.0, 0.8, 6)
FLOAT = jnp.result_type(float)


def states(optimizer, updates, weight=None):
    """The state before the first update and after each."""
    weight = jnp.zeros(()) if weight is None else weight
    state = optimizer.init(weight)
    update = jax.jit(lambda state: optimizer.update(jnp.ones_like(weight), state, weight)[1])
    return [state, *((state := update(state)) for _ in range(updates))]


def test_the_state_shows_the_rate_that_the_last_update_used(near):
    seen = states(ro.inject(optax.sgd, learning_rate=LR), 14)
    assert near([LR(0), *LR.values(0, 14)]) == [float(ro.rate(state)) for state in seen]
    assert list(range(15)) == [int(ro.position(state)) for state in seen]


def test_what_is_shown_is_what_is_applied(applied):
    optimizer = ro.inject(optax.sgd, learning_rate=LR)
    shown = [float(ro.rate(state).astype("float32")) for state in states(optimizer, 14)[1:]]  # as the weight is
    assert applied(optimizer, 14) == shown


def pulses(rates, momenta):
    """What a weight is after each update of v = momentum v + g, w = w - rate v, with gradient 1."""
    v, w, result = 0.0, 0.0, []
    for rate, momentum in zip(rates, momenta, strict=True):
        v = momentum * v + 1.0
        w -= rate * v
        result.append(w)
    return result


def weights(optimizer, updates):
    weight, result = jnp.zeros(()), []
    state = optimizer.init(weight)
    for _ in range(updates):
        change, state = optimizer.update(jnp.ones(()), state, weight)
        weight = optax.apply_updates(weight, change)
        result.append(float(weight))
    return result


def test_momentum_follows_its_own_schedule(near):
    optimizer = ro.inject(optax.sgd, learning_rate=LR, momentum=MOMENTUM)
    assert near(pulses(LR.values(0, 8), MOMENTUM.values(0, 8))) == weights(optimizer, 8)


def test_every_hyperparameter_that_follows_is_shown(near):
    decay = rw.Linear(0.5, 0.1, 10)
    optimizer = ro.inject(optax.adamw, learning_rate=LR, b1=rw.Linear(0.95, 0.85, 10), weight_decay=decay, b2=0.98)
    state = states(optimizer, 3)[-1]
    assert set(state.rates) == {"learning_rate", "b1", "weight_decay"}
    assert near([0.93, 0.42, LR(2)]) == [float(state.rates[name]) for name in ("b1", "weight_decay", "learning_rate")]


def test_weight_decay_follows_its_own_schedule(near):
    decay = rw.Linear(0.5, 0.0, 5)
    optimizer = ro.inject(optax.adamw, learning_rate=0.1, weight_decay=decay)
    weight, expected = jnp.ones(()), 1.0
    state = optimizer.init(weight)
    for t in range(6):
        change, state = optimizer.update(jnp.zeros(()), state, weight)
        weight, expected = optax.apply_updates(weight, change), expected * (1 - 0.1 * decay(t))
        assert near([expected]) == [float(weight)]


def test_other_settings_are_handed_over_as_they_are():
    seen = {}

    def factory(learning_rate, mask=None, name="", nesterov=False):
        seen.update(mask=mask, name=name, nesterov=nesterov)
        return optax.sgd(learning_rate)

    mask = {"w": True}
    ro.inject(factory, learning_rate=0.1, mask=mask, name="x", nesterov=True)
    assert seen == {"mask": mask, "name": "x", "nesterov": True}
    assert seen["mask"] is mask


def test_a_function_of_several_transformations_is_injected_whole(applied, near):
    def factory(learning_rate, limit):
        return optax.chain(optax.clip(limit), optax.sgd(learning_rate))

    optimizer = ro.inject(factory, learning_rate=LR, limit=rw.Linear(0.5, 0.1, 4))
    expected = [LR(t) * max(0.1, 0.5 - 0.1 * t) for t in range(6)]
    assert near(expected) == applied(optimizer, 6)


def test_extra_arguments_reach_the_optimizer():
    def factory(learning_rate):
        return optax.chain(optax.sgd(learning_rate), ro.scale_by_rule(rw.Plateau(0.5, patience=1)))

    optimizer = ro.inject(factory, learning_rate=1.0)
    state = optimizer.init(jnp.zeros(()))
    for loss, expected in [(1.0, -1.0), (2.0, -0.5)]:
        change, state = optimizer.update(jnp.ones(()), state, value=loss)
        assert float(change) == expected


# -- dtypes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("lr", [0.5, rw.Linear(0.5, 0.0, 4)], ids=["number", "schedule"])
def test_the_parameters_alone_decide_the_dtype_of_updates(dtype, lr):
    if dtype == "float64" != FLOAT:
        pytest.skip("64 bits are off")
    optimizer = ro.inject(optax.adamw, learning_rate=lr, b1=rw.Linear(0.9, 0.8, 9), b2=0.999)
    weight = jnp.zeros((), dtype)
    change, state = optimizer.update(jnp.ones((), dtype), optimizer.init(weight), weight)
    assert change.dtype == dtype
    assert {FLOAT} == {leaf.dtype for leaf in jax.tree.leaves((state.rates, state.scale))}


def test_rates_keep_their_digits_with_half_precision_parameters(near):
    optimizer = ro.inject(optax.sgd, learning_rate=LR)
    seen = states(optimizer, 12, jnp.zeros((), "bfloat16"))
    assert near(LR.values(0, 12)) == [float(ro.rate(state)) for state in seen[1:]]


def test_half_precision_does_not_round_a_beta_to_one():
    def moved(optimizer):
        weight = jnp.ones((), "bfloat16")
        change, _ = optimizer.update(jnp.ones((), "bfloat16"), optimizer.init(weight), weight)
        return float(change)

    assert moved(ro.inject(optax.adam, learning_rate=0.5, b2=0.999)) == pytest.approx(-0.5, rel=0.01)
    assert moved(optax.inject_hyperparams(optax.adam)(learning_rate=0.5, b2=0.999)) != pytest.approx(-0.5, rel=0.01)


@pytest.mark.parametrize("lr", [LR, LR * rw.Plateau()], ids=["plain", "ruled"])
def test_the_state_keeps_its_types(lr):
    first, *later = states(ro.inject(optax.adamw, learning_rate=lr, b1=MOMENTUM), 2)
    kinds = [jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), state) for state in (first, *later)]
    assert kinds[0] == kinds[1] == kinds[2]


# -- scale -----------------------------------------------------------------------------------------------------------


def test_a_sweep_over_peak_rates_compiles_once(near):
    optimizer, traces = ro.inject(optax.sgd, learning_rate=LR), []

    @jax.jit
    def train(state):
        traces.append(1)

        def step(state, _):
            change, state = optimizer.update(jnp.ones(()), state)
            return state, -change

        return jax.lax.scan(step, state, None, 14)[1]

    peaks, first = [0.25, 0.5, 1.0, 2.0, 4.0], optimizer.init(jnp.zeros(()))
    for peak in peaks:
        assert near((peak * LR).values(0, 14)) == train(ro.scaled(first, peak)).tolist()
    assert len(traces) == 1
    together = jax.vmap(lambda peak: train(ro.scaled(first, peak)))(jnp.array(peaks))
    for peak, rates in zip(peaks, together.tolist(), strict=True):
        assert near((peak * LR).values(0, 14)) == rates


def test_a_stack_of_runs_trains_side_by_side(near):
    optimizer = ro.inject(optax.adamw, learning_rate=LR, weight_decay=0.01)
    weights, peaks = jnp.ones((3, 2)), jnp.array([0.5, 1.0, 2.0])
    state = jax.vmap(lambda weight, peak: ro.scaled(optimizer.init(weight), peak))(weights, peaks)
    step = jax.jit(jax.vmap(lambda state, weight: optimizer.update(weight, state, weight)))
    for _ in range(4):
        _, state = step(state, weights)
    assert near([peak * LR(3) for peak in peaks.tolist()]) == ro.rate(state).tolist()


def test_a_scale_acts_from_the_coming_update_on():
    optimizer = ro.inject(optax.sgd, learning_rate=rw.Linear(1.0, 0.0, 4), momentum=rw.Constant(0.5))
    state = ro.scaled(optimizer.init(jnp.zeros(())), 0.5)
    assert float(ro.rate(state)) == 0.5  # the coming one
    _, state = optimizer.update(jnp.ones(()), state)
    state = ro.scaled(state, 2.0)
    assert float(ro.rate(state)) == 0.5  # the last one
    _, state = optimizer.update(jnp.ones(()), state)
    assert float(ro.rate(state)) == 1.5
    assert float(state.rates["momentum"]) == 0.5


@pytest.mark.parametrize("scale", [0, -1.0, float("nan"), float("inf"), "2", None, True])
def test_a_scale_must_be_a_number_above_zero(scale):
    state = ro.inject(optax.sgd, learning_rate=0.1).init(jnp.zeros(()))
    with pytest.raises(ScheduleError, match="scaled: scale must be a"):
        ro.scaled(state, scale)


def test_a_scale_must_be_one_number():
    state = ro.inject(optax.sgd, learning_rate=0.1).init(jnp.zeros(()))
    with pytest.raises(ScheduleError, match=r"scale must be one number, got an array of shape \(3,\)"):
        ro.scaled(state, jnp.ones(3))


def test_the_scale_can_be_differentiated(near):
    """How the loss after training depends on the peak rate: w (1 - s lr(0)) (1 - s lr(1)) for a loss of w**2 / 2."""
    optimizer = ro.inject(optax.sgd, learning_rate=rw.Linear(0.5, 0.0, 2))

    def trained(scale):
        weight, state = jnp.ones(()), ro.scaled(optimizer.init(jnp.ones(())), scale)
        for _ in range(2):
            change, state = optimizer.update(weight, state)
            weight = optax.apply_updates(weight, change)
        return weight

    assert near([-0.5 * 0.75 - 0.25 * 0.5]) == [float(jax.jit(jax.grad(trained))(1.0))]


def test_what_has_no_learning_rate_cannot_be_scaled():
    state = ro.inject(optax.scale_by_adam, b1=rw.Linear(0.9, 0.8, 4)).init(jnp.zeros(()))
    with pytest.raises(AdapterError, match="scaled: no state of inject with a learning rate"):
        ro.scaled(state, 2.0)


# -- accumulation ----------------------------------------------------------------------------------------------------


def within(learning_rate):
    return optax.MultiSteps(optax.sgd(learning_rate), 4)


def test_accumulation_inside_is_refused_with_what_to_write_instead(applied, near):
    message = r"MultiSteps is inside \w+, .* optax.MultiSteps\(inject\(optax.adamw, learning_rate=lr\), every_k"
    with pytest.raises(AdapterError, match=message):
        ro.inject(within, learning_rate=LR)
    deeper = ro.inject(lambda learning_rate: optax.chain(within(learning_rate)), learning_rate=LR)
    with pytest.raises(AdapterError, match=message.replace(r"\w+", "<lambda>")):
        deeper.init(jnp.zeros(()))
    outside = optax.MultiSteps(ro.inject(optax.sgd, learning_rate=LR), every_k_schedule=4)
    assert near(LR.values(0, 3)) == applied(outside, 12)[3::4]


def test_a_transformation_made_of_multisteps_is_refused_too():
    optimizer = ro.inject(lambda learning_rate: within(learning_rate).gradient_transformation(), learning_rate=LR)
    with pytest.raises(AdapterError, match="MultiSteps is inside"):
        optimizer.init(jnp.zeros(()))


def skipping(learning_rate, skip):
    return optax.chain(optax.clip(1.0), skip(optax.sgd(learning_rate)))


SKIPS = {
    "apply_if_finite": lambda inner: optax.apply_if_finite(inner, 5),
    "apply_every": lambda inner: optax.chain(inner, optax.apply_every(4)),
    "conditionally_transform": lambda inner: optax.conditionally_transform(inner, lambda step: step % 2 == 0),
    "conditionally_mask": lambda inner: optax.conditionally_mask(inner, lambda step: step % 2 == 0),
}


@pytest.mark.parametrize("name", SKIPS)
def test_what_leaves_out_updates_is_refused_inside(name):
    place = "MultiSteps" if name == "apply_every" else name
    optimizer = ro.inject(skipping, learning_rate=LR, skip=SKIPS[name])
    with pytest.raises(AdapterError, match=rf"{name} is inside skipping, .* outside: optax\.{place}\(inject\("):
        optimizer.init(jnp.zeros(()))


def test_outside_left_out_updates_do_not_count(near):
    optimizer = optax.apply_if_finite(ro.inject(optax.sgd, learning_rate=LR), max_consecutive_errors=5)
    weight, rates = jnp.zeros(()), []
    state = optimizer.init(weight)
    for gradient in (1.0, np.inf, np.nan, 1.0, 1.0):
        change, state = optimizer.update(jnp.asarray(gradient, weight.dtype), state, weight)
        rates.append(-float(change))
    assert near([LR(0), 0.0, 0.0, LR(1), LR(2)]) == rates


def test_what_keeps_the_rates_of_init_is_refused_inside():
    optimizer = ro.inject(optax.inject_hyperparams(optax.sgd), learning_rate=LR)
    with pytest.raises(AdapterError, match=r"inject_hyperparams is inside \w+, .* Leave it out"):
        optimizer.init(jnp.zeros(()))


# -- the object ------------------------------------------------------------------------------------------------------


def test_it_prints_and_pickles():
    optimizer = ro.inject(optax.adamw, learning_rate=rw.Linear(0.1, 0.0), weight_decay=1e-4, horizon=100)
    assert repr(optimizer) == "inject(adamw, learning_rate=Linear(0.1, 0.0, 100), weight_decay=0.0001)"
    assert repr(pickle.loads(pickle.dumps(optimizer))) == repr(optimizer)
    ruled = ro.inject(optax.sgd, learning_rate=0.1 * rw.Plateau())
    ruled.observe(ruled.init(0.0), 1.0)
    assert repr(pickle.loads(pickle.dumps(ruled))) == repr(ruled)
    assert isinstance(optimizer, optax.GradientTransformationExtraArgs)


def test_it_is_a_tree_like_any_transformation(applied, near):
    optimizer = ro.inject(optax.sgd, learning_rate=LR * rw.Plateau(0.5, 1))
    leaves, structure = jax.tree.flatten(optimizer)
    for other in (jax.tree.map(lambda x: x, optimizer), jax.tree.unflatten(structure, leaves), optimizer._replace()):
        state = other.observe(other.observe(other.init(jnp.zeros(())), 1.0), 2.0)
        assert near((0.5 * LR).values(0, 4)) == applied(other, 4, state)
        assert repr(other) == repr(optimizer)
    bare = optimizer._replace(init=None)
    assert "None" in repr(bare)
    with pytest.raises(AdapterError, match="functions of this transformation were replaced, got None"):
        bare.observe(optimizer.init(0.0), 1.0)


def test_equinox_takes_it_as_an_argument(near):
    eqx = pytest.importorskip("equinox")
    optimizer = ro.inject(optax.sgd, learning_rate=LR)

    @eqx.filter_jit
    def step(optimizer, state):
        return optimizer.update(jnp.ones(()), state)

    state, rates = optimizer.init(jnp.zeros(())), []
    for _ in range(3):
        change, state = step(optimizer, state)
        rates.append(-float(change))
    assert near(LR.values(0, 3)) == rates


def test_a_state_of_numpy_arrays_goes_on_as_it_stands(near):
    optimizer = ro.inject(optax.sgd, learning_rate=LR * rw.Plateau(0.5, 1), momentum=rw.Linear(0.0, 0.0, 4))
    state = jax.tree.map(np.asarray, states(optimizer, 3)[-1])
    state = ro.scaled(optimizer.observe(optimizer.observe(state, np.float32(1.0)), 2.0), np.float64(0.5))
    change, state = optimizer.update(np.float32(1.0), jax.tree.map(np.asarray, state))
    assert near([0.25 * LR(3)]) == [-float(change)] == [float(ro.rate(state))]


def test_the_count_stays_at_the_last_integer(after):
    optimizer = ro.inject(optax.sgd, learning_rate=LR)
    state = optimizer.init(jnp.zeros(()))._replace(count=jnp.int32(2**31 - 2))
    assert int(ro.position(after(optimizer, 3, state))) == 2**31 - 1


@pytest.mark.parametrize("width", ["int8", "int16", "uint8", "uint16", "uint32"])
def test_a_count_of_another_width_goes_on(width, after, near):
    lr = rw.Linear(1.0, 0.0, 100_000)
    optimizer, last = ro.inject(optax.sgd, learning_rate=lr), min(int(jnp.iinfo(width).max), 90_000)
    state = after(optimizer, 3, optimizer.init(jnp.zeros(()))._replace(count=jnp.asarray(last - 1, width)))
    assert int(ro.position(state)) == last + 2
    assert near([lr(last + 1)]) == [float(ro.rate(state))]


@pytest.mark.parametrize("at", [2**24 - 2, 10**8, 2**31 - 4])
def test_the_rate_is_exact_where_float32_stops_counting(at, applied):
    optimizer = ro.inject(optax.sgd, learning_rate=rw.Constant(1.0, at) >> rw.Linear(1.0, 0.0, 4))
    state = optimizer.init(jnp.zeros(()))._replace(count=jnp.int32(at))
    assert applied(optimizer, 3, state) == [1.0, 0.75, 0.5]


def test_a_late_count_is_served_by_the_program_of_an_early_one(near):
    lr, traces = rw.sgdr(0.1, 10).over(2**30), []
    optimizer = ro.inject(optax.sgd, learning_rate=lr)

    @jax.jit
    def update(state):
        traces.append(1)
        return optimizer.update(jnp.ones(()), state)

    state = optimizer.init(jnp.zeros(()))
    for count in (10, 10**8):
        change, _ = update(state._replace(count=jnp.int32(count)))
        assert near([lr(count)]) == [-float(change)]
    assert len(traces) == 1


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": LR}, r"adamw has no argument 'lr'. Did you mean 'learning_rate'\?"),
        ({"lr": LR, "learning_rate": LR}, "lr and learning_rate are the same, adamw calls it learning_rate. Give that"),
        ({"learning_rate": LR, "weight_deacy": 0.1}, r"no argument 'weight_deacy'. Did you mean 'weight_decay'\?"),
        ({"learning_rate": LR, "momentum": 0.9}, r"no argument 'momentum'. Did you mean 'b1'\?"),
        ({"learning_rate": LR, "beta_2": 0.9}, r"no argument 'beta_2'. Did you mean 'b2'\?"),
        ({"weight_decay": 0.1}, r"adamw needs learning_rate. Write inject\(adamw, learning_rate=\.\.\.\)"),
        ({"learning_rate": LR, "b1": 0.9 * rw.Plateau()}, "rules act on learning_rate alone, b1 takes a plain"),
        ({"learning_rate": LR, "b1": rw.Plateau()}, "rules act on learning_rate alone, b1 takes"),
        ({"learning_rate": rw.Plateau()}, r"learning_rate must be a schedule times a rule, for example 0.1 \* Plateau"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(AdapterError, match=f"inject: .*{message}"):
        ro.inject(optax.adamw, **arguments)


@pytest.mark.parametrize("lr", ["cosine", None, True, float("nan"), [0.1], {"body": 0.1}])
def test_what_is_no_schedule_is_refused(lr):
    with pytest.raises(
        ScheduleError, match=r"inject: learning_rate must be a Ratewise schedule such as .* or a number"
    ):
        ro.inject(optax.adamw, learning_rate=lr)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": rw.Cosine(0.1, 0.0)}, r"its length is not known.* inject\(\.\.\., horizon=1000\)"),
        ({"learning_rate": 0.1 * rw.Plateau(start=rw.fraction(0.1))}, "Plateau: its start .* is not resolved"),
        ({"learning_rate": rw.Linear(0.1, -0.1, 9)}, r"must be at least 0 at every update, got .*\.clip\(0\)"),
        ({"learning_rate": -0.1}, "learning_rate must be at least 0"),
        ({"learning_rate": 0.1, "b1": rw.Linear(0.5, 1.5, 9)}, r"b1 must be between 0 and 1 .* \.clip\(0, 1\)"),
        ({"learning_rate": 0.1, "weight_decay": rw.Linear(0.5, -0.5, 9)}, "weight_decay must be at least 0"),
        ({"learning_rate": 0.1, "weight_decay": -1.0}, r"weight_decay must be at least 0, got -1\.0\.$"),
        ({"learning_rate": 0.1, "b2": 2}, r"b2 must be between 0 and 1, got 2\.$"),
        ({"learning_rate": 0.1, "b1": np.float32(-0.5)}, r"b1 must be between 0 and 1, got -0\.5\.$"),
        ({"learning_rate": 0.1, "b1": rw.Custom(lambda t: 0.9 + 0.1 * t)}, "b1 must be between 0 and 1 .* at update 2"),
        ({"learning_rate": optax.constant_schedule(0.1)}, r"got <function .* is written Custom\(learning_rate\)"),
    ],
)  # fmt: skip
def test_schedules_that_cannot_be_used_are_refused(arguments, message):
    with pytest.raises(ScheduleError, match=f"inject: .*{message}"):
        ro.inject(optax.adamw, **arguments)


@pytest.mark.parametrize("factory", ["adamw", None, optax.sgd(0.1)])
def test_the_factory_must_be_a_function(factory):
    with pytest.raises(AdapterError, match=r"the first argument must be a function such as optax.adamw, got"):
        ro.inject(factory, learning_rate=0.1)


def test_the_factory_must_return_a_transformation():
    with pytest.raises(AdapterError, match="<lambda> must return a transformation of optax, got 0"):
        ro.inject(lambda learning_rate: 0, learning_rate=0.1)


def test_a_foreign_state_is_refused():
    optimizer = ro.inject(optax.sgd, learning_rate=0.1)
    with pytest.raises(
        AdapterError, match=r"the state must be what init returned, got dict\. .* optimizer.init\(params\)"
    ):
        optimizer.update(jnp.ones(()), {"count": 0})


def test_a_rate_made_for_optax_is_followed_too():
    optimizer = ro.inject(optax.sgd, learning_rate=ro.schedule(LR), momentum=ro.schedule(MOMENTUM))
    assert repr(optimizer) == repr(ro.inject(optax.sgd, learning_rate=LR, momentum=MOMENTUM))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"learning_rate": LR}, r"the state holds other rules than .*Plateau"),
        ({"learning_rate": LR * rw.Plateau() * rw.Plateau()}, r"the state holds other rules than .*Plateau"),
        ({"learning_rate": LR * rw.NewBob()}, r"the state holds other rules than .*Plateau"),
        (
            {"learning_rate": LR * rw.Plateau(), "momentum": MOMENTUM},
            "the state holds learning_rate, momentum, but",
        ),
    ],
)
def test_a_state_of_another_kind_is_refused(other, message):
    optimizer = ro.inject(optax.sgd, learning_rate=LR * rw.Plateau())
    state = ro.inject(optax.sgd, **other).init(jnp.zeros(()))
    with pytest.raises(AdapterError, match=f"inject: {message}"):
        optimizer.update(jnp.ones(()), state)


def test_a_state_with_rules_is_refused_by_a_plain_rate():
    state = ro.inject(optax.sgd, learning_rate=LR * rw.Plateau()).init(jnp.zeros(()))
    with pytest.raises(AdapterError, match="inject: the state holds other rules than"):
        ro.inject(optax.sgd, learning_rate=LR).update(jnp.ones(()), state)
