"""Pushes a bundle to the Hugging Face Hub: everything is checked first, only listed files go, private unless asked.

The token lives in the arguments of one call. It is checked for form before any request, since a malformed one would
come back inside an exception's text, and every error raised from here is our own sentence with no cause attached.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tl_core.bundle.files import present
from tl_core.errors import (
    HubError,
    HubRefusedError,
    HubUnreachableError,
    NoWriteAccessError,
    RepoExistsError,
    RepoNameError,
    TLError,
    TokenFormatError,
    TokenRefusedError,
)

_TOKEN = re.compile(r"hf_[A-Za-z0-9]{8,200}")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?")


@dataclass(frozen=True)
class Pushed:
    """Where the model is now: its id ("user/name") and its page."""

    repo_id: str
    url: str


def push(
    folder: Path, repo: str, *, token: str, private: bool = True, replace: bool = False, endpoint: str | None = None
) -> Pushed:
    """Upload the bundle in `folder` as the model `repo` ("name" or "user/name"; your own user when left out).

    `replace` allows writing into a model that exists; other files there stay. Raises a HubError.
    """
    repo = repo.strip()
    _check_name(repo)
    token = well_formed(token)
    from huggingface_hub import CommitOperationAdd, HfApi

    # token=False: without it the library would fall back on the token of whoever runs this machine.
    api = HfApi(endpoint=endpoint, token=False)
    with plain_failures(repo):
        repo_id = own(api.whoami(token=token), repo)
        if api.repo_exists(repo_id, token=token) and not replace:
            raise RepoExistsError(repo=repo_id)
        url = api.create_repo(repo_id, token=token, private=private, exist_ok=replace)
        operations = [CommitOperationAdd(name, folder / name) for name in present(folder)]
        api.create_commit(repo_id, operations, commit_message="Model trained with Transfer Lab", token=token)
    return Pushed(repo_id, str(url))


def well_formed(token: str) -> str:
    """`token` without the space around it. Raises TokenFormatError for what cannot be one."""
    token = token.strip()
    if not _TOKEN.fullmatch(token):
        raise TokenFormatError
    return token


@contextmanager
def plain_failures(repo: str) -> Iterator[None]:
    """Requests that fail inside become HubErrors about `repo`, with none of the failure's own text."""
    try:
        yield
    except TLError:
        raise
    except OSError as error:  # HfHubHTTPError and the builtin ConnectionError of the uploader are both OSErrors
        if error.filename is not None:  # a file of this machine
            raise
        raise _named(error, repo) from None
    except Exception as error:  # httpx2's transport errors share no public base with the above
        if "httpx" in type(error).__module__:
            raise HubUnreachableError from None
        raise


def _check_name(repo: str) -> None:
    parts = repo.split("/")
    good = len(parts) <= 2 and all(_NAME.fullmatch(part) for part in parts) and len(repo) <= 96
    if not good or "--" in repo or ".." in repo or repo.endswith((".git", ".ipynb")):
        raise RepoNameError(repo=repo)


def own(user: dict[str, Any], repo: str) -> str:
    """`repo` with its owner; raises NoWriteAccessError where the token's user has no business."""
    owner, _, name = repo.rpartition("/")
    owner = owner or user["name"]
    if owner not in {user["name"], *(org["name"] for org in user.get("orgs", []))}:
        raise NoWriteAccessError(repo=repo)
    return f"{owner}/{name}"


def _named(error: OSError, repo: str) -> HubError:
    """The sentence for a failed request, without its text: that may hold the token or a page of HTML."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is None and (found := re.search(r"\((\d{3}) ", str(error))):
        status = int(found[1])
    if status == 401:
        return TokenRefusedError()
    if status == 403:
        return NoWriteAccessError(repo=repo)
    if status == 409:
        return RepoExistsError(repo=repo)
    return HubUnreachableError() if status is None else HubRefusedError(status=status)
