"""Strategies that ``compare`` takes when they are named.

Newer schedules, rules that follow a metric, and optimizers that promise to need no schedule or no rate. Those that
promise less tuning get the same search for their rate as all others; what that was worth here stands in their cards.
"""

from ratewise.core import recipes
from ratewise.core.horizon import fraction
from ratewise.core.rules import Greedy, Plateau
from ratewise.lab.strategy import Card, Strategy

CENTRE = "The rate is the centre of the search that compare makes in factors of two (measured on small networks)."

BEYOND: tuple[Strategy, ...] = (
    Strategy(
        "warmup_cosine", "sgd", recipes.warmup_cosine(0.1), momentum=0.9,
        card=Card(
            what="A short rise in a straight line, then half a cosine wave to zero.",
            formula="lr(t) = lr0 * (t + 1) / W, then lr0 * (1 + cos(pi * (t - W) / (T - W))) / 2",
            pros=("survives high rates at the start", "settles at the end"),
            cons=("the length of the run must be known", "a second number, the length of the rise"),
            use_case="The usual choice for transformers, with AdamW; vision with large batches.",
            defaults=f"a rise of 5% of the run. {CENTRE}",
            paper="Goyal et al., 2017, https://arxiv.org/abs/1706.02677; Loshchilov and Hutter, 2017, "
            "https://arxiv.org/abs/1608.03983.",
        ),
    ),
    Strategy(
        "wsd", "sgd", recipes.wsd(0.1), momentum=0.9,
        card=Card(
            what="Warm-up, a long constant phase, and a short decay at the end.",
            formula="lr0 * (t + 1) / W;  lr0;  lr0 * (1 - sqrt(p)) over the last fifth, p from 0 to 1",
            pros=("the decay can be started at any time: one trunk serves runs of many lengths",),
            cons=("until the decay the loss looks worse than that of cosine", "the length of the decay must be chosen"),
            use_case="Language models whose final length is not known; continued training.",
            defaults=f"a rise of 5% and a decay of 20% of the run. {CENTRE}",
            paper="Hu et al., 2024, https://arxiv.org/abs/2404.06395; Hägele et al., 2024, "
            "https://arxiv.org/abs/2405.18392.",
        ),
    ),
    Strategy(
        "inverse_sqrt", "sgd", recipes.inverse_sqrt(0.1, timescale=fraction(0.05), warmup=fraction(0.05)), momentum=0.9,
        card=Card(
            what="A short rise, then a fall with one over the square root of time.",
            formula="lr(t) = lr0 / sqrt(1 + t / timescale)",
            pros=("needs no planned end", "the rate that theory gives for averaged iterates of convex problems"),
            cons=("at the end of the run the rate is still a quarter of its peak, so it does not settle",),
            use_case="Transformers trained without a planned end; usually with a cooldown before each use.",
            defaults=f"timescale and rise are 5% of the run. {CENTRE}",
            paper="Vaswani et al., 2017, https://arxiv.org/abs/1706.03762; Zhai et al., 2022, "
            "https://arxiv.org/abs/2106.04560.",
        ),
    ),
    Strategy(
        "rex", "sgd", recipes.rex(0.1), momentum=0.9,
        card=Card(
            what="A curve to zero that stays above the straight line and falls ever more steeply.",
            formula="lr(t) = lr0 * (1 - p) / (1 - p / 2),  p = t / T",
            pros=("one number to tune", "high rates for longer, and zero at the end"),
            cons=("the length of the run must be known",),
            use_case="Short budgets, beside linear.",
            defaults=f"to zero. {CENTRE}",
            paper="Chen et al., 2021, https://arxiv.org/abs/2107.04197.",
        ),
    ),
    Strategy(
        "nadam", "nadam", recipes.fixed(0.01),
        card=Card(
            what="Adam with Nesterov's momentum: it looks one update ahead.",
            formula="as Adam, with b1 * m_hat + (1 - b1) * g / (1 - b1**t) in place of m_hat",
            pros=("as easy to use as Adam",),
            cons=("without decay it keeps bouncing at the end", "torch changes b1 over the run (momentum_decay)"),
            use_case="Beside Adam, to see whether the look ahead pays.",
            defaults=f"lr = 0.01, betas 0.9 and 0.999, no decay on top. {CENTRE}",
            paper="Dozat, 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ.",
        ),
    ),
    Strategy(
        "radam", "radam", recipes.fixed(0.02),
        card=Card(
            what="Adam that begins as momentum SGD until its average of squares can be trusted: a warm-up of its own.",
            formula="as Adam times r(t), which rises from 0 to 1; without the division as long as r(t) is not defined",
            pros=("needs no warm-up",),
            cons=("without decay it keeps bouncing at the end", "the first few updates are SGD at Adam's rate: slow"),
            use_case="Where Adam needs a warm-up and its length is not known.",
            defaults=f"lr = 0.02, betas 0.9 and 0.999, no decay on top. {CENTRE}",
            paper="Liu et al., 2020, https://arxiv.org/abs/1908.03265.",
        ),
    ),
    Strategy(
        "plateau", "sgd", recipes.fixed(0.1) * Plateau(0.1, patience=1), momentum=0.9,
        card=Card(
            what="The rate is constant until the validation loss stops improving, then drops, again and again.",
            formula="lr = lr0 * factor ** (number of cuts); a cut at the patience-th measurement without improvement",
            pros=("drops where the run itself says so, not at planned updates", "needs no planned end"),
            cons=(
                "validation data are spent on control",
                "a noisy loss cuts too early, and nothing raises the rate again",
            ),
            use_case="When the length of the run is not known and validation is cheap.",
            defaults="a tenth at the first measurement without improvement; compare measures ten times per run. "
            f"{CENTRE}",
            paper="torch ReduceLROnPlateau; keras ReduceLROnPlateau.",
        ),
    ),
    Strategy(
        "greedy", "sgd", recipes.fixed(0.05) * Greedy(0.85, patience=1), momentum=0.9,
        card=Card(
            what="The rate rises while the validation loss improves and falls while it does not.",
            formula="lr /= factor after an improvement, lr *= factor after none; between 0.01 and 10 times lr0",
            pros=("finds a higher rate by itself when it starts too low", "needs no planned end"),
            cons=(
                "judges a rate by the next measurement alone: on noisy digits no better than a constant rate",
                "published means (1.53 against 73.15 for cosine) come from diverged runs: it won 22% of the conditions",
            ),
            use_case="Beside plateau, when a first guess of the rate may be far off.",
            defaults=f"factor 0.85 at every measurement; compare measures ten times per run. {CENTRE}",
            paper="GreedyLR, 2025, https://arxiv.org/abs/2512.14527; Wu et al., 2018, on short horizons, "
            "https://arxiv.org/abs/1803.02021.",
        ),
    ),
    Strategy(
        "schedule_free_sgd", "schedule_free_sgd", recipes.fixed(1.0).warmup(fraction(0.05)), momentum=0.9,
        card=Card(
            what="SGD whose weights for evaluation are a running average: it replaces the decay, not the rate.",
            formula="y = (1 - b) z + b x;  z -= lr * g(y);  x = average of z, weighted by lr**2",
            pros=("needs no planned end", "as good as tuned decay on many published problems"),
            cons=(
                "the rate needs the same search as any other, and the momentum matters more",
                "optimizer.train() and optimizer.eval() must be called; batch normalization must be measured "
                "again at x",
                "trains one by one here: its average is not proportional to the rate",
            ),
            use_case="Runs without a planned end, with SGD.",
            defaults="warm-up of 5% of the run, b = 0.9, as the authors advise. They start at 10 to 50 times the usual "
            f"rate; here the best lay at 20 times that of linear decay on noisy digits, at 5 times on wine. {CENTRE}",
            paper="Defazio et al., 2024, The Road Less Scheduled, https://arxiv.org/abs/2405.15682; package "
            "schedulefree.",
        ),
    ),
    Strategy(
        "schedule_free_adamw", "schedule_free_adamw", recipes.fixed(0.02).warmup(fraction(0.05)), momentum=0.9,
        card=Card(
            what="AdamW whose weights for evaluation are a running average: it replaces the decay, not the rate.",
            formula="as schedule_free_sgd, with Adam's division by sqrt(v_hat) in the step of z",
            pros=("needs no planned end", "won the self-tuning track of AlgoPerf's first competition"),
            cons=(
                "the rate needs the same search as any other, and b1 matters more than for AdamW",
                "optimizer.train() and optimizer.eval() must be called; batch normalization must be measured "
                "again at x",
                "trains one by one here: its average is not proportional to the rate",
            ),
            use_case="Runs without a planned end, with AdamW.",
            defaults="warm-up of 5% of the run, b1 = 0.9, as the authors advise; they start at 1 to 10 times the "
            "rate of "
            f"AdamW. {CENTRE}",
            paper="Defazio et al., 2024, The Road Less Scheduled, https://arxiv.org/abs/2405.15682; package "
            "schedulefree.",
        ),
    ),
    Strategy(
        "prodigy", "prodigy", recipes.cosine(0.25),
        card=Card(
            what="Adam that estimates its own rate from how far the weights have moved; the rate here multiplies that.",
            formula="d = max(d, (sum of d lr <g, w0 - w>) / |s|_1);  w -= lr * d * m / (sqrt(v) + d eps)",
            pros=("no idea of the rate's scale is needed", "close to tuned Adam on many published problems"),
            cons=(
                "not free of tuning: at lr = 1 the loss on wine was 4.3, at 1/16 it was 0.07",
                "at its defaults it scored poorly on AlgoPerf, as all methods without rates did",
                "trains one by one here: its estimate is one number for all weights",
            ),
            use_case="A new kind of model, for a first idea of the rate; then compare it with tuned AdamW.",
            defaults="cosine without restarts and no warm-up, as the authors advise. They advise lr = 1; here "
            "the best lay "
            f"at 1/4 on digits and at 1/16 on wine, so the search starts at 1/4. {CENTRE}",
            paper="Mishchenko and Defazio, 2024, https://arxiv.org/abs/2306.06101; judged in "
            "https://arxiv.org/abs/2505.24005; package prodigyopt.",
        ),
    ),
)  # fmt: skip
"""The strategies beyond the classical ones."""
