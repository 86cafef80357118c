"""Hugging Face, the living peer: what the schedulers of ``get_scheduler`` leave in the optimizer."""

import logging
import types
import warnings
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings as runs, strategies as st
from parity.cases import Case, Watched, check, covers, lengths, rates
from parity.living import living
from transformers import optimization

from ratewise.errors import ScheduleError
from ratewise.interop import from_hf, hf

stand_in = types.SimpleNamespace(get_logger=logging.getLogger)
diffusers = living("diffusers.optimization", {"diffusers.utils": {"logging": stand_in}})

ROWS = [*hf.PEER.entries, *hf.REFUSED]
REFUSED = hf.REFUSED

COMMON = ("num_warmup_steps", "num_training_steps")


def made(name: str, settings: dict[str, Any], library: Any = optimization) -> Any:
    """The peer's own scheduler, over one parameter group whose rate may differ from the optimizer's own."""
    arguments = dict(settings)
    group = {"params": [torch.zeros(1, requires_grad=True)], "lr": arguments.pop("lr")}
    optimizer = torch.optim.SGD([group], lr=arguments.pop("lr_init", group["lr"]))
    arguments.pop("metrics", None)
    if library is diffusers:
        return library.get_scheduler(name, optimizer, **arguments)
    common = {key: arguments.pop(key) for key in COMMON if key in arguments}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that num_stable_steps wins over num_training_steps
        return library.get_scheduler(name, optimizer, **common, scheduler_specific_kwargs=arguments)


def stepped(scheduler: Any, n: int, metrics: Any = None) -> list[float]:
    """The rates of updates 0 ... n - 1, up to where the peer raises."""
    values = []
    for t in range(n):
        values.append(scheduler.optimizer.param_groups[0]["lr"])
        try:
            scheduler.optimizer.step()
            scheduler.step(*([] if metrics is None else [metrics[t % len(metrics)]]))
        except ZeroDivisionError:
            break
    return values


def case(name: str, variant: str, says: str, note: str = "", library: Any = optimization, **arguments: Any) -> Case:
    return Case(
        "Hugging Face", f"{name} ({variant})" if variant else name,
        st.fixed_dictionaries({"lr": rates(), **arguments}),
        lambda s: from_hf(name, **s),
        lambda s, n: stepped(made(name, s, library), n),
        says=says, note=note, length=lambda s: max(s.get(key, 1) for key in COMMON),
    )  # fmt: skip


def ruled(name: str, says: str, length: int, note: str = "", **arguments: Any) -> Case:
    metrics = st.lists(st.floats(0.1, 3.0) | st.sampled_from([1.0, 1.0, 0.5, float("nan")]), min_size=1, max_size=30)
    return Case(
        "Hugging Face", name,
        st.fixed_dictionaries({"lr": rates(), "metrics": metrics, **arguments}),
        lambda s: Watched(from_hf(name, **{k: v for k, v in s.items() if k != "metrics"}), s["metrics"]),
        lambda s, n: stepped(made(name, s), n, s["metrics"]),
        says=says, note=note, length=lambda s: length,
    )  # fmt: skip


WARM = {"num_warmup_steps": lengths(0, 25)}
RUN = {**WARM, "num_training_steps": lengths(0, 60)}
CYCLES = {"num_cycles": st.sampled_from([0.5, 1.0, 0.25, 0.0, 3.5]) | st.floats(0.05, 6.0)}
SHARE = st.floats(0.0, 1.2)
PHASE = st.sampled_from(["linear", "cosine", "1-sqrt"])
STABLE = {
    "num_decay_steps": lengths(0, 30),
    "warmup_type": PHASE,
    "decay_type": PHASE,
    "min_lr_ratio": st.floats(-0.2, 1.0),
    **CYCLES,
}
MARGINS = {"threshold": st.floats(0.0, 0.3), "threshold_mode": st.sampled_from(["rel", "abs"])}
PLATEAU = {
    "mode": st.sampled_from(["min", "max"]),
    "factor": st.floats(0.1, 0.95),
    "patience": st.integers(0, 3),
    "cooldown": st.integers(0, 3),
    "eps": st.sampled_from([0.0, 1e-8]),
    **MARGINS,
}

