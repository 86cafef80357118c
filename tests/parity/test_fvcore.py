"""fvcore's schedulers, the living peer, and detectron2's, transcribed on top of it."""

import math
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from parity.cases import Case, check, covers, lengths, rates
from parity.living import living

from ratewise import Constant
from ratewise.errors import ScheduleError
from ratewise.interop import from_fvcore

fvcore = living("fvcore.common.param_scheduler")

ROWS = [
    *("ConstantParamScheduler", "CosineParamScheduler", "ExponentialParamScheduler", "LinearParamScheduler"),
    *("MultiStepParamScheduler", "PolynomialDecayParamScheduler", "StepParamScheduler"),
    *("StepWithFixedGammaParamScheduler", "CompositeParamScheduler"),
    *("WarmupParamScheduler", "LRMultiplier", "WarmupMultiStepLR", "WarmupCosineLR"),
]
REFUSED: dict[str, str] = {}


class WarmupParamScheduler(fvcore.CompositeParamScheduler):  # type: ignore[misc, name-defined]
    """detectron2's, from its formula: a ramp or a constant, then the scheduler itself, moved or not."""

    def __init__(
        self,
        scheduler: Any,
        warmup_factor: float,
        warmup_length: float,
        warmup_method: str = "linear",
        rescale_interval: bool = False,
    ) -> None:
        first = warmup_factor * scheduler(0.0)
        last = scheduler(0.0 if rescale_interval else warmup_length)
        ramp = fvcore.ConstantParamScheduler(first)
        if warmup_method == "linear":
            ramp = fvcore.LinearParamScheduler(first, last)
        modes = ["rescaled", "rescaled" if rescale_interval else "fixed"]
        super().__init__([ramp, scheduler], [warmup_length, 1 - warmup_length], modes)


class LRMultiplier(torch.optim.lr_scheduler.LRScheduler):
    def __init__(self, optimizer: Any, multiplier: Any, max_iter: int) -> None:
        self._multiplier, self._max_iter = multiplier, max_iter
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        return [base * self._multiplier(self.last_epoch / self._max_iter) for base in self.base_lrs]


class _Older(torch.optim.lr_scheduler.LRScheduler):
    """What the two older schedulers of detectron2 share: a factor during the first ``warmup_iters`` updates."""

    def __init__(
        self,
        optimizer: Any,
        warmup_factor: float = 0.001,
        warmup_iters: int = 1000,
        warmup_method: str = "linear",
        **own: Any,
    ) -> None:
        self.warmup_factor, self.warmup_iters, self.warmup_method = warmup_factor, warmup_iters, warmup_method
        self.__dict__.update(own)
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        t, factor = self.last_epoch, 1.0
        if t < self.warmup_iters:
            x = t / self.warmup_iters if self.warmup_method == "linear" else 0.0
            factor = self.warmup_factor * (1 - x) + x
        return [base * factor * self.curve(t) for base in self.base_lrs]


class WarmupMultiStepLR(_Older):
    def curve(self, t: int) -> float:
        return self.gamma ** sum(m <= t for m in self.milestones)


class WarmupCosineLR(_Older):
    def curve(self, t: int) -> float:
        return 0.5 * (1.0 + math.cos(math.pi * t / self.max_iters))


def make(described: dict[str, Any]) -> Any:
    """The peer's object for a mapping with ``_target_``, whatever is inside it too."""
    arguments = {key: value for key, value in described.items() if key != "_target_"}
    for key, value in arguments.items():
        if isinstance(value, dict):
            arguments[key] = make(value)
        if key == "schedulers":
            arguments[key] = [make(inner) for inner in value]
        if key == "lengths":
            arguments[key] = list(value)  # the peer changes the list
    name = described["_target_"].rpartition(".")[2]
    return (WarmupParamScheduler if name == "WarmupParamScheduler" else getattr(fvcore, name))(**arguments)


def run(scheduler: Any, total: int, n: int) -> list[float]:
    """The values for updates 0 ... n - 1; where the peer raises or is complex, the one before."""
    values: list[float] = []
    for t in range(n):
        try:
            value = scheduler(t / total)
        except (RuntimeError, IndexError, ZeroDivisionError):
            value = values[-1]
        values.append(values[-1] if isinstance(value, complex) else value)
    return values


def optimizer(*lrs: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [torch.zeros(1)], "lr": lr} for lr in lrs])


def applied(scheduler: Any, n: int, group: int = 0) -> list[float]:
    """The rates that a scheduler with an optimizer leaves for updates 0 ... n - 1; the last one where it raises."""
    values: list[float] = []
    for _ in range(n):
        rate = scheduler.optimizer.param_groups[group]["lr"]
        values.append(values[-1] if isinstance(rate, complex) else rate)
        scheduler.optimizer.step()
        try:
            scheduler.step()
        except (RuntimeError, IndexError):
            return values + values[-1:] * (n - len(values))
    return values


