"""The built-in tasks: small, real, and each with a known character. All data comes with installed packages."""

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
        steps=300,
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
        steps=600,
        description="scikit-learn's handwritten digits, clean labels: easy, about half cannot be told apart",
    )


def _wine() -> dict[str, Pair]:
    inputs, targets = _datasets().load_wine(return_X_y=True)
    splits = _split(inputs, targets, train=90, valid=40)
    known = splits["train"][0]  # the scale is learned from the training part alone
    return {name: ((x - known.mean(0)) / known.std(0), y) for name, (x, y) in splits.items()}


def wine() -> Task:
    """Thirteen measurements of 178 wines from three growers: tiny and nearly separable."""
    return Task(
        "wine",
        data=_wine,
        model=partial(_build, "torch", "mlp", 13, 16, 3),
        keras_model=partial(_build, "keras", "mlp", 13, 16, 3),
        steps=150,
        description="scikit-learn's wines, 13 measurements, 3 growers: tiny and nearly separable",
    )


CONTEXT = 12
"""Characters that the language model sees before the one it predicts."""

_ALPHABET = "\n" + "".join(map(chr, range(32, 127)))


def _characters(files: list[Path]) -> NDArray[np.int64]:
    text = "\n".join(path.read_text(encoding="utf-8", errors="ignore") for path in files)
    codes = np.frombuffer(text.encode("ascii", "ignore"), dtype=np.uint8)
    table = np.full(256, -1, dtype=np.int64)
    table[[ord(c) for c in _ALPHABET]] = np.arange(len(_ALPHABET))
    return table[codes][table[codes] >= 0]


def _stdlib_chars() -> dict[str, Pair]:
    """Windows of the standard library's own source text; validation and test come from other files than training."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(folder.glob("[a-z]*.py"))
    parts = {"train": (files[0::2], 20_000), "valid": (files[1::4], 2_000), "test": (files[3::4], 2_000)}
    splits = {}
    for name, (group, count) in parts.items():
        characters = _characters(group)
        starts = np.random.default_rng(0).integers(0, len(characters) - CONTEXT, count)
        windows = characters[starts[:, None] + np.arange(CONTEXT + 1)]
        splits[name] = (windows[:, :-1], windows[:, -1])
    return splits


def stdlib_chars() -> Task:
    """A character-level language model over the Python standard library's own source."""
    return Task(
        "stdlib-chars",
        data=_stdlib_chars,
        model=partial(_build, "torch", "char_mlp", len(_ALPHABET), CONTEXT, 12, 96),
        keras_model=partial(_build, "keras", "char_mlp", len(_ALPHABET), CONTEXT, 12, 96),
        steps=400,
        batch_size=64,
        description="the next character in the Python standard library's own source, from the 12 before it: "
        "far from convergence at the end, so too small a rate costs most",
    )


TASKS: dict[str, Callable[[], Task]] = {
    "digits": digits,
    "digits-clean": digits_clean,
    "wine": wine,
    "stdlib-chars": stdlib_chars,
}
"""Every built-in task by name."""
