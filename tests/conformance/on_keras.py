"""Runs of the Keras adapter on the running backend: SGD over one weight of 0 with a gradient of 1."""

from copy import deepcopy

import keras

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


class Keras:
    """The adapter in Keras' own optimizers; rates are Keras' float32."""

    relative = 1e-6
    absolute = 3e-8

    def __init__(self, run, lacks):
        self.run = run
        self.lacks = {
            "what it reports as used was applied": NOT_SHOWN,
            **dict.fromkeys(BY_FOLLOW, LOADED),
            **dict.fromkeys(lacks, NOT_SKIPPED),
        }

    def start(self, lr, accumulation=1, horizon=None):
        return self.run(lr, accumulation, horizon)


SKIPS = ("an update that is skipped does not count", "a run that begins with skipped updates begins at update 0")

ALSO = ("accumulation counts updates and not micro batches", "killed again and again it goes on with the same rates")

HARNESSES = {"an optimizer": Keras(Run, SKIPS)}
VARIANTS = {}
if keras.backend.backend() != "jax":  # eager updates of Keras' loss scaling leak a tracer there
    VARIANTS["an optimizer that scales the loss"] = Keras(Scaled, ()), (*SKIPS, *ALSO)
