"""``find_lr`` for JAX: every candidate uses the rates that it should, alone or with others, and nothing is left."""

import importlib
import math
import random
from functools import partial
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ratewise import Constant, Linear, inverse_sqrt, linear_decay
from ratewise.errors import FinderError
from ratewise.finder import Lookahead, compressed, one_by_one, ramp
from ratewise.optax import find_lr, inject, position, scaled
from ratewise.optax.find import OptaxTrainable


@pytest.fixture(scope="module", autouse=True)
def quickly_compiled():
    """XLA optimizes little here, as these programs take longer to compile than to run."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(320, 8)).astype("float32")
TARGETS = (INPUTS @ RNG.normal(size=8) + 0.5 * RNG.normal(size=320)).astype("float32")
BATCHES = [(INPUTS[i : i + 16], TARGETS[i : i + 16]) for i in range(0, 320, 16)]
PARAMS = {"w": jnp.zeros(8)}
SHORT = {"horizon": 60, "steps": 12, "seeds": 2}


def squares(params, batch):
    inputs, targets = batch
    return ((inputs @ params["w"] - targets) ** 2).mean()


# -- the rates that are used ---------------------------------------------------------------------------------

N = 7
WEIGHTS = np.array([1.0, 30.0, 4.0, 110.0, 17.0, 2.0, 61.0], "float32")  # a sum with these gives away each rate
ROWS = [[0.5, 0.25, 0.125, 0.1, 0.3, 0.7, 0.0], [1e-3 * 3**i for i in range(N)], [1e-6] * N]


def one_at_a_time(params, t, batch):
    """Update t has the gradient 1 at element t, so that there plain SGD leaves minus its rate."""
    return sum(p[t] for p in jax.tree.leaves(params)), t + 1


def used(optimizer, rows, params=None, weigh=lambda params: params @ WEIGHTS, **settings):
    """What is left in the weights by each candidate of ``rows``, summed up, and by each alone."""
    trainable = OptaxTrainable(
        one_at_a_time, jnp.zeros(N) if params is None else params, BATCHES, optimizer, state=0,
        evaluate=lambda params, t, batch: -weigh(params), held_out=BATCHES[:1], **settings,
    )  # fmt: skip
    trainable.prepare(N)
    together = trainable.scores(rows, seed=0)
    assert trainable.valid_for["engine"] == "all at once"
    assert together == pytest.approx([trainable.scores([row], seed=0)[0] for row in rows], rel=1e-6)
    return together, trainable.valid_for


def updated(optimizer, updates, params=None):
    params = jnp.zeros(N) if params is None else params
    state = optimizer.init(params)
    for _ in range(updates):
        _, state = optimizer.update(jax.tree.map(jnp.zeros_like, params), state, params)
    return state


SCHEDULED = inject(optax.sgd, learning_rate=linear_decay(0.4), horizon=10)
WARMED = inject(optax.sgd, learning_rate=Linear(0.0, 0.3, 5) >> Constant(0.3))
OF_OPTAX = optax.inject_hyperparams(optax.sgd)(learning_rate=0.3)
STEERED = [
    (optax.sgd, None),
    (lambda rate: optax.chain(optax.clip(5.0), optax.sgd(rate)), None),
    (optax.sgd, updated(optax.sgd(optax.linear_schedule(0.1, 0.0, 100)), 3)),
    (SCHEDULED, scaled(updated(SCHEDULED, 4), 0.5)),
    (WARMED, None),
    (optax.chain(optax.clip(5.0), SCHEDULED), None),
    (OF_OPTAX, updated(OF_OPTAX, 2)),
    (optax.inject_hyperparams(optax.sgd), None),
]


@pytest.mark.parametrize(("optimizer", "opt_state"), STEERED)
def test_the_weight_moves_by_the_rate(optimizer, opt_state) -> None:
    found, _ = used(optimizer, ROWS, opt_state=opt_state)
    assert found == pytest.approx([row @ WEIGHTS for row in np.array(ROWS)], rel=1e-6)


def grouped(body, head):
    return optax.multi_transform({"body": body, "head": head}, {"a": "body", "b": "head"})


@pytest.mark.parametrize(
    ("optimizer", "ratios"),
    [
        (lambda rate: grouped(optax.sgd(0.1 * rate), optax.sgd(rate)), {"learning_rate": 1.0}),
        (
            grouped(inject(optax.sgd, learning_rate=Linear(0.02, 0.0, 9)), inject(optax.sgd, learning_rate=0.2)),
            {"body": 0.1, "head": 1.0},
        ),
        (
            grouped(*(optax.inject_hyperparams(optax.sgd)(learning_rate=rate) for rate in (0.05, 0.5))),
            {"0": 0.1, "1": 1.0},
        ),
    ],
    ids=["a function", "inject", "inject_hyperparams"],
)
def test_groups_keep_their_ratios(optimizer, ratios) -> None:
    params = {"a": jnp.zeros(N), "b": jnp.zeros(N)}
    found, valid_for = used(optimizer, ROWS, params, lambda params: params["a"] @ WEIGHTS + params["b"] @ WEIGHTS[::-1])
    assert found == pytest.approx([0.1 * row @ WEIGHTS + row @ WEIGHTS[::-1] for row in np.array(ROWS)], rel=1e-6)
    assert valid_for["ratios"] == pytest.approx(ratios, rel=1e-6)


def test_other_hyperparameters_stay_where_training_stands() -> None:
    optimizer = inject(optax.sgd, learning_rate=linear_decay(1.0), momentum=Linear(0.0, 0.8, 8), horizon=20)
    found, _ = used(optimizer, [[0.1] * N, [0.2] * N], opt_state=updated(optimizer, 4))
    # with the momentum 0.4 of update 4, what element t gets at update t comes again 0.4 times, 0.16 times, ...
    sums = WEIGHTS @ [sum(0.4**i for i in range(N - t)) for t in range(N)]
    assert found == pytest.approx([0.1 * sums, 0.2 * sums], rel=1e-6)


@pytest.mark.parametrize(
    ("optimizer", "updates", "planned"),
    [
        (SCHEDULED, 4, (linear_decay(0.4).over(10), 10, 4)),
        (WARMED, 0, None),
        (inject(optax.adam, learning_rate=inverse_sqrt(0.1, 10)), 3, None),
        (optax.sgd, None, None),
    ],
)
def test_what_inject_follows_is_what_is_planned(optimizer, updates, planned) -> None:
    opt_state = None if updates is None else updated(optimizer, updates, PARAMS)
    assert OptaxTrainable(squares, PARAMS, BATCHES, optimizer, opt_state=opt_state).planned == planned


def test_in_the_middle_of_training_the_rest_of_the_schedule_is_probed() -> None:
    plan = linear_decay(1.0).warmup(10).over(100)
    optimizer = inject(optax.sgd, learning_rate=plan)
    state = updated(optimizer, 30, PARAMS)
    finding = find_lr(squares, PARAMS, BATCHES, optimizer, opt_state=state, steps=10, seeds=1)
    assert (finding.valid_for["horizon"], finding.valid_for["at_update"], position(state)) == (70, 30, 30)
    alone = OptaxTrainable(squares, PARAMS, BATCHES, optax.sgd)
    alone.prepare(100)
    rows = [[rate * part for part in compressed(plan.after(30), 70, 10)] for rate in finding.curve.rates]
    assert finding.curve.losses == pytest.approx(one_by_one(alone, rows, seed=0), rel=1e-4)


# -- together and alone --------------------------------------------------------------------------------------


def stateful(params, state, batch, key):
    """With dropout, and a running mean that evaluation uses."""
    inputs, targets = batch
    kept = jax.random.bernoulli(key, 0.8, inputs.shape)
    loss = squares(params, (jnp.where(kept, inputs / 0.8, 0.0), targets - targets.mean()))
    return loss, 0.9 * state + 0.1 * targets.mean()


def inference(params, state, batch):
    return squares(params, (batch[0], batch[1] - state))


@pytest.fixture(scope="module")
def made():
    trainable = OptaxTrainable(
        stateful, PARAMS, BATCHES, optax.adam, state=jnp.zeros(()), key=jax.random.key(3), evaluate=inference
    )
    trainable.prepare(40)
    return trainable


PEAKS = [0.002, 0.01, 0.05]


def test_candidates_that_train_together_score_as_alone(made) -> None:
    rows, before = [[peak] * 40 for peak in PEAKS], made.cost["updates"]
    together = made.scores(rows, seed=1)
    assert made.valid_for["engine"] == "all at once"
    assert made.cost["updates"] == before + 120
    assert together == pytest.approx([made.scores([row], seed=1)[0] for row in rows], rel=1e-4)  # of float32
    assert len(set(together)) == 3
    assert together != made.scores(rows, seed=2)


def test_every_update_has_a_key_of_its_own_that_all_candidates_share() -> None:
    def loss(params, t, batch, key):
        return params[t] * jax.random.uniform(key), t + 1

    trainable = OptaxTrainable(
        loss,
        jnp.zeros(N),
        BATCHES,
        optax.sgd,
        state=0,
        key=jax.random.key(0),
        evaluate=lambda params, t, b: params.sum(),
    )
    trainable.prepare(N)
    drawn = []
    for seed in (0, 0, 1):
        trainable.start(seed)
        for _ in range(N):
            trainable.step(1.0)
        drawn.append(set(trainable._carry.params.tolist()))
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == len(drawn[2]) == N
    assert drawn[0].isdisjoint(drawn[2])
    one, double = trainable.scores([[1.0] * N, [2.0] * N], seed=0)
    assert double == pytest.approx(2 * one, rel=1e-6)


def test_in_float64_they_agree_to_all_digits_but_the_last() -> None:
    place = jax if hasattr(jax, "enable_x64") else importlib.import_module("jax.experimental")  # of old
    with place.enable_x64(True):
        data = [(x.astype("float64"), y.astype("float64")) for x, y in BATCHES]
        trainable = OptaxTrainable(squares, {"w": np.zeros(8)}, data, optax.adamw)
        trainable.prepare(40)
        rows = [[peak] * 40 for peak in PEAKS]
        together = trainable.scores(rows, seed=1)
        alone = [trainable.scores([row], seed=1)[0] for row in rows]
        assert trainable._carry.params["w"].dtype == jnp.float64
    assert together == pytest.approx(alone, rel=1e-12)
    assert together != pytest.approx([float(np.float32(score)) for score in alone], rel=1e-12)


def test_a_candidate_that_diverges_does_not_touch_the_others(made) -> None:
    rows = [[0.01] * 20, [1e30] * 20, [0.02] * 20]
    first, wild, last = made.scores(rows, seed=0)
    assert math.isnan(wild)
    assert [first, last] == pytest.approx(made.scores([rows[0], rows[2]], seed=0), rel=1e-5)


def test_a_loss_that_was_not_finite_once_counts_as_diverged() -> None:
    def loss(params, t, batch):
        return squares(params, batch) + jnp.where(t == 3, jnp.inf, 0.0), t + 1

    trainable = OptaxTrainable(loss, PARAMS, BATCHES, optax.sgd, state=0, evaluate=lambda p, t, b: p["w"].sum())
    trainable.prepare(9)
    for updates, finite in ((3, True), (4, False), (9, False)):
        scores = [*trainable.scores([[0.01] * updates] * 2, seed=0), *trainable.scores([[0.01] * updates], seed=0)]
        assert [math.isfinite(score) for score in scores] == [finite] * 3


def test_candidates_may_all_reach_a_loss_of_nothing() -> None:
    trainable = OptaxTrainable(lambda p, b: jnp.maximum(p["w"][0] + 1.0, 0.0), PARAMS, BATCHES, optax.sgd)
    trainable.prepare(9)
    assert trainable.scores([[0.5] * 9, [0.7] * 9], seed=0) == [0.0, 0.0]


def test_more_candidates_than_fit_together_and_none(made) -> None:
    rows = [[rate] * 3 for rate in ramp(1e-4, 0.1, 20)[:7]]
    assert made.scores(rows, seed=0) == pytest.approx([made.scores([row], seed=0)[0] for row in rows], rel=1e-5)
    start = made.scores([[]], seed=0)
    assert start == pytest.approx([np.mean([squares(PARAMS, batch) for batch in BATCHES[5::10]])], rel=1e-6)


def test_a_search_traces_the_loss_five_times() -> None:
    traced = []

    def counted(params, batch):
        traced.append(1)
        return squares(params, batch)

    find_lr(counted, PARAMS, BATCHES, optax.sgd, **SHORT)
    assert len(traced) == 5  # an update alone and together, their scores, and the gradient for the ceiling


def test_batches_may_differ_in_size() -> None:
    data = [*BATCHES, (INPUTS[:5], TARGETS[:5])]
    trainable = OptaxTrainable(squares, PARAMS, data, optax.sgd, held_out=data)
    trainable.prepare(30)
    rows = [[0.1] * 30, [0.01] * 30]
    found = trainable.scores(rows, seed=0)
    assert found == pytest.approx([trainable.scores([row], seed=0)[0] for row in rows], rel=1e-5)
    (start,) = trainable.scores([[]], seed=0)
    every = [np.concatenate(parts) for parts in zip(*data, strict=True)]
    assert start == pytest.approx(float(squares(PARAMS, every)), rel=1e-6)  # the mean over examples


@jax.custom_batching.custom_vmap
def alone(x):
    return 0.0 * x


@alone.def_vmap
def _(*_):
    raise NotImplementedError("one at a time")


def unmapped(params, batch):
    return squares(params, batch) + alone(jax.lax.stop_gradient(params["w"][0]))


def printed(params, batch):
    jax.debug.callback(lambda _: None, params["w"][0])
    return squares(params, batch)


@pytest.mark.parametrize(
    ("loss", "reason"), [(unmapped, "NotImplementedError: one at a time"), (printed, "calls back into Python")]
)
def test_what_cannot_be_mapped_trains_one_by_one_and_says_so(loss, reason) -> None:
    made, plain = (OptaxTrainable(f, PARAMS, BATCHES, optax.sgd) for f in (loss, squares))
    rows, found = [[0.1] * 4, [0.2] * 4], []
    for one in (made, plain):
        one.prepare(4)
        found.append(one.scores(rows, seed=0))
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert made.valid_for["engine"].startswith("one by one (")
    assert reason in made.valid_for["engine"]


# -- the answer ----------------------------------------------------------------------------------------------


def test_the_suggestion_trains_better_than_rates_far_from_it() -> None:
    finding = find_lr(squares, PARAMS, BATCHES[:16], optax.sgd, schedule=linear_decay(1.0), horizon=200)
    assert finding.low <= finding.suggestion <= finding.high <= finding.stable

    @jax.jit
    def trained(rate):
        optimizer = optax.sgd(optax.linear_schedule(rate, 0.0, 200))

        def step(carry, batch):
            params, state = carry
            change, state = optimizer.update(jax.grad(squares)(params, batch), state, params)
            return (optax.apply_updates(params, change), state), None

        data = [jnp.stack([*part] * 13)[:200] for part in zip(*BATCHES[:16], strict=True)]
        (params, _), _ = jax.lax.scan(step, (PARAMS, optimizer.init(PARAMS)), data)
        return jnp.mean(jnp.stack([squares(params, batch) for batch in BATCHES[16:]]))

    lower, best, higher = (float(trained(rate)) for rate in (finding.suggestion / 32, finding.suggestion, 3.0))
    assert best < 0.8 * lower
    assert best < 0.2 * finding.curve.start
    assert finding.stable < 3.0
    assert not higher < 1e6


def test_the_same_seed_gives_the_same_answer_and_another_one_another() -> None:
    one, other = (find_lr(squares, PARAMS, BATCHES, optax.sgd, seed=1, **SHORT).to_dict() for _ in range(2))
    assert one == other
    trainable = OptaxTrainable(squares, PARAMS, BATCHES, optax.sgd)
    trainable.prepare(100)
    scores = [trainable.scores([[one["curve"]["rates"][0]] * 12], seed)[0] for seed in (1, 2)]
    assert scores[0] == pytest.approx(one["curve"]["scores"][0][0], rel=1e-5)
    assert scores[0] != scores[1]


def test_it_is_seen_how_often_each_example_comes() -> None:
    class Unmeasured:
        def __iter__(self):
            return iter(BATCHES)

    for batches in (BATCHES, Unmeasured()):
        trainable = OptaxTrainable(squares, PARAMS, batches, optax.sgd)
        trainable.prepare(50)
        assert trainable.epoch == 20
    trainable = OptaxTrainable(squares, PARAMS, Unmeasured(), optax.sgd, held_out=BATCHES[:1])
    trainable.prepare(10)
    assert trainable.epoch is None
    assert len(trainable._pool) == 11


def test_the_range_test_needs_no_held_out_batches() -> None:
    data = [(INPUTS[i::2], TARGETS[i::2]) for i in range(2)]
    finding = find_lr(squares, PARAMS, data, optax.sgd, method="range", high=1e3, steps=60)
    assert list(finding.curve.rates) == ramp(1e-7, 1e3, 60)[: len(finding.curve.rates)]
    assert finding.suggestion is not None
    assert finding.curve.losses[:2] == pytest.approx([float(squares(PARAMS, batch)) for batch in data], rel=1e-4)


ONE = {"ratios": {"learning_rate": 1.0}, "engine": "one by one"}


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (partial(optax.adamw, weight_decay=0.3), {"optimizer": "adamw", "weight_decay": [0.3], "betas": [0.9, 0.999]}),
        (partial(optax.sgd, momentum=0.9), {"optimizer": "sgd", "weight_decay": [0.0], "momentum": 0.9}),
        (lambda rate: optax.chain(optax.sgd(rate)), {"optimizer": "a function of the rate"}),
        (
            inject(optax.lion, learning_rate=0.1, weight_decay=0.2, b1=Linear(0.5, 0.0, 2)),
            {"optimizer": "lion", "weight_decay": [0.2], "betas": [0.5, 0.99]},
        ),
        (
            optax.inject_hyperparams(optax.adamw)(learning_rate=0.1, weight_decay=0.2),
            {"optimizer": "adamw", "weight_decay": [0.2], "betas": [0.9, 0.999]},
        ),
    ],
)
def test_what_it_is_valid_for_is_said(optimizer, expected) -> None:
    assert OptaxTrainable(squares, PARAMS, BATCHES, optimizer).valid_for == {**expected, **ONE}


def test_what_differs_between_groups_and_where_training_stands_is_said() -> None:
    two = [optax.inject_hyperparams(optax.adamw)(learning_rate=0.1, weight_decay=decay) for decay in (0.2, 0.1)]
    made = OptaxTrainable(squares, {"a": jnp.zeros(N), "b": jnp.zeros(N)}, BATCHES, grouped(*two))
    assert made.valid_for["weight_decay"] == [0.1, 0.2]
    made = OptaxTrainable(squares, PARAMS, BATCHES, SCHEDULED, opt_state=updated(SCHEDULED, 3, PARAMS))
    assert made.valid_for["at_update"] == 3


def test_examples_per_update_are_those_of_most_updates() -> None:
    made = OptaxTrainable(squares, PARAMS, [(INPUTS[:5], TARGETS[:5]), *BATCHES], optax.sgd)
    made.start(0)
    for _ in range(3):
        made.step(0.1)
    assert made.valid_for["examples_per_update"] == 16


def test_batches_may_come_from_a_function() -> None:
    made = OptaxTrainable(squares, PARAMS, lambda: iter(BATCHES), optax.sgd, held_out=lambda: iter(BATCHES[:2]))
    made.prepare(30)
    assert (len(made._pool), len(made._kept), made.epoch) == (20, 2, 20)


def test_a_transformation_that_takes_no_value_is_trained() -> None:
    def quiet(rate):
        inner = optax.sgd(rate)
        update = lambda updates, state, params=None, *, grad_fn=None: inner.update(updates, state, params)  # noqa: E731
        return optax.GradientTransformationExtraArgs(inner.init, update)  # as optax.contrib.sam has it

    found, plain = (OptaxTrainable(squares, PARAMS, BATCHES, make) for make in (quiet, optax.sgd))
    for made in (found, plain):
        made.start(0)
    assert [found.step(0.1), found.step(0.1)] == [plain.step(0.1), plain.step(0.1)]


# -- no trace ------------------------------------------------------------------------------------------------


class Shuffling:
    """A loader with a generator, a counter and an order that it shuffles in place; it overwrites its own batch."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(5)
        self.order = np.arange(320)
        self.epoch = 0
        self.inputs, self.targets = np.empty((16, 8), "float32"), np.empty(16, "float32")

    def __iter__(self):
        self.epoch += 1
        self.rng.shuffle(self.order)
        random.random()
        np.random.rand()
        for i in range(0, 320, 16):
            chosen = self.order[i : i + 16]
            self.inputs[:], self.targets[:] = INPUTS[chosen], TARGETS[chosen]
            yield self.inputs, self.targets


