"""Which files a bundle has, and how they travel as one zip. Needs no torch, so the web process may use it.

model.safetensors   the whole classifier under timm's names, or the backbone where its head is not one linear layer
head.safetensors    that head, where there is one
unknown.safetensors the directions in which the training pictures vary, where they were measured
config.json         timm's own description of it, labels and preprocessing included
bundle.json         what timm has no place for, and the SHA-256 of every other file
README.md           the model card
"""

import lzma
import shutil
import zipfile
import zlib
from pathlib import Path

from tl_core.errors import NotABundleError

MANIFEST, CONFIG, WEIGHTS, CARD = "bundle.json", "config.json", "model.safetensors", "README.md"
HEAD, UNKNOWN = "head.safetensors", "unknown.safetensors"
FILES = (MANIFEST, CONFIG, WEIGHTS, CARD)
OPTIONAL = (HEAD, UNKNOWN)
MAX_JSON, MAX_WEIGHTS = 16_000_000, 2_000_000_000  # bytes


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
    """Unpack a downloaded bundle's known files into the folder `into`. Raises NotABundleError."""
    if not source.is_file():
        raise NotABundleError(name=source.name, reason="there is no such file or folder")
    into.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(source) as archive:
            entries = {entry.filename.rsplit("/", 1)[-1]: entry for entry in archive.infolist()}
            for name in (*FILES, *OPTIONAL):
                if name not in entries and name in OPTIONAL:
                    continue
                if name not in entries:
                    raise NotABundleError(name=source.name, reason=f"{name} is missing")
                limit = MAX_WEIGHTS if name in (WEIGHTS, *OPTIONAL) else MAX_JSON
                if entries[name].file_size > limit:
                    raise NotABundleError(name=source.name, reason=f"{name} is too large")
                with archive.open(entries[name]) as packed, (into / name).open("wb") as out:
                    shutil.copyfileobj(packed, out, 1 << 20)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, RuntimeError, EOFError) as error:
        raise NotABundleError(name=source.name, reason="it is not a complete zip") from error
    return into
