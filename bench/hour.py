"""One visitor a minute for an hour, who uploads, trains, predicts and deletes what is theirs: what stays behind?

python -m bench.hour --minutes 60 --out hour.csv

Every half minute a line goes to the file, so that it can be looked at meanwhile; Ctrl-C ends it early and tells what
there is. Files that the page was sent are kept for two hours by default, here for five minutes.
"""

import argparse
import asyncio
import csv
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from playwright.async_api import async_playwright

from bench.machine import describe
from bench.served import Served, Visitor, children, memory, serving
from tests.browser import CHROMIUM, FLAGS

_EVERY = 30.0  # seconds between two samples
_WARM_UP = 15.0  # minutes that do not count: caches fill, and closed pages are kept ten and let go of every five
_HUES = 10  # that visitors differ by
_EACH = 12  # pictures of a class
_MOST_MB_AN_HOUR = 5.0


@dataclass(frozen=True)
class Sample:
    """What the app takes after so many minutes and visitors."""

    minutes: float
    visitors: int
    web_mb: float
    worker_mb: float
    web_files: int
    worker_files: int
    web_threads: int
    worker_threads: int
    processes: int
    kept_files: int
    kept_mb: float


def sample(app: Served, begun: float, visitors: int) -> Sample:
    web, worker = app.process.pid, next(iter(app.workers()), 0)
    names = (os.path.join(at, name) for at, _, files in os.walk(app.data) for name in files)  # rglob stops at what went
    kept = [size for name in names if (size := _size(name)) is not None]
    return Sample(
        minutes=round((time.monotonic() - begun) / 60, 2),
        visitors=visitors,
        web_mb=round(memory(web) / 1e6, 2),
        worker_mb=round(memory(worker) / 1e6, 2),
        web_files=_entries(web, "fd"),
        worker_files=_entries(worker, "fd"),
        web_threads=_entries(web, "task"),
        worker_threads=_entries(worker, "task"),
        processes=len(children(web)),
        kept_files=len(kept),
        kept_mb=round(sum(kept) / 1e6, 2),
    )


def _entries(pid: int, of: str) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/{of}"))
    except OSError:
        return 0


def _size(name: str) -> int | None:
    try:
        return os.stat(name).st_size
    except OSError:
        return None


class Hour:
    """Visitors and samples, as they come."""

    def __init__(self, app: Served, out: Path, folder: Path) -> None:
        self._app, self._out, self._folder = app, out, folder
        self._begun = time.monotonic()
        self.samples: list[Sample] = []
        self.came = 0
        self.unlucky: set[int] = set()

    async def pass_by(self, minutes: float) -> None:
        looking = asyncio.create_task(self._look())
        try:
            async with async_playwright() as playwright:
                chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
                while (since := time.monotonic() - self._begun) < 60 * minutes:
                    await self._come(chromium)
                    await asyncio.sleep(max(0.0, since + 60 - (time.monotonic() - self._begun)))
                await chromium.close()
        finally:
            looking.cancel()

    async def _come(self, chromium: object) -> None:
        """One visitor, from nothing to nothing."""
        context = await chromium.new_context(viewport={"width": 1280, "height": 900}, locale="en-US")  # type: ignore[attr-defined]
        visitor = Visitor(self.came % _HUES, _HUES, self._folder, await context.new_page(), patience=180)
        try:
            await visitor.upload(self._app.url, each=_EACH)
            await visitor.train()
            await visitor.try_one(self.came % 2)
            await visitor.forget()
        except Exception as error:  # one visitor's bad luck is counted, and the next one comes
            self._note(f"{type(error).__name__}: {error}"[:300])
        for strange in visitor.strange:
            self._note(strange)
        await context.close()
        self.came += 1

    def _note(self, problem: str) -> None:
        self.unlucky.add(self.came)
        print(f"visitor {self.came}: {problem}", flush=True)

    async def _look(self) -> None:
        with self._out.open("w", newline="") as file:
            table = csv.DictWriter(file, list(Sample.__dataclass_fields__))
            table.writeheader()
            while True:
                now = sample(self._app, self._begun, self.came)
                self.samples.append(now)
                table.writerow(asdict(now))
                file.flush()
                await asyncio.sleep(_EVERY)


def slope(samples: list[Sample], of: Callable[[Sample], float]) -> float:
    """By how much it grows in an hour, by least squares."""
    if len(samples) < 3:
        return float("nan")
    return float(np.polyfit([one.minutes / 60 for one in samples], [of(one) for one in samples], 1)[0])


def thirds(samples: list[Sample], of: Callable[[Sample], float]) -> tuple[float, float]:
    """Its median in the first and in the last third; files and processes come and go with every visitor."""
    part = max(1, len(samples) // 3)
    return statistics.median(map(of, samples[:part])), statistics.median(map(of, samples[-part:]))


def rows(hour: Hour) -> list[str]:
    counted = [one for one in hour.samples if one.minutes >= _WARM_UP] or hour.samples
    web, worker = slope(counted, lambda one: one.web_mb), slope(counted, lambda one: one.worker_mb)
    first, last = counted[0], counted[-1]
    found = [
        ("visitors who got to the end", f"{hour.came}", f"{hour.came - len(hour.unlucky)}", not hour.unlucky),
        (
            "memory of the web process",
            f"< {_MOST_MB_AN_HOUR:.0f} MB an hour",
            f"{web:+.1f} MB an hour ({first.web_mb:.0f} to {last.web_mb:.0f} MB)",
            web < _MOST_MB_AN_HOUR,
        ),
        ("memory of the worker", "told", f"{worker:+.1f} MB an hour (to {last.worker_mb:.0f} MB)", True),
    ]
    flat: list[tuple[str, Callable[[Sample], float], float]] = [
        ("open files of the web process", lambda one: one.web_files, 3),
        ("open files of the worker", lambda one: one.worker_files, 3),
        ("threads of the web process", lambda one: one.web_threads, 3),
        ("threads of the worker", lambda one: one.worker_threads, 3),
        ("processes", lambda one: one.processes, 1),
        ("files kept", lambda one: one.kept_files, 20),
        ("MB kept", lambda one: one.kept_mb, 5),
    ]
    for name, of, room in flat:
        one, two = thirds(counted, of)
        found.append((name, f"flat (+ {room:.0f} at most)", f"{one:.0f}, later {two:.0f}", two <= one + room))
    return [f"| {a} | {b} | {c} | {'yes' if holds else '**no**'} |" for a, b, c, holds in found]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--out", type=Path, default=Path("hour.csv"))
    args = parser.parse_args()
    print(describe(), flush=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        with serving(folder / "data", TL_UPLOAD_MINUTES="5") as app:
            hour = Hour(app, args.out, folder)
            try:
                asyncio.run(hour.pass_by(args.minutes))
            except KeyboardInterrupt:
                print("ended early")
            told = rows(hour)
    print("\n| asked | bound | got | holds |\n|---|---|---|---|")
    print("\n".join(told))
    raise SystemExit(any("**no**" in line for line in told))


if __name__ == "__main__":
    main()
