"""kozistr's pytorch_optimizer, the living peer: what the optimizer uses, update for update."""

from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from parity.cases import Case, check, covers, lengths, rates
from parity.living import living

from ratewise import Constant, Linear, rex, wsd
from ratewise.errors import ScheduleError
from ratewise.interop import from_kozistr

ramps = living("pytorch_optimizer.lr_scheduler.linear_warmup")
restarts = living("pytorch_optimizer.lr_scheduler.cosine_anealing")
rex_module = living("pytorch_optimizer.lr_scheduler.rex")
wsd_module = living("pytorch_optimizer.lr_scheduler.wsd")
chebyshev = living("pytorch_optimizer.lr_scheduler.chebyshev")
proportion = living("pytorch_optimizer.lr_scheduler.proportion")

PEERS: dict[str, Any] = {
    "LinearScheduler": ramps.LinearScheduler,
    "CosineScheduler": ramps.CosineScheduler,
    "PolyScheduler": ramps.PolyScheduler,
    "CosineAnnealingWarmupRestarts": restarts.CosineAnnealingWarmupRestarts,
    "REXScheduler": rex_module.REXScheduler,
    "get_wsd_schedule": wsd_module.get_wsd_schedule,
    "get_chebyshev_schedule": chebyshev.get_chebyshev_schedule,
    "ProportionScheduler": proportion.ProportionScheduler,
}
ROWS = list(PEERS)
REFUSED: dict[str, str] = {}


def optimizer(*lrs: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [torch.zeros(1)], "lr": lr} for lr in lrs])


def built(name: str, settings: dict[str, Any]) -> tuple[Any, torch.optim.Optimizer]:
    own = dict(settings)
    used = optimizer(own.pop("lr", 0.5))
    return PEERS[name](used, **own), used


def used_rates(scheduler: Any, n: int, group: int = 0) -> list[float]:
    """The rates that updates 0 ... n - 1 use; where the scheduler raises, the last."""
    values: list[float] = []
    for _ in range(n):
        values.append(float(scheduler.optimizer.param_groups[group]["lr"]))
        scheduler.optimizer.step()
        try:
            scheduler.step()
        except ZeroDivisionError:
            return values + values[-1:] * (n - len(values))
    return values


def mapped(scheduler: Any, n: int) -> list[float]:
    """The values of a ProportionScheduler, stepped after the one that it follows."""
    values = []
    for _ in range(n):
        values.append(float(scheduler.get_lr()))
        scheduler.lr_scheduler.optimizer.step()
        scheduler.lr_scheduler.step()
        scheduler.step()
    return values


