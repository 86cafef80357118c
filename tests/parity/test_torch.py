"""torch.optim.lr_scheduler, the living peer."""

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import reject, strategies as st
from parity.cases import DOUBLE, SINGLE, Case, check, covers, lengths, rates
from torch.optim import lr_scheduler as peer
from torch.optim.swa_utils import SWALR

from ratewise.core.ruled import Ruled
from ratewise.core.shapes import Custom
from ratewise.errors import ScheduleError
from ratewise.interop import torch as interop
from ratewise.interop.torch import from_torch

pytestmark = pytest.mark.filterwarnings("ignore:.*lr_scheduler.step:UserWarning", "ignore:.*call of:UserWarning")

ROWS = [
    "LambdaLR", "MultiplicativeLR", "StepLR", "MultiStepLR", "ConstantLR", "LinearLR", "ExponentialLR", "PolynomialLR",
    "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR", "OneCycleLR", "SequentialLR", "ChainedScheduler",
    "ReduceLROnPlateau", "swa_utils.SWALR",
]  # fmt: skip
REFUSED: dict[str, str] = {}
KINDS: dict[str, Any] = {**vars(peer), "SWALR": SWALR}


def slower(t: int) -> float:
    return 1 / (1 + t)


def wavy(t: int) -> float:
    return 1.0 + 0.1 * math.sin(t)


def fading(c: float) -> float:
    return 1 / (1 + c)


FUNCTIONS = st.sampled_from([slower, wavy])


def optimizer(*bases: float, kind: Any = torch.optim.SGD, **given: Any) -> Any:
    """An optimizer with a group for each rate."""
    return kind([{"params": [torch.zeros(1, requires_grad=True)], "lr": lr} for lr in bases], **given)


def seen(scheduler: Any, n: int, group: int = 0) -> list[float]:
    """The rates that the peer leaves for updates 0 ... n - 1; fewer where it raises."""
    values = []
    for _ in range(n):
        values.append(float(scheduler.optimizer.param_groups[group]["lr"]))
        try:
            scheduler.step()
        except (ValueError, ZeroDivisionError, NotImplementedError):
            break
    return values


def made(name: str, s: dict[str, Any], momentum: float = 0.9) -> Any:
    arguments = dict(s)
    return KINDS[name](optimizer(arguments.pop("lr", 1.0), momentum=momentum), **arguments)


def close(ours: Any, theirs: list[float], beyond: int = 0, tolerance: float = DOUBLE) -> None:
    """Ours are theirs, and their last where they raised."""
    expected = np.array(theirs + theirs[-1:] * beyond)
    peak = float(np.max(np.abs(expected))) or 1.0
    assert float(np.max(np.abs(np.array(ours.values(0, len(expected))) - expected))) <= tolerance * peak


def case(row: str, arguments: dict[str, Any], says: str, length: Any = None, note: str = "", **given: Any) -> Case:
    """A class by its name, read from the object; the name with the same arguments must give an equal schedule."""
    name = row.split(" (", maxsplit=1)[0].removeprefix("swa_utils.")

    def ours(s: dict[str, Any]) -> Any:
        read = from_torch(made(name, s))
        named = from_torch(name, **s)
        n = 2 * int(length(s) if length else 40) + 20
        close(named, read.values(0, n), tolerance=1e-14)
        return read

    def theirs(s: dict[str, Any], n: int) -> list[float]:
        return seen(made(name, s), n)

    drawn = st.fixed_dictionaries(arguments)
    return Case("torch", row, drawn, ours, theirs, says=says, length=length or (lambda s: 40), note=note, **given)


iters = st.one_of(lengths(0), st.just(0), st.floats(0.5, 20).map(lambda x: round(x, 2)))
ONE_CYCLE = {
    "max_lr": rates(), "total_steps": lengths(2), "pct_start": st.one_of(st.floats(0, 1), st.just(0.3)),
    "anneal_strategy": st.sampled_from(["cos", "linear"]), "div_factor": rates(1.0, 50.0),
    "final_div_factor": rates(1.0, 1e5), "three_phase": st.booleans(),
}  # fmt: skip
CYCLIC = {
    "base_lr": rates(),
    "max_lr": rates(),
    "step_size_up": lengths(),
    "step_size_down": st.one_of(st.none(), lengths(0)),
    "mode": st.sampled_from(["triangular", "triangular2", "exp_range"]),
    "gamma": rates(0.5, 1.0),
}


