"""What the closer look finds: other versions of a picture, and pictures put into the wrong class.

    python -m bench.copies

Versions: of 150 pictures of each set, one version each way is added to the set; the share that ends up in the group of
its original, by the thumbnails alone and with the network's word; and how many pairs of different files are called
copies beyond those (false alarms, or copies the set came with). Wrong classes: 5 % of the pictures are moved to another
class; how many of the pictures pointed out are among them, and how many of them are pointed out.
"""

import io
import itertools
import random
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from bench.machine import describe
from tl_core.data.closer_look import CloserLook
from tl_core.data.findings import findings
from tl_core.data.imageset import THUMB_SIDE, THUMBS, ImageSet, Reading
from tl_core.data.intake import prepare
from tl_core.data.quality import Pair, near_pairs
from tl_core.data.understand import load
from tl_core.review import review
from tl_core.settings import Settings

DATA = Path(__file__).parents[2] / "shared" / "data"
SETS = ("hymenoptera", "flowers5", "dtd10", "caltech101-15", "monkeys10")
ORIGINALS, WRONG = 154, 0.05


def _crop(share: float) -> Callable[[Image.Image], Image.Image]:
    def cropped(image: Image.Image) -> Image.Image:
        x, y = (round(share / 2 * side) for side in image.size)
        return image.crop((x, y, image.width - x, image.height - y))

    return cropped


def _written_on(image: Image.Image) -> Image.Image:
    copy = image.copy()
    ImageDraw.Draw(copy).rectangle((5, copy.height - 40, copy.width // 3, copy.height - 10), fill="white")
    return copy


VERSIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "poor quality": lambda image: Image.open(io.BytesIO(_jpeg(image, 30))).convert("RGB"),
    "brighter by a fifth": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "more contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.3),
    "mirrored": ImageOps.mirror,
    "turned by 3°": lambda image: image.rotate(3, Image.Resampling.BICUBIC),
    "cut by 3 %": _crop(0.03),
    "cut by 10 %": _crop(0.10),
    "cut by 20 %": _crop(0.20),
    "a label on it": _written_on,
    "grey": lambda image: image.convert("L").convert("RGB"),
}


def _jpeg(image: Image.Image, quality: int = 90) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def _pictures(name: str) -> dict[str, bytes]:
    """The files of a set by class and name, without its official parts."""
    with zipfile.ZipFile(DATA / f"{name}.zip") as archive:
        files = [entry for entry in archive.namelist() if entry.lower().endswith((".jpg", ".jpeg", ".png"))]
        return {f"{e.split('/')[-2]}/{'-'.join(e.split('/')[-3:])}": archive.read(e) for e in sorted(files)}


def _read(files: dict[str, bytes], work: Path) -> ImageSet:
    upload, settings = work / "upload.zip", Settings(data_dir=work / "data")
    with zipfile.ZipFile(upload, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    for _ in prepare(upload, work / "set", settings):
        pass
    for _ in review(work / "set", settings=settings):
        pass
    return load(work / "set")


def versions(name: str) -> None:
    files = _pictures(name)
    chosen = random.Random(0).sample(sorted(files), min(ORIGINALS, len(files)))
    kinds = dict(zip(chosen, itertools.cycle(VERSIONS), strict=False))
    added = {}
    for original, kind in kinds.items():
        image = VERSIONS[kind](Image.open(io.BytesIO(files[original])).convert("RGB"))
        label, file = original.split("/")
        added[f"{label}/version of {file}.jpg"] = _jpeg(image)
    with tempfile.TemporaryDirectory() as work:
        images = _read(files | added, Path(work))
        reading = Reading.load(images.folder)
        thumbs = np.fromfile(images.folder / THUMBS, dtype=np.uint8).reshape(-1, 3 * THUMB_SIDE**2)
        alone = near_pairs(thumbs, [stored.digest for stored in reading.stored])
        look = CloserLook.load(images.folder)
        assert look is not None
        row = {picture.name: picture.row for picture in images.pictures}
        pairs: dict[str, list[tuple[int, int]]] = {kind: [] for kind in VERSIONS}
        for original, kind in kinds.items():
            label, file = original.split("/")
            pairs[kind].append((row[original], row[f"{label}/version of {file}.jpg"]))
        surely = _linked([pair for pair in alone if pair.sure])
        both = _linked(look.near)
        known = {frozenset(pair) for of_kind in pairs.values() for pair in of_kind}
        digest = [stored.digest for stored in reading.stored]
        beyond = {pair for pair in both if digest[min(pair)] != digest[max(pair)]} - known
        print(f"{name}: {len(beyond)} other pairs; of each version by thumbnails alone / with the network:")
        for kind, found in pairs.items():
            shares = [sum(frozenset(pair) in links for pair in found) / len(found) for links in (surely, both)]
            print(f"  {kind}: {shares[0]:.2f} / {shares[1]:.2f} of {len(found)}")


def _linked(pairs: "list[Pair] | tuple[Pair, ...]") -> set[frozenset[int]]:
    return {frozenset((pair.a, pair.b)) for pair in pairs}


def wrong_classes(name: str) -> None:
    rng, files, wrong = random.Random(1), {}, set()
    labels = sorted({file.split("/")[0] for file in _pictures(name)})
    for file, data in _pictures(name).items():
        label, base = file.split("/")
        if rng.random() < WRONG:
            label = rng.choice([other for other in labels if other != label])
            wrong.add(f"{label}/{base}")
        files[f"{label}/{base}"] = data
    with tempfile.TemporaryDirectory() as work:
        images = _read(files, Path(work))
        odd = findings(images, Settings(), CloserLook.load(images.folder))
        called = {p.row: p.name for p in images.pictures}
        cases = [called[case.rows[0]] for one in odd if one.code == "outliers" for case in one.cases]
    hits = Counter(case in wrong for case in cases)[True]
    precision = hits / len(cases) if cases else float("nan")
    print(
        f"{name}: {len(cases)} pointed out, {precision:.2f} of them wrong; "
        f"{hits / len(wrong):.2f} of {len(wrong)} found"
    )


def main() -> None:
    print(describe())
    for name in SETS:
        versions(name)
    print("5 % in the wrong class:")
    for name in SETS:
        wrong_classes(name)


if __name__ == "__main__":
    main()
