"""The JAX engine: the runs of its PyTorch twin from the same initial arrays and batches, whoever stands beside them."""

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import flax.linen as flax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import torch  # noqa: E402

from ratewise import Constant, Cosine, Plateau, one_cycle, one_cycle_momentum  # noqa: E402
from ratewise.errors import AdapterError, TaskError  # noqa: E402
from ratewise.lab.loading import load  # noqa: E402
from ratewise.lab.runs import Member, engine_of  # noqa: E402
from ratewise.lab.strategy import Strategy  # noqa: E402
from ratewise.optax import build, named  # noqa: E402
from ratewise.optax.engine import LANES, Engine  # noqa: E402
from ratewise.optax.models import Model, mlp  # noqa: E402
from ratewise.outcome import marks  # noqa: E402
from ratewise.torch.engine import Engine as TorchEngine  # noqa: E402

STEPS = 30


@dataclass
class Twin:
    """A built-in task in any precision, with changes."""

    splits: Any
    model: Any
    jax_model: Any
    loss: Any = "cross_entropy"
    metric: str = "accuracy"
    batch_size: int = 16
    clip_norm: float | None = None
    streamed: bool = False
    name: str = "twin"

    @classmethod
    def of(cls, name, dtype):
        task = load(name)
        splits = {
            name: tuple(part.astype(dtype) if part.dtype.kind == "f" else part for part in pair)
            for name, pair in task.splits.items()
        }
        kind = torch.float64 if dtype == np.float64 else torch.float32
        model = lambda: task.model().to(kind)  # noqa: E731
        return cls(splits, model, task.jax_model, task.loss, task.metric, task.batch_size)

    def order(self, seed, steps):
        count = len(self.splits["train"][0])
        return np.random.default_rng(seed).integers(0, count, size=(steps, self.batch_size))

    def stream(self, seed, steps):
        inputs, targets = self.splits["train"]
        for batch in self.order(seed, steps):
            yield inputs[batch], targets[batch]

    def initial(self, seed):
        """The arrays that the PyTorch engine begins with."""
        torch.manual_seed(seed)
        return {name: p.detach().numpy().copy() for name, p in self.model().named_parameters()}


def both(task, strategies, phase="tune", seed=3):
    members = [Member(s.over(STEPS), seed, STEPS, phase) for s in strategies]
    return Engine(task, task.initial).cohort(members), TorchEngine(task).cohort(members)


def apart(ours, theirs):
    """The largest relative difference of any loss, in training or held out."""
    pairs = [(ours.losses, theirs.losses), *((ours.held[split], theirs.held[split]) for split in theirs.held)]
    return max(np.abs(np.divide(a, b) - 1).max() for a, b in pairs)


SGD = Strategy("sgd", "sgd", one_cycle(0.1), momentum=one_cycle_momentum(), weight_decay=1e-3)
ADAM = Strategy("adam", "adam", Cosine(0.01, 0.0))
ALIKE = [
    SGD,
    Strategy("adamw", "adamw", Cosine(0.01, 0.0), weight_decay=0.1),
    Strategy("adagrad", "adagrad", Cosine(0.1, 0.0), settings=(("eps", 0.0), ("initial_accumulator_value", 0.1))),
]
MORE = [
    Strategy("adam", "adam", one_cycle(0.01), momentum=one_cycle_momentum(), weight_decay=0.01),
    Strategy("rmsprop", "rmsprop", Cosine(0.005, 0.0)),
    Strategy("plain", "sgd", Cosine(0.1, 0.0)),
    Strategy("nesterov", "sgd", Cosine(0.1, 0.0), momentum=0.9, settings=(("nesterov", True),)),
    Strategy("betas", "adam", Cosine(0.01, 0.0), settings=(("betas", (0.8, 0.99)),)),
    Strategy("momentum", "rmsprop", Cosine(1e-4, 0.0), momentum=0.9),
    Strategy("centered", "rmsprop", Cosine(0.005, 0.0), settings=(("centered", True),)),
    Strategy("adamax", "adamax", Cosine(0.01, 0.0)),
    Strategy("radam", "radam", Cosine(0.01, 0.0), settings=(("eps", 0.0),)),
    Strategy("adadelta", "adadelta", Cosine(1.0, 0.0)),
]


def twins_in_float64(strategies, **changes):
    with jax.enable_x64(True):
        return both(replace(Twin.of("wine", np.float64), **changes), strategies, phase="test")


