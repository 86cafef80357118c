"""When a setting of a peer triggers a defect: small functions over its arguments.

Each returns False, or True, or a dictionary with the numbers that the defect's sentences show (and its ``level`` where
that depends on them). An argument that cannot be seen raises ``UnknownArgument``: then nothing is reported.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from ratewise.doctor.setting import Setting

Answer = bool | dict[str, Any]

FAR = 2**24
"""From here on float32 cannot tell an update from the next."""

NO_MOMENTUM = ("Adagrad", "Adadelta", "Rprop", "ASGD", "LBFGS", "Adafactor")


def always(s: Setting) -> Answer:
    """Every use."""
    return True


def rising(values: Any) -> bool:
    """Whether the values rise strictly."""
    return all(a < b for a, b in pairwise(list(values)))


def highest(values: Any) -> Any:
    """The value, or the highest of several."""
    return max(values) if isinstance(values, list) else values


def longest(*names: str) -> Callable[[Setting], Answer]:
    """A length above what float32 counts."""
    return lambda s: any(s.get(name, 0) > FAR for name in names)


# -- torch -------------------------------------------------------------------------------------------------------


def total(s: Setting) -> Any:
    """The updates of a one-cycle."""
    steps = s["total_steps"]
    return steps if steps is not None else s["epochs"] * s["steps_per_epoch"]


def rise(s: Setting) -> float:
    """The length of its rise, one more than torch's."""
    return float(s["pct_start"] * total(s))


def stopped_early(s: Setting) -> Answer:
    """A loop that is over before the scheduler is."""
    argument = {"CosineAnnealingLR": "T_max", "PolynomialLR": "total_iters"}.get(s.kind, "num_training_steps")
    length = total(s) if s.kind == "OneCycleLR" else s[argument]
    return s["all_steps"] < 0.98 * length and {"length": length}


def peak_between(s: Setting) -> Answer:
    """The highest rate, as a part of max_lr, where the rise ends between two updates."""
    end, top = total(s) - 1, rise(s) - 1
    if not 0 < top < end or s["three_phase"]:
        return False
    low, first = 1 / s["div_factor"], math.floor(top)
    bottom = low / s["final_div_factor"]

    def ease(p: float) -> float:
        return p if s["anneal_strategy"] == "linear" else (1 - math.cos(math.pi * p)) / 2

    up = low + (1 - low) * ease(first / top)
    down = 1 + (bottom - 1) * ease((math.ceil(top) - top) / (end - top))
    part = max(up, down)
    return part < 1 - 1e-6 and {"part": part, "top": top, "level": "warning" if part < 0.999 else "note"}


def momentum_written(s: Setting) -> Answer:
    """An optimizer without momentum that is given some."""
    optimizer = s["optimizer"]
    return bool(s["cycle_momentum"]) and optimizer.get("momentum", 1) == 0 and {"kind": optimizer.kind}


def momentum_missing(s: Setting) -> Answer:
    """An optimizer that has no momentum to cycle."""
    kind = s["optimizer"].kind
    return bool(s["cycle_momentum"]) and kind in NO_MOMENTUM and {"kind": kind}


def _first(child: Setting) -> float:
    """The factor that a scheduler of torch starts with."""
    return float(child[{"LinearLR": "start_factor", "ConstantLR": "factor"}[child.kind]])


def jump_at_milestone(s: Setting) -> Answer:
    """A factor at the end of its span that the next scheduler does not go on from."""
    starts = [0, *s["milestones"]]
    for i, child in enumerate(s["schedulers"][:-1]):
        span, follower = starts[i + 1] - starts[i], s["schedulers"][i + 1]
        if child.kind == "LinearLR":
            done = min(1.0, span / child["total_iters"])
            left = child["start_factor"] + (child["end_factor"] - child["start_factor"]) * done
        elif child.kind == "ConstantLR":
            left = child["factor"] if span <= child["total_iters"] else 1.0
        else:
            continue
        right = _first(follower) if follower.kind in ("LinearLR", "ConstantLR") else 1.0
        meant = child.kind == "ConstantLR" and span == child["total_iters"]  # the step that it is for
        if abs(left - right) > 0.01 and not meant:
            return {"left": left, "right": right, "at": starts[i + 1], "span": child["total_iters"]}
    return False


def contains(*kinds: str, after_first: bool = False) -> Callable[[Setting], Answer]:
    """A scheduler among others, or among those after the first."""

    def test(s: Setting) -> Answer:
        found = [child.kind for child in s["schedulers"][after_first:] if child.kind in kinds]
        return bool(found) and {"kind": found[0]}

    return test


