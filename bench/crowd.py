"""Many at once, from a second process: ten people who each upload, train and predict in a browser of their own, and
fifty pages that follow a training.

python -m bench.crowd --people 10 --pages 50 --seconds 60
"""

import argparse
import asyncio
import json
import re
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from playwright.async_api import async_playwright

from bench.machine import describe
from bench.served import Served, Visitor, processor_seconds, serving
from tests.browser import CHROMIUM, FLAGS
from tl_core.data.understand import load
from tl_core.events import Finished, Progress
from tl_core.jobs.recovery import job_of
from tl_core.jobs.runs import EventLog, Request, RunFolder, new_key
from tl_core.jobs.store import Store
from tl_core.models.catalogue import EMBEDDED
from tl_core.settings import Settings
from tl_core.training.plan import Facts, Machine, Wishes, make_plan

_EACH = 25  # pictures of a class
_TICKS = 9_999  # a number that stands nowhere else on the page
_TICK = re.compile(rf"\b(\d+) / {_TICKS}\b")
_NOBODYS = "A" * 22  # a key of the right form


def share(values: list[float], part: float) -> float:
    """The value that `part` of them are not above."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))] if values else float("inf")


class Prober:
    """Asks for the page and for a light event every half second; a thread of its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._probe)
        self.page: list[float] = []
        self.event: list[float] = []
        self.refused = 0

    def __enter__(self) -> "Prober":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _probe(self) -> None:
        with httpx.Client(base_url=self._url, trust_env=False, timeout=60) as client:
            while not self._over.wait(0.5):
                for asked, times in ((self._ask_page, self.page), (self._ask_event, self.event)):
                    begun = time.monotonic()
                    try:
                        asked(client)
                    except httpx.HTTPError:
                        self.refused += 1
                    times.append(time.monotonic() - begun)

    def _ask_page(self, client: httpx.Client) -> None:
        client.get("/").raise_for_status()

    def _ask_event(self, client: httpx.Client) -> None:
        """`status` of a run that there is not: a handler is run, and an error comes back."""
        joined = client.post("/gradio_api/call/status", json={"data": [_NOBODYS, 0]})
        client.get(f"/gradio_api/call/status/{joined.raise_for_status().json()['event_id']}").raise_for_status()


async def people(app: Served, count: int, folder: Path) -> tuple[list[Visitor], list[BaseException]]:
    """So many visitors at once, each to the end or to what went wrong."""
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        visitors = []
        for number in range(count):
            context = await chromium.new_context(viewport={"width": 1280, "height": 900}, locale="en-US")
            visitors.append(Visitor(number, count, folder, await context.new_page()))

        async def come(visitor: Visitor) -> None:
            await visitor.upload(app.url, each=_EACH)
            await visitor.train()
            await visitor.try_one(visitor.number % 2)

        ends = await asyncio.gather(*map(come, visitors), return_exceptions=True)
        await chromium.close()
    return visitors, [end for end in ends if isinstance(end, BaseException)]


@dataclass
class Page:
    """An open page without a browser: its own session and cookie, and when it heard what."""

    client: httpx.AsyncClient
    session: str
    heard: dict[int, float] = field(default_factory=dict)
    told: int = 0
    over: bool = False

    async def stay(self) -> None:
        """Load the page and hold the connection that a browser holds."""
        (await self.client.get("/")).raise_for_status()
        async with self.client.stream("GET", f"/gradio_api/heartbeat/{self.session}") as lines:
            async for _ in lines.aiter_lines():
                pass

    async def follow(self, function: int, key: str) -> None:
        """Follow the run behind `key` until the server says it is over."""
        asked = {"data": [{"run": key}], "fn_index": function, "session_hash": self.session, "trigger_id": None}
        (await self.client.post("/gradio_api/queue/join", json=asked)).raise_for_status()
        async with self.client.stream("GET", f"/gradio_api/queue/data?session_hash={self.session}") as lines:
            async for line in lines.aiter_lines():
                now = time.monotonic()
                if not line.startswith("data:"):
                    continue
                message = json.loads(line[5:])
                for number in _TICK.findall(line):
                    self.told += int(number) not in self.heard
                    self.heard.setdefault(int(number), now)
                if message["msg"] == "process_completed":
                    self.over = bool(message["success"])
                    return


async def tried(page: Page, function: int, key: str) -> None:
    """Follow, or be one that was not told the end."""
    try:
        await page.follow(function, key)
    except httpx.HTTPError as error:
        print(f"{page.session}: {error}")


async def function_of_follow(client: httpx.AsyncClient) -> int:
    """The number of the page's event that follows a training: from the memory to the progress, among others."""
    config = (await client.get("/config")).json()
    progress = next(c["id"] for c in config["components"] if c["props"].get("elem_id") == "progress")
    follows = (d for d in config["dependencies"] if progress in d["outputs"] and len(d["inputs"]) == 1)
    return int(next(follows)["id"])


@dataclass(frozen=True)
class Followed:
    """What so many open pages cost and heard."""

    idle: float
    latencies: list[float]
    lost: int
    a_second: float
    ended: int