WARMUP = {
    "t_max": lengths(1, 60),
    "max_lr": rates(),
    "min_lr": st.just(0.0) | rates(1e-4, 0.5),
    "init_lr": st.just(0.0) | rates(1e-4, 0.5),
    "warmup_steps": lengths(0, 30),
}
ARGUMENTS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "LinearScheduler": st.fixed_dictionaries(WARMUP),
    "CosineScheduler": st.fixed_dictionaries(WARMUP),
    "PolyScheduler": st.fixed_dictionaries({**WARMUP, "poly_order": st.floats(0.1, 3.0)}),
    "CosineAnnealingWarmupRestarts": st.integers(0, 12).flatmap(
        lambda w: st.fixed_dictionaries(
            {
                "first_cycle_steps": lengths(w + 1, w + 20),
                "cycle_mult": st.just(1.0) | st.sampled_from([2, 3.0, 1.5, 0.5]) | st.floats(0.2, 2.5),
                "max_lr": rates(),
                "min_lr": st.just(0.0) | rates(1e-4, 0.5),
                "warmup_steps": st.just(w),
                "gamma": st.just(1.0) | st.floats(0.1, 1.2),
            }
        )
    ),
    "REXScheduler": st.fixed_dictionaries(
        {"total_steps": lengths(0, 60), "max_lr": rates(), "min_lr": st.just(0.0) | rates()}
    ),
    "get_wsd_schedule": st.fixed_dictionaries(
        {
            "lr": rates(),
            "num_warmup_steps": lengths(0, 20),
            "num_stable_steps": lengths(0, 20),
            "num_decay_steps": lengths(0, 20),
            "min_lr_ratio": st.just(0.0) | st.floats(0.0, 1.0),
            "num_cycles": st.just(0.5) | st.floats(-3.0, 3.0),
            "cooldown_type": st.sampled_from(["1-sqrt", "cosine", "linear", "1-square", "none"]),
        }
    ),
    "get_chebyshev_schedule": st.fixed_dictionaries(
        {"lr": rates(), "num_epochs": lengths(1, 140), "is_warmup": st.sampled_from([False, False, True])}
    ),
}
LENGTH = {"get_chebyshev_schedule": 140, "CosineAnnealingWarmupRestarts": 60}
SAYS = {
    "LinearScheduler": "Constant(low, 1) >> Linear(init, high, w) >> line(high, low, T - w)",
    "CosineScheduler": "Constant(low, 1) >> Linear(init, high, w) >> (Cosine(high, low, n) >> ...).repeat()",
    "PolyScheduler": 'Constant(low, 1) >> Linear(init, high, w) >> Formula("low + (high - low) * (t + 1)**order")',
    "CosineAnnealingWarmupRestarts": "(Linear(low, high, w) >> Cosine(high, low, n)).repeat(gamma=gamma)",
    "REXScheduler": 'Constant(low, 1) >> Ramp(high, low, T, ease="rex").after(1)',
    "get_wsd_schedule": 'Linear(0.0, lr, w) >> Constant(lr, n) >> Ramp(lr, 0.0, d, ease="1-sqrt") >> Constant(floor)',
    "get_chebyshev_schedule": "Piecewise(values, [3, 4, ...])",
}
NOTES = {
    "LinearScheduler": "one update late, and negative past its end",
    "CosineScheduler": "one update late, and climbs again past its end",
    "PolyScheduler": "one update late, and grows without bound",
    "REXScheduler": "the first update uses min_lr",
}


def compared(name: str) -> Case:
    arguments = st.fixed_dictionaries({"given": ARGUMENTS[name], "steps": st.none() | st.integers(0, 50)})

    def ours(s: dict[str, Any]) -> Any:
        if s["steps"] is None:
            return from_kozistr(name, **s["given"])
        scheduler, _ = built(name, s["given"])
        used_rates(scheduler, s["steps"])
        return from_kozistr(scheduler)

    return Case(
        "kozistr",
        name,
        arguments,
        ours,
        lambda s, n: used_rates(built(name, s["given"])[0], n),
        says=SAYS[name],
        length=lambda s: LENGTH.get(name, 60),
        note=NOTES.get(name, ""),
    )


MAPPED = st.fixed_dictionaries(
    {
        "followed": st.sampled_from(
            ["LinearScheduler", "CosineScheduler", "CosineAnnealingWarmupRestarts", "REXScheduler", "get_wsd_schedule"]
        ).flatmap(lambda name: st.tuples(st.just(name), ARGUMENTS[name]))
        .filter(lambda drawn: "t_max" not in drawn[1] or drawn[1]["t_max"] != drawn[1]["warmup_steps"]),
        "own": st.fixed_dictionaries(
            {
                "max_lr": rates(),
                "min_lr": st.just(0.0) | rates(1e-4, 0.05),
                "max_value": st.floats(-2.0, 2.0),
                "min_value": st.floats(-2.0, 2.0),
            }
        ),
    }
)  # fmt: skip


def proportional(s: dict[str, Any]) -> Any:
    name, given = s["followed"]
    return proportion.ProportionScheduler(built(name, given)[0], **s["own"])


CASES = [
    *map(compared, ARGUMENTS),
    Case(
        "kozistr",
        "ProportionScheduler",
        MAPPED,
        lambda s: from_kozistr(proportional(s)),
        lambda s, n: mapped(proportional(s), n),
        says="scale * (lr + -min_lr) + min_value",
        length=lambda s: 40,
    ),
]


def test_every_row_is_compared_or_refused_with_a_reason() -> None:
    covers(ROWS, CASES, REFUSED)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_whole_curve(case: Case) -> None:
    check(case, examples=40)


def test_every_group_has_its_own_rate_where_the_peer_scales_it() -> None:
    scheduler = wsd_module.get_wsd_schedule(optimizer(0.1, 0.4), 3, 4, 5)
    theirs = used_rates(scheduler, 20, group=1)
    assert from_kozistr(scheduler, group=1).values(0, 20) == pytest.approx(theirs, abs=1e-15)


