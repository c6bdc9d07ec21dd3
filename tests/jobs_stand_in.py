"""Hugging Face Jobs on top of the Hub's stand-in: a job is a generator of log lines here, or really runs its command.

`work` is called with each job in a thread of its own and yields its log; what it raises is the job's status message.
`breaks` and `refusals` disturb the reading of logs: one entry is used up by each request for them.
"""

import itertools
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.hub_stand_in import USERS, Handler, StandIn, serve

FLAVORS = ("cpu-basic", "t4-small", "l4x1", "l4x4", "a10g-small", "a10g-largex2", "a100x8", "h200x2")


class JobFailedError(Exception):
    """A job ends with this as its status message."""


@dataclass
class Job:
    """One job: what was asked for, what it wrote and where it stands."""

    id: str
    namespace: str
    spec: dict[str, Any]
    lines: list[str] = field(default_factory=list)
    stage: str = "RUNNING"
    message: str | None = None
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def over(self) -> bool:
        return self.stage != "RUNNING"

    def say(self, line: str) -> None:
        with self.changed:
            self.lines.append(line)
            self.changed.notify_all()

    def end(self, stage: str, message: str | None = None) -> None:
        with self.changed:
            if not self.over:
                self.stage, self.message = stage, message
            self.changed.notify_all()

    def line(self, number: int) -> str | None:
        """A line of the log, once it is written; None when the job ended before that."""
        with self.changed:
            self.changed.wait_for(lambda: self.over or len(self.lines) > number, timeout=60)
            return self.lines[number] if len(self.lines) > number else None

    def wait_until_over(self) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.over, timeout=60)

    def record(self) -> dict[str, Any]:
        shown = {key: value for key, value in self.spec.items() if key != "secrets"}
        status = {"stage": self.stage, "message": self.message}
        owner = {"id": "1", "name": self.namespace, "type": "user"}
        return {"id": self.id, "createdAt": "2026-01-01T00:00:00.000Z", **shown, "status": status, "owner": owner}


@dataclass
class JobsStandIn(StandIn):
    jobs: list[Job] = field(default_factory=list)
    work: Callable[["JobsStandIn", Job], Iterator[str]] | None = None
    breaks: list[int] = field(default_factory=list)  # drop the connection after so many lines
    refusals: list[int] = field(default_factory=list)  # answer with this status; 0 does not
    start_status: int = 200
    unreachable: bool = False  # every connection ends without an answer

    def run(self, job: Job) -> None:
        assert self.work is not None
        try:
            for line in self.work(self, job):
                job.say(line)
        except JobFailedError as error:
            job.end("ERROR", str(error))
        else:
            job.end("COMPLETED")

    def files(self, namespace: str = "alice") -> dict[str, bytes]:
        """What is in the dataset of runs now."""
        return self.repos[f"datasets/{namespace}/transfer-lab-jobs"].files


class JobsHandler(Handler):
    hub: JobsStandIn

    def respond(self) -> None:
        if self.hub.unreachable:
            self.close_connection = True
            return None
        path = self.path.split("?")[0]
        if not path.startswith("/api/jobs/"):
            return super().respond()
        body, token = self.body(), (self.headers.get("authorization") or "").removeprefix("Bearer ")
        self.hub.requests.append((self.command, path, token))
        if path == "/api/jobs/hardware":
            price = {"unitCostMicroUSD": 1, "unitCostUSD": 0.000001, "unitLabel": "minute"}
            return self.answer(200, [{"name": n, "prettyName": n, "cpu": "1", "ram": "1", **price} for n in FLAVORS])
        namespace, _, rest = path.removeprefix("/api/jobs/").partition("/")
        if USERS.get(token) != namespace:
            return self.answer(403, {"error": "no"})
        if self.command == "POST" and not rest:
            return self.start(namespace, json.loads(body))
        number, _, action = rest.partition("/")
        job = next(job for job in self.hub.jobs if job.id == number)
        if action == "logs":
            return self.logs(job)
        if action == "cancel":
            job.end("CANCELED", "Job was canceled")
        return self.answer(200, job.record())

    do_GET = do_POST = do_PUT = do_HEAD = respond

    def start(self, namespace: str, spec: dict[str, Any]) -> None:
        if self.hub.start_status != 200:
            return self.answer(self.hub.start_status, {"error": "Payment required"})
        job = Job(f"{len(self.hub.jobs):024x}", namespace, spec)
        self.hub.jobs.append(job)
        threading.Thread(target=self.hub.run, args=(job,), daemon=True).start()
        return self.answer(200, job.record())

    def logs(self, job: Job) -> None:
        """Server-sent events until the job is over, from the log's beginning, as the Hub sends them."""
        if self.hub.refusals and (status := self.hub.refusals.pop(0)):
            return self.answer(status, {"error": "busy"})
        limit = self.hub.breaks.pop(0) if self.hub.breaks else None
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.chunk("===== Job started at 2026-01-01 00:00:00 =====")
        for number in itertools.count():
            if number == limit:
                self.close_connection = True  # in the middle of the transfer
                return None
            if (line := job.line(number)) is None:
                self.wfile.write(b"0\r\n\r\n")
                return None
            self.chunk(line)
        return None

    def chunk(self, line: str) -> None:
        event = {"data": line, "timestamp": "2026-01-01T00:00:00.000Z"}
        data = f"data: {json.dumps(event)}\n\n".encode()
        try:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        except OSError:  # the reader has gone
            self.close_connection = True


def serve_jobs() -> tuple[JobsStandIn, ThreadingHTTPServer]:
    hub = JobsStandIn()
    _, server = serve(hub, JobsHandler)
    return hub, server


def run_here(job: Job, folder: Path) -> Iterator[str]:
    """Run the job's own command on this machine, beside nothing of the project; only pip is not the real one."""
    commands, home = folder / "bin", folder / "home"
    for made in (commands, home):
        made.mkdir()
    programs = {
        "python": f'exec "{sys.executable}" "$@"',
        "hf": f'exec "{Path(sys.executable).with_name("hf")}" "$@"',
        "pip": f'(echo "$@"; for file; do [ ! -f "$file" ] || cat "$file"; done) >> "{folder}/pip.txt"',
    }
    for name, script in programs.items():
        (commands / name).write_text(f"#!/bin/bash\n{script}\n")
        (commands / name).chmod(0o755)
    environment = {
        "PATH": f"{commands}:/usr/bin:/bin",
        "HOME": str(home),
        "TMPDIR": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "PYTHONWARNINGS": os.environ.get("PYTHONWARNINGS", ""),
        **job.spec["environment"],
        **job.spec["secrets"],
    }
    process = subprocess.Popen(
        job.spec["command"], cwd=home, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        yield line.rstrip("\n")
    if status := process.wait():
        raise JobFailedError(f"Job failed with exit code: {status}")


def run_of(hub: JobsStandIn) -> str:
    """The folder of the latest run."""
    found = re.search(r"cd (\d{8}-\d{6}-[0-9a-f]{8}) ", hub.jobs[-1].spec["command"][2])
    assert found is not None
    return found[1]
