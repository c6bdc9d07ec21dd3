"""The pretraining pictures: the corpus zips, decoded once into one flat memory-mapped array.

Every corpus keeps its own range of labels, so classes that mean the same in two corpora stay apart.
"""

import io
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

CORPORA = ("corpus-objects-64px.zip", "corpus-scenes-96px.zip", "corpus-photos-112px.zip")
NO_LABEL = -100  # what torch's cross-entropy leaves out


def pack(source: Path, into: Path) -> None:
    """Decode every picture of the corpora under `source` into `into` (pixels.u8, index.npy, classes.json); once."""
    if (into / "classes.json").exists():
        return
    into.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[int, int, int, int]] = []
    classes: list[str] = []
    offset = 0
    with (into / "pixels.u8").open("wb") as out, ThreadPoolExecutor(2) as pool:
        for corpus in CORPORA:
            with zipfile.ZipFile(source / corpus) as archive:
                names = [name for name in archive.namelist() if name.endswith(".webp")]
                first = len(classes)
                folders = sorted({name.split("/")[0] for name in names})
                classes += [f"{corpus}:{folder}" for folder in folders]
                label = {folder: first + i for i, folder in enumerate(folders)}
                pictures = pool.map(_decode, (archive.read(name) for name in names), chunksize=64)
                for name, picture in zip(names, pictures, strict=True):
                    out.write(picture.tobytes())
                    rows.append((offset, picture.shape[0], picture.shape[1], label[name.split("/")[0]]))
                    offset += picture.size
    np.save(into / "index.npy", np.array(rows, dtype=np.int64))
    (into / "classes.json").write_text(json.dumps(classes))


def _decode(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


class Crops:
    """Batches of random crops, drawn without replacement epoch by epoch.

    Yields ((N, 3, size, size) uint8, (N,) int64 labels). `rank`/`world` share one epoch between processes. The share
    `collages` are four pictures in one, as in YOLOv4's mosaics (https://arxiv.org/abs/2004.10934, 3.3): small pictures
    stay as sharp as they are, instead of being blown up to `size`. They have no one label: NO_LABEL.
    """

    def __init__(
        self, folder: Path, *, batch: int, size: int, seed: int, rank: int = 0, world: int = 1, collages: float = 0.0
    ) -> None:
        self.pixels = np.memmap(folder / "pixels.u8", dtype=np.uint8, mode="r")
        self.index = np.load(folder / "index.npy")
        self.classes: list[str] = json.loads((folder / "classes.json").read_text())
        self.batch, self.size, self.rank, self.world = batch, size, rank, world
        self.collages = collages
        self.seed, self.epoch, self.left = seed, -1, np.empty(0, dtype=np.int64)

    def next(self) -> tuple[Tensor, Tensor]:
        if len(self.left) < self.batch:
            self.epoch += 1
            order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.index))
            self.left = order[self.rank :: self.world]
            self.rng = np.random.default_rng((self.seed, self.epoch, self.rank))
        take, self.left = self.left[: self.batch], self.left[self.batch :]
        crops, labels = (
            torch.empty(self.batch, 3, self.size, self.size, dtype=torch.uint8),
            np.empty(self.batch, np.int64),
        )
        for at, picture in enumerate(take):
            crops[at], labels[at] = self.one(picture)
        return crops, torch.from_numpy(labels)

    def one(self, picture: int) -> tuple[Tensor, int]:
        """The next crop of that picture, (3, size, size) uint8, and its label."""
        if self.rng.random() < self.collages:
            return self._collage(picture), NO_LABEL
        return self._crop(picture, self.size, self.size), int(self.index[picture, 3])

    def _collage(self, first: int) -> Tensor:
        """Four crops around a point near the middle."""
        y, x = (round(self.size * self.rng.uniform(0.35, 0.65)) for _ in range(2))
        cells = [(0, y, 0, x), (0, y, x, self.size), (y, self.size, 0, x), (y, self.size, x, self.size)]
        whole = torch.empty(3, self.size, self.size, dtype=torch.uint8)
        others = self.rng.integers(len(self.index), size=3)
        for picture, (top, bottom, left, right) in zip((first, *others), cells, strict=True):
            whole[:, top:bottom, left:right] = self._crop(picture, bottom - top, right - left)
        return whole

    def _crop(self, at: int, high: int, wide: int) -> Tensor:
        """A random part of picture `at` as (3, high, wide) uint8, mirrored half of the time."""
        offset, height, width = self.index[at, :3]
        picture = self.pixels[offset : offset + height * width * 3].reshape(height, width, 3)
        area = self.rng.uniform(0.3, 1.0) * height * width
        ratio = wide / high * np.exp(self.rng.uniform(-0.29, 0.29))
        h = min(height, max(16, round((area / ratio) ** 0.5)))
        w = min(width, max(16, round((area * ratio) ** 0.5)))
        y, x = self.rng.integers(height - h + 1), self.rng.integers(width - w + 1)
        crop = torch.from_numpy(np.array(picture[y : y + h, x : x + w])).permute(2, 0, 1)
        crop = transforms.resize(crop, [high, wide], antialias=True)
        return crop.flip(-1) if self.rng.random() < 0.5 else crop
