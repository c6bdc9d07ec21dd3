"""Sends a staged folder to the Hub as one commit: only the files that are listed, large ones first and one by one.

What was sent of those stays on the Hub when a push breaks off, so the next one goes on from there; nothing of them can
be seen before the commit.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tl_core.errors import NotABundleError
from tl_core.events import Progress
from tl_core.hub.access import BUSY, connected, plain_failures, status_of, well_formed
from tl_core.hub.checks import PushCheck, PushWish, size_of

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

T = TypeVar("T")
_WAITS = (2.0, 5.0, 10.0)  # seconds before the next try


@dataclass(frozen=True)
class Pushed:
    """Where the model is now: its id ("user/name"), its page, and the commit that was made of it."""

    repo_id: str
    url: str
    commit: str


def push(
    folder: Path,
    names: Sequence[str],
    wish: PushWish,
    checked: PushCheck,
    *,
    token: str,
    endpoint: str | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Progress | Pushed]:
    """Upload the files called `names` in `folder` as `checked` found possible; the last one is where it is, unless
    stopped. Other files of a model that is replaced stay. Raises a HubError."""
    token = well_formed(token)
    for name in names:
        if (folder / name).is_symlink():
            raise NotABundleError(name=checked.repo_id, reason=f"{name} is a link to another file")
    from huggingface_hub import CommitOperationAdd

    api, repo_id = connected(endpoint), checked.repo_id
    total, done, started = size_of(folder, list(names)), 0, time.monotonic()
    yield Progress("uploading", 0, total)
    with plain_failures(repo_id, token, retried=True):
        make = partial(api.create_repo, repo_id, token=token, private=wish.private)
        # A busy Hub may have made it before it lost its answer.
        url = str(_patiently(lambda again: make(exist_ok=again or bool(checked.parent))))
        additions = []
        for name in sorted(names, key=lambda name: -(folder / name).stat().st_size):
            if should_stop():
                return
            additions.append(CommitOperationAdd(name, folder / name))
            api.preupload_lfs_files(repo_id, additions[-1:], token=token, free_memory=False)
            done += (folder / name).stat().st_size
            each = (time.monotonic() - started) / max(1, done)
            yield Progress("uploading", done, total, each * (total - done))
        if should_stop():
            return
        said, parent = "Model trained with Transfer Lab", checked.parent or None

        def send(again: bool) -> "CommitInfo":
            # Compared with what is there now: a busy Hub may have made the commit before it lost its answer.
            files = [CommitOperationAdd(name, folder / name) for name in names] if again else additions
            return api.create_commit(repo_id, files, commit_message=said, token=token, parent_commit=parent)

        commit = _patiently(send)
    yield Pushed(repo_id, url, str(commit.oid))


def _patiently(ask: Callable[[bool], T]) -> T:
    """What `ask` gives, tried a few times while the Hub is busy or silent; it is told whether that was so before. For
    the two requests that the library does not try again by itself."""
    for number, wait in enumerate((*_WAITS, None)):
        try:
            return ask(number > 0)
        except Exception as error:
            passing = status_of(error) in BUSY or type(error).__name__ == "ReadTimeout"
            if wait is None or not passing:
                raise
        time.sleep(wait)
    raise AssertionError("the last try returns or raises")
