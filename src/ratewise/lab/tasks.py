"""The built-in tasks: small, and each with a known character. All data comes with installed packages or is drawn.

What the characters rest on is in ``docs/tasks.md``.
"""

import sysconfig
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ratewise.errors import MissingDependency
from ratewise.lab.task import Pair, Task


def _datasets() -> Any:
    try:
        return import_module("sklearn.datasets")
    except ImportError as error:
        raise MissingDependency("scikit-learn", "lab", "built-in tasks") from error


def _build(framework: str, kind: str, *sizes: int) -> Any:
    """Make a model of ``ratewise.<framework>.models``; by name, so that a task can be sent to another process."""
    return getattr(import_module(f"ratewise.{framework}.models"), kind)(*sizes)


def _split(inputs: NDArray[Any], targets: NDArray[Any], train: int, valid: int) -> dict[str, Pair]:
    """Shuffle once with a fixed seed and cut."""
    order = np.random.default_rng(0).permutation(len(inputs))
    parts = np.split(order, [train, train + valid])
    return {
        name: (inputs[part].astype(np.float32), targets[part])
        for name, part in zip(("train", "valid", "test"), parts, strict=True)
    }


def _digits(noise: float) -> dict[str, Pair]:
    """Scikit-learn's 1,797 handwritten digits, 8 x 8 pixels; a part of the training labels is drawn at random."""
    inputs, targets = _datasets().load_digits(return_X_y=True)
    splits = _split(inputs / 16, targets, train=800, valid=397)
    rng = np.random.default_rng(1)
    pixels, labels = splits["train"]
    wrong = rng.permutation(len(labels))[: round(noise * len(labels))]
    labels = labels.copy()
    labels[wrong] = (labels[wrong] + rng.integers(1, 10, len(wrong))) % 10  # every chosen label is really wrong
    return {**splits, "train": (pixels, labels)}


def digits() -> Task:
    """Handwritten digits with 20% of the training labels wrong: strategies differ here."""
    return Task(
        "digits",
        data=partial(_digits, 0.2),
        model=partial(_build, "torch", "mlp", 64, 64, 10),
        keras_model=partial(_build, "keras", "mlp", 64, 64, 10),
        jax_model=partial(_build, "optax", "mlp", 64, 64, 10),
        steps=300,
        character="noise",
        description="scikit-learn's handwritten digits, 20% of the training labels wrong, validation and test clean: "
        "a rate that does not fall keeps learning the noise",
    )


def digits_clean() -> Task:
    """Handwritten digits with clean labels: easy, so differences are small and many strategies cannot be told apart."""
    return Task(
        "digits-clean",
        data=partial(_digits, 0.0),
        model=partial(_build, "torch", "mlp", 64, 64, 10),
        keras_model=partial(_build, "keras", "mlp", 64, 64, 10),
        jax_model=partial(_build, "optax", "mlp", 64, 64, 10),
        steps=600,
        character="easy",
        description="scikit-learn's handwritten digits, clean labels: easy, about half cannot be told apart",
    )


def digits_cnn() -> Task:
    """Handwritten digits, clean labels, a small convolutional network: a rate four times too high learns nothing."""
    return Task(
        "digits-cnn",
        data=partial(_digits, 0.0),
        model=partial(_build, "torch", "cnn", 8, 8, 10),
        keras_model=partial(_build, "keras", "cnn", 8, 8, 10),
        jax_model=partial(_build, "optax", "cnn", 8, 8, 10),
        steps=300,
        character="high rates fail",
        description="scikit-learn's handwritten digits, clean labels, two convolutions: nothing is learned at four "
        "times the best rate",
    )


def digits_sharp() -> Task:
    """Handwritten digits, clean labels, a network started three times too wide: SGD needs a warm-up here."""
    return Task(
        "digits-sharp",
        data=partial(_digits, 0.0),
        model=partial(_build, "torch", "sharp", 64, 64, 10),
        keras_model=partial(_build, "keras", "sharp", 64, 64, 10),
        jax_model=partial(_build, "optax", "sharp", 64, 64, 10),
        steps=300,
        character="needs warm-up",
        description="scikit-learn's handwritten digits, clean labels, three hidden layers whose initial weights are "
        "three times those of He et al.",
    )


