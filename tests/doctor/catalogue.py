"""docs/doctor.md, made from the table of defects and the examples that trigger them.

PYTHONPATH=tests python -m doctor.catalogue
"""

import tempfile
from pathlib import Path

from doctor.examples import EXAMPLES, HF, KERAS, KOZISTR, OPTAX, OTHERS, TIMM, TORCH
from doctor.test_schedules import CASES

from ratewise import parse
from ratewise.doctor import Finding, examine, examine_file
from ratewise.doctor.defects import DEFECTS, Defect

FILE = Path(__file__).parents[2] / "docs" / "doctor.md"

INTRODUCTION = """\
# What the doctor says

`ratewise doctor` looks at a schedule and its run, or reads a program or configuration of another library. It runs
nothing. Every finding says what, where, why it matters, and what to write instead.

    ratewise doctor train.py
    ratewise doctor ds_config.json --json
    ratewise doctor "Cosine(0.1, 0.0, 90)" --steps 35000
    ratewise doctor checkpoint.pt

In Python: `ratewise.doctor.examine(schedule, steps)`, `examine(scheduler)` for a living scheduler of PyTorch,
Hugging Face, Keras, timm, fvcore, ignite or pytorch_optimizer, and `examine_file("train.py")`.

An **error** raises, or cannot train as meant. A **warning**: the curve is not the one that the settings seem to ask
for. A **note** is true of every use; `--notes` shows them. The exit status is 1 if there is an error or a warning,
0 if not, 2 if the command cannot be understood.

What it reads: Python (`.py`); JSON, YAML and TOML of DeepSpeed, Hugging Face's TrainingArguments, timm, Composer, NeMo,
mmengine, fairseq, nanotron, torchtitan, gpt-neox, Hydra's `_target_` and Lightning's `class_path`; schedules of
Ratewise saved as JSON. What it cannot see plainly (an argument from the command line, the length of a loader) it takes
for unknown, and says nothing about it.

## Checkpoints

Of a checkpoint the doctor tells how far its schedule came and what was changed on the way. It looks for the states of
`ratewise.torch.Scheduler` at any depth: in files of `torch.save` (`.pt`, `.pth`, `.ckpt`, `.bin`), so in those of
Lightning (`lr_schedulers`), Hugging Face (`scheduler.pt`), Accelerate (`scheduler.bin`) and in a dictionary of your
own; and in JSON. Tensors are not read, and a file that holds Python objects is refused, since loading it would run
code. This needs PyTorch, except for JSON.

    $ ratewise doctor last.ckpt
    last.ckpt: lr_schedulers[0]: 60003 updates made
        follows: lr = (Linear(0.0, 0.0003, 2000, ends="(]") >> Cosine(0.0003, 3e-05, 98000)).until(60000) >> ...
        used:    2.099685e-04 by update 60002
        next:    2.099658e-04 for update 60003
        end:     after 150000 updates
        changed: before update 60000: change(..., 'switch')
                 0: 1.265888e-04 -> 2.099739e-04, ratio 1.6587
                 end: after 150000 updates
                 before:  lr = Linear(0.0, 0.0003, 2000, ends="(]") >> Cosine(0.0003, 3e-05, 98000)

A change is shown with the rate that the update would have used, the rate that it did use, their ratio, and where the
schedule ends since. `--json` prints the same in full precision, under `schedulers`. In Python:
`ratewise.doctor.histories.histories(data)`, where `data` is the checkpoint as nested dictionaries and lists.

- **scheduler-state-missing** (warning): the file holds an optimizer that followed a schedule, and no Scheduler's
  state. A run resumed from it alone starts the schedule again at update 0. Instead: save `scheduler.state_dict()` too.

The exit status is 1 for that warning and for a state that a newer Ratewise wrote, and 2 for a file that is cut off,
foreign, or without a state of ours.
"""

PEERS = {
    "torch": "PyTorch",
    "keras": "Keras",
    "optax": "optax",
    "hf": "Hugging Face",
    "timm": "timm",
    "fvcore": "fvcore",
    "ignite": "ignite",
    "kozistr": "pytorch_optimizer",
    "deepspeed": "DeepSpeed",
    "composer": "Composer",
    "megatron": "Megatron-LM",
    "gpt_neox": "gpt-neox",
    "nemo": "NeMo",
    "mmengine": "mmengine",
    "": "Others",
}


def text() -> str:
    """The whole page."""
    parts = [INTRODUCTION, "## Of a schedule and its run\n", *_schedules()]
    parts.append("- **not-a-rate** (error): a function of your own, `Custom(f)`, gives something that is no number.\n")
    rows = {peer: [row for row in DEFECTS if _peer(row) == peer] for peer in PEERS}
    for peer, name in PEERS.items():
        parts.append(f"## {name}\n" if peer else "## Others, and configurations\n")
        parts.append("\n".join(_entry(row) for row in rows[peer]) + "\n")
    return "\n".join(parts)


def _schedules() -> list[str]:
    lines = []
    for case in CASES:
        (finding,) = (f for f in examine(parse(case.bad), case.steps) if f.code == case.code)
        run = f"over {case.steps} updates" if case.steps else "over an unknown run"
        lines.append(_line(finding, f"`{case.bad}` {run}"))
    return lines


def _line(finding: Finding, example: str) -> str:
    return (
        f"- **{finding.code}** ({finding.level}): {example}: {finding.what}. {finding.why} "
        f"Instead: `{finding.instead.replace('`', '')}`"
    )


def _peer(row: Defect) -> str:
    first = row.names.partition(".")[0]
    return first if first in PEERS else ""


def _entry(row: Defect) -> str:
    """A row of the table, with the example that triggers it."""
    for example in EXAMPLES:
        if example.code != row.id:
            continue
        for finding in FOUND[example.bad, example.file]:
            if finding.code == row.id and example.says in finding.what and _is(row, finding):
                shown = example.bad
                for preamble in (TORCH, KERAS, OPTAX, HF, OTHERS, KOZISTR, TIMM):
                    shown = shown.removeprefix(preamble)
                code = "; ".join(line.strip() for line in shown.strip().splitlines()).replace(":; ", ": ")
                return _line(finding, f"`{code}`")
    what, why, instead = (s.replace("{", "").replace("}", "") for s in (row.what, row.why, row.instead))
    thing = row.names.partition(".")[2].split()[0].replace("*", "scheduler")
    return _line(Finding(row.id, what, "", why, instead, row.level), f"a living `{thing}`")


def _is(row: Defect, finding: Finding) -> bool:
    """Whether the finding is of this row: the words before the first argument are the same."""
    return _starts(finding.what, row.what) and _starts(finding.why, row.why) and _starts(finding.instead, row.instead)


def _starts(text: str, template: str) -> bool:
    return text.startswith(template.partition("{")[0])


def _found() -> dict[tuple[str, str], tuple[Finding, ...]]:
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for example in EXAMPLES:
            path = Path(folder) / example.file
            path.write_text(example.bad)
            found[example.bad, example.file] = examine_file(path)
    return found


FOUND = _found()

if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(text())
