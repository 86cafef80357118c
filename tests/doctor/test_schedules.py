"""What the doctor says of schedules over a run: each finding, its cure, and a near miss."""

import ast
import re
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from properties.test_laws import bounded, endless_shapes, lengths as some_lengths

import ratewise.doctor
from ratewise import Custom, Horizon, parse, samples
from ratewise.doctor import examine
from ratewise.errors import ScheduleError
from ratewise.lab.catalogue import CATALOGUE


class Case(NamedTuple):
    """A schedule with a fault, what cures it, and one almost like it without."""

    code: str
    bad: str
    steps: int | None
    says: str
    instead: str
    good: str


CASES = [
    Case("pieces-exceed-run", "Cosine(0.1, 0.0, 900).warmup(200)", 1000, "200 + 900 = 1100",
         'Linear(0.0, 0.1, 200, ends="(]") >> Cosine(0.1, 0.0)', "Cosine(0.1, 0.0, 800).warmup(200)"),
    Case("floor-never-reached", "Cosine(0.1, 0.0, 1500)", 1000, "ends at the rate 0.0250907",
         "Cosine(0.1, 0.0)", "Cosine(0.1, 0.0, 1000)"),
    Case("warmup-longer-than-run", "Constant(0.1).warmup(1000)", 1000, "takes 1000 of 1000",
         'Linear(0.0, 0.1, fraction(0.05), ends="(]") >> Constant(0.1)', "Constant(0.1).warmup(400)"),
    Case("warmup-longer-than-half", "Cosine(0.1, 0.0).warmup(501)", 1000, "takes 501 of 1000",
         'Linear(0.0, 0.1, fraction(0.05), ends="(]") >> Cosine(0.1, 0.0)', "Cosine(0.1, 0.0).warmup(500)"),
    Case("steps-look-like-epochs", "Cosine(0.1, 0.0, 90)", 35_000, "speaks of 90 updates",
         "Cosine(0.1, 0.0, epochs(90))", "Cosine(0.1, 0.0, 35000)"),
    Case("steps-look-like-epochs", "Piecewise([0.1, 0.01, 0.001], [30, 60])", 35_000, "speaks of 60 updates",
         "Piecewise([0.1, 0.01, 0.001], [epochs(30), epochs(60)])", "Piecewise([0.1, 0.01], [20000])"),
    Case("pieces-fall-short", "Cosine(0.1, 0.0, 800)", 1000, "the last 200 hold 0",
         "Cosine(0.1, 0.0)", "Cosine(0.1, 0.0, 800) >> Constant(0.01)"),
    Case("milestone-after-end", "Piecewise([0.1, 0.01, 0.001], [500, 1500])", 1000, "the milestone 1500 is not reached",
         "Give milestones below 1000, or as parts of the run: fraction(0.5), fraction(0.75).",
         "Piecewise([0.1, 0.01, 0.001], [500, 999])"),
    Case("cycle-cut", "sgdr(0.1, 100)", 1000, "38% of cycle 4",
         "Cosine(0.1, 0.0, 142).repeat(3, stretch=2.0)", "sgdr(0.1, 100)"[:-1] + ", stretch=1.0)"),
    Case("rate-negative", "Linear(0.1, -0.1)", 1000, "falls to -0.0998",
         "Linear(0.1, -0.1).clip(0.0)", "Linear(0.1, 0.0)"),
    Case("first-update-at-zero", "Cosine(0.1, 0.0).warmup(50, start=0.0)", 1000, "the first update",
         'Linear(0.0, 0.1, 50, ends="(]") >> Cosine(0.1, 0.0)', "Cosine(0.1, 0.0).warmup(50)"),
    Case("rate-zero", "Linear(0.1, 0.0, 500) >> Constant(0.0, 500)", 1000, "the rate is 0",
         "(Linear(0.1, 0.0, 500) >> Constant(0.0, steps=500)).clip(1e-05)", "Linear(0.1, 0.0, 1000)"),
    Case("below-float32", "Exponential(0.1, 0.8)", 1000, "below 1.18e-38",
         "Exponential(0.1, 0.01, every=fraction(1.0))", "Exponential(0.1, 0.99)"),
    Case("rate-vanishes", "Exponential(0.1, 0.95)", 1000, "a hundred-millionth",
         "Exponential(0.1, 0.01, every=fraction(1.0))", "Exponential(0.1, 0.99)"),
    Case("warmup-end-differs", "Linear(0.01, 0.1, 100) >> Cosine(0.5, 0.0)", 1000, "the warm-up ends at 0.1",
         "Linear(0.01, 0.5, 100) >> Cosine(0.5, 0.0)", "Linear(0.01, 0.1, 100) >> Cosine(0.1, 0.0)"),
    Case("discontinuity", "Linear(0.1, 0.05, 500) >> Cosine(0.1, 0.0)", 1000, "jumps from 0.05 to 0.1",
         "Linear(0.1, 0.05, 500) >> Cosine(0.05, 0.0)", "Piecewise([0.1, 0.01], [500])"),
    Case("rate-rises-again", "Cosine(0.1, 0.0, 500) >> Linear(0.0, 0.1, 500)", 1000, "rises again to 0.0998",
         "End with the decay; a restart that is meant is written .repeat(...).",
         "(Cosine(0.1, 0.0, 250) >> Linear(0.0, 0.1, 250)).repeat(2)"),
    Case("hardly-moves", "Exponential(0.1, 0.9999999)", 1000, "stays between 0.09999 and 0.1",
         "Exponential(0.1, 0.01, every=fraction(1.0))", "Constant(0.1)"),
    Case("peak-never-reached", "Linear(0.01, 0.1, 3.5) >> Linear(0.1, 0.0)", 20, "goes up to 0.1, but",
         "Linear(0.01, 0.1, fraction(0.05)) >> Linear(0.1, 0.0)", "Linear(0.01, 0.1, 4) >> Linear(0.1, 0.0)"),
    Case("length-unknown", "Cosine(0.1, 0.0).warmup(50)", None, "looked at over 10000",
         'Linear(0.0, 0.1, 50, ends="(]") >> Cosine(0.1, 0.0) with its run: --steps N, or examine(schedule, N).',
         "Cosine(0.1, 0.0, 950).warmup(50)"),
]  # fmt: skip


