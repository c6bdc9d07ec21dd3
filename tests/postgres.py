"""A PostgreSQL server of the tests' own: Debian's programs, a folder in /tmp, loopback only, gone with the tests."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_PROGRAMS = Path("/usr/lib/postgresql")
# What a crash of the machine would lose is nothing to a test.
_QUICK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=16MB", "max_connections=40")


def programs() -> Path:
    """Where the server's programs are, the newest; or a skip that says so."""
    found = sorted(_PROGRAMS.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if not found:
        pytest.skip(f"no PostgreSQL server in {_PROGRAMS} (Debian package “postgresql”)")
    return found[-1].parent


class Server:
    """One server; `url` is that of a database with a password in it."""

    def __init__(self, folder: Path) -> None:
        self._programs, self._folder = programs(), folder
        self.password = secrets.token_hex(8)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        password = folder / "password"
        password.write_text(self.password)
        self._hand_over()
        initdb = [str(self._programs / "initdb"), "-D", str(folder / "data"), "-U", "lab", "--no-sync", "-E", "UTF8"]
        initdb += ["-A", "scram-sha-256", f"--pwfile={password}", "--locale=C"]
        subprocess.run(initdb, check=True, capture_output=True, **self._as_user())

    def start(self) -> None:
        command = [str(self._programs / "postgres"), "-D", str(self._folder / "data"), "-p", str(self.port)]
        command += ["-h", "127.0.0.1", "-k", str(self._folder)]
        for option in _QUICK:
            command += ["-c", option]
        log = (self._folder / "log").open("ab")
        self._process = subprocess.Popen(command, stdout=log, stderr=log, **self._as_user())
        end = time.monotonic() + 20
        ready = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready).returncode:
            assert time.monotonic() < end and self._process.poll() is None, (self._folder / "log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """End it at once, and everybody's connections with it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(timeout=20)
            self._process = None

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://lab:{self.password}@127.0.0.1:{self.port}/{database}"

    def fresh(self) -> str:
        """The URL of an empty database."""
        psycopg = pytest.importorskip("psycopg")
        name = f"t{secrets.token_hex(4)}"
        with psycopg.connect(self.url(), autocommit=True) as db:
            db.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def _hand_over(self) -> None:
        """The server refuses to run as root: then it is another user's."""
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            for path in (self._folder, *self._folder.iterdir()):
                os.chown(path, user.pw_uid, user.pw_gid)

    def _as_user(self) -> dict[str, object]:
        if os.geteuid():
            return {"cwd": self._folder}
        user = pwd.getpwnam("postgres")
        return {"cwd": self._folder, "user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@contextmanager
def serving() -> Iterator[Server]:
    """A server while the block runs."""
    programs()
    pytest.importorskip("psycopg")
    folder = Path(tempfile.mkdtemp(prefix="tl-postgres-", dir="/tmp"))  # pytest's own is closed to other users
    server = None
    try:
        server = Server(folder)
        server.start()
        yield server
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    with serving() as server:
        yield server
