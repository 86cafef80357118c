"""Running a script in several processes that find each other over gloo, as torchrun would start them."""

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile

HERE = Path(__file__).parent


def launch(script, processes, folder):
    """Run ``script`` with a folder of its own; returns what each rank wrote with ``write``, in order of ranks."""
    outputs(HERE / script, processes, str(folder))
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(processes)]


def outputs(script, processes, *arguments, timeout=240):
    """Run ``script`` and return what each rank printed.

    If one fails, the others are not waited for. Whatever happens, no process is left behind.
    """
    with TemporaryFile("w+") as errors, ExitStack() as stack:
        said = [stack.enter_context(TemporaryFile("w+")) for _ in range(processes)]
        running = _started([sys.executable, "-W", "ignore", str(script), *arguments], said, errors)
        deadline = time.monotonic() + timeout
        try:
            while time.monotonic() < deadline and {process.poll() for process in running} in ({None}, {None, 0}):
                time.sleep(0.05)
        finally:
            for process in running:
                process.kill()
                process.wait()
        assert [process.returncode for process in running] == [0] * processes, _text(errors)[-5000:]
        return [_text(file) for file in said]


def _started(command, said, errors):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    common = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": str(len(said)), "PYTHONPATH": path}
    return [
        subprocess.Popen(
            command, stdout=file, stderr=errors,
            env={**os.environ, **common, "OMP_NUM_THREADS": "1", "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank, file in enumerate(said)
    ]  # fmt: skip


def _text(file):
    file.seek(0)
    return file.read()


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
