"""How long ``import ratewise`` and ``ratewise --help`` take: python benchmarks/import_time.py.

The demands are less than 0.05 s beyond a bare interpreter, and less than 0.5 s. Each is done ten times in fresh
interpreters; the median is printed, in processor time (which depends little on what else the machine is doing) and
from bytecode, as for any installed package.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from resource import RUSAGE_CHILDREN, getrusage
from statistics import median
from tempfile import TemporaryDirectory

DEMAND = 0.05
HELP_DEMAND = 0.5
HELP = {
    "ratewise --help": "from ratewise.cli.main import run; run(['--help'])",
    "optuna --help": "import sys; sys.argv = ['optuna', '--help']; from optuna.cli import main; main()",
}
RUNS = 10


def seconds(code: str, environment: dict[str, str]) -> float:
    """The median processor time that a fresh interpreter needs to run ``code``."""

    def once() -> float:
        before = getrusage(RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment)
        after = getrusage(RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    once()  # bytecode is written and files are cached
    return median(once() for _ in range(RUNS))


def main() -> int:
    ours = 0.0
    with TemporaryDirectory() as cache:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = cache
        bare = seconds("pass", environment)
        print(f"{'bare interpreter':<18}{bare:8.3f} s")
        for package in ("ratewise", "optax", "torch"):
            if find_spec(package):
                extra = seconds(f"import {package}", environment) - bare
                ours = extra if package == "ratewise" else ours
                print(f"{'import ' + package:<18}{extra:8.3f} s more")
        helps = {name: seconds(code, environment) for name, code in HELP.items() if find_spec(name.split()[0])}
    for name, taken in helps.items():
        print(f"{name:<18}{taken:8.3f} s")
    met = ours < DEMAND and helps["ratewise --help"] < HELP_DEMAND
    print(f"demands: {DEMAND} s and {HELP_DEMAND} s, {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