def one_cycle_case(row: str, **fixed: Any) -> Case:
    """OneCycleLR where it can be made at all (T1)."""
    new = case(
        row, {**ONE_CYCLE, **fixed}, "Ramp(low, high, p*T - 1) >> Ramp(high, end, T - p*T)",
        lambda s: s["total_steps"], "raises past update T, where ours holds",
    )  # fmt: skip
    possible = new.arguments.filter(lambda s: s["pct_start"] * s["total_steps"] != 1)
    return Case(
        new.peer, row, possible, new.ours, new.theirs, says=new.says, length=new.length, note=new.note
    )  # fmt: skip


NESTS = st.integers(0, 2**31)


CASES = [
    case("LambdaLR", {"lr": rates(), "lr_lambda": FUNCTIONS}, "lr * Custom(f)"),
    case("MultiplicativeLR", {"lr": rates(), "lr_lambda": FUNCTIONS}, "Custom (the product of f(1) ... f(t))"),
    case(
        "StepLR",
        {"lr": rates(), "step_size": lengths(), "gamma": rates(0.0, 1.05)},
        "Exponential(lr, gamma, every=n).stairs(n)",
        lambda s: s["step_size"] * 2,
    ),
    case(
        "MultiStepLR",
        {"lr": rates(), "milestones": st.lists(lengths(0), max_size=5), "gamma": rates(0.0, 1.5)},
        "Piecewise([lr, lr * gamma, ...], milestones)",
        lambda s: max(s["milestones"], default=1),
    ),
    case(
        "ConstantLR",
        {"lr": rates(), "factor": rates(0.0, 1.0), "total_iters": iters},
        "Constant(lr * factor, n) >> Constant(lr)",
        lambda s: s["total_iters"],
        "total_iters=0 stays at factor (T10)",
    ),
    case(
        "LinearLR",
        {"lr": rates(), "start_factor": rates(0.01, 1.0), "end_factor": rates(0.0, 1.0), "total_iters": iters},
        "Linear(lr * start, lr * end, n)",
        lambda s: s["total_iters"],
    ),
    case("ExponentialLR", {"lr": rates(), "gamma": st.one_of(st.just(0.0), rates(0.5, 1.1))}, "Exponential(lr, gamma)"),
    case(
        "PolynomialLR",
        {"lr": rates(), "total_iters": iters, "power": st.one_of(st.just(0.0), rates(0.1, 4.0))},
        "Polynomial(lr, 0.0, n, power=p)",
        lambda s: s["total_iters"],
    ),
    case(
        "CosineAnnealingLR",
        {"lr": rates(), "T_max": lengths(), "eta_min": rates(0.0, 0.1)},
        "(Cosine(lr, low, n) >> Cosine(low, lr, n)).repeat()",
        lambda s: s["T_max"] * 2,
        "climbs back (T12)",
    ),
    case(
        "CosineAnnealingWarmRestarts",
        {"lr": rates(), "T_0": lengths(1, 20), "T_mult": lengths(1, 4), "eta_min": rates(0.0, 0.1)},
        "Cosine(lr, low, n).repeat(stretch=m)",
        lambda s: 200,
    ),
    case(
        "CyclicLR",
        CYCLIC,
        "(Linear(low, high, up) >> Linear(high, low, down)).repeat()",
        lambda s: 2 * s["step_size_up"] + 20,
    ),
    case(
        "CyclicLR (scale_fn)",
        {**CYCLIC, "scale_fn": st.just(fading), "scale_mode": st.sampled_from(["cycle", "iterations"])},
        "low + (high - low) * triangles * Custom(f)",
    ),
    one_cycle_case("OneCycleLR"),
    one_cycle_case(
        "OneCycleLR (whole joints)",
        pct_start=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
        total_steps=st.sampled_from([1, 8, 20]),
    ),
    case(
        "swa_utils.SWALR",
        {
            "lr": rates(),
            "swa_lr": rates(),
            "anneal_epochs": lengths(0),
            "anneal_strategy": st.sampled_from(["cos", "linear"]),
        },
        "Cosine(lr, swa_lr, n)",
        lambda s: s["anneal_epochs"],
        "from the base rate, as on a fresh optimizer",
    ),
]


# -- trees: drawn as a description, and made twice ---------------------------------------------------------------

