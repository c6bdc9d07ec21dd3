"""Drives a child process that does one risky job under limits: a job as JSON on its stdin, JSON lines on its stdout."""

import contextlib
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

_ROOT = str(Path(__file__).resolve().parents[2])
_LOOK = 0.1  # seconds between two looks at whether to stop
_PATIENCE = 0.3  # seconds for a killed child to be gone


class SilentError(Exception):
    """The child has said nothing for longer than it may."""


def child_lines(
    module: str,
    job: Mapping[str, Any],
    environment: Mapping[str, str],
    *,
    silence: Callable[[], float],
    should_stop: Callable[[], bool],
) -> Generator[dict[str, Any], None, None]:
    """The lines of `python -m module`, until it ends or is to stop; the child is gone then.

    Raises SilentError when no line comes for `silence()` seconds, asked for anew after every one.
    """
    path = os.pathsep.join(filter(None, (_ROOT, environment.get("PYTHONPATH"))))
    child = subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**environment, "PYTHONPATH": path},
        start_new_session=True,  # Ctrl-C in a terminal is for the parent, which then ends this child
    )
    assert child.stdin is not None and child.stdout is not None
    try:
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(json.dumps(job).encode())
            child.stdin.close()
        buffer, until = b"", time.monotonic() + silence()
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            while not should_stop():
                if time.monotonic() > until:
                    raise SilentError
                if not selector.select(timeout=_LOOK):
                    continue
                chunk = os.read(child.stdout.fileno(), 1 << 16)
                if not chunk:
                    return
                *lines, buffer = (buffer + chunk).split(b"\n")
                yield from (json.loads(line) for line in lines)
                until = time.monotonic() + silence()
    finally:
        child.kill()
        child.stdout.close()
        try:
            child.wait(_PATIENCE)
        except subprocess.TimeoutExpired:  # it waits for the disk in the middle of a write
            threading.Thread(target=child.wait, name="reaping").start()
