"""mmengine's schedulers, the living peer: stepped after updates and after epochs, as its hook does."""

import math
import types
from typing import Any

import pytest
import torch
from hypothesis import assume, strategies as st
from parity.cases import Case, Watched, check, covers, lengths, rates
from parity.living import living

from ratewise.errors import ScheduleError
from ratewise.interop import from_mmengine

wrapper = living("mmengine.optim.optimizer.base").BaseOptimWrapper
registry = types.SimpleNamespace(register_module=lambda: lambda kind: kind)
SUPPLIED = {
    "mmengine.optim": {"BaseOptimWrapper": wrapper},
    "mmengine.logging": {"print_log": print},
    "mmengine.registry": {"PARAM_SCHEDULERS": registry},
}
rate = living("mmengine.optim.scheduler.lr_scheduler", SUPPLIED)
momentum = living("mmengine.optim.scheduler.momentum_scheduler", SUPPLIED)

ROWS = [
    "Step", "MultiStep", "Exponential", "Constant", "Linear", "CosineAnnealing", "Poly", "OneCycle", "CosineRestart",
    "ReduceOnPlateau", "Momentum", "several schedulers",
]  # fmt: skip
REFUSED: dict[str, str] = {}


def made(configuration: dict[str, Any], optimizer: Any, epoch_length: int) -> Any:
    """The peer's own scheduler, as its registry builds it."""
    arguments = dict(configuration)
    name = arguments.pop("type")
    kind = getattr(momentum if name.endswith("Momentum") else rate, name)
    if arguments.pop("convert_to_iter_based", False):
        return kind.build_iter_from_epoch(optimizer, epoch_length=epoch_length, **arguments)
    return kind(optimizer, **arguments)


def optimizer_of(settings: dict[str, Any]) -> Any:
    return torch.optim.SGD(
        [torch.zeros(1, requires_grad=True)], lr=settings["lr"], momentum=settings.get("momentum", 0.9)
    )


def trained(settings: dict[str, Any], n: int) -> list[float]:
    """The values of updates 0 ... n - 1, up to where the peer raises."""
    optimizer, values = optimizer_of(settings), []
    length = settings.get("epoch_length") or 1
    schedulers = [made(configuration, optimizer, length) for configuration in settings["schedulers"]]
    for t in range(n):
        values.append(optimizer.param_groups[0][settings.get("parameter", "lr")])
        optimizer.step()
        try:
            for by_epoch in (False, True):
                for scheduler in schedulers:
                    if scheduler.by_epoch == by_epoch and (not by_epoch or (t + 1) % length == 0):
                        scheduler.step()
        except (ZeroDivisionError, ValueError):
            break
    return values


def ours(settings: dict[str, Any]) -> Any:
    return from_mmengine(**settings)


def from_objects(settings: dict[str, Any]) -> Any:
    optimizer, length = optimizer_of(settings), settings.get("epoch_length")
    schedulers = [made(configuration, optimizer, length or 1) for configuration in settings["schedulers"]]
    known = ["epoch_length", "parameter"] + ["lr"] * (settings["schedulers"][0]["type"] == "OneCycleLR")
    return from_mmengine(schedulers, **{key: settings[key] for key in known if key in settings})


def window(draw: Any, low: int = 1) -> dict[str, int]:
    """Where a scheduler begins and ends; some have no end, as by default."""
    begin = draw(st.sampled_from([0, 0, 1, 5]))
    end = draw(st.one_of(st.none(), st.integers(begin + low, begin + 45)))
    return {key: value for key, value in {"begin": begin, "end": end}.items() if value is not None and value != 0}


@st.composite
def one(draw: Any, name: str, low: int = 1, **arguments: st.SearchStrategy[Any]) -> dict[str, Any]:
    """One scheduler; by epoch, by update, or by epoch and converted."""
    configuration = {"type": name, **window(draw, low), **{key: draw(value) for key, value in arguments.items()}}
    settings = {"lr": draw(rates(0.01, 1.0)), "schedulers": [configuration]}
    match draw(st.sampled_from(["epochs", "updates", "updates of epochs", "converted"])):
        case "updates":
            configuration["by_epoch"] = False
        case "updates of epochs":
            settings["epoch_length"] = draw(st.integers(1, 4))
        case "converted":
            configuration["convert_to_iter_based"] = True
            settings["epoch_length"] = draw(st.integers(1, 4))
    if name.endswith("Momentum"):
        settings |= {"momentum": draw(rates(0.5, 0.99)), "parameter": "momentum"}
    return settings


