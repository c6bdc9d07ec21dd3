"""Killed at random moments, by the kernel and without warning: the training worker, and the whole web process.

python -m bench.kills --worker 50 --web 20

A run that is killed must end by itself, once, with the weights of the same run left alone. Of the web process every
second kill takes its worker along, as when a machine dies; where the worker lives, it must go on with the run alone.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from gradio_client import Client
from safetensors.torch import load_file

from bench.machine import describe
from bench.served import Served, children, start
from tests.test_resume import drawn
from tl_core.data.imageset import ImageSet
from tl_core.data.intake import prepare
from tl_core.data.understand import load
from tl_core.events import Event, Failed, Finished, Started
from tl_core.jobs.recovery import job_of
from tl_core.jobs.runs import EventLog, Request, RunFolder, new_key
from tl_core.jobs.store import Store
from tl_core.jobs.supervisor import WorkerSupervisor
from tl_core.models.catalogue import EMBEDDED
from tl_core.settings import Settings
from tl_core.training.plan import Facts, Machine, Wishes, make_plan

_MOST_SECONDS = 600.0


@dataclass
class Outcome:
    """Kills that struck, runs that ended as they should, and seconds that a kill cost."""

    kills: int = 0
    runs: int = 0
    well: int = 0
    cost: tuple[float, ...] = ()

    def line(self, name: str, wanted: int) -> str:
        middle = statistics.median(self.cost) if self.cost else 0.0
        cost = f"{middle:.1f} / {max(self.cost, default=0.0):.1f}"
        holds = "yes" if self.kills >= wanted and self.well == self.runs else "**no**"
        return f"| {name} | {self.kills} | {self.runs} | {self.well} | {cost} | {holds} |"


class Runs:
    """Runs alike on one set, in a data folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(data_dir=folder / "data", free_disk_reserve=0)
        self.store = Store(self.settings)
        upload = drawn(folder / "sides.zip", range(60))
        for _ in prepare(upload, folder / "set", self.settings):
            pass
        self.images: ImageSet = load(folder / "set")
        wishes = Wishes(strategy="all", epochs=12, image_size=64, flips="off")
        self.plan = make_plan(wishes, Facts.of(self.images), local=[EMBEDDED], machine=Machine(self.settings))
        self.straight: RunFolder | None = None
        self.seconds = 0.0

    def queue(self) -> tuple[str, RunFolder]:
        """One more, with the decisions of the one that was left alone."""
        key = new_key()
        run = RunFolder.create(self.settings, key, Request(str(self.images.folder), self.plan, owner=key))
        if self.straight is not None:
            journal = json.loads((self.straight.path / "journal.json").read_text())
            kept = {name: journal[name] for name in ("plan", "engine") if name in journal}
            (run.path / "journal.json").write_text(json.dumps(kept))
        job = job_of(run)
        assert job is not None
        self.store.submit(job)
        return key, run

    def left_alone(self) -> None:
        """The run that the others are held against."""
        _, run = self.queue()
        begun = wait_for_start(run)
        wait_for_end(run)
        self.straight, self.seconds = run, time.monotonic() - begun
        training = json.loads((run.path / "report.json").read_text())["training"]
        if not training["share"] > 0:
            raise SystemExit("the fine-tuned model must win, or its checkpoints are not tested")

    def well(self, run: RunFolder) -> bool:
        """Whether the run ended once, with the weights of the one left alone."""
        assert self.straight is not None
        events = EventLog(run.path).new()
        ends = [event for event in events if isinstance(event, Finished | Failed)]
        if len(ends) != 1 or not isinstance(ends[0], Finished) or events[-1] is not ends[0]:
            print(f"{run.path.name}: {ends}", flush=True)
            return False
        one, two = (load_file(path / "bundle" / "model.safetensors") for path in (run.path, self.straight.path))
        alike = all(torch.equal(one[name], two[name]) for name in two)
        if not alike:
            print(f"{run.path.name}: other weights", flush=True)
        return alike


def wait_for_start(run: RunFolder, starts: int = 1) -> float:
    """Wait until the run was begun so often; the moment."""
    return _wait(run, lambda seen: sum(isinstance(event, Started) for event in seen) >= starts or _over(seen))


def wait_for_end(run: RunFolder) -> float:
    return _wait(run, _over)


def _over(seen: list[Event]) -> bool:
    return bool(seen) and isinstance(seen[-1], Finished | Failed)


