"""Sends a staged folder to the Hub as one commit: only the files that are listed, large ones first and one by one.

What was sent of those stays on the Hub when a push breaks off, so the next one goes on from there; nothing of them can
be seen before the commit.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tl_core.events import Progress
from tl_core.hub.access import plain_failures, status_of, well_formed
from tl_core.hub.checks import PushCheck, PushWish, size_of
from tl_core.hub_errors import HubBusyError

T = TypeVar("T")
_TRIES = 4
_WAITS = (2.0, 5.0, 10.0)  # seconds before the next try
_BUSY = (408, 429, 500, 502, 503, 504)


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
    from huggingface_hub import CommitOperationAdd, HfApi

    api, repo_id = HfApi(endpoint=endpoint, token=False), checked.repo_id
    total, done, started = size_of(folder, list(names)), 0, time.monotonic()
    yield Progress("uploading", 0, total)
    with plain_failures(repo_id, token):
        exists = bool(checked.parent)
        made = _patiently(partial(api.create_repo, repo_id, token=token, private=wish.private, exist_ok=exists))
        additions = []
        for name in sorted(names, key=lambda name: -(folder / name).stat().st_size):
            if should_stop():
                return
            additions.append(CommitOperationAdd(name, folder / name))
            latest = additions[-1:]
            _patiently(partial(api.preupload_lfs_files, repo_id, latest, token=token, free_memory=False))
            done += (folder / name).stat().st_size
            each = (time.monotonic() - started) / max(1, done)
            yield Progress("uploading", done, total, each * (total - done))
        if should_stop():
            return
        said, parent = "Model trained with Transfer Lab", checked.parent or None
        send = partial(api.create_commit, repo_id, additions, commit_message=said, token=token, parent_commit=parent)
        commit: Any = _patiently(send)
    yield Pushed(repo_id, str(made), str(commit.oid))


def _patiently(ask: Callable[[], T]) -> T:
    """What `ask` gives, after a few more tries while the Hub is busy. Raises HubBusyError when it stays so."""
    for wait in (*_WAITS, None):
        try:
            return ask()
        except OSError as error:
            status: Any = status_of(error)
            if status not in _BUSY:
                raise
            if wait is None:
                raise HubBusyError(status=status, times=_TRIES) from None
        time.sleep(wait)
    raise AssertionError("the last try returns or raises")
