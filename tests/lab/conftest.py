"""What several tests of the lab need."""

import subprocess
import tempfile
from pathlib import Path

import pytest
from lab.servers import Server, program


@pytest.fixture(scope="session")
def server():
    if program("postgres") is None or program("initdb") is None:
        pytest.skip("PostgreSQL is not installed")
    pytest.importorskip("psycopg", reason="the driver of PostgreSQL is not installed")
    with tempfile.TemporaryDirectory(prefix="pg", ignore_cleanup_errors=True) as folder:
        server = Server(Path(folder))
        server.start()
        yield server
        server.kill()


@pytest.fixture
def url(server):
    """An empty database."""
    for command in ("drop database if exists runs", "create database runs"):
        arguments = ["-q", "-h", server.folder, "-U", "me", "-d", "postgres", "-c", command]
        subprocess.run([program("psql"), *arguments], check=True, stderr=subprocess.DEVNULL, cwd=server.folder)
    return server.url.replace("/postgres?", "/runs?")
