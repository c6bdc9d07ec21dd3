"""Which files a bundle has, and how they travel as one zip. Needs no torch, so the web process may use it.

model.safetensors   the whole classifier under timm's names, or the backbone where its head is not one linear layer
head.safetensors    that head, where there is one
unknown.safetensors the directions in which the training pictures vary, where they were measured
config.json         timm's own description of it, labels and preprocessing included
bundle.json         what timm has no place for, and the SHA-256 of every other file
README.md           the model card
"""

import zipfile
from pathlib import Path

from tl_core.data.listing import Listing, Member, UnreadableEntryError
from tl_core.data.zips import Zip
from tl_core.errors import IntakeError, NotABundleError, PasswordError, TooLargeError
from tl_core.settings import Settings

MANIFEST, CONFIG, WEIGHTS, CARD = "bundle.json", "config.json", "model.safetensors", "README.md"
HEAD, UNKNOWN = "head.safetensors", "unknown.safetensors"
FILES = (MANIFEST, CONFIG, WEIGHTS, CARD)
OPTIONAL = (HEAD, UNKNOWN)
MAX_JSON, MAX_WEIGHTS = 16_000_000, 2_000_000_000  # bytes
# Formats of models that can run code when they are opened, or that other programs may open so.
CODE = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".pt2", ".joblib", ".npy", ".npz", ".onnx", ".ckpt", ".h5", ".py")
_TENSORS = ".safetensors"
_MOST_ENTRIES = 100
_PACKED_AT_MOST = 4  # times; weights hardly get smaller by packing


def present(folder: Path) -> list[str]:
    """The names of the files that the bundle in `folder` has."""
    return [name for name in (*FILES, *OPTIONAL) if (folder / name).is_file()]


def to_zip(folder: Path, target: Path) -> Path:
    """The bundle as one zip for download, its files at the top level."""
    temporary = target.with_suffix(".tmp")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name in present(folder):
            archive.write(folder / name, name)
    temporary.replace(target)
    return target


def from_zip(source: Path, into: Path) -> Path:
    """Unpack a downloaded bundle's known files into the folder `into`. The zip is read as an upload is, and unpacks to
    little more than it takes itself, as weights do. Raises NotABundleError."""
    name = source.name
    if not source.is_file():
        raise NotABundleError(name=name, reason="there is no such file or folder")
    size = source.stat().st_size
    most = _PACKED_AT_MOST * size + 2 * MAX_JSON
    limits = Settings(max_entries=_MOST_ENTRIES, max_unpacked=most, max_picture_bytes=MAX_WEIGHTS)
    listing = Listing()
    with source.open("rb") as file:
        try:
            archive = Zip(file, size, file.read(512), name, limits)
            archive.list_into(listing)
        except TooLargeError as error:
            raise NotABundleError(name=name, reason="it holds more than any model made here") from error
        except PasswordError as error:
            raise NotABundleError(name=name, reason="it is locked with a password") from error
        except (IntakeError, ValueError) as error:
            raise NotABundleError(name=name, reason="it is not a complete zip") from error
        members = _known(listing, name)
        into.mkdir(parents=True, exist_ok=True)
        for known, member in members.items():
            try:
                with (into / known).open("wb") as out:
                    out.writelines(archive.pieces(member))
            except UnreadableEntryError as error:
                raise NotABundleError(name=name, reason=f"{known} in it is damaged") from error
    return into


def _known(listing: Listing, name: str) -> dict[str, Member]:
    """The bundle's files by their names, whatever folder they lie in. Raises NotABundleError for what no download of
    ours holds."""
    for path in (*(member.name for member in listing.members), *(path for path, _ in listing.skipped)):
        if path.lower().endswith(CODE):
            kind = "." + path.rsplit(".", 1)[-1].lower()
            raise NotABundleError(name=name, reason=f"it holds a {kind} file, which may run code; none made here does")
    found: dict[str, Member] = {}
    for member in listing.members:
        last = member.name.rsplit("/", 1)[-1]
        if last not in (*FILES, *OPTIONAL):
            continue
        if last in found:
            raise NotABundleError(name=name, reason=f"{last} is in it twice")
        if member.size > (MAX_WEIGHTS if last.endswith(_TENSORS) else MAX_JSON):
            raise NotABundleError(name=name, reason=f"{last} is too large")
        found[last] = member
    for missing in (file for file in FILES if file not in found and file != CARD):
        raise NotABundleError(name=name, reason=f"{missing} is missing")
    return found
