"""Reading uploads: against two bare processes that only decode and resize, and at the largest size allowed.

    python -m bench.intake [speed] [size]

speed: `prepare` on hymenoptera's JPEGs and on made-up photos of 12 megapixels, beside two processes that do nothing
but decode each file with the decoder of ours and resize it as ours does, interleaved, medians. "with start" counts
processes and imports on both sides; "without" is from the first picture to the finished set on ours, from the first to
the last on theirs.

size: 20,000 made-up photos of about 100 KB in one zip; seconds, the memory that only the parent and only the child hold
(RssAnon) on the way, and how long a cancelled reading takes to end. Needs 12 GB of disk.
"""

import contextlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image

from tl_core.data.imageset import RGB
from tl_core.events import Event, Progress
from tl_core.settings import Settings

ROUNDS, PROCESSES = 9, 2
PHONE = 96  # pictures of 12 megapixels
DATA = Path(__file__).parents[2] / "shared" / "data"
COUNT, CLASSES, BASES = 20_000, 20, 100


def bare(source: Path, share: int) -> None:
    """In a process of its own: decode and resize every second file, say the seconds."""
    settings = Settings()
    short, long = settings.stored_short_side, settings.stored_long_side
    with zipfile.ZipFile(source) as archive:
        names = [entry for entry in archive.infolist() if not entry.is_dir()]
        files = [archive.read(name) for name in names[share::PROCESSES]]
    started = time.monotonic()
    for data in files:
        pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=short, min_width=short)
        height, width = pixels.shape[:2]
        if (scale := min(short / min(height, width), long / max(height, width))) < 1:
            size = (round(width * scale), round(height * scale))
            np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))
    print(time.monotonic() - started)


def processor() -> float:
    """Seconds that processors have worked for this process and its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(side.ru_utime + side.ru_stime for side in used)


def bare_processes(source: Path) -> tuple[float, float, float]:
    """Seconds of the two together: with start, without, of the processor."""
    started, before = time.monotonic(), processor()
    command = [sys.executable, "-m", "bench.intake", "bare", str(source)]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen([*command, str(share)], stdout=subprocess.PIPE, env=environment) for share in range(PROCESSES)
    ]
    inside = [float(process.communicate()[0]) for process in running]
    return time.monotonic() - started, max(inside), processor() - before


def ours(source: Path, work: Path, settings: Settings) -> tuple[float, float, float]:
    """Seconds of `prepare`: with start, from the first picture on, of the processor."""
    from tl_core.data.intake import prepare  # the bare processes start without it

    started, before, first = time.monotonic(), processor(), None
    for event in prepare(source, work, settings):
        if first is None and isinstance(event, Progress):
            first = time.monotonic()
    assert first is not None
    now = time.monotonic()
    return now - started, now - first, processor() - before


def speed(scratch: Path) -> None:
    settings = Settings(data_dir=scratch / "data")
    phone = scratch / "phone.zip"
    with zipfile.ZipFile(phone, "w") as archive:
        for i, picture in enumerate(photos(8, (4_000, 3_000))):
            for copy in range(PHONE // 8):
                archive.writestr(f"{copy % 2}/{i}-{copy}.jpg", _jpeg(np.roll(picture, 97 * copy, axis=(0, 1))))
    for source in (DATA / "hymenoptera.zip", phone):
        compare(source, scratch, settings)


def compare(source: Path, scratch: Path, settings: Settings) -> None:
    with zipfile.ZipFile(source) as archive:
        count = sum(not entry.is_dir() for entry in archive.infolist())
    rounds = [(ours(source, scratch / "set", settings), bare_processes(source)) for _ in range(ROUNDS)]
    print(f"{source.name}, {count} JPEGs, medians of {ROUNDS}:")
    for i, name in enumerate(("with start", "without start", "of the processor, with start")):
        mine, theirs = (statistics.median(r[side][i] for r in rounds) for side in (0, 1))
        ratio = statistics.median(r[1][i] / r[0][i] for r in rounds)
        print(f"  {name}: ours {mine:.2f} s, bare {theirs:.2f} s; throughput {ratio:.2f} of bare")


def photos(count: int, size: tuple[int, int]) -> list[RGB]:
    """Photo-like pictures, (height, width, 3), of `size` (width, height)."""
    rng, made = np.random.default_rng(0), []
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize(size, 3)
        grain = rng.normal(0, 11, (size[1], size[0], 1))
        made.append((np.asarray(coarse) + grain).clip(0, 255).astype(np.uint8))
    return made


def _jpeg(pixels: RGB) -> bytes:
    data: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=88, colorsubsampling="420")
    return data


def made_up(path: Path) -> None:
    """A zip of `COUNT` different photo-like JPEGs in `CLASSES` folders."""
    rng = np.random.default_rng(0)
    bases = photos(BASES, (640, 480))
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(COUNT):
            shifted = np.roll(bases[i % BASES], rng.integers(0, 640, 2), axis=(0, 1))
            archive.writestr(f"class {i % CLASSES}/{i:05}.jpg", _jpeg(shifted))


def anonymous(process: int) -> float:
    """MB that only this process holds; 0 when it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                return int(line.split()[1]) / 1024
    return 0.0


