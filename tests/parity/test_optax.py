"""optax, the living peer: its schedules in float64 and, as they usually run, in float32."""

from typing import Any

import jax
import numpy as np
import optax
import pytest
from hypothesis import strategies as st
from jax import numpy as jnp
from parity.cases import DOUBLE, SINGLE, Case, Watched, check, covers, lengths, rates

from ratewise import Constant, Linear
from ratewise.errors import ScheduleError
from ratewise.interop import from_optax, optax as interop

SCHEDULES = [x for x in vars(optax.schedules) if x.endswith(("_schedule", "_decay", "_schedules")) and x[0] != "_"]
ROWS = [*SCHEDULES, *interop.REFUSED, "reduce_on_plateau"]
REFUSED = interop.REFUSED

FAR = 200  # one length for all curves: JAX compiles anew for every other


EAGER = ("exponential_decay", "warmup_exponential_decay_schedule")
"""Evaluated one by one: compiled, XLA multiplies by the reciprocal of the steps, and stairs may come late."""


def evaluated(schedule: Any, n: int, *, double: bool, eager: bool) -> Any:
    with jax.enable_x64(double):
        if eager:
            return [float(schedule(count)) for count in jnp.arange(n)]
        return np.asarray(jax.vmap(lambda count: jnp.asarray(schedule(count), float))(jnp.arange(FAR)))[:n]


def made(name: str, settings: dict[str, Any]) -> Any:
    """The peer's own schedule; what is to be joined is given by name and arguments."""
    if "schedules" in settings:
        settings = {**settings, "schedules": [made(*inner) for inner in settings["schedules"]]}
    return getattr(optax, name)(**settings)


def imported(name: str, settings: dict[str, Any]) -> Any:
    if "schedules" in settings:
        settings = {**settings, "schedules": [imported(*inner) for inner in settings["schedules"]]}
    return from_optax(name, **settings)


def case(name: str, says: str, arguments: dict[str, Any], variant: str = "", note: str = "", *, double: bool) -> Case:
    variants = [variant] * bool(variant) + ["float32"] * (not double)
    return Case(
        "optax", f"{name} ({', '.join(variants)})" if variants else name,
        st.fixed_dictionaries(arguments),
        lambda s: imported(name, s),
        lambda s, n: evaluated(made(name, s), n, double=double, eager=name in EAGER or bool(variant)),
        says=says, tolerance=DOUBLE if double else SINGLE, note=note, length=lambda s: 30 if name in EAGER else 80,
    )  # fmt: skip


def cases(*args: Any, **kwargs: Any) -> list[Case]:
    """The row in float64 and in float32."""
    return [case(*args, **kwargs, double=double) for double in (True, False)]


def watched(settings: dict[str, Any], n: int) -> list[float]:
    """The scale of updates 0 ... n - 1, in float64; update t is followed by metric t."""
    settings = dict(settings)
    lr, metrics = settings.pop("lr"), settings.pop("metrics")
    scales = []
    with jax.enable_x64(True):
        rule = optax.contrib.reduce_on_plateau(**settings)
        gradient = jnp.ones(())
        state = rule.init(gradient)
        update = jax.jit(lambda state, value: rule.update(gradient, state, value=value)[1])
        for t in range(n):
            scales.append(float(state.scale))
            state = update(state, metrics[t % len(metrics)])
    return [lr * scale for scale in scales]


STEPS = {"transition_steps": lengths(-2, 60) | st.floats(0.5, 60.0)}
BEGIN = {"transition_begin": lengths(-5, 20)}
SHARES = st.floats(0.0, 1.5) | st.just(1.0)
BOUNDARIES = {"boundaries_and_scales": st.none() | st.dictionaries(lengths(-10, 60), SHARES, max_size=3)}
DECAY = {
    "decay_rate": st.floats(0.0625, 1.0625, width=32) | st.just(0.0),  # as float32 can hold it
    "staircase": st.booleans(),
    "end_value": st.none() | rates(),
}
WARM = {"init_value": rates() | st.just(0.0), "peak_value": rates() | st.just(0.0), "warmup_steps": lengths(-2, 20)}
POWER = st.sampled_from([1.0, 1, 2.0]) | st.floats(1.0, 3.0)
COSINE = {**WARM, "decay_steps": lengths(21, 60), "end_value": rates(), "exponent": POWER}
CYCLE = {"transition_steps": lengths(1, 60), "peak_value": rates(), "pct_start": st.floats(0.0, 1.2)}
ONCE = st.sampled_from([
    ("constant_schedule", {"value": 0.25}),
    ("linear_schedule", {"init_value": 0.5, "end_value": 0.125, "transition_steps": 9}),
    ("cosine_decay_schedule", {"init_value": 1.0, "decay_steps": 12}),
    ("exponential_decay", {"init_value": 0.75, "transition_steps": 5, "decay_rate": 0.5}),
])  # fmt: skip
DIVISORS = {"div_factor": st.floats(1.0, 50.0), "final_div_factor": st.floats(0.5, 1e5)}

