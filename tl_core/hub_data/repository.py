"""A data set's repository on the Hub: whether it may be read, its files, and their bytes. Runs in the limited child.

Every request names one file of one commit at the Hub's own address; nothing a repository says (its card, a path in a
table) is ever opened as a path or an address. The library `datasets` is not used: it reads whole row groups in the
order they come, where a share of a large sorted set is to be spread over its classes in little memory, and it would
choose among some twenty formats where two are wanted.
"""

import io
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import httpx2
from huggingface_hub import HfApi, get_session, hf_hub_url
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from tl_core import dataset_errors
from tl_core.errors import TLError

CONVERTED = "refs/convert/parquet"  # where the Hub keeps every public data set as Parquet (its first 5 GB)
_CHUNK = 1 << 16
_NEAR = 1 << 20  # bytes: a gap that is read over rather than asked for anew
_SMALL = 1 << 18  # bytes: what one request for a small piece fetches at least
_LARGE = 1 << 19  # bytes: a read that large begins a download
_TRIES = 4
_BUSY = (429, 500, 502, 503, 504)


@dataclass(frozen=True)
class File:
    """A file of a repository at one commit; `size` in bytes."""

    path: str
    size: int
    revision: str


@dataclass(frozen=True)
class Hub:
    """How requests are made: with which token (False: none) and patience, and whom to tell that one is still alive."""

    token: str | bool
    seconds: float
    alive: Callable[[], None]

    def stream(self, url: str, start: int, end: int | None) -> httpx2.Response:
        """An open response with the bytes from `start` to before `end` (None: all). Close it. Raises HubError."""
        # Raw bytes: nothing may be inflated on the way.
        headers = {"accept-encoding": "identity", **build_hf_headers(token=self.token)}
        if start or end is not None:
            headers["range"] = f"bytes={start}-{'' if end is None else end - 1}"
        for attempt in range(_TRIES):
            last = attempt == _TRIES - 1
            try:
                request = get_session().build_request("GET", url, headers=headers, timeout=self.seconds)
                response = get_session().send(request, stream=True, follow_redirects=True)
            except httpx2.HTTPError:
                if last:
                    raise dataset_errors.DatasetUnreachableError from None
                self.pause(attempt)
                continue
            if response.status_code == (206 if "range" in headers else 200):
                return response
            status, wish = response.status_code, _wait_asked(response.headers)
            response.close()
            if status in (401, 403):
                raise dataset_errors.DatasetGatedError(repo=url.split("/datasets/")[-1].split("/resolve/")[0])
            if last or status not in _BUSY:
                raise dataset_errors.DatasetRefusedError(status=status)
            self.pause(attempt, wish)
        raise AssertionError

    def pause(self, attempt: int, wish: float = 0.0) -> None:
        """Wait a little longer each time, at most a minute, and say that this is no standstill."""
        until = time.monotonic() + min(60.0, max(wish, 0.5 * 2**attempt))
        while time.monotonic() < until:
            self.alive()
            time.sleep(0.5)


@dataclass(frozen=True)
class Repository:
    """A data set that may be read: its card's front matter and its files, and its converted files where asked for."""

    name: str
    hub: Hub
    max_entries: int
    card: dict[str, Any] = field(default_factory=dict)
    files: tuple[File, ...] = ()

    def url(self, file: File) -> str:
        return hf_hub_url(self.name, file.path, repo_type="dataset", revision=file.revision)

    def open(self, file: File) -> "RangeFile":
        """`file` as a seekable file that is fetched where it is read."""
        return RangeFile(self.hub, self.url(file), file.size)

    def download(self, file: File, out: BinaryIO, limit: int, told: Callable[[int], None] = lambda count: None) -> bool:
        """Write `file` to `out`, `told` how many bytes came; False when it has more than `limit` bytes."""
        got = 0
        for _ in range(_TRIES):
            response = self.hub.stream(self.url(file), got, None)
            try:
                for chunk in response.iter_raw(_CHUNK):
                    got += len(chunk)
                    if got > limit:
                        return False
                    out.write(chunk)
                    told(len(chunk))
                return True
            except httpx2.HTTPError:
                continue  # from where it broke off
            finally:
                response.close()
        raise dataset_errors.DatasetUnreachableError

    def converted(self) -> tuple[File, ...]:
        """The files of the Hub's own conversion to Parquet; none where there is no (whole) one."""
        try:
            files = _listed(self.hub, self.name, CONVERTED, self.max_entries)
        except RevisionNotFoundError:
            return ()
        except Exception as error:
            if getattr(getattr(error, "response", None), "status_code", None) == 404:
                return ()
            raise
        return () if any("/partial-" in file.path for file in files) else files


def _wait_asked(headers: httpx2.Headers) -> float:
    """The seconds after which a busy Hub wants to be asked again: `Retry-After: 5` or `RateLimit: "api";r=0;t=5`."""
    found = re.search(r"(?:^|;t=)(\d{1,4})$", headers.get("retry-after") or headers.get("ratelimit") or "")
    return float(found[1]) if found else 0.0


