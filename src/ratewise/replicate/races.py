"""Whether a race may look at unfinished runs, and whether a lead grows with the length of the training."""

import sysconfig
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from ratewise.core import recipes
from ratewise.lab.task import Pair, Task
from ratewise.replicate.bench import Bench, Runs
from ratewise.replicate.claim import Evidence, Figure, claim, estimated, lower, mean, number
from ratewise.replicate.schedules import NINETEEN, adam


@claim(
    "races-mislead",
    "A race that ranks schedules by unfinished runs is misled; short complete runs of each schedule rank them better.",
    source="Wen et al., 2025, https://arxiv.org/abs/2509.02046, for rankings that flip; pilot of this project",
    setting="digits with a fifth of the labels wrong, loss on all training examples, nineteen schedules of SGD with "
    "momentum, 1,500 updates, each at its own best rate there (by training loss); unfinished: the same runs at "
    "10, 20, 50 and 70%; complete: runs of 300 updates, each at its own best rate there. Fresh seeds. Spearman's "
    "correlation with the final ranking, by training and by test loss. Intervals from resampled seeds.",
)
def races_mislead(bench: Bench) -> Evidence:
    """Correlate intermediate and complete short runs with the final ranking."""
    digits, steps, seeds = bench.task("digits"), 1500, 8
    splits = digits.splits
    task = Task("digits-train", {**splits, "valid": splits["train"]}, None, jax_model=digits.jax_model, batch_size=16)
    strategies = NINETEEN
    _, long = bench.judged(task, strategies, seeds, steps=steps, tuning_seeds=3)
    _, short = bench.judged(task, strategies, seeds, steps=steps // 5, tuning_seeds=3)
    everyone = np.arange(seeds)
    gates, rows = [], []
    for what, split in (("training loss", "valid"), ("test loss", "test")):
        marks = _stacked(long, split)  # (strategies, seeds, marks)
        complete = _stacked(short, split)[:, :, -1]
        at = {f"{10 * m}% of the run": marks[:, :, m - 1] for m in (1, 2, 5, 7)} | {"complete, a fifth": complete}
        rows.append((what, *(number(_rank(x, marks[:, :, -1], everyone)) for x in at.values())))
        text = (
            f"by {what}, the correlation of complete short runs is above that of the same runs at half by 0.3 or more"
        )
        gates.append(estimated(text, partial(_lead, complete, marks), seeds, 0.3))
    lines = {}
    for name in ("fixed", "linear", "step_decay"):
        curve = long[name].valid[0].mean(axis=0).tolist()
        lines[name] = ([steps * (i + 1) / 10 for i in range(len(curve))], curve)
    header = ("ranked by", "10% of the run", "20%", "50%", "70%", "complete runs of a fifth")
    return Evidence(gates, header, rows, Figure("optimizer updates", "training loss", lines, "y"), for_races(rows[-1]))


def for_races(by_test_loss: Sequence[str]) -> str:
    """What a row of the table says about the lab's own races."""
    _, _, fifth, half, _, complete = by_test_loss
    worse = float(complete) <= max(float(fifth), float(half))
    guide = "no better" if worse else "a better"
    return (
        "`compare --race` drops schedules by the held-out loss of short complete runs (their rates by validation loss, "
        f"here by training loss). By test loss these are here {guide} guide to the final order than unfinished runs: "
        f"the correlation is {complete}, for unfinished runs of as many updates {fifth}, at half {half}."
        f"{' So a race may drop the best schedule here.' if worse else ''}"
    )


def _stacked(runs: dict[str, Runs], split: str) -> NDArray[np.float64]:
    return np.array([getattr(run, split)[0] for run in runs.values()])


def _rank(a: NDArray[np.float64], b: NDArray[np.float64], of: NDArray[np.int64]) -> float:
    return float(spearmanr(a[:, of].mean(axis=1), b[:, of].mean(axis=1)).statistic)


def _lead(complete: NDArray[np.float64], marks: NDArray[np.float64], of: NDArray[np.int64]) -> float:
    final = marks[:, :, -1]
    return _rank(complete, final, of) - _rank(marks[:, :, 4], final, of)


PARAMETERS = 2544
"""Of the language model below."""
BAND = 0.001
"""Its band of ties, as a part of the loss."""


@claim(
    "linear-to-zero",
    "The edge of linear decay to zero over cosine decay to a tenth grows with the tokens per parameter.",
    source="Bergsma et al., 2025, https://arxiv.org/abs/2502.15938",
    setting="A character model of the standard library's source, 2,544 parameters, Adam, batches of 64 characters, "
    "each example seen once; 18 and 75 characters per parameter; each schedule tuned at each length, 12 fresh "
    "seeds, test loss. The band of ties is 0.1% in every gate, not 5%: the edge in question is a part of a percent of "
    "the loss, in a band of 5% everything would tie.",
)
def linear_to_zero(bench: Bench) -> Evidence:
    """Compare schedules at two lengths of one-pass training."""
    task = Task("chars-once", partial(_windows, 75 * PARAMETERS), None, jax_model=partial(_model), batch_size=64)
    strategies = {
        "constant": adam("constant", recipes.fixed(0.01)),
        "cosine to a tenth": adam("cosine_10", recipes.cosine(0.01, 0.001)),
        "linear to zero": adam("linear", recipes.linear_decay(0.01)),
    }
    gates, rows, ratios = [], [], []
    for tokens in (18, 75):
        steps, seeds = tokens * PARAMETERS // 64, 12
        tuned, runs = bench.judged(task, strategies, seeds, steps=steps, tuning_seeds=2)
        losses = {name: run.capped[0] for name, run in runs.items()}
        gates += lower(
            {"linear to zero": losses["linear to zero"]}, losses["constant"], "constant",
            where=f"{tokens} per parameter", delta=BAND,
        )  # fmt: skip
        ratios.append(losses["linear to zero"] / losses["cosine to a tenth"])
        rows += [(str(tokens), str(steps), name, number(tuned[name].rate), mean(loss)) for name, loss in losses.items()]
        rows.append((str(tokens), str(steps), "linear / cosine", "", mean(ratios[-1])))
    grows = {"the long run": ratios[1]}
    gates += lower(grows, ratios[0], "the short run", delta=BAND, measure="loss of linear over loss of cosine")
    header = ("characters per parameter", "updates", "schedule", "best rate", "test loss")
    return Evidence(gates, header, rows)


def _windows(count: int) -> dict[str, Pair]:
    """Eight characters of the standard library's source and the next, from other files for each split."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("[a-z]*.py"))
    parts = {"train": (files[0::2], count), "valid": (files[1::4], 3000), "test": (files[3::4], 3000)}
    splits = {}
    for name, (group, wanted) in parts.items():
        text = "\n".join(path.read_text(encoding="utf-8", errors="ignore") for path in group)
        codes = np.frombuffer(text.encode("ascii", "ignore"), dtype=np.uint8).astype(np.int64)
        codes = np.where(codes >= 32, codes - 31, 0)  # a line's end and a tab are 0
        starts = np.random.default_rng(0).permutation(len(codes) - 9)[:wanted]
        splits[name] = (codes[starts[:, None] + np.arange(8)], codes[starts + 8])
    return splits


def _model() -> object:
    from ratewise.optax.models import char_mlp

    return char_mlp(97, 8, 4, 16)