CASES = [
    *cases("constant_schedule", "Constant(v)", {"value": rates()}),
    *cases(
        "polynomial_schedule", "Constant(v, begin) >> Polynomial(v, end, n, power=p)",
        {"init_value": rates(), "end_value": rates(), "power": POWER, **STEPS, **BEGIN},
        note="without steps it stays at init_value (O1)",
    ),
    case(  # in float32 the peer itself is further off near the end
        "polynomial_schedule", "Polynomial(v, end, n, power=p)",
        {"init_value": rates(), "end_value": rates(), "power": st.floats(0.1, 1.0) | st.just(0.0), **STEPS},
        "power below 1", double=True,
    ),
    *cases(
        "linear_schedule", "Constant(v, begin) >> Linear(v, end, n)",
        {"init_value": rates(), "end_value": rates(), **STEPS, **BEGIN},
    ),
    *cases("piecewise_constant_schedule", "Piecewise([...], [...])", {"init_value": rates(), **BOUNDARIES}),
    *cases(
        "exponential_decay", "Exponential(v, r, every=n).stairs(n).clip(low=end)",
        {"init_value": rates(), "transition_steps": lengths(-2, 60), **BEGIN, **DECAY},
        note="a decay_rate of 0 changes nothing (O7); compiled, a stair may come one update late",
    ),
    *cases(
        "cosine_decay_schedule", 'Ramp(v, alpha * v, n, ease="cosine(k)")',
        {"init_value": rates(), "decay_steps": lengths(), "alpha": st.floats(0.0, 1.5), "exponent": POWER},
    ),
    case(
        "cosine_decay_schedule", 'Ramp(v, alpha * v, n, ease="cosine(k)")',
        {"init_value": rates(), "decay_steps": lengths(), "exponent": st.floats(0.6, 1.0) | st.just(0.0)},
        "exponent below 1", double=True,
    ),
    *cases(
        "piecewise_interpolate_schedule", "Linear(v, s * v, n) >> Linear(s * v, ..., n) >> ...",
        {"interpolate_type": st.sampled_from(["linear", "cosine"]), "init_value": rates(), **BOUNDARIES},
    ),
    *cases(
        "linear_onecycle_schedule", "Linear(peak / d, peak, n) >> Linear(peak, peak / d, m) >> Linear(...)",
        {**CYCLE, **DIVISORS, "pct_final": st.floats(0.0, 1.2)},
        note="of coinciding boundaries the last wins (O2)",
    ),
    *cases("cosine_onecycle_schedule", "Cosine(peak / d, peak, n) >> Cosine(peak, end, n)", {**CYCLE, **DIVISORS}),
    *cases("warmup_constant_schedule", "Linear(v, peak, w)", WARM, note="without steps it stays at init_value (O1)"),
    *cases(
        "warmup_cosine_decay_schedule", 'Linear(v, peak, w) >> Ramp(peak, end, n - w, ease="cosine(k)")', COSINE,
        note="a peak of 0 stays (O6)",
    ),
    *cases(
        "warmup_exponential_decay_schedule", "Linear(v, peak, w) >> Exponential(peak, r, every=n).stairs(n)",
        {**WARM, "transition_steps": lengths(-2, 60), **BEGIN, **DECAY},
    ),
    *cases(
        "sgdr_schedule", "Linear(v, peak, w) >> Cosine(peak, end, n) >> Linear(...) >> ...",
        {"cosine_kwargs": st.lists(st.fixed_dictionaries(COSINE), min_size=1, max_size=3)},
    ),
    *cases(
        "join_schedules", "a.until(n) >> b",
        {"schedules": st.lists(ONCE, min_size=1, max_size=4), "boundaries": st.lists(lengths(-5, 40), max_size=4)},
        note="boundaries out of order drop schedules (O5)",
    ),
    Case(
        "optax", "reduce_on_plateau",
        st.fixed_dictionaries({
            "lr": rates(), "factor": st.floats(0.1, 0.9), "patience": st.integers(0, 3), "rtol": st.floats(1e-4, 0.3),
            "atol": st.floats(0.0, 0.2), "cooldown": st.integers(0, 3), "accumulation_size": st.integers(1, 3),
            "min_scale": st.floats(0.0, 0.5),
            "metrics": st.lists(st.floats(-1.0, 3.0) | st.sampled_from([1.0, float("nan")]), min_size=1, max_size=20),
        }),
        lambda s: Watched(from_optax("reduce_on_plateau", **{k: s[k] for k in s if k != "metrics"}), s["metrics"]),
        watched,
        says='Constant(lr) * Plateau(f, p, like="optax")', length=lambda s: 30,
        note="patience 0 cuts at every improvement (O8)",
    ),
]  # fmt: skip


