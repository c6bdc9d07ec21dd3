"""Shared by all tests: nothing touches the real home, the network leads nowhere, pictures are drawn, not fetched."""

import contextlib
import io
import os
import random
import resource
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# Before anything imports the libraries that read these once.
os.environ["HF_HUB_DISABLE_XET"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import pytest
from PIL import Image

from examples.make_data import draw_shape
from tests.browser import app, browser, context  # noqa: F401  fixtures
from tests.hub_stand_in import StandIn, standing_in
from tl_core.data.edits import Edit
from tl_core.data.imageset import ImageSet
from tl_core.data.intake import prepare
from tl_core.data.understand import load
from tl_core.models.catalogue import EMBEDDED
from tl_core.review import review
from tl_core.settings import Settings
from tl_core.training.plan import Facts, Machine, Wishes, make_plan
from tl_core.training.run import train

SHARED = Path(__file__).parents[2] / "shared" / "data"

Zipper = Callable[..., Path]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test marked `few(n)`, only the first n parameters are run each time; the others are slow ones."""
    seen: Counter[str] = Counter()
    for item in items:
        mark = item.get_closest_marker("few")
        if mark is not None:
            test = item.nodeid.split("[")[0]
            seen[test] += 1
            if seen[test] > mark.args[0]:
                item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches and data of every test in its own folder; proxies that lead nowhere stand for "no network"."""
    monkeypatch.setenv("TL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", free_disk_reserve=0)


@contextlib.contextmanager
def full_disk(room: int = 0) -> Iterator[None]:
    """Meanwhile no file of this process may grow beyond `room` bytes: the system says so as when the disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def shared(name: str) -> Path:
    """A file of the shared real pictures, or a skip that says so."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is not on this machine")
    return path


def reviewed(images: ImageSet, settings: Settings, edits: Sequence[Edit] = ()) -> ImageSet:
    """The set after a real closer look, and after `edits`."""
    for _ in review(images.folder, settings=settings):
        pass
    return load(images.folder, edits)


def picture(seed: int, *, shape: str = "star", ending: str = "jpg", size: tuple[int, int] | None = None) -> bytes:
    """A drawn picture as a file's bytes; the same seed gives the same picture."""
    image = draw_shape(shape, random.Random(f"{shape}{seed}"))
    return encode(image if size is None else image.resize(size), ending)


def encode(image: Image.Image, ending: str = "jpg", **options: object) -> bytes:
    out = io.BytesIO()
    kind = {"jpg": "JPEG", "tif": "TIFF"}.get(ending, ending.upper())
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.fixture
def make_zip(tmp_path: Path) -> Zipper:
    """`make_zip({"cats/1.jpg": bytes, ...})` or `make_zip({"cats": 6, "dogs": 5})` -> a zip's path."""

    def make(content: dict[str, bytes | int], name: str = "pictures.zip") -> Path:
        path = tmp_path / name
        with zipfile.ZipFile(path, "w") as archive:
            for number, (entry, value) in enumerate(content.items()):
                if isinstance(value, bytes):
                    archive.writestr(entry, value)
                    continue
                shape = ("star", "circle", "square", "triangle", "heart")[number % 5]
                for i in range(value):
                    archive.writestr(f"{entry}/{i:03}.jpg", picture(i, shape=shape))
        return path

    return make


@pytest.fixture
def read_set(settings: Settings, tmp_path: Path) -> Callable[[Path], ImageSet]:
    """Run the real intake on an upload and load what it made."""

    def read(upload: Path, into: str = "set") -> ImageSet:
        for _ in prepare(upload, tmp_path / into, settings):
            pass
        return load(tmp_path / into)

    return read


@pytest.fixture
def hub() -> Iterator[StandIn]:
    """A Hub of the test's own on loopback."""
    with standing_in() as stand_in:
        yield stand_in


@dataclass(frozen=True)
class Trained:
    """A model trained in earnest: its bundle, and the set it was trained on."""

    bundle: Path
    images: ImageSet


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The quick way on real pictures, once for all tests that only look at it."""
    folder = tmp_path_factory.mktemp("trained")
    settings = Settings(data_dir=folder / "data", free_disk_reserve=0)
    for _ in prepare(shared("hymenoptera.zip"), folder / "set", settings):
        pass
    images = load(folder / "set")
    plan = make_plan(Wishes(), Facts.of(images), local=(EMBEDDED,), machine=Machine(settings))
    for _ in train(images, folder / "run", plan=plan, settings=settings, device="cpu"):
        pass
    return Trained(folder / "run" / "bundle", images)