def test_reading_changes_nothing() -> None:
    read, left = (built("CosineAnnealingWarmupRestarts", {"first_cycle_steps": 5})[0] for _ in range(2))
    used_rates(read, 7), used_rates(left, 7)
    from_kozistr(read)
    assert used_rates(read, 20) == used_rates(left, 20)


def test_names_of_the_registry_are_known() -> None:
    assert from_kozistr("linear", t_max=5, max_lr=1.0) == from_kozistr("LinearScheduler", t_max=5, max_lr=1.0)
    assert from_kozistr("step", lr=1.0, step_size=2, gamma=0.5).values(0, 4) == [1.0, 1.0, 0.5, 0.5]


def test_schedulers_of_torch_that_the_package_offers_are_read_as_torchs() -> None:
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer(1.0), 2, gamma=0.5)
    assert from_kozistr(scheduler).values(0, 4) == [1.0, 1.0, 0.5, 0.5]
    followed = proportion.ProportionScheduler(scheduler, 1.0, max_value=4.0, min_value=0.0)
    assert from_kozistr(followed).values(0, 4) == [4.0, 4.0, 2.0, 2.0]


def test_p1_ours_uses_the_peak_first_where_kozistrs_uses_the_floor() -> None:
    theirs = used_rates(rex_module.REXScheduler(optimizer(0.5), 4, max_lr=0.9, min_lr=0.1), 2)
    assert theirs[0] == 0.1
    assert 0.9 not in theirs
    assert rex(0.9, 0.1, 4)(0) == 0.9


def test_p2_ours_stops_at_its_end_where_kozistrs_goes_below_zero() -> None:
    theirs = used_rates(ramps.LinearScheduler(optimizer(0.5), t_max=8, max_lr=1.0), 12)
    assert theirs[10] == -0.125
    assert min(Linear(1.0, 0.0, 8).values(0, 12)) == 0.0
    stuck = ramps.LinearScheduler(optimizer(0.5), t_max=3, max_lr=1.0, warmup_steps=3)
    assert from_kozistr(stuck).values(3, 7) == pytest.approx([2 / 3, 1.0, 1.0, 1.0])
    with pytest.raises(ZeroDivisionError):
        [stuck.step() for _ in range(5)]


def test_p3_kozistrs_polynomial_grows() -> None:
    theirs = used_rates(ramps.PolyScheduler(optimizer(0.5), t_max=5, max_lr=1.0), 10)
    assert theirs[-1] == pytest.approx(8**0.5)


def test_p4_ours_comes_down_to_its_floor_where_kozistrs_jumps_up_to_it() -> None:
    theirs = used_rates(wsd_module.get_wsd_schedule(optimizer(1.0), 0, 2, 8, min_lr_ratio=0.1), 12)
    assert theirs[9] < 0.1 < theirs[8]
    assert theirs[10] == 0.1
    ours = wsd(1.0, warmup=0, cooldown=8, end=0.1).over(10).values(0, 12)
    assert min(ours) == 0.1
    assert sorted(ours, reverse=True) == ours


def test_p5_kozistrs_chebyshev_begins_with_its_largest_factor_three_times() -> None:
    ours = from_kozistr("get_chebyshev_schedule", lr=1.0, num_epochs=16).values(0, 4)
    assert ours[0] == ours[1] == ours[2] > 16 > ours[3]


def test_p6_the_default_values_of_proportion_make_a_constant() -> None:
    followed = ramps.LinearScheduler(optimizer(0.5), t_max=8, max_lr=1.0)
    assert from_kozistr(proportion.ProportionScheduler(followed, 1.0)) == Constant(2.0)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("LinearSchedular", {}, "Did you mean 'LinearScheduler'"),
        ("PolyScheduler", {"t_max": 5, "max_lr": 1.0, "poly_order": 0.0}, "poly_order must be above 0"),
        ("CosineAnnealingWarmupRestarts", {"first_cycle_steps": 4, "warmup_steps": 4}, "warmup_steps must be below"),
        ("ProportionScheduler", {"lr_scheduler": 3, "max_lr": 1.0, "max_value": 1.0}, "cannot read 3"),
    ],
)
def test_wrong_settings_are_named(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        from_kozistr(name, **arguments)
