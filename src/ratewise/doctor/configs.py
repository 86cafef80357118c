"""Configurations, read as data: JSON, YAML and TOML of Hugging Face, DeepSpeed, Composer, NeMo, mmengine and others."""

from collections.abc import Callable, Iterator
from typing import Any

from ratewise.doctor.setting import HF_FUNCTIONS, Setting, Unseen, meant, named, signature
from ratewise.doctor.signatures import SIGNATURES
from ratewise.errors import ScheduleError

MOST = 100_000
"""Entries that are looked at."""

Entry = dict[str, Any]


def settings(data: Any, where: str) -> Iterator[Setting]:
    """Yield the schedulers that a configuration names, with the key where each stands."""
    for entry, path in _entries(data):
        at = f"{where}: {'.'.join(path)}" if path else where
        for reader in READERS:
            name, arguments = reader(entry, path, data)
            if name:
                given = {key: _value(value) for key, value in arguments.items()}
                known = signature(name) if name in SIGNATURES else {}
                yield meant(Setting(name, {**known, **given}, at))
                break


def texts(data: Any, where: str) -> Iterator[tuple[str, str, str]]:
    """Yield numbers that YAML 1.1 takes for text: where, as written, and so that it takes them for numbers."""
    for entry, path in _entries(data):
        for key, value in entry.items():
            if isinstance(value, str) and isinstance(number := _number(value), float) and "e" in value.lower():
                digits, power = f"{number:e}".split("e")
                yield f"{where}: {'.'.join((*path, str(key)))}", value, f"{digits.rstrip('0')}0e{power}"


def _entries(data: Any) -> Iterator[tuple[Entry, tuple[str, ...]]]:
    """Every dictionary in the data with its path, each once: YAML may name one a million times."""
    seen: set[int] = set()
    stack: list[tuple[Any, tuple[str, ...]]] = [(data, ())]
    while stack:
        value, path = stack.pop()
        if not isinstance(value, (dict, list)) or id(value) in seen:
            continue
        seen.add(id(value))
        if len(seen) > MOST or len(path) > 100:
            raise ScheduleError(f"doctor: a configuration may have {MOST} entries, 100 deep; this one has more.")
        if isinstance(value, dict):
            yield value, path
        items = value.items() if isinstance(value, dict) else enumerate(value)
        stack += reversed([(item, (*path, str(key)[:60])) for key, item in items])


def _value(value: Any) -> Any:
    """An argument: a number, or a schedule that is written out inside."""
    name, arguments = _by_path(value, (), None) if isinstance(value, dict) else NOTHING
    return Setting(name, {**signature(name), **arguments}) if name else _number(value)


def _number(value: Any) -> Any:
    """A text such as 1e-4, which YAML 1.1 does not take for a number, as the number."""
    if isinstance(value, int) and abs(value) > 2**62:
        return Unseen("a number beyond 2**62")
    if isinstance(value, str) and value[:1] in "+-.0123456789":
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _inside(entry: Any, name: str) -> Entry:
    found = entry.get(name) if isinstance(entry, dict) else None
    return found if isinstance(found, dict) else {}


Read = tuple[str | None, Entry]
NOTHING: Read = (None, {})


def _by_path(entry: Entry, path: tuple[str, ...], data: Any) -> Read:
    """Hydra's ``_target_``, Lightning's ``class_path``, Keras' ``class_name``."""
    target = entry.get("_target_", entry.get("class_path"))
    if "class_name" in entry:
        target = f"{entry.get('module', 'keras')}.{entry['class_name']}"
    if not isinstance(target, str):
        return NOTHING
    plain = {key: value for key, value in entry.items() if not str(key).startswith("_")}
    return named(target), _inside(entry, "init_args") or _inside(entry, "config") or plain


def _deepspeed(entry: Entry, path: tuple[str, ...], data: Any) -> Read:
    kind = entry.get("type")
    known = isinstance(kind, str) and f"deepspeed.{kind}" in SIGNATURES and (not path or path[-1] == "scheduler")
    return (f"deepspeed.{kind}", _inside(entry, "params")) if known else NOTHING


