"""What a person gave (a zip, a tar, a folder or single files) as one list of files, without trusting a byte of it.

What an archive is, its first bytes say, never its name. Nothing is ever unpacked to disk: a file is read into memory,
bounded. Does not judge what is inside a file (`decode` does). All but `is_archive` runs in the limited child only.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from tl_core.data.listing import Beat, Listing, Member, Reader, UnreadableEntryError, check_count, too_large
from tl_core.data.tars import Tar, is_header
from tl_core.data.unpack import STREAMS
from tl_core.data.zips import SPANNED, Zip
from tl_core.errors import EmptyUploadError, OtherArchiveError, SplitArchiveError
from tl_core.settings import Settings

_OTHER_ARCHIVES = (
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!", "rar"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"LZIP", "lzip"),
    (b"\x1f\x9d", "compress (.Z)"),
    (b"MSCF\0\0\0\0", "cab"),
    (b"\x1f\x8b", "gzip"),  # of a method that does not exist
)
_ENDINGS = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar", ".tbz", ".txz", ".z01")
_MAGIC = (b"PK\3\4", b"PK\5\6", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"7z\xbc\xaf\x27\x1c", b"Rar!")
# "photos.z01", "photos.zip.002", "photos.part2.rar": a middle part has no magic bytes of its own.
_PART_NAME = re.compile(r"\.(z\d\d|\d{3}|part\d+\.rar|r\d\d)$", re.IGNORECASE)


@dataclass(frozen=True)
class Upload:
    """What a person gave: a zip, tar or folder at `path`, or single `files` (path in the upload, file on disk)."""

    name: str
    path: Path | None = None
    files: tuple[tuple[str, Path], ...] = ()

    def to_json(self) -> dict[str, object]:
        """For a child process; `from_json` is the inverse."""
        files = [[name, str(path)] for name, path in self.files]
        return {"name": self.name, "path": None if self.path is None else str(self.path), "files": files}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Upload":
        path = None if record["path"] is None else Path(record["path"])
        return cls(record["name"], path, tuple((name, Path(file)) for name, file in record["files"]))


def is_archive(name: str, file: Path) -> bool:
    """Whether a file is to be opened as an archive: by its name, or by its first bytes whatever its name. Runs in any
    process."""
    with file.open("rb") as opened:
        head = opened.read(512)
    return name.lower().endswith(_ENDINGS) or head.startswith(_MAGIC) or head[257:262] == b"ustar"


class Source:
    """The files of one upload. A context manager; `listing` is made on entry, `read` gives one file's bytes.

    `alive(n)` is called a few times a second with the number of files seen while the listing takes long.
    Raises an `IntakeError` on entry when nothing can be read from it.
    """

    def __init__(self, upload: Upload, settings: Settings, alive: Callable[[int], None] = lambda seen: None) -> None:
        self.upload, self.name, self.settings = upload, upload.name, settings
        self.listing = Listing()
        self._beat = Beat(alive)
        self._reader: Reader | None = None

    def __enter__(self) -> "Source":
        path = self.upload.path
        if path is None or path.is_dir():
            self._reader = Files(self.upload, self.settings, self._beat)
        else:
            self._reader = _open_archive(path, self.name, self.settings, self._beat)
        try:
            self._reader.list_into(self.listing)
        except BaseException:
            self._reader.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._reader is not None:
            self._reader.close()

    def read(self, member: Member) -> bytes:
        """The bytes of one file, from one thread; fastest in the order of `listing.members`, the only way through a
        packed tar. Raises UnreadableEntryError with the reason's code."""
        assert self._reader is not None
        return self._reader.read(member)


def _open_archive(path: Path, name: str, settings: Settings, beat: Beat) -> Reader:
    """The reader for an archive by its content. Raises IntakeError when there is none."""
    size = path.stat().st_size
    if size == 0:
        raise EmptyUploadError(name=name)
    if size > settings.max_upload:
        raise too_large(size, settings.max_upload, "", name)
    file = path.open("rb")
    try:
        return _reader(file, size, name, settings, beat)
    except BaseException:
        file.close()
        raise


def _reader(file: BinaryIO, size: int, name: str, settings: Settings, beat: Beat) -> Reader:
    head = file.read(512)
    if is_header(head):
        return Tar(file, size, b"", name, settings, beat)
    for magic in STREAMS:
        if head.startswith(magic):
            return Tar(file, size, magic, name, settings, beat)
    for magic, kind in _OTHER_ARCHIVES:
        if head.startswith(magic):
            raise OtherArchiveError(name=name, kind=kind)
    if head.startswith(SPANNED) or (_PART_NAME.search(name) and not head.startswith(b"PK\x03\x04")):
        raise SplitArchiveError(name=name)
    return Zip(file, size, head, name, settings)


class Files:
    """A folder of this machine, or single files, in the order of their names."""

    def __init__(self, upload: Upload, settings: Settings, beat: Beat) -> None:
        self._upload, self._settings, self._beat = upload, settings, beat
        self._paths: list[Path] = []

    def close(self) -> None:
        pass

    def list_into(self, listing: Listing) -> None:
        found = sorted(self._upload.files) if self._upload.path is None else self._walk(self._upload.path, listing)
        for name, path in found:
            self._beat.seen += 1
            self._beat()
            check_count(self._beat.seen, self._upload.name, self._settings)
            try:
                if path.is_symlink():
                    listing.skip(name, "link")
                elif not path.is_file():
                    listing.skip(name, "special_file")
                else:
                    listing.add(name, path.stat().st_size, len(self._paths), self._settings)
                    self._paths.append(path)
            except OSError:
                listing.skip(name, "no_permission")

    def _walk(self, root: Path, listing: Listing) -> Iterator[tuple[str, Path]]:
        def unreadable(error: OSError) -> None:
            listing.skip(os.path.relpath(str(error.filename), root), "no_permission")

        for folder, below, files in os.walk(root, onerror=unreadable):
            below.sort()
            links = [entry for entry in below if os.path.islink(os.path.join(folder, entry))]
            for file in sorted(files + links):
                path = Path(folder, file)
                yield path.relative_to(root).as_posix(), path

    def read(self, member: Member) -> bytes:
        try:
            with self._paths[member.at].open("rb") as file:
                return file.read(self._settings.max_picture_bytes)
        except PermissionError as error:
            raise UnreadableEntryError("no_permission") from error
        except OSError as error:
            raise UnreadableEntryError("damaged") from error