def run(find):
    """Losses of a jitted training with donated arrays, with ``find`` after 20 updates."""
    random.seed(1)
    np.random.seed(2)
    loader, losses = Shuffling(), []
    optimizer = inject(optax.adam, learning_rate=linear_decay(0.02), horizon=100)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, batch):
        loss, gradients = jax.value_and_grad(squares)(params, batch)
        change, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, change), state, loss

    params = jax.tree.map(jnp.array, PARAMS)
    state = optimizer.init(params)
    for epoch in range(3):
        for batch in loader:
            params, state, loss = step(params, state, batch)
            losses.append(float(loss) + 0.01 * random.random() + 0.01 * np.random.rand())
        if epoch == 1:
            find(params, batches=loader, optimizer=optimizer, opt_state=state)
    return losses, loader.epoch


def interrupted(params, **settings):
    calls = []

    def loss(params, batch):
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return squares(params, batch)

    with pytest.raises(KeyboardInterrupt):
        find_lr(loss, params, **settings, **SHORT)


def raising(params, **settings):
    with pytest.raises(FinderError, match=r"raised ValueError: a broken pipe\. Everything is as it was before\."):
        find_lr(_broken, params, **settings)


def _broken(params, batch):
    raise ValueError("a broken pipe")


@pytest.fixture(scope="module")
def undisturbed():
    return run(lambda *_, **__: None)


