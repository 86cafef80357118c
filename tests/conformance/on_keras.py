"""Runs of the Keras adapter on the running backend: SGD over one weight of 0 with a gradient of 1."""

from copy import deepcopy

import keras
import numpy as np

import ratewise.keras as rk
from ratewise import Ruled, extend

LOADED = "loading brings the schedule with the optimizer; Follow compares it with another, in fit"
NOT_SHOWN = "Keras shows the coming rate; Follow writes the one that was used, in fit"
NOT_SKIPPED = "a plain optimizer of Keras skips nothing"

POLICIES = ("keep", "switch", "stretch", "replan", "rewarm(3)")
BY_FOLLOW = (
    "a state of another schedule is refused, and nothing is changed",
    "a state of another schedule that is refused leaves the rules as they are",
    "changed and then loaded into another schedule it goes on from the change",
    "loaded into another schedule the rules are as they were",
    *(f"loaded into another schedule with {policy!r} it goes on as extend says" for policy in POLICIES),
)


class Run:
    def __init__(self, lr, accumulation=1, horizon=None):
        self.accumulation = accumulation
        state = lr.init() if isinstance(lr, Ruled) else None
        self.hold(self.made(rk.Schedule(lr, accumulation, horizon, state)))

    def made(self, schedule):
        steps = None if self.accumulation == 1 else self.accumulation
        return keras.optimizers.SGD(schedule, gradient_accumulation_steps=steps)

    def hold(self, optimizer):
        self.optimizer, self.inner = optimizer, getattr(optimizer, "inner_optimizer", optimizer)
        self.weight = keras.Variable(0.0)
        optimizer.build([self.weight])

    def apply(self, gradient):
        self.optimizer.apply([keras.ops.convert_to_tensor(gradient)], [self.weight])

    def update(self):
        return [self.batch() for _ in range(self.accumulation)][-1]

    def batch(self):
        return self.applied(1.0)

    def applied(self, gradient):
        self.weight.assign(0.0)
        self.apply(gradient)
        return -float(keras.ops.convert_to_numpy(self.weight))

    def coming(self):
        return float(keras.ops.convert_to_numpy(self.optimizer.learning_rate))

    def save(self):
        values = [keras.ops.convert_to_numpy(variable).copy() for variable in self.optimizer.variables]
        return keras.optimizers.serialize(self.optimizer), values

    def load(self, state):
        """As loading a model does: another optimizer, from its configuration and its variables."""
        config, values = state
        self.hold(keras.optimizers.deserialize(deepcopy(config)))  # which loss scaling takes apart
        for variable, value in zip(self.optimizer.variables, values, strict=True):
            variable.assign(value)

    def seek(self, t):
        self.inner.iterations.assign(t)

    # in a loop of one's own a change of plan and a metric make another schedule

    def schedule(self):
        return keras.optimizers.schedules.deserialize(self.inner.get_config()["learning_rate"])

    def change(self, new, policy):
        old, t = self.schedule(), int(self.inner.iterations)
        if isinstance(new, Ruled):
            plan = Ruled(extend(old.lr.schedule, new.schedule, t, policy), new.rules)
        else:
            plan = extend(old.lr, new, t, policy)
        self.inner.learning_rate = rk.Schedule(plan, self.accumulation, state=old.state)

    def observe(self, metric):
        lr, state = self.schedule().lr, self.schedule().state
        seen = lr.observe(state, metric, int(self.inner.iterations))
        self.inner.learning_rate = rk.Schedule(lr, self.accumulation, state=seen)


class Scaled(Run):
    """Under mixed precision's loss scaling, which skips updates whose gradients overflow."""

    def made(self, schedule):
        return keras.optimizers.LossScaleOptimizer(super().made(schedule), initial_scale=4.0)

    def batch(self):
        return self.attempt(False)

    def attempt(self, fails):
        return self.applied(float("inf") if fails else self.optimizer.scale_loss(1.0))