small = st.integers(1, 12)
LEAVES = st.one_of(
    st.tuples(
        st.just("LinearLR"),
        st.fixed_dictionaries({"start_factor": rates(0.1, 1.0), "end_factor": rates(0.1, 1.0), "total_iters": small}),
    ),
    st.tuples(
        st.just("ConstantLR"), st.fixed_dictionaries({"factor": rates(0.1, 1.0), "total_iters": st.integers(0, 12)})
    ),
    st.tuples(st.just("StepLR"), st.fixed_dictionaries({"step_size": small, "gamma": rates(0.5, 1.0)})),
    st.tuples(
        st.just("MultiStepLR"),
        st.fixed_dictionaries({"milestones": st.lists(st.integers(0, 20), max_size=4), "gamma": rates(0.5, 1.0)}),
    ),
    st.tuples(st.just("ExponentialLR"), st.fixed_dictionaries({"gamma": rates(0.8, 1.0)})),
    st.tuples(st.just("PolynomialLR"), st.fixed_dictionaries({"total_iters": small, "power": rates(0.5, 2.0)})),
    st.tuples(
        st.just("CosineAnnealingLR"),
        st.fixed_dictionaries({"T_max": small, "eta_min": st.one_of(st.just(0.0), rates(1e-4, 0.05))}),
    ),
    st.tuples(
        st.just("CosineAnnealingWarmRestarts"), st.fixed_dictionaries({"T_0": small, "T_mult": st.integers(1, 2)})
    ),
    st.tuples(
        st.just("CyclicLR"), st.fixed_dictionaries({"base_lr": rates(), "max_lr": rates(), "step_size_up": small})
    ),
    st.tuples(
        st.just("OneCycleLR"), st.fixed_dictionaries({"max_lr": rates(), "total_steps": st.integers(4, 30)})
    ).filter(lambda x: 0.3 * x[1]["total_steps"] != 1),
    st.tuples(st.just("LambdaLR"), st.fixed_dictionaries({"lr_lambda": FUNCTIONS})),
    st.tuples(st.just("MultiplicativeLR"), st.fixed_dictionaries({"lr_lambda": FUNCTIONS})),
    st.tuples(
        st.just("SWALR"),
        st.fixed_dictionaries(
            {
                "swa_lr": rates(),
                "anneal_epochs": st.integers(0, 12),
                "anneal_strategy": st.sampled_from(["cos", "linear"]),
            }
        ),
    ),
)


def sequentials(parts: Any) -> Any:
    return st.lists(st.tuples(parts, st.integers(0, 15)), min_size=1, max_size=4).map(
        lambda drawn: ("SequentialLR", [part for part, _ in drawn], sorted(m for _, m in drawn[1:]))
    )


def chaineds(parts: Any) -> Any:
    return st.lists(parts, min_size=1, max_size=3).map(lambda drawn: ("ChainedScheduler", drawn))


TREES = st.recursive(LEAVES, lambda parts: st.one_of(sequentials(parts), chaineds(parts)), max_leaves=6)


def grown(tree: Any, group: Any) -> Any:
    """The peer's own scheduler, its parts made in order."""
    if tree[0] == "SequentialLR":
        return peer.SequentialLR(group, [grown(part, group) for part in tree[1]], list(tree[2]))
    if tree[0] == "ChainedScheduler":
        return peer.ChainedScheduler([grown(part, group) for part in tree[1]])
    return KINDS[tree[0]](group, **tree[1])


def tree_case(row: str, trees: Any, says: str, note: str = "") -> Case:
    drawn = st.fixed_dictionaries({"lr": rates(0.01, 1.0), "tree": trees})

    def built(s: dict[str, Any]) -> Any:
        try:
            return grown(s["tree"], optimizer(s["lr"], momentum=0.9))
        except NotImplementedError:  # an inner tree that begins with a later tree (T13)
            return reject()

    def ours(s: dict[str, Any]) -> Any:
        return from_torch(built(s))

    return Case("torch", row, drawn, ours, lambda s, n: seen(built(s), n), says=says, note=note)


CASES += [
    tree_case("SequentialLR", sequentials(LEAVES), "a.until(m) >> b"),
    tree_case(
        "SequentialLR (nested)", sequentials(TREES), "a.until(m) >> b, or Custom", "raises at a later tree (T13)"
    ),
    tree_case("ChainedScheduler", chaineds(LEAVES), "a * b, or Custom (T19)"),
    tree_case("ChainedScheduler (nested)", chaineds(TREES), "a * b, or Custom (T19)"),
]

EXAMPLES = {
    "SequentialLR": 150,
    "SequentialLR (nested)": 150,
    "ChainedScheduler": 150,
    "ChainedScheduler (nested)": 150,
}


