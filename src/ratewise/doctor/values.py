"""What can be wrong with the values that a run uses."""

import math
from collections.abc import Callable, Iterator

from ratewise.core.horizon import fraction
from ratewise.core.schedule import Ramp
from ratewise.core.shapes import Custom, Exponential, InverseTime
from ratewise.doctor import advice
from ratewise.doctor.finding import Finding
from ratewise.doctor.run import Run, joints, nodes

TINY = 2.0**-126
"""The smallest normal float32."""


def negative(run: Run) -> Iterator[Finding]:
    """A rate below zero."""
    low = min(run.values)
    if low < 0:
        yield Finding(
            "rate-negative",
            f"the rate falls to {low:.6g}",
            _updates(run, lambda v: v < 0),
            "A negative rate climbs the loss; optimizers refuse it or diverge.",
            advice.expression(run, [run.given.clip(low=0.0)], "Let it end at 0.0 or above."),
            "error",
        )


def first_at_zero(run: Run) -> Iterator[Finding]:
    """A first update that changes nothing."""
    if run.values[0] == 0 < run.peak:
        yield Finding(
            "first-update-at-zero",
            "the first update has the rate 0",
            "update 0",
            "It changes nothing: a batch is wasted, and checkpoints of updates 0 and 1 are equal.",
            advice.expression(run, advice.nonzero_start(run), 'Start above 0, or use ends="(]".'),
        )


def vanishing(run: Run) -> Iterator[Finding]:
    """A rate of zero, or next to it, over many updates before the schedule's end."""
    end = run.total if run.schedule is None or run.schedule.steps is None else run.schedule.steps
    lost = f"the rate is below a hundred-millionth of its peak ({run.peak:.6g})"
    for code, low, high, share, what, why in (
        ("rate-zero", 0.0, 0.0, 0.01, "the rate is 0", "Those updates change nothing."),
        ("below-float32", math.ulp(0.0), TINY, 0.01, f"the rate is below {TINY:.3g}", "float32 makes it 0, or nearly."),
        ("rate-vanishes", 0.0, 1e-8 * run.peak, 0.05, lost, "float32 weights do not notice: nothing is trained there."),
    ):  # fmt: skip
        first, last = _longest(run, lambda v, t, low=low, high=high: low <= v <= high and t < end)  # type: ignore[misc]
        if last - first >= max(2, share * run.total):
            where = f"updates {first} to {last - 1} of {run.total}"
            yield Finding(code, what, where, why, advice.expression(run, _slower(run), _clipped(run)))
            return


def _slower(run: Run) -> Iterator[Exponential | InverseTime]:
    """A decay that leaves a hundredth at the end of the run."""
    given = run.given
    if isinstance(given, Exponential):
        yield Exponential(given.start, 0.01, every=fraction(1.0))
    if isinstance(given, InverseTime):
        yield InverseTime(given.start, 99 ** (1 / given.power) if given.power > 0 else 1.0, every=fraction(1.0))


def _clipped(run: Run) -> str:
    return repr(run.given.clip(low=float(f"{run.peak * 1e-4:.3g}"))) if run.peak > 0 else "Give it a rate above 0."


def jumps(run: Run) -> Iterator[Finding]:
    """Pieces that do not meet."""
    found = [jump for jump in (_jump(run, t) for t, kind in run.joints if kind == "joint") if jump]
    if not found or run.schedule is None:
        return
    t, left, right = found[0]
    more = f" (and at {len(found) - 1} more joints)" if len(found) > 1 else ""
    warmup = t == run.warmup
    starts = [0, *(start for start, kind in joints(run.schedule) if kind == "joint")] if len(run.parts) > 1 else []
    pairs = advice.meeting(run, starts.index(t), left, right) if t in starts[1 : len(run.parts)] else ()
    yield Finding(
        "warmup-end-differs" if warmup else "discontinuity",
        f"{'the warm-up ends at' if warmup else 'the rate jumps from'} {left:.6g}"
        f"{', what follows starts at' if warmup else ' to'} {right:.6g}{more}",
        f"update {math.ceil(t)}",
        "A sudden change of the rate can undo progress, and is rarely meant.",
        advice.expression(run, pairs, "Let one piece start where the other ends."),
    )


def _jump(run: Run, joint: float) -> tuple[float, float, float] | None:
    """Position and values on both sides of a joint, if they differ by more than the pieces move there by themselves."""
    schedule, t = run.schedule, math.ceil(joint)
    if schedule is None:
        return None
    own = any(isinstance(node, Custom) for node in nodes(schedule))  # may not take a position between two updates
    left, right = schedule(t - 1 if own else math.nextafter(joint, 0)), schedule(t if own else joint)
    before, after = abs(schedule(t - 1) - left), abs(schedule(t + 1) - schedule(t))
    if before == after == 0 and not own:  # steps made by hand
        return None
    move = max(after, abs(left - schedule(t - 2)) if own and t > 1 else 0.0)
    allowed = max(0.01 * abs(left), 0.01 * abs(right), 1e-4 * run.peak, 2 * move)
    return (joint, left, right) if abs(right - left) > allowed else None


