"""A training that keeps Orbax checkpoints; run as a program by ``test_resume.py``.

    python train.py FOLDER STEPS [KILLED_AT [EVERY]]

It goes on from the last checkpoint in FOLDER and saves every so many updates. For each update it prints the rate, the
change of a weight with gradient 1, and the weight decay, as hexadecimal floats. With KILLED_AT it kills itself with
SIGKILL right after that update, before anything about it could be saved.
"""

import os
import signal
import sys

import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp

import ratewise as rw
import ratewise.optax as ro

LR = rw.warmup_cosine(0.1, 10, steps=120) * rw.Plateau(0.5, patience=2)
OPTIMIZER = ro.inject(optax.adamw, learning_rate=LR, weight_decay=rw.Linear(0.1, 0.0, 120), b1=0.8)


@jax.jit
def update(state, weight):
    change, state = OPTIMIZER.update(jnp.ones(()), state, weight)
    return state, optax.apply_updates(weight, change)


def metric(t):
    return 1.0 + (t % 7) / 10


def main(folder, steps, killed_at=-1, every=1):
    weight = jnp.ones(())
    state = OPTIMIZER.init(weight)
    with ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(max_to_keep=2)) as manager:
        if (last := manager.latest_step()) is not None:
            state, weight = manager.restore(last, args=ocp.args.StandardRestore((state, weight)))
        for t in range(int(ro.position(state)), steps):
            before = weight
            state, weight = update(state, weight)
            print(
                t, *(float(x).hex() for x in (ro.rate(state), weight - before, state.rates["weight_decay"])), flush=True
            )
            if t == killed_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if t % 5 == 4:
                state = OPTIMIZER.observe(state, metric(t))
            if t % every == 0:
                manager.save(t, args=ocp.args.StandardSave((state, weight)))
                manager.wait_until_finished()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *map(int, sys.argv[3:]))