def same(ours, theirs):
    assert apart(ours, theirs) < 1e-10
    assert len(ours.held["test"]) == len(marks(STEPS))
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-10)
    assert ours.metric == pytest.approx(theirs.metric, rel=1e-12)
    assert (ours.trained, ours.updates) == ("jax", STEPS)


@pytest.fixture(scope="module", autouse=True)
def _double():
    """Twins draw their values in the precision that the test has."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def test_twins_agree_to_1e_10_in_float64_from_the_same_arrays_and_batches():
    for ours, theirs in zip(*twins_in_float64(ALIKE), strict=True):
        same(ours, theirs)


@pytest.mark.slow
def test_twins_agree_in_float64_for_every_optimizer_and_setting():
    assert {s.optimizer for s in (*ALIKE, *MORE)} == set(named.OPTIMIZERS)
    for ours, theirs in zip(*twins_in_float64(MORE), strict=True):
        same(ours, theirs)


def test_clipping_differs_by_one_part_in_a_million():
    """torch divides by the norm plus 1e-6, optax by the norm."""
    (ours,), (theirs,) = twins_in_float64([SGD], clip_norm=0.5)
    assert 0 < apart(ours, theirs) < 1e-5
    (free,) = TorchEngine(Twin.of("wine", np.float64)).cohort([Member(SGD.over(STEPS), 3, STEPS, "test")])
    assert apart(theirs, free) > 1e-2


@pytest.mark.slow
def test_adagrad_differs_by_where_eps_stands():
    """sqrt(v + eps**2) is not sqrt(v) + eps."""
    for eps, least, most in ((1e-4, 1e-6, 0.1), (1e-10, 0, 1e-5)):
        adagrad = Strategy("adagrad", "adagrad", Cosine(0.1, 0.0), settings=(("eps", eps),))
        (ours,), (theirs,) = twins_in_float64([adagrad])
        assert least <= apart(ours, theirs) < most


@pytest.fixture(scope="module")
def task():
    return Twin.of("wine", np.float32)


@pytest.fixture(scope="module")
def engine(task):
    return Engine(task)


@pytest.mark.parametrize(
    "name",
    [
        "diabetes",
        *(
            pytest.param(n, marks=pytest.mark.slow)
            for n in ("digits-cnn", "stdlib-chars", "stdlib-transformer", "iris")
        ),
    ],
)
def test_twins_agree_in_float32(name):
    torch.set_default_dtype(torch.float32)
    try:
        twin = Twin.of(name, np.float32)
        twin.splits = {name: (inputs[:400], targets[:400]) for name, (inputs, targets) in twin.splits.items()}
        (ours,), (theirs,) = both(twin, [SGD])
    finally:
        torch.set_default_dtype(torch.float64)
    assert ours.losses[:20] == pytest.approx(theirs.losses[:20], rel=1e-5)
    assert ours.held["valid"] == pytest.approx(theirs.held["valid"], rel=1e-4)


def test_a_run_is_the_same_whoever_stands_beside_it(engine):
    rates = [Strategy(str(i), "sgd", one_cycle(0.01 * 2**i), momentum=one_cycle_momentum()) for i in range(9)]
    assert len(rates) > LANES
    members = [Member(s.over(STEPS), i % 3, STEPS, "tune") for i, s in enumerate(rates)]
    members.insert(4, Member(ADAM.over(STEPS), 1, STEPS, "tune"))
    together = engine.cohort(members)
    for i in (0, 4, 9):
        assert engine.cohort([members[i]]) == [together[i]]
    assert engine.cohort(members[::-1]) == together[::-1]
    assert len({outcome.loss for outcome in together}) == len(members)


def test_runs_tell_what_those_of_their_kind_took_and_all_of_it_is_told(engine):
    lr = Constant(0.01)
    runs = [Member(Strategy(kind, kind, lr), i, 20, "tune") for kind in ("sgd", "adam") for i in range(LANES + 1)]
    started = time.perf_counter()
    seconds = [outcome.seconds for outcome in engine.cohort(runs)]
    total = time.perf_counter() - started
    assert 0.5 * total < sum(seconds) <= total
    assert len(set(seconds[:LANES])) == 1 < len(set(seconds))


def test_a_longer_run_compiles_nothing_anew(engine):
    engine.cohort([Member(ADAM.over(STEPS), 0, STEPS, "tune")])
    before = [program.train._cache_size() for program in engine._programs.values()]
    slower = replace(ADAM, lr=Cosine(0.004, 0.001))
    (outcome,) = engine.cohort([Member(slower.over(75), 7, 75, "tune")])
    assert len(outcome.losses) == 75
    assert [program.train._cache_size() for program in engine._programs.values()] == before


def test_a_run_that_diverges_ends_where_torch_ends_it_and_touches_no_other(task, engine):
    mild, wild = (
        Strategy(n, "sgd", Constant(r), momentum=0.9).over(STEPS) for n, r in (("mild", 0.01), ("wild", 1e30))
    )
    alone = engine.cohort([Member(mild, 0, STEPS, "tune")])
    found = engine.cohort([Member(s, 0, STEPS, "tune") for s in (wild, mild)])
    assert found[1:] == alone
    (theirs,) = TorchEngine(task).cohort([Member(wild, 0, STEPS, "tune")])
    assert (found[0].loss, found[0].metric) == (theirs.loss, theirs.metric) == (None, None)
    assert not math.isfinite(found[0].losses[-1])
    assert np.isfinite(found[0].losses[:-1]).all()
    assert found[0].updates == len(found[0].losses)
    assert len(found[0].held["valid"]) == sum(mark < len(found[0].losses) for mark in marks(STEPS))


def test_batches_of_a_loader_train_as_batches_of_arrays(task, engine):
    members = [Member(SGD.over(STEPS), seed, STEPS, "test") for seed in (0, 1)]
    streamed = Engine(replace(task, streamed=True)).cohort(members)
    for ours, theirs in zip(streamed, engine.cohort(members), strict=True):
        assert apart(ours, theirs) < 1e-5


def test_batches_of_changing_size_are_refused(task):
    class Ragged(Twin):
        def stream(self, seed, steps):
            inputs, targets = self.splits["train"]
            return ((inputs[: 16 - t % 2], targets[: 16 - t % 2]) for t in range(steps))

    ragged = Ragged(task.splits, task.model, task.jax_model, streamed=True)
    with pytest.raises(TaskError, match=r"batches of one shape, the loader gave others\. Give it drop_last=True"):
        Engine(ragged).cohort([Member(SGD.over(STEPS), 0, STEPS, "tune")])


def test_a_rule_sees_the_validation_loss_at_each_mark(engine):
    free = Strategy("free", "sgd", Constant(4.0), momentum=0.0)
    cut = replace(free, lr=Constant(4.0) * Plateau(1e-6, patience=1, min_scale=0.0))
    ours, theirs = (
        o.held["valid"] for o in engine.cohort([Member(s.over(STEPS), 0, STEPS, "tune") for s in (cut, free)])
    )
    worse = next(i for i in range(1, 9) if theirs[i] >= min(theirs[:i]))
    assert ours[: worse + 1] == theirs[: worse + 1]
    assert ours[worse + 1 :] == pytest.approx([ours[worse]] * (9 - worse), rel=1e-3)
    assert theirs[worse + 1] != pytest.approx(theirs[worse], rel=1e-3)


def test_held_out_examples_are_measured_in_parts(task, engine, monkeypatch):
    inputs, targets = task.splits["test"]
    params = jax.tree.map(lambda leaf: leaf[None], engine._initial(5))
    whole = np.asarray(engine._measured(params, inputs, targets))
    monkeypatch.setattr("ratewise.optax.engine.PART", 13)  # 48 examples: four of 12; of 47 three are left over
    assert Engine(task)._measured(params, inputs, targets) == pytest.approx(whole, rel=1e-6)
    (loss, metric), (output,) = whole[0], jax.vmap(engine._model.apply, (0, None))(params, inputs)
    assert float(loss) == pytest.approx(float(-jax.nn.log_softmax(output)[np.arange(48), targets].mean()), rel=1e-6)
    assert float(metric) == pytest.approx((np.argmax(np.asarray(output), -1) == targets).mean(), rel=1e-6)
    less = np.asarray(engine._measured(params, inputs[1:], targets[1:]))
    assert Engine(task)._measured(params, inputs[1:], targets[1:]) == pytest.approx(less, rel=1e-6)


def test_memory_bounds_how_many_runs_stand_side_by_side(task, monkeypatch):
    assert Engine(task).room() > 1000
    small = Engine(replace(task, streamed=True)).room()
    assert small > 1000
    large = Engine(replace(task, streamed=True, jax_model=lambda: mlp(13, 4096, 3)))
    assert 1 <= large.room() < small / 10
    monkeypatch.setattr("ratewise.optax.engine.MEMORY", 2**20)
    tight = Engine(replace(task, jax_model=lambda: mlp(13, 4096, 3)))
    assert tight._lanes(5) == 1


class Batched(flax.Module):
    """A user's module that keeps statistics."""

    @flax.compact
    def __call__(self, x):
        return flax.Dense(3)(flax.BatchNorm(use_running_average=False)(x))


