"""fastai's schedules (``fastai.callback.schedule``), the living peer, over the part of training that fastai hands them.

fastai forms the position within a phase in float32, which moves a value by the phase's slope times that rounding: the
curves are held to 5e-6 of the peak for phases of a tenth of training and more, and to 1e-12 in float64.
"""

import functools
import math
import sys
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, strategies as st
from parity.cases import DOUBLE, Case, check, covers, lengths, rates
from parity.living import living

from ratewise.errors import ScheduleError
from ratewise.finder import debiased, ramp, suggestions
from ratewise.interop import from_fastai


class L(list[Any]):
    """A list as fastai has it: ``L(None)`` is empty, and anything can stand to its left."""

    def __init__(self, items: Any = None) -> None:
        super().__init__([] if items is None else items)

    def __radd__(self, other: Any) -> list[Any]:
        return [*(other if isinstance(other, list) else [other]), *self]


def store_attr(names: str) -> None:
    """Keep the named arguments of the calling constructor."""
    given = sys._getframe(1).f_locals
    vars(given["self"]).update({name: given[name] for name in names.split(",")})


def same(function: Any) -> Any:
    return function


fastai = living(
    "fastai.callback.schedule",
    {
        "fastai.basics": {
            "torch": torch, "tensor": torch.tensor, "np": np, "math": math, "functools": functools, "L": L,
            "Callback": object, "Recorder": object, "Learner": SimpleNamespace(fit_one_cycle=None), "patch": same,
            "docs": same, "delegates": lambda _: same, "store_attr": store_attr,
            "to_np": np.asarray, "is_listy": lambda x: isinstance(x, (list, tuple)), "mk_class": lambda *_, **__: None,
            "SuggestionMethod": SimpleNamespace(Valley=None),
        },
        "fastai.callback.tracker": {"SaveModelCallback": object},
    },
)  # fmt: skip

ROWS = [
    "sched_lin", "sched_cos", "sched_no", "sched_exp", "SchedPoly", "combine_scheds", "combined_cos",
    "fit_one_cycle", "fit_flat_cos", "fit_sgdr", "fine_tune", "LRFinder",
]  # fmt: skip
REFUSED = {
    "fine_tune": "freezes and unfreezes parameters between two fits, which no schedule does; each of its fits is a "
    "fit_one_cycle"
}


class Learner:
    """fastai's training loop as far as its schedules see it: an optimizer's settings, and the part that is done."""

    def __init__(self, n_iter: int) -> None:
        self.n_iter = n_iter
        self.opt = self
        self.hypers: list[dict[str, Any]] = [{}]
        self.used: list[dict[str, Any]] = []

    def set_hyper(self, name: str, value: Any) -> None:
        self.hypers[0][name] = value

    def fit(self, n_epoch: int, cbs: Any, **_: Any) -> None:
        (scheduler,) = cbs
        scheduler.opt, self.scheduler = self, scheduler
        for epoch in range(n_epoch):
            scheduler.pct_train = epoch / n_epoch
            for _ in range(self.n_iter):
                self.update()
                scheduler.pct_train += 1.0 / (self.n_iter * n_epoch)

    def update(self) -> None:
        self.scheduler.before_batch()
        self.used.append({name: float(np.ravel(value)[0]) for name, value in self.hypers[0].items()})


def fitted(name: str, settings: dict[str, Any], n: int) -> list[float]:
    """The values that a fit uses; after it, the value of its end, which the fit itself does not use."""
    arguments = dict(settings)
    parameter = arguments.pop("parameter", "lr")
    learner = Learner(arguments.pop("n_iter"))
    getattr(fastai, name)(learner, **arguments)
    learner.scheduler.pct_train = 1.0
    learner.update()
    values = [used[parameter] for used in learner.used]
    return [*values, *[values[-1]] * n][:n]


def found(settings: dict[str, Any], n: int) -> list[float]:
    """The rates of the range test, which ends after ``num_it`` updates."""
    finder, learner = fastai.LRFinder(**settings), Learner(1)
    finder.opt, learner.scheduler = learner, finder
    for t in range(n):
        finder.train_iter = min(t, finder.num_it)
        learner.update()
    return [used["lr"] for used in learner.used]


def case(
    row: str, says: str, arguments: dict[str, Any], theirs: Any, note: str = "", tolerance: float = DOUBLE,
    length: Any = lambda s: s["steps"],
) -> Case:  # fmt: skip
    name = row.split(" (", 1)[0]
    return Case(
        "fastai", row, st.fixed_dictionaries(arguments), lambda s: from_fastai(name, **s), theirs,
        says=says, length=length, tolerance=tolerance, note=note,
    )  # fmt: skip