async def pages(app: Served, count: int, seconds: int) -> Followed:
    """So many pages: doing nothing, then all following one run that says something every second, while the trainer
    has another one to train."""
    settings = Settings(data_dir=app.data)
    limits = httpx.Limits(max_connections=None)
    async with asyncio.TaskGroup() as group:
        made = [
            Page(httpx.AsyncClient(base_url=app.url, trust_env=False, timeout=None, limits=limits), f"page{number:08}")
            for number in range(count)
        ]
        staying = [group.create_task(page.stay()) for page in made]
        function = await function_of_follow(made[0].client)
        await asyncio.sleep(10)
        idle, begun = processor_seconds(app.process.pid), time.monotonic()
        await asyncio.sleep(20)
        idle = (processor_seconds(app.process.pid) - idle) / (time.monotonic() - begun)

        busy, key = train_meanwhile(settings), new_key()
        run = RunFolder.create(settings, key, busy.request())
        following = [group.create_task(tried(page, function, key)) for page in made]
        await asyncio.sleep(5)
        said: dict[int, float] = {}
        for number in range(1, seconds + 1):
            said[number] = time.monotonic()
            EventLog(run.path).append(Progress("features", number, _TICKS))
            await asyncio.sleep(1)
        EventLog(run.path).append(Finished("", 1.0, "completed", {}))
        await asyncio.wait(following, timeout=30)
        busy.ask_to_stop()
        for task in (*staying, *following):
            task.cancel()
    for page in made:
        await page.client.aclose()
    latencies = [at - said[number] for page in made for number, at in page.heard.items()]
    lost = count * seconds - len(latencies)
    return Followed(idle, latencies, lost, sum(page.told for page in made) / seconds, sum(page.over for page in made))


def train_meanwhile(settings: Settings) -> RunFolder:
    """A long run for the trainer, on the pictures of whoever came first."""
    images = load(next(settings.sets_dir.glob("*/set/reading.json")).parent)
    wishes = Wishes(strategy="all", epochs=400, image_size=64)
    plan = make_plan(wishes, Facts.of(images), local=[EMBEDDED], machine=Machine(settings))
    run = RunFolder.create(settings, new_key(), Request(str(images.folder), plan, owner="busy"))
    job, store = job_of(run), Store(settings)
    assert job is not None
    store.submit(job)
    store.close()
    return run


def row(asked: str, bound: str, got: str, holds: bool) -> str:
    return f"| {asked} | {bound} | {got} | {'yes' if holds else '**no**'} |"


def timed(seconds: list[float]) -> str:
    middle, most = (share(seconds, part) for part in (0.5, 1.0))
    return f"{share(seconds, 0.95):.2f} s (median {middle:.2f}, most {most:.2f}, of {len(seconds)})"


def crowd_rows(visitors: list[Visitor], failed: list[BaseException], probed: Prober, seconds: float) -> list[str]:
    for problem in (*failed, *(f"{v.number}: {strange}" for v in visitors for strange in v.strange)):
        print(f"{type(problem).__name__} {problem}"[:400])
    count, strange = len(visitors), sum(len(visitor.strange) for visitor in visitors)
    fall = [all(a >= b for a, b in zip(v.places, v.places[1:], strict=False)) for v in visitors]
    first = max((v.places[0] for v in visitors if v.places), default=0)
    page, event = share(probed.page, 0.95), share(probed.event, 0.95)
    asked = len(probed.page) + len(probed.event)
    return [
        row(f"{count} people finish", f"{count}", f"{count - len(failed)} in {seconds:.0f} s", not failed),
        row("names and pictures of others", "0", f"{strange}", strange == 0),
        row("places in the queue only fall", f"{count}", f"{sum(fall)} (the first up to {first})", all(fall)),
        row("the page meanwhile, p95", "< 1 s", timed(probed.page), page < 1),
        row("a light event meanwhile, p95", "< 1 s", timed(probed.event), event < 1),
        row("of these refused", "0", f"{probed.refused} of {asked}", probed.refused == 0),
    ]


def page_rows(count: int, followed: Followed) -> list[str]:
    p95 = share(followed.latencies, 0.95)
    return [
        row(f"status events to {count} pages, p95", "< 3 s", timed(followed.latencies), p95 < 3),
        row("status events a second", "≥ 20", f"{followed.a_second:.0f}", followed.a_second >= 20),
        row("of these lost", "0", f"{followed.lost}", followed.lost == 0),
        row("pages told the end", f"{count}", f"{followed.ended}", followed.ended == count),
        row(
            f"{count} pages, nothing going on", "< 20 % of a core", f"{100 * followed.idle:.0f} %", followed.idle < 0.2
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--people", type=int, default=10)
    parser.add_argument("--pages", type=int, default=50)
    parser.add_argument("--seconds", type=int, default=60)
    args = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        with serving(folder / "data") as app:
            begun = time.monotonic()
            with Prober(app.url) as probed:
                visitors, failed = asyncio.run(people(app, args.people, folder))
            rows = crowd_rows(visitors, failed, probed, time.monotonic() - begun)
            rows += page_rows(args.pages, asyncio.run(pages(app, args.pages, args.seconds)))
    print("\n| asked | bound | got | holds |\n|---|---|---|---|")
    print("\n".join(rows))
    raise SystemExit(any("**no**" in line for line in rows))


if __name__ == "__main__":
    main()
