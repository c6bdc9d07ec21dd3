"""Hostile uploads and bundles for some minutes: the collected ones first, then good ones with something changed.

python -m bench.hostile --minutes 5

Only a TLError may come out, nothing may be written beside the folder that was asked for, and what is small must be over
soon. Uploads that did otherwise are kept in `--keep`, named by their round, which the seed explains.
"""

import argparse
import io
import os
import random
import shutil
import tarfile
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from bench.machine import describe
from bench.served import children, command, memory, processor_seconds
from tests.archives_by_hand import Raw, pictures, raw_zip
from tests.archives_by_hand import mutated as mutated_zip
from tests.conftest import SHARED, picture
from tests.test_archives import CLEANED, ELSEWHERE, full_overlap, quoted_overlap
from tests.test_bundle import made
from tests.test_fuzz_intake import mutated, mutated_archive, seed_archives, seed_pictures
from tests.test_hostile_bundles import CASES_62, CASES_66, CONFIG, KINDS, WEIGHTS, bad_zip, replaced
from tests.test_hostile_pictures import FOREIGN
from tl_core.bundle.files import to_zip
from tl_core.bundle.opening import open_bundle
from tl_core.data.imageset import PIXELS
from tl_core.data.intake import prepare
from tl_core.data.understand import load
from tl_core.errors import TLError
from tl_core.settings import Settings

_GOOD = 40  # archives that are mutated
_SMALL, _SOON, _LATE = 1_000_000, 5.0, 20.0  # bytes of an upload, seconds for those below it and for others
# Bytes of the child that reads an upload, and of the one that opens a bundle and imports torch for it.
_MOST_MEMORY = {"decoder_process": 1_000_000_000, "bundle.opening": 1_500_000_000}

Case = tuple[str, bytes]  # a file's ending, and what is in it


