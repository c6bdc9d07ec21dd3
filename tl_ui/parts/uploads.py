"""What a script of ours says it has uploaded, looked at before any of it is opened."""

import os
import stat
from pathlib import Path

from gradio.utils import get_upload_folder

_MAX_PATH = 4_096


def uploaded(path: object) -> Path | None:
    """The file at `path` when it is a regular file in Gradio's upload folder, else None. The path is the client's."""
    if not isinstance(path, str) or not 0 < len(path) <= _MAX_PATH:
        return None
    folder = Path(os.path.realpath(get_upload_folder()))
    try:
        real = Path(os.path.realpath(path))
        regular = stat.S_ISREG(os.lstat(real).st_mode)
    except (OSError, ValueError):  # ValueError: NUL or a lone surrogate
        return None
    return real if regular and real.is_relative_to(folder) else None
