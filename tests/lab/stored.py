"""Runs to keep, and programs that keep them."""

import subprocess
import sys
import textwrap
from pathlib import Path

from ratewise.errors import StoreError  # noqa: F401 (for the programs)
from ratewise.lab.runs import Run
from ratewise.lab.store import Store

RESULT = {"loss": 0.5, "metric": 0.9, "first": 2.3, "diverged": None, "seconds": 0.1, "started": 1.7e9, "curve": {}}


def run_of(seed):
    return Run("0" * 16, "fixed", "sgd(lr=Constant(0.1))", 0.1, seed, "tune", 50, "population")


def keys(seeds):
    return {run_of(seed).key for seed in seeds}


def pairs(seeds):
    return [(run_of(seed), {**RESULT, "metric": seed / 7}) for seed in seeds]


def written(path, *cohorts):
    with Store(path, write=True) as store:
        store.open_study("study")
        for seeds in cohorts:
            store.add(pairs(seeds))


def read(path):
    with Store(path) as store:
        store.open_study("study")
        return store.results()


def started(code, *arguments):
    """A program in which all of this is there, and ``os``, ``sys`` and ``time``, in a process of its own."""
    tests = Path(__file__).parents[1]
    begin = f"import os, sys, time; sys.path.insert(0, {str(tests)!r}); from lab.stored import *\n"
    command = [sys.executable, "-c", begin + textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