def found(text: str, steps: int | None, code: str):  # type: ignore[no-untyped-def]
    return [finding for finding in examine(parse(text), steps) if finding.code == code]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.code}-{case.bad}")
def test_the_fault_is_found_and_the_near_miss_is_not(case: Case) -> None:
    (finding,) = found(case.bad, case.steps, case.code)
    assert case.says in finding.what
    assert finding.instead == case.instead
    assert finding.where
    assert finding.why
    assert found(case.good, case.steps, case.code) == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.code}-{case.bad}")
def test_the_advice_cures_the_fault(case: Case) -> None:
    try:
        cured = parse(case.instead)
    except ScheduleError:  # a sentence
        return
    run = Horizon(epochs=90, total_steps=case.steps)
    assert [f for f in examine(cured, run) if f.code == case.code or f.level == "error"] == []


def test_a_custom_function_that_gives_no_number() -> None:
    (finding,) = examine(Custom(lambda t: float("nan") if t > 3 else 0.1), 10)
    assert finding.code == "not-a-rate"
    assert "got nan" in finding.what
    assert examine(Custom(lambda t: 0.1 / (t + 1)), 10) == ()


def test_every_code_in_the_source_has_a_case() -> None:
    folder = Path(ratewise.doctor.__file__).parent
    words = {
        node.value
        for name in ("lengths.py", "values.py", "schedules.py")
        for node in ast.walk(ast.parse((folder / name).read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", node.value)
    }
    assert words == {case.code for case in CASES if case.code != "discontinuity"} | {"not-a-rate"}


@pytest.mark.parametrize("steps", [100, 1000, 100_000])
@pytest.mark.parametrize("name", CATALOGUE)
def test_the_catalogue_has_nothing(name: str, steps: int) -> None:
    assert [f for f in examine(CATALOGUE[name].lr, steps) if f.level != "note"] == []


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.one_of(bounded, endless_shapes), st.one_of(st.none(), some_lengths))
def test_any_schedule_can_be_examined(schedule, steps) -> None:  # type: ignore[no-untyped-def]
    for finding in examine(schedule, steps):
        assert all((finding.code, finding.what, finding.where, finding.why, finding.instead))


def test_a_long_run_is_looked_at_in_part() -> None:
    start = time.process_time()
    assert [f.code for f in examine(parse("Linear(0.01, 0.1, 1000) >> Linear(0.1, 0.0) "), 10**9)] == []
    assert [f.code for f in examine(parse("Linear(0.01, 0.1, 1000) >> Linear(0.2, 0.0) "), 10**9)] == [
        "warmup-end-differs"
    ]
    assert time.process_time() - start < 2


def test_a_run_in_samples_and_epochs() -> None:
    run = Horizon(epochs=10, dataset_size=50_000, batch_size=500)
    assert examine(parse("Cosine(0.1, 0.0).warmup(epochs(1))"), run) == ()
    assert [f.code for f in examine(parse("Cosine(0.1, 0.0).warmup(epochs(6))"), run)] == ["warmup-longer-than-half"]
    with pytest.raises(ScheduleError, match="needs batch_size"):
        examine(parse("Cosine(0.1, 0.0, epochs(3))"), 1000)


def test_a_run_whose_batch_grows() -> None:
    run = Horizon(samples(480), batch_size=[(0, 8), (20, 16)])
    good = ("wsd(1.0)", "wsd(1.0, warmup=samples(48), cooldown=samples(96))", "warmup_cosine(1.0)")
    assert [examine(parse(text), run) for text in good] == [(), (), ()]
    (finding,) = examine(parse("Constant(1.0).warmup(fraction(0.6))"), run)
    assert finding.code == "warmup-longer-than-half"
    assert finding.what == "the warm-up takes 28 of 40 updates"  # 288 samples, of which 160 in 20 updates


def test_typed_pieces_that_exceed_the_run() -> None:
    run = Horizon(epochs=10, dataset_size=1000, batch_size=10)
    (finding,) = examine(parse("Cosine(0.1, 0.0, fraction(1.0)).warmup(epochs(1))"), run)
    assert finding.code == "pieces-exceed-run"
    assert finding.what == "the pieces need 100 + 1000 = 1100 updates, but the run has 1000"
