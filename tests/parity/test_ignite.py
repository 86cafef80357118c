"""pytorch-ignite's parameter schedulers, the living peer: value for value, call by call."""

import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from parity.cases import Case, check, covers, lengths, rates
from parity.living import living

from ratewise import Constant, Cosine, Linear
from ratewise.errors import ScheduleError
from ratewise.interop import from_ignite

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    handlers = living("ignite.handlers.param_scheduler")
    states = living("ignite.handlers.state_param_scheduler")

ROWS = [
    *("LinearCyclicalScheduler", "CosineAnnealingScheduler", "PiecewiseLinear", "ConcatScheduler"),
    *("ParamGroupScheduler", "LRScheduler", "create_lr_scheduler_with_warmup", "ReduceLROnPlateauScheduler"),
    *("LambdaStateScheduler", "PiecewiseLinearStateScheduler", "ExpStateScheduler", "StepStateScheduler"),
    *("MultiStepStateScheduler", "BatchSizeScheduler"),
]
REFUSED = {
    "BatchSizeScheduler": "sets a batch size, which is no rate",
}


def optimizer(*lrs: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [torch.zeros(1)], "lr": lr} for lr in lrs])


def called(scheduler: Any, n: int, used: torch.optim.Optimizer, group: int = 0) -> list[float]:
    """What the handler sets at its calls 0 ... n - 1; where it raises, the last."""
    values: list[float] = []
    for _ in range(n):
        try:
            scheduler(None)
        except (ZeroDivisionError, ValueError):
            return values + values[-1:] * (n - len(values))
        values.append(float(used.param_groups[group]["lr"]))
    return values


def called_of(made: Any, s: dict[str, Any], n: int, group: int = 0) -> list[float]:
    scheduler, used = made(s)
    return called(scheduler, n, used, group)


def stated(scheduler: Any, n: int) -> list[float]:
    """What a scheduler of the engine's state sets at its calls 0 ... n - 1."""
    engine, values = SimpleNamespace(state=SimpleNamespace()), []
    for _ in range(n):
        scheduler(engine)
        values.append(float(engine.state.x))
    return values


values = st.floats(-1.0, 1.0, allow_subnormal=False)
steps = st.none() | st.integers(0, 50)
mults = st.just(1.0) | st.sampled_from([0.5, 2.0, 0.0, -1.0]) | st.floats(-1.2, 1.5)
grows = st.just(1.0) | st.sampled_from([2, 3.0]) | st.floats(1.0, 2.5)
CYCLE = {
    "start_value": values,
    "end_value": values,
    "cycle_size": lengths(2, 25),
    "start_value_mult": mults,
    "end_value_mult": mults,
}


def cyclic(name: str, more: dict[str, st.SearchStrategy[Any]], says: str) -> Case:
    kind = name.split(" (", maxsplit=1)[0]

    def made(s: dict[str, Any]) -> tuple[Any, torch.optim.Optimizer]:
        used = optimizer(0.5)
        return getattr(handlers, kind)(used, "lr", **s["given"]), used

    def ours(s: dict[str, Any]) -> Any:
        scheduler, used = made(s)
        if s["steps"] is None:
            return from_ignite(kind, param_name="lr", **s["given"])
        called(scheduler, s["steps"] if recoverable(s) else 0, used)
        return from_ignite(scheduler)

    def theirs(s: dict[str, Any], n: int) -> list[float]:
        scheduler, used = made(s)
        return called(scheduler, n, used)

    return Case(
        "ignite",
        name,
        st.fixed_dictionaries({"given": st.fixed_dictionaries({**CYCLE, **more}), "steps": steps}),
        ours,
        theirs,
        says=says,
        length=lambda s: 60,
        note="end_value is not reached at a restart; held where the cycles shrink to nothing",
    )


def recoverable(s: dict[str, Any]) -> bool:
    """Whether the first cycle can be told from a later one."""
    mults = (s["given"]["start_value_mult"], s["given"]["end_value_mult"])
    return s["given"]["cycle_mult"] >= 1 and all(abs(mult) > 1e-3 for mult in mults)


POINTS = st.lists(st.tuples(st.integers(-10, 40), values), min_size=1, max_size=6).map(
    lambda points: sorted(points, key=lambda point: point[0])
)