values = st.floats(-1.0, 1.0, allow_subnormal=False)


def milestones(count: int, total: int) -> st.SearchStrategy[list[int]]:
    inner = st.integers(1, total - 1)
    return st.lists(inner, min_size=count, max_size=count, unique=True).map(sorted)


@st.composite
def multi_step(draw: Any) -> dict[str, Any]:
    levels = draw(st.lists(values, min_size=1, max_size=5))
    updates = draw(st.integers(len(levels) + 1, 90))
    form = draw(st.integers(0, 2))
    if form == 0 and math.ceil(updates / len(levels)) * (len(levels) - 1) < updates:
        return {"values": levels, "num_updates": updates}
    inner = draw(milestones(len(levels) - 1, updates))
    if form < 2:
        return {"values": levels, "num_updates": updates, "milestones": inner}
    return {"values": levels, "milestones": [*inner, updates]}


SIMPLE: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "ConstantParamScheduler": st.fixed_dictionaries({"value": values}),
    "CosineParamScheduler": st.fixed_dictionaries({"start_value": values, "end_value": values}),
    "LinearParamScheduler": st.fixed_dictionaries({"start_value": values, "end_value": values}),
    "ExponentialParamScheduler": st.fixed_dictionaries({"start_value": values, "decay": rates(1e-4, 3.0)}),
    "MultiStepParamScheduler": multi_step(),
    "PolynomialDecayParamScheduler": st.fixed_dictionaries(
        {"base_value": values, "power": st.sampled_from([1, 1.0, 2, 3, 1.5]) | st.floats(1.0, 4.0)}
    ),
    "StepParamScheduler": st.fixed_dictionaries(
        {"num_updates": lengths(), "values": st.lists(values, min_size=1, max_size=7)}
    ),
    "StepWithFixedGammaParamScheduler": st.fixed_dictionaries(
        {
            "base_value": rates(),
            "num_decays": lengths(1, 5),
            "gamma": rates(0.1, 2.0),
            "num_updates": lengths(),
        }
    ),
}
SAYS = {
    "ConstantParamScheduler": "Constant(value)",
    "CosineParamScheduler": "(Cosine(a, b, T) >> Cosine(b, a, T)).repeat()",
    "LinearParamScheduler": 'Formula("a + (b - a) * t / T")',
    "ExponentialParamScheduler": "Exponential(a, decay, every=T)",
    "MultiStepParamScheduler": "Piecewise(values, joints)",
    "PolynomialDecayParamScheduler": "Polynomial(base, 0.0, T, power=p) >> ...",
    "StepParamScheduler": "Piecewise(values, joints)",
    "StepWithFixedGammaParamScheduler": "Piecewise(values, joints)",
}
RAISES = {"ConstantParamScheduler", "MultiStepParamScheduler", "StepParamScheduler", "StepWithFixedGammaParamScheduler"}


