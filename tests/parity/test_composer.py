"""Composer's and llm-foundry's schedulers, the living peers, in the trainer's order.

The trainer compiles a scheduler, scales the duration of the run, and then steps it after each batch.
"""

import types
import warnings
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from parity.cases import Case, check, covers, rates
from parity.living import living

from ratewise.errors import ScheduleError
from ratewise.interop import from_composer

strings = living("composer.utils.string_enum")
time = living("composer.core.time", {"composer.utils": {"StringEnum": strings.StringEnum}})
composer = living(
    "composer.optim.scheduler", {"composer.core": {"State": object, "Time": time.Time, "TimeUnit": time.TimeUnit}}
)
living("llmfoundry.utils.warnings")
foundry = living("llmfoundry.optim.scheduler", {"composer.optim": vars(composer)})

ROWS = [
    "StepScheduler", "MultiStepScheduler", "ConstantScheduler", "LinearScheduler", "ExponentialScheduler",
    "CosineAnnealingScheduler", "CosineAnnealingWarmRestartsScheduler", "PolynomialScheduler",
    "MultiStepWithWarmupScheduler", "ConstantWithWarmupScheduler", "LinearWithWarmupScheduler",
    "CosineAnnealingWithWarmupScheduler", "PolynomialWithWarmupScheduler", "InverseSquareRootWithWarmupScheduler",
    "several schedulers",
]  # fmt: skip
REFUSED: dict[str, str] = {}

SIZES = {"ep": "batches_per_epoch", "sp": "samples_per_batch", "tok": "tokens_per_batch"}


def made(name: str, arguments: dict[str, Any]) -> Any:
    """The peer's own scheduler."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(composer if hasattr(composer, name) else foundry, name)(**arguments)


def trained(schedulers: list[Any], run: dict[str, Any], n: int) -> list[float]:
    """The rates of updates 0 ... n - 1, up to where the peer raises."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=run["lr"])
    duration, ratio = time.Time.from_timestring(run["max_duration"]), run["scale_schedule_ratio"]
    state = types.SimpleNamespace(
        timestamp=time.Timestamp(), max_duration=duration, dataloader_len=run["batches_per_epoch"],
        optimizers=[optimizer],
    )  # fmt: skip
    values = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peer's, of a warm-up without length
        compiled = [composer.compile_composer_scheduler(scheduler, state, ratio) for scheduler in schedulers]
        state.max_duration = duration * ratio
        for _ in range(n):
            values.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            state.timestamp = state.timestamp.to_next_batch(run["samples_per_batch"], run["tokens_per_batch"])
            try:
                for scheduler in compiled:
                    scheduler.step()
            except ValueError:
                break
    return values


def ours(settings: dict[str, Any]) -> Any:
    return from_composer(made(settings["name"], settings["arguments"]), **settings["run"])


def theirs(settings: dict[str, Any], n: int) -> list[float]:
    return trained([made(settings["name"], settings["arguments"])], settings["run"], n)


@st.composite
def runs(draw: Any) -> dict[str, Any]:
    """What the trainer is given."""
    sizes = {"ep": draw(st.integers(1, 8)), "sp": draw(st.sampled_from([1, 3, 8])), "tok": draw(st.integers(1, 64))}
    unit, updates = draw(st.sampled_from(["ep", "ba", "sp", "tok"])), draw(st.integers(10, 40))
    return {
        "lr": draw(rates()), "max_duration": duration(draw, sizes, unit, updates), "updates": updates,
        "scale_schedule_ratio": draw(st.sampled_from([1.0, 1.0, 0.5, 1.5, 2.0])), "sizes": sizes, "unit": unit,
    }  # fmt: skip


def duration(draw: Any, sizes: dict[str, int], unit: str, updates: int) -> str:
    """About so many updates, in any unit."""
    if unit == "ep":
        return f"{max(2, updates // sizes['ep'])}ep"
    size = sizes.get(unit, 1)
    return f"{updates * size + draw(st.integers(0, size - 1))}{unit}"


def some_time(draw: Any, run: dict[str, Any], unit: str, low: int = 2) -> str:
    if unit == "dur":
        return f"{draw(st.floats(0.3, 1.3)):.3f}dur"
    return duration(draw, run["sizes"], unit, draw(st.integers(low, 50)))


def finished(run: dict[str, Any]) -> dict[str, Any]:
    sizes = {SIZES[unit]: size for unit, size in run["sizes"].items()}
    return {**{k: run[k] for k in ("lr", "max_duration", "scale_schedule_ratio")}, **sizes}