def piecewise(s: dict[str, Any]) -> tuple[Any, torch.optim.Optimizer]:
    used = optimizer(0.5)
    return handlers.PiecewiseLinear(used, "lr", milestones_values=s["milestones_values"]), used


def read_later(made: Any, s: dict[str, Any]) -> Any:
    scheduler, used = made(s)
    called(scheduler, 13, used)
    return from_ignite(scheduler)


kept = st.just(1.0) | rates(0.2, 1.5)  # multipliers that can be undone
PART = st.one_of(
    st.tuples(st.just("PiecewiseLinear"), st.fixed_dictionaries({"milestones_values": POINTS})),
    st.tuples(
        st.just("CosineAnnealingScheduler"),
        st.fixed_dictionaries(
            {
                **CYCLE,
                "start_value_mult": kept,
                "end_value_mult": kept,
                "cycle_mult": grows,
                "warmup_duration": lengths(0, 4),
            }
        ),
    ),
)
CONCAT = st.integers(1, 3).flatmap(
    lambda n: st.fixed_dictionaries(
        {
            "parts": st.lists(PART, min_size=n + 1, max_size=n + 1),
            "durations": st.lists(st.integers(-1, 15) | lengths(1, 15), min_size=n, max_size=n),
            "living": st.booleans(),
        }
    )
)


def parts(s: dict[str, Any], used: torch.optim.Optimizer, group: int | None = None) -> list[Any]:
    return [getattr(handlers, name)(used, "lr", param_group_index=group, **own) for name, own in s["parts"]]


def concat(s: dict[str, Any]) -> tuple[Any, torch.optim.Optimizer]:
    used = optimizer(0.5)
    return handlers.ConcatScheduler(parts(s, used), s["durations"]), used


def groups(s: dict[str, Any]) -> tuple[Any, torch.optim.Optimizer]:
    used = optimizer(0.5, 0.25)
    first, second = (
        getattr(handlers, name)(used, "lr", param_group_index=i, **own) for i, (name, own) in enumerate(s["parts"])
    )
    return handlers.ParamGroupScheduler([second, first] if s["swapped"] else [first, second]), used


TORCH: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "StepLR": st.fixed_dictionaries({"step_size": lengths(1, 9), "gamma": rates(0.1, 1.0)}),
    "MultiStepLR": st.fixed_dictionaries(
        {"milestones": st.lists(st.integers(1, 40), max_size=4), "gamma": rates(0.1, 1.0)}
    ),
    "ExponentialLR": st.fixed_dictionaries({"gamma": rates(0.7, 1.0)}),
    "ConstantLR": st.fixed_dictionaries({"factor": rates(0.1, 1.0), "total_iters": lengths(1, 20)}),
    "LinearLR": st.fixed_dictionaries(
        {"start_factor": rates(0.1, 1.0), "end_factor": rates(0.1, 1.0), "total_iters": lengths(1, 20)}
    ),
    "PolynomialLR": st.fixed_dictionaries({"total_iters": lengths(2, 20), "power": st.floats(0.5, 3.0)}),
    "CosineAnnealingLR": st.fixed_dictionaries({"T_max": lengths(1, 30), "eta_min": rates(1e-4, 0.05)}),
    "CosineAnnealingWarmRestarts": st.fixed_dictionaries(
        {"T_0": lengths(1, 12), "T_mult": lengths(1, 3), "eta_min": rates(1e-4, 0.05)}
    ),
}
WRAPPED = st.fixed_dictionaries(
    {
        "lr": rates(0.05, 1.0),
        "own": st.sampled_from(sorted(TORCH)).flatmap(lambda name: st.tuples(st.just(name), TORCH[name])),
        "use_legacy": st.booleans(),
        "living": st.booleans(),
        "steps": st.integers(0, 30),
    }
)


def torchs(s: dict[str, Any]) -> tuple[Any, torch.optim.Optimizer]:
    used, (name, own) = optimizer(s["lr"]), s["own"]
    return getattr(torch.optim.lr_scheduler, name)(used, **own), used