def called(name: str) -> Any:
    """The values of a function of the part that is done; the rest of the settings are its own."""

    def theirs(settings: dict[str, Any], n: int) -> list[float]:
        arguments = {key: x for key, x in settings.items() if key != "steps"}
        return [float(getattr(fastai, name)(**arguments, pos=t / settings["steps"])) for t in range(n)]

    return theirs


def made(name: str) -> Any:
    """The values of what a function makes."""

    def theirs(settings: dict[str, Any], n: int) -> list[float]:
        arguments = {key: x for key, x in settings.items() if key != "steps"}
        schedule = getattr(fastai, name)(**arguments)
        return [float(schedule(t / settings["steps"])) for t in range(n)]

    return theirs


def combined(settings: dict[str, Any], n: int) -> list[float]:
    """Three functions one after the other."""
    assume(sum(settings["pcts"]) == 1.0)  # fastai asserts exactly that
    high, low = settings["high"], settings["low"]
    functions = [fastai.SchedLin(low, high), fastai.SchedNo(high, high), fastai.SchedCos(high, low)]
    schedule = fastai.combine_scheds(settings["pcts"], functions)
    return [float(schedule(t / settings["steps"])) for t in range(n)]


def combined_ours(settings: dict[str, Any]) -> Any:
    high, low = settings["high"], settings["low"]
    functions = [
        from_fastai("SchedLin", start=low, end=high), from_fastai("SchedNo", start=high, end=high),
        from_fastai("SchedCos", start=high, end=low),
    ]  # fmt: skip
    return from_fastai("combine_scheds", pcts=settings["pcts"], scheds=functions, steps=settings["steps"])


def updates(settings: Any) -> float:
    return float(settings["n_epoch"] * settings["n_iter"])


SINGLE = 5e-6
IN_SINGLE = "fastai rounds the position to float32"
ENDS = {"start": rates(), "end": rates(), "steps": lengths()}
PART = st.floats(0.1, 0.9)
FIT = {"n_epoch": lengths(1, 5), "n_iter": lengths(1, 20)}
ONWARD = "goes on beyond its end, as ours does"

CASES = [
    case("sched_lin", 'Formula("start + rise * (t / n)")', ENDS, called("sched_lin"), ONWARD),
    case("sched_cos", "(Cosine(start, end, n) >> Cosine(end, start, n)).repeat()", ENDS, called("sched_cos"), ONWARD),
    case("sched_no", "Constant(start)", ENDS, called("sched_no")),
    case("sched_exp", "Exponential(start, end / start, every=n)", ENDS, called("sched_exp"), ONWARD),
    case(
        "SchedPoly", 'Formula("start + rise * (t / n)**power")', {**ENDS, "power": rates(0.2, 3.0)},
        made("SchedPoly"), ONWARD,
    ),
    Case(
        "fastai", "combine_scheds",
        st.fixed_dictionaries({
            "high": rates(0.1, 1.0), "low": rates(1e-3, 0.1), "steps": lengths(20),
            "pcts": st.sampled_from([(0.25, 0.5, 0.25), (0.1, 0.5, 0.4), (0.5, 0.0, 0.5), (0.3, 0.4, 0.3)]),
        }),
        combined_ours, combined,
        says="a.stretch(n0).until(n0) >> b.stretch(n1).until(n1) >> c.stretch(n2)",
        length=lambda s: s["steps"], tolerance=SINGLE, note=IN_SINGLE,
    ),
    case(
        "combined_cos", "Cosine(start, middle, p * n) >> (Cosine(middle, end, ...) >> ...).repeat()",
        {"pct": PART, "start": rates(), "middle": rates(), "end": rates(), "steps": lengths(20)},
        made("combined_cos"), f"{ONWARD}; {IN_SINGLE}", SINGLE,
    ),
    case(
        "fit_one_cycle", "Cosine(lr / div, lr, p * n) >> Cosine(lr, lr / div_final, (1 - p) * n)",
        {**FIT, "lr_max": rates(), "div": rates(1.0, 100.0), "div_final": rates(1.0, 1e6), "pct_start": PART,
         "moms": st.just((0.95, 0.85, 0.95))},
        lambda s, n: fitted("fit_one_cycle", s, n), IN_SINGLE, SINGLE, updates,
    ),
    case(
        "fit_one_cycle (momentum)", "Cosine(m0, m1, p * n) >> Cosine(m1, m2, (1 - p) * n)",
        {**FIT, "lr_max": rates(), "pct_start": PART, "moms": st.tuples(PART, PART, PART), "parameter": st.just("mom")},
        lambda s, n: fitted("fit_one_cycle", s, n), IN_SINGLE, SINGLE, updates,
    ),
    case(
        "fit_flat_cos", "Constant(lr, p * n) >> Cosine(lr, lr / div_final, (1 - p) * n)",
        {**FIT, "lr": rates(), "div_final": rates(1.0, 1e6), "pct_start": PART},
        lambda s, n: fitted("fit_flat_cos", s, n), IN_SINGLE, SINGLE, updates,
    ),
    case(
        "fit_sgdr", "Cosine(lr, 0, n).repeat(n_cycles, stretch=cycle_mult)",
        {"n_cycles": lengths(1, 4), "cycle_len": lengths(1, 4), "n_iter": lengths(1, 6), "lr_max": rates(),
         "cycle_mult": st.sampled_from([2, 3])},
        lambda s, n: fitted("fit_sgdr", s, n),
        f"{IN_SINGLE}; in 3 cycles and more its restarts may come one update late, and ours with them", SINGLE,
        lambda s: s["n_iter"] * s["cycle_len"] * (s["cycle_mult"] ** s["n_cycles"] - 1) // (s["cycle_mult"] - 1),
    ),
    case(
        "LRFinder", 'Ramp(start_lr, end_lr, n, ease="geometric")',
        {"start_lr": rates(1e-7, 1e-3), "end_lr": rates(0.1, 10.0), "num_it": lengths(1, 200)}, found,
        "at least 6 updates", length=lambda s: s["num_it"],
    ),
]  # fmt: skip

