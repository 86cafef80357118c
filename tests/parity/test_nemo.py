"""NeMo's schedules (``nemo.core.optim.lr_scheduler``), the living peer."""

import warnings
from typing import Any

import pytest
import torch
from hypothesis import assume, strategies as st
from parity.cases import Case, check, covers, lengths, rates
from parity.living import living

from ratewise.errors import ScheduleError
from ratewise.interop import from_nemo

nemo = living(
    "nemo.core.optim.lr_scheduler",
    {
        "omegaconf": {"DictConfig": dict, "OmegaConf": None},
        "nemo.core.classes.common": {"safe_instantiate": None},
        "nemo.core.config.schedulers": dict.fromkeys(
            ("SchedulerParams", "get_scheduler_config", "register_scheduler_params")
        ),
        "nemo.utils": {"logging": None},
        "nemo.utils.model_utils": {"maybe_update_config_version": None},
    },
)

ROWS = [
    "WarmupPolicy", "WarmupHoldPolicy", "WarmupHoldAnnealLinear", "WarmupHoldAnnealOneMinusSquareRoot",
    "SquareAnnealing", "SquareRootAnnealing", "CosineAnnealing", "NoamAnnealing", "NoamHoldAnnealing",
    "WarmupAnnealing", "InverseSquareRootAnnealing", "T5InverseSquareRootAnnealing", "PolynomialDecayAnnealing",
    "PolynomialHoldDecayAnnealing",
]  # fmt: skip
REFUSED: dict[str, str] = {}

RAISED = (ZeroDivisionError, ValueError, TypeError, AssertionError)


def made(name: str, settings: dict[str, Any]) -> Any:
    """NeMo's own scheduler, over two groups of different rates; a setting at which it raises at once is dropped."""
    arguments = dict(settings)
    lr = arguments.pop("lr")
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": rate} for rate in (lr, 2 * lr)]
    try:
        return getattr(nemo, name)(torch.optim.SGD(groups, lr=lr), **arguments)
    except RAISED:
        assume(False)


def stepped(name: str, settings: dict[str, Any], n: int, group: int = 0) -> list[float]:
    """The rates of n updates; up to where NeMo raises."""
    scheduler = made(name, settings)
    values = []
    for _ in range(n):
        values.append(scheduler.optimizer.param_groups[group]["lr"])
        scheduler.optimizer.step()
        try:
            scheduler.step()
        except RAISED:
            break
    assert not any(isinstance(value, complex) for value in values)
    return values


def case(row: str, says: str, arguments: dict[str, Any], note: str = "", one_of: Any = None) -> Case:
    name = row.split(" (", 1)[0]
    drawn = st.fixed_dictionaries({"lr": rates(), **arguments}, optional=one_of)
    return Case(
        "nemo", row, drawn,
        lambda s: from_nemo(made(name, s)),
        lambda s, n: stepped(name, s, n),
        says=says, length=lambda s: s["max_steps"] or 40, note=note,
    )  # fmt: skip


FLOOR = {"min_lr": st.one_of(st.just(0.0), rates(1e-6, 1e-2))}
RUN = {"max_steps": lengths(), **FLOOR}
STEPS = {"warmup_steps": st.one_of(st.none(), st.integers(0, 20))}
RATIO = {"warmup_ratio": st.floats(0.0, 0.5)}
HELD = {"hold_steps": st.one_of(st.none(), st.integers(0, 30))}
RISE = 'Linear(0, lr, w + 1, ends="(]")'
END = ">> Constant(min_lr)"

