"""A run in words: what a horizon resolved to, and how a length became updates."""

from fractions import Fraction
from typing import TYPE_CHECKING

from ratewise.core import checks, clock

if TYPE_CHECKING:
    from ratewise.core.horizon import Horizon, Length


def number_text(x: Fraction | float) -> str:
    """``x`` as a decimal if it is a short one, else as a fraction, or to six digits if that is long."""
    x = Fraction(x)
    if x.denominator == 1:
        return checks.shown(int(x), 24)
    if 10**6 % x.denominator == 0:
        return f"{float(x):.12g}"
    text = f"{x.numerator}/{x.denominator}"
    return text if len(text) <= 12 else f"{float(x):.6f}"


def arithmetic(run: "Horizon", length: "Length") -> str:
    """Say how ``length`` becomes updates, e.g. ``"samples(640) / (32 x 2) are 10 updates"``."""
    n = run.updates(length)
    first = " of the first size" if run.ramped else ""
    return (
        f"{checks.shown(length, 40)}{_of(run, length)} {'is' if n == 1 else 'are'} {number_text(n)} "
        f"update{'' if n == 1 else 's'}{first}"
    )


def _of(run: "Horizon", length: "Length") -> str:
    if length.unit == "fraction":
        return f" of {number_text(run.constant.total_steps)} updates"
    if length.unit == "epochs" and not (run.dataset_size and run.batch_size):
        return f" of {number_text(run.steps_per_epoch)} updates"
    data = f" of {run.dataset_size} samples" if length.unit == "epochs" else ""
    return f"{data} / {_product(run, length.unit == 'tokens')}"


def _product(run: "Horizon", of_tokens: bool = False) -> str:
    """``(8 x 2 x 4)``: batch, accumulation, workers and tokens, as far as they are not 1."""
    sizes = [clock.first(x) for x in (run.batch_size or 1, run.accumulation, run.world_size)]
    sizes += [run.tokens_per_sample or 1] if of_tokens else []
    factors = [str(x) for x in sizes if x > 1] or ["1"]
    return f"({' x '.join(factors)})" if len(factors) > 1 else factors[0]


def summary(run: "Horizon") -> str:
    """Return what the run resolved to, one line each."""
    n, rows = run.total_steps, [("updates in the run", str(run.total_steps))]
    here = run.position(n)
    if here.epochs is not None:
        rows.append(("epochs in the run", number_text(here.epochs)))
        if not run.ramped:
            rows.append(("updates per epoch", number_text(run.steps_per_epoch) + _batches(run)))
    for unit, total in (("samples", here.samples), ("tokens", here.tokens)):
        if total is not None:
            rows.append((f"{unit} per update", _per_update(run, total // (here.samples or 1), unit == "tokens")))
            rows.append((f"{unit} in the run", f"{total}{_full(run, here)}"))
    return "\n".join(f"{name:<20}{value}" for name, value in rows)


def _full(run: "Horizon", here: clock.Position) -> str:
    """A remark where short batches at the ends of epochs were counted as full ones."""
    short = run.dataset_size and here.epochs and here.samples != run.dataset_size * here.epochs
    return "  (every batch counted as full)" if short else ""


def _batches(run: "Horizon") -> str:
    """How an epoch was counted."""
    if not (run.dataset_size and run.batch_size):
        return ""
    (stage,) = clock.stages(run.batch_size, run.accumulation, run.world_size)
    batches = clock.Loader(run.dataset_size, run.drop_last, run.carry).batches(stage.batch)
    each = f", {stage.accumulation} to an update" if stage.accumulation > 1 else ""
    dropped = ", the incomplete one dropped" if run.drop_last and run.dataset_size % stage.batch else ""
    return f"  ({run.dataset_size} samples are {batches} batches of {stage.batch}{each}{dropped})"


def _per_update(run: "Horizon", per_sample: int, of_tokens: bool) -> str:
    stages = clock.stages(run.batch_size or 1, run.accumulation, run.world_size)
    text = str(stages[0].size * per_sample)
    if len(stages) == 1:
        product = _product(run, of_tokens)
        return f"{text}  {product}" if " " in product else text
    more = [f", {stage.size * per_sample} from update {stage.start} on" for stage in stages[1:4]]
    return text + "".join(more) + (", ..." if len(stages) > 4 else "")
