"""The real app in a process of its own, its visitors in a real browser, and what its processes take."""

import colorsys
import contextlib
import os
import random
import re
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import ImageOps

from examples.make_data import draw_shape
from tests.conftest import encode

ROOT = Path(__file__).parents[1]
_SHAPES = ("star", "circle")
_AHEAD = re.compile(r"Waiting: (\d+) training")
# Of every picture in an element its mean colour.
_HUES = """element => Promise.all([...element.querySelectorAll('img')].map(async img => {
  await img.decode();
  const canvas = Object.assign(document.createElement('canvas'), { width: 1, height: 1 });
  const pen = canvas.getContext('2d');
  pen.imageSmoothingQuality = 'high';
  pen.drawImage(img, 0, 0, 1, 1);
  return [...pen.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}))"""


@dataclass
class Served:
    """Where the app is, where it keeps things, what it says, and its process."""

    url: str
    data: Path
    log: Path
    process: "subprocess.Popen[bytes]"

    def workers(self) -> list[int]:
        """Process ids of its training workers."""
        return [pid for pid in children(self.process.pid) if b"tl_core.jobs.worker" in command(pid)]

    def end(self) -> None:
        """End it as a host of containers does."""
        self.process.terminate()
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.process.kill()


def start(data: Path, **more: str) -> Served:
    """The app on a free port, up."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    nowhere = "http://127.0.0.1:9"  # no network, and no weights but those in the package
    away = {"HF_ENDPOINT": nowhere, "HF_HOME": f"{data}.hf", "TORCH_HOME": f"{data}.torch"}
    kept = {"TL_DATA_DIR": str(data), "TL_LOG": "INFO", "NO_PROXY": "127.0.0.1", "GRADIO_ANALYTICS_ENABLED": "False"}
    environment = {**os.environ, **kept, **away, **more}
    log = data.with_name(f"{data.name}.log")
    with log.open("ab") as out:
        command = [sys.executable, "app.py", "--port", str(port)]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}/"
    while True:
        try:
            urllib.request.urlopen(f"{url}healthz", timeout=2).close()
            return Served(url, data, log, process)
        except OSError as error:
            if process.poll() is not None:
                raise SystemExit(log.read_text()) from error
            time.sleep(0.1)


@contextlib.contextmanager
def serving(data: Path, **more: str) -> Iterator[Served]:
    """The app, ended afterwards."""
    app = start(data, **more)
    try:
        yield app
    finally:
        app.end()


@dataclass
class Visitor:
    """The `number`-th of `of` people: two classes with names and colours that nobody else has, and a page.

    `strange` is what they saw that was not theirs, `places` their places in the queue as the page told them.
    """

    number: int
    of: int
    folder: Path
    page: Any
    patience: float = 600  # seconds that they wait for anything
    strange: list[str] = field(default_factory=list)
    places: list[int] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [f"{shape}s of visitor {self.number}x" for shape in _SHAPES]

    @property
    def hues(self) -> list[float]:
        return [self.number / self.of / 2, 0.5 + self.number / self.of / 2]

    def picture(self, which: int, seed: int) -> bytes:
        """A drawn picture of their class `which`, in its colour."""
        drawn = draw_shape(_SHAPES[which], random.Random(f"{self.number} {which} {seed}"))
        dark, light = (_colour(self.hues[which], *rest) for rest in ((0.9, 0.35), (0.6, 0.95)))
        return encode(ImageOps.colorize(drawn.convert("L"), dark, light), "jpg", quality=90)

    async def upload(self, url: str, *, each: int) -> None:
        """Open the page and give it a zip."""
        file = self.folder / f"visitor {self.number}.zip"
        with zipfile.ZipFile(file, "w") as archive:
            for which, name in enumerate(self.names):
                for seed in range(each):
                    archive.writestr(f"{name}/{seed:03}.jpg", self.picture(which, seed))
        self.page.set_default_timeout(1000 * self.patience)
        await self.page.goto(url)
        await self.page.wait_for_selector("#upload input[type=file]", state="attached")
        await self.page.set_input_files("#upload input[type=file]", str(file))
        await self.page.wait_for_selector("#to-train:visible")
        await self.page.wait_for_selector("#understood .tl-cards img")
        await self._look("#understood", least=2)

    async def train(self) -> None:
        """From pictures that were read to a result, looking at their place in the queue all the time."""
        await self.page.click("#to-train")
        await self.page.wait_for_selector("#estimate:has-text('on this computer')")
        await self.page.click("#start")
        end = time.monotonic() + self.patience
        while not await self.page.is_visible("#to-results"):
            if time.monotonic() > end:
                raise TimeoutError(f"visitor {self.number} waits for training")
            told = await self.page.text_content("#progress") or ""
            if (ahead := _AHEAD.search(told)) is not None:
                self.places.append(int(ahead[1]))
            await self.page.wait_for_timeout(300)
        await self.page.click("#to-results")
        await self.page.wait_for_selector(".tl-headline")

    async def try_one(self, which: int) -> None:
        """Ask about a picture of theirs that the model has not seen."""
        file = self.folder / f"new {self.number}.jpg"
        file.write_bytes(self.picture(which, 1_000))
        await self.page.click("#to-use")
        await self.page.set_input_files("#one-upload input[type=file]", str(file))
        await self.page.wait_for_selector("#one-answer")
        await self.page.wait_for_selector("#one-likes", state="attached")  # under a fold
        await self._look("#one-likes", least=1)
        await self._look("#one-picture", least=1, named=False)
        if self.names[which] not in (await self.page.text_content("#one-answer") or ""):
            self.strange.append("another answer")

    async def forget(self) -> None:
        """Delete everything of theirs."""
        await self.page.click("#your-data button")
        for act in ("ask", "delete"):
            await self.page.click(f"#your-data-list [data-act={act}]")
        await self.page.wait_for_selector("#your-data-list:has-text('has been deleted')")

    async def _look(self, part: str, *, least: int, named: bool = True) -> None:
        """Note what a part of the page shows that is not theirs."""
        told = await self.page.text_content(part) or ""
        said = set(re.findall(r"visitor (\d+)x", told))
        self.strange += [f"{part} names those of visitor {other}" for other in said - {str(self.number)}]
        if named and str(self.number) not in said:
            self.strange.append(f"{part} does not name theirs")
        shown = await self.page.eval_on_selector(part, _HUES)
        self.strange += [f"{part} shows {colour}" for colour in shown if not self._mine(colour)]
        if len(shown) < least:
            self.strange.append(f"{part} shows {len(shown)} pictures")

    def _mine(self, colour: Sequence[int]) -> bool:
        """Whether a colour is nearer to theirs than to anybody's."""
        hue = colorsys.rgb_to_hsv(*(value / 255 for value in colour))[0]
        away = [abs(hue - own) for own in self.hues]
        return min(min(one, 1 - one) for one in away) < 0.25 / self.of


def _colour(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue


def children(pid: int) -> list[int]:
    """Process ids of all that descend from a process."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                found += [child, *children(child)]
    return found


def memory(pid: int, kind: str = "VmRSS") -> int:
    """Bytes that a process has in memory, or had at most (VmHWM); 0 when it is gone."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith(kind)).split()[1])
    return 0


def processor_seconds(pid: int) -> float:
    """Seconds of processor time that a process has taken; 0 when it is gone."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
