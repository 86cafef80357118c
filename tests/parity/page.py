"""``docs/parity.md``, made from the cases of this folder: what is compared, what is refused, and what was measured.

From this folder's parent: ``python -m parity.page`` (or ``make parity``). It runs every case again, and takes minutes.
"""

import re
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from parity.cases import DOUBLE, SINGLE, WORST, Case, check

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "parity.md"

PEERS = {
    "torch": ("torch.optim.lr_scheduler", "torch"),
    "keras": ("Keras", "keras"),
    "optax": ("optax", "optax"),
    "hf": ("Hugging Face transformers", "transformers"),
    "timm": ("timm", "timm"),
    "fvcore": ("fvcore and detectron2", "fvcore"),
    "ignite": ("PyTorch Ignite", "pytorch-ignite"),
    "composer": ("Composer and llm-foundry", "mosaicml"),
    "mmengine": ("mmengine", "mmengine"),
    "paddle": ("Paddle", None),
    "deepspeed": ("DeepSpeed", None),
    "megatron": ("Megatron-LM and gpt-neox", "megatron-core"),
    "nemo": ("NVIDIA NeMo", "nemo-toolkit"),
    "fastai": ("fastai", "fastai"),
    "pytorch_warmup": ("pytorch_warmup", "pytorch-warmup"),
    "torchtitan": ("torchtitan and torchtune", "torchtitan"),
    "kozistr": ("pytorch_optimizer", "pytorch-optimizer"),
    "chainer": ("Chainer", None),
}
"""The heading of every peer by its importer's name, and the distribution whose version was measured."""

OPENING = """\
# Parity

An importer (`ratewise.interop.from_torch`, `from_hf`, ...) turns another library's schedule into one of ours.
It gives what that library's own object returns for **every update t >= 0**: the whole curve, and on past its nominal
end, where some hold, some climb again and some fall below zero. Where the library raises, ours holds its last value.
Settings that no schedule is meant to have (negative or complex factors, powers and lengths, lengths between two updates
where the library documents whole ones) are refused with a sentence, also where the library would go on.

Each row below is a test. At random settings it compares both curves from update 0 to twice the nominal length and 20
updates more. *worst* is the largest difference that was seen, as a part of the peak; *allowed* is what the test
accepts: `1e-12` where the library computes in float64, `3e-7` where it computes in float32 (ours are float64), and
more only where the note says why.

* *in Ratewise* is the schedule in our algebra, with the library's own names for the numbers; what an importer returns
  prints as such an expression, without the pieces that a setting leaves empty.
* *compared with*: **itself** means that the library's own code ran; **formula** means that it could not be installed
  beside the others, and a transcription of its formula ran instead.
* IDs in brackets (T12, M1, ...) name defects that `ratewise doctor` tells of.
"""

DIFFERENCES = """\
## Differences on purpose

Of the importers:

* Where the library raises, ours holds (T6, F1); a setting at which it raises at once is an error.
* What a library takes over from torch is not listed twice: NeMo's `StepLR`, `ExponentialLR`, `ReduceLROnPlateau` and
  `CyclicLR`, and the names of torch's schedulers in pytorch_optimizer's registry, are the rows of torch. Of timm's
  factory, `plateau` is the row of its scheduler, `none` a constant; `cooldown_epochs` only lengthens the run.
* Restarts that a logarithm in float32 makes late now and then (Keras, K6) are exact in ours, and so are stairs that
  come late only when compiled (optax). Those of timm and fastai, which are late for every user, are late in ours too.
* Ours compute in float64, and from whole numbers: a library that forms its ratio in float32 is further from the
  formula near its end than ours is from it.
* An object is read as it was made, from its settings and base rates. What was written into the optimizer's groups
  since (T30), and how far it has been stepped, plays no part.
* timm's value for index 0 is what `step(0)` leaves; until then the optimizer may hold another (M4).
* A fit of fastai makes no update past its end; there ours holds the value of the end.

Of our own shapes and recipes, which go by the same names as the libraries':

* Everything holds its end: nothing climbs again, falls below it or raises (T5, T6, T12, H1, F1, P2, L7b).
* A warm-up without `start` uses (i + 1)/w of the peak for update i: no update is wasted at 0 (H6, D2), and updates
  w - 1 and w both use the peak. `start=0.0` gives the curve of torch, Keras, optax and Hugging Face.
* A milestone m takes effect at update m itself, as in torch; Keras is one later (K1), timm one sooner (M2).
* `one_cycle` reaches its peak exactly, and counts as optax does: its end is reached by the update after the last one;
  torch reaches both one update sooner, and mostly misses its peak (T4).
* `repeat` restarts exactly, whatever the lengths; logarithms of floats are late now and then (T22, K6, M3).
* `Plateau(patience=n)` cuts at the n-th evaluation without improvement; torch, Paddle and Hugging Face at the next
  one. A margin heeds the sign of the metric (T26, O9). `like="torch"` and so on decide as the library does.
* A phase without a length is left out by an importer, and refused by a shape; in some libraries it never ends
  (T10, O1) or divides by zero (T1, H2, L9).

## What stays `Custom`

These are no functions of the position that a formula could say. Some have no schedule at all; the others
are a `Custom` of your own function, which is called as it is:

* a factor that depends on the parameters or on the data: Adafactor's root mean square of the parameters,
  scikit-learn's passive-aggressive rates;
* freezing and unfreezing of parameters beside a schedule: fastai's `fine_tune`, allennlp's gradual unfreezing;
* a scheduler that multiplies what stands in the optimizer, together with outside edits of it (torch's chained
  classes, T30), noise from a random generator with a state (Keras' noisy cosine), and timm's
  `noise_range_t`, which is a function of t but one of torch's own random numbers;
* functions of the user: `LambdaLR`, `LambdaDecay`, `scale_fn`, `decay_fn`. They are called with the position alone,
  and must return the same for the same position;
* `MultiplicativeLR`, `MultiplicativeDecay` and trees of torch's that are neither pieces nor a product: a `Custom` that
  goes through the recursion, as slow as the library has it.
"""