def wrapper(s: dict[str, Any]) -> tuple[Any, torch.optim.Optimizer]:
    inner, used = torchs(s)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return handlers.LRScheduler(inner, use_legacy=s["use_legacy"]), used


def wrapped(s: dict[str, Any]) -> Any:
    if not s["living"]:
        return from_ignite("LRScheduler", lr_scheduler=torchs(s)[0], use_legacy=s["use_legacy"])
    scheduler, used = wrapper(s)
    called(scheduler, s["steps"], used)
    return from_ignite(scheduler)


WARM = {
    "warmup_start_value": values,
    "warmup_duration": lengths(2, 12),
    "warmup_end_value": st.none() | rates(0.01, 1.0),
}
WARMED = st.fixed_dictionaries(
    {
        "lr": rates(0.05, 1.0),
        "part": PART,
        "own": st.sampled_from(sorted(set(TORCH) - {"CosineAnnealingWarmRestarts"})).flatmap(
            lambda name: st.tuples(st.just(name), TORCH[name])
        ),
        "warm": st.fixed_dictionaries(WARM),
        "of_torch": st.booleans(),
        "met": st.booleans(),
        "living": st.booleans(),
    }
)


def followed(s: dict[str, Any]) -> tuple[Any, torch.optim.Optimizer, dict[str, Any]]:
    """What comes after the warm-up, which sometimes ends just where that begins."""
    if s["of_torch"]:
        return *torchs(s), s["warm"]
    used, (name, own) = optimizer(s["lr"]), s["part"]
    body, warm = getattr(handlers, name)(used, "lr", **own), dict(s["warm"])
    if s["met"]:
        warm["warmup_end_value"] = float(body.get_param())
    return body, used, warm


def warmed(s: dict[str, Any]) -> Any:
    body, used, warm = followed(s)
    if not s["living"]:
        return from_ignite("create_lr_scheduler_with_warmup", lr_scheduler=body, **warm)
    scheduler = handlers.create_lr_scheduler_with_warmup(body, **warm)
    if not s["of_torch"]:
        called(scheduler, 9, used)
    return from_ignite(scheduler)


def warmed_theirs(s: dict[str, Any], n: int) -> list[float]:
    body, used, warm = followed(s)
    return called(handlers.create_lr_scheduler_with_warmup(body, **warm), n, used)


def state(name: str, arguments: dict[str, st.SearchStrategy[Any]], says: str) -> Case:
    def made(s: dict[str, Any]) -> Any:
        return getattr(states, name)(param_name="x", **s["given"])

    def ours(s: dict[str, Any]) -> Any:
        if not s["living"]:
            return from_ignite(name, param_name="x", **s["given"])
        scheduler = made(s)
        stated(scheduler, 11)
        return from_ignite(scheduler)

    return Case(
        "ignite",
        name,
        st.fixed_dictionaries({"given": st.fixed_dictionaries(arguments), "living": st.booleans()}),
        ours,
        lambda s, n: stated(made(s), n),
        says=says,
        note="the first value is that of index 1",
    )


def hyperbola(index: int) -> float:
    return 1.0 / index


def root(index: int) -> float:
    return index**-0.5


PLATEAU = st.fixed_dictionaries(
    {
        "lr": rates(0.01, 1.0),
        "given": st.fixed_dictionaries(
            {
                "mode": st.sampled_from(["min", "max"]),
                "factor": rates(0.1, 0.9),
                "patience": st.integers(0, 4),
                "threshold": rates(1e-4, 0.1),
                "threshold_mode": st.sampled_from(["rel", "abs"]),
                "cooldown": st.integers(0, 3),
                "min_lr": st.floats(0.0, 0.2),
                "param_group_index": st.none() | st.just(0),
            }
        ),
        "metrics": st.lists(st.floats(-2.0, 2.0), min_size=40, max_size=40),
        "living": st.booleans(),
    }
)


def ruled(s: dict[str, Any]) -> Any:
    """Our rule's rates after each metric, as a curve."""
    made = handlers.ReduceLROnPlateauScheduler(optimizer(s["lr"]), "loss", **s["given"])
    lr = from_ignite(made) if s["living"] else from_ignite("ReduceLROnPlateauScheduler", lr=s["lr"], **s["given"])
    rates = [lr(0) * scale for scale in lr.rules[0].scales(s["metrics"])]
    return SimpleNamespace(values=lambda start, stop: rates[start:stop])