def rises_again(run: Run) -> Iterator[Finding]:
    """A rate that goes up again after it came down, in a schedule that is not declared to repeat."""
    if run.cycles:
        return
    top = trough = run.values[0]
    low = 0
    for t, value in zip(run.positions, run.values, strict=True):
        if value > top and trough == top:
            top = trough = value
        if value < trough:
            trough, low = value, t
        if trough < 0.5 * top and value > max(1.05 * trough, trough + 0.01 * top):
            after = [v for u, v in zip(run.positions, run.values, strict=True) if u >= low]
            parts = run.parts
            again = [parts[0].repeat(len(parts))] if len(set(parts)) < len(parts) and parts[0].steps else []
            yield Finding(
                "rate-rises-again",
                f"after falling to {trough:.6g} the rate rises again to {max(after):.6g}",
                f"from update {low}",
                "A late rise undoes what the decay settled, unless it is a restart that is meant.",
                advice.expression(run, again, "End with the decay; a restart that is meant is written .repeat(...)."),
            )
            return


def hardly_moves(run: Run) -> Iterator[Finding]:
    """A decay that leaves the rate as it was."""
    moving = [node for node in nodes(run.given) if _moves(node)]
    low, high = min(run.values), max(run.values)
    if moving and high - low <= 0.01 * abs(high):
        first = moving[0]
        faster: list[Ramp] = []
        if isinstance(first, Ramp) and first.ease != "geometric":  # which never reaches 0
            faster = [Ramp(first.start, 0.0, ease=first.ease)]
        yield Finding(
            "hardly-moves",
            f"the rate stays between {low:.6g} and {high:.6g}",
            f"updates 0 to {run.total - 1}",
            "It is a constant rate in all but name: a decay was probably meant in other units.",
            advice.expression(run, [*_slower(run), *faster], "Make it fall further, or write Constant(...)."),
        )


def _moves(node: object) -> bool:
    if isinstance(node, Ramp):
        return node.start != node.end
    if isinstance(node, InverseTime):
        return node.decay != 0 != node.power
    return isinstance(node, Exponential) and node.gamma != 1


def peak_missed(run: Run) -> Iterator[Finding]:
    """A highest value that no update uses."""
    schedule = run.schedule
    if schedule is None or run.cycles or any(isinstance(node, Custom) for node in nodes(schedule)):
        return
    meet = [t for t, kind in joints(schedule) if kind == "joint"]
    if schedule.steps is not None and schedule.steps > run.total:
        meet.append(schedule.steps)
    declared = max([0.0, *(schedule(math.nextafter(t, 0)) for t in meet), *(schedule(t) for t in meet)])
    if run.peak < 0.999 * declared:
        at = max(meet, key=lambda t: max(schedule(t), schedule(math.nextafter(t, 0))))
        between = f", between updates {math.floor(at)} and {math.ceil(at)}" if at % 1 else ""
        yield Finding(
            "peak-never-reached",
            f"the schedule goes up to {declared:.6g}, but the highest rate that an update uses is {run.peak:.6g}",
            f"update {at:g}{between}, in a run of {run.total}",
            "The rate that was chosen is never used.",
            advice.expression(run, advice.shorter_warmup(run) if run.warmup else (), "Let the peak fall on an update."),
        )


def floor_missed(run: Run) -> Iterator[Finding]:
    """A run that stops before the decay is over."""
    schedule = run.schedule
    if schedule is None or schedule.steps is None or schedule.steps <= run.total:
        return
    last, end = schedule(run.total - 1), schedule(schedule.steps)
    if last - end > 0.01 * run.peak:
        yield Finding(
            "floor-never-reached",
            f"the run ends at the rate {last:.6g}; the schedule comes down to {end:.6g} at update {schedule.steps:g}",
            f"update {run.total - 1}, the last",
            "Without the end of its decay a run is worse than it could be, and cannot be compared fairly.",
            advice.expression(run, advice.without_steps(run), "Leave out its steps, and it fills the run."),
        )


def _longest(run: Run, test: Callable[[float, int], bool]) -> tuple[int, int]:
    """The longest stretch of updates whose rates all pass ``test``: its first, and the one after its last."""
    best, start = (0, 0), None
    for i, (t, value) in enumerate(zip(run.positions, run.values, strict=True)):
        if not test(value, t):
            start = None
            continue
        start = t if start is None else start
        end = run.positions[i + 1] if i + 1 < len(run.positions) else run.total
        best = max(best, (start, end), key=lambda span: span[1] - span[0])
    return best


def _updates(run: Run, test: Callable[[float], bool]) -> str:
    first = next(t for t, value in zip(run.positions, run.values, strict=True) if test(value))
    return f"from update {first}"


CHECKS = (
    negative, first_at_zero, vanishing, jumps, rises_again, hardly_moves, peak_missed, floor_missed
)  # fmt: skip
"""Every check of values."""