def _table(name: str, train: int, valid: int) -> dict[str, Pair]:
    """A table of scikit-learn, every column scaled to mean 0 and deviation 1, as is a target that is no class."""
    inputs, targets = getattr(_datasets(), f"load_{name}")(return_X_y=True)
    splits = _split(inputs, targets if targets.dtype.kind == "i" else targets[:, None], train, valid)
    known_x, known_y = splits["train"]  # the scale is learned from the training part alone
    scaled = known_y.dtype.kind == "f"
    return {
        name: (
            (x - known_x.mean(0)) / known_x.std(0),
            ((y - known_y.mean(0)) / known_y.std(0)).astype(np.float32) if scaled else y,
        )
        for name, (x, y) in splits.items()
    }


def iris() -> Task:
    """Four measurements of 150 irises, three kinds, softmax regression: convex, so only the rates decide."""
    return Task(
        "iris",
        data=partial(_table, "iris", train=90, valid=30),
        model=partial(_build, "torch", "affine", 4, 3),
        keras_model=partial(_build, "keras", "affine", 4, 3),
        jax_model=partial(_build, "optax", "affine", 4, 3),
        steps=280,
        character="convex, easy",
        description="scikit-learn's irises, 4 measurements, 3 kinds, softmax regression (convex)",
    )


def digits_softmax() -> Task:
    """Handwritten digits, clean labels, softmax regression: convex."""
    return Task(
        "digits-softmax",
        data=partial(_digits, 0.0),
        model=partial(_build, "torch", "affine", 64, 10),
        keras_model=partial(_build, "keras", "affine", 64, 10),
        jax_model=partial(_build, "optax", "affine", 64, 10),
        steps=300,
        character="convex",
        description="scikit-learn's handwritten digits, clean labels, softmax regression (convex)",
    )


def breast_cancer() -> Task:
    """Thirty measurements of 569 tumours, two kinds: nearly separable, and high rates become too sure of themselves."""
    return Task(
        "breast-cancer",
        data=partial(_table, "breast_cancer", train=300, valid=120),
        model=partial(_build, "torch", "mlp", 30, 16, 2),
        keras_model=partial(_build, "keras", "mlp", 30, 16, 2),
        jax_model=partial(_build, "optax", "mlp", 30, 16, 2),
        steps=200,
        character="overfits",
        description="scikit-learn's tumours, 30 measurements, 2 kinds: accuracies tie, the loss shows which rate is "
        "too sure of its mistakes",
    )


def diabetes() -> Task:
    """Regression on ten measurements of 442 patients: mostly noise, and a high rate diverges."""
    return Task(
        "diabetes",
        data=partial(_table, "diabetes", train=240, valid=90),
        model=partial(_build, "torch", "mlp", 10, 16, 1),
        keras_model=partial(_build, "keras", "mlp", 10, 16, 1),
        jax_model=partial(_build, "optax", "mlp", 10, 16, 1),
        loss="mse",
        steps=200,
        character="noise, easy",
        description="scikit-learn's diabetes patients, 10 measurements, squared error: mostly noise, so rates differ "
        "little until one diverges",
    )


def wine() -> Task:
    """Thirteen measurements of 178 wines from three growers: tiny and nearly separable."""
    return Task(
        "wine",
        data=partial(_table, "wine", train=90, valid=40),
        model=partial(_build, "torch", "mlp", 13, 16, 3),
        keras_model=partial(_build, "keras", "mlp", 13, 16, 3),
        jax_model=partial(_build, "optax", "mlp", 13, 16, 3),
        steps=150,
        character="easy",
        description="scikit-learn's wines, 13 measurements, 3 growers: tiny and nearly separable",
    )