@st.composite
def plain(draw: Any, name: str, times: tuple[str, ...], **numbers: st.SearchStrategy[Any]) -> dict[str, Any]:
    """A scheduler without a warm-up: its ``times`` in any unit."""
    run = draw(runs())

    def one() -> str:
        return some_time(draw, run, draw(st.sampled_from(["ep", "ba", "sp", "tok", "dur"])))

    given = {key: [one() for _ in range(draw(st.integers(0, 4)))] if key == "milestones" else one() for key in times}
    return settings_of(name, run, given, {key: draw(value) for key, value in numbers.items()})


@st.composite
def warmed(draw: Any, name: str, milestones: bool = False, **numbers: st.SearchStrategy[Any]) -> dict[str, Any]:
    """A scheduler with a warm-up: its times in the unit of the run."""
    run = draw(runs())
    family = {"ep": ["ep", "ba", "dur"], "ba": ["ba", "ep", "dur"]}.get(run["unit"], [run["unit"], "dur"])
    given: dict[str, Any] = {"t_warmup": draw(st.sampled_from(["0ba", "1ba", "0.1dur"]))}
    if given["t_warmup"].endswith("ba") and run["unit"] not in ("ep", "ba"):
        given["t_warmup"] = f"1{run['unit']}"
    if draw(st.booleans()):
        given["t_warmup"] = some_time(draw, run, draw(st.sampled_from(family)), low=3)
    if milestones:
        given["milestones"] = [some_time(draw, run, draw(st.sampled_from(["sp", "ba"]))) for _ in range(2)]
    elif draw(st.booleans()):
        long = int(1.5 * run["updates"] / min(run["scale_schedule_ratio"], 1.0)) + 12
        given["t_max"] = duration(draw, run["sizes"], run["unit"], long)
    given["scale_warmup"] = draw(st.booleans()) and not _vanishes(given["t_warmup"], run)
    return settings_of(name, run, given, {key: draw(value) for key, value in numbers.items()})


def _vanishes(time: str, run: dict[str, Any]) -> bool:
    """Whether scaling leaves nothing of a warm-up, by which the peer would divide."""
    return run["scale_schedule_ratio"] < 1 and time.startswith(("1ba", "1sp", "1tok", "0.1"))


@st.composite
def inverse_root(draw: Any) -> dict[str, Any]:
    run = draw(runs())
    unit = run["unit"]
    floor = draw(rates(0.0, 0.5))
    given: dict[str, Any] = {key: some_time(draw, run, unit) for key in ("t_warmup", "t_scale", "t_cooldown")}
    given |= {key: f"0{unit}" for key in ("t_warmup", "t_cooldown") if draw(st.integers(0, 4)) == 0}
    if draw(st.booleans()):
        given["t_max"] = some_time(draw, run, draw(st.sampled_from([unit, "dur"])))
    numbers = {"alpha_f_decay": floor, "alpha_f_cooldown": floor * draw(rates(0.0, 1.0))}
    return settings_of("InverseSquareRootWithWarmupScheduler", run, given, numbers)


def settings_of(name: str, run: dict[str, Any], times: dict[str, Any], numbers: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "arguments": {**times, **numbers}, "run": finished(run), "updates": run["updates"]}


def case(settings: st.SearchStrategy[dict[str, Any]], row: str, says: str, note: str = "") -> Case:
    return Case(
        "composer", row, settings, ours, theirs, says=says, length=lambda drawn: 2 * drawn["updates"], note=note
    )