class Watch(threading.Thread):
    """The most memory that a child of each kind had, and what each took of the processor, which a busy machine does not
    change."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.highest = dict.fromkeys(_MOST_MEMORY, 0)
        self._spent: dict[str, dict[int, float]] = {kind: {} for kind in _MOST_MEMORY}

    def run(self) -> None:
        while True:
            for pid in children(os.getpid()):
                said = command(pid).decode("utf-8", "replace")
                for kind in self.highest:
                    if kind in said:
                        self.highest[kind] = max(self.highest[kind], memory(pid, "VmHWM"))
                        spent = self._spent[kind]
                        spent[pid] = max(spent.get(pid, 0.0), processor_seconds(pid))
            time.sleep(0.03)

    def spent(self, kind: str) -> float:
        """Seconds of processor time that children of a kind took since this was last asked."""
        spent, self._spent[kind] = self._spent[kind], {}
        return sum(spent.values())


@dataclass
class Siege:
    """Cases one after the other against one way in, `opened`, in a folder of its own."""

    kind: str
    folder: Path
    keep: Path
    opened: Callable[[Path, Path], str]
    spent: Callable[[], float]
    allowance: float = 0.0  # seconds of the processor that a good one takes
    came_to: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    slowest: float = 0.0
    longest: float = 0.0  # by the clock

    def run(self, cases: Iterator[Case], until: float) -> None:
        for number, (ending, data) in enumerate(cases):
            if time.monotonic() > until:
                return
            self.face(number, ending, data)

    def face(self, number: int, ending: str, data: bytes) -> None:
        upload, into = self.folder / f"{self.kind}{number}.{ending}", self.folder / "staging" / "new"
        into.parent.mkdir(parents=True, exist_ok=True)
        upload.write_bytes(data)
        before, begun, wrong = self._beside(into), time.monotonic(), list[str]()
        self.spent()
        try:
            outcome = self.opened(upload, into)
        except TLError as error:
            outcome = error.code
            wrong += ["a refused one left something"] if into.exists() else []
        except BaseException as error:
            outcome = f"{type(error).__name__}: {error}"[:200]
            wrong.append(outcome)
        took, waited, small = self.spent() - self.allowance, time.monotonic() - begun, len(data) < _SMALL
        if small:
            self.slowest, self.longest = max(self.slowest, took), max(self.longest, waited)
        wrong += [f"took {took:.1f} s"] if took > (_SOON if small else _LATE) else []
        wrong += [f"beside the folder: {path}" for path in self._beside(into) ^ before]
        self.came_to[outcome] += 1
        if wrong:
            self.keep.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(upload, self.keep / upload.name)
            self.problems += wrong
            print(f"{upload.name}: {'; '.join(wrong)}", flush=True)
        upload.unlink(missing_ok=True)
        shutil.rmtree(into, ignore_errors=True)

    def _beside(self, into: Path) -> set[tuple[str, int, int]]:
        """All files but those that may be written, and what hostile names would make elsewhere."""
        here = (path for path in self.folder.rglob("*") if path != into and into not in path.parents)
        found = {
            (str(path), path.lstat().st_size, path.lstat().st_mtime_ns)
            for path in here
            if path.is_symlink() or path.is_file()
        }
        places = (Path("/"), Path("/tmp"), Path.cwd(), Path.cwd().parent)
        return found | {(str(path), 0, 0) for place in places for path in place.glob("*evil*")}


def read(upload: Path, into: Path) -> str:
    """The intake, and whether what it made holds together."""
    settings = Settings(data_dir=into.parents[1] / "data", free_disk_reserve=0)
    tight = replace(settings, decoder_seconds_per_picture=5, max_upload=50_000_000, max_unpacked=200_000_000)
    for _ in prepare(upload, into, tight):
        pass
    images, size = load(into), (into / PIXELS).stat().st_size
    if not all(one.offset + 3 * one.height * one.width <= size for one in images.pictures):
        raise ValueError("pictures beyond the pixels")
    return "a set"


def opened(upload: Path, into: Path) -> str:
    open_bundle(upload, into)
    return "a model"


def good_archives(chance: random.Random) -> list[Case]:
    """Zips and tars of several kinds, with pictures of all formats."""
    good, some = seed_archives(), seed_pictures()
    while len(good) < _GOOD:
        out, files = io.BytesIO(), [(f"{label}/{i}", chance.choice(some)) for label in "ab" for i in range(6)]
        if len(good) % 3:
            with zipfile.ZipFile(out, "w", chance.choice((0, 8, 12, 14))) as archive:
                for name, data in files:
                    archive.writestr(name, data)
            good.append(("zip", out.getvalue()))
            continue
        packing = chance.choice(("", "gz", "bz2", "xz"))
        with tarfile.open(fileobj=out, mode=f"w:{packing}") as tar:  # type: ignore[call-overload]
            for name, data in files:
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        good.append((f"tar.{packing}".rstrip("."), out.getvalue()))
    return good


def archives(seed: int, outside: Path) -> Iterator[Case]:
    """The collected uploads, then mutated ones without end."""
    yield from (("zip", bomb()) for bomb in (full_overlap, quoted_overlap))
    names = [*ELSEWHERE, *CLEANED, f"{outside}/evil.jpg", *(f"{'../' * up}evil.jpg" for up in range(1, 9))]
    yield "zip", raw_zip(pictures() + [Raw(name.encode(), picture(9 + i)) for i, name in enumerate(names)])
    links = [Raw(b"a/link", str(outside).encode(), mode=0o120777), Raw(b"a/link/evil.jpg", picture(3))]
    yield "zip", raw_zip(pictures() + links)
    yield from (("zip", data) for data in FOREIGN.values())
    if (SHARED / "nasty.zip").exists():
        with zipfile.ZipFile(SHARED / "nasty.zip") as nasty:
            for entry in nasty.infolist():
                if "zip_" in entry.filename or "bomb" in entry.filename:
                    yield Path(entry.filename).suffix.lstrip(".") or "zip", nasty.read(entry)
    good, some, number = good_archives(random.Random(seed)), seed_pictures(), 0
    others = [data for _, data in good]
    while True:
        chance = random.Random(f"{seed} {number}")
        number += 1
        ending, data = chance.choice(good)
        if number % 4 == 0:
            hurt = [(f"{'ab'[i % 2]}/{i}", mutated(chance.choice(some), chance, some)) for i in range(40)]
            yield "zip", raw_zip([*pictures(), *(Raw(name.encode(), data) for name, data in hurt)])
        elif number % 4 == 1:
            yield ending, mutated_zip(data, chance.getrandbits(32))
        else:
            yield ending, mutated_archive(data, chance, others)


def bundles(seed: int, good: Path, scratch: Path) -> Iterator[Case]:
    """The collected bundles, then mutated ones without end: as a zip, and within their files under right checksums."""
    yield from (("zip", bad_zip(good, kind)) for kind in KINDS)
    for file, cases in ((WEIGHTS, CASES_62), (CONFIG, CASES_66)):
        for make in cases.values():
            yield "zip", changed(good, scratch, file, make(good))
    whole, number = to_zip(good, scratch / "good.zip").read_bytes(), 0
    while True:
        chance = random.Random(f"{seed} {number}")
        number += 1
        if number % 3 == 0:
            yield "zip", mutated_archive(whole, chance, [whole])
            continue
        file = chance.choice((CONFIG, WEIGHTS, "head.safetensors", "bundle.json"))
        data = (good / file).read_bytes() if (good / file).exists() else b"{}"
        at = chance.choice((400, 4_000, len(data)))  # where the descriptions are
        yield "zip", changed(good, scratch, file, mutated(data[:at], chance, [data]) + data[at:])


def changed(good: Path, scratch: Path, file: str, data: bytes) -> bytes:
    """The bundle `good` as a zip, with other bytes in one of its files."""
    copy = Path(shutil.copytree(good, scratch / "copy"))
    if file == "bundle.json":
        (copy / file).write_bytes(data)
    else:
        replaced(copy, file, data)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path in sorted(copy.iterdir()):
            archive.write(path, path.name)
    shutil.rmtree(copy)
    return out.getvalue()


def prepared(folder: Path, keep: Path, seed: int, watch: Watch) -> list[tuple[Siege, Iterator[Case]]]:
    """Both sieges with their cases."""
    (outside := folder / "outside").mkdir()
    ways = (("archive", read, "decoder_process"), ("bundle", opened, "bundle.opening"))
    one, two = (Siege(name, folder / name, keep, way, partial(watch.spent, kind)) for name, way, kind in ways)
    made(folder / "good", ("ants", "bees"))
    for turn in ("first", "second"):  # the first finds nothing of torch in memory
        two.spent()
        open_bundle(to_zip(folder / "good", folder / "good.zip"), folder / turn)
    two.allowance = two.spent()
    (scratch := folder / "scratch").mkdir()
    return [(one, archives(seed, outside)), (two, bundles(seed, folder / "good", scratch))]


def rows(sieges: list[Siege], watch: Watch) -> list[str]:
    told = []
    for siege in sieges:
        count, more = siege.came_to.total(), f" more than the {siege.allowance:.1f} s of a good one"
        told.append((f"{siege.kind}s: problems", "0", f"{len(siege.problems)} of {count}", not siege.problems))
        took = f"{siege.slowest:.1f} s{more if siege.allowance else ''}, {siege.longest:.1f} s by the clock"
        told.append((f"processor, slowest small {siege.kind}", "≤ 5 s", took, siege.slowest <= _SOON))
    for kind, most in _MOST_MEMORY.items():
        found = watch.highest[kind]
        told.append((f"memory of {kind}", f"< {most / 1e6:,.0f} MB", f"{found / 1e6:.0f} MB", 0 < found < most))
    left = [pid for pid in children(os.getpid()) if any(kind in str(command(pid)) for kind in _MOST_MEMORY)]
    told.append(("children left", "0", f"{len(left)}", not left))
    return [f"| {a} | {b} | {c} | {'yes' if holds else '**no**'} |" for a, b, c, holds in told]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "hostile-kept")
    args = parser.parse_args()
    print(f"{describe()}, seed {args.seed}", flush=True)
    watch = Watch()
    watch.start()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        both = prepared(Path(scratch), args.keep, args.seed, watch)
        until = time.monotonic() + 60 * args.minutes
        threads = [threading.Thread(target=siege.run, args=(cases, until)) for siege, cases in both]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        time.sleep(1)
        sieges = [siege for siege, _ in both]
        told = rows(sieges, watch)
    for siege in sieges:
        print(f"\n{siege.kind}s came to: " + ", ".join(f"{code} {n}" for code, n in siege.came_to.most_common()))
    print("\n| asked | bound | got | holds |\n|---|---|---|---|")
    print("\n".join(told))
    raise SystemExit(any("**no**" in line for line in told))


if __name__ == "__main__":
    main()