WAVES = "Linear(0, lr, w) >> (Cosine(lr, m, n) >> Cosine(m, lr, n)).repeat()"
CLIMBS = "climbs again past its end (H1)"
POLYNOMIAL = "Linear(0, lr, w) >> Polynomial(lr, end, T - w, power=p)"
INVERSE = "Linear(0, lr, w) >> InverseTime(lr, 1, every=n, power=0.5)"
STABLES = "Linear(m, lr, w) >> Constant(lr, s) >> Cosine(lr, m, d)"
SOONER = 'Linear(0, lr, w, ends="(]") >> (Cosine(lr, m, n) >> Cosine(m, lr, n)).repeat().after(1)'
RULES = st.lists(st.tuples(st.floats(0.0, 2.0), st.integers(-3, 40)), max_size=5).map(
    lambda rules: ",".join([*(f"{factor!r}:{step}" for factor, step in rules), "0.125"])
)

CASES = [
    case("constant", "", "Constant(lr)", **RUN),
    case("constant_with_warmup", "", "Linear(0, lr, w) >> Constant(lr)", **RUN),
    case("linear", "", "Linear(0, lr, w) >> Linear(lr, 0, T - w)", **RUN),
    case("cosine", "", WAVES, CLIMBS, **RUN, **CYCLES),
    case(
        "cosine_with_restarts", "", "Linear(0, lr, w) >> Cosine(lr, 0, (T - w) / c).repeat(c)",
        "a restart may come one update late, by rounding", **RUN, num_cycles=st.integers(0, 60),
    ),
    case(
        "cosine_with_restarts", "parts of a cycle", "Linear(0, lr, w) >> Cosine(lr, 0, n).repeat().until(T - w)",
        "then 0", **RUN, **CYCLES,
    ),
    case(
        "polynomial", "", POLYNOMIAL, "raises where T = w (H2)",
        **WARM, num_training_steps=lengths(1, 60), lr_end=st.floats(0.0, 5e-5),
        power=st.floats(0.2, 4.0) | st.sampled_from([0.0, 1.0]),
    ),
    case(
        "polynomial", "a group's own rate", POLYNOMIAL, "lr_end is scaled with the rate (H2)",
        **WARM, num_training_steps=lengths(1, 60), lr_init=rates(1e-3), lr_end=st.floats(0.0, 5e-4),
    ),
    case("inverse_sqrt", "", INVERSE, **RUN),
    case("inverse_sqrt", "timescale", INVERSE, **RUN, timescale=lengths(1, 1000)),
    case("cosine_with_min_lr", "", WAVES, CLIMBS, **RUN, **CYCLES, min_lr_rate=st.floats(-0.2, 1.2)),
    case(
        "cosine_with_min_lr", "a group's own rate", WAVES, "min_lr is scaled with the rate",
        **RUN, lr_init=rates(1e-3), min_lr=st.floats(0.0, 1e-3),
    ),
    case("cosine_warmup_with_min_lr", "", SOONER, CLIMBS, **RUN, **CYCLES, min_lr_rate=st.floats(-0.2, 1.2)),
    case(
        "cosine_warmup_with_min_lr", "warmup_lr_rate", SOONER.replace("(0", "(r").replace("(]", "[]"), CLIMBS,
        **RUN, min_lr=st.floats(0.0, 1e-4), warmup_lr_rate=st.floats(-0.2, 1.2),
    ),
    case("warmup_stable_decay", "", STABLES, "a decay without room starts on its way (H4)", **RUN, **STABLE),
    case("warmup_stable_decay", "num_stable_steps", STABLES, **RUN, **STABLE, num_stable_steps=st.integers(-10, 30)),
    ruled(
        "reduce_lr_on_plateau", 'Constant(lr) * Plateau(f, p, like="torch")', 40,
        **PLATEAU, min_lr=st.floats(0.0, 1e-2),
    ),
    ruled(
        "greedy", 'Constant(lr) * Greedy(f, p, like="hf")', 200, "may not lower a rate below 1e-3 (H5)",
        **PLATEAU, warmup=st.integers(0, 3), min_lr=st.floats(1e-5, 1e-2), max_lr=st.floats(1e-3, 2.0),
        smooth=st.booleans(), window_size=st.integers(2, 6), reset_start=st.integers(0, 5),
    ),
    case(
        "piecewise_constant", "", "Piecewise([...], [...])", "boundaries are counted from the start (H8)", diffusers,
        step_rules=RULES,
    ),
]  # fmt: skip