class Followed(Run):
    """A compiled model that is trained batch by batch, its callback told what ``fit`` would tell it."""

    def __init__(self, lr, accumulation=1, horizon=None):
        self.lr, self.horizon, self.accumulation = lr, horizon, accumulation
        self.begin(self.made(0.0), None)

    def hold(self, optimizer):
        self.model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        self.model.compile(optimizer, loss=lambda _, weight: keras.ops.mean(weight), jit_compile=False)
        self.optimizer = self.inner = self.model.optimizer
        self.weight = self.model.trainable_variables[0]
        optimizer.build([self.weight])

    def begin(self, optimizer, policy, values=()):
        self.hold(optimizer)
        for variable, value in zip(optimizer.variables, values, strict=bool(values)):
            variable.assign(value)
        self.epoch, self.evaluated = 0, set()
        self.follow = rk.Follow(self.lr, horizon=self.horizon, validation_freq=self.evaluated, on_change=policy)
        self.follow.set_model(self.model)
        self.follow.set_params({"epochs": 999, "steps": 1})
        self.follow.on_train_begin()
        self.follow.on_epoch_begin(0)

    def applied(self, gradient):
        self.weight.assign([[0.0]])
        self.follow.on_train_batch_begin(0)
        self.model.train_on_batch(np.full((1, 1), gradient), np.zeros((1, 1)))
        self.follow.on_train_batch_end(0)
        return -float(keras.ops.convert_to_numpy(self.weight)[0, 0])

    def next_epoch(self, between=lambda: None, **logs):
        self.follow.on_epoch_end(self.epoch, logs)
        between()
        self.epoch += 1
        self.follow.on_epoch_begin(self.epoch)
        return logs

    def load(self, state, policy=None):
        """As a script that is started again: a model is loaded, and Follow given the schedule of the script."""
        before = dict(vars(self))
        try:
            self.begin(keras.optimizers.deserialize(deepcopy(state[0])), policy, state[1])
        except Exception:
            vars(self).update(before)
            raise

    def change(self, new, policy):
        self.next_epoch(between=lambda: self.follow.change(new, policy))

    def observe(self, metric):
        self.evaluated.add(self.epoch + 1)
        self.next_epoch(val_loss=metric)


class Written(Followed):
    """With the rate that history shows; a fit that has made no update shows none."""

    def used(self):
        return self.next_epoch()["learning_rate"]


class Keras:
    """The adapter in Keras' own optimizers; rates are Keras' float32."""

    relative = 1e-6
    absolute = 3e-8

    def __init__(self, run, lacks):
        self.run, self.lacks = run, lacks

    def start(self, lr, accumulation=1, horizon=None):
        return self.run(lr, accumulation, horizon)


SKIPS = ("an update that is skipped does not count", "a run that begins with skipped updates begins at update 0")

ALSO = ("accumulation counts updates and not micro batches", "killed again and again it goes on with the same rates")

PLAIN = {"what it reports as used was applied": NOT_SHOWN, **dict.fromkeys(BY_FOLLOW, LOADED)}
FOLLOWED = (
    "an open schedule takes the length of the run",
    "accumulation counts updates and not micro batches",
    "a state of another schedule is refused, and nothing is changed",
    "changed with 'stretch' it goes on as extend says",
    "loaded into another schedule with 'rewarm(3)' it goes on as extend says",
    "changed and then loaded into another schedule it goes on from the change",
    "a rule acts right after the evaluation that decides it",
    "a change of plan leaves the rules as they are",
    "loaded into another schedule the rules are as they were",
)
WRITTEN = ("a restart comes at its own update", "what it reports as used was applied")

HARNESSES = {"an optimizer": Keras(Run, {**PLAIN, **dict.fromkeys(SKIPS, NOT_SKIPPED)})}
VARIANTS = {"Follow": (Keras(Followed, {}), FOLLOWED), "Follow's history": (Keras(Written, {}), WRITTEN)}
if keras.backend.backend() != "jax":  # eager updates of Keras' loss scaling leak a tracer there
    VARIANTS["an optimizer that scales the loss"] = Keras(Scaled, PLAIN), (*SKIPS, *ALSO)