class Watched:
    """A schedule with a rule, driven by the metrics that the peer got."""

    def __init__(self, ruled: Any, metrics: list[float]) -> None:
        self.ruled, self.metrics = ruled, metrics

    def values(self, start: int, stop: int) -> list[float]:
        state, rates = self.ruled.init(), [self.ruled(0)]
        for t, metric in enumerate(self.metrics[: stop - 1], start=1):
            state = self.ruled.observe(state, metric, t)
            rates.append(self.ruled.at(t, self.ruled.factor(state)))
        return (rates + rates[-1:] * stop)[start:stop]


def watched(s: dict[str, Any]) -> tuple[Any, list[float]]:
    arguments = dict(s)
    metrics = arguments.pop("metrics")
    return made("ReduceLROnPlateau", arguments), metrics


def reduced(s: dict[str, Any], n: int) -> list[float]:
    scheduler, metrics = watched(s)
    values = [scheduler.optimizer.param_groups[0]["lr"]]
    for metric in metrics[: n - 1]:
        scheduler.step(metric)
        values.append(scheduler.optimizer.param_groups[0]["lr"])
    return values


CASES.append(
    Case(
        "torch",
        "ReduceLROnPlateau",
        st.fixed_dictionaries(
            {
                "lr": rates(),
                "metrics": st.lists(st.floats(-2, 2), min_size=1, max_size=60),
                "patience": st.integers(0, 3),
                "cooldown": st.integers(0, 3),
                "factor": rates(0.1, 0.9),
                "mode": st.sampled_from(["min", "max"]),
                "min_lr": rates(0.0, 0.01),
            }
        ),
        lambda s: Watched(from_torch(watched(s)[0]), s["metrics"]),
        reduced,
        says='Constant(lr) * Plateau(factor, patience, like="torch")',
    )
)


def test_every_row_is_compared_or_refused_with_a_reason() -> None:
    covers(ROWS, CASES, REFUSED)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_whole_curve(case: Case) -> None:
    check(case, EXAMPLES.get(case.row, 50))


@pytest.mark.parametrize("parameter", ["lr", "momentum"])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("CyclicLR", {"base_lr": 0.1, "max_lr": 0.5, "step_size_up": 3, "step_size_down": 4, "mode": "triangular2"}),
        ("OneCycleLR", {"max_lr": 0.5, "total_steps": 17}),
        ("OneCycleLR", {"max_lr": 0.5, "total_steps": 17, "three_phase": True, "anneal_strategy": "linear"}),
    ],
)
def test_momentum_follows_too(parameter: str, kind: Any, name: str, arguments: dict[str, Any]) -> None:
    betas = kind is torch.optim.Adam
    scheduler = KINDS[name](optimizer(1.0, kind=kind, **({} if betas else {"momentum": 0.9})), **arguments)
    ours, named = from_torch(scheduler, parameter=parameter), from_torch(name, parameter=parameter, **arguments)
    group, theirs = scheduler.optimizer.param_groups[0], []
    for _ in range(17):
        theirs.append(group["lr"] if parameter == "lr" else group["betas"][0] if betas else group["momentum"])
        scheduler.step()
    close(ours, theirs)
    close(named, theirs)


TYPICAL: list[Callable[[Any], Any]] = [
    lambda o: peer.StepLR(o, 5),
    lambda o: peer.MultiStepLR(o, [3, 9, 9], 0.5),
    lambda o: peer.CosineAnnealingWarmRestarts(o, 4, 2),
    lambda o: peer.CyclicLR(o, [0.01, 0.02], [0.1, 0.3], 4),
    lambda o: peer.OneCycleLR(o, [0.1, 0.3], 40),
    lambda o: peer.LambdaLR(o, [slower, wavy]),
    lambda o: SWALR(o, [0.5, 0.7]),
    lambda o: peer.SequentialLR(o, [peer.LinearLR(o), peer.CosineAnnealingLR(o, 15)], [5]),
    lambda o: peer.ChainedScheduler([peer.LinearLR(o), peer.CosineAnnealingLR(o, 15, 0.01)]),
    lambda o: peer.ChainedScheduler([peer.ExponentialLR(o, 0.9), peer.CosineAnnealingLR(o, 15, 0.01)]),
]


@pytest.mark.parametrize("make", TYPICAL)
def test_each_group_at_any_time_and_nothing_is_touched(make: Callable[[Any], Any]) -> None:
    scheduler = make(optimizer(0.1, 0.3, momentum=0.9))
    fresh = [from_torch(scheduler, group=i) for i in range(2)]
    for i in range(2):
        close(fresh[i], seen(make(optimizer(0.1, 0.3, momentum=0.9)), 30, group=i))
    for _ in range(11):
        scheduler.optimizer.step()
        scheduler.step()
    loaded = make(optimizer(0.1, 0.3, momentum=0.9))
    loaded.load_state_dict(copy.deepcopy(scheduler.state_dict()))
    for used in (scheduler, loaded):
        before = copy.deepcopy((used.state_dict(), used.optimizer.state_dict()))
        assert fresh == [from_torch(used, group=i) for i in range(2)]
        assert repr(before) == repr((used.state_dict(), used.optimizer.state_dict()))