def _mmengine(entry: Entry, path: tuple[str, ...], data: Any) -> Read:
    kind = str(entry.get("type")).rpartition(".")[2]
    mine = f"mmengine.{kind}" in SIGNATURES and (
        "param_scheduler" in path or entry.keys() & {"by_epoch", "begin", "end"}
    )
    return (f"mmengine.{kind}", entry) if mine else NOTHING


def _hugging_face(entry: Entry, path: tuple[str, ...], data: Any) -> Read:
    """TrainingArguments, also as Axolotl and LLaMA-Factory have them."""
    key = next((key for key in ("lr_scheduler_type", "lr_scheduler") if isinstance(entry.get(key), str)), None)
    if key is None or (key == "lr_scheduler" and entry[key] not in HF_FUNCTIONS.values()):
        return NOTHING
    rate = entry.get("learning_rate", 5e-5)
    return "hf.TrainingArguments", {**entry, "lr_scheduler_type": entry[key], "learning_rate": rate}


def _timm(entry: Entry, path: tuple[str, ...], data: Any) -> Read:
    """The arguments file of timm's train.py."""
    if not ("sched" in entry and entry.keys() & {"warmup_epochs", "warmup_lr"} and "epochs" in entry):
        return NOTHING
    names = {"num_epochs": "epochs", "cycle_mul": "lr_cycle_mul", "cycle_limit": "lr_cycle_limit"}
    given = {name: entry[key] for name, key in names.items() if key in entry}
    return "timm.create_scheduler_v2", {**entry, **given}


_COMPOSER = {
    "constant": "ConstantScheduler",
    **{
        f"{name}_with_warmup": f"{kind}WithWarmupScheduler"
        for name, kind in (("constant", "Constant"), ("cosine", "CosineAnnealing"), ("linear_decay", "Linear"))
    },
}


def _composer(entry: Entry, path: tuple[str, ...], data: Any) -> Read:
    """The scheduler of an llm-foundry file."""
    kind = _COMPOSER.get(str(entry.get("name")))
    mine = kind and path[-1:] == ("scheduler",) and entry.keys() & {"t_warmup", "alpha", "alpha_f", "t_max"}
    return (f"composer.{kind}", entry) if mine else NOTHING


def _nemo(entry: Entry, path: tuple[str, ...], data: Any) -> Read:
    kind = f"nemo.{entry.get('name')}"
    if kind not in SIGNATURES or path[-1:] != ("sched",):
        return NOTHING
    return kind, {"max_steps": _inside(data, "trainer").get("max_steps"), **entry}


def _fairseq(entry: Entry, path: tuple[str, ...], data: Any) -> Read:
    kind = f"fairseq.{entry.get('_name')}"
    return (kind, entry) if kind in SIGNATURES and path[-1:] == ("lr_scheduler",) else NOTHING


def _nanotron(entry: Entry, path: tuple[str, ...], data: Any) -> Read:
    return ("nanotron.LRSchedulerArgs", entry) if path[-1:] == ("learning_rate_scheduler",) else NOTHING


def _torchtitan(entry: Entry, path: tuple[str, ...], data: Any) -> Read:
    run = _inside(data, "training")
    if path != ("lr_scheduler",) or "steps" not in run:
        return NOTHING
    return "torchtitan.lr_scheduler", {**entry, "training_steps": run["steps"]}


def _gpt_neox(entry: Entry, path: tuple[str, ...], data: Any) -> Read:
    """A file of gpt-neox: its keys have dashes or underscores."""
    plain = {str(key).replace("-", "_"): value for key, value in entry.items()}
    if path or not ("train_iters" in plain and plain.keys() & {"lr_decay_style", "warmup"}):
        return NOTHING
    lr = _inside(_inside(plain, "optimizer"), "params").get("lr", Unseen("lr"))
    return "gpt_neox.AnnealingLR", {"lr": lr, **plain}


READERS: tuple[Callable[[Entry, tuple[str, ...], Any], Read], ...] = (
    *(_by_path, _deepspeed, _mmengine, _hugging_face, _timm, _composer, _nemo, _fairseq, _nanotron, _torchtitan),
    _gpt_neox,
)
"""Each says which scheduler an entry is, or nothing."""