@pytest.mark.parametrize("find", [partial(find_lr, squares, steps=10, seeds=2), interrupted, raising])
def test_training_goes_on_as_if_it_had_not_been_called(find, undisturbed) -> None:
    assert run(find) == undisturbed


def test_a_loader_may_write_each_batch_into_the_same_memory() -> None:
    made = OptaxTrainable(squares, PARAMS, Shuffling(), optax.sgd)
    made.prepare(9)
    assert len({x.tobytes() for x, _ in [*made._pool, *made._kept]}) == 10


def test_a_stream_without_end_keeps_what_was_looked_at() -> None:
    stream = Lookahead(iter(BATCHES * 50))
    first = next(stream)
    finding = find_lr(squares, PARAMS, stream, optax.sgd, **SHORT)
    assert finding.curve.updates == 12
    assert first is BATCHES[0]
    assert next(stream) is BATCHES[1]


@pytest.mark.skipif(find_spec("torch") is None, reason="needs PyTorch")
def test_a_loader_of_pytorch_does_not_notice() -> None:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    data = TensorDataset(torch.tensor(INPUTS), torch.tensor(TARGETS))
    orders = []
    for sought in (False, True):
        torch.manual_seed(0)
        loader = DataLoader(data, 16, shuffle=True, generator=torch.Generator().manual_seed(4))
        _ = next(iter(loader))
        if sought:
            trainable = OptaxTrainable(squares, PARAMS, loader, optax.sgd)
            trainable.prepare(30)
            trainable.start(0)
            trainable.restore()
        orders.append(([x.sum().item() for x, _ in loader], torch.rand(1).item()))
    assert orders[0] == orders[1]