def plateau_theirs(s: dict[str, Any], n: int) -> list[float]:
    kind, metrics = handlers.ReduceLROnPlateauScheduler, s["metrics"]
    return [row[1] for row in kind.simulate_values(len(metrics), metrics, s["lr"], **s["given"])]


CASES = [
    cyclic(
        "LinearCyclicalScheduler",
        {"cycle_mult": st.just(1.0) | grows | st.floats(0.2, 1.0), "monotonic": st.booleans()},
        "(Linear(a, b, n / 2) >> Linear(b, a, n / 2)).repeat(stretch=mult)",
    ),
    cyclic(
        "LinearCyclicalScheduler (with warm-ups)",
        {"cycle_mult": grows, "monotonic": st.just(True), "warmup_duration": lengths(0, 9)},
        "(Linear(a, b, n) >> Linear(b, a, w)).repeat(stretch=mult)",
    ),
    cyclic(
        "CosineAnnealingScheduler",
        {"cycle_mult": st.just(1.0) | grows | st.floats(0.2, 1.0), "warmup_duration": lengths(0, 9)},
        "(Cosine(a, b, n) >> Linear(b, a, w)).repeat(stretch=mult)",
    ),
    Case(
        "ignite",
        "PiecewiseLinear",
        st.fixed_dictionaries({"milestones_values": POINTS, "living": st.booleans()}),
        lambda s: (
            read_later(piecewise, s)
            if s["living"]
            else from_ignite("PiecewiseLinear", milestones_values=s["milestones_values"])
        ),
        lambda s, n: called_of(piecewise, s, n),
        says="Constant(v, m) >> Linear(v, w, n) >> ...",
    ),
    Case(
        "ignite",
        "ConcatScheduler",
        CONCAT,
        lambda s: (
            read_later(concat, s)
            if s["living"]
            else from_ignite("ConcatScheduler", schedulers=parts(s, optimizer(0.5)), durations=s["durations"])
        ),
        lambda s, n: called_of(concat, s, n),
        says="a.until(n) >> b.until(m) >> c",
    ),
    Case(
        "ignite",
        "ParamGroupScheduler",
        st.fixed_dictionaries(
            {
                "parts": st.lists(PART, min_size=2, max_size=2),
                "swapped": st.booleans(),
                "group": st.integers(0, 1),
            }
        ),
        lambda s: from_ignite(groups(s)[0], group=s["group"]),
        lambda s, n: called_of(groups, s, n, s["group"]),
        says="{group: a, other: b}",
    ),
    Case(
        "ignite",
        "LRScheduler",
        WRAPPED,
        wrapped,
        lambda s, n: called_of(wrapper, s, n),
        says="from_torch(...)",
        note="get_lr() alone: some of torch's are one index ahead or scaled as a whole",
    ),
    Case(
        "ignite",
        "create_lr_scheduler_with_warmup",
        WARMED,
        warmed,
        warmed_theirs,
        says="Linear(start, end, n - 1) >> a",
    ),
    Case(
        "ignite",
        "ReduceLROnPlateauScheduler",
        PLATEAU,
        ruled,
        plateau_theirs,
        says='Constant(lr) * Plateau(factor, patience, like="ignite")',
        length=lambda s: 10,  # 40 metrics
        note="min_lr counts with param_group_index=0 alone",
    ),
    state("LambdaStateScheduler", {"lambda_obj": st.sampled_from([hyperbola, root])}, 'Custom("module:f").after(1)'),
    state(
        "PiecewiseLinearStateScheduler", {"milestones_values": POINTS}, "Constant(v, m - 1) >> Linear(v, w, n) >> .."
    ),
    state(
        "ExpStateScheduler",
        {"initial_value": values, "gamma": rates(0.1, 1.2) | st.just(0.0)},
        "Exponential(v * gamma, gamma)",
    ),
    state(
        "StepStateScheduler",
        {"initial_value": values, "gamma": rates(0.1, 1.2), "step_size": lengths(1, 12)},
        "Exponential(v, gamma, every=n).stairs(n).after(1)",
    ),
    state(
        "MultiStepStateScheduler",
        {"initial_value": values, "gamma": values, "milestones": st.lists(st.integers(0, 50), max_size=5).map(sorted)},
        "Piecewise([v, v * gamma, ...], [m - 1, ...])",
    ),
]