def child() -> int:
    """Process id of this process's decoding child, or 0."""
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            for name in (task / "children").read_text().split():
                if b"decoder_process" in Path(f"/proc/{name}/cmdline").read_bytes():
                    return int(name)
    return 0


def watched(events: Iterator[Event]) -> Iterator[tuple[float, float, float]]:
    """(share done, the parent's MB, the child's MB) at every progress event."""
    for event in events:
        if isinstance(event, Progress):
            yield event.done / max(event.total, 1), anonymous(os.getpid()), anonymous(child())


def size(scratch: Path) -> None:
    from tl_core.data.intake import prepare

    source, settings = scratch / "large.zip", Settings(data_dir=scratch / "data")
    made_up(source)
    started, at_start, seen = time.monotonic(), anonymous(os.getpid()), []
    highest, over = [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            highest[0] = max(highest[0], anonymous(os.getpid()))

    threading.Thread(target=watch, daemon=True).start()
    for row in watched(prepare(source, scratch / "set", settings)):
        seen.append(row)
    seconds = time.monotonic() - started
    over.set()
    print(f"{COUNT} pictures, {source.stat().st_size / 1e9:.2f} GB: {seconds:.0f} s, {COUNT / seconds:.0f} a second")
    for low, high in ((0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0)):
        rows = [row for row in seen if low < row[0] <= high]
        parent, decoder = (max((row[i] for row in rows), default=0.0) for i in (1, 2))
        print(f"  up to {high:.0%}: parent {parent - at_start:+.0f} MB, child {decoder:.0f} MB")
    print(f"  parent at most {highest[0] - at_start:+.0f} MB, with understanding the set at the end")
    asked: list[float] = []
    reading = prepare(source, scratch / "again", settings, should_stop=lambda: bool(asked))
    latencies = []
    for event in reading:
        if not asked and isinstance(event, Progress) and event.done > COUNT // 2:
            asked.append(time.monotonic())
    latencies.append(time.monotonic() - asked[0])
    print(f"  cancelled half-way: ended after {latencies[0]:.2f} s; nothing left: {not (scratch / 'again').exists()}")


def main() -> None:
    wanted = sys.argv[1:] or ["speed", "size"]
    if wanted[0] == "bare":
        return bare(Path(wanted[1]), int(wanted[2]))
    from bench.machine import describe  # imports torch, which the bare processes must not wait for

    print(describe())
    for name in wanted:
        with tempfile.TemporaryDirectory() as scratch:
            {"speed": speed, "size": size}[name](Path(scratch))
    return None


if __name__ == "__main__":
    main()