def modules() -> dict[str, ModuleType]:
    """The test modules of the peers that have one, in the order of ``PEERS``."""
    tests = [path for path in HERE.glob("test_*.py") if "\nROWS" in path.read_text()]
    found = {path.stem.removeprefix("test_") for path in tests}
    assert found <= set(PEERS), f"PEERS lacks a heading for {sorted(found - set(PEERS))}"
    return {name: import_module(f"parity.test_{name}") for name in PEERS if name in found}


def measured(examples: int = 20) -> Callable[[str, Case], str]:
    """Run every case; the answer is the worst difference of one."""
    failed = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in (case for module in modules().values() for case in module.CASES):
            try:
                check(case, examples)
            except Exception as error:
                failed.append(error)
    if failed:
        raise ExceptionGroup("a page with rows that are not so is not written", failed)
    return lambda _, case: figure(WORST[case.name])


def figure(x: float) -> str:
    """Two digits, as a person writes them."""
    return f"{x:.2g}".replace("e-0", "e-")


def text(worst: Callable[[str, Case], str], versions: str) -> str:
    """The page."""
    parts = [OPENING, f"{versions}\n"]
    for name, module in modules().items():
        parts.append("\n".join(section(name, module, worst)) + "\n")
    return "\n".join([*parts, DIFFERENCES])


def section(name: str, module: ModuleType, worst: Callable[[str, Case], str]) -> Iterator[str]:
    """The table of one peer, and what is refused."""
    title, _ = PEERS[name]
    yield f"## {title}\n\n`from ratewise.interop import from_{name}`\n"
    yield "| schedule | in Ratewise | compared with | worst | allowed | notes |"
    yield "|---|---|---|---|---|---|"
    for case in module.CASES:
        says = f"`{case.says}`" if "(" in case.says else case.says
        how = "itself" if case.living else "formula"
        cells = [case.row, says, how, worst(name, case), figure(case.tolerance), case.note]
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    if module.REFUSED:
        yield "\nNot imported:\n"
        yield from (f"* {row}: {reason}" for row, reason in module.REFUSED.items())


def numbers(page: str) -> dict[tuple[str, str], str]:
    """The worst differences that a page shows, by importer and row."""
    shown, name = {}, ""
    for line in page.splitlines():
        if heading := re.fullmatch(r"`from ratewise\.interop import from_(\w+)`", line):
            name = heading[1]
        cells = re.split(r"(?<!\\) \| ", line.removeprefix("| ").removesuffix(" |"))
        if len(cells) == 6:
            shown[name, cells[0].replace("\\|", "|")] = cells[3]
    return shown


def versions(page: str | None = None) -> str:
    """The line of the versions that were measured: of what is installed, or as a page shows it."""
    if page is not None:
        return next((line for line in page.splitlines() if line.startswith("Measured with ")), "")
    used = {distribution: version(distribution) for name in modules() if (distribution := PEERS[name][1])}
    return f"Measured with {', '.join(f'{name} {number}' for name, number in used.items())}."


def main() -> None:
    """Write the page."""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(text(measured(), versions()))


def allowed(case: Case) -> bool:
    """Whether a case says why it allows more than its peer's rounding."""
    return case.tolerance in (DOUBLE, SINGLE) or bool(case.note)


if __name__ == "__main__":
    main()
