"""fastai's schedules (``fastai.callback.schedule``) as schedules of ours.

fastai's functions take the part of training that is done, from 0 to 1: here that is ``t / steps``. A fit makes no
update past its end; there ours holds. A function that is called by itself goes on as fastai's own does.
"""

from collections.abc import Sequence
from itertools import accumulate
from struct import pack, unpack
from typing import Any

from ratewise.core import checks
from ratewise.core.schedule import Ramp, Schedule
from ratewise.core.shapes import Constant, Cosine
from ratewise.errors import ScheduleError
from ratewise.interop.peer import Peer, chain, formula, late, line, powers, ramp, wave

PEER = Peer("from_fastai")


def from_fastai(name: str, **arguments: Any) -> Schedule:
    """Return one of fastai's schedules.

    Args:
        name: ``"fit_one_cycle"``, ``"fit_flat_cos"``, ``"fit_sgdr"``, ``"SchedCos"``, ``"combine_scheds"``, ...
        arguments: Its own arguments. Of a fit: ``n_epoch`` (or ``n_cycles`` and ``cycle_len``) with ``n_iter`` for
            the updates per epoch; the peak may be one number, not a slice. Of a function: ``steps``, the updates
            that its whole range stands for.

    Raises:
        ScheduleError: There is no such schedule, it is more than a schedule, or its arguments are wrong.

    Example:
        >>> from_fastai("fit_flat_cos", n_epoch=4, n_iter=25, lr=0.1)
        Constant(0.1, steps=75) >> Cosine(0.1, 1e-06, 25)
    """
    if name == "fine_tune":
        raise ScheduleError(
            "from_fastai: fine_tune freezes parameters, which no schedule does. Its two phases are "
            "from_fastai('fit_one_cycle', pct_start=0.99, ...) and "
            "from_fastai('fit_one_cycle', pct_start=0.3, div=5, ...)."
        )
    schedule: Schedule = PEER.build(name, arguments)
    return schedule


@PEER.entry
def SchedLin(start: float, end: float, steps: float = 1) -> Schedule:
    """``start + p * (end - start)``, also beyond p = 1."""
    return line(start, end, steps)


@PEER.entry
def SchedCos(start: float, end: float, steps: float = 1) -> Schedule:
    """Half a cosine wave, and back, and so on."""
    return wave(start, end, steps)


@PEER.entry
def SchedNo(start: float, end: float, steps: float = 1) -> Schedule:
    """``start``, whatever ``end`` is."""
    return Constant(start)


@PEER.entry
def SchedExp(start: float, end: float, steps: float = 1) -> Schedule:
    """``start * (end / start)**p``, also beyond p = 1."""
    return powers(start, end / start, every=steps)


@PEER.entry
def SchedPoly(start: float, end: float, power: float, steps: float = 1) -> Schedule:
    """``start + (end - start) * p**power``, also beyond p = 1."""
    text = "{start} + {rise} * (t / {n})**{power}"
    return formula(text, start=start, rise=end - start, power=power, n=steps)


PEER.alias(sched_lin="SchedLin", sched_cos="SchedCos", sched_no="SchedNo", sched_exp="SchedExp")


@PEER.entry
def combine_scheds(pcts: Sequence[float], scheds: Sequence[Schedule], steps: float) -> Schedule:
    """One after the other, each (made with ``steps=1``) stretched over its part of ``steps``; the last goes on."""
    pcts, scheds = checks.items("combine_scheds", "pcts", pcts), checks.items("combine_scheds", "scheds", scheds)
    if abs(sum(pcts) - 1) > 1e-9 or min(pcts) < 0 or len(pcts) != len(scheds):
        raise ScheduleError(f"pcts must be one part of the whole for each of scheds, got {checks.shown(pcts)}.")
    widths = [pct * steps for pct in pcts]
    pieces = [sched.stretch(width) for sched, width in zip(scheds, widths, strict=True) if width > 0]
    widths = [width for width in widths if width > 0]
    return chain(*(piece.until(width) for piece, width in zip(pieces[:-1], widths, strict=False)), pieces[-1])


@PEER.entry
def combined_cos(pct: float, start: float, middle: float, end: float, steps: float) -> Schedule:
    """A cosine from ``start`` to ``middle`` in the part ``pct``, then one to ``end``, which goes on."""
    rest = (1 - pct) * steps
    return chain(ramp(start, middle, pct * steps, ease="cosine"), wave(middle, end, rest) if rest > 0 else None)


def _fit(steps: int, pct: float, start: float, middle: float, end: float) -> Schedule:
    """``combined_cos`` up to the end of a fit."""
    checks.whole("from_fastai", "the number of updates", steps)
    if not 0 <= pct <= 1:
        raise ScheduleError(f"pct_start must be between 0 and 1, got {pct!r}.")
    first = Constant(start, pct * steps) if start == middle and pct > 0 else ramp(start, middle, pct * steps, "cosine")
    return chain(first, ramp(middle, end, (1 - pct) * steps, "cosine"))


@PEER.entry
def fit_one_cycle(
    n_epoch: int, n_iter: int, lr_max: float, div: float = 25.0, div_final: float = 1e5, pct_start: float = 0.25,
    moms: Sequence[float] = (0.95, 0.85, 0.95), parameter: str = "lr",
) -> Schedule:  # fmt: skip
    """A cosine up from ``lr_max / div`` and one down to ``lr_max / div_final``; ``parameter="mom"``: the momentum."""
    if checks.choice("from_fastai", "parameter", parameter, ("lr", "mom")) == "mom":
        return _fit(n_epoch * n_iter, pct_start, *moms)
    return _fit(n_epoch * n_iter, pct_start, lr_max / div, lr_max, lr_max / div_final)


@PEER.entry
def fit_flat_cos(n_epoch: int, n_iter: int, lr: float, div_final: float = 1e5, pct_start: float = 0.75) -> Schedule:
    """``lr``, then a cosine to ``lr / div_final``."""
    return _fit(n_epoch * n_iter, pct_start, lr, lr, lr / div_final)


@PEER.entry
def fit_sgdr(n_cycles: int, cycle_len: int, n_iter: int, lr_max: float, cycle_mult: int = 2) -> Schedule:
    """Cosines to 0, each ``cycle_mult`` times as long as the one before.

    fastai compares the part that is done with joints in float32: of 3 cycles or more, some start one update late.
    """
    cycles = Cosine(lr_max, 0.0, cycle_len * n_iter).repeat(n_cycles, stretch=cycle_mult)
    lengths = [cycle_len * cycle_mult**i for i in range(n_cycles)]
    epochs = sum(lengths)
    joints = accumulate(_single(length / epochs) for length in lengths)
    pairs = zip(accumulate(lengths), joints, strict=True)
    return late(cycles, [(start * n_iter, 0.0) for start, joint in pairs if _single(start / epochs) < _single(joint)])


def _single(x: float) -> float:
    """``x`` rounded to float32."""
    return float(unpack("f", pack("f", x))[0])


@PEER.entry
def LRFinder(start_lr: float = 1e-7, end_lr: float = 10, num_it: int = 100) -> Schedule:
    """Equal ratios from ``start_lr`` to ``end_lr``; at least 6 updates."""
    return Ramp(start_lr, end_lr, max(num_it, 6), ease="geometric")