class Dense(flax.Module):
    """A user's module."""

    outputs: int = 3

    @flax.compact
    def __call__(self, x):
        return flax.Dense(self.outputs)(x)


def test_a_module_of_flax_trains(task):
    engine = Engine(replace(task, jax_model=Dense))
    assert engine.examine() == Engine(replace(task, jax_model=Dense)).examine()
    assert engine.examine() != engine_of_model(task, lambda: Dense(4)).examine()
    (outcome,) = engine.cohort([Member(SGD.over(STEPS), 0, STEPS, "tune")])
    assert outcome.losses[-1] < 0.5 * outcome.losses[0]


def engine_of_model(task, model):
    return Engine(replace(task, jax_model=model))


def drawn(key, inputs):
    return {"w": jax.random.normal(key, (13, 3))}


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (lambda: None, r"must return an object with init\(key, inputs\) -> parameters and apply.*it returned None"),
        (Batched, r"keeps state besides its parameters \(batch_stats\).*LayerNorm or GroupNorm"),
        (lambda: Model(lambda key, x: {}, lambda p, x: x), "has no parameters to train"),
        (lambda: Model(lambda key, x: {"w": jnp.ones(3, int)}, lambda p, x: x), "must be a floating-point array"),
        (
            lambda: Model(lambda key, x: 1 / 0, lambda p, x: x),
            r"init of Model cannot make parameters.*ZeroDivisionError",
        ),
        (lambda: Model(drawn, lambda p, x: x.T @ p["w"]), r"apply cannot take the parameters and a batch of inputs"),
        (lambda: Dense(2), "targets from 0 to 1 for the model's 2 outputs, they go from 0 to 2"),
        (lambda: Model(drawn, lambda p, x: (x @ p["w"])[:5]), "the loss cannot compare"),
    ],
)
def test_a_model_that_cannot_be_trained_is_refused_with_what_is_required(task, model, told):
    with pytest.raises(TaskError, match=told):
        engine_of_model(task, model).examine()


