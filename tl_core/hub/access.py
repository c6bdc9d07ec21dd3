"""Who is asking the Hub, and what its refusals mean.

The token is checked for form before any request, since a malformed one would come back inside an exception's text, and
every error raised from here is our own sentence with no cause attached.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from tl_core.disk import FULL
from tl_core.errors import (
    DiskFullError,
    HubRefusedError,
    HubUnreachableError,
    NoWriteAccessError,
    RepoExistsError,
    RepoNameError,
    TLError,
    TokenFormatError,
    TokenRefusedError,
)
from tl_core.hub_errors import (
    HubBusyError,
    HubStorageError,
    HubWaitError,
    NoTokenError,
    NotTheHubError,
    ReadOnlyTokenError,
    RepoChangedError,
    SignInExpiredError,
    SignInScopeError,
)

if TYPE_CHECKING:
    from huggingface_hub import HfApi

# Access tokens, and those of a sign-in, which hold a JSON Web Token.
_TOKEN = re.compile(r"hf_(?:[A-Za-z0-9]{8,200}|oauth_[A-Za-z0-9._-]{8,8000})")
_SIGNED_IN = "hf_oauth_"
# What the Hub says of them (huggingface_hub issues 3049 and 3366), under the same status as a right that is missing or,
# when it commits, as a request that makes no sense.
_STORAGE = re.compile(r"storage (?:limit|quota|patterns)", re.IGNORECASE)
_MAY_BE_STORAGE = (400, 402, 403, 413)
BUSY = (408, 429, 500, 502, 503, 504)
# Seconds for connecting, for the next bytes of an answer, for the next to be taken, for a connection that is free.
SILENCE = (10.0, 30.0, 30.0, 30.0)
_LONGEST_PAUSE = 60  # seconds that a person may look at a bar that stands still
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?")


@dataclass(frozen=True)
class Account:
    """Whose token it is: the name, the organisations, and what the token is for. `scopes` are the names (users,
    organisations or repositories) that a fine-grained token may write to; None when it is not fine-grained."""

    name: str
    organisations: tuple[str, ...]
    role: str
    scopes: tuple[str, ...] | None = None

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> "Account":
        """From what the Hub answers to "who am I". Raises NotTheHubError for anything else."""
        try:
            token = (answer.get("auth") or {}).get("accessToken") or {}
            role, fine = str(token.get("role", "write")), token.get("fineGrained")
            members = [org for org in answer.get("orgs") or [] if org.get("roleInOrg") != "read"]
            organisations, name = tuple(str(org["name"]) for org in members), str(answer["name"])
            return cls(name, organisations, role, None if fine is None else _writable(fine, name))
        except (AttributeError, KeyError, TypeError):
            raise NotTheHubError from None

    def repo_id(self, repo: str) -> str:
        """`repo` ("name" or "user/name") with its owner, where this token may write. Raises NoWriteAccessError and
        ReadOnlyTokenError."""
        owner, _, name = repo.rpartition("/")
        owner = owner or self.name
        if owner not in (self.name, *self.organisations):
            raise NoWriteAccessError(repo=repo)
        if self.role == "read":
            raise ReadOnlyTokenError(user=self.name)
        if self.scopes is not None and owner not in self.scopes and f"{owner}/{name}" not in self.scopes:
            raise NoWriteAccessError(repo=f"{owner}/{name}")
        return f"{owner}/{name}"


def _writable(fine: Mapping[str, Any], user: str) -> tuple[str, ...]:
    """The entities that a fine-grained token may write repositories of."""
    scopes = [] if "repo.write" not in fine.get("global", []) else [user]
    for scoped in fine.get("scoped", []):
        if "repo.write" in scoped.get("permissions", []):
            scopes.append(str((scoped.get("entity") or {}).get("name", "")))
    return tuple(scopes)


def well_formed(token: str) -> str:
    """`token` without the space around it. Raises TokenFormatError for what cannot be one, NoTokenError for nothing."""
    token = token.strip()
    if not token:
        raise NoTokenError
    if not _TOKEN.fullmatch(token):
        raise TokenFormatError
    return token


def connected(endpoint: str | None = None) -> "HfApi":
    """The Hub's client, which gives up on a silent Hub and has no token of its own."""
    from huggingface_hub import HfApi

    _settle_the_library()
    # token=False: without it the library would fall back on the token of whoever runs this machine.
    return HfApi(endpoint=endpoint, token=False)