def look_up(name: str, hub: Hub, max_entries: int) -> Repository:
    """The data set `name` ("user/name"). Raises a HubError that says why it cannot be read."""
    with plain_failures(name):
        info = HfApi(token=hub.token).dataset_info(name, timeout=hub.seconds, token=hub.token)
        hub.alive()
        if info.gated and hub.token is False:
            raise dataset_errors.DatasetGatedError(repo=name)
        card = info.card_data.to_dict() if info.card_data is not None else {}  # type: ignore[no-untyped-call]
        return Repository(name, hub, max_entries, card, _listed(hub, name, info.sha or "main", max_entries))


def _listed(hub: Hub, name: str, revision: str, most: int) -> tuple[File, ...]:
    files: list[File] = []
    tree = HfApi(token=hub.token).list_repo_tree(
        name, recursive=True, revision=revision, repo_type="dataset", token=hub.token
    )
    for entry in tree:
        if isinstance(entry, RepoFile):
            files.append(File(entry.path, int(entry.size), revision))
            if len(files) % 500 == 0:
                hub.alive()
            if len(files) >= most:
                break
    return tuple(files)


@contextmanager
def plain_failures(name: str) -> Iterator[None]:
    """Requests that fail inside become HubErrors about the data set `name`, with none of the failure's own text."""
    try:
        yield
    except (TLError, MemoryError):
        raise
    except RepositoryNotFoundError:
        raise dataset_errors.DatasetNotFoundError(repo=name) from None
    except httpx2.HTTPError as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status is None:
            raise dataset_errors.DatasetUnreachableError from None
        if status in (401, 403):
            raise dataset_errors.DatasetGatedError(repo=name) from None
        raise dataset_errors.DatasetRefusedError(status=status) from None
    except OSError:  # offline mode
        raise dataset_errors.DatasetUnreachableError from None
    except (ValueError, TypeError, KeyError, AttributeError):  # an answer that is not the Hub's
        raise dataset_errors.DatasetRefusedError(status="an answer that makes no sense") from None


class RangeFile(io.RawIOBase):
    """A remote file read in order as one open download, and small pieces elsewhere by requests of their own."""

    def __init__(self, hub: Hub, url: str, size: int) -> None:
        self._hub, self._url, self._size = hub, url, size
        self._at = 0
        self._piece, self._piece_at = b"", 0
        self._response: httpx2.Response | None = None
        self._chunks: Iterator[bytes] = iter(())
        self._ahead, self._ahead_at = b"", -1  # bytes of the download not asked for yet, and where they are
        self._expected = -1  # where the last read ended

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Exactly `size` bytes, fewer only at the end of the file. Raises HubError."""
        left = max(0, self._size - self._at)
        size = left if size is None or size < 0 else min(size, left)
        start = self._at
        if start >= self._piece_at and start + size <= self._piece_at + len(self._piece):
            data = self._piece[start - self._piece_at :][:size]
        elif self._is_near(start) or start == self._expected or size >= _LARGE:
            data = self._read_on(start, size)
        else:
            self._piece, self._piece_at = self._fetch(start, min(self._size, start + max(size, _SMALL))), start
            data = self._piece[:size]
        self._at = self._expected = start + len(data)
        return data

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
        self._response = None
        super().close()

    def _fetch(self, start: int, end: int) -> bytes:
        """The bytes from `start` to before `end` by a request of their own; the open download stays where it is."""
        data = bytearray()
        for attempt in range(_TRIES):
            response = self._hub.stream(self._url, start + len(data), end)
            try:
                for chunk in response.iter_raw(_CHUNK):
                    data += chunk
                    if len(data) >= end - start:
                        return bytes(data[: end - start])
            except httpx2.HTTPError:
                pass  # from where it broke off
            finally:
                response.close()
            self._hub.pause(attempt)
        raise dataset_errors.DatasetUnreachableError

    def _is_near(self, start: int) -> bool:
        return self._response is not None and 0 <= start - self._ahead_at <= _NEAR

    def _read_on(self, start: int, size: int) -> bytes:
        """`size` bytes from `start` of the open download, which is opened there when it is elsewhere."""
        if not self._is_near(start):
            self._open(start)
        have, tries = self._ahead_at + len(self._ahead), 0
        parts = [self._ahead]
        while have < start + size:
            try:
                chunk = next(self._chunks)
            except (httpx2.HTTPError, StopIteration):
                tries += 1
                if tries > _TRIES:
                    raise dataset_errors.DatasetUnreachableError from None
                self._hub.pause(tries)
                self._open(have)  # from where it broke off
                continue
            parts.append(chunk)
            have += len(chunk)
            self._hub.alive()
        whole = b"".join(parts)
        first = have - len(whole)  # where `whole` begins
        self._ahead, self._ahead_at = whole[start + size - first :], start + size
        return whole[start - first :][:size]

    def _open(self, start: int) -> None:
        if self._response is not None:
            self._response.close()
        self._response = self._hub.stream(self._url, start, None)
        self._chunks = self._response.iter_raw(_CHUNK)
        self._ahead, self._ahead_at = b"", start
