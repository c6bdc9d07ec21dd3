"""A program that trains on a disk that fails: `python -m tests.on_failing_disk`, a job as JSON on its stdin, with
failing_disk.c before the C library. For each write that is to fail it begins a run, sees how that ends, gives the disk
back its room, and has the run gone on with. A JSON line each."""

import ctypes
import hashlib
import json
import shutil
import sys
from pathlib import Path

from tl_core.events import Event, Failed
from tl_core.jobs.runs import EventLog, Request, RunFolder, new_key
from tl_core.jobs.worker import take
from tl_core.settings import Settings
from tl_core.training import finetune
from tl_core.training.plan import Plan


def main() -> None:
    job = json.load(sys.stdin)
    settings = Settings(data_dir=Path(job["data"]), free_disk_reserve=0)
    disk, plan = ctypes.CDLL(None), Plan.from_dict(job["plan"])
    finetune._CHECKPOINT_SECONDS = 0.0  # a checkpoint after every step
    first = begun(settings, job["set"], plan, {})
    take(first, settings)
    journal = json.loads((first.path / "journal.json").read_text())
    decided = {name: journal[name] for name in ("plan", "engine") if name in journal}  # what hangs on speeds
    whole = begun(settings, job["set"], plan, decided)
    disk.fail_at(0, 0)
    take(whole, settings)
    count = disk.writes()
    say(writes=count, last=last_of(whole), weights=weights_of(whole))
    for at in range(job["times"]):
        number, run = 1 + at * count // job["times"], begun(settings, job["set"], plan, decided)
        disk.fail_at(number, job["errno"])
        outcome = take(run, settings)
        disk.fail_at(0, 0)
        last = last_of(run)
        run.open_again()
        take(run, settings)
        say(at=number, outcome=outcome, last=last, then=last_of(run), weights=weights_of(run))
        shutil.rmtree(run.path)


def begun(settings: Settings, set_folder: str, plan: Plan, decided: dict[str, object]) -> RunFolder:
    """A run that has its decisions, on a set that nothing is known of yet."""
    for kept in ("features-*", "frames-*", "maps-*"):
        for file in Path(set_folder).glob(kept):
            file.unlink()
    run = RunFolder.create(settings, new_key(), Request(set_folder, plan, "cpu"))
    (run.path / "journal.json").write_text(json.dumps(decided))
    return run


def last_of(run: RunFolder) -> str:
    """The code of the failure that ended the run, or the kind of its last event."""
    events: list[Event] = EventLog(run.path).new()
    last = events[-1] if events else None
    return last.code if isinstance(last, Failed) else type(last).__name__


def weights_of(run: RunFolder) -> str:
    file = run.path / "bundle" / "model.safetensors"
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else ""


def say(**line: object) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
