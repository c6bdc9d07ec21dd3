"""Several machines, two of which are lost: web processes that share one PostgreSQL, and a Ray cluster of two nodes.

python -m bench.cluster

Forty runs of eight people, asked for through two web processes. In the middle one node of the cluster is killed with
all that runs on it, later one of the web processes with its dispatcher: kill -9, as when a machine loses its power.
Each run must end once, with the weights of the same run left alone, and nobody's turn may come early.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors.torch import load_file

from bench.machine import describe
from tests.postgres import serving
from tests.test_cluster import cluster_of
from tests.test_resume import drawn, plan_of, settled_like
from tl_core.bundle.bundle import load as load_bundle
from tl_core.data.imageset import ImageSet
from tl_core.data.intake import prepare
from tl_core.data.understand import load
from tl_core.events import Failed, Finished, Started
from tl_core.jobs.recovery import job_of
from tl_core.jobs.runs import EventLog, Request, RunFolder, new_key
from tl_core.jobs.store import Store
from tl_core.jobs.worker import take
from tl_core.settings import Settings

_MOST_SECONDS = 1200.0
_PAGE = """
import json, os, sys, time
from dataclasses import replace
from tl_core.jobs.ray_driver import RayDispatcher
from tl_core.jobs.store import Store
from tl_core.settings import Settings
settings = replace(Settings.from_json(json.loads(sys.argv[1])), database_url=os.environ["TL_DATABASE_URL"])
dispatcher = RayDispatcher(settings, Store(settings))
dispatcher.start()
sys.stdin.read()
dispatcher.close()
"""


class Page:
    """What a web process is to the cluster: its dispatcher."""

    def __init__(self, settings: Settings) -> None:
        environment = {**os.environ, "TL_DATABASE_URL": settings.database_url}
        command = [sys.executable, "-c", _PAGE, json.dumps(settings.to_json())]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, start_new_session=True)

    def kill(self) -> None:
        """As when its machine loses power: the dispatcher dies with it."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        if self._process.poll() is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(timeout=30)


@dataclass
class Watched:
    """What the queue showed while the runs went through."""

    owners: dict[str, str]
    begun: list[str] = field(default_factory=list)
    moments: dict[str, float] = field(default_factory=dict)

    def look(self, store: Store) -> int:
        """Look once; how many are over."""
        jobs = store.all()
        for job in jobs:
            if job.state == "running" and job.id not in self.begun:
                self.begun.append(job.id)
        return sum(job.state == "over" for job in jobs)

    def lead(self, begun: int) -> int:
        """Among the first `begun` runs: by how many any owner was ever ahead of one who waited."""
        counts, most = Counter(dict.fromkeys(self.owners.values(), 0)), 0
        for id in self.begun[:begun]:
            counts[self.owners[id]] += 1
            most = max(most, max(counts.values()) - min(counts.values()))
        return most


def kill_node(node: Any) -> int:
    """Kill a node of the cluster with everything on it; how many processes that were."""
    parents = [psutil.Process(info.process.pid) for infos in node.all_processes.values() for info in infos]
    everything = {process for parent in parents for process in (parent, *parent.children(recursive=True))}
    for process in everything:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    return len(everything)


def ask(settings: Settings, images: ImageSet, straight: RunFolder, owners: int, each: int) -> dict[str, str]:
    """Everybody asks for all their runs at once, through one process or the other; whose each is."""
    stores, asked = [Store(settings), Store(settings)], {}
    for owner in range(owners):
        for number in range(each):
            request = Request(str(images.folder), plan_of(images, settings), owner=f"owner{owner}")
            run = RunFolder.create(settings, new_key(), request)
            settled_like(straight.path, run.path)
            job = job_of(run)
            assert job is not None
            stores[(owner + number) % 2].submit(job)
            asked[job.id] = job.owner
    for store in stores:
        store.close()
    return asked


def go(settings: Settings, store: Store, cluster: Any, asked: dict[str, str]) -> Watched:
    """Let the runs go through, with the two accidents in between."""
    pages, watched, started = [Page(settings), Page(settings)], Watched(asked), time.monotonic()
    accidents = {
        len(asked) // 4: ("node", lambda: kill_node(cluster.worker_nodes.copy().pop())),
        len(asked) // 2: ("page", pages[0].kill),
    }
    try:
        while (over := watched.look(store)) < len(asked):
            seconds = time.monotonic() - started
            if seconds > _MOST_SECONDS:
                print(f"not over after {seconds:.0f} s")
                break
            for when, (name, strike) in list(accidents.items()):
                busy = pages[0]._process.pid if name == "node" else bool(store.running())
                if over >= when and busy:
                    del accidents[when]
                    strike()
                    watched.moments[name] = seconds
                    watched.moments[f"{name} begun"] = len(watched.begun)
                    print(f"{seconds:.0f} s: {over} over, {len(store.running())} running; {name} killed", flush=True)
            time.sleep(0.1)
        watched.moments["all"] = time.monotonic() - started
    finally:
        for page in pages:
            page.close()
    return watched


def tell(settings: Settings, straight: RunFolder, watched: Watched) -> bool:
    """Print what came out; whether it is as it must be."""
    done = doubled = lost = again = other = 0
    wanted = load_file(straight.path / "bundle" / "model.safetensors")
    for id in watched.owners:
        run = RunFolder(settings.runs_dir / id)
        events = EventLog(run.path).new()
        ends = [event for event in events if isinstance(event, Finished | Failed)]
        doubled, lost = doubled + (len(ends) > 1), lost + (not any(isinstance(event, Finished) for event in ends))
        again += sum(isinstance(event, Started) for event in events) > 1
        if len(ends) == 1 and isinstance(ends[0], Finished):
            done += 1
            load_bundle(run.path / "bundle")
            found = load_file(run.path / "bundle" / "model.safetensors")
            other += not all(torch.equal(found[name], wanted[name]) for name in wanted)
    quiet = watched.lead(round(watched.moments.get("node begun", 0)))
    print(
        "\n| runs | done once | twice | lost | begun again | other weights | seconds | ahead, before / ever | holds |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    holds = done == len(watched.owners) and not doubled + lost + other and quiet <= 1 and again > 0
    print(
        f"| {len(watched.owners)} | {done} | {doubled} | {lost} | {again} | {other} | {watched.moments['all']:.0f} "
        f"| {quiet} / {watched.lead(len(watched.begun))} | {'yes' if holds else '**no**'} |"
    )
    return holds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--owners", type=int, default=8)
    parser.add_argument("--each", type=int, default=5, help="runs of an owner")
    args = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory() as scratch, serving() as server, cluster_of(2) as cluster:
        folder = Path(scratch)
        settings = Settings(
            data_dir=folder / "data",
            free_disk_reserve=0,
            database_url=server.fresh(),
            ray_address=cluster.address,
            ray_cpus=1,
            max_waiting_per_owner=args.each,
            max_waiting=args.owners * args.each,
        )
        for _ in prepare(drawn(folder / "sides.zip", range(60)), folder / "set", settings):
            pass
        images = load(folder / "set")
        straight = RunFolder.create(settings, new_key(), Request(str(images.folder), plan_of(images, settings)))
        take(straight, replace(settings, database_url=""))
        store = Store(settings)
        asked = ask(settings, images, straight, args.owners, args.each)
        watched = go(settings, store, cluster, asked)
        store.close()
        holds = tell(settings, straight, watched)
    raise SystemExit(not holds)


if __name__ == "__main__":
    main()
