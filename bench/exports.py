"""Exports beside the app: size, agreement on real pictures and speed. `python -m bench.exports`.

Trains the quick way on three of the shared sets, then asks every form that can be made here about up to 500 pictures.
"""

import tempfile
import time
from pathlib import Path

from bench.machine import describe
from tl_core.bundle.predictor import Predictor
from tl_core.data.intake import prepare
from tl_core.data.pixels import PixelStore
from tl_core.data.understand import load
from tl_core.events import Progress
from tl_core.exports import litert, onnx
from tl_core.exports.make import make, trouble
from tl_core.exports.record import Export, Kind
from tl_core.models.catalogue import EMBEDDED
from tl_core.settings import Settings
from tl_core.training.plan import Facts, Machine, Wishes, make_plan
from tl_core.training.run import train

DATA = Path(__file__).parents[2] / "shared" / "data"
SETS = ("hymenoptera", "flowers5", "caltech101-15")
KINDS: tuple[Kind, ...] = ("onnx", "int8", "litert")
_TIMED = 100  # pictures


def main() -> None:
    print(describe())
    print("set | form | size MB | made and checked in s | same class | largest difference | ms a picture | app ms")
    for name in SETS:
        with tempfile.TemporaryDirectory() as scratch:
            _one(name, Path(scratch))


def _one(name: str, folder: Path) -> None:
    settings = Settings(data_dir=folder / "data")
    for _ in prepare(DATA / f"{name}.zip", folder / "set", settings):
        pass
    images = load(folder / "set")
    plan = make_plan(Wishes(), Facts.of(images), local=(EMBEDDED,), machine=Machine(settings))
    for _ in train(images, folder / "run", plan=plan, settings=settings, device="cpu"):
        pass
    store, count = PixelStore(images), min(500, len(images.pictures))
    pictures = [store[at * len(images.pictures) // count] for at in range(count)]
    predictor = Predictor(folder / "run" / "bundle")
    for kind in KINDS:
        if problem := trouble(kind):
            print(f"{name} | {kind} | {problem}")
            continue
        started = time.perf_counter()
        *_, found = make(folder / "run" / "bundle", kind, folder / "exports", pictures)
        seconds = time.perf_counter() - started
        assert isinstance(found, Export) and not isinstance(found, Progress) and found.agreement is not None
        file = Path(found.file) if found.file else folder
        asked = folder / "exports" / kind / litert.MODEL if kind == "litert" else file
        ask = (litert if kind == "litert" else onnx).answerer(asked, predictor)
        theirs, ours = _each(ask, pictures[:_TIMED]), _each(lambda one: predictor.answers([one]), pictures[:_TIMED])
        agreement = found.agreement
        print(
            f"{name} | {kind} | {file.stat().st_size / 1e6:.1f} | {seconds:.1f} | {agreement.agree} of "
            f"{agreement.compared} | {agreement.largest:.4f} | {theirs:.1f} | {ours:.1f}"
        )


def _each(ask: object, pictures: list[object]) -> float:
    """Milliseconds a picture."""
    assert callable(ask)
    ask(pictures[0])
    started = time.perf_counter()
    for picture in pictures:
        ask(picture)
    return 1_000 * (time.perf_counter() - started) / len(pictures)


if __name__ == "__main__":
    main()
