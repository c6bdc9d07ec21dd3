"""Downloads the pictures of a data set of the Hub into a folder that the ordinary intake reads, by driving a limited
child: files of strangers are parsed there and never in this process. Nothing stays in the folder when it fails."""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tl_core import dataset_errors, disk, errors, wording
from tl_core.data.child import SilentError, child_lines
from tl_core.errors import TLError, plain
from tl_core.events import Event, Progress
from tl_core.hub_data.harvest import METADATA
from tl_core.settings import Settings, scrubbed_environment

_START_SECONDS = 30  # for the child to come up on a busy machine; no network is asked yet
_QUIET_SECONDS = 45  # the longest that a child may say nothing once the data set is found
_PREFIXES = re.compile(
    r"(?:hf:/+)?(?:(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/)?(?:datasets/)?", re.IGNORECASE
)
_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")


@dataclass(frozen=True)
class Wish:
    """A data set by its name on the Hub, "user/name", and the version ("config") of it; "" for the default."""

    repo: str
    config: str


def from_hub(data: str | Path) -> bool:
    """Whether `data` on a command line names a data set of the Hub ("hf://user/name", also when it became a path)."""
    return str(data).startswith("hf:/")


def reachable(seconds: float = 2.0) -> bool:
    """Whether the Hub answers at all within `seconds`."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=seconds)
    except Exception:  # of whatever library answers for the network
        return False
    return True


def parse(text: str) -> Wish:
    """What `user/name`, `user/name:config`, `hf://…` or the address of its page means. Raises DatasetNameError."""
    rest = text.strip()
    rest = rest[_PREFIXES.match(rest).end() :]  # type: ignore[union-attr]  # it matches nothing at least
    rest, _, config = re.split(r"[?#]", rest, maxsplit=1)[0].partition(":")
    user, _, rest = rest.partition("/")
    name, _, page = rest.partition("/")
    kind, _, of = page.partition("/")
    if kind == "viewer" and not config:  # …/viewer/<config>/<split>
        config = of.partition("/")[0]
    good = _PART.fullmatch(user) and _PART.fullmatch(name) and len(user) + len(name) < 96
    repo = f"{user}/{name}"
    if not good or (page and kind not in ("viewer", "tree", "blob", "")) or "--" in repo or ".." in repo:
        raise dataset_errors.DatasetNameError(name=text)
    if name.endswith((".git", ".ipynb")) or config != plain(config, 100):
        raise dataset_errors.DatasetNameError(name=text)
    return Wish(repo, config)


def fetch(
    repo: str,
    folder: Path,
    settings: Settings,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    token: str | bool = False,
) -> Iterator[Event]:
    """Fill the new `folder` from the data set `repo` (as for `parse`), yielding progress and notices.

    It then holds pictures in a folder a split and `metadata.jsonl` (see `harvest`). When `should_stop` says so it ends
    within a second and leaves nothing. Raises HubError, and IntakeError for archives and disks.
    """
    wish = parse(repo)
    errors.refuse_foreign(folder, METADATA)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    scratch = folder / ".scratch"
    scratch.mkdir()
    complete = False
    try:
        disk.need(folder, settings.free_disk_reserve)
        job = {
            "repo": wish.repo,
            "config": wish.config,
            "folder": str(folder.resolve()),
            "scratch": str(scratch.resolve()),
            "settings": settings.to_json(),
            "token": token,
        }
        begun = 0.0
        for line in _child_lines(job, settings, should_stop):
            complete = "complete" in line
            begun = begun or (time.monotonic() if "done" in line else 0.0)
            yield from _told(line, wish.repo, begun)
        if not complete and not should_stop():
            raise dataset_errors.DatasetInterruptedError(repo=wish.repo)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if not complete:
            shutil.rmtree(folder, ignore_errors=True)


def _told(line: dict[str, Any], repo: str, begun: float) -> Iterator[Event]:
    """The events of one line of the child, which is not trusted: a file may have taken it over."""
    if "error" in line:
        raise _error(line)
    if line.get("notice") in wording.NOTICES:
        values = {str(key): plain(value, 200) for key, value in line["values"].items()}
        yield wording.notice(line["notice"], **{"repo": repo} | values)
    if "done" in line:
        done, total = int(line["done"]), int(line["total"])
        share = float(line.get("share", done / max(1, total)))
        spent = time.monotonic() - begun
        yield Progress("fetching", done, total, spent / share * (1 - share) if share > 0 else None)
    if "complete" in line:
        yield Progress("fetching", int(line["pictures"]), int(line["pictures"]), 0.0)


def _error(line: dict[str, Any]) -> TLError:
    """The child's error as its class again."""
    name = str(line["error"])
    kind = getattr(dataset_errors, name, None) or getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, errors.HubError | errors.IntakeError):
        return kind(**{str(key): plain(value, 200) for key, value in line["values"].items()})
    return dataset_errors.DatasetInterruptedError(repo="")


def _child_lines(job: dict[str, Any], settings: Settings, should_stop: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """The lines of the child until it ends, is to stop, or says nothing for too long.

    Raises DatasetUnreachableError when the Hub has not answered within `network_timeout_seconds`.
    """
    silence, found = float(_START_SECONDS), False
    lines = child_lines(
        "tl_core.hub_data.process",
        job,
        _environment(job["scratch"]),
        silence=lambda: silence,
        should_stop=should_stop,
    )
    try:
        for line in lines:
            if "started" in line:
                silence = settings.network_timeout_seconds + 1.0
            elif "found" in line:
                found, silence = True, float(_QUIET_SECONDS)
            yield line
    except SilentError:
        if not found:
            raise dataset_errors.DatasetUnreachableError from None
    finally:
        lines.close()


def _environment(home: str) -> dict[str, str]:
    """The child's: no secrets, nobody's saved sign-in, no reports home, little address space for memory arenas."""
    environment = scrubbed_environment(
        HF_HOME=home,
        HF_HUB_DISABLE_TELEMETRY="1",
        HF_HUB_DISABLE_IMPLICIT_TOKEN="1",
        HF_HUB_DISABLE_PROGRESS_BARS="1",
        ARROW_DEFAULT_MEMORY_POOL="system",
        MALLOC_ARENA_MAX="2",
        OMP_NUM_THREADS="1",
        OPENBLAS_NUM_THREADS="1",
    )
    for name in ("HF_TOKEN_PATH", "HF_HUB_CACHE", "HF_XET_CACHE"):
        environment.pop(name, None)
    return environment
