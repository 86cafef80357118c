"""Running a script in several processes that find each other over gloo, as torchrun would start them."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def launch(script, processes, folder):
    """Run ``script`` with a folder of its own; returns what each rank wrote with ``write``, in order of ranks."""
    outputs(HERE / script, processes, str(folder))
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(processes)]


def outputs(script, processes, *arguments, timeout=240):
    """Run ``script`` and return what each rank said. Whatever happens, no process is left behind."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    common = {
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(processes),
        "OMP_NUM_THREADS": "1",
    }
    path = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    running = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", str(script), *arguments],
            env={**os.environ, **common, "PYTHONPATH": path, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(processes)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=timeout) for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    assert [process.returncode for process in running] == [0] * processes, "\n".join(e for _, e in said)[-5000:]
    return [out for out, _ in said]


def run(checks, folder):
    """The result of each check, or in its place the error that it raised."""
    found = {}
    for name, check in checks.items():
        try:
            found[name] = check(folder)
        except BaseException as error:  # torch.distributed.checkpoint raises what is no Exception
            found[name] = f"{type(error).__name__}: {error}"
    return found


def write(folder, found):
    """Leave what this rank found, plain JSON values, for the test that launched it."""
    Path(folder, f"rank{os.environ['RANK']}.json").write_text(json.dumps(found))
