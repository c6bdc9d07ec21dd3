"""Both ends of a job's parcel: the code and pictures packed here, and the model delivered from there.

The package is on no index, so a job installs what runs here: `code.zip` holds it with its weights and the list of
what it needs. In the job, `python -m tl_core.jobs.remote deliver REPO RUN` sends the result back.
"""

import os
import re
import sys
import zipfile
from collections.abc import Iterable, Sequence
from importlib.metadata import requires
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi

import tl_core
from tl_core import redaction
from tl_core.bundle.files import FILES, present

CODE, DATA, RESULT = "code.zip", "data.zip", "result"
BUNDLE, REPORT = "bundle", "report.json"
RESULT_FILES = (*(f"{BUNDLE}/{name}" for name in FILES), REPORT)
_PACKAGE = Path(tl_core.__file__).parent
# The page's, which a job has no use for; pydantic is listed for gradio's sake.
_NOT_NEEDED = {"gradio", "pydantic"}
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


def requirements() -> list[str]:
    """What tl_core needs, one requirement an item: from requirements.txt, or from the installed package's own list."""
    file = _PACKAGE.with_name("requirements.txt")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else requires("transfer-lab") or []
    stated = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    return [line for line in stated if "extra ==" not in line and _name_of(line) not in _NOT_NEEDED]


def _name_of(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[._-]+", "-", found[0]).lower() if found else ""


def pack_code(target: Path) -> Path:
    """tl_core as it runs here, with its weights and requirements, as a zip: the same bytes for the same code."""
    files = (path for path in _PACKAGE.rglob("*") if "__pycache__" not in path.parts)
    entries: list[tuple[str, Path | bytes]] = [
        (f"tl_core/{path.relative_to(_PACKAGE).as_posix()}", path) for path in files if path.is_file()
    ]
    entries.append(("requirements.txt", "".join(f"{line}\n" for line in requirements()).encode()))
    if (project := _PACKAGE.with_name("pyproject.toml")).exists():
        entries.append((project.name, project))
    return _pack(target, entries, zipfile.ZIP_DEFLATED)


def pack_folder(folder: Path, target: Path) -> Path:
    """A folder of pictures as a zip, links left out as the intake would leave them out."""
    entries = [
        (path.relative_to(folder).as_posix(), path)
        for parent, _, names in os.walk(folder)
        for path in (Path(parent, name) for name in names)
        if path.is_file() and not path.is_symlink()
    ]
    return _pack(target, entries, zipfile.ZIP_STORED)  # pictures are compressed already


def _pack(target: Path, entries: Iterable[tuple[str, Path | bytes]], method: int) -> Path:
    """A zip that depends on names and contents alone: sorted, without times and owners."""
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in sorted(entries, key=lambda entry: entry[0]):
            entry = zipfile.ZipInfo(name, _LONG_AGO)
            entry.compress_type, entry.external_attr, entry.create_system = method, 0o644 << 16, 3
            archive.writestr(entry, content if isinstance(content, bytes) else content.read_bytes())
    return target


def deliver(repo: str, run: str, result: Path, api: HfApi | None = None) -> None:
    """Send the bundle and report in the folder `result` to `RUN/result/` of the dataset `repo`, in one commit."""
    names = [*(f"{BUNDLE}/{name}" for name in present(result / BUNDLE)), REPORT]
    operations = [CommitOperationAdd(f"{run}/{RESULT}/{name}", result / name) for name in names]
    (api or HfApi()).create_commit(repo, operations, commit_message=f"Result of {run}", repo_type="dataset")


def main(arguments: Sequence[str]) -> int:
    """`deliver REPO RUN`, run beside the folder `result` with the token in HF_TOKEN."""
    redaction.install()
    action, repo, run = arguments
    if action != "deliver":
        raise ValueError(f"no such action: {action}")
    deliver(repo, run, Path(RESULT))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