def not_a_product(s: Setting) -> Answer:
    """A cosine with a floor chained with others."""
    floors = [c["eta_min"] for c in s["schedulers"] if c.kind.startswith("CosineAnnealing")]
    return len(s["schedulers"]) > 1 and any(floors) and {"floor": max(floors)}


def climbs_inside(s: Setting) -> Answer:
    """A cosine shorter than its span in a sequence."""
    starts = [0, *s["milestones"]]
    for i, child in enumerate(s["schedulers"][:-1]):
        span = starts[i + 1] - starts[i]
        if child.kind == "CosineAnnealingLR" and child["T_max"] < span:
            return {"T_max": child["T_max"], "level": "warning"}
    return False


def missed_restart(s: Setting) -> Answer:
    """The first restart that torch's logarithm misses when it is given an epoch."""
    first, factor = s["T_0"], s["T_mult"]
    for n in range(1, 9) if factor > 1 else ():
        epoch = first * (factor**n - 1) // (factor - 1)
        if epoch <= 10_000 and int(math.log(epoch / first * (factor - 1) + 1, factor)) != n:
            return {"epoch": epoch}
    return False


def no_cut(s: Setting) -> Answer:
    """A rate so small that the first cut is below eps."""
    rate = highest(s.get("group_rates", s["lr"]))
    cut = rate - max(rate * s["factor"], highest(s.get("min_lr", 0)))
    return cut <= s["eps"] and {"rate": rate}


def ratios_lost(s: Setting) -> Answer:
    """One max_lr over groups with rates of their own."""
    rates = {group["lr"] for group in s["optimizer"]["params"] if "lr" in group}
    return len(rates) > 1 and isinstance(s["max_lr"], (int, float)) and {"rates": sorted(rates)}


# -- Keras and optax -------------------------------------------------------------------------------------------------


def integer_rate(s: Setting) -> Answer:
    """An int where Keras takes its type from the rate."""
    return type(s["initial_learning_rate"]) is int


def onecycle_joints(s: Setting) -> list[int]:
    """The updates where an optax one-cycle bends."""
    fractions = [s["pct_start"], *([s["pct_final"]] if "pct_final" in s.arguments else [])]
    return [0, *(int(part * s["transition_steps"]) for part in fractions), s["transition_steps"]]


# -- timm ------------------------------------------------------------------------------------------------------------


def drop_after_warmup(s: Setting) -> Answer:
    """What is left of the rate right after a warm-up that overlaps the decay."""
    if s["warmup_prefix"] or not s["warmup_t"]:
        return False
    done = s["warmup_t"] / s["t_initial"]
    power = s.get("power", 0.5)
    left = (1 - done) ** power if s.name.startswith("timm.Poly") else (1 + math.cos(math.pi * done)) / 2
    return {"left": left, "level": "warning" if left < 0.99 else "note"}


def missed_cycle(s: Setting) -> Answer:
    """The first restart of timm that its logarithm misses."""
    factor, first = s["cycle_mul"], s["t_initial"]
    for n in range(1, min(s["cycle_limit"], 9)) if factor != 1 else ():
        t = first * (factor**n - 1) / (factor - 1)
        if t == int(t) and math.floor(math.log(1 - t / first * (1 - factor), factor)) != n:
            return {"t": int(t)}
    return False


# -- Hugging Face, DeepSpeed and others ------------------------------------------------------------------------------


def no_run_left(warmup: str, run: str) -> Callable[[Setting], Answer]:
    """A warm-up as long as the run, or longer."""

    def test(s: Setting) -> Answer:
        numbers = {"warmup": s[warmup], "run": s[run]}
        return 0 < s[run] <= s[warmup] and numbers

    return test


def wsd_too_long(s: Setting) -> Answer:
    """Warm-up and decay that leave no room between them."""
    stable = s.get("num_stable_steps")
    if stable is None:
        stable = s["num_training_steps"] - s["num_warmup_steps"] - s["num_decay_steps"]
    return stable < 0 and {"over": -stable}


def neox_left(s: Setting) -> Answer:
    """What gpt-neox leaves of the rate at the end of the run."""
    done = 1 - 2 * s["warmup"]
    left = {"linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[s["lr_decay_style"]]
    return left * s["lr"] > 1.01 * s["min_lr"] and {"left": left}


def window_of_one(s: Setting) -> Answer:
    """A window in which mmengine's factor is never taken back."""
    return bool(s["end"] - s["begin"] == 1)


def lightless_decay(s: Setting) -> Answer:
    """Nanotron's decay that ends before the run because the warm-up is taken off."""
    late = s["lr_decay_steps"] is None and s["lr_decay_starting_step"] is not None
    return late and bool(s["lr_warmup_steps"] > 0)