OPTIONAL_FLOOR = st.one_of(st.none(), rates(0.0, 0.5))
EXAMPLES = {
    "Step": {"step_size": lengths(1, 20), "gamma": rates(0.1, 1.2)},
    "MultiStep": {
        "milestones": st.lists(st.one_of(st.just(0), st.integers(0, 40)), max_size=5),
        "gamma": rates(0.1, 1.2),
    },
    "Exponential": {"gamma": rates(0.5, 1.05)},
    "Constant": {"factor": st.one_of(st.just(0.0), rates(0.0, 1.0))},
    "Linear": {"start_factor": st.one_of(st.just(0.0), rates(1e-3, 1.0)), "end_factor": rates(0.0, 1.0)},
    "Poly": {"power": st.sampled_from([0, 0.5, 1.0, 2.0, 0.9]), "eta_min": rates(0.0, 0.01)},
}


@st.composite
def cosine(draw: Any) -> dict[str, Any]:
    """One that may end before ``T_max``, or climb again after it."""
    floor = draw(st.sampled_from([{}, {"eta_min": draw(rates(0.0, 0.01))}, {"eta_min_ratio": draw(rates(0.0, 1.0))}]))
    settings = draw(one("CosineAnnealingLR", T_max=st.one_of(st.none(), lengths(1, 20))))
    settings["schedulers"][0] |= floor
    return settings


@st.composite
def one_cycle(draw: Any) -> dict[str, Any]:
    settings = draw(
        one(
            "OneCycleLR",
            eta_max=rates(),
            pct_start=rates(0.0, 1.0),
            anneal_strategy=st.sampled_from(["cos", "linear"]),
            div_factor=rates(2.0, 30.0),
            final_div_factor=rates(2.0, 1e4),
            three_phase=st.booleans(),
            total_steps=lengths(2, 40),
        )
    )  # fmt: skip
    configuration = settings["schedulers"][0]
    if "end" in configuration and draw(st.booleans()):
        del configuration["total_steps"]
    steps = configuration.get("total_steps", configuration.get("end", 0) - configuration.get("begin", 0))
    steps *= settings.get("epoch_length", 1) if "convert_to_iter_based" in configuration else 1
    assume(abs(configuration["pct_start"] * steps - 1) > 1e-6)  # a rise of no length, by which the peer divides
    return settings


@st.composite
def restarts(draw: Any) -> dict[str, Any]:
    periods = draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    weights = [draw(rates(0.1, 2.0)) for _ in periods]
    floor = draw(st.sampled_from([{"eta_min": draw(rates(0.0, 0.01))}, {"eta_min_ratio": draw(rates(0.0, 1.0))}]))
    settings = draw(one("CosineRestartLR", periods=st.just(periods), restart_weights=st.just(weights)))
    settings["schedulers"][0] |= floor
    return settings


