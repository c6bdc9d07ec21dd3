"""Watches the processes that decode for a test: how much memory they took, and whether one is still there."""

import os
import threading
from pathlib import Path
from types import TracebackType


def decoders() -> list[int]:
    """Process ids of the decoding children of this process that are still running."""
    return children_running("decoder_process")


def children_running(module: str) -> list[int]:
    """Process ids of this process's children that run `module`."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rsplit(")", 1)[1].split()[:2]
            mine = int(parent) == os.getpid() and state != "Z"
            if mine and module.encode() in stat.with_name("cmdline").read_bytes():
                found.append(int(stat.parent.name))
        except OSError:  # it has just ended
            continue
    return found


class Watch:
    """`with Watch() as watch:` ... `watch.highest` is the most memory (bytes, resident) any one of them had."""

    def __init__(self) -> None:
        self.highest = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.02):
            for child in decoders():
                try:
                    lines = Path(f"/proc/{child}/status").read_text().splitlines()
                except OSError:
                    continue
                peaks = [1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
                self.highest = max(self.highest, *peaks, 0)
