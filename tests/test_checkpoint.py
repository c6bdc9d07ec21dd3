"""Checkpoints, rows and the journal: whatever moment a process dies at, what is on disk can be gone on with."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tl_core.errors import DiskFullError
from tl_core.training.checkpoint import Checkpoints
from tl_core.training.journal import Journal
from tl_core.training.rows import Rows


def state(number: int) -> dict[str, torch.Tensor]:
    return {"a": torch.full((300, 300), float(number)), "b": torch.arange(4)}


def test_the_newest_comes_back_and_two_are_kept(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, "x", "me")
    assert kept.latest() is None
    for step in (1, 2, 10):
        kept.save(step, state(step), {"loss": step / 2})
    found = kept.latest()
    assert found is not None and found.step == 10 and found.values == {"loss": 5.0}
    assert torch.equal(found.tensors["a"], state(10)["a"]) and torch.equal(found.tensors["b"], torch.arange(4))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x-00000002", "x-00000010"]


@pytest.mark.parametrize("file", ["state.safetensors", "manifest.json"])
@pytest.mark.parametrize("harm", ["cut", "gone", "bit"])
def test_case_123_a_damaged_one_is_passed_over_for_the_one_before(tmp_path: Path, file: str, harm: str) -> None:
    kept = Checkpoints(tmp_path, "x", "me")
    kept.save(1, state(1), {})
    kept.save(2, state(2), {})
    path = tmp_path / "x-00000002" / file
    data = path.read_bytes()
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(data[: len(data) // 2] if harm == "cut" else data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    found = kept.latest()
    assert found is not None and found.step == 1 and kept.damaged == 1


def test_case_123_another_runs_checkpoint_is_not_taken(tmp_path: Path) -> None:
    Checkpoints(tmp_path, "x", "another").save(1, state(1), {})
    mine = Checkpoints(tmp_path, "x", "me")
    assert mine.latest() is None and mine.damaged == 0
    assert Checkpoints(tmp_path, "y", "another").latest() is None


WRITER = """
import sys, torch
from pathlib import Path
from tl_core.errors import DiskFullError
from tl_core.training.checkpoint import Checkpoints
kept = Checkpoints(Path(sys.argv[1]), "x", "me")
step = 0
while True:
    step += 1
    kept.save(step, {"a": torch.full((700, 700), float(step))}, {})
    print(step, flush=True)
"""


@pytest.mark.slow
def test_killed_while_saving_there_is_always_a_whole_one(tmp_path: Path) -> None:
    kept, last = Checkpoints(tmp_path, "x", "me"), 0
    for moment in range(4):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        for _ in range(3):
            last = int(writer.stdout.readline())
        time.sleep(0.003 * moment)
        os.kill(writer.pid, signal.SIGKILL)
        last += len(writer.stdout.read().split())
        writer.wait()
        found = kept.latest()
        assert found is not None and found.step >= last - 1
        assert bool((found.tensors["a"] == found.step).all())
    kept.save(10**6, state(1), {})
    assert not list(tmp_path.glob("*.tmp*")), "what kills left behind is swept"


def test_rows_go_on_where_they_were_left(tmp_path: Path) -> None:
    order = [3, 1, 0, 2]
    rows = Rows(tmp_path, "features", ["k"], range(4))
    assert rows.complete() is None and rows.begun(order) == (None, 0)
    array = rows.begin((2,), np.float32)
    array[order[:2]] = 7
    rows.save_progress(array, 2, order)
    again, done = Rows(tmp_path, "features", ["k"], range(4)).begun(order)
    assert done == 2 and again is not None and again[[3, 1]].tolist() == [[7, 7], [7, 7]]
    assert Rows(tmp_path, "features", ["k"], range(4)).begun([0, 1, 2, 3]) == (None, 0)
    again[order[2:]] = 9
    whole = rows.finish(again)
    assert whole.tolist() == [[9, 9], [7, 7], [9, 9], [7, 7]] and rows.complete() is not None
    assert not whole.flags.writeable


def test_rows_of_another_key_or_length_are_others(tmp_path: Path) -> None:
    rows = Rows(tmp_path, "features", ["k"], range(2))
    rows.finish(rows.begin((2,), np.float32))
    assert Rows(tmp_path, "features", ["l"], range(2)).complete() is None
    assert Rows(tmp_path, "features", ["k"], range(3)).complete() is None
    file = next(tmp_path.glob("features-*.npy"))
    file.write_bytes(file.read_bytes()[:20])
    assert rows.complete() is None


def test_a_decision_is_taken_once(tmp_path: Path) -> None:
    file = tmp_path / "run" / "journal.json"
    assert Journal(file).decided("engine", lambda: "a") == "a"
    assert Journal(file).decided("engine", lambda: "b") == "a"
    file.write_text('{"engine": ')
    assert Journal(file).get("engine") is None


def test_a_disk_without_room_is_said_before_it_is_full(tmp_path: Path) -> None:
    rows = Rows(tmp_path, "frames", ["k"], range(1000))
    with pytest.raises(DiskFullError, match="disk of this machine is full"):
        rows.begin((3, 160_000, 160_000), np.uint8)
    assert not list(tmp_path.iterdir())
