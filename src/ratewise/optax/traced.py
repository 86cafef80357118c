"""The learning rate as optax expects it: a pure function of the optimizer's counter.

optax evaluates it inside the compiled update, at a count that it keeps itself. So there is no second clock here; and
unlike optax' own schedules, which are closures, this one prints, compares, hashes and pickles.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from ratewise.core.horizon import Horizon
from ratewise.core.ruled import Ruled
from ratewise.core.schedule import Schedule
from ratewise.errors import AdapterError
from ratewise.optax.settled import settled


@dataclass(frozen=True, repr=False)
class Traceable:
    """A Ratewise schedule as a function of the count; made by ``schedule``.

    Args:
        lr: A schedule whose length is known.
    """

    lr: Schedule

    def __call__(self, step: Any) -> jax.Array:
        """Return the rate used by update ``step``, a float32 array (float64 where JAX has 64 bits)."""
        value = self.lr(step)
        return value if isinstance(value, jax.Array) else jnp.asarray(value, jnp.result_type(float))

    def __repr__(self) -> str:
        return f"schedule({self.lr!r})"


def schedule(lr: Schedule | float, horizon: Horizon | int | None = None) -> Traceable:
    """Return ``lr`` as a traceable function ``step -> rate`` that any optax optimizer takes.

    Update ``step`` uses ``lr(step)``; past its end the schedule holds its end value. The step may be an integer of
    any width, of JAX, numpy or Python, traced or not; it stays an integer until the schedule has clipped it, so the
    rate is exact where float32 stops counting. Without x64, a step of JAX beyond 2**31 - 1 counts as 2**31 - 1.

    Args:
        lr: The rate used by each optimizer update, a Ratewise schedule or a number. Finite and at least 0.
        horizon: The run, or its number of optimizer updates: settles open and typed lengths.

    Raises:
        ScheduleError: The length of ``lr`` is not known, it does not fit the horizon, or a rate is negative.
        AdapterError: ``lr`` has rules, whose state a function of the step cannot hold.

    Example:
        >>> import optax
        >>> from ratewise import Linear
        >>> lr = schedule(Linear(0.5, 0.0), horizon=4)
        >>> [float(lr(step)) for step in range(6)]
        [0.5, 0.375, 0.25, 0.125, 0.0, 0.0]
        >>> optimizer = optax.adam(lr)

    See Also:
        ``inject``, which also keeps the rate in the optimizer's state, and takes rules.
    """
    followed = settled("schedule", "lr", lr, horizon)
    if isinstance(followed, Ruled):
        raise AdapterError(
            f"schedule: a function of the step cannot hold what a rule has seen, got {followed!r:.80}. "
            "Write inject(optax.adamw, learning_rate=lr), whose state can."
        )
    return Traceable(followed)