def _wait(run: RunFolder, wanted: Callable[[list[Event]], bool]) -> float:
    log, seen, end = EventLog(run.path), list[Event](), time.monotonic() + _MOST_SECONDS
    while time.monotonic() < end:
        seen += log.new()
        if wanted(seen):
            return time.monotonic()
        time.sleep(0.02)
    raise SystemExit(f"{run.path.name} does not get on: {seen[-3:]}")


def kill_workers(runs: Runs, count: int, draw: random.Random) -> Outcome:
    """Kill the worker `count` times in the middle of runs, twice a run at most, as the third time one is given up."""
    supervisor, outcome, cost = WorkerSupervisor(runs.settings, runs.store), Outcome(), list[float]()
    supervisor.start()
    try:
        if runs.straight is None:
            runs.left_alone()
        while outcome.kills < count:
            _, run = runs.queue()
            begun, struck = wait_for_start(run), 0
            for turn in range(min(2, count - outcome.kills)):
                wait_for_start(run, turn + 1)
                time.sleep(draw.uniform(0, runs.seconds))
                if run.over() or supervisor.pid is None:
                    break
                with contextlib.suppress(ProcessLookupError):
                    os.kill(supervisor.pid, signal.SIGKILL)
                    struck += 1
            took = wait_for_end(run) - begun
            outcome.kills, outcome.runs = outcome.kills + struck, outcome.runs + 1
            outcome.well += runs.well(run)
            cost += [(took - runs.seconds) / struck] if struck else []
            if not struck:  # it was too fast for that: the machine is less busy than it was
                runs.seconds = min(runs.seconds, took)
            shutil.rmtree(run.path)
            print(f"worker: {outcome.kills} kills, {outcome.well} of {outcome.runs} runs well", flush=True)
    finally:
        supervisor.close()
    outcome.cost = tuple(cost)
    return outcome


def kill_pages(runs: Runs, count: int, draw: random.Random) -> Outcome:
    """Kill the web process `count` times in the middle of a run, start it again, and ask for the run by its key."""
    outcome, cost, app = Outcome(), list[float](), start(runs.settings.data_dir)
    try:
        if runs.straight is None:
            runs.left_alone()
        while outcome.kills < count:
            key, run = runs.queue()
            begun, all_of_it = wait_for_start(run), outcome.kills % 2 == 1
            time.sleep(draw.uniform(0, runs.seconds * 0.9))
            struck = not run.over()
            kill(app, all_of_it)
            app = start(runs.settings.data_dir)
            told = followed(app, key)
            took = wait_for_end(run) - begun
            cost += [took - runs.seconds] if struck else []
            if not struck:
                runs.seconds = min(runs.seconds, took)
            outcome.kills, outcome.runs = outcome.kills + struck, outcome.runs + 1
            outcome.well += told == "finished" and runs.well(run) and begun_well(run, all_of_it)
            print(f"web: {outcome.kills} kills, {outcome.well} of {outcome.runs} runs well", flush=True)
    finally:
        app.end()
    outcome.cost = tuple(cost)
    return outcome


def kill(app: Served, all_of_it: bool) -> None:
    """kill -9 of the web process, with its worker or without."""
    for pid in children(app.process.pid) if all_of_it else ():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    app.process.kill()
    app.process.wait()


def begun_well(run: RunFolder, again: bool) -> bool:
    """Whether the run was begun once only, or once more after its worker was killed: two that train it at once would
    both say so."""
    begun = sum(isinstance(event, Started) for event in EventLog(run.path).new())
    if begun > 1 + again:
        print(f"{run.path.name}: begun {begun} times", flush=True)
    return begun <= 1 + again


def followed(app: Served, key: str) -> str:
    """What `status` says in the end of the run behind `key`, asked until it is over."""
    client, state, end = Client(app.url, verbose=False), "", time.monotonic() + _MOST_SECONDS
    while state not in ("finished", "failed") and time.monotonic() < end:
        state = str(client.predict(key, 5.0, api_name="/status")["state"])
    return state


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--worker", type=int, default=50)
    parser.add_argument("--web", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(f"{describe()}, seed {args.seed}")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        runs, draw = Runs(Path(scratch)), random.Random(args.seed)
        workers = kill_workers(runs, args.worker, draw)
        pages = kill_pages(runs, args.web, draw)
    print(f"\nA run left alone takes {runs.seconds:.1f} s.\n")
    print("| kill -9 of | kills | runs | ended once, same weights | seconds it cost (median / most) | holds |")
    print("|---|---|---|---|---|---|")
    lines = [workers.line("the worker", args.worker), pages.line("the web process", args.web)]
    print("\n".join(lines))
    raise SystemExit(any("**no**" in line for line in lines))


if __name__ == "__main__":
    main()
