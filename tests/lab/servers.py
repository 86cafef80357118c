"""A PostgreSQL server of one's own."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path


def program(name):
    """The path of a program of PostgreSQL, or None."""
    found = shutil.which(name)
    return Path(found) if found else next(iter(sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), None)


class Server:
    """A PostgreSQL server in a temporary folder, on a socket there and on a port of its own."""

    def __init__(self, folder):
        self.folder, self.process = folder, None
        self.user = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}  # it refuses root
        if self.user:
            os.chown(folder, 65534, 65534)
        command = [
            program("initdb"),
            "-D",
            folder / "data",
            "-U",
            "me",
            "-A",
            "trust",
            "-N",
            "-E",
            "UTF8",
            "--locale=C",
        ]
        made = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder, **self.user)
        assert made.returncode == 0, made.stderr
        self.url = f"postgresql://me:secret@/postgres?host={folder}"

    def start(self):
        options = ["-k", self.folder, "-c", "listen_addresses=", "-c", "fsync=on", "-c", "shared_buffers=16MB"]
        with open(self.folder / "log", "a") as log:
            command = [program("postgres"), "-D", self.folder / "data", *options]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, **self.user)
        for _ in range(600):
            if subprocess.run(
                [program("pg_isready"), "-q", "-h", self.folder], check=False, cwd=self.folder
            ).returncode == 0:  # fmt: skip
                return
            assert self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())

    def kill(self):
        """End it as a power failure does, with all its children."""
        self.process.send_signal(signal.SIGQUIT)  # "immediate shutdown": nothing is written any more
        self.process.wait(timeout=30)