# -- bad input -----------------------------------------------------------------------------------------------

BAD = {
    "batches is empty": {"batches": []},
    "batches has one batch only": {"batches": BATCHES[:1]},
    "batches is an iterator, and what the finder takes would be missing": {"batches": iter(BATCHES)},
    "batches must be a loader, a list of batches, another iterable or a function that returns one, got dict": {
        "batches": {"x": 1}
    },
    r"held_out is a tuple of arrays, .* Give a list of batches: \[\(x, y\)\]": {"held_out": (INPUTS, TARGETS)},
    r"batches is a tuple of arrays, .* Give a list of batches: \[\(x, y\)\]": {"batches": (INPUTS, TARGETS)},
    "got ndarray. One batch alone goes into a list": {"batches": INPUTS},
    "batches must hold arrays and numbers, got str": {"batches": [("a", 1)] * 3},
    "held_out is empty": {"held_out": []},
    "held_out is an iterator": {"held_out": iter(BATCHES)},
    "params holds no arrays": {"params": {}},
    r"params\['n'\] has the dtype int32, which has no gradients": {"params": {"n": jnp.arange(3)}},
    r"params\['f'\] is a function, not an array. Give the arrays alone": {"params": {"f": squares}},
    "loss must be a function, got int": {"loss": 3},
    r"loss must return one number, the mean over the batch, it returned an array of shape \(3,\). Add": {
        "loss": lambda params, batch: jnp.ones(3)
    },
    r"with state=, loss must return \(loss, state\), it returned an array of shape \(3,\)": {
        "loss": lambda params, state, batch: jnp.ones(3), "state": 0
    },
    r"evaluate must return one number, the mean over the batch, it returned a tuple": {
        "evaluate": lambda params, batch: (1.0, 2.0)
    },
    "update 0, at the rate 1e-07, raised ValueError: a broken pipe. Everything is as it was": {"loss": _broken},
    "key must be one key of jax.random": {"key": 3},
    "optimizer must be of optax, got float. Give a function of the rate": {"optimizer": 0.1},
    "the rate of this optimizer is fixed inside it. Give a function of the rate": {"optimizer": optax.adam(0.1)},
    r"optimizer\(rate\) raised ConcretizationTypeError: JAX traces the rate, .* Do not convert it": {
        "optimizer": lambda rate: optax.adam(float(rate))
    },
    r"optimizer\(1.0\) raised TypeError": {"optimizer": lambda: optax.adam(0.1)},
    r"optimizer\(1.0\) must return a transformation of optax, got float": {"optimizer": lambda rate: rate},
    "MultiSteps is in this optimizer, so not every batch makes an update": {
        "optimizer": optax.MultiSteps(SCHEDULED, 2)
    },
    "multiplies its rate by a schedule of its own": {
        "optimizer": lambda rate: optax.adam(optax.cosine_decay_schedule(rate, 100))
    },
    "inject_hyperparams holds no learning_rate here that can be written": {
        "optimizer": optax.inject_hyperparams(optax.sgd)(learning_rate=optax.linear_schedule(0.1, 0.0, 9))
    },
    "the rates of the optimizer must be finite and somewhere above 0": {
        "optimizer": inject(optax.sgd, learning_rate=0.0)
    },
    "opt_state is not a state of this optimizer": {"opt_state": optax.sgd(0.1, momentum=0.9).init(PARAMS)},
    "opt_state is not a state of this optimizer. Give the": {
        "optimizer": SCHEDULED, "opt_state": optax.sgd(0.1).init(PARAMS)
    },
    "low must be above 0 and below high": {"low": 1.0, "high": 0.1},
    "stands at update 10, at the end of its horizon of 10": {
        "optimizer": SCHEDULED, "opt_state": updated(SCHEDULED, 10, PARAMS)
    },
    "every candidate moves alike, so the optimizer does not use the rate": {"optimizer": lambda rate: optax.adam(0.1)},
}  # fmt: skip


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_told_in_a_sentence(message) -> None:
    given = {"loss": squares, "params": PARAMS, "batches": BATCHES, **SHORT, **BAD[message]}
    if "stands at" in message:
        del given["horizon"], given["steps"]
    with pytest.raises(FinderError, match=message) as raised:
        find_lr(given.pop("loss"), given.pop("params"), given.pop("batches"), **given)
    assert "\n" not in str(raised.value)


def test_donated_params_are_told() -> None:
    params = jax.tree.map(jnp.array, PARAMS)
    jax.jit(lambda p: jax.tree.map(jnp.negative, p), donate_argnums=0)(params)
    with pytest.raises(FinderError, match=r"params\['w'\] was donated to a compiled function and is gone"):
        find_lr(squares, params, BATCHES)


def test_a_loss_that_is_nan_at_once_is_a_reason_not_an_error() -> None:
    finding = find_lr(lambda p, batch: jnp.nan * squares(p, batch), PARAMS, BATCHES, **SHORT)
    assert finding.suggestion is None
    assert "held-out loss is nan before any training" in finding.reason
