"""Answers of the Hub that would be misread: lost ones, very long pauses, full storage under other names, odd accounts.

Each was first seen to hang, to say something untrue, or to end as a bug of ours.
"""

import errno
import threading
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import close_session

from tests.hub_stand_in import Handler, Repo, standing_in
from tests.test_bundle import made
from tests.test_hub import send
from tl_core import errors, hub_errors
from tl_core.bundle.files import FILES
from tl_core.hub import access, push
from tl_core.hub.access import Account
from tl_core.hub.fetch import fetch

FULL = "Private repository storage limit reached, please upgrade your plan to increase your private storage limit"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "b"
    made(path, ("ants", "bees"))
    return path


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was slept each time, which is not waited for."""
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    return pauses


class LosesTheCommit(Handler):
    """Makes the first commit, and answers as a gateway does that was not told of it."""

    def commit(self, repo_id: str, repo: Repo, steps: list[dict[str, Any]]) -> None:
        if len(repo.files) > 1:
            return super().commit(repo_id, repo, steps)
        self.answer, answer = lambda *args: answer(504, b"<html>timeout</html>"), self.answer  # type: ignore[method-assign]
        super().commit(repo_id, repo, steps)
        del self.answer
        return None


@pytest.mark.parametrize("there", [True, False])
def test_case_84_a_commit_whose_answer_got_lost_is_found_and_not_called_a_strangers(
    folder: Path, slept: list[float], there: bool
) -> None:
    with standing_in(LosesTheCommit) as hub:
        if there:
            hub.repos["alice/x"] = Repo(private=True, files={"old": b"1"}, commits=2)
        pushed = send(folder, "x", hub.url, replace=there)
        assert set(hub.repos["alice/x"].files) >= set(FILES)
        assert pushed.commit == hub.repos["alice/x"].sha and hub.repos["alice/x"].commits == (3 if there else 1)


def test_case_84_a_commit_that_is_never_answered_is_found_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class MakesAndSaysNothing(Handler):
        def commit(self, repo_id: str, repo: Repo, steps: list[dict[str, Any]]) -> None:
            self.answer = lambda *args: over.wait(20)  # type: ignore[method-assign,assignment]
            super().commit(repo_id, repo, steps)
            del self.answer
            self.close_connection = True

    over = threading.Event()
    monkeypatch.setattr(push, "_WAITS", (0.01, 0.01))
    monkeypatch.setattr(access, "SILENCE", (0.5,) * 4)
    close_session()
    with standing_in(MakesAndSaysNothing) as hub:
        pushed = send(folder, "x", hub.url)
        assert hub.repos["alice/x"].commits == 1 and pushed.commit == hub.repos["alice/x"].sha
        over.set()
    close_session()


@pytest.mark.parametrize("headers", [{"Retry-After": "3600"}, {"ratelimit": '"api";r=0;t=3600'}])
@pytest.mark.parametrize("part", ["/api/repos/create", "/preupload/", "/objects/batch", "/commit/"])
def test_case_84_an_hour_that_the_hub_asks_for_is_said_and_not_slept(
    folder: Path, slept: list[float], headers: dict[str, str], part: str
) -> None:
    class Later(Handler):
        def trouble(self, path: str) -> int | None:
            return 429 if part in path else None

        def answer(self, status: int, content: Any = b"", more: dict[str, str] | None = None) -> None:
            super().answer(status, content, {**(more or {}), **(headers if status == 429 else {})})

    with standing_in(Later) as hub, pytest.raises(hub_errors.HubWaitError, match="60 minutes"):
        send(folder, "x", hub.url)
    assert sum(slept) < 60


@pytest.mark.parametrize("seconds", ["5", "soon", "Wed, 21 Oct 2026 07:28:00 GMT", "-1", ""])
def test_a_short_pause_is_made_as_it_is_asked_for(folder: Path, slept: list[float], seconds: str) -> None:
    class Soon(Handler):
        asked = 0

        def answer(self, status: int, content: Any = b"", more: dict[str, str] | None = None) -> None:
            if "/preupload/" in self.path and not Soon.asked:
                Soon.asked, status, more = 1, 429, {"Retry-After": seconds}
            super().answer(status, content, more)

    with standing_in(Soon) as hub:
        assert send(folder, "x", hub.url).repo_id == "alice/x"
    assert 0 < sum(slept) < 60


@pytest.mark.parametrize("status", [400, 402, 403, 413])
def test_case_84_a_storage_that_is_full_at_the_commit_is_told_from_a_mistake(
    folder: Path, status: int, slept: list[float]
) -> None:
    class Full(Handler):
        def commit(self, *args: Any) -> None:
            self.answer(status, {"error": FULL})

    with standing_in(Full) as hub, pytest.raises(hub_errors.HubStorageError):
        send(folder, "x", hub.url)


@pytest.mark.parametrize(("said", "error"), [(FULL, hub_errors.HubStorageError), ("odd", errors.HubRefusedError)])
def test_case_84_one_file_that_is_refused_in_an_answer_that_is_fine_is_named(
    folder: Path, said: str, error: type[errors.HubError]
) -> None:
    class Choosy(Handler):
        def batch(self, objects: list[dict[str, Any]]) -> None:
            refused = [{**each, "error": {"code": 403, "message": said}} for each in objects]
            self.answer(200, {"transfer": "basic", "objects": refused})

    with standing_in(Choosy) as hub, pytest.raises(error):
        send(folder, "x", hub.url)


@pytest.mark.parametrize(
    "about",
    [{}, [], "alice", {"name": "alice", "auth": "x"}, {"name": "alice", "orgs": [{}]}, {"name": "alice", "orgs": 3}],
)
def test_case_84_an_account_in_no_known_form_is_not_our_bug(folder: Path, about: Any) -> None:
    class Odd(Handler):
        def whoami(self, token: str) -> None:
            self.answer(200, about)

    with standing_in(Odd) as hub, pytest.raises(hub_errors.NotTheHubError):
        send(folder, "x", hub.url)


def test_case_75_an_organisation_that_one_only_reads_is_not_written_to() -> None:
    orgs = [{"name": name, "roleInOrg": name} for name in ("read", "contributor", "write", "admin")]
    account = Account.of({"name": "alice", "orgs": orgs, "auth": {"type": "oauth", "expiresAt": "2026-11-25"}})
    assert account.repo_id("admin/x") == "admin/x" and account.repo_id("x") == "alice/x"
    with pytest.raises(errors.NoWriteAccessError):
        account.repo_id("read/x")


def test_a_full_disk_is_not_taken_for_a_dead_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.HfApi.hf_hub_download", full)
    with standing_in(Handler) as hub:
        hub.repos["alice/x"] = Repo(private=False, files={name: (folder / name).read_bytes() for name in FILES})
        with pytest.raises(errors.DiskFullError):
            list(fetch("alice/x", tmp_path / "back", endpoint=hub.url))
    assert not (tmp_path / "back").exists()
