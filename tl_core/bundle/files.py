"""Which files a bundle has, and how they travel as one zip. Needs no torch, so the web process may use it.

model.safetensors   the whole classifier under timm's names, or the backbone where its head is not one linear layer
head.safetensors    that head, where there is one
unknown.safetensors the directions in which the training pictures vary, where they were measured
config.json         timm's own description of it, labels and preprocessing included
bundle.json         what timm has no place for, and the SHA-256 of every other file
README.md           the model card
"""

import lzma
import zipfile
import zlib
from pathlib import Path
from typing import IO

from tl_core.errors import NotABundleError

MANIFEST, CONFIG, WEIGHTS, CARD = "bundle.json", "config.json", "model.safetensors", "README.md"
HEAD, UNKNOWN = "head.safetensors", "unknown.safetensors"
FILES = (MANIFEST, CONFIG, WEIGHTS, CARD)
OPTIONAL = (HEAD, UNKNOWN)
MAX_JSON, MAX_WEIGHTS = 16_000_000, 2_000_000_000  # bytes
# Formats of models that can run code when they are opened, or that other programs may open so.
CODE = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".pt2", ".joblib", ".npy", ".npz", ".onnx", ".ckpt", ".h5", ".py")
_MOST_ENTRIES = 100


def present(folder: Path) -> list[str]:
    """The names of the files that the bundle in `folder` has."""
    return [*FILES, *(name for name in OPTIONAL if (folder / name).is_file())]


def to_zip(folder: Path, target: Path) -> Path:
    """The bundle as one zip for download, its files at the top level."""
    temporary = target.with_suffix(".tmp")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name in present(folder):
            archive.write(folder / name, name)
    temporary.replace(target)
    return target


def from_zip(source: Path, into: Path) -> Path:
    """Unpack a downloaded bundle's known files into the folder `into`. What a zip says of itself is not believed:
    bytes are counted as they come. Raises NotABundleError."""
    name = source.name
    if not source.is_file():
        raise NotABundleError(name=name, reason="there is no such file or folder")
    into.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(source) as archive:
            entries = _entries(archive, name)
            for file in (*FILES, *OPTIONAL):
                if file not in entries and file not in OPTIONAL:
                    raise NotABundleError(name=name, reason=f"{file} is missing")
                if file in entries:
                    with archive.open(entries[file]) as packed, (into / file).open("wb") as out:
                        _copy(packed, out, MAX_WEIGHTS if file in (WEIGHTS, *OPTIONAL) else MAX_JSON, name, file)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, RuntimeError, EOFError, ValueError) as error:
        raise NotABundleError(name=name, reason="it is not a complete zip") from error
    return into


def _entries(archive: zipfile.ZipFile, name: str) -> dict[str, zipfile.ZipInfo]:
    """The files of a zip by their last name, each once. Raises NotABundleError for what no download of ours holds."""
    found: dict[str, zipfile.ZipInfo] = {}
    if len(archive.infolist()) > _MOST_ENTRIES:
        raise NotABundleError(name=name, reason="it holds more files than any model made here")
    for entry in archive.infolist():
        last = entry.filename.rsplit("/", 1)[-1]
        if last.lower().endswith(CODE):
            kind = "." + last.rsplit(".", 1)[-1].lower()
            raise NotABundleError(name=name, reason=f"it holds a {kind} file, which may run code; none made here does")
        if last in found and last in (*FILES, *OPTIONAL):
            raise NotABundleError(name=name, reason=f"{last} is in it twice")
        found[last] = entry
    return found


def _copy(packed: IO[bytes], out: IO[bytes], limit: int, name: str, file: str) -> None:
    done = 0
    while chunk := packed.read(1 << 20):
        done += len(chunk)
        if done > limit:
            raise NotABundleError(name=name, reason=f"{file} is too large")
        out.write(chunk)