@cache
def _settle_the_library() -> None:
    """The library's requests wait for ever, or as long as they are told to; from here on none of this process does. Nor
    does it draw bars of its own."""
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory
    from huggingface_hub.utils.tqdm import disable_progress_bars

    def bounded() -> Any:
        client = default_client_factory()
        client.timeout = SILENCE
        client.event_hooks = {**client.event_hooks, "response": [_not_for_long]}
        return client

    set_client_factory(bounded)
    disable_progress_bars()


def _not_for_long(response: Any) -> None:
    """Raises HubWaitError for an answer after which the library would sleep for minutes, several times over."""
    if response.status_code not in BUSY:
        return
    limit = response.headers.get("ratelimit", "")  # such as "api";r=0;t=55
    told = re.search(r"\bt=(\d+)", limit) if re.search(r"\br=0\b", limit) else None
    told = told or re.fullmatch(r"\s*(\d+)\s*", response.headers.get("retry-after", ""))
    seconds = int(told[1][:7]) if told is not None else 0
    if seconds > _LONGEST_PAUSE:
        raise HubWaitError(status=response.status_code, minutes=-(-seconds // 60))


@contextmanager
def plain_failures(repo: str, token: str = "", *, retried: bool = False) -> Iterator[None]:
    """Requests with `token` that fail inside become HubErrors about `repo`, with none of the failure's own text;
    `retried` when the library has tried them several times by itself."""
    try:
        yield
    except TLError:
        raise
    except Exception as error:
        named = _named(error, repo, token, retried)
        if named is None:
            raise
        raise named from None


def check_name(repo: str) -> None:
    """Raises RepoNameError unless `repo` can be "name" or "user/name"."""
    parts = repo.split("/")
    good = len(parts) <= 2 and all(_NAME.fullmatch(part) for part in parts) and len(repo) <= 96
    if not good or "--" in repo or ".." in repo or repo.endswith((".git", ".ipynb")):
        raise RepoNameError(repo=repo)


def status_of(error: BaseException) -> int | None:
    """The HTTP status of a failed request; the uploader says it only in its text."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is None and (found := re.search(r"\((\d{3}) ", str(error))):
        status = int(found[1])
    return status


def _named(error: BaseException | None, repo: str, token: str, retried: bool) -> TLError | None:
    """The sentence for a failed request, or for the one behind `error`; None for what is no request."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return DiskFullError(free="0.0 GB")
        if isinstance(error, ValueError) and str(error).startswith("LFS batch"):  # the library's word for one file
            return HubStorageError(repo=repo) if _STORAGE.search(str(error)) else HubRefusedError(status="LFS")
        # The library's errors and its uploader's ConnectionError are OSErrors, and so are those of files here.
        if "httpx" in type(error).__module__ or (isinstance(error, OSError) and error.filename is None):
            return _refusal(error, repo, token, retried)
        if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):  # a page where data was asked for
            return NotTheHubError()
        error = error.__cause__  # the uploader wraps what befell a file in a RuntimeError
    return None


def _refusal(error: BaseException, repo: str, token: str, retried: bool) -> TLError:
    """The sentence for a request refused or not answered, without its text: that may hold the token or a page."""
    status, signed_in = status_of(error), token.startswith(_SIGNED_IN)
    if status is None:
        return HubUnreachableError()
    if status == 401:
        return SignInExpiredError() if signed_in else TokenRefusedError()
    if status in _MAY_BE_STORAGE and _STORAGE.search(f"{getattr(error, 'server_message', None) or ''} {error}"):
        return HubStorageError(repo=repo)
    if status == 403:
        return SignInScopeError(repo=repo) if signed_in else NoWriteAccessError(repo=repo)
    if status == 409:
        return RepoExistsError(repo=repo)
    if status == 412:
        return RepoChangedError(repo=repo)
    return HubBusyError(status=status) if retried and status in BUSY else HubRefusedError(status=status)