def test_usual_trees_come_to_pieces_and_products() -> None:
    o = optimizer(0.1)
    usual = peer.SequentialLR(o, [peer.LinearLR(o, 0.5, total_iters=4), peer.ExponentialLR(o, 0.9)], [4])
    assert repr(from_torch(usual)) == "Linear(0.05, 0.1, 4) >> Exponential(0.1, 0.9)"
    o = optimizer(0.1)
    warmed = peer.ChainedScheduler([peer.LinearLR(o, 0.5, total_iters=4), peer.CosineAnnealingLR(o, 20, 0.01)])
    assert not isinstance(from_torch(warmed), Custom)  # T19, with a floor


def test_a_recursion_takes_arrays_and_goes_through_pickle() -> None:
    ours = from_torch(peer.MultiplicativeLR(optimizer(0.1), wavy))
    expected = ours.values(0, 9)
    assert ours(np.arange(9)).tolist() == expected == pickle.loads(pickle.dumps(ours)).values(0, 9)
    assert ours(torch.arange(9)).tolist() == pytest.approx(expected, rel=SINGLE)
    with pytest.raises(ScheduleError, match="only by stepping through every update"):
        ours(10**9)


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("kind", ["rel", "abs"])
def test_plateau(mode: str, kind: str) -> None:
    given = {
        "mode": mode,
        "factor": 0.5,
        "patience": 1,
        "threshold": 0.1,
        "threshold_mode": kind,
        "cooldown": 1,
        "min_lr": 0.02,
    }
    scheduler = peer.ReduceLROnPlateau(optimizer(0.1), **given)
    ours = from_torch(scheduler)
    assert isinstance(ours, Ruled)
    assert ours == from_torch("ReduceLROnPlateau", lr=0.1, **given)
    state = ours.init()
    for t, metric in enumerate(np.random.default_rng(0).normal(size=40).cumsum()):
        scheduler.step(metric)
        state = ours.observe(state, metric, t + 1)
        assert ours.at(t + 1, ours.factor(state)) == pytest.approx(scheduler.optimizer.param_groups[0]["lr"], rel=1e-12)


def test_tensor_rates_are_read() -> None:
    scheduler = peer.StepLR(torch.optim.SGD([torch.zeros(1)], lr=torch.tensor(0.1)), 3)
    close(from_torch(scheduler), seen(scheduler, 12), tolerance=SINGLE)


def test_subclasses_that_make_no_rates_of_their_own_are_read() -> None:
    class Named(peer.StepLR):
        pass

    class Other(peer.StepLR):
        def get_lr(self) -> list[float]:
            return [1.0]

    assert from_torch(Named(optimizer(0.1), 3)) == interop.StepLR(0.1, 3)
    with pytest.raises(ScheduleError, match="not one of torch's"):
        from_torch(Other(optimizer(0.1), 3))


def test_bad_input_is_told() -> None:
    o = optimizer(0.1)
    step = peer.StepLR(o, 3)
    with pytest.raises(ScheduleError, match=r"not one of torch's"):
        from_torch(3)
    with pytest.raises(ScheduleError, match="one of the 1 groups, got 1"):
        from_torch(step, group=1)
    with pytest.raises(ScheduleError, match="Did you mean 'StepLR'"):
        from_torch("SteppLR", lr=0.1)
    with pytest.raises(ScheduleError, match="has no momentum"):
        from_torch(step, parameter="momentum")
    with pytest.raises(ScheduleError, match="it takes"):
        from_torch("StepLR", lr=0.1, step=3)
    with pytest.raises(ScheduleError, match="itself, or join"):
        from_torch("SequentialLR", lr=0.1)
    with pytest.raises(ScheduleError, match="T1"):
        from_torch("OneCycleLR", max_lr=0.1, total_steps=10, pct_start=0.1)
    with pytest.raises(ScheduleError, match="T16"):
        from_torch(peer.SequentialLR(o, [peer.StepLR(o, 3) for _ in range(3)], [5, 2]))
    with pytest.raises(ScheduleError, match="stands twice"):
        from_torch(peer.ChainedScheduler([step, step]))
