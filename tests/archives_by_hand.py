"""Archives written byte by byte, as no program would write them, and a look at the child that has to read one."""

import io
import os
import random
import struct
import tarfile
import threading
import time
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import picture
from tl_core.data.archive import Source, Upload
from tl_core.data.intake import prepare
from tl_core.data.listing import Listing, UnreadableEntryError
from tl_core.errors import IntakeError
from tl_core.settings import Settings


@dataclass(frozen=True)
class Raw:
    """An entry of a zip, everything about it as the test likes; None: what is true."""

    name: bytes
    data: bytes = b""  # as it lies in the file
    size: int | None = None
    packed: int | None = None
    crc: int | None = None
    method: int = 0
    flags: int = 0
    mode: int = 0
    extra: bytes = b""
    local_name: bytes | None = None
    at: int | None = None  # where the directory says it starts

    def header(self, start: bytes) -> bytes:
        crc = zlib.crc32(self.data) if self.crc is None else self.crc
        size = len(self.data) if self.size is None else self.size
        packed = len(self.data) if self.packed is None else self.packed
        return start + struct.pack("<HHHHIII", self.flags, self.method, 0, 0, crc, packed, size)

    def local(self) -> bytes:
        name = self.name if self.local_name is None else self.local_name
        return self.header(b"PK\3\4\x14\0") + struct.pack("<HH", len(name), 0) + name + self.data

    def central(self, at: int) -> bytes:
        numbers = struct.pack(
            "<HHHHHII", len(self.name), len(self.extra), 0, 0, 0, self.mode << 16, at if self.at is None else self.at
        )
        return self.header(b"PK\1\2\x14\3\x14\0") + numbers + self.name + self.extra


def end_record(count: int, size: int, at: int, disk: int = 0) -> bytes:
    return struct.pack("<4sHHHHIIH", b"PK\5\6", disk, disk, count & 0xFFFF, count & 0xFFFF, size, at, 0)


def end_record_64(count: int, size: int, at: int, *, said_at: int | None = None) -> bytes:
    """Both 64-bit records and the short one behind them. `said_at`: where the locator says the first of them lies."""
    full = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, at)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, at + size if said_at is None else said_at, 1)
    return full + locator + end_record(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)


def raw_zip(entries: Iterable[Raw], *, data: bytes | None = None) -> bytes:
    """A zip of `entries`; with `data`, that is what lies in front of the directory."""
    body, central, count = [], [], 0
    at = 0
    for entry in entries:
        count += 1
        central.append(entry.central(at))
        if data is None:
            body.append(entry.local())
            at += len(body[-1])
    front, directory = b"".join(body) if data is None else data, b"".join(central)
    return front + directory + end_record(count, len(directory), len(front))


def pictures(*, names: tuple[str, str] = ("a", "b"), each: int = 3) -> list[Raw]:
    """Entries of a zip that becomes a set: two classes of drawn pictures."""
    shapes = zip(names, ("star", "circle"), strict=True)
    return [Raw(f"{n}/{i}.jpg".encode(), picture(i, shape=s), flags=0x800) for n, s in shapes for i in range(each)]


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w", *, format: int = tarfile.PAX_FORMAT) -> Path:
    """A tar of `files`; `mode` as `tarfile.open` takes it ("w:gz")."""
    with tarfile.open(path, mode, format=format) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def zip_of(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def listed(upload: Path, settings: Settings) -> tuple[Listing, dict[str, bytes | str]]:
    """The listing of an upload, and the bytes of every member or the reason why there are none."""
    with Source(Upload(upload.name, upload), settings) as source:
        found: dict[str, bytes | str] = {}
        for member in source.listing.members:
            try:
                found[member.name] = source.read(member)
            except UnreadableEntryError as error:
                found[member.name] = str(error.args[0])
        return source.listing, found


@dataclass(frozen=True)
class Watched:
    """How the intake of an upload went: what it was refused with ("" when it was not), and what it took."""

    sentence: str
    seconds: float  # of processor time in the child, so that a busy machine changes nothing
    peak_mb: float  # of the child's memory at its highest


def watched(upload: Path, folder: Path, settings: Settings) -> Watched:
    """Run the real intake while looking at its children."""
    peaks: dict[int, int] = {}
    ticks: dict[int, int] = {}
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.005):
            for pid in _children():
                peaks[pid] = max(peaks.get(pid, 0), _peak_kb(pid))
                ticks[pid] = max(ticks.get(pid, 0), _ticks(pid))

    watcher = threading.Thread(target=look)
    watcher.start()
    started, sentence = time.monotonic(), ""
    try:
        for _ in prepare(upload, folder, settings):
            pass
    except IntakeError as error:
        sentence = str(error)
        assert not folder.exists()  # nothing of a refused upload may stay behind
    finally:
        done.set()
        watcher.join()
    assert time.monotonic() - started < 60 and not _children()
    return Watched(sentence, sum(ticks.values()) / os.sysconf("SC_CLK_TCK"), max(peaks.values(), default=0) / 1e3)


def _children() -> list[int]:
    found = []
    for task in Path("/proc/self/task").iterdir():
        try:
            found += [int(pid) for pid in (task / "children").read_text().split()]
        except OSError:
            continue
    return [pid for pid in found if b"decoder_process" in _bytes(Path(f"/proc/{pid}/cmdline"))]


def _peak_kb(pid: int) -> int:
    for line in _bytes(Path(f"/proc/{pid}/status")).splitlines():
        if line.startswith(b"VmHWM:"):
            return int(line.split()[1])
    return 0


def _ticks(pid: int) -> int:
    fields = _bytes(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split()
    return int(fields[11]) + int(fields[12]) if fields else 0


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def mutated(data: bytes, seed: int) -> bytes:
    """`data` with a few bytes flipped, lengths changed, pieces cut out, doubled or moved."""
    rng = random.Random(seed)
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(out))
        # Headers are where it hurts: half of the time near one.
        if rng.random() < 0.5:
            magic = rng.choice((b"PK\1\2", b"PK\3\4", b"PK\5\6", b"ustar"))
            starts = [i for i in range(len(out) - 4) if out[i : i + len(magic)] == magic]
            at = min(len(out) - 1, rng.choice(starts or [at]) + rng.randrange(-140, 46) % len(out))
            at = max(0, min(at, len(out) - 1))
        kind = rng.randrange(5)
        piece = bytes(out[at : at + rng.randint(1, 600)])
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at : at + 4] = struct.pack("<I", rng.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)))
        elif kind == 2:
            del out[at : at + len(piece)]
        elif kind == 3:
            out[at:at] = piece
        else:
            del out[at:]
        if not out:
            return b"\0"
    return bytes(out)