@st.composite
def several(draw: Any) -> dict[str, Any]:
    """A warm-up, a decay that multiplies over it or follows it, and one after all."""
    warm, length = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    warmup = {"type": "LinearLR", "start_factor": draw(rates(0.1, 1.0)), "by_epoch": False, "end": warm}
    over = [
        {"type": "MultiStepLR", "milestones": [2, 5], "gamma": 0.3, "end": 20},
        {"type": "ExponentialLR", "gamma": 0.95, "by_epoch": False, "begin": 3, "end": 40},
        {"type": "CosineAnnealingLR", "T_max": 20, "end": 20, "convert_to_iter_based": True},
        {"type": "PolyLR", "power": 0.9, "by_epoch": False, "end": 40, "begin": 2},
    ]
    begin = -(-warm // length) + draw(st.integers(0, 2))
    after = [
        {"type": "CosineAnnealingLR", "eta_min": 0.001, "begin": begin, "end": begin + 15},
        {"type": "CosineAnnealingLR", "eta_min_ratio": 0.1, "T_max": 4, "begin": begin, "end": begin + 15},
        {"type": "PolyLR", "eta_min": 0.001, "power": 2.0, "begin": begin, "end": begin + 15},
        {"type": "ConstantLR", "factor": 0.5, "begin": begin, "end": begin + 4},
        {"type": "LinearLR", "start_factor": 0.0, "begin": begin, "end": begin + 4},
        {"type": "OneCycleLR", "eta_max": 0.3, "total_steps": 5, "begin": begin, "end": begin + 15},
    ]
    last = {"type": "CosineRestartLR", "periods": [3, 4], "restart_weights": [1.0, 0.5], "eta_min_ratio": 0.0}
    if draw(st.booleans()):
        schedulers = [warmup, *draw(st.lists(st.sampled_from(over), min_size=1, max_size=2, unique_by=id))]
    else:
        schedulers = [warmup, draw(st.sampled_from(after))]
    if draw(st.booleans()):
        schedulers.append({**last, "begin": 41})
    return {"lr": draw(rates(0.01, 1.0)), "schedulers": schedulers, "epoch_length": length}


@st.composite
def recursive(draw: Any) -> dict[str, Any]:
    """Two or three at the same time of which one does more than multiply."""
    length = draw(st.integers(1, 3))
    end = draw(st.integers(1, 30))
    drawn = draw(
        st.sampled_from(
            [
                {"type": "CosineAnnealingLR", "eta_min_ratio": 0.1, "end": 30, "convert_to_iter_based": True},
                {"type": "CosineAnnealingLR", "eta_min": 0.002, "end": 30},
                {"type": "CosineAnnealingLR", "eta_min": 0.002, "T_max": 7, "begin": 1, "end": 30},
                {"type": "CosineAnnealingLR", "T_max": 7, "by_epoch": False, "end": 100},
                {"type": "PolyLR", "eta_min": 0.003, "power": 0.9, "begin": 2, "end": 30},
                {
                    "type": "CosineRestartLR",
                    "periods": [7, 9],
                    "restart_weights": [1.0, 0.5],
                    "eta_min": 0.001,
                    "end": 90,
                },
                {"type": "OneCycleLR", "eta_max": 0.2, "total_steps": 30, "end": 90},
            ]
        )
    )
    begin = draw(st.integers(0, 4))
    factor = draw(rates(0.1, 1.0))
    warmup = {"type": "LinearLR", "start_factor": factor, "by_epoch": False, "begin": begin, "end": begin + end}
    schedulers = draw(st.permutations([warmup, drawn]))
    if draw(st.booleans()):
        schedulers = [*schedulers, {"type": "StepLR", "step_size": 3, "gamma": 0.7, "begin": 1, "end": 20}]
    if not any("end" not in scheduler for scheduler in schedulers) and draw(st.booleans()):
        schedulers = [*schedulers, {"type": "ConstantLR", "factor": 0.5, "begin": 35, "end": 38}]
    return {"lr": draw(rates(0.01, 1.0)), "schedulers": schedulers, "epoch_length": length}


PLATEAU = {
    "rule": st.sampled_from(["less", "greater"]), "factor": rates(0.1, 0.9), "patience": st.integers(0, 4),
    "threshold": rates(0.0, 0.1), "threshold_rule": st.sampled_from(["rel", "abs"]), "cooldown": st.integers(0, 3),
    "min_value": rates(0.0, 0.05),
}  # fmt: skip


@st.composite
def watched(draw: Any) -> dict[str, Any]:
    configuration = {"type": "ReduceOnPlateauLR", **{key: draw(value) for key, value in PLATEAU.items()}}
    configuration["begin"] = draw(st.integers(0, 6))
    metrics = draw(st.lists(st.floats(0.1, 10.0), min_size=5, max_size=40))
    return {"lr": draw(rates(0.01, 1.0)), "schedulers": [configuration], "metrics": metrics}


def plateaued(settings: dict[str, Any], n: int) -> list[float]:
    """The rates of epochs 0 ... n - 1, each of which ends with a metric."""
    optimizer, values, metrics = optimizer_of(settings), [], settings["metrics"]
    scheduler = made(settings["schedulers"][0], optimizer, 1)
    for t in range(n):
        values.append(optimizer.param_groups[0]["lr"])
        scheduler.step()
        scheduler.step({"loss": metrics[t % len(metrics)]})
    return values


def case(row: str, settings: st.SearchStrategy[dict[str, Any]], says: str, note: str = "") -> Case:
    return Case(
        "mmengine", row, settings, ours, trained, says=says, note=note,
        length=lambda s: 30 * (s.get("epoch_length") or 1),
    )  # fmt: skip


SAYS = {
    "Step": "Exponential(lr, gamma, every=n).stairs(n)",
    "MultiStep": "Piecewise(...)",
    "Exponential": "Exponential(lr, gamma)",
    "Constant": "Constant(lr * factor, n - 1) >> Constant(lr)",
    "Linear": "Linear(lr * start, lr * end, n - 1)",
    "Poly": "Polynomial(lr, end, n - 1, power=k)",
}
NOTES = {
    "Constant": "E1: one step alone stays at the factor; 0 raises at the end",
    "Linear": "E1: one step alone stays at start_factor; 0 raises at the second step",
}
CASES = [
    *(case(row, one(f"{row}LR", **EXAMPLES[row]), SAYS[row], NOTES.get(row, "")) for row in EXAMPLES),
    case("CosineAnnealing", cosine(), "Cosine(lr, end, T).until(n - 1)", "E1: by default the end is never reached"),
    case(
        "OneCycle", one_cycle(), 'Ramp(a, b, n, ease="cosine") >> Ramp(b, c, m, ease="cosine")',
        "one step past its last it goes on, then the peer raises and ours holds",
    ),
    case("CosineRestart", restarts(), "Cosine(w * lr, end, n) >> Cosine(v * lr, end, m) >> ..."),
    *(
        case(f"Momentum ({row})", one(f"{row}Momentum", **EXAMPLES[row]), "as for the rate")
        for row in ("Step", "Linear", "Poly")
    ),
    case("several schedulers", several(), "a * b where they overlap, a >> b where they do not"),
    case(
        "several schedulers (at the same time)", recursive(), "Piecewise(...) >> Cosine(...).after(n)",
        "a recursion: tabled up to where one is left alone; above 10,000 updates refused",
    ),
    Case(
        "mmengine", "several schedulers (read from themselves)", several(), from_objects, trained,
        says="the same", length=lambda s: 30 * s["epoch_length"],
    ),
    Case(
        "mmengine", "OneCycle (read from itself)", one_cycle(), from_objects, trained, says="the same",
        length=lambda s: 30 * (s.get("epoch_length") or 1),
    ),
    Case(
        "mmengine", "ReduceOnPlateau", watched(),
        lambda s: Watched(from_mmengine(s["schedulers"], s["lr"]), s["metrics"]), plateaued,
        says='Constant(lr) * Plateau(factor, patience, like="mmengine")',
    ),
]  # fmt: skip


def test_every_row_is_compared_or_refused_with_a_reason() -> None:
    covers(ROWS, CASES, REFUSED)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_whole_curve(case: Case) -> None:
    check(case, examples=30)


def test_a_name_a_configuration_and_the_peers_object_are_one() -> None:
    configuration = {"type": "PolyLR", "power": 0.9, "eta_min": 1e-4, "begin": 0, "end": 100, "by_epoch": False}
    arguments = {key: value for key, value in configuration.items() if key != "type"}
    expected = from_mmengine(configuration, lr=0.1)
    assert repr(expected) == "Polynomial(0.1, 0.0001, 99, power=0.9)"
    assert expected == from_mmengine("PolyParamScheduler", lr=0.1, param_name="lr", **arguments)
    assert expected == from_mmengine(made(configuration, optimizer_of({"lr": 0.1}), 1))


def test_the_run_ends_what_has_no_end() -> None:
    assert from_mmengine({"type": "LinearLR"}, lr=0.3, max_epochs=11) == from_mmengine("LinearLR", lr=0.3, end=11)
    by_update = {"type": "LinearLR", "by_epoch": False}
    assert from_mmengine(by_update, lr=0.3, max_iters=101, max_epochs=5).steps == 100


def test_a_list_holds_rates_and_momenta() -> None:
    both = [
        {"type": "CosineAnnealingLR", "T_max": 8, "end": 8, "eta_min": 1.0},
        {"type": "CosineAnnealingMomentum", "T_max": 8, "end": 8, "eta_min": 0.85},
    ]
    assert from_mmengine(both, lr=0.1)(4) == pytest.approx(0.55)
    assert from_mmengine(both, parameter="momentum", momentum=0.95)(4) == pytest.approx(0.9)


def test_a_warm_up_over_a_cosine_is_tabled_while_it_lasts() -> None:
    warmup = {"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "begin": 0, "end": 500}
    cosine = {
        "type": "CosineAnnealingLR", "eta_min_ratio": 1e-4, "begin": 0, "end": 6, "T_max": 6,
        "convert_to_iter_based": True,
    }  # fmt: skip
    settings = {"lr": 2e-4, "schedulers": [warmup, cosine], "epoch_length": 1000}
    schedule = from_mmengine(**settings)
    assert [type(piece).__name__ for piece in schedule.pieces] == ["Until", "After"]
    assert schedule.values(0, 6100) == pytest.approx(trained(settings, 6100), abs=1e-12 * 2e-4, rel=0)


RESTART = {"type": "CosineRestartLR", "periods": [9, 20], "restart_weights": [1.0, 0.5], "eta_min_ratio": 0.1}
TOGETHER = {
    "the first update takes them in the order of the list": [
        {**RESTART, "end": 40},
        {"type": "LinearLR", "by_epoch": False, "end": 10},
    ],
    "nothing comes after what raises": [{"type": "ConstantLR", "factor": 0.0, "end": 5}, {**RESTART, "begin": 5}],
    "OneCycle goes on when the warm-up over it has ended": [
        {"type": "LinearLR", "by_epoch": False, "end": 7},
        {"type": "OneCycleLR", "eta_max": 0.2, "total_steps": 15, "end": 40},
    ],
    "OneCycle leaves another initial value": [
        {"type": "OneCycleLR", "eta_max": 0.2, "end": 10},
        {**RESTART, "begin": 12},
    ],
}


@pytest.mark.parametrize("schedulers", TOGETHER.values(), ids=TOGETHER)
def test_schedulers_together(schedulers: list[dict[str, Any]]) -> None:
    settings = {"lr": 0.1, "schedulers": schedulers, "epoch_length": 2}
    theirs = trained(settings, 120)
    theirs += [theirs[-1]] * (120 - len(theirs))
    assert ours(settings).values(0, 120) == pytest.approx(theirs, abs=1e-13, rel=0)


def test_one_after_the_other_is_a_chain() -> None:
    schedulers = [
        {"type": "LinearLR", "start_factor": 0.5, "by_epoch": False, "end": 50},
        {"type": "CosineAnnealingLR", "eta_min": 0.01, "begin": 5, "end": 9, "convert_to_iter_based": True},
    ]
    assert repr(from_mmengine(schedulers, lr=0.1, epoch_length=10)) == (
        "Linear(0.05, 0.1, 49).until(50) >> Cosine(0.1, 0.01, 40).until(39)"
    )


def test_e1_what_the_peer_leaves_unfinished() -> None:
    assert from_mmengine("LinearLR", lr=0.3, end=1).values(0, 3) == pytest.approx([0.1, 0.1, 0.1])
    assert from_mmengine("ConstantLR", lr=0.3, end=1).values(0, 3) == pytest.approx([0.1, 0.1, 0.1])
    assert from_mmengine("LinearLR", lr=0.3, start_factor=0.0, end=10).values(0, 3) == [0.0, 0.0, 0.0]
    lowest = 0.3 * (1 - math.cos(math.pi / 10)) / 2
    assert from_mmengine("CosineAnnealingLR", lr=0.3, end=10)(100) == pytest.approx(lowest)


REFUSALS: list[tuple[Any, dict[str, Any], str]] = [
    ("LinearLr", {}, "LinearLR"),
    (object(), {}, "unknown scheduler"),
    ({"start_factor": 0.1}, {}, "unknown scheduler None"),
    ("OneCycleMomentum", {"momentum": 0.9, "parameter": "momentum"}, "unknown scheduler"),
    ("LinearLR", {"begin": 5, "end": 5}, "end above begin"),
    ("LinearLR", {"start_factor": 1.5}, "from 0 to 1"),
    ("LinearLR", {"last_step": 4}, "last_step must be -1"),
    ("LinearLR", {"lr": None}, "Give lr"),
    ("LinearLR", {"parameter": "momentum"}, "none of the schedulers is of 'momentum'"),
    ("LinearLR", {"steps": 10}, "has no 'steps'"),
    ("StepLR", {"step_size": 0}, "step_size"),
    ("StepLR", {"step_size": 3, "convert_to_iter_based": True}, "epoch_length"),
    ("CosineAnnealingLR", {"eta_min": 0.1, "eta_min_ratio": 0.1}, "give one of eta_min"),
    ("CosineRestartLR", {"periods": [3, 4], "eta_min": 0.0}, "equally many"),
    ("CosineRestartLR", {"periods": [3]}, "give one of eta_min"),
    ("OneCycleLR", {"pct_start": 0.5, "total_steps": 2}, "divides by 0"),
    ("ReduceOnPlateauLR", {"end": 5}, "ends before the run"),
    ([{"type": "ReduceOnPlateauLR"}, {"type": "LinearLR"}], {}, "read alone"),
    ([{"type": "LinearLR", "by_epoch": False}, {"type": "StepLR", "step_size": 3}], {}, "epoch_length is needed"),
    (
        [{"type": "CosineAnnealingLR", "eta_min": 0.1, "T_max": 9}, {"type": "ExponentialLR", "gamma": 0.9}],
        {},
        "for more than 10000 updates",
    ),
]


@pytest.mark.parametrize(("schedulers", "arguments", "sentence"), REFUSALS)
def test_what_cannot_be_read_is_refused_with_a_sentence(
    schedulers: Any, arguments: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ScheduleError, match=sentence):
        from_mmengine(schedulers, **{"lr": 0.1, **arguments})