def test_a_loss_of_ones_own_must_be_one_number(task):
    def each(output, target):
        return (output.argmax(-1) - target) ** 2.0

    with pytest.raises(TaskError, match=r"has no gradient|must be one number"):
        Engine(replace(task, loss=each)).examine()


def test_the_lab_knows_the_engine():
    assert len(engine_of(load("wine"), "jax").examine()) == 64


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (Strategy("x", "adan", Constant(0.1)), r"unknown optimizer 'adan'\. Did you mean 'adam'"),
        (Strategy("x", "adagrad", Constant(0.1), momentum=0.9), "adagrad has no setting 'momentum'"),
        (Strategy("x", "adam", Constant(0.1), settings=(("amsgrad", True),)), "adam has no setting 'amsgrad'"),
    ],
)
def test_what_optax_cannot_express_is_refused(engine, given, told):
    with pytest.raises(AdapterError, match=told):
        engine.cohort([Member(given, 0, STEPS, "tune")])
    with pytest.raises(AdapterError, match=told):
        given.optax(STEPS)


def test_the_code_of_a_strategy_makes_its_optimizer():
    space: dict[str, Any] = {"params": jnp.ones(2)}
    exec(SGD.over(STEPS).code("optax", STEPS), space)
    assert repr(space["optimizer"]) == repr(SGD.optax(STEPS))
    assert repr(space["optimizer"]).startswith("inject(sgd, learning_rate=")
    cut = Strategy("cut", "adamw", Constant(0.1) * Plateau(0.5, patience=2))
    assert "optimizer.observe(state, validation_loss)" in cut.code("optax", STEPS)


def test_build_follows_schedules_for_hyperparameters_by_torchs_names():
    optimizer = build("adam", Cosine(0.1, 0.0), horizon=10, betas=(0.8, 0.99), eps=1e-6)
    state = optimizer.init(params := jnp.ones(2))
    updates, _ = optimizer.update(params, state, params)
    assert updates == pytest.approx(-0.1 / (1 + 1e-6), rel=1e-5)
