"""Memory that was let go of goes back to the system."""

import platform
import subprocess
import sys

import pytest

# Threads that take and let go of large blocks while small ones stay, as models come and go between a page's odds and
# ends; how many MB the process has more than before.
_COME_AND_GO = """
import sys, threading
from pathlib import Path
import numpy as np
from tl_core.memory import give_back

def taken():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

if sys.argv[1] == "give back":
    assert give_back()
kept, before, ready = [], taken(), threading.Barrier(9)

def work():
    for _ in range(4):
        blocks = [np.ones(2_000_000 + 250_000 * at, np.uint8) for at in range(8)]
        kept.append(np.ones(30_000, np.uint8))
        blocks.clear()
    ready.wait()
    ready.wait()

for _ in range(8):
    threading.Thread(target=work).start()
ready.wait()
print(taken() - before - sum(map(len, kept)) / 1e6)
ready.wait()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="how other C libraries keep memory is theirs")
def test_large_blocks_go_back_to_the_system() -> None:
    def grown(how: str) -> float:
        command = [sys.executable, "-c", _COME_AND_GO, how]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    kept, given = grown("keep"), grown("give back")
    assert given < 15, f"{given:.0f} MB stay, {kept:.0f} without it"
    assert kept > 2 * given, "this test would notice"


_BETWEEN = """
from pathlib import Path
from tl_core.memory import give_back, trim

def taken():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

give_back()
blocks = [bytearray(b"x") * 200_000 for _ in range(500)]
before, kept = taken(), blocks[::10]
blocks.clear()
freed = before - taken()
assert trim()
print(freed, before - taken())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="how other C libraries keep memory is theirs")
def test_what_is_free_between_what_stays_goes_back_too() -> None:
    done = subprocess.run([sys.executable, "-c", _BETWEEN], capture_output=True, text=True, check=True)
    by_itself, trimmed = map(float, done.stdout.split())
    assert trimmed > 80 and by_itself < 40, "90 MB were let go of, between what stays"
