"""Measuring claims, one after the other: what comes out is plain JSON."""

import time
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ratewise.errors import LabError, UnknownName, nearest
from ratewise.replicate.bench import Bench
from ratewise.replicate.claim import CLAIMS, Claim, as_dict, verdict

FAMILIES = ("stability", "rates", "decay", "cycles", "adaptive", "warmup", "regression", "convex", "races", "tools")
"""The modules that hold the claims, in the order in which they are shown."""

PACKAGES = ("numpy", "jax", "optax", "torch", "scikit-learn")


def claims() -> dict[str, Claim]:
    """Return every claim by name, in the order of the families whatever was imported before."""
    modules = [import_module(f"ratewise.replicate.{family}").__name__ for family in FAMILIES]
    return {name: one for module in modules for name, one in CLAIMS.items() if one.measure.__module__ == module}


def replicate(
    names: Iterable[str] = (),
    *,
    quick: bool = False,
    progress: Callable[[str], None] = lambda _: None,
    each: Callable[[dict[str, Any]], None] = lambda _: None,
) -> dict[str, Any]:
    """Measure claims and return what was found.

    Args:
        names: Which claims; all by default.
        quick: The claims that can be told at small sizes, at these: seconds instead of minutes.
        progress: Told what is going on.
        each: Given what is known after each claim, as it is returned at the end.

    Returns:
        ``claims`` (a list of ``{name, sentence, source, setting, gates, verdict, header, rows, figure, note, command,
        quick, versions, updates, seconds}``) and ``cost``. Runs that several claims need are counted with the first
        of them.

    Raises:
        UnknownName: There is no such claim.
        LabError: A claim that was named has no small size.

    Example:
        >>> found = replicate(["quadratic-limit"], quick=True)
        >>> found["claims"][0]["verdict"]
        'holds'
    """
    known, bench, found = claims(), Bench(quick, progress), []
    chosen = list(names) or [name for name, one in known.items() if one.quick or not quick]
    for name in chosen:
        if name not in known:
            raise UnknownName(f"unknown claim {name!r}.{nearest(name, known)}")
        if quick and not known[name].quick:
            raise LabError(f"claim {name!r} cannot be told at small sizes. Leave out --quick.")
    for i, name in enumerate(chosen):
        progress(f"claim {i + 1} of {len(chosen)}: {name}")
        found.append(_measured(known[name], bench))
        each({"claims": list(found), "cost": _cost(found)})
    return {"claims": found, "cost": _cost(found)}


def _cost(found: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    entries = list(found)
    return {key: round(sum(entry[key] for entry in entries), 1) for key in ("updates", "seconds")}


def merged(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known after some claims were measured again: the others stay as they were, with their versions."""
    kept = {entry["name"]: entry for entry in (old or {}).get("claims", ())}
    kept |= {entry["name"]: entry for entry in new["claims"]}
    entries = [kept[name] for name in claims() if name in kept]
    return {"claims": entries, "cost": _cost(entries)}


def _measured(claim: Claim, bench: Bench) -> dict[str, Any]:
    started, before = time.perf_counter(), bench.updates
    with threadpool_limits(1):  # matrices are small: threads that wait for each other cost more than they bring
        evidence = claim.measure(bench)
    return {
        **{key: getattr(claim, key) for key in ("name", "sentence", "source", "setting")},
        "gates": as_dict(evidence.gates),
        "verdict": verdict(evidence.gates),
        "header": list(evidence.header),
        "rows": [list(row) for row in evidence.rows],
        "figure": evidence.figure.to_dict() if evidence.figure else None,
        "note": evidence.note,
        "command": f"ratewise replicate {claim.name}{' --quick' if bench.quick else ''}",
        "quick": bench.quick,
        "versions": _versions(),
        "updates": bench.updates - before,
        "seconds": round(time.perf_counter() - started, 1),
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in ("ratewise", *PACKAGES):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
