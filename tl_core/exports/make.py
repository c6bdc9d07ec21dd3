"""Makes one export of a bundle and checks it: what does not answer as the app does is not offered.

for step in make(bundle, "web", into, pictures): ...        the last one is an `Export`
"""

import importlib.util
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tl_core import disk
from tl_core.bundle.predictor import Predictor
from tl_core.data.imageset import RGB
from tl_core.events import Progress
from tl_core.exports import coreml, litert, onnx, script, web
from tl_core.exports.agreement import MOST, Answerer, Tolerance, compare
from tl_core.exports.record import Agreement, Export, Kind, state_of


@dataclass(frozen=True)
class _Made:
    """`files` in the export's folder are what to download, one as it is, several or a folder as a zip; `asked` is the
    one that answers."""

    files: tuple[Path, ...]
    asked: Path


@dataclass(frozen=True)
class _Way:
    """How a kind is made, from the predictor or from the float ONNX file, and asked; by packages it `needs`, on the
    only `system` where it can be asked, from a float ONNX file of at most `most` bytes (0: of any size)."""

    write: Callable[[Predictor, Path, Path, Sequence[RGB]], _Made]
    ask: Callable[[Path, Predictor], Answerer]
    tolerance: Tolerance
    needs: tuple[str, ...] = onnx.NEEDS
    system: str = ""
    most: int = 0


# A page of 200 MB took a desktop's browser 26 s to load, one of 350 MB did not load (bench/RESULTS.md).
_LARGEST_PAGE = 150_000_000
_EXACT, _ROUGH = Tolerance(agree=1.0, largest=0.02), Tolerance(agree=0.95, largest=0.25)


def _onnx(predictor: Predictor, plain: Path, folder: Path, pictures: Sequence[RGB]) -> _Made:
    return _Made((plain,), plain)


def _int8(predictor: Predictor, plain: Path, folder: Path, pictures: Sequence[RGB]) -> _Made:
    file = onnx.quantise(plain, folder / onnx.INT8, pictures)
    return _Made((file,), file)


def _web(predictor: Predictor, plain: Path, folder: Path, pictures: Sequence[RGB]) -> _Made:
    return _Made((web.write_web_page(plain, folder / "my-classifier-page"),), plain)


def _script(predictor: Predictor, plain: Path, folder: Path, pictures: Sequence[RGB]) -> _Made:
    return _Made((script.write_script(plain, folder / "my-classifier-python"),), plain)


def _litert(predictor: Predictor, plain: Path, folder: Path, pictures: Sequence[RGB]) -> _Made:
    file = litert.write(predictor, folder)
    return _Made((file, folder / litert.LABELS, folder / litert.NOTE), file)


def _coreml(predictor: Predictor, plain: Path, folder: Path, pictures: Sequence[RGB]) -> _Made:
    package = coreml.write(predictor, folder)
    return _Made((package, folder / coreml.NOTE), package)


_WAYS: dict[Kind, _Way] = {
    "onnx": _Way(_onnx, onnx.answerer, _EXACT),
    "int8": _Way(_int8, onnx.answerer, _ROUGH),
    "web": _Way(_web, onnx.answerer, _EXACT, most=_LARGEST_PAGE),
    "script": _Way(_script, onnx.answerer, _EXACT),
    "litert": _Way(_litert, litert.answerer, _EXACT, litert.NEEDS),
    "coreml": _Way(_coreml, coreml.answerer, Tolerance(agree=0.99, largest=0.05), coreml.NEEDS, "darwin"),
}


def make(
    bundle: Path, kind: Kind, into: Path, pictures: Sequence[RGB], *, yours: bool = True
) -> Iterator[Progress | Export]:
    """Make the export of `kind` in `into`/`kind`, asking it about at most 500 of the `pictures`, which say whether they
    are the user's own. One made earlier is found again. Raises BundleError, DiskFullError and DiskFailedError."""
    model, way = state_of(bundle), _WAYS[kind]
    if (found := Export.load(into, kind, model)) is not None:
        yield found
        return
    if missing := trouble(kind):
        yield Export(kind, "", problem=missing)
        return
    folder = into / kind
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    yield Progress("exporting", 0, 1)
    predictor = Predictor(bundle)
    try:
        plain, checked = yield from _plain(predictor, model, into, pictures, yours)
        if 0 < way.most < plain.stat().st_size:
            yield Export(kind, "", problem="too_large")
            return
        made = way.write(predictor, plain, folder, pictures)
    except Exception as error:  # a converter's own words help nobody who only wants the file
        if (sentence := disk.trouble(error, into)) is not None:
            raise sentence from error
        print(f"{kind}: {error!r}"[:2000], file=sys.stderr)  # noqa: T201
        yield Export(kind, "", problem="cannot_be_converted")
        return
    if made.asked != plain:
        checked = yield from _checked(predictor, pictures, way.ask(made.asked, predictor), yours)
    result = Export(kind, str(_one_file(made.files, folder)), checked, model=model)
    if not way.tolerance.holds(checked):
        result = replace(result, file="", problem="differs")
    yield result.save(into)


def trouble(kind: Kind) -> str:
    """Why `kind` cannot be made on this machine, as a code; "" when it can."""
    way = _WAYS[kind]
    if way.system and sys.platform != way.system:
        return "other_system"
    return "not_installed" if any(importlib.util.find_spec(name) is None for name in way.needs) else ""


def _plain(
    predictor: Predictor, model: str, into: Path, pictures: Sequence[RGB], yours: bool
) -> Generator[Progress, None, tuple[Path, Agreement]]:
    """The float ONNX file that most kinds are made from, and how it agrees; made once."""
    folder, found = into / "onnx", Export.load(into, "onnx", model)
    file = folder / onnx.PLAIN
    if found is not None and found.agreement is not None and file.is_file():
        return file, found.agreement
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        onnx.write(predictor, Path(scratch, onnx.PLAIN)).replace(file)
    checked = yield from _checked(predictor, pictures, onnx.answerer(file, predictor), yours)
    good = _EXACT.holds(checked)
    Export("onnx", str(file) if good else "", checked, "" if good else "differs", model).save(into)
    return file, checked


def _checked(
    predictor: Predictor, pictures: Sequence[RGB], answer: Answerer, yours: bool
) -> Generator[Progress, None, Agreement]:
    chosen = pictures[:MOST]
    steps = compare(predictor, chosen, answer, yours=yours)
    while True:
        try:
            yield Progress("checking", next(steps), len(chosen))
        except StopIteration as end:
            result: Agreement = end.value
            return result


def _one_file(files: Sequence[Path], folder: Path) -> Path:
    """The one file to download: `files` themselves when that is one, or all of them as a zip."""
    if len(files) == 1 and files[0].is_file():
        return files[0]
    target = folder / f"{files[0].stem}.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            inner = sorted(path for path in file.rglob("*") if path.is_file()) if file.is_dir() else [file]
            for path in inner:
                archive.write(path, path.relative_to(file.parent))
    return target