def test_every_row_is_compared_or_refused_with_a_reason() -> None:
    covers(ROWS, CASES, REFUSED)
    assert set(interop.PEER.entries) == {case.row.split(" (")[0] for case in CASES} | {"contrib.reduce_on_plateau"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_whole_curve(case: Case) -> None:
    slow = any(part in case.row for part in ("reduce_on_plateau", "interpolate", "below 1"))
    check(case, examples=6 if slow else 15)  # JAX compiles anew for each


def test_stairs_come_late_in_the_compiled_peer_and_on_time_in_ours() -> None:
    arguments = {"init_value": 1.0, "transition_steps": 41, "decay_rate": 0.5, "staircase": True}
    compiled = jax.jit(optax.exponential_decay(**arguments))
    assert [float(compiled(t)) for t in (40, 42)] == [1.0, 0.5]
    assert float(compiled(41)) in (0.5, 1.0)  # XLA makes it 41 * (1 / 41), which is below 1 in float32
    assert from_optax("exponential_decay", **arguments).values(40, 43) == [1.0, 0.5, 0.5]


def test_join_takes_any_schedule_of_ours_and_reads_boundaries_as_the_peer_does() -> None:
    a, b, c = Linear(1.0, 0.0, 8), Constant(0.5), Linear(0.25, 0.75, 4)
    assert from_optax("join_schedules", schedules=[a, b], boundaries=[4]).values(3, 6) == [0.625, 0.5, 0.5]
    late = from_optax("join_schedules", schedules=[a, b, c], boundaries=[6, 2])  # the 6 comes too late
    assert late.values(1, 5) == [0.875, 0.25, 0.375, 0.5]
    assert from_optax("join_schedules", schedules=[a, b, c], boundaries=[]).values(0, 3) == a.values(0, 3)


def test_reduce_on_plateau_scales_a_schedule_too() -> None:
    rule = from_optax("contrib.reduce_on_plateau", factor=0.5, patience=1, lr=Linear(1.0, 0.0, 4))
    assert rule.values(0, 5) == [1.0, 0.75, 0.5, 0.25, 0.0]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("cosine_schedule", {}, "unknown schedule 'cosine_schedule'"),
        ("inject_hyperparams", {"inner_factory": None}, "wraps a whole optimizer"),
        ("constant_schedule", {}, "missing a required argument: 'value'"),
        ("linear_schedule", {"init_value": 1, "end_value": 0, "transition_steps": None}, "transition_steps must be"),
        ("polynomial_schedule", {"init_value": 1, "end_value": 0, "power": -1, "transition_steps": 3}, "power must be"),
        ("cosine_decay_schedule", {"init_value": 1, "decay_steps": 0}, "decay_steps must be above 0"),
        ("cosine_decay_schedule", {"init_value": 1, "decay_steps": 3, "exponent": -1.0}, "exponent must be at least 0"),
        ("piecewise_constant_schedule", {"init_value": 1, "boundaries_and_scales": {3: -1}}, "must be at least 0"),
        ("piecewise_constant_schedule", {"init_value": 1, "boundaries_and_scales": [3]}, "must be a dictionary"),
        ("linear_onecycle_schedule", {"transition_steps": 0, "peak_value": 1.0}, "transition_steps must be"),
        ("sgdr_schedule", {"cosine_kwargs": []}, "at least one cycle"),
        ("sgdr_schedule", {"cosine_kwargs": [{}]}, "warmup_cosine_decay_schedule: missing"),
        ("join_schedules", {"schedules": [lambda t: t], "boundaries": []}, "must be schedules of ours"),
        ("join_schedules", {"schedules": [], "boundaries": []}, "at least one"),
        ("reduce_on_plateau", {"rtol": 0.0}, "needs rtol or atol"),
        ("exponential_decay", {"init_value": 1, "transition_steps": 3, "decay_rate": -0.5}, "gamma must be above 0"),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        from_optax(name, **arguments)