def test_every_row_is_compared_or_refused_with_a_reason() -> None:
    covers(ROWS, CASES, REFUSED)
    assert {
        "reduce_lr_on_plateau" if str(x.value) == "reduce_lr_on_plateau" else x.value
        for x in optimization.SchedulerType
    } <= set(ROWS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_whole_curve(case: Case) -> None:
    check(case, examples=60)


@pytest.mark.parametrize("case", [c for c in CASES if "(" not in c.row], ids=lambda case: case.name)
def test_a_scheduler_object_reads_as_its_name_does(case: Case) -> None:
    name, library = case.row, diffusers if case.row == "piecewise_constant" else optimization

    @runs(max_examples=5, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(case.arguments)
    def compare(settings: dict[str, Any]) -> None:
        by_name = {key: value for key, value in settings.items() if key != "metrics"}
        scheduler = made(name, settings, library)
        assert from_hf(scheduler).values(0, 130) == pytest.approx(from_hf(name, **by_name).values(0, 130), abs=1e-15)

    if library is diffusers:
        with pytest.raises(ScheduleError, match="none of transformers' own functions"):
            from_hf(made(name, {"lr": 0.1, "step_rules": "1:10,0.1"}, library))
    else:
        compare()


def test_restarts_come_late_where_the_peer_rounds_down() -> None:
    settings = {"lr": 1.0, "num_warmup_steps": 0, "num_training_steps": 49, "num_cycles": 49}
    assert from_hf("cosine_with_restarts", **settings)(1) == 0.0  # 49 * (1 / 49) is below 1
    assert from_hf("cosine_with_restarts", **settings)(3) == 1.0


def test_polynomial_holds_where_the_peer_raises() -> None:
    settings = {"lr": 0.5, "num_warmup_steps": 4, "num_training_steps": 4}
    assert stepped(made("polynomial", settings), 10) == [0.0, 0.125, 0.25, 0.375]
    assert from_hf("polynomial", **settings).values(0, 7) == [0.0, 0.125, 0.25, 0.375, 0.375, 0.375, 0.375]


def test_groups_of_a_scheduler_have_their_own_rates() -> None:
    groups = [{"params": [torch.zeros(1)], "lr": lr} for lr in (0.1, 0.2)]
    scheduler = optimization.get_linear_schedule_with_warmup(torch.optim.SGD(groups, lr=1.0), 2, 6)
    assert [from_hf(scheduler, group=i)(2) for i in (0, 1)] == [0.1, 0.2]
    with pytest.raises(ScheduleError, match="one of its groups"):
        from_hf(scheduler, group=2)


def test_an_enum_names_a_schedule_too() -> None:
    assert from_hf(optimization.SchedulerType.LINEAR, 0.1, 1, 2) == from_hf("linear", 0.1, 1, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("linaer", 0.1, 0, 10), "unknown schedule 'linaer'.*linear"),
        (("linear", None, 0, 10), "lr, the rate of the optimizer"),
        (("linear", -0.1, 0, 10), "lr, the rate of the optimizer"),
        (("linear", 0.1, None, 10), "linear: missing a required argument: 'num_warmup_steps'"),
        (("linear", 0.1, -1, 10), "num_warmup_steps must be an integer of at least 1"),
        (("cosine_with_min_lr", 0.1, 1, 10), "give min_lr"),
        (("polynomial", 1e-8, 1, 10), "lr_end .1e-07. must be below"),
        (("warmup_stable_decay", 0.1, 1, 10), "num_decay_steps"),
        (("AdafactorSchedule", 0.1), "no function of position"),
        ((3,), "needs a name of get_scheduler"),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence(arguments: Any, message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        from_hf(*arguments)


def test_further_arguments_are_refused_in_a_sentence() -> None:
    for arguments, message in [
        ({"name": "piecewise_constant", "step_rules": "1:10:3,2"}, "step_rules must be text"),
        ({"name": "warmup_stable_decay", "num_warmup_steps": 1, "num_decay_steps": 3}, "num_stable_steps"),
        ({"name": "inverse_sqrt", "num_warmup_steps": 1, "timescale": 0}, "every must be"),
        ({"name": "cosine_with_restarts", "num_warmup_steps": 1, "num_training_steps": 5, "num_cycles": -1}, "least 0"),
        ({"name": "polynomial", "num_warmup_steps": 1, "num_training_steps": 5, "power": -1.0}, "power must be"),
        ({"name": "constant", "num_cycles": 2}, "unexpected keyword"),
    ]:
        with pytest.raises(ScheduleError, match=message):
            from_hf(lr=0.1, **arguments)


def test_adafactor_schedule_is_refused_as_an_object_too() -> None:
    optimizer = optimization.Adafactor([torch.zeros(1, requires_grad=True)], lr=None)
    with pytest.raises(ScheduleError, match="Adafactor"):
        from_hf(optimization.AdafactorSchedule(optimizer))