ROUNDED = [case for case in CASES if case.tolerance != DOUBLE and case.row != "fit_sgdr"]  # its joints are rounded too


@pytest.fixture(autouse=True)
def _numpy_may_look_into_arrays() -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield


def test_every_row_is_compared_or_refused_with_a_reason() -> None:
    covers(ROWS, CASES, REFUSED)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_whole_curve(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", ROUNDED, ids=lambda case: case.name)
def test_in_float64_the_curves_are_the_same(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastai, "tensor", functools.partial(torch.tensor, dtype=torch.float64))
    exact = Case(**{**vars(case), "tolerance": 1e-12})
    check(exact, 15)


@pytest.mark.parametrize("mult", [2, 3])
@pytest.mark.parametrize("cycles", range(1, 7))
def test_restarts_are_late_where_the_peer_is_late(mult: int, cycles: int) -> None:
    settings = {"n_cycles": cycles, "cycle_len": 3, "n_iter": 1, "lr_max": 1.0, "cycle_mult": mult}
    starts = [3 * (mult**i - 1) // (mult - 1) for i in range(cycles)]
    theirs, ours = fitted("fit_sgdr", settings, starts[-1] + 1), from_fastai("fit_sgdr", **settings)
    assert [ours(t) for t in starts] == pytest.approx([theirs[t] for t in starts], abs=1e-6)


def test_the_third_of_three_cycles_starts_at_0() -> None:
    settings = {"n_cycles": 3, "cycle_len": 1, "n_iter": 10, "lr_max": 1.0}
    theirs, ours = fitted("fit_sgdr", settings, 70), from_fastai("fit_sgdr", **settings)
    assert theirs[30] == pytest.approx(0.0, abs=1e-6)
    assert (ours(0), ours(10), ours(30)) == (1.0, 1.0, 0.0)


def test_fine_tune_is_refused_with_what_to_do() -> None:
    with pytest.raises(ScheduleError, match="fine_tune freezes parameters, which no schedule does"):
        from_fastai("fine_tune", epochs=3)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("fit_onecycle", {}, "fit_one_cycle"),
        ("fit_one_cycle", {"n_epoch": 1, "n_iter": 9, "lr_max": 0.1, "pct_start": 1.5}, "pct_start must be between"),
        ("fit_flat_cos", {"n_epoch": 0, "n_iter": 9, "lr": 0.1}, "the number of updates"),
        ("combine_scheds", {"pcts": [0.5, 0.6], "scheds": [1, 2], "steps": 5}, "pcts must be one part of the whole"),
    ],
)
def test_wrong_input_is_named(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        from_fastai(name, **arguments)


@pytest.mark.parametrize("rule", ["valley", "slide", "minimum", "steep"])
@pytest.mark.parametrize("seed", range(6))
def test_the_rules_of_its_finder_suggest_the_same(rule: str, seed: int) -> None:
    """Ours, as its ``lr_find`` calls them: the first tenth and the last five points left out, losses smoothed."""
    rates = ramp(1e-7, 10, 100)
    noise = np.random.default_rng(seed).normal(0, 0.02 * (seed % 3), 100)
    losses = [
        2.3 / (1 + (600 * rate) ** 0.7) + (rate / 0.1) ** 2 / 50 + float(e)
        for rate, e in zip(rates, noise, strict=True)
    ]
    kept = slice(10, -5)
    given = (
        torch.tensor(rates, dtype=torch.float64)[kept],
        torch.tensor(debiased(losses), dtype=torch.float64)[kept],
        100,
    )
    assert suggestions(rates, losses)[rule] == pytest.approx(float(getattr(fastai, rule)(*given)[0]), rel=1e-12)
