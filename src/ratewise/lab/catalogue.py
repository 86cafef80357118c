"""The catalogue: the strategies that ``compare`` takes, each with the card that ``explain`` prints.

The classical ones, with cosine, linear and AdamW, are compared by default; those of ``beyond`` when they are named.

The rates are centres of the search, not recommendations: ``compare`` moves each strategy's peak rate by factors of
two until its best rate lies inside the window. They were measured on small networks: SGD with momentum 0.1,
Adagrad 0.1, RMSprop 0.005, Adam 0.01, AdamW with linear decay 0.02.
"""

from ratewise.core import recipes
from ratewise.core.horizon import fraction
from ratewise.errors import UnknownName, nearest
from ratewise.lab.beyond import BEYOND, CENTRE
from ratewise.lab.strategy import Card, Strategy

_CLASSICAL: dict[str, Strategy] = {
    entry.name: entry
    for entry in (
        Strategy(
            "fixed", "sgd", recipes.fixed(0.1), momentum=0.9,
            card=Card(
                what="The same rate from the first update to the last.",
                formula="lr(t) = lr0",
                pros=("one number to tune", "needs no knowledge of the run's length"),
                cons=("never settles: the noise of the gradients stays in the weights", "too high overshoots, too low crawls"),
                use_case="A baseline; runs whose end is unknown; together with averaging of the weights.",
                defaults=f"lr0 = 0.1 with momentum 0.9. {CENTRE}",
                paper="Robbins and Monro, 1951, A Stochastic Approximation Method (why a constant rate does not converge).",
            ),
        ),
        Strategy(
            "time_based", "sgd", recipes.time_based(0.1, decay=9.0, every=fraction(1.0)), momentum=0.9,
            card=Card(
                what="The rate falls as one over time: quickly at first, then ever more slowly.",
                formula="lr(t) = lr0 / (1 + decay * t)",
                pros=("smooth, never reaches zero", "with decay = 1 per unit of time it meets the classical conditions for convergence"),
                cons=("most of the fall comes early", "the decay is a second number to tune"),
                use_case="Convex problems and online learning; long runs without a planned end.",
                defaults=f"decay = 9 per run: a tenth of lr0 at the end. {CENTRE}",
                paper="Robbins and Monro, 1951; the `decay` argument of Keras' older optimizers; keras InverseTimeDecay.",
            ),
        ),
        Strategy(
            "step_decay", "sgd", recipes.step_decay(0.1, gamma=0.1, every=fraction(1 / 3)), momentum=0.9,
            card=Card(
                what="The rate is constant for a while, then drops by a factor, again and again.",
                formula="lr(t) = lr0 * gamma ** floor(t / every)",
                pros=("long phases at a high rate, then quick settling", "easy to read in a loss curve"),
                cons=("where to drop, and by how much, must be chosen", "sudden"),
                use_case="Image classification with SGD and momentum, where the drops are known.",
                defaults=f"a tenth at each third of the run, as ResNets on ImageNet (30, 60 of 90 epochs). {CENTRE}",
                paper="He et al., 2016, Deep Residual Learning, section 3.4, https://arxiv.org/abs/1512.03385; torch StepLR.",
            ),
        ),
        Strategy(
            "exponential_decay", "sgd", recipes.exponential_decay(0.1, gamma=0.01, every=fraction(1.0)), momentum=0.9,
            card=Card(
                what="The rate is multiplied by the same factor in every update.",
                formula="lr(t) = lr0 * gamma ** (t / every)",
                pros=("smooth", "two numbers with a plain meaning: start and end"),
                cons=("can be too aggressive: half of the run is spent below a tenth of lr0",),
                use_case="Fine settling after a good start; reinforcement learning and older vision models.",
                defaults=f"a hundredth of lr0 at the end of the run. {CENTRE}",
                paper="keras ExponentialDecay; torch ExponentialLR.",
            ),
        ),
        Strategy(
            "adagrad", "adagrad", recipes.fixed(0.1),
            card=Card(
                what="Every weight has its own rate, which shrinks with the squared gradients it has seen.",
                formula="w -= lr * g / (sqrt(sum of g**2) + eps)",
                pros=("rare features keep large steps", "little tuning"),
                cons=("the sum only grows, so the steps shrink for ever and learning may stop early",),
                use_case="Sparse features: text, click models, embeddings.",
                defaults=f"lr = 0.1, no decay on top. {CENTRE}",
                paper="Duchi, Hazan and Singer, 2011, JMLR 12, https://jmlr.org/papers/v12/duchi11a.html.",
            ),
        ),
        Strategy(
            "rmsprop", "rmsprop", recipes.fixed(0.005),
            card=Card(
                what="Adagrad with a moving average in place of the sum, so that the steps do not die out.",
                formula="v = rho * v + (1 - rho) * g**2;  w -= lr * g / (sqrt(v) + eps)",
                pros=("adapts to each weight's scale", "good on non-stationary problems"),
                cons=("without decay it keeps bouncing at the end", "no bias correction: the first steps are large"),
                use_case="Recurrent networks, reinforcement learning.",
                defaults=f"lr = 0.005, rho = 0.99 as torch. {CENTRE}",
                paper="Tieleman and Hinton, 2012, Coursera lecture 6.5.",
            ),
        ),
        Strategy(
            "adam", "adam", recipes.fixed(0.01),
            card=Card(
                what="Momentum and RMSprop together, with both averages corrected for their start.",
                formula="m = b1*m + (1-b1)*g;  v = b2*v + (1-b2)*g**2;  w -= lr * m_hat / (sqrt(v_hat) + eps)",
                pros=("works at once on most networks", "the rate's scale depends little on the model"),
                cons=("without decay it keeps bouncing at the end", "may generalise worse than SGD on images"),
                use_case="A first run on anything; transformers (then with warm-up and decay).",
                defaults=f"lr = 0.01, betas 0.9 and 0.999. {CENTRE}",
                paper="Kingma and Ba, 2015, https://arxiv.org/abs/1412.6980.",
            ),
        ),
        Strategy(
            "warmup", "sgd", recipes.fixed(0.1).warmup(fraction(0.1)), momentum=0.9,
            card=Card(
                what="The rate rises in a straight line at the start, then stays.",
                formula="lr(t) = lr0 * min(1, (t + 1) / W)",
                pros=("prevents early divergence at high rates and large batches", "lets Adam's averages fill up"),
                cons=("costs updates at low rates", "alone it does not settle at the end"),
                use_case="Large batches, transformers, deep networks without normalisation; usually before a decay.",
                defaults=f"W = a tenth of the run; the first update already uses lr0 / W. {CENTRE}",
                paper="Goyal et al., 2017, section 2.2, https://arxiv.org/abs/1706.02677.",
            ),
        ),
        Strategy(
            "cyclical", "sgd", recipes.cyclical(0.01, 0.1, half_cycle=fraction(0.125), mode="triangular2"), momentum=0.9,
            card=Card(
                what="The rate goes up and down between two bounds in straight lines.",
                formula="triangular: low + (high - low) * tri(t);  triangular2: height halved each cycle;  exp_range: height * gamma**t",
                pros=("bounds instead of one exact rate", "good intermediate models at the end of each cycle"),
                cons=("two bounds and a period to choose", "part of the run is spent at rates that are too high or too low"),
                use_case="When the right rate is unknown; snapshot ensembles.",
                defaults=f"mode triangular2, bounds 1:10, four cycles in the run. {CENTRE}",
                paper="Smith, 2017, Cyclical Learning Rates, https://arxiv.org/abs/1506.01186.",
            ),
        ),
        Strategy(
            "one_cycle", "sgd", recipes.one_cycle(0.1), momentum=recipes.one_cycle_momentum(0.95, 0.85),
            card=Card(
                what="One rise to a high rate and one long fall to almost nothing, with momentum going the other way.",
                formula="lr: peak/25 -> peak -> peak/250000 (cosine);  momentum: 0.95 -> 0.85 -> 0.95",
                pros=("reaches a target early", "the high rate in the middle regularises", "warm-up and decay in one"),
                cons=("the length of the run must be known", "a run that is cut short is far from its end value"),
                use_case="Short budgets with SGD and momentum.",
                defaults=f"30% rise, ratios as torch's OneCycleLR and fastai. {CENTRE}",
                paper="Smith and Topin, 2018, Super-Convergence, https://arxiv.org/abs/1708.07120.",
            ),
        ),
        Strategy(
            "cosine", "sgd", recipes.cosine(0.1), momentum=0.9,
            card=Card(
                what="Half a cosine wave from the peak to zero.",
                formula="lr(t) = lr0 * (1 + cos(pi * t / T)) / 2",
                pros=("one number to tune", "slow at both ends: explores first, settles last"),
                cons=("the length of the run must be known",),
                use_case="The usual choice for images and, with warm-up, for language models.",
                defaults=f"to zero, no restarts. {CENTRE}",
                paper="Loshchilov and Hutter, 2017, SGDR, eq. 5, https://arxiv.org/abs/1608.03983.",
            ),
        ),
        Strategy(
            "linear", "sgd", recipes.linear_decay(0.1), momentum=0.9,
            card=Card(
                what="A straight line from the peak to zero.",
                formula="lr(t) = lr0 * (1 - t / T)",
                pros=("one number to tune", "worst-case optimal for the last iterate in theory, robust in practice"),
                cons=("the length of the run must be known",),
                use_case="A strong default for any fixed budget.",
                defaults=f"to zero. {CENTRE}",
                paper="Defazio et al., 2023, https://arxiv.org/abs/2310.07831; Li et al., 2020, Budgeted Training, https://arxiv.org/abs/1905.04753.",
            ),
        ),
        Strategy(
            "adamw", "adamw", recipes.linear_decay(0.02).warmup(fraction(0.05)), weight_decay=0.01,
            card=Card(
                what="Adam with decoupled weight decay, a short warm-up, and a straight line to zero.",
                formula="Adam's update, then w -= lr(t) * weight_decay * w;  lr(t) = lr0 * (1 - (t - W) / (T - W)) after W updates",
                pros=("the modern default: adaptive and settling", "decay and weight decay do not fight"),
                cons=("weight decay is one more number", "the length of the run must be known"),
                use_case="Transformers and most new architectures; the control in every comparison.",
                defaults=f"lr0 = 0.02, warm-up of 5% of the run, weight decay 0.01 as torch. {CENTRE}",
                paper="Loshchilov and Hutter, 2019, Decoupled Weight Decay, https://arxiv.org/abs/1711.05101; as the control of methods without rates: https://arxiv.org/abs/2505.24005.",
            ),
        ),
    )
}  # fmt: skip

DEFAULT: tuple[str, ...] = tuple(_CLASSICAL)
"""Names of the strategies that are compared where none are named."""

CATALOGUE: dict[str, Strategy] = _CLASSICAL | {entry.name: entry for entry in BEYOND}
"""Every strategy by name, in the order in which ``list`` shows them."""


def strategy(name: str) -> Strategy:
    """Return a strategy of the catalogue by its name.

    Raises:
        UnknownName: There is no such strategy; the message suggests the nearest.

    Example:
        >>> strategy("cosine").lr
        Cosine(0.1, 0.0)
    """
    if name not in CATALOGUE:
        raise UnknownName(f"unknown strategy {name!r}.{nearest(name, CATALOGUE)}")
    return CATALOGUE[name]