CASES = [
    case(
        "WarmupPolicy", f"{RISE} >> Constant(lr) {END}",
        {**RUN, **STEPS, "max_steps": st.one_of(st.none(), lengths())},
    ),
    case("WarmupPolicy (ratio)", "the same, w = int(warmup_ratio * max_steps)", {**RUN, **RATIO}),
    case(
        "WarmupHoldPolicy", f"{RISE} >> Constant(lr) {END}", {**RUN, **STEPS, **HELD},
        "a hold may outlast max_steps",
    ),
    case("WarmupHoldPolicy (ratio)", "the same", {**RUN, **RATIO, "hold_ratio": st.floats(0.0, 0.7)}),
    case(
        "WarmupHoldAnnealLinear", f"{RISE} >> Constant(lr, h) >> Linear(lr, min_lr, n - h) {END}",
        {**RUN, **STEPS, **HELD},
        "without a hold the line starts at update 0, and the rate jumps onto it after the warm-up",
    ),
    case(
        "WarmupHoldAnnealOneMinusSquareRoot",
        f'{RISE} >> Constant(lr, h) >> Ramp(lr, 0, n - h, ease="1-sqrt").clip(low=min_lr) {END}',
        {**RUN, **STEPS, **HELD}, "without a hold as WarmupHoldAnnealLinear",
    ),
    case(
        "SquareAnnealing", f"{RISE} >> Polynomial(lr, 0, n - w, power=2).clip(low=min_lr).after(1) {END}",
        {**RUN, **STEPS},
    ),
    case(
        "SquareRootAnnealing", f"{RISE} >> Polynomial(lr, 0, n, power=0.5).clip(low=min_lr).after(w + 1) {END}",
        {**RUN, **STEPS}, "not moved by the warm-up, after which the rate jumps (N1)",
    ),
    case("CosineAnnealing", f"{RISE} >> Cosine(lr, min_lr, n - w).after(1) {END}", {**RUN, **STEPS}),
    case(
        "CosineAnnealing (constant_steps)", "Linear(0, lr, w) >> Cosine(lr, min_lr, n - w - c) >> Constant(min_lr)",
        {**RUN, **STEPS, "constant_steps": lengths(1, 20)}, "every group has the rate of the first (N2)",
    ),
    case(
        "NoamAnnealing",
        "(Linear(0, peak, w) >> InverseTime(peak, 1 / w, power=0.5).clip(low=min_lr)).along(Formula('max(t, 1)'))",
        {**RUN, **STEPS, "d_model": lengths(1, 512)}, "peak = lr / sqrt(d_model * w)",
    ),
    case(
        "NoamHoldAnnealing",
        f"{RISE} >> Constant(lr, h) >> InverseTime(lr, 1 / w, power=decay_rate).clip(low=min_lr) {END}",
        {**RUN, **STEPS, **HELD, "decay_rate": rates(0.1, 2.0)},
        "raises without a warm-up: at once, which is an error of ours, or at the end of the hold",
    ),
    case(
        "WarmupAnnealing", f"{RISE} >> Linear(lr, min_lr, n - w).after(1) {END}", {**RUN, **STEPS},
        "after the warm-up every group has the rate of the first (N2)",
    ),
    case(
        "InverseSquareRootAnnealing", f"{RISE} >> InverseTime(lr, 1 / (w + 1), power=0.5).after(1) {END}",
        {**RUN, **STEPS},
    ),
    case(
        "T5InverseSquareRootAnnealing",
        f"Constant(c**-0.5, c + 1) >> InverseTime(c**-0.5, 1 / c, power=0.5).after(1) {END}",
        {**RUN, "constant_steps": lengths(1, 40)}, "whatever lr is (N2)",
    ),
    case(
        "PolynomialDecayAnnealing", f"{RISE} >> Polynomial(lr, min_lr, n - w, power=power).after(1) {END}",
        {**RUN, **STEPS, "power": rates(0.2, 3.0), "cycle": st.booleans()},
        "a cycle is never passed before max_steps",
    ),
    case(
        "PolynomialHoldDecayAnnealing",
        f"{RISE} >> Constant(lr, h) >> Polynomial(lr, min_lr, n - h, power=power) {END}",
        {**RUN, **STEPS, **HELD, "power": rates(0.2, 3.0), "cycle": st.booleans()},
        "without a hold it counts from update 0 over n - w, and the rate jumps (N1)",
    ),
]  # fmt: skip


def test_every_row_is_compared_or_refused_with_a_reason() -> None:
    covers(ROWS, CASES, REFUSED)
    theirs = {name for name, made in nemo.AVAILABLE_SCHEDULERS.items() if made.__module__ == nemo.__name__}
    assert theirs == set(ROWS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_whole_curve(case: Case) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*lr_scheduler.step.*", UserWarning)
        check(case)


def test_names_take_the_peers_own_arguments() -> None:
    settings = {"lr": 0.1, "max_steps": 40, "warmup_ratio": 0.1, "hold_ratio": 0.2}
    assert from_nemo("WarmupHoldAnnealLinear", **settings) == from_nemo(made("WarmupHoldAnnealLinear", settings))


@pytest.mark.parametrize("name", ["WarmupAnnealing", "CosineAnnealing"])
def test_every_group_has_the_rate_that_the_peer_gives_it(name: str) -> None:
    settings = {"lr": 0.1, "max_steps": 40, "warmup_steps": 4, "constant_steps": 5}
    if name == "WarmupAnnealing":
        del settings["constant_steps"]
    ours = from_nemo(made(name, settings), group=1)
    for t, theirs in enumerate(stepped(name, settings, 60, group=1)):
        assert ours(t) == pytest.approx(theirs, abs=1e-13), t


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("CosineAnealing", {"lr": 0.1}, "CosineAnnealing"),
        ("WarmupPolicy", {"lr": 0.1, "warmup_steps": 3, "warmup_ratio": 0.1}, "give warmup_steps or warmup_ratio"),
        ("WarmupPolicy", {"lr": 0.1, "warmup_ratio": 0.1}, "warmup_ratio needs max_steps"),
        ("NoamHoldAnnealing", {"lr": 0.1, "max_steps": 9}, "warmup_steps must be at least 1"),
        ("CosineAnnealing", {"lr": 0.1, "max_steps": 9, "min_lr": 0.2}, "min_lr must be below lr"),
    ],
)
def test_wrong_input_is_named(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        from_nemo(name, **arguments)
