"""``import ratewise`` costs the standard library alone, prints nothing and changes nothing."""

import subprocess
import sys

HEAVY = (
    *("numpy", "scipy", "torch", "tensorflow", "keras", "jax", "optax", "matplotlib", "typer", "rich"),
    *("optuna", "sklearn", "joblib", "yaml", "ray"),
)


def fresh(code: str) -> str:
    """What a new interpreter prints (its errors would be printed too)."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def test_importing_loads_no_other_package() -> None:
    code = f"import sys, ratewise; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert fresh(code) == "[]\n"


def test_using_the_core_loads_no_other_package() -> None:
    code = (
        "import sys, ratewise as rw; a = rw.parse('warmup_cosine(0.1)').over(100); a.values(0, 100); a.plot(); "
        f"assert rw.from_dict(a.to_dict()) == a; print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    assert fresh(code) == "[]\n"


def test_importing_changes_nothing_global() -> None:
    code = (
        "import sys, warnings, logging, random; "
        "before = (list(warnings.filters), list(logging.root.handlers), random.getstate(), sys.getrecursionlimit()); "
        "import ratewise; "
        "print(before == (warnings.filters, logging.root.handlers, random.getstate(), sys.getrecursionlimit()))"
    )
    assert fresh(code) == "True\n"
