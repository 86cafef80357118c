"""timm's schedulers, the living peer: what ``step(t)`` leaves in the optimizer, for t = 0, 1, 2, ..."""

import math
import warnings
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from parity.cases import Case, Watched, check, covers, lengths, rates
from parity.living import living

from ratewise.errors import ScheduleError
from ratewise.interop import from_timm

timm = living("timm.scheduler.scheduler_factory")

ROWS = [
    "CosineLRScheduler",
    "PolyLRScheduler",
    "TanhLRScheduler",
    "StepLRScheduler",
    "MultiStepLRScheduler",
    "WSDLRScheduler",
    "PlateauLRScheduler",
    "create_scheduler_v2",
]
REFUSED: dict[str, str] = {}


def made(name: str, settings: dict[str, Any]) -> Any:
    """timm's own scheduler, over one parameter group."""
    arguments = dict(settings)
    group = {"params": [torch.zeros(1, requires_grad=True)], "lr_scale": arguments.pop("lr_scale", 1.0)}
    optimizer = torch.optim.SGD([group], lr=arguments.pop("lr"))
    arguments.pop("metrics", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of the plateau scheduler, that it will be removed
        made = getattr(timm, name)(optimizer, **arguments)
    return made[0] if name == "create_scheduler_v2" else made


def stepped(scheduler: Any, n: int) -> list[float]:
    """The rates that ``step(t)`` leaves; up to where it raises."""
    values = []
    for t in range(n):
        try:
            scheduler.step(t)
        except ValueError:
            break
        values.append(scheduler.optimizer.param_groups[0]["lr"])
    return values


def watched(settings: dict[str, Any], n: int) -> list[float]:
    """The rates of epochs 0 ... n - 1, of which each ends with ``step(epoch + 1, metric)``."""
    scheduler, metrics = made("PlateauLRScheduler", settings), settings["metrics"]
    values = []
    for t in range(n):
        values.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.step(t + 1, metrics[t % len(metrics)])
    return values


def case(name: str, variant: str, says: str, arguments: dict[str, Any], length: Any, note: str = "") -> Case:
    return Case(
        "timm", f"{name} ({variant})" if variant else name,
        st.fixed_dictionaries({"lr": rates(), **arguments}),
        lambda s: from_timm(made(name, s)),
        lambda s, n: stepped(made(name, s), n),
        says=says, length=length, note=note,
    )  # fmt: skip


def cycles_end(settings: Any) -> float:
    """Where the last cycle ends."""
    mul = settings.get("cycle_mul", 1.0)
    lasting = [settings["t_initial"] * mul**i for i in range(settings.get("cycle_limit", 1))]
    return sum(lasting) + settings["warmup_t"]


WARM = {
    "warmup_t": st.integers(0, 20),
    "warmup_lr_init": st.one_of(st.just(0.0), rates(1e-6, 1e-2)),
    "warmup_prefix": st.booleans(),
    "lr_scale": st.sampled_from([1.0, 0.5]),
}
ONE = {"t_initial": lengths(), "lr_min": st.one_of(st.just(0.0), rates(1e-6, 1e-2)), **WARM}
MANY = {
    **ONE,
    "t_initial": lengths(1, 30),
    "cycle_mul": st.sampled_from([1.0, 1.5, 2.0, 3.0]),
    "cycle_decay": st.one_of(st.just(1.0), rates(0.1, 1.0)),
    "cycle_limit": st.integers(1, 4),
}
SHRINKING = {**MANY, "cycle_mul": st.sampled_from([0.5, 0.7])}
K_DECAY = {"k_decay": st.one_of(st.just(1.0), st.floats(0.3, 3.0))}
RESTARTS = ".repeat(limit, stretch=cycle_mul, gamma=cycle_decay) >> Constant(lr_min)"
LATE = "at an exact restart the logarithm may be late: the end of the old cycle is given there, by ours too (M3)"
RAISES = "raises where the cycles have become nothing: ours holds"
NON_PREFIX = "without a prefix the schedule has begun by the end of the warm-up, and the rate jumps (M1)"

CASES = [
    case(
        "CosineLRScheduler", "", "Linear(init, lr, w) >> Cosine(lr, lr_min, n)",
        {**ONE, **K_DECAY}, cycles_end, NON_PREFIX,
    ),
    case("CosineLRScheduler", "restarts", f"Cosine(lr, lr_min, n){RESTARTS}", {**MANY, **K_DECAY}, cycles_end, LATE),
    case("CosineLRScheduler", "shrinking cycles", "Cosine(...) >> Cosine(...) >> ...", SHRINKING, cycles_end, RAISES),
    case(
        "PolyLRScheduler", "", "Linear(init, lr, w) >> Polynomial(lr, lr_min, n, power=power)",
        {**ONE, **K_DECAY, "power": st.floats(0.2, 3.0)}, cycles_end, NON_PREFIX,
    ),
    case(
        "PolyLRScheduler", "restarts", f"Polynomial(lr, lr_min, n, power=power){RESTARTS}",
        {**MANY, **K_DECAY, "power": st.floats(0.2, 3.0)}, cycles_end, LATE,
    ),
    case(
        "TanhLRScheduler", "", 'Ramp(near lr, near lr_min, n, ease="tanh(lb, ub)") >> Constant(lr_min)',
        {**ONE, "lb": st.floats(-8.0, -2.0), "ub": st.floats(1.0, 4.0)}, cycles_end,
        "misses both ends, and jumps to lr_min (M4); before the first step() the group holds lr itself",
    ),
    case(
        "TanhLRScheduler", "restarts", f'Ramp(near lr, near lr_min, n, ease="tanh(lb, ub)"){RESTARTS}',
        MANY, cycles_end, LATE,
    ),
    case(
        "StepLRScheduler", "", "Linear(init, lr, w) >> Exponential(lr, decay_rate, every=n).stairs(n)",
        {"decay_t": lengths(), "decay_rate": st.one_of(st.just(1.0), rates(0.1, 1.0)), **WARM}, lambda s: 60,
    ),
    case(
        "MultiStepLRScheduler", "", "Linear(init, lr, w) >> Piecewise([lr, lr * rate, ...], [m - 1, ...])",
        {
            "decay_t": st.lists(st.integers(1, 80), min_size=1, max_size=5).map(sorted),
            "decay_rate": rates(0.1, 1.0), **WARM,
        }, lambda s: 60,
        "a milestone takes effect one index sooner than in torch (M2)",
    ),
    case(
        "WSDLRScheduler", "", "Linear(init, lr, w) >> Constant(lr, n - d) >> Ramp(lr, lr_min, d, ease=...)",
        {
            **{name: ONE[name] for name in ("lr_min", "lr_scale", "warmup_t", "warmup_lr_init")},
            "t_initial": lengths(20, 60), "decay_t": lengths(1, 20),
            "decay_fn": st.sampled_from(["1-sqrt", "linear", "cosine", "power", "exp"]),
            "decay_power": st.floats(0.3, 3.0), "decay_ratio": st.floats(0.01, 0.9),
        }, cycles_end,
    ),
    case(
        "WSDLRScheduler", "rsqrt, power",
        "(InverseTime(lr, 1, every=timescale, power=q).clip(low=lr_min) + -lr_min) "
        "* (Constant(1, n - d) >> Ramp(1, 0, d)) + lr_min",
        {
            **{name: ONE[name] for name in ("lr_min", "lr_scale", "warmup_t", "warmup_lr_init")},
            "t_initial": lengths(20, 60), "decay_t": lengths(1, 20), "stable_fn": st.sampled_from(["rsqrt", "power"]),
            "stable_timescale": rates(0.5, 100.0), "stable_power": rates(0.1, 2.0),
            "decay_fn": st.sampled_from(["1-sqrt", "linear", "cosine", "power", "exp"]),
        }, cycles_end,
    ),
    case(
        "WSDLRScheduler", "a function", "Constant(lr, n - d) >> ... * Custom(decay_fn).along(Linear(0, 1, d))",
        {
            "t_initial": lengths(20, 60), "decay_t": lengths(1, 20), "warmup_t": st.integers(0, 20),
            "decay_fn": st.just(lambda fraction: math.cos(1.5 * fraction)), "lr_min": ONE["lr_min"],
        }, cycles_end,
    ),
    Case(
        "timm", "PlateauLRScheduler",
        st.fixed_dictionaries({
            "lr": rates(1e-2, 1.0), "decay_rate": rates(0.1, 0.9), "patience_t": st.integers(0, 4),
            "threshold": st.sampled_from([0.0, 1e-4, 0.1]), "cooldown_t": st.integers(0, 3),
            "lr_min": rates(1e-4, 1e-2), "mode": st.sampled_from(["min", "max"]),
            "warmup_t": st.integers(0, 5), "warmup_lr_init": rates(1e-4, 1e-2),
            "metrics": st.lists(st.floats(-2.0, 2.0), min_size=30, max_size=60),
        }),
        lambda s: Watched(from_timm(made("PlateauLRScheduler", s)), s["metrics"]),
        watched,
        says='(Linear(init, lr, w) >> Constant(lr)) * Plateau(decay_rate, patience, like="timm", start=w + 1)',
        note="compared under random metrics",
    ),
    *(
        case(
            "create_scheduler_v2", sched, "as the scheduler that it makes",
            {
                "sched": st.just(sched), "num_epochs": lengths(30, 60), "min_lr": ONE["lr_min"],
                "warmup_epochs": st.integers(0, 8), "warmup_prefix": st.booleans(), "decay_rate": rates(0.1, 1.0),
                **more,
            }, lambda s: s["num_epochs"] + s["warmup_epochs"],
        )
        for sched, more in {
            "cosine": {"cycle_limit": st.integers(1, 2), "cycle_decay": rates(0.1, 1.0), **K_DECAY},
            "tanh": {"cycle_limit": st.integers(1, 2)},
            "poly": K_DECAY,
            "step": {"decay_epochs": st.one_of(st.none(), st.integers(1, 40))},
            "multistep": {"decay_milestones": st.just([10, 20, 50])},
            "constant": {},
            "wsd": {"decay_epochs": st.sampled_from([None, 0.3, 7]), "decay_fn": st.sampled_from([None, "cosine"])},
            "rsqrt": {"decay_epochs": st.sampled_from([None, 0.3, 7]), "stable_timescale": rates(0.5, 30.0)},
        }.items()
    ),
]  # fmt: skip


def test_every_row_is_compared_or_refused_with_a_reason() -> None:
    covers(ROWS, CASES, REFUSED)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_whole_curve(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("mul", [1.5, 2.0, 3.0, 4.0, 5.0, 10.0])
def test_restarts_are_late_where_the_peer_is_late(mul: float) -> None:
    for t_initial in range(1, 60):
        settings = {"lr": 1.0, "t_initial": t_initial, "cycle_mul": mul, "cycle_limit": 8, "cycle_decay": 0.5}
        scheduler = made("CosineLRScheduler", settings)
        ours = from_timm(scheduler)
        for i in range(1, 8):
            end = t_initial * (mul**i - 1) / (mul - 1)
            for t in (math.ceil(end) - 1, math.ceil(end), math.ceil(end) + 1):
                scheduler.step(t)
                assert ours(t) == pytest.approx(scheduler.optimizer.param_groups[0]["lr"], abs=1e-12), (settings, t)


def test_a_name_and_an_object_give_the_same() -> None:
    settings = {"lr": 0.1, "t_initial": 30, "warmup_t": 5, "cycle_limit": 2, "cycle_mul": 2.0}
    assert from_timm("CosineLRScheduler", **settings) == from_timm(made("CosineLRScheduler", settings))
    factory = {"lr": 0.1, "num_epochs": 30, "warmup_epochs": 5}
    assert from_timm("wsd", **factory) == from_timm(made("create_scheduler_v2", {**factory, "sched": "wsd"}))


def test_updates_are_epochs_times_their_number() -> None:
    settings = {"lr": 0.1, "sched": "wsd", "num_epochs": 10, "warmup_epochs": 2}
    scheduler = made("create_scheduler_v2", {**settings, "step_on_epochs": False, "updates_per_epoch": 5})
    ours = from_timm("create_scheduler_v2", **settings, step_on_epochs=False, updates_per_epoch=5)
    for t in range(60):
        scheduler.step_update(t)
        assert ours(t) == pytest.approx(scheduler.optimizer.param_groups[0]["lr"], abs=1e-13)


def test_noise_is_refused() -> None:
    with pytest.raises(ScheduleError, match="noise is made of torch's random numbers"):
        from_timm("cosine", lr=0.1, noise=0.5)
    with pytest.raises(ScheduleError, match="noise is made"):
        from_timm(made("StepLRScheduler", {"lr": 0.1, "decay_t": 3, "noise_range_t": 5}))


@pytest.mark.parametrize(
    ("given", "arguments", "message"),
    [
        ("Cosin", {"lr": 0.1}, "CosineLRScheduler"),
        (object(), {}, "cannot read"),
        ("CosineLRScheduler", {"lr": 0.1}, "t_initial"),
        ("WSDLRScheduler", {"lr": 0.1, "t_initial": 5, "decay_t": 6}, "decay_t must be above 0 and at most t_initial"),
        ("StepLRScheduler", {"lr": 0.1, "decay_t": 3, "warmup_t": -1}, "warmup_t must be at least 0"),
        ("CosineLRScheduler", {"lr": 0.1, "t_initial": 5, "cycle_mul": 0.0}, "cycle_mul must be above 0"),
    ],
)
def test_wrong_input_is_named(given: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        from_timm(given, **arguments)
