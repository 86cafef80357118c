"""What it costs to keep a run: each kind of store, one run at a time and in cohorts of 128; and to load 10,000 runs.

    python benchmarks/store.py [--postgres postgresql://USER:PASSWORD@HOST/DATABASE]

Without ``--postgres`` a server is started in a temporary folder, if one is installed. Times are medians over commits
of the wall time, with the processor time of this program beside it; memory is the most that a new process that loads
the runs has held, and what it held before.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ratewise.lab.runs import Run
from ratewise.lab.store import Store

COHORT = 128
LOADED = 10_000
LOAD = """
import resource, sys, time
from ratewise.lab.store import Store
from ratewise.lab.compare import compare
before, start, clock = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter(), time.process_time()
with Store(sys.argv[1]) as store:
    store.open_study("study")
    found = store.results()
    first, processor = time.perf_counter() - start, time.process_time() - clock
    again = min(timed for _ in range(5) for timed in [-time.perf_counter() + (store.results(), time.perf_counter())[1]])
most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(len(found), first, processor, again, before / 1024, most / 1024)
"""


def pair(i: int) -> tuple[Run, dict[str, Any]]:
    """A run as long as those of ``compare digits`` are, about 2 kB."""
    rng = random.Random(i)
    run = Run(
        "0123456789abcdef", "cosine", "sgd(lr=Cosine(start=0.1, end=0.0, steps=300))", 0.1, i, "tune", 300, "torch"
    )
    curve = {"updates": [7 * j + 3.0 for j in range(40)], "loss": [rng.random() for _ in range(40)]}
    marks = {"marks": list(range(30, 301, 30)), "valid": [rng.random() for _ in range(10)]}
    how = {"trained": "population", "updates": 300, "started": 1.8e9 + rng.random(), "seconds": rng.random()}
    return run, {"loss": rng.random(), "metric": 0.9, "first": 2.3, "diverged": None, "curve": curve, **marks, **how}


def commits(location: str, size: int, times: int, start: int) -> tuple[float, float]:
    """Milliseconds of wall and processor time per run, of commits of ``size`` runs."""
    walls, clocks = [], []
    with Store(location, write=True) as store:
        store.open_study("study")
        store.add([pair(start)])  # tables are looked up once
        for k in range(times):
            pairs = [pair(start + 1 + k * size + i) for i in range(size)]
            wall, clock = time.perf_counter(), time.process_time()
            store.add(pairs)
            walls.append((time.perf_counter() - wall) / size * 1e3)
            clocks.append((time.process_time() - clock) / size * 1e3)
    return statistics.median(walls), statistics.median(clocks)


def loads(location: str) -> list[float]:
    """Fill a store up and load it in a new process: runs, seconds, of processor, a second time, MiB before, at most."""
    with Store(location, write=True) as store:
        store.open_study("study")
        have = len(store.results())
        for start in range(10**6, 10**6 + LOADED - have, COHORT):
            store.add([pair(i) for i in range(start, min(start + COHORT, 10**6 + LOADED - have))])
    output = subprocess.run([sys.executable, "-c", LOAD, location], check=True, capture_output=True, text=True).stdout
    return [float(word) for word in output.split()]


@contextmanager
def postgres(given: str | None, folder: Path) -> Iterator[str | None]:
    """The URL of a server: the given one, or one started for this, or None."""
    if given:
        yield given
        return
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from lab.servers import Server, program

    if program("postgres") is None:
        yield None
        return
    server = Server(folder)
    server.start()
    try:
        yield server.url
    finally:
        server.kill()


def main() -> None:
    """Print the table, and the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--postgres", help="URL of an empty database.")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,  # the server owns it
        postgres(arguments.postgres, Path(folder)) as url,
    ):
        stores = {"journal": f"{name}/runs.journal", "SQLite": f"sqlite:///{name}/runs.db", "PostgreSQL": url}
        print("store       one run at a time       cohorts of 128          10,000 runs")
        print("            ms wall    ms cpu       ms wall    ms cpu       load s   cpu s   again ms   MiB   (before)")
        for kind, location in stores.items():
            if location is None:
                print(f"{kind:<10}  not installed")
                continue
            alone = commits(location, 1, 60, 10**7)
            together = commits(location, COHORT, 8, 2 * 10**7)
            count, first, clock, again, before, most = loads(location)
            assert count == LOADED
            kept = f"{alone[0]:>7.2f}   {alone[1]:>7.2f}       {together[0]:>7.3f}   {together[1]:>7.3f}"
            read = f"{first:>6.2f}  {clock:>6.2f}   {again * 1e3:>8.2f}   {most:>4.0f}   ({before:.0f})"
            print(f"{kind:<10}  {kept}       {read}", flush=True)
            figures[kind] = {
                "alone_ms": alone,
                "cohort_ms": together,
                "load": {"seconds": first, "processor": clock, "again": again, "mib": most, "mib_before": before},
            }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