FLOOR = {"alpha_f": rates(0.0, 1.0)}
SLOPE = "C1: with scale_warmup a scaled warm-up is left where the unscaled one ends"
CASES = [
    case(plain("StepScheduler", ("step_size",), gamma=rates(0.1, 1.5)), "StepScheduler", "Exponential(...).stairs(n)"),
    case(plain("MultiStepScheduler", ("milestones",), gamma=rates(0.1, 1.5)), "MultiStepScheduler", "Piecewise(...)"),
    case(
        plain("ConstantScheduler", ("t_max",), alpha=rates(0.0, 2.0)), "ConstantScheduler",
        "Constant(alpha, n) >> Constant(1)", "C1: returns to 1 after t_max",
    ),
    case(
        plain("LinearScheduler", ("t_max",), alpha_i=rates(0.0, 2.0), alpha_f=rates(0.0, 2.0)), "LinearScheduler",
        "Linear(alpha_i, alpha_f, n)",
    ),
    case(
        plain("ExponentialScheduler", ("decay_period",), gamma=rates(0.1, 1.1)), "ExponentialScheduler",
        "Exponential(1, gamma, every=n)",
    ),
    case(plain("CosineAnnealingScheduler", ("t_max",), **FLOOR), "CosineAnnealingScheduler", "Cosine(1, alpha_f, n)"),
    case(
        plain(
            "CosineAnnealingWarmRestartsScheduler", ("t_0",),
            t_mult=st.sampled_from([1.0, 2.0, 1.5, 0.5, 0.9, 1.01, 0.0]), **FLOOR,
        ),
        "CosineAnnealingWarmRestartsScheduler", "Cosine(1, alpha_f, n).repeat(stretch=m)",
        "a length that is not whole is cut, so other factors are chained; held where the peer raises",
    ),
    case(
        plain("PolynomialScheduler", ("t_max",), power=st.sampled_from([0, 0.5, 1.0, 2.0, 3.5]), **FLOOR),
        "PolynomialScheduler", "Polynomial(1, alpha_f, n, power=k)",
    ),
    case(
        warmed("MultiStepWithWarmupScheduler", milestones=True, gamma=rates(0.1, 1.0)), "MultiStepWithWarmupScheduler",
        "Linear(0, 1, w) >> Piecewise(...).after(w)", SLOPE,
    ),
    case(
        warmed("ConstantWithWarmupScheduler", alpha=rates(0.0, 2.0)), "ConstantWithWarmupScheduler",
        "Linear(0, alpha, w) >> Constant(alpha)", SLOPE,
    ),
    case(
        warmed("LinearWithWarmupScheduler", alpha_i=rates(0.0, 2.0), **FLOOR), "LinearWithWarmupScheduler",
        "Linear(0, alpha_i, w) >> Linear(alpha_i, alpha_f, n - w)", SLOPE,
    ),
    case(
        warmed("CosineAnnealingWithWarmupScheduler", **FLOOR), "CosineAnnealingWithWarmupScheduler",
        "Linear(0, 1, w) >> Cosine(1, alpha_f, n - w)", SLOPE,
    ),
    case(
        warmed("PolynomialWithWarmupScheduler", power=st.sampled_from([0, 1.0, 2.0, 3.5]), **FLOOR),
        "PolynomialWithWarmupScheduler", "Linear(0, 1, w) >> Polynomial(1, alpha_f, n - w, power=k)", SLOPE,
    ),
    case(
        inverse_root(), "InverseSquareRootWithWarmupScheduler",
        "Linear(0, 1, w) >> InverseTime(1 - f, 1, every=s, power=0.5) + f >> Linear(..., end, c)",
    ),
    Case(
        "composer", "several schedulers",
        st.tuples(
            plain("LinearScheduler", ("t_max",)), plain("ConstantScheduler", ("t_max",), alpha=rates()),
        ).map(lambda pair: {**pair[0], "second": pair[1]["arguments"]}),
        lambda s: from_composer(
            [made("LinearScheduler", s["arguments"]), made("ConstantScheduler", s["second"])], **s["run"]
        ),
        lambda s, n: trained(
            [made("LinearScheduler", s["arguments"]), made("ConstantScheduler", s["second"])], s["run"], n
        ),
        says="the last of them", length=lambda s: 2 * s["updates"],
        note='the documentation says that they multiply; in the trainer each sets the rate anew (several="product")',
    ),
]  # fmt: skip


def test_every_row_is_compared_or_refused_with_a_reason() -> None:
    covers(ROWS, CASES, REFUSED)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_whole_curve(case: Case) -> None:
    check(case, examples=20)


RUN = {"max_duration": "100ba", "batches_per_epoch": 10}


def test_a_name_a_configuration_and_the_peers_object_are_one() -> None:
    expected = from_composer("CosineAnnealingWithWarmupScheduler", 0.1, t_warmup="2ep", alpha_f=0.1, **RUN)
    configuration = {"name": "cosine_with_warmup", "t_warmup": "2ep", "alpha_f": 0.1}
    object_ = made("CosineAnnealingWithWarmupScheduler", {"t_warmup": time.Time(2, "ep"), "alpha_f": 0.1})
    assert expected == from_composer(configuration, 0.1, **RUN) == from_composer(object_, 0.1, **RUN)
    assert repr(expected) == "Linear(0.0, 0.1, 20) >> Cosine(0.1, 0.010000000000000002, 80)"