def targeted(name: str, arguments: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return arguments.map(lambda drawn: {"_target_": f"fvcore.common.param_scheduler.{name}", **drawn})


SCHEDULERS = st.one_of([targeted(name, arguments) for name, arguments in SIMPLE.items()])


@st.composite
def composite(draw: Any, inner: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    weights = draw(st.lists(st.integers(0, 12), min_size=1, max_size=4).filter(sum))
    rounded = draw(st.booleans()) and weights[-1] > 0  # rounding may leave less than nothing for a last part of 0
    shares = [round(w / sum(weights), 4) if rounded else w / sum(weights) for w in weights]
    modes = [draw(st.sampled_from(["rescaled", "fixed"])) for _ in weights]
    return {"schedulers": [draw(inner) for _ in weights], "lengths": shares, "interval_scaling": modes}


COMPOSITES = composite(SCHEDULERS | targeted("CompositeParamScheduler", composite(SCHEDULERS)))
WARMUPS = st.fixed_dictionaries(
    {
        "scheduler": st.one_of([targeted(name, drawn) for name, drawn in SIMPLE.items() if name not in RAISES])
        | targeted("MultiStepParamScheduler", SIMPLE["MultiStepParamScheduler"]),
        "warmup_factor": rates(),
        "warmup_length": st.floats(0.0, 0.95),
        "warmup_method": st.sampled_from(["linear", "constant"]),
        "rescale_interval": st.booleans(),
    }
)


def case(name: str, arguments: st.SearchStrategy[dict[str, Any]], says: str, note: str = "", **more: Any) -> Case:
    kind = name.split(" (", maxsplit=1)[0]
    return Case(
        "fvcore",
        name,
        st.fixed_dictionaries({"total": st.integers(1, 120), "given": arguments, "living": st.booleans()}),
        lambda s: (
            from_fvcore(make({"_target_": kind, **s["given"]}), total_steps=s["total"])
            if s["living"]
            else from_fvcore(kind, total_steps=s["total"], **s["given"])
        ),
        lambda s, n: run(make({"_target_": kind, **s["given"]}), s["total"], n),
        says=says,
        length=lambda s: s["total"],
        note=note,
        **more,
    )


OLDER = {
    "warmup_factor": rates(),
    "warmup_iters": lengths(0, 40),
    "warmup_method": st.sampled_from(["linear", "constant"]),
}


def older(kind: Any, own: dict[str, st.SearchStrategy[Any]], says: str, note: str = "") -> Case:
    return Case(
        "detectron2",
        kind.__name__,
        st.fixed_dictionaries({"lr": rates(), "given": st.fixed_dictionaries({**OLDER, **own})}),
        lambda s: from_fvcore(kind.__name__, lr=s["lr"], **s["given"]),
        lambda s, n: applied(kind(optimizer(s["lr"]), **s["given"]), n),
        says=says,
        living=False,
        note=note,
    )


CASES = [
    *(
        case(name, arguments, SAYS[name], "raises at its end; ours holds" if name in RAISES else "")
        for name, arguments in SIMPLE.items()
    ),
    case(
        "PolynomialDecayParamScheduler (low powers)",
        st.fixed_dictionaries({"base_value": values, "power": st.just(0) | st.floats(0.0, 1.0)}),
        "Polynomial(base, 0.0, T, power=p)",
        "complex past its end; ours holds",
    ),
    case("CompositeParamScheduler", COMPOSITES, "a.until(n) >> b.until(m) >> ..."),
    case("WarmupParamScheduler", WARMUPS, "Linear(f * a(0), a(w), w) >> a.after(w)", living=False),
    Case(
        "detectron2",
        "LRMultiplier",
        st.fixed_dictionaries({"lr": rates(), "max_iter": lengths(), "multiplier": SCHEDULERS}),
        lambda s: from_fvcore("LRMultiplier", **s),
        lambda s, n: applied(LRMultiplier(optimizer(s["lr"]), make(s["multiplier"]), s["max_iter"]), n),
        says="lr * multiplier",
        living=False,
        length=lambda s: s["max_iter"],
    ),
    older(
        WarmupMultiStepLR,
        {"milestones": st.lists(st.integers(0, 50), max_size=4).map(sorted), "gamma": rates(0.01, 1.5)},
        "Linear(f, 1.0, w) * Piecewise(values, milestones)",
    ),
    older(
        WarmupCosineLR,
        {"max_iters": lengths()},
        "Linear(f, 1.0, w) * (Cosine(1.0, 0.0, T) >> Cosine(0.0, 1.0, T)).repeat()",
        "climbs again past its end",
    ),
]


def test_every_row_is_compared_or_refused_with_a_reason() -> None:
    covers(ROWS, CASES, REFUSED)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_whole_curve(case: Case) -> None:
    check(case, examples=60 if "Composite" in case.row or "Warmup" in case.row else 25)


def test_detectron2s_object_keeps_its_run_and_the_rate_of_each_group() -> None:
    decay = fvcore.CosineParamScheduler(1.0, 0.1)
    scheduler = LRMultiplier(optimizer(0.1, 0.5), WarmupParamScheduler(decay, 0.001, 0.25), 20)
    first = applied(scheduler, 7)
    assert from_fvcore(scheduler).values(0, 7) == pytest.approx(first, rel=1e-13)
    ours = from_fvcore(scheduler, group=1)  # after some steps
    assert ours.values(0, 7) == pytest.approx([5 * rate for rate in first], rel=1e-13)
    assert scheduler.last_epoch == 7
    assert applied(scheduler, 30, group=1) == pytest.approx(ours.values(7, 37), rel=1e-12)


@pytest.mark.parametrize(
    ("kind", "own"), [(WarmupMultiStepLR, {"milestones": [8, 12], "gamma": 0.5}), (WarmupCosineLR, {"max_iters": 20})]
)
def test_detectron2s_older_objects_can_be_read(kind: Any, own: dict[str, Any]) -> None:
    scheduler = kind(optimizer(0.1, 0.2), warmup_iters=5, **own)
    theirs = applied(scheduler, 30, group=1)
    assert from_fvcore(scheduler, group=1).values(0, 30) == pytest.approx(theirs, abs=1e-15)


def test_a_whole_run_of_a_million_updates_steps_where_fvcore_does() -> None:
    scheduler = fvcore.StepParamScheduler(3, [1.0, 0.5, 0.25])
    ours, total = from_fvcore(scheduler, total_steps=3_000_000), 3_000_000
    for t in (999_996, 999_997, 999_998, 1_999_996, 1_999_997, 1_999_998, 2_999_996):
        assert ours(t) == scheduler(t / total)
    with pytest.raises(IndexError):
        scheduler(2_999_998 / total)  # F1: before the end of the run
    assert ours(2_999_998) == ours(10**9) == 0.25


def test_f1_ours_has_a_value_at_the_end_and_beyond_where_fvcore_raises_or_is_complex() -> None:
    constant, root = fvcore.ConstantParamScheduler(0.5), fvcore.PolynomialDecayParamScheduler(1.0, 0.5)
    with pytest.raises(RuntimeError):
        constant(1.0)
    assert isinstance(root(1.1), complex)
    assert from_fvcore(constant, total_steps=10).values(9, 13) == [0.5] * 4
    assert from_fvcore(root, total_steps=10).values(10, 13) == [0.0] * 3
    assert from_fvcore(fvcore.StepParamScheduler(10, [1.0, 0.1]), total_steps=10).values(9, 13) == [0.1] * 4


def test_f1_a_list_of_lengths_that_is_given_stays_as_it_is() -> None:
    shares, parts = [0.3333, 0.6666], [{"_target_": "ConstantParamScheduler", "value": v} for v in (1.0, 0.5)]
    ours = from_fvcore(
        "CompositeParamScheduler",
        10,
        schedulers=parts,
        lengths=shares,
        interval_scaling=["rescaled", "fixed"],
    )
    assert ours == Constant(1.0, 4) >> Constant(0.5)
    assert shares == [0.3333, 0.6666]
    fvcore.CompositeParamScheduler([make(part) for part in parts], shares, ["rescaled", "fixed"])
    assert shares == [0.3333, 1 - 0.3333]


def test_a_warm_up_longer_than_the_run_is_cut_by_it() -> None:
    theirs = WarmupParamScheduler(fvcore.CosineParamScheduler(1.0, 0.0), 0.001, 2.5)
    assert from_fvcore(theirs, total_steps=10).values(0, 60) == pytest.approx(run(theirs, 10, 60), abs=1e-14)


def test_a_part_without_a_mode_is_held_over() -> None:
    parts = [fvcore.LinearParamScheduler(0.0, 1.0), fvcore.LinearParamScheduler(5.0, 6.0)]
    theirs = fvcore.CompositeParamScheduler(parts, [0.5, 0.5], ["fixed"])
    assert from_fvcore(theirs, total_steps=8).values(0, 20) == run(theirs, 8, 20)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("CosineParamScheduler", {"start_value": 1.0}, "CosineParamScheduler: missing .*end_value"),
        ("CosinParamScheduler", {}, "Did you mean 'CosineParamScheduler'"),
        ("MultiStepParamScheduler", {"values": [1.0, 0.1], "milestones": [9, 3]}, "milestones must rise"),
        ("MultiStepParamScheduler", {"values": [1.0, 0.1]}, "num_updates must be an integer"),
        ("PolynomialDecayParamScheduler", {"base_value": 1.0, "power": -1}, "power must be at least 0"),
        ("StepParamScheduler", {"values": []}, "the number of values must be"),
        ("CompositeParamScheduler", {"schedulers": [], "lengths": [1], "interval_scaling": []}, "have the sum 1"),
        (
            "CompositeParamScheduler",
            {"schedulers": [fvcore.ConstantParamScheduler(1.0)], "lengths": [1], "interval_scaling": ["scaled"]},
            "unknown interval_scaling 'scaled'",
        ),
        (
            "WarmupParamScheduler",
            {"scheduler": fvcore.ConstantParamScheduler(1.0), "warmup_factor": 0.1, "warmup_length": 1.0},
            "raises an error at its very first",
        ),
        ("LRMultiplier", {"multiplier": object(), "max_iter": 3}, "cannot read <object"),
        ("LRMultiplier", {"multiplier": {"_target_": "WarmupCosineLR", "max_iters": 3}, "max_iter": 3}, "of fvcore is"),
        ("WarmupMultiStepLR", {"milestones": [9, 3]}, "milestones must rise"),
        ("WarmupCosineLR", {"max_iters": 9, "warmup_method": "burn-in"}, "unknown warmup_method 'burn-in'"),
    ],
)
def test_wrong_settings_are_named(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        from_fvcore(name, total_steps=10, **arguments)


def test_the_length_of_the_run_is_asked_for() -> None:
    with pytest.raises(ScheduleError, match="total_steps must be an integer"):
        from_fvcore(fvcore.ConstantParamScheduler(1.0))
