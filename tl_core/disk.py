"""Room on the disk, and what the system says when it is full or fails, as sentences."""

import errno
import re
import shutil
from pathlib import Path

from tl_core.errors import DiskFullError, TLError
from tl_core.queue_errors import DiskFailedError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FAILED = (errno.EIO, errno.EROFS)
# How programs that are not Python say it, as of safetensors: "I/O error: No space left on device (os error 28)".
_NUMBER = re.compile(r"\(os error (\d+)\)")


def need(folder: Path, size: int) -> None:
    """See that `size` bytes can be written in `folder`. Raises DiskFullError."""
    if shutil.disk_usage(folder).free < size:
        raise DiskFullError(free=free(folder))


def free(folder: Path) -> str:
    """What can still be written in `folder`, existing or not."""
    folder = next((place for place in (folder, *folder.absolute().parents) if place.exists()), Path("/"))
    return f"{shutil.disk_usage(folder).free / 1e9:.1f} GB"


def trouble(error: BaseException | None, folder: Path) -> TLError | None:
    """The sentence when the disk under `folder` is behind `error`, or behind what that came from; None otherwise."""
    seen = 0
    while error is not None and seen < 10:
        number = error.errno if isinstance(error, OSError) else None
        if number is None and (found := _NUMBER.search(str(error))):
            number = int(found[1])
        if number in FULL:
            return DiskFullError(free=free(folder))
        if number in _FAILED:
            return DiskFailedError()
        error, seen = error.__cause__ or error.__context__, seen + 1
    return None
