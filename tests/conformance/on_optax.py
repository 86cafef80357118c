"""Runs of the optax adapter: plain gradient descent over one weight of 0 with a gradient of 1."""

from functools import cache

import jax
import jax.numpy as jnp
import optax

import ratewise.optax as ro
from ratewise import Ruled, extend

POLICIES = ("keep", "switch", "stretch", "replan", "rewarm(3)")

IN_NO_STATE = dict.fromkeys(
    (
        "a state of another schedule is refused, and nothing is changed",
        "a state of another schedule that is refused leaves the rules as they are",
        "changed and then killed it goes on with the same rates",
        "changed and then loaded into another schedule it goes on from the change",
        "loaded into another schedule the rules are as they were",
        *(f"loaded into another schedule with {policy!r} it goes on as extend says" for policy in POLICIES),
    ),
    "the state holds a count, and what the rates follow is in the program",
) | {"what it reports as coming is applied next": "the state shows the rate that was used"}

NO_RULES = dict.fromkeys(
    (
        "a rule acts right after the evaluation that decides it",
        "a rule that is killed while it waits decides the same",
        "a metric is no update",
        "several rules all act",
        "a change of plan leaves the rules as they are",
    ),
    "a function of the step cannot hold what a rule has seen; inject can",
)
NO_RATES = {"what it reports as used was applied": "a function of the step shows no rates; inject does"}
NO_SKIPS = dict.fromkeys(
    ("an update that is skipped does not count", "a run that begins with skipped updates begins at update 0"),
    "nothing is skipped without apply_if_finite",
)

ONE = jnp.ones(())


def schedule(lr, horizon):
    return optax.sgd(ro.schedule(lr, horizon))


def inject(lr, horizon):
    return ro.inject(optax.sgd, learning_rate=lr, horizon=horizon)


@cache
def made(factory, lr, accumulation, horizon, skips):
    """The transformation, what it wraps, and its compiled update."""
    inner = whole = factory(lr, horizon)
    if skips:
        whole = optax.apply_if_finite(inner, max_consecutive_errors=9)
    if accumulation > 1:
        whole = optax.MultiSteps(inner, accumulation)
    return whole, inner, jax.jit(whole.update)


class Run:
    def __init__(self, factory, lr, accumulation, horizon, skips=False):
        self.lr, self.options = lr, (accumulation, horizon, skips)
        self.factory = factory
        self.whole, self.inner, self.compiled = made(factory, lr, *self.options)
        self.state = self.whole.init(ONE)

    def batch(self):
        return self.gradient(ONE)

    def gradient(self, value):
        change, self.state = self.compiled(value, self.state, ONE)
        return -float(change)

    def update(self):
        return [self.gradient(ONE) for _ in range(self.options[0])][-1]

    def save(self):
        return self.state

    def load(self, state):
        self.state = state

    def seek(self, t):
        self.state = optax.tree_utils.tree_set(self.state, count=jnp.asarray(t, jnp.int32))

    def change(self, new, policy):
        """The state goes on under another transformation, as one writes it in JAX."""
        t, old = int(optax.tree_utils.tree_get(self.state, "count")), self.lr
        if isinstance(old, Ruled):
            self.lr = Ruled(extend(old.schedule, new.schedule, t, policy), old.rules)
        else:
            self.lr = extend(old, new, t, policy)
        self.whole, self.inner, self.compiled = made(self.factory, self.lr, *self.options)


class Injected(Run):
    def used(self):
        return float(ro.rate(self.state))

    def observe(self, metric):
        self.state = self.inner.observe(self.state, metric)


class Skipping(Injected):
    def attempt(self, fails):
        return self.gradient(ONE * jnp.inf if fails else ONE)


class Optax:
    """The adapter in one of its forms; rates are JAX's float32."""

    relative = 1e-6
    absolute = 3e-8

    def __init__(self, run, factory, lacks, **settings):
        self.run, self.factory, self.settings, self.lacks = run, factory, settings, {**IN_NO_STATE, **lacks}

    def start(self, lr, accumulation=1, horizon=None):
        return self.run(self.factory, lr, accumulation, horizon, **self.settings)


SKIPS = tuple(NO_SKIPS)
INJECTED = (
    *(*NO_RULES, *NO_RATES),
    "every schedule is applied exactly",
    "past the end the end value is held",
    "a restart comes at its own update",
    "two runs do not disturb each other",
    "an open schedule takes the length of the run",
    "accumulation counts updates and not micro batches",
    "the rate far on is that of its update",
    "killed at any update it goes on with the same rates",
    "changed with 'replan' it goes on as extend says",
    "what it saves can be written to a file",
)
HARNESSES = {"schedule": Optax(Run, schedule, {**NO_RULES, **NO_RATES, **NO_SKIPS})}
VARIANTS = {
    "inject": (Optax(Injected, inject, NO_SKIPS), INJECTED),
    "inject inside apply_if_finite": (Optax(Skipping, inject, {}, skips=True), SKIPS),
}