def test_every_row_is_compared_or_refused_with_a_reason() -> None:
    covers(ROWS, CASES, REFUSED)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_whole_curve(case: Case) -> None:
    check(case, examples=40)


def test_an_object_that_lost_its_first_cycle_is_refused() -> None:
    used = optimizer(0.5)
    scheduler = handlers.CosineAnnealingScheduler(used, "lr", 1.0, 0.0, 10, cycle_mult=0.5)
    assert from_ignite(scheduler)(0) == 1.0
    called(scheduler, 12, used)
    with pytest.raises(ScheduleError, match=r"past its first cycle, and cycle_mult=0\.5"):
        from_ignite(scheduler)
    zero = handlers.CosineAnnealingScheduler(used, "lr", 1.0, 0.0, 10, start_value_mult=0.0)
    called(zero, 12, used)
    with pytest.raises(ScheduleError, match="a multiplier of 0"):
        from_ignite(zero)


def test_reading_changes_nothing() -> None:
    (read, first), (left, second) = (
        (handlers.CosineAnnealingScheduler(used, "lr", 1.0, 0.1, 5, cycle_mult=1.5, warmup_duration=2), used)
        for used in (optimizer(0.5), optimizer(0.5))
    )
    called(read, 9, first), called(left, 9, second)
    before = read.state_dict()
    from_ignite(read)
    assert read.state_dict() == before
    assert called(read, 30, first) == called(left, 30, second)


def test_i1_ignite_never_reaches_the_end_of_a_cycle_and_ours_does_in_a_run_of_one_cycle() -> None:
    used = optimizer(0.5)
    theirs = called(handlers.CosineAnnealingScheduler(used, "lr", 1.0, 0.0, 4), 8, used)
    assert min(theirs) > 0.1
    assert Cosine(1.0, 0.0, 4).values(0, 8)[4:] == [0.0] * 4


def test_i1_ignite_overwrites_its_start_value_and_ours_answers_for_any_update() -> None:
    used = optimizer(0.5)
    scheduler = handlers.LinearCyclicalScheduler(used, "lr", 1.0, 0.0, 4, start_value_mult=0.5, monotonic=True)
    ours = from_ignite(scheduler)
    called(scheduler, 5, used)
    assert scheduler.start_value == 0.5
    assert ours(0) == from_ignite(scheduler)(0) == 1.0


def test_a_schedule_of_ours_may_stand_inside() -> None:
    ours = from_ignite("ConcatScheduler", schedulers=[Linear(0.0, 1.0, 5), Constant(1.0)], durations=[5])
    assert ours == Linear(0.0, 1.0, 5) >> Constant(1.0)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("CosineAnnealing", {}, "Did you mean 'CosineAnnealingScheduler'"),
        ("CosineAnnealingScheduler", {"start_value": 1.0, "end_value": 0.0, "cycle_size": 1}, "cycle_size must be"),
        (
            "LinearCyclicalScheduler",
            {"start_value": 1.0, "end_value": 0.0, "cycle_size": 4, "warmup_duration": 2},
            "needs monotonic=True",
        ),
        ("PiecewiseLinear", {"milestones_values": [(5, 1.0), (3, 0.5)]}, "milestones must rise"),
        ("ConcatScheduler", {"schedulers": [Constant(1.0)], "durations": [1]}, "durations must be one fewer"),
        ("BatchSizeScheduler", {"dataloader": None}, "a batch size, which is no rate"),
        (
            "create_lr_scheduler_with_warmup",
            {"lr_scheduler": Constant(1.0), "warmup_start_value": 0.0, "warmup_duration": 1},
            "warmup_duration must be at least 2",
        ),
        (
            "create_lr_scheduler_with_warmup",
            {"lr_scheduler": Constant(1.0), "warmup_start_value": 0.0, "warmup_duration": 3},
            "give warmup_end_value",
        ),
    ],
)
def test_wrong_settings_are_named(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        from_ignite(name, **arguments)
