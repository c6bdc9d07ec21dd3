"""Who is asking the Hub, and what its refusals mean.

The token is checked for form before any request, since a malformed one would come back inside an exception's text, and
every error raised from here is our own sentence with no cause attached.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

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
from tl_core.hub_errors import ReadOnlyTokenError, RepoChangedError, SignInExpiredError

# Access tokens, and those of a sign-in, which hold a JSON Web Token.
_TOKEN = re.compile(r"hf_(?:[A-Za-z0-9]{8,200}|oauth_[A-Za-z0-9._-]{8,8000})")
_SIGNED_IN = "hf_oauth_"
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
        """From what the Hub answers to "who am I"."""
        token = (answer.get("auth") or {}).get("accessToken") or {}
        role, fine = str(token.get("role", "write")), token.get("fineGrained")
        organisations = tuple(str(org["name"]) for org in answer.get("orgs", []))
        return cls(str(answer["name"]), organisations, role, None if fine is None else _writable(fine, answer["name"]))

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
    """`token` without the space around it. Raises TokenFormatError for what cannot be one."""
    token = token.strip()
    if not _TOKEN.fullmatch(token):
        raise TokenFormatError
    return token


@contextmanager
def plain_failures(repo: str, token: str = "") -> Iterator[None]:
    """Requests with `token` that fail inside become HubErrors about `repo`, with none of the failure's own text."""
    try:
        yield
    except TLError:
        raise
    except OSError as error:  # HfHubHTTPError and the builtin ConnectionError of the uploader are both OSErrors
        if error.filename is not None:  # a file of this machine
            raise
        raise _named(error, repo, token) from None
    except Exception as error:  # httpx2's transport errors share no public base with the above
        if "httpx" in type(error).__module__:
            raise HubUnreachableError from None
        raise


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


def _named(error: OSError, repo: str, token: str) -> HubError:
    """The sentence for a failed request, without its text: that may hold the token or a page of HTML."""
    status = status_of(error)
    if status == 401:
        return SignInExpiredError() if token.startswith(_SIGNED_IN) else TokenRefusedError()
    if status == 403:
        return NoWriteAccessError(repo=repo)
    if status == 409:
        return RepoExistsError(repo=repo)
    if status == 412:
        return RepoChangedError(repo=repo)
    return HubUnreachableError() if status is None else HubRefusedError(status=status)