def test_c1_a_scaled_warm_up_jumps() -> None:
    lr = from_composer(
        "LinearWithWarmupScheduler", t_warmup="10ba", alpha_f=1.0, scale_warmup=True, scale_schedule_ratio=2.0, **RUN
    )
    assert lr.values(9, 11) == pytest.approx([0.45, 1.0])


def test_update_0_knows_the_duration_before_it_is_scaled() -> None:
    run = {"lr": 0.1, "max_duration": "12ba", "scale_schedule_ratio": 0.5}
    sizes = {"batches_per_epoch": 1, "samples_per_batch": 1, "tokens_per_batch": 1}
    scheduler = made("LinearWithWarmupScheduler", {"t_warmup": "0.1dur"})
    expected = trained([scheduler], {**run, **sizes}, 8)
    assert expected[0] == 0.0  # a warm-up of 1 batch, which then is a warm-up of none
    assert from_composer(scheduler, **run).values(0, 8) == pytest.approx(expected, abs=1e-15)


def test_several_multiply_only_if_asked_to() -> None:
    both = [{"name": "ConstantScheduler", "alpha": 0.5, "t_max": "20ba"}, {"name": "LinearScheduler"}]
    assert from_composer(both, 0.1, **RUN)(10) == pytest.approx(0.09)
    assert from_composer(both, 0.1, several="product", **RUN)(10) == pytest.approx(0.045)


def test_the_duration_may_be_a_number_of_epochs() -> None:
    assert from_composer("LinearScheduler", max_duration=3, batches_per_epoch=10).steps == 30


REFUSALS: list[tuple[Any, dict[str, Any], str]] = [
    ("LinearScheduler", {"t_max": "1.5ep"}, "a time is a whole number"),
    ("LinearScheduler", {"t_max": "1h30m"}, "a time is a whole number"),
    ("LinearScheduler", {"t_max": 10}, "a time is a whole number"),
    ("LinearScheduler", {"t_max": "5sp"}, "samples_per_batch must be given"),
    ("LinearScheduler", {"t_max": "0ba"}, "steps"),
    ("LinearScheduler", {"max_duration": "0.5dur"}, "max_duration must be a length"),
    ("LinearScheduler", {"scale_schedule_ratio": 0.001}, "leaves nothing"),
    ("LinearScheduler", {"several": "sum"}, "several"),
    ("LinearWithWarmupScheduler", {"t_warmup": "10ba", "t_max": "50ba"}, "must be at least the length of the run"),
    ("constant_with_warmup", {"t_warmup": "10ba", "t_max": "50ba"}, "must be at least the length of the run"),
    (
        "LinearWithWarmupScheduler",
        {"t_warmup": "10ba", "t_max": "100ba", "scale_schedule_ratio": 0.5},
        "must be at least the length of the run",
    ),
    ("LinearWithWarmupScheduler", {"t_warmup": "5tok", "tokens_per_batch": 1}, "must have the same unit"),
    ("CosineAnnealingWarmRestartsScheduler", {"t_0": "0ba"}, "t_0 must be at least 1"),
    ("inv_sqrt_with_warmup", {"t_warmup": "1ep", "t_scale": "5ba", "t_cooldown": "5ba"}, "unit of max_duration"),
    ("inv_sqrt_with_warmup", {"t_warmup": "1ba", "t_scale": "5ba", "t_cooldown": "5ba", "alpha_f_cooldown": 0.1}, "at"),
    ("LinearSchedular", {}, "LinearScheduler"),
    ({"t_warmup": "5ba"}, {}, "unknown schedule None"),
    (object(), {}, "cannot read"),
    ([], {}, "is empty"),
]


@pytest.mark.parametrize(("scheduler", "arguments", "sentence"), REFUSALS)
def test_what_the_trainer_refuses_is_refused(scheduler: Any, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ScheduleError, match=sentence):
        from_composer(scheduler, **{**RUN, **arguments})


def test_the_trainer_too_refuses_a_scaled_end_before_the_unscaled_run() -> None:
    scheduler = made("LinearWithWarmupScheduler", {"t_warmup": "10ba", "t_max": "100ba"})
    run = {**RUN, "lr": 0.1, "scale_schedule_ratio": 0.5, "samples_per_batch": 1, "tokens_per_batch": 1}
    with pytest.raises(ValueError, match="must be greater than or equal to max_duration"):
        trained([scheduler], run, 10)