def _regression(columns: int, train: int, held_out: int) -> dict[str, Pair]:
    """Columns of variance i**-1.5 and a target linear in them; in the training part alone with noise of deviation 1."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=columns)
    splits = {}
    for name, count in (("train", train), ("valid", held_out), ("test", held_out)):
        inputs = rng.normal(size=(count, columns)) * np.arange(1, columns + 1) ** -0.75
        noise = rng.normal(size=count) if name == "train" else 0.0
        splits[name] = inputs.astype(np.float32), (inputs @ truth + noise)[:, None].astype(np.float32)
    return splits


def noisy_regression() -> Task:
    """Linear regression with curvatures from 1 to 1/1000 and noisy targets, each example seen once."""
    return Task(
        "noisy-regression",
        data=partial(_regression, 100, train=8000, held_out=2000),
        model=partial(_build, "torch", "affine", 100, 1),
        keras_model=partial(_build, "keras", "affine", 100, 1),
        jax_model=partial(_build, "optax", "affine", 100, 1),
        loss="mse",
        steps=2000,
        batch_size=4,
        character="noise, ill-conditioned",
        description="linear regression on 100 columns of variance i**-1.5, targets with noise of deviation 1, held-out "
        "targets without: the loss is the excess risk",
    )


CONTEXT = 12
"""Characters that the language models see before the last that they predict."""

_ALPHABET = "\n" + "".join(map(chr, range(32, 127)))


def _characters(files: list[Path]) -> NDArray[np.int64]:
    text = "\n".join(path.read_text(encoding="utf-8", errors="ignore") for path in files)
    codes = np.frombuffer(text.encode("ascii", "ignore"), dtype=np.uint8)
    table = np.full(256, -1, dtype=np.int64)
    table[[ord(c) for c in _ALPHABET]] = np.arange(len(_ALPHABET))
    return table[codes][table[codes] >= 0]


def _stdlib(context: int, every: bool) -> dict[str, Pair]:
    """Windows of the standard library's own source text; validation and test come from other files than training.

    Targets are the next characters: behind ``every`` position, or behind the last alone.
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(folder.glob("[a-z]*.py"))
    parts = {"train": (files[0::2], 20_000), "valid": (files[1::4], 2_000), "test": (files[3::4], 2_000)}
    splits = {}
    for name, (group, count) in parts.items():
        characters = _characters(group)
        starts = np.random.default_rng(0).integers(0, len(characters) - context, count)
        windows = characters[starts[:, None] + np.arange(context + 1)]
        splits[name] = (windows[:, :-1], windows[:, 1:] if every else windows[:, -1])
    return splits


def stdlib_chars() -> Task:
    """A character-level language model over the Python standard library's own source."""
    return Task(
        "stdlib-chars",
        data=partial(_stdlib, CONTEXT, every=False),
        model=partial(_build, "torch", "char_mlp", len(_ALPHABET), CONTEXT, 12, 96),
        keras_model=partial(_build, "keras", "char_mlp", len(_ALPHABET), CONTEXT, 12, 96),
        jax_model=partial(_build, "optax", "char_mlp", len(_ALPHABET), CONTEXT, 12, 96),
        steps=400,
        batch_size=64,
        character="short",
        description="the next character in the Python standard library's own source, from the 12 before it: "
        "far from convergence at the end, so too small a rate costs most",
    )


def stdlib_transformer() -> Task:
    """A transformer of one block, predicting every next character of the Python standard library's own source."""
    return Task(
        "stdlib-transformer",
        data=partial(_stdlib, CONTEXT, every=True),
        model=partial(_build, "torch", "decoder", len(_ALPHABET), CONTEXT, 32, 2),
        keras_model=partial(_build, "keras", "decoder", len(_ALPHABET), CONTEXT, 32, 2),
        jax_model=partial(_build, "optax", "decoder", len(_ALPHABET), CONTEXT, 32, 2),
        steps=300,
        character="short",
        description="the next character at each of 12 places in the standard library's own source, by attention: "
        "far from convergence at the end, the best rate of SGD lies near divergence",
    )


TASKS: dict[str, Callable[[], Task]] = {
    "digits": digits,
    "digits-clean": digits_clean,
    "digits-cnn": digits_cnn,
    "digits-softmax": digits_softmax,
    "digits-sharp": digits_sharp,
    "iris": iris,
    "wine": wine,
    "breast-cancer": breast_cancer,
    "diabetes": diabetes,
    "noisy-regression": noisy_regression,
    "stdlib-chars": stdlib_chars,
    "stdlib-transformer": stdlib_transformer,
}
"""Every built-in task by name."""
